"""What a run of the benchmarks leaves: a table in Markdown, the figures as JSON, a plot of the ratios."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from needle_lab.plots import show_benchmarks

LIBRARIES = ("numpy", "torch", "numba", "onnx", "onnxruntime", "tinygrad")


def machine() -> dict[str, Any]:
    """Processor, cores, operating system and versions: what a reader needs to judge the figures."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        flags = next((line for line in lines if line.startswith("flags")), "")
        model += " with AVX-512" if "avx512f" in flags else " with AVX2" if "avx2" in flags else ""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {"processor": model, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
            else os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(), "versions": versions}


def markdown(run: dict[str, Any]) -> str:
    """The table: time of one call in PyTorch, and ours over PyTorch's with the quartiles; below 1 is faster."""
    about = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = ["# Time beside PyTorch's", "",
             f"{about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}; {versions}.",
             f"{run['date']}. Median of ours / PyTorch eager, in brackets the quartiles; below 1 is faster. "
             "Aim: plain numpy, with [fast]. Other peers: their time / PyTorch's.", "",
             "| workload | threads | PyTorch | numpy | [fast] | aim | others |", "|---|---|---|---|---|---|---|"]
    for row in run["rows"]:
        found = row["contenders"]
        others = ", ".join(f"{name} {entry['ratio'][0]:.2f}" for name, entry in found.items()
                           if name not in ("torch", "numpy", "fast"))
        aim = ", ".join("-" if value is None else f"{value:.2f}" for value in row["aim"])
        lines.append(f"| {row['title']} | {row['threads']} | {seconds(found['torch']['median_seconds'])} | "
                     f"{_ratio(found.get('numpy'))} | {_ratio(found.get('fast'))} | {aim} | {others} |")
    return "\n".join(lines) + "\n"


def _ratio(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    median, low, high = entry["ratio"]
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} us"


def write(run: dict[str, Any], folder: Path) -> list[Path]:
    """results.json, results.md and ratios.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(markdown(run), encoding="utf-8")
    return [folder / "results.json", folder / "results.md", plot(run, folder / "ratios.png")]


def plot(run: dict[str, Any], path: Path) -> Path:
    """The picture of the table."""
    import matplotlib
    matplotlib.use("Agg")
    axes = show_benchmarks(run)
    axes.figure.savefig(path, dpi=120)
    return path
