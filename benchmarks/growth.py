"""How time grows: with batch, image size, sequence length and parameters, ours beside PyTorch's.

    python -m benchmarks.growth            writes growth.json and growth.png into benchmarks/results

The exponent is the slope of log time over log size between the largest sizes: 1 is linear. Convolution is linear in
the number of pixels, attention's share quadratic in the length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402    after the number of threads is set
import torch

from needle_lab import models, nn, optim

from . import twins
from .timing import interleave
from .workloads import Contenders, images, inference, training


def resnet(batch: int = 1, size: int = 32) -> Contenders:
    return inference(models.ResNet18(), twins.ResNet(twins.BasicBlock, (2, 2, 2, 2)), batch, size)


def resnet9(batch: int) -> Contenders:
    return training(models.ResNet9(), twins.ResNet9(), *images(batch, 3, 32))


def lstm(length: int) -> Contenders:
    rng = np.random.default_rng(0)
    return training(models.LanguageModel(64, 100, 128, kind="lstm"), twins.LanguageModel(64, 100, 128),
                    rng.integers(0, 100, (length, 16)), rng.integers(0, 100, length * 16))


def gpt(length: int) -> Contenders:
    rng = np.random.default_rng(0)
    return training(models.GPT(100, 1024, 128, 2, 4), twins.GPT(100, 1024, 128, 2, 4), rng.integers(0, 100, (2, length)),
                    rng.integers(0, 100, 2 * length))


def mlp(width: int) -> Contenders:
    layers = [width] * 4
    mine = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(layers, layers[1:], strict=False)))
    theirs = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in zip(layers, layers[1:], strict=False)))
    rng = np.random.default_rng(0)
    return training(mine, theirs, rng.normal(size=(64, width)).astype("float32"), rng.integers(0, width, 64),
                    lambda p: optim.Adam(p, 1e-5), lambda p: torch.optim.Adam(p, 1e-5))


# title: (what the sizes are, workload at a size, sizes, the quantity that time is compared with)
SERIES: dict[str, tuple[str, Callable[[int], Contenders], tuple[int, ...], Callable[[int], float]]] = {
    "ResNet-18 inference": ("batch, 32x32", lambda n: resnet(batch=n), (1, 4, 16, 64), float),
    "ResNet-18 inference, batch 1": ("image side", lambda n: resnet(size=n), (32, 64, 128, 256), lambda n: float(n * n)),
    "ResNet-9 training step": ("batch", resnet9, (16, 64, 256, 1024), float),
    "LSTM training step": ("sequence length", lstm, (16, 64, 256, 1024), float),
    "GPT training step": ("sequence length", gpt, (64, 128, 256, 512, 1024), float),
    "MLP of 3 layers with Adam": ("width (parameters: its square)", mlp, (64, 256, 1024, 2048), lambda n: float(n * n)),
}


def main() -> None:
    torch.set_num_threads(1)
    found: dict[str, dict] = {}
    for title, (what, make, sizes, amount) in SERIES.items():
        seconds: dict[str, list[float]] = {"needle_lab": [], "torch": []}
        for n in sizes:
            pair = {name: call for name, call in make(n).items() if name in seconds}
            for name, timing in interleave(pair, threads=1, seconds=3.0).items():
                seconds[name].append(timing.median)
        work = [amount(n) for n in sizes]
        exponents = {name: float(np.log(t[-1] / t[-2]) / np.log(work[-1] / work[-2])) for name, t in seconds.items()}
        found[title] = {"what": what, "sizes": list(sizes), "seconds": seconds, "exponent": exponents}
        print(f"{title:<30} {what:<32} exponent: ours {exponents['needle_lab']:.2f}, PyTorch {exponents['torch']:.2f}",
              flush=True)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "growth.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(found, folder / "growth.png")


def plot(found: dict[str, dict], path: Path) -> None:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    figure, grid = plt.subplots(2, 3, figsize=(12, 7))
    for axes, (title, series) in zip(grid.flat, found.items(), strict=True):
        for name, label, color, marker in (("needle_lab", "needle_lab", "#0072B2", "o"),
                                           ("torch", "PyTorch", "#D55E00", "s")):
            axes.loglog(series["sizes"], [1000 * t for t in series["seconds"][name]], marker=marker, color=color,
                        label=f"{label}: exponent {series['exponent'][name]:.2f}")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(series["what"])
        axes.set_xticks(series["sizes"], [str(n) for n in series["sizes"]])
        axes.minorticks_off()
        axes.set_ylabel("milliseconds")
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
