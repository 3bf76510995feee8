"""New tensors: from data, and filled with constants or ranges.  Names and argument order as in PyTorch."""

from __future__ import annotations

import numpy as np

from .core.device import Device
from .core.dtypes import as_dtype, float32
from .core.modes import leaving
from .core.tensor import Tensor
from .errors import ArgumentError, DTypeError
from .ops.methods import flat


def tensor(data, dtype=None, device: Device | str | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor with its own copy of the data.  Python floats become float32; numpy arrays keep their dtype."""
    if isinstance(data, Tensor):
        leaving(data)
    x = Tensor(data, device=device, dtype=dtype)
    if isinstance(data, (np.ndarray, Tensor)) and x.device.backend == "numpy":
        x.data = x.data.copy()
    return x.requires_grad_() if requires_grad else x


def from_numpy(array: np.ndarray) -> Tensor:
    """A CPU tensor that shares memory with the array."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: a numpy array is needed, got {type(array).__name__}; use ndl.tensor(...)")
    return Tensor(array)


def full(shape, value, dtype=None, device: Device | str | None = None, requires_grad: bool = False) -> Tensor:
    """Every value is `value`."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise ArgumentError(f"a shape has lengths of 0 or more, got {shape}")
    dtype = as_dtype(dtype) if dtype is not None else Tensor(value).dtype
    return Tensor(np.full(shape, value, dtype), requires_grad, device)


def zeros(*shape, dtype=float32, device: Device | str | None = None, requires_grad: bool = False) -> Tensor:
    return full(flat(shape), 0, dtype, device, requires_grad)


def ones(*shape, dtype=float32, device: Device | str | None = None, requires_grad: bool = False) -> Tensor:
    return full(flat(shape), 1, dtype, device, requires_grad)


def empty(*shape, dtype=float32, device: Device | str | None = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory: whatever was there."""
    return Tensor(np.empty(flat(shape), as_dtype(dtype)), requires_grad, device)


def full_like(x: Tensor, value, dtype=None) -> Tensor:
    return full(x.shape, value, dtype or x.dtype, x.device)


def arange(start, stop=None, step=1, dtype=None, device: Device | str | None = None) -> Tensor:
    """start, start + step, ... below stop; integers give int64, floats float32."""
    start, stop = (0, start) if stop is None else (start, stop)
    if step == 0:
        raise ArgumentError("arange: step must not be 0")
    return Tensor(np.arange(start, stop, step).tolist() if dtype is None and not _whole(start, stop, step)
                  else np.arange(start, stop, step), device=device, dtype=dtype)


def _whole(*numbers) -> bool:
    return all(isinstance(n, (int, np.integer)) for n in numbers)


def linspace(start: float, stop: float, num: int, dtype=float32, device: Device | str | None = None) -> Tensor:
    """num values from start to stop, both included."""
    return Tensor(np.linspace(start, stop, num).astype(as_dtype(dtype)), device=device)


def eye(n: int, m: int | None = None, dtype=float32, device: Device | str | None = None) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix."""
    return Tensor(np.eye(n, m, dtype=as_dtype(dtype)), device=device)
