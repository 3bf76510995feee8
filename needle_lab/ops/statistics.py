"""Statistics made of the ops of `reduce`: PyTorch's calls of them, nan-aware ones, covariances, differences, areas."""

# ruff: noqa: A001    sum, all, any are the names that NumPy and PyTorch use

import math
from typing import Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.graph import Op, op
from ..core.tensor import Tensor
from ..core.types import Array, Axis, DTypeLike
from ..errors import ArgumentError, ShapeError
from . import activations, reduce
from .axes import normalize_axes, one_axis, torch_names
from .elementwise import exp, isnan, log, logical_not, mul, sqrt, where
from .linalg import matmul
from .reduce import mean, norm, var
from .reduce import sum as sum_
from .shape import concat, flip

# --- PyTorch's calls of ops: dtype=, lists of axes --------------------------------------------------------------------


def _axes(axis: Any) -> Any:
    """Also lists, and () for all, as PyTorch's reductions take them."""
    return tuple(axis) or None if isinstance(axis, (list, tuple)) else axis


def _cast(x: Tensor, dtype: DTypeLike | None) -> Tensor:
    return x if dtype is None else x.astype(dtype)


def _reduction(of: Op) -> None:
    """x.sum(0), x.sum(dim=[0, 1], dtype=ndl.float64): the values are cast first, so that the sum is taken in that dtype."""
    @of.torch
    @torch_names
    def call(x: Tensor, axis: Any = None, keepdims: bool = False, *, dtype: DTypeLike | None = None) -> Tensor:
        axis = _axes(axis)
        if not x.ndim:
            axis = normalize_axes(axis, 0)                  # it has one axis of length 1, in PyTorch: none to reduce
        return of(_cast(x, dtype), axis=axis, keepdims=keepdims)
    call.__name__ = of.name


def _along(of: Op) -> None:
    """x.cumsum(0, dtype=...), softmax(x, dim=-1, dtype=...): one axis, which a tensor without axes has too."""
    @of.torch
    @torch_names
    def call(x: Tensor, axis: int = -1, dtype: DTypeLike | None = None, **ignored: Any) -> Tensor:
        if {*ignored} - {"_stacklevel"}:
            raise ArgumentError(f"{of.name}: an argument {[*ignored][0]!r} is not known; it takes dim and dtype")
        x = _cast(x, dtype)
        return of(x, axis=one_axis(axis, x.ndim)) if x.ndim else of(x.reshape(1), axis=one_axis(axis, 0)).reshape(())
    call.__name__ = of.name


for _op in (reduce.sum, reduce.mean, reduce.prod, reduce.all, reduce.any, reduce.logsumexp):
    _reduction(_op)
for _op in (reduce.cumsum, reduce.cumprod, activations.softmax, activations.log_softmax):
    _along(_op)


@var.torch
@torch_names
def torch_var(x: Tensor, axis: Any = None, correction: Any = None, keepdims: bool = False, *,
              unbiased: bool | None = None) -> Tensor:
    """Also var(x, False) and var(x, 0, unbiased=False): whether one is taken off the number of values."""
    return var(x, **_variance_arguments(axis, correction, keepdims, unbiased))


def _variance_arguments(axis: Any, correction: Any, keepdims: bool, unbiased: bool | None) -> dict[str, Any]:
    if isinstance(axis, bool):
        axis, unbiased = None, axis
    if unbiased is not None and correction is not None:
        raise ArgumentError("correction and unbiased say one thing; give one of them")
    less = correction if correction is not None else 1 if unbiased is None else int(unbiased)
    return {"axis": _axes(axis), "correction": less, "keepdims": keepdims}


@reduce.std.torch
@torch_names
def torch_std(x: Tensor, axis: Any = None, correction: Any = None, keepdims: bool = False, *,
              unbiased: bool | None = None) -> Tensor:
    """As `torch_var`."""
    return reduce.std(x, **_variance_arguments(axis, correction, keepdims, unbiased))


@torch_names
def var_mean(x: Tensor, axis: Any = None, correction: Any = None, keepdims: bool = False, *,
             unbiased: bool | None = None) -> tuple[Tensor, Tensor]:
    """-> (variance, mean).  torch.var_mean."""
    found = _variance_arguments(axis, correction, keepdims, unbiased)
    return var(x, **found), mean(x, axis=found["axis"], keepdims=keepdims)


@torch_names
def std_mean(x: Tensor, axis: Any = None, correction: Any = None, keepdims: bool = False, *,
             unbiased: bool | None = None) -> tuple[Tensor, Tensor]:
    """-> (standard deviation, mean).  torch.std_mean."""
    found = _variance_arguments(axis, correction, keepdims, unbiased)
    return reduce.std(x, **found), mean(x, axis=found["axis"], keepdims=keepdims)


@reduce.argmax.torch
@torch_names
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """x.argmax(1); of a tensor without axes 0."""
    return _place(reduce.argmax, x, axis, keepdims)


@reduce.argmin.torch
@torch_names
def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """x.argmin(1); of a tensor without axes 0."""
    return _place(reduce.argmin, x, axis, keepdims)


