"""New tensors: from data, and filled with constants or ranges.  Names and argument order as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from .core.dtypes import as_dtype, float32
from .core.modes import leaving
from .core.tensor import Tensor, flat
from .core.types import DeviceLike, DTypeLike, Sizes
from .errors import ArgumentError, DTypeError


def tensor(data: Any, dtype: DTypeLike | None = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """A tensor with its own copy of the data.  Python floats become float32; numpy arrays keep their dtype.  torch.tensor.

    data: number, nested list, array or tensor; DTypeError where it holds no numbers, ShapeError where lists have different
    lengths. requires_grad: gradients reach it; floating dtypes only.

    >>> x = ndl.tensor([[1, 2], [3, 4]], dtype="float32", requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([[2., 4.],
            [6., 8.]])
    """
    if isinstance(data, Tensor):
        leaving(data)
    x = Tensor(data, device=device, dtype=dtype)
    if hasattr(data, "dtype") and x.device.backend == "numpy":               # arrays and tensors, of ours or of others
        x.data = x.data.copy()
    return x.requires_grad_() if requires_grad else x


def from_numpy(array: np.ndarray) -> Tensor:
    """A CPU tensor that shares memory with the array; DTypeError for anything else.  torch.from_numpy."""
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: a numpy array is needed, got {type(array).__name__}; use ndl.tensor(...)")
    return Tensor(array)


def full(shape: Sizes, value: Any, dtype: DTypeLike | None = None, device: DeviceLike = None,
         requires_grad: bool = False) -> Tensor:
    """Every value is `value`, whose dtype is the default; ArgumentError for a negative length.  torch.full, numpy.full."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise ArgumentError(f"a shape has lengths of 0 or more, got {shape}")
    dtype = as_dtype(dtype) if dtype is not None else Tensor(value).dtype
    return Tensor(np.full(shape, value, dtype), requires_grad, device)


def zeros(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Every value is 0: ndl.zeros(2, 3) or ndl.zeros((2, 3)).  torch.zeros."""
    return full(flat(shape), 0, dtype, device, requires_grad)


def ones(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Every value is 1: ndl.ones(2, 3) or ndl.ones((2, 3)).  torch.ones."""
    return full(flat(shape), 1, dtype, device, requires_grad)


def empty(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory: whatever was there.  torch.empty."""
    return Tensor(np.empty(flat(shape), as_dtype(dtype)), requires_grad, device)


def full_like(x: Tensor, value: Any, dtype: DTypeLike | None = None) -> Tensor:
    """Every value is `value`; shape, device and, by default, dtype of x.  torch.full_like."""
    return full(x.shape, value, dtype or x.dtype, x.device)


def arange(start: float, stop: float | None = None, step: float = 1, dtype: DTypeLike | None = None,
           device: DeviceLike = None) -> Tensor:
    """start, start + step, ... below stop; integers give int64, floats float32.  torch.arange.

    >>> ndl.arange(2, 8, 3)
    tensor([2, 5])
    """
    start, stop = (0, start) if stop is None else (start, stop)
    if step == 0:
        raise ArgumentError("arange: step must not be 0")
    return Tensor(np.arange(start, stop, step).tolist() if dtype is None and not _whole(start, stop, step)
                  else np.arange(start, stop, step), device=device, dtype=dtype)


def _whole(*numbers: Any) -> bool:
    return all(isinstance(n, (int, np.integer)) for n in numbers)


def linspace(start: float, stop: float, num: int, dtype: DTypeLike = float32, device: DeviceLike = None) -> Tensor:
    """num values from start to stop, both included.  torch.linspace."""
    return Tensor(np.linspace(start, stop, num).astype(as_dtype(dtype)), device=device)


def eye(n: int, m: int | None = None, dtype: DTypeLike = float32, device: DeviceLike = None) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix; m is n by default.  torch.eye."""
    return Tensor(np.eye(n, m, dtype=as_dtype(dtype)), device=device)
