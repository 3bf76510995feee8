"""A device is a value on a tensor, never a global: where its array lives, and whose kernels work on it.

    cpu()           numpy arrays, the ops' own forward
    cuda(i)         memory of NVIDIA GPU i, Triton kernels
    triton_cpu()    the same Triton kernels in Triton's interpreter, on host memory: for learning and for tests

An op without a kernel for a device runs on the host and its result is copied back. That is logged once for each op,
counted in `device_report()`, and an error under `strict_devices()`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import ArgumentError, DeviceError

logger = logging.getLogger("needle_lab")


@dataclass(frozen=True)
class Device:
    """kind: "cpu", "cuda" or "triton_cpu"; index: which GPU."""

    kind: str
    index: int = 0
    backend: str = field(init=False, repr=False, compare=False)      # "numpy" or "triton": whose kernels work there

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", "numpy" if self.kind == "cpu" else "triton")

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind

    def __repr__(self) -> str:
        return f"device({self})"


_CPU = Device("cpu")


def cpu() -> Device:
    """The host: numpy."""
    return _CPU


def cuda(index: int = 0) -> Device:
    """NVIDIA GPU `index`.  DeviceError where there is none, MissingExtraError without the extra [gpu]."""
    from ..kernels.triton import runtime
    runtime.start_gpu(index)
    return Device("cuda", index)


def triton_cpu() -> Device:
    """Triton's interpreter on the host: the GPU kernels, readable step by step, without a GPU."""
    from ..kernels.triton import runtime
    runtime.start_interpreter()
    return Device("triton_cpu")


def as_device(device: Device | str | None) -> Device:
    """A Device from itself, from its name ("cpu", "cuda", "cuda:1", "triton_cpu"), or the CPU for None."""
    if device is None:
        return _CPU
    if isinstance(device, Device):
        return device
    name, _, index = str(device).partition(":")
    if name == "cuda" and (index or "0").isdigit():
        return cuda(int(index or 0))
    if device in ("cpu", "triton_cpu"):
        return cpu() if device == "cpu" else triton_cpu()
    raise ArgumentError(f"{device!r} is not a device; there are 'cpu', 'cuda', 'cuda:1', ... and 'triton_cpu'")


def to_device(array: np.ndarray, device: Device):
    """Host array -> array of the device (a copy, except on the CPU)."""
    if device.backend == "numpy":
        return array
    from ..kernels.triton import runtime
    return runtime.from_numpy(array, device)


def to_host(array) -> np.ndarray:
    """Array of any device -> numpy array."""
    return array if isinstance(array, np.ndarray) else array.numpy()


# --- ops that a device has no kernel for ------------------------------------------------------------------------------

_fallbacks: Counter[tuple[str, str]] = Counter()


class strict_devices:
    """While active, an op without a kernel for its device raises DeviceError instead of running on the host."""

    active = 0

    def __enter__(self):
        strict_devices.active += 1
        return self

    def __exit__(self, *exc) -> None:
        strict_devices.active -= 1


def device_report(reset: bool = False) -> dict[str, dict[str, int]]:
    """How often which op ran on the host for want of a kernel: {device: {op: calls}}."""
    report: dict[str, dict[str, int]] = {}
    for (device, name), calls in sorted(_fallbacks.items()):
        report.setdefault(device, {})[name] = calls
    if reset:
        _fallbacks.clear()
    return report


def host_fallback(name: str, forward: Callable, device: Device, arrays: list, attrs: dict):
    """Run an op's forward on host copies of its inputs and move the result back."""
    if strict_devices.active:
        raise DeviceError(f"{name} has no kernel for {device} (these inputs), and strict_devices() forbids the host")
    if not _fallbacks[str(device), name]:
        logger.warning("%s has no kernel for %s: it runs on the host (ndl.device_report() counts such calls)",
                       name, device)
    _fallbacks[str(device), name] += 1
    result = forward(*[a.numpy() if hasattr(a, "data_ptr") else a for a in arrays], **attrs)
    if type(result) is tuple:
        return tuple(None if r is None else to_device(np.asarray(r), device) for r in result)
    return to_device(np.asarray(result), device)