def _place(of: Op, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    if axis is None or not x.ndim:
        return of(x, axis=None, keepdims=keepdims)
    return of(x, axis=one_axis(axis, x.ndim), keepdims=keepdims)

# --- with missing values, with weights --------------------------------------------------------------------------------


@torch_names
def nansum(x: Tensor, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike | None = None) -> Tensor:
    """The sum of the values that are not nan.  torch.nansum."""
    x = _cast(x, dtype)
    return sum_(where(isnan(x), 0.0, x) if is_floating(x.dtype) else x, axis=_axes(axis), keepdims=keepdims)


@torch_names
def nanmean(x: Tensor, axis: Axis = None, keepdims: bool = False, *, dtype: DTypeLike | None = None) -> Tensor:
    """The mean of the values that are not nan.  torch.nanmean."""
    known = sum_(logical_not(isnan(x)), axis=_axes(axis), keepdims=keepdims)
    return nansum(x, axis, keepdims, dtype=dtype) / known.astype(x.dtype)


@torch_names
def count_nonzero(x: Tensor, axis: Axis = None) -> Tensor:
    """How many values are not 0, int64.  torch.count_nonzero."""
    return sum_(x != 0, axis=_axes(axis))


@torch_names
def dist(a: Tensor, b: Tensor, p: float = 2) -> Tensor:
    """The p-norm of a - b.  torch.dist."""
    return norm(a - b, p)


@torch_names
def renorm(x: Tensor, p: float, axis: int, maxnorm: float) -> Tensor:
    """Each slice along axis scaled down to a p-norm of maxnorm, if it has more.  torch.renorm."""
    axis = one_axis(axis, x.ndim)
    length = norm(x, p, tuple(a for a in range(x.ndim) if a != axis), True)
    return x * where(length > maxnorm, maxnorm / (length + 1e-7), 1.0)


@torch_names
def cov(x: Tensor, *, correction: float = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """The covariances of the rows of x (variables, observations).  fweights: how often each observation counts, integers;
    aweights: how much.  torch.cov, numpy.cov.
    """
    rows = x if x.ndim == 2 else x.reshape(1, -1)
    weights: Any = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None:
        n: Any = rows.shape[1]
        total, center = n, mean(rows, axis=1, keepdims=True)
    else:
        total = n = sum_(weights)
        center = sum_(rows * weights, axis=1, keepdims=True) / total
    if aweights is not None and correction:
        n = total - correction * sum_(weights * aweights) / total
    else:
        n = total - correction
    apart = rows - center
    found = matmul(apart, (apart if weights is None else apart * weights).mT)
    found = found / (n.clip(min=0) if isinstance(n, Tensor) else max(n, 0) or math.nan)
    return found.reshape(()) if len(rows) == 1 else found


def corrcoef(x: Tensor) -> Tensor:
    """The correlation coefficients of the rows of x (variables, observations).  torch.corrcoef, numpy.corrcoef."""
    c = cov(x)
    if not c.ndim:
        return c / c
    length = sqrt(c.diagonal())
    return (c / length.unsqueeze(1) / length).clip(-1.0, 1.0)

# --- running and neighbouring values ------------------------------------------------------------------------------------


@op(promote="float")
def logcumsumexp(x: Array, *, axis: int) -> Array:
    """log of the running sum of exp(x), without overflow.  torch.logcumsumexp."""
    return np.logaddexp.accumulate(x, axis)


@logcumsumexp.gradient
def logcumsumexp_gradient(g: Tensor, y: Tensor, x: Tensor, axis: int) -> Tensor:
    def part(g: Tensor) -> Tensor:                    # x's share of what is positive: exp(x) * sum from here on of g exp(-y)
        steep = where(g > 0, log(where(g > 0, g, 1.0)) - y, -1e30)
        return exp(flip(logcumsumexp(flip(steep, axis=axis), axis=axis), axis=axis) + x)
    return part(g) - part(-g)


_along(logcumsumexp)


@torch_names
def diff(x: Tensor, n: int = 1, axis: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """The differences of neighbours along axis, n times over.  torch.diff, numpy.diff."""
    if not x.ndim:
        raise ShapeError("diff: a tensor with at least one axis is needed")
    if n < 0:
        raise ArgumentError(f"diff: n={n} times; it is 0 or more")
    axis = one_axis(axis, x.ndim)
    x = concat([part for part in (prepend, x, append) if part is not None], axis) if n else x
    for _ in range(min(n, x.shape[axis])):
        length = x.shape[axis] - 1
        after, before = x.narrow(axis, 1, length), x.narrow(axis, 0, length)
        x = after ^ before if x.dtype == np.bool_ else after - before
    return x


def _strips(y: Tensor, x: Any, dx: Any, axis: int) -> Tensor:
    """The areas under neighbours."""
    n = y.shape[axis] - 1
    if x is not None:
        dx = diff(x, axis=axis if x.ndim == y.ndim else -1)
        dx = dx if x.ndim == y.ndim else dx.reshape(tuple(dx.numel() if a == axis else 1 for a in range(y.ndim))) \
            if x.ndim == 1 else dx
    return mul(y.narrow(axis, 0, n) + y.narrow(axis, 1, n), dx / 2.0)


@torch_names
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, axis: int = -1) -> Tensor:
    """The area under y along axis by the trapezoidal rule, at places x or dx apart.  torch.trapezoid, numpy.trapezoid."""
    axis = one_axis(axis, y.ndim)
    return sum_(_strips(y, x, dx, axis), axis=axis)


@torch_names
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, axis: int = -1) -> Tensor:
    """The running area under y along axis by the trapezoidal rule.  torch.cumulative_trapezoid."""
    axis = one_axis(axis, y.ndim)
    return reduce.cumsum(_strips(y, x, dx, axis), axis=axis)


trapz = trapezoid
