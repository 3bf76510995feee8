"""A device is a value on a tensor, never a global: where its array lives, and whose kernels work on it.

    cpu()           numpy arrays, the ops' own forward
    cuda(i)         memory of NVIDIA GPU i, Triton kernels
    triton_cpu()    the same Triton kernels in Triton's interpreter, on host memory: for learning and for tests

Of other devices than the CPU this file knows only what it asks them, a `Backend`; the rooms of `needle_lab.kernels` enter
theirs into `BACKENDS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..errors import ArgumentError, DeviceError, MissingExtraError
from .tiers import open_kernels


@dataclass(frozen=True)
class Device:
    """kind: "cpu", "cuda" or "triton_cpu"; index: which GPU."""

    kind: str
    index: int = 0
    backend: str = field(init=False, repr=False, compare=False)      # "numpy" or "triton": whose kernels work there

    def __post_init__(self) -> None:
        object.__setattr__(self, "backend", "numpy" if self.kind == "cpu" else "triton")

    @property
    def type(self) -> str:
        """PyTorch's name for kind."""
        return self.kind

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind

    def __repr__(self) -> str:
        return f"device({self})"


CPU = Device("cpu")


def cpu() -> Device:
    """The host: numpy."""
    return CPU


def cuda(index: int = 0) -> Device:
    """NVIDIA GPU `index`.  DeviceError where there is none, MissingExtraError without the extra [gpu]."""
    return _started(Device("cuda", index))


def device(name: Device | str, index: int | None = None) -> Device:
    """The device of this name, "cpu", "cuda:0", "triton_cpu".  torch.device."""
    return as_device(name if index is None else f"{name}:{index}")


def _available() -> bool:
    """Whether there is an NVIDIA GPU that can be used.  torch.cuda.is_available."""
    try:
        return bool(cuda())
    except (DeviceError, MissingExtraError):
        return False


setattr(cuda, "is_available", _available)      # noqa: B010    ndl.cuda is a function; PyTorch's programs ask its torch.cuda


def triton_cpu() -> Device:
    """Triton's interpreter on the host: the GPU kernels, readable step by step, without a GPU."""
    return _started(Device("triton_cpu"))


class Backend(Protocol):
    """What a room of kernels answers for its devices; `BACKENDS` holds one by the kind of device."""

    def start(self, device: Device) -> None:
        """Make the device ready, or raise DeviceError or MissingExtraError."""

    def from_numpy(self, array: np.ndarray, device: Device) -> Any:
        """A copy of a host array in the device's memory: an object with `data_ptr()`, `numpy()`, `shape` and `dtype`."""

    def run(self, op: Any, device: Device, arrays: list[Any], attrs: dict[str, Any]) -> Any:
        """What the op answers for arrays of the device."""

    def write(self, data: Any, value: Any, index: Any, device: Device) -> None:
        """data[index] = value, in place."""


BACKENDS: dict[str, Backend] = {}


def _started(device: Device) -> Device:
    open_kernels()                                       # where backends enter themselves
    BACKENDS[device.kind].start(device)
    return device


def as_device(device: Device | str | None) -> Device:
    """A Device from itself, from its name ("cpu", "cuda", "cuda:1", "triton_cpu"), or the CPU for None."""
    if device is None:
        return CPU
    if isinstance(device, Device):
        return device
    name, _, index = str(device).partition(":")
    if name == "cuda" and (index or "0").isdigit():
        return cuda(int(index or 0))
    if device in ("cpu", "triton_cpu"):
        return cpu() if device == "cpu" else triton_cpu()
    raise ArgumentError(f"{device!r} is not a device; there are 'cpu', 'cuda', 'cuda:1', ... and 'triton_cpu'")


def to_device(array: np.ndarray, device: Device) -> Any:
    """Host array -> array of the device (a copy, except on the CPU)."""
    if device.backend == "numpy":
        return array
    open_kernels()
    return BACKENDS[device.kind].from_numpy(array, device)


def to_host(array: Any) -> np.ndarray:
    """Array of any device -> numpy array."""
    return array if isinstance(array, np.ndarray) else array.numpy()
