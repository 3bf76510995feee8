"""What is on this machine, and what to do about what is not: the table behind `needle-lab doctor`.

Nothing heavy is imported to find out: versions come from package metadata, drivers from their own tools.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


@dataclass(frozen=True)
class Finding:
    """One line of the report. `advice` says what is lost without it and how to get it; empty when it is there."""

    name: str
    present: bool
    detail: str
    advice: str = ""


def _python() -> Finding:
    return Finding("Python", True, f"{platform.python_version()} at {sys.executable}")


def _numpy() -> Finding:
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return Finding("NumPy", True, f"{np.__version__}, BLAS {blas.get('name', '?')} {blas.get('version', '')}".rstrip())


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
              if name in os.environ]
    threads = ", ".join(limits) if limits else "no limit set: needle_lab uses one thread a core"
    return Finding("Cores", True, f"{usable} usable of {os.cpu_count()}; {threads}")


def _dot() -> Finding:
    if dot := shutil.which("dot"):
        said = _answer([dot, "-V"])
        return Finding("Graphviz", True, f"{said or 'dot'} at {dot}")
    if version := _version("graphviz-pure"):
        return Finding("Graphviz", True, f"graphviz-pure {version} (no system dot: slower, same drawings)")
    return Finding("Graphviz", False, "no dot", "graphs are shown as DOT text; pip install 'needle-lab[lab]', "
                                                "or install graphviz with the system's package manager")


def _gpu() -> Finding:
    cards = _answer(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    if cards:
        return Finding("GPU", True, "; ".join(cards.splitlines()))
    if Path("/proc/driver/nvidia/version").exists():
        return Finding("GPU", True, "NVIDIA driver loaded (nvidia-smi did not answer)")
    return Finding("GPU", False, "no NVIDIA driver answers",
                   "everything runs on the CPU; kernels run in Triton's interpreter with ndl.triton_cpu()")


def _browser() -> Finding:
    for name in BROWSERS:
        if path := shutil.which(name):
            return Finding("Browser", True, path)
    return Finding("Browser", False, "none on PATH",
                   "JupyterLab prints an address to open; the browser tests skip; install chromium to run them")


FIRST_CALL = """
import time, numpy, needle_lab
x = needle_lab.tensor(numpy.ones((128, 128), "float32"))
start = time.perf_counter()
needle_lab.softmax(x)
print(f"{time.perf_counter() - start:.1f} s")
"""


def _fast() -> Finding:
    """Whether the loops of [fast] can be compiled, how many are on disk, and what a first call costs in a new process."""
    version = _version("numba")
    first = version and _first_call()                    # it may add to what is kept
    if not version:
        return Finding("Numba", False, "not installed", "the CPU computes with numpy alone; pip install 'needle-lab[fast]'")
    kept, loops = _kept_loops(Path(__file__).parent / "kernels" / "numba")
    return Finding("Numba", True, f"{version}; {kept} of {loops} loops compiled and kept on disk; "
                                  f"the first call of one took {first}")


@functools.cache
def _first_call() -> str:
    return _answer([sys.executable, "-c", FIRST_CALL]) or "more than 10 s"


def _kept_loops(room: Path) -> tuple[int, int]:
    """(loops with a compiled form on disk that is newer than the source, all loops)."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(chosen)] if chosen else [room / "__pycache__", Path.home() / ".cache" / "numba"]
    names, kept = [], 0
    for source in sorted(room.glob("*.py")):
        written = source.stat().st_mtime
        for name in re.findall(r"^@loop\ndef (\w+)", source.read_text(encoding="utf-8"), re.MULTILINE):
            names.append(name)
            forms = [form for place in places for form in place.rglob(f"{source.stem}.{name}-*.nbi")]
            kept += any(form.stat().st_mtime >= written for form in forms)
    return kept, len(names)


def _package(title: str, distribution: str, advice: str) -> Callable[[], Finding]:
    def find() -> Finding:
        version = _version(distribution)
        return Finding(title, True, version) if version else Finding(title, False, "not installed", advice)
    return find


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _numpy,
    _cores,
    _fast,
    _gpu,
    _package("Triton", "triton", "no Triton devices (Linux only); pip install 'needle-lab[gpu]'"),
    _package("CUDA driver API", "cuda-bindings", "no ndl.cuda(); needed only with an NVIDIA GPU; "
                                                 "pip install 'needle-lab[gpu]'"),
    _package("JupyterLab", "jupyterlab", "no lectures; pip install 'needle-lab[lab]'"),
    _package("anywidget", "anywidget", "views are shown as static pictures; pip install 'needle-lab[lab]'"),
    _package("matplotlib", "matplotlib", "no plots; pip install 'needle-lab[lab]'"),
    _dot,
    _package("onnx", "onnx", "no ONNX import or export; pip install 'needle-lab[onnx]'"),
    _package("onnxruntime", "onnxruntime", "lecture 4 has nothing to compare with; pip install 'needle-lab[lab]'"),
    _package("scikit-learn", "scikit-learn", "no digits dataset; pip install 'needle-lab[lab]'"),
    _package("PyTorch", "torch", "needed by no one but the tests that compare with it, which skip; pip install torch"),
    _browser,
)


def examine() -> list[Finding]:
    """Look at this machine; one Finding per thing that needle_lab can use."""
    return [check() for check in CHECKS]


def table(findings: list[Finding]) -> str:
    """The findings as ASCII text: what is there in columns, then what to do about each thing that is not."""
    width = max(len(f.name) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{'[ok]' if f.present else '[--]'} {f.name:<{width}}  {f.detail}")
        if f.advice:
            lines.append(f"{'':<{width + 5}}  -> {f.advice}")
    return "\n".join(lines).encode("ascii", "replace").decode("ascii")


def as_json(findings: list[Finding]) -> list[dict[str, Any]]:
    """The findings as plain dictionaries."""
    return [asdict(f) for f in findings]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _answer(command: list[str]) -> str:
    """What a tool says when asked, on either stream; empty when it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout or done.stderr).strip()
