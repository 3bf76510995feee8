"""The command.  Each thread count runs in a process of its own: BLAS reads it once, when numpy is imported."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from . import report

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="needle-lab bench", description="needle_lab beside its peers, on this machine.")
    parser.add_argument("names", nargs="*", help="workloads (default: those of the table, in under five minutes)")
    parser.add_argument("--full", action="store_true", help="all workloads")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default: 1, and all cores)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), metavar="DIR",
                        help="for results.json, results.md and ratios.png (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="only show the workloads")
    parser.add_argument("--kernels", action="store_true", help="what each quicker form brings: kernels.md (minutes)")
    arguments = parser.parse_args(argv)
    try:
        from .workloads import WORKLOADS
    except ImportError as error:
        print(f"needle-lab bench: the peers are needed: {error}. Install them: pip install torch==2.13.0 "
              "'needle-lab[test]'", file=sys.stderr)
        return 2
    unknown = [name for name in arguments.names if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if arguments.list:
        print("\n".join(f"{name:<28} {work.title}{' (--full)' * work.full}" for name, work in WORKLOADS.items()))
        return 0
    about = report.machine()
    if arguments.kernels:
        return time_kernels(about, arguments.out)
    names = arguments.names or [name for name, work in WORKLOADS.items() if arguments.full or not work.full]
    rows = []
    for threads in arguments.threads or sorted({1, about["cores"]}):
        for line in run_worker(names, threads):
            row = json.loads(line)
            work = WORKLOADS[row["name"]]
            rows.append(row | {"title": work.title, "aim": [work.numpy, work.fast]})
            ratios = ", ".join(f"{name} {entry['ratio'][0]:.2f}" for name, entry in row["contenders"].items())
            print(f"{work.title}, {threads} thread{'s' * (threads > 1)}: {ratios}", flush=True)
    result = {"date": datetime.date.today().isoformat(), "machine": about, "rows": rows}
    print("\n" + report.markdown(result))
    print("wrote " + ", ".join(str(path) for path in report.write(result, arguments.out)))
    return 0


def time_kernels(about: dict, folder: Path) -> int:
    from .kernels import markdown
    rows = []
    for line in run_worker([], 1, "benchmarks.kernels"):
        rows.append(row := json.loads(line))
        print(f"{row['target']} on {row['tier']}: {row['ratio'][0]:.2f}  {row['workload']}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    text = f"{about['processor']}, {about['system']}, Python {about['python']}. {datetime.date.today().isoformat()}."
    (folder / "kernels.md").write_text(markdown(rows, text), encoding="utf-8")
    print(f"wrote {folder / 'kernels.md'}")
    return 0


def run_worker(names: list[str], threads: int, module: str = "benchmarks.worker"):
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    with subprocess.Popen([sys.executable, "-m", module, *names], env=environment, text=True,
                          stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as worker:
        yield from worker.stdout or ()
    if worker.returncode:
        raise SystemExit(f"the worker with {threads} threads ended with status {worker.returncode}")


if __name__ == "__main__":
    sys.exit(main())
