"""Peak memory of a training step beside PyTorch's: `python -m benchmarks.memory`.

Each side runs in a process of its own, so that neither sees what the other left; what is counted is how far the
process's resident memory rises above its level before the first of three steps: activations, gradients, the optimizer's
state, and what the library itself needs. Plain numpy: Numba, where it is used, takes another 120 MiB once.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CASES = {"ResNet-9, 32x32, batch 128": ("resnet9", 128), "ResNet-9, 32x32, batch 1,024": ("resnet9", 1024),
         "ResNet-18, 32x32, batch 128": ("resnet18", 128)}


def measure(side: str, model: str, batch: int) -> float:
    """Bytes by which three steps raise the peak; run in a fresh process by `main`."""
    import torch
    from torch.nn import functional as F

    import needle_lab as ndl
    from needle_lab import models, optim
    from needle_lab.nn import functional as nf

    from . import twins
    from .workloads import images

    ndl.use_kernels("numpy")
    x, y = images(batch, 3, 32)
    if side == "needle_lab":
        net = {"resnet9": models.ResNet9, "resnet18": lambda: models.ResNet18(10)}[model]().train()
        make, loss_of = optim.SGD, nf.cross_entropy
        inputs, targets = ndl.tensor(x), ndl.tensor(y)
    else:
        net = {"resnet9": twins.ResNet9, "resnet18": lambda: twins.ResNet(twins.BasicBlock, (2, 2, 2, 2), 10)}[model]()
        make, loss_of = torch.optim.SGD, F.cross_entropy
        inputs, targets = torch.tensor(x), torch.tensor(y)
    optimizer = make(net.parameters(), 1e-4, momentum=0.9)
    before = status("VmRSS")
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(net(inputs), targets).backward()
        optimizer.step()
    return status("VmHWM") - before


def status(field: str) -> int:
    """A line of /proc/self/status in bytes (Linux)."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(text.partition(field + ":")[2].split()[0])


def main() -> None:
    print(f"{'training step':<32} {'needle_lab':>12} {'PyTorch':>12}   ratio")
    for title, (model, batch) in CASES.items():
        peaks = [float(subprocess.run([sys.executable, "-m", "benchmarks.memory", side, model, str(batch)], check=True,
                                      capture_output=True, text=True).stdout) for side in ("needle_lab", "torch")]
        print(f"{title:<32} {peaks[0] / 2**20:8.1f} MiB {peaks[1] / 2**20:8.1f} MiB   {peaks[0] / peaks[1]:.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        main()
