"""Reductions: sum, mean, products, extremes, variance, cumulative sums, sorting.

axis is None (all axes), a number, or a tuple; keepdims keeps reduced axes with length 1. NumPy's names and rules.
"""

# ruff: noqa: A001    sum, max, min, all, any are the names that NumPy and PyTorch use

import builtins  # max, sum, any, ... are the tensor ops in this file
import math

import numpy as np

from ..core.graph import op
from ..core.modes import is_grad_enabled, is_tracing
from ..core.tensor import Tensor
from ..core.tiers import Tiered
from ..core.types import Array, Axis, DTypeLike
from ..errors import ArgumentError
from . import shape
from .axes import normalize_axes, torch_names
from .elementwise import abs, exp, sign, where

# --- shapes of reductions -------------------------------------------------------------------------------------------


def restore(g: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """A reduced tensor with its reduced axes back as length 1, ready to broadcast against x."""
    if keepdims:
        return g
    axes = normalize_axes(axis, x.ndim)
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def count(x: Tensor | Array, axis: Axis) -> int:
    """How many values one result of a reduction of x over axis is made of."""
    return math.prod(x.shape[a] for a in normalize_axes(axis, x.ndim))

# --- sums -----------------------------------------------------------------------------------------------------------


@Tiered
def added(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The sum of floats, added in float64 and rounded once: of ten million float32 added in float32, half the digits go."""
    return np.sum(x, axis=axis, keepdims=keepdims, dtype=np.float64).astype(x.dtype)


@op(onnx="ReduceSum")
def sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Sum; integers and bools sum to int64, floats in float64, rounded once.  torch.sum."""
    total = np.sum(x, axis=axis, keepdims=keepdims, dtype=np.int64 if x.dtype.kind in "iub" else np.float64)
    return total if x.dtype.kind in "iub" else total.astype(x.dtype)


@sum.gradient
def sum_gradient(g: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    return restore(g, x, axis, keepdims).expand(x.shape)


@op(promote="float", onnx="ReduceMean")
def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Arithmetic mean; nan for an empty tensor.  torch.mean."""
    return added(x, axis, keepdims) / x.dtype.type(count(x, axis) or math.nan)


@mean.gradient
def mean_gradient(g: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    return (restore(g, x, axis, keepdims) * (1.0 / (count(x, axis) or math.nan))).expand(x.shape)


@op(onnx="ReduceProd")
def prod(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Product; integers multiply in int64.  torch.prod."""
    wide = np.prod(x, axis=axis, keepdims=keepdims, dtype=np.int64 if x.dtype.kind in "iub" else np.float64)
    return wide if x.dtype.kind in "iub" else wide.astype(x.dtype)


@prod.gradient
def prod_gradient(g: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    # The product of the others, without dividing (x may be 0): products of all before times all after.
    axes = normalize_axes(axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = x.permute(*kept, *axes).reshape(tuple(x.shape[a] for a in kept) + (count(x, axis),))
    ones = shape.ones_like(rows[..., :1])
    before = cumprod(shape.concat([ones, rows[..., :-1]], axis=-1), axis=-1)
    after = shape.flip(cumprod(shape.concat([ones, shape.flip(rows[..., 1:], axis=-1)], axis=-1), axis=-1), axis=-1)
    others = (before * after).reshape(tuple(x.shape[a] for a in kept + axes))
    back = tuple(int(i) for i in np.argsort(kept + axes))
    return restore(g, x, axis, keepdims) * others.permute(*back)


@op(promote="float")
def var(x: Array, *, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Array:
    """Variance, divided by n - correction (1: Bessel's, PyTorch's default; 0: NumPy's default)."""
    return _variance(x, axis, correction, keepdims).astype(x.dtype)


def _variance(x: Array, axis: Axis, correction: float, keepdims: bool) -> Array:
    """In float64, where squares neither overflow nor lose what is left of large values that are nearly equal."""
    with np.errstate(all="ignore"):
        n = count(x, axis)
        d = x - np.sum(x, axis=axis, keepdims=True, dtype=np.float64) / n
        return np.sum(d * d, axis=axis, keepdims=keepdims) / np.float64(builtins.max(n - correction, 0))


@var.gradient
def var_gradient(g: Tensor, x: Tensor, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    return restore(g, x, axis, keepdims) * (x - mean(x, axis=axis, keepdims=True)) * (2.0 * _share(x, axis, correction))


def _share(x: Tensor, axis: Axis, correction: float) -> float:
    """1 / (n - correction), or nan: the variance of too few values."""
    return 1.0 / (count(x, axis) - correction) if count(x, axis) > correction else math.nan


@op(promote="float")
def std(x: Array, *, axis: Axis = None, correction: float = 1, keepdims: bool = False) -> Array:
    """Standard deviation: the square root of `var`; where it is 0, so is the gradient.  torch.std."""
    return np.sqrt(_variance(x, axis, correction, keepdims)).astype(x.dtype)


@std.gradient
def std_gradient(g: Tensor, y: Tensor, x: Tensor, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    slope = where(y == 0, 0.0, g / where(y == 0, 1.0, y))
    centered = x - mean(x, axis=axis, keepdims=True)
    return restore(slope, x, axis, keepdims) * centered * _share(x, axis, correction)


@op(promote="float")
def vector_norm(x: Array, *, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Array:
    """(sum of |x|^ord)^(1 / ord), in float64; ord 0 counts what is not 0, inf and -inf are the largest and the smallest |x|.

    The gradient where the norm is 0 is 0.  torch.linalg.vector_norm.
    """
    size = np.abs(x)
    if math.isinf(ord):
        return (np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)
    with np.errstate(divide="ignore", over="ignore"):
        if ord == 0:
            return np.sum(size != 0, axis=axis, keepdims=keepdims).astype(x.dtype)
        powers = np.square(size, dtype=np.float64) if ord == 2 else np.power(size, ord, dtype=np.float64)
        total = np.sum(powers, axis=axis, keepdims=keepdims)
        return (np.sqrt(total) if ord == 2 else total ** (1 / ord)).astype(x.dtype)


@vector_norm.gradient
def vector_norm_gradient(g: Tensor, y: Tensor, x: Tensor, ord: float, axis: Axis, keepdims: bool) -> Tensor:
    """g sign(x) (|x| / y)^(ord - 1), which is 0 wherever it would divide by 0."""
    g, y = restore(g, x, axis, keepdims), restore(y, x, axis, keepdims)
    if ord == 0:
        return (g * 0.0).expand(x.shape)
    if math.isinf(ord):
        winners = (abs(x) == y).astype(x.dtype)
        return g * sign(x) * winners / sum(winners, axis=axis, keepdims=True)
    if ord == 1:
        return g * sign(x)
    share = x / where(y == 0, 1.0, y)
    if ord == 2:
        return g * where(y == 0, 0.0, share)
    slope = sign(x) * abs(where(x == 0, 1.0, share)) ** (ord - 1)
    return g * where(x == 0, 0.0, where(y == 0, 0.0, slope))


@torch_names
def norm(x: Tensor, p: float | str = 2, axis: Axis = None, keepdims: bool = False, dtype: DTypeLike | None = None) -> Tensor:
    """The p-norm of the values along axis, `vector_norm`; "fro" is 2, "nuc" the sum of the singular values.  torch.norm."""
    x = x if dtype is None else x.astype(dtype)
    if isinstance(p, str):
        if p not in ("fro", "nuc"):
            raise ArgumentError(f"norm: p={p!r} is neither a number nor 'fro' nor 'nuc'")
        p = 2
    return vector_norm(x, ord=float(p), axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)

# --- extremes -------------------------------------------------------------------------------------------------------


def _extreme_gradient(g: Tensor, y: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    """Ties share the gradient equally."""
    winners = (x == restore(y, x, axis, keepdims)).astype(x.dtype)
    return restore(g, x, axis, keepdims) * winners / sum(winners, axis=axis, keepdims=True)


@op(gradient=_extreme_gradient, onnx="ReduceMax")
def max(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """The largest value; ties share the gradient.  torch.amax."""
    return np.max(x, axis=axis, keepdims=keepdims)


@op(gradient=_extreme_gradient, onnx="ReduceMin")
def min(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """The smallest value; ties share the gradient.  torch.amin."""
    return np.min(x, axis=axis, keepdims=keepdims)


@op(onnx="ArgMax", differentiable=False)
def argmax(x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first largest value, int64.  torch.argmax, ONNX ArgMax."""
    return np.argmax(x, axis=axis, keepdims=keepdims)


@op(onnx="ArgMin", differentiable=False)
def argmin(x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Index of the first smallest value, int64.  torch.argmin, ONNX ArgMin."""
    return np.argmin(x, axis=axis, keepdims=keepdims)


@op(promote="float", onnx="ReduceLogSumExp")
def logsumexp(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """log(sum(exp(x))), shifted by the maximum so that nothing overflows.  torch.logsumexp."""
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    with np.errstate(divide="ignore"):
        result = np.log(added(np.exp(x - top), axis, True)) + top
    return result if keepdims else np.squeeze(result, normalize_axes(axis, x.ndim))


@logsumexp.gradient
def logsumexp_gradient(g: Tensor, y: Tensor, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    return restore(g, x, axis, keepdims) * exp(x - restore(y, x, axis, keepdims))

# --- cumulative -----------------------------------------------------------------------------------------------------


@op(onnx="CumSum")
def cumsum(x: Array, *, axis: int) -> Array:
    """Running sum along axis, of floats in float64.  torch.cumsum, ONNX CumSum."""
    return np.cumsum(x, axis=axis) if x.dtype.kind in "iub" else np.cumsum(x, axis=axis, dtype=np.float64).astype(x.dtype)


@cumsum.gradient
def cumsum_gradient(g: Tensor, axis: int) -> Tensor:
    return _sums_from(g, axis)


@op()
def cumprod(x: Array, *, axis: int) -> Array:
    """Running product along axis, of floats in float64.  torch.cumprod."""
    return np.cumprod(x, axis=axis) if x.dtype.kind in "iub" else np.cumprod(x, axis=axis, dtype=np.float64).astype(x.dtype)


@cumprod.gradient
def cumprod_gradient(g: Tensor, y: Tensor, x: Tensor, axis: int) -> Tensor:
    """d y_j / d x_i is the product of x_0..x_j without x_i, for j >= i: y_j / x_i up to the first zero, 0 behind it; at the
    first zero itself the products with a 1 in its place."""
    zero = x == 0
    if not is_tracing() and not bool(any(zero)):
        return _sums_from(g * y, axis) / x
    zeros = cumsum(zero, axis=axis)
    if is_grad_enabled() and bool((zeros > 1).any()):         # to be differentiated again: there a second zero counts
        return _cumprod_gradient_by_rows(g, x, axis)
    first = where(zeros == 1, zero, False)
    return where(first, _sums_from(g * cumprod(where(first, 1.0, x), axis=axis), axis),
                 _sums_from(g * y, axis) / where(zero, 1.0, x))


def _sums_from(x: Tensor, axis: int) -> Tensor:
    """The sum from each place to the end."""
    return shape.flip(cumsum(shape.flip(x, axis=axis), axis=axis), axis=axis)


def _cumprod_gradient_by_rows(g: Tensor, x: Tensor, axis: int) -> Tensor:
    """By a row for each i, with a 1 in place of x_i: n^2 products, whatever is 0."""
    axis %= x.ndim
    n = x.shape[axis]
    rows = shape.unsqueeze(x.transpose(axis, -1), axis=-2).expand(*x.transpose(axis, -1).shape[:-1], n, n)
    eye = np.eye(n, dtype=bool)
    products = cumprod(where(eye, 1.0, rows), axis=-1) * np.triu(np.ones((n, n), x.dtype))
    return sum(shape.unsqueeze(g.transpose(axis, -1), axis=-2) * products, axis=-1).transpose(axis, -1)

# --- logic and order ------------------------------------------------------------------------------------------------


@op(differentiable=False)
def all(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether every value is true (or not 0).  torch.all."""
    return np.all(x, axis=axis, keepdims=keepdims)


@op(differentiable=False)
def any(x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Whether some value is true (or not 0).  torch.any."""
    return np.any(x, axis=axis, keepdims=keepdims)


@op(promote=None, differentiable=False)
def argsort(x: Array, *, axis: int = -1, descending: bool = False) -> Array:
    """The stable order of the values along axis, int64.  torch.argsort(stable=True)."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    reverse = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return x.shape[axis] - 1 - reverse
