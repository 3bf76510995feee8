"""New tensors: from data, and filled with constants or ranges.  Names and argument order as in PyTorch."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .core.dtypes import as_dtype, float32, int64, kind_rank
from .core.dtypes import result_type as _result_type
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


def full(size: Sizes, fill_value: Any, dtype: DTypeLike | None = None, device: DeviceLike = None,
         requires_grad: bool = False) -> Tensor:
    """Every value is `fill_value`, whose dtype is the default; ArgumentError for a negative length.  torch.full."""
    shape = (size,) if isinstance(size, int) else tuple(size)
    if any(n < 0 for n in shape):
        raise ArgumentError(f"a shape has lengths of 0 or more, got {shape}")
    dtype = as_dtype(dtype) if dtype is not None else Tensor(fill_value).dtype
    return Tensor(np.full(shape, fill_value, dtype), requires_grad, device)


def zeros(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Every value is 0: ndl.zeros(2, 3) or ndl.zeros((2, 3)).  torch.zeros."""
    return full(flat(shape), 0, dtype, device, requires_grad)


def ones(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Every value is 1: ndl.ones(2, 3) or ndl.ones((2, 3)).  torch.ones."""
    return full(flat(shape), 1, dtype, device, requires_grad)


def empty(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory: whatever was there.  torch.empty."""
    return Tensor(np.empty(flat(shape), as_dtype(dtype)), requires_grad, device)


def full_like(x: Tensor, fill_value: Any, dtype: DTypeLike | None = None, device: DeviceLike = None,
              requires_grad: bool = False) -> Tensor:
    """Every value is `fill_value`; shape and, by default, device and dtype of x.  torch.full_like."""
    return full(x.shape, fill_value, x.dtype if dtype is None else dtype, device or x.device, requires_grad)


def empty_like(x: Tensor, dtype: DTypeLike | None = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Uninitialised memory of x's shape and, by default, dtype and device.  torch.empty_like."""
    return empty(x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device, requires_grad=requires_grad)


def scalar_tensor(value: Any, dtype: DTypeLike = float32, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """A tensor without axes, float32 by default.  torch.scalar_tensor."""
    return full((), value, dtype, device, requires_grad)


def as_tensor(data: Any, dtype: DTypeLike | None = None, device: DeviceLike = None) -> Tensor:
    """The data as a tensor, in the same memory where that is possible; a tensor as it is.  torch.as_tensor."""
    if not isinstance(data, Tensor):
        return Tensor(data, device=device, dtype=dtype)
    changes = {"device": device, "dtype": dtype}
    return data.to(**{name: value for name, value in changes.items() if value is not None})


asarray = as_tensor


def get_default_dtype() -> Any:
    """float32.  torch.get_default_dtype."""
    return float32


def promote_types(a: DTypeLike, b: DTypeLike) -> Any:
    """The dtype of an op on tensors of two dtypes.  torch.promote_types."""
    return _result_type(as_dtype(a), as_dtype(b))


def can_cast(source: DTypeLike, target: DTypeLike) -> bool:
    """Whether an in-place result of one dtype goes into a tensor of another: not floats into integers.  torch.can_cast."""
    return kind_rank(as_dtype(source)) <= kind_rank(as_dtype(target))


def finfo(dtype: DTypeLike = float32) -> Any:
    """The limits of a floating dtype: max, min, eps, tiny, bits.  torch.finfo."""
    return ml_dtypes.finfo(as_dtype(dtype))                             # type: ignore[no-untyped-call]


def iinfo(dtype: DTypeLike) -> Any:
    """The limits of an integer dtype: max, min, bits.  torch.iinfo."""
    return np.iinfo(as_dtype(dtype))


def arange(start: float = 0, end: float | None = None, step: float = 1, dtype: DTypeLike | None = None,
           device: DeviceLike = None, requires_grad: bool = False, *, stop: float | None = None) -> Tensor:
    """start, start + step, ... below end (or stop); integers give int64, floats float32.  torch.arange, numpy.arange.

    >>> ndl.arange(2, 8, 3)
    tensor([2, 5])
    """
    end = stop if end is None else end
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise ArgumentError("arange: step must not be 0")
    if (end - start) * step < 0:
        raise ArgumentError(f"arange: steps of {step} do not lead from {start} to {end}")
    values = np.arange(start, end, step)
    dtype = float32 if dtype is None and not _whole(start, end, step) else dtype
    return Tensor(values, requires_grad, device, dtype)


def _whole(*numbers: Any) -> bool:
    return all(isinstance(n, int) or (hasattr(n, "dtype") and n.dtype.kind in "iu") for n in numbers)


def linspace(start: Any, end: Any, steps: int, dtype: DTypeLike = float32, device: DeviceLike = None,
             requires_grad: bool = False) -> Tensor:
    """`steps` values from start to end, both included; of tensors, along a new first axis.  torch.linspace."""
    values = np.linspace(np.asarray(start, np.float64), np.asarray(end, np.float64), steps)
    dtype = as_dtype(dtype)
    return Tensor((values if dtype.kind == "f" else np.trunc(values)).astype(dtype), requires_grad, device)


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, dtype: DTypeLike = float32, device: DeviceLike = None,
             requires_grad: bool = False) -> Tensor:
    """base to the power of `steps` values from start to end.  torch.logspace."""
    powers = np.linspace(np.asarray(start, np.float64), np.asarray(end, np.float64), steps)
    return Tensor(np.power(float(base), powers).astype(as_dtype(dtype)), requires_grad, device)


def eye(n: int, m: int | None = None, dtype: DTypeLike = float32, device: DeviceLike = None,
        requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix; m is n by default.  torch.eye."""
    return Tensor(np.eye(n, m, dtype=as_dtype(dtype)), requires_grad, device)


def tril_indices(row: int, col: int, offset: int = 0, dtype: DTypeLike = int64, device: DeviceLike = None) -> Tensor:
    """(2, how many): rows and columns of the lower triangle of a (row, col) matrix.  torch.tril_indices."""
    return Tensor(np.stack(np.tril_indices(row, offset, col)).astype(as_dtype(dtype)), device=device)


def triu_indices(row: int, col: int, offset: int = 0, dtype: DTypeLike = int64, device: DeviceLike = None) -> Tensor:
    """(2, how many): rows and columns of the upper triangle of a (row, col) matrix.  torch.triu_indices."""
    return Tensor(np.stack(np.triu_indices(row, offset, col)).astype(as_dtype(dtype)), device=device)
