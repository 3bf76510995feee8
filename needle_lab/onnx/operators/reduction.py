"""Reductions: sums, means, extremes and norms over axes, where the extremes stand, running sums, the largest k."""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from .table import ints, scalar, since, writes


def _reduced(reduce, x, axes, keepdims, noop_with_empty_axes, pointwise=None):
    """pointwise: what it does to each value where there are no axes to reduce."""
    axis = ints(axes)
    if not axis:
        if noop_with_empty_axes:
            return pointwise(x) if pointwise else x
        axis = None
    return reduce(x, axis=axis, keepdims=bool(keepdims)).astype(x.dtype)


def _log_sum(x, axis, keepdims):
    return ops.log(ops.sum(x, axis=axis, keepdims=keepdims))


def _sum_square(x, axis, keepdims):
    return ops.sum(x * x, axis=axis, keepdims=keepdims)


def _norm_1(x, axis, keepdims):
    return ops.norm(x, 1, axis, keepdims)


def _norm_2(x, axis, keepdims):
    return ops.norm(x, 2, axis, keepdims)


def _max(x, axis, keepdims):
    return _extreme(ops.max, x, axis, keepdims, lowest=True)


def _min(x, axis, keepdims):
    return _extreme(ops.min, x, axis, keepdims, lowest=False)


def _extreme(op, x, axis, keepdims, lowest: bool):
    """max or min, with the dtype's limit where there is nothing to compare."""
    if x.numel():
        return op(x.astype(np.uint8) if x.dtype == bool else x, axis=axis, keepdims=keepdims)
    shape = np.zeros(x.shape).sum(axis=axis, keepdims=keepdims).shape
    ends = (False, True) if x.dtype == bool else (-np.inf, np.inf)
    if x.dtype.kind in "iu":
        ends = (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return Tensor(np.full(shape, ends[0] if lowest else ends[1], x.dtype))


@since(1, family="pool")
def ReduceSum(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(ops.sum, x, axes, keepdims, noop_with_empty_axes)


@since(1, family="pool")
def ReduceMean(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(ops.mean, x, axes, keepdims, noop_with_empty_axes)


@since(1, family="pool")
def ReduceProd(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(ops.prod, x, axes, keepdims, noop_with_empty_axes)


@since(1, family="pool")
def ReduceMax(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(_max, x, axes, keepdims, noop_with_empty_axes)


@since(1, family="pool")
def ReduceMin(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(_min, x, axes, keepdims, noop_with_empty_axes)


@since(1, family="pool")
def ReduceLogSumExp(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(ops.logsumexp, x, axes, keepdims, noop_with_empty_axes)


@since(1, family="pool")
def ReduceL1(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(_norm_1, x, axes, keepdims, noop_with_empty_axes, ops.abs)


@since(1, family="pool")
def ReduceL2(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(_norm_2, x, axes, keepdims, noop_with_empty_axes, ops.abs)


@since(1, family="pool")
def ReduceLogSum(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(_log_sum, x, axes, keepdims, noop_with_empty_axes, ops.log)


@since(1, family="pool")
def ReduceSumSquare(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
    return _reduced(_sum_square, x, axes, keepdims, noop_with_empty_axes, ops.square)


def _arg(op, x, axis, keepdims, last):
    if not last:
        return op(x, axis=axis, keepdims=bool(keepdims))
    return x.shape[axis] - 1 - op(ops.flip(x, axis=axis), axis=axis, keepdims=bool(keepdims))


@since(1, family="pool")
def ArgMax(x, *, axis=0, keepdims=1, select_last_index=0):
    return _arg(ops.argmax, x, axis, keepdims, select_last_index)


@since(1, family="pool")
def ArgMin(x, *, axis=0, keepdims=1, select_last_index=0):
    return _arg(ops.argmin, x, axis, keepdims, select_last_index)


def _cumulative(op, neutral, x, axis, exclusive, reverse):
    axis = int(scalar(axis)) % x.ndim
    x = ops.flip(x, axis=axis) if reverse else x
    y = op(x, axis=axis).astype(x.dtype)
    if exclusive:                                  # what came before: shifted by one
        before = [(1, 0) if i == axis else (0, 0) for i in range(x.ndim)]
        y = ops.pad(y, before, value=neutral)[(slice(None),) * axis + (slice(0, x.shape[axis]),)]
    return ops.flip(y, axis=axis) if reverse else y


@since(11, family="pool", rank="first")
def CumSum(x, axis, *, exclusive=0, reverse=0):
    return _cumulative(ops.cumsum, 0, x, axis, exclusive, reverse)


@since(26, family="pool")
def CumProd(x, axis, *, exclusive=0, reverse=0):
    return _cumulative(ops.cumprod, 1, x, axis, exclusive, reverse)


@since(11, family="pool", rank="first")
def TopK(x, k, *, axis=-1, largest=1, sorted=1):
    return ops.topk(x, int(scalar(k)), axis, bool(largest))

# --- written --------------------------------------------------------------------------------------------------------------


def _written(operator: str, whole: type | None = None):
    """whole: the dtype in which integers are reduced."""
    def rule(w, x, *, axis=None, keepdims=False):
        integers = x.dtype.kind in "iub" and whole is not None and x.dtype != whole
        return w.reduced(getattr(w, operator), w.cast(w.name(x), whole) if integers else x, axis, keepdims)
    return rule


for _op, _operator, _whole in (("sum", ReduceSum, np.int64), ("prod", ReduceProd, np.int64), ("max", ReduceMax, None),
                               ("mean", ReduceMean, np.float32), ("logsumexp", ReduceLogSumExp, np.float32),
                               ("min", ReduceMin, None)):
    writes(_op)(_written(_operator.__name__, _whole))


@writes("var")
def _var(w, x, *, axis=None, correction=1, keepdims=False):
    axes = list(range(x.ndim)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    count = math.prod(w.shape(x)[a] for a in axes)
    centered = w.Sub(x, w.reduced(w.ReduceMean, x, axes))
    return w.Div(w.reduced(w.ReduceSum, w.Mul(centered, centered), axes, keepdims), w.name(count - correction, x.dtype))


@writes("std")
def _std(w, x, **attrs):
    return w.Sqrt(_var(w, x, **attrs))


@writes("vector_norm")
def _vector_norm(w, x, *, ord=2, axis=None, keepdims=False):
    if ord in (1, 2):
        return w.reduced(w.ReduceL1 if ord == 1 else w.ReduceL2, x, axis, keepdims)
    if math.isinf(ord):
        return w.reduced(w.ReduceMax if ord > 0 else w.ReduceMin, w.Abs(x), axis, keepdims)
    if ord == 0:
        return w.reduced(w.ReduceSum, w.cast(w.Cast(w.Abs(x), to=9), x.dtype), axis, keepdims)
    powers = w.reduced(w.ReduceSum, w.Pow(w.Abs(x), w.name(ord, x.dtype)), axis, keepdims)
    return w.Pow(powers, w.name(1 / ord, x.dtype))


@writes("argmax")
def _arg_max(w, x, *, axis=None, keepdims=False):
    return w.ArgMax(x if axis is not None else w.Reshape(x, w.ints(-1)), axis=axis or 0, keepdims=int(keepdims))


@writes("argmin")
def _arg_min(w, x, *, axis=None, keepdims=False):
    return w.ArgMin(x if axis is not None else w.Reshape(x, w.ints(-1)), axis=axis or 0, keepdims=int(keepdims))


@writes("cumsum")
def _cumsum(w, x, *, axis):
    return w.CumSum(x, w.constant(np.array(axis, np.int64)))


@writes("cumprod")
def _cumprod(w, x, *, axis):
    """Opset 26 has CumProd; before it, a row for each place: the product of what comes up to it, and of ones."""
    axis %= x.ndim
    if w.has("CumProd"):
        return w.CumProd(x, w.constant(np.array(axis, np.int64)))
    n, back = w.shape(x)[axis], [*range(axis), *range(axis + 1, x.ndim), axis]
    rows = w.Unsqueeze(w.transposed(w.name(x), back), w.ints(-2))
    products = w.reduced(w.ReduceProd, w.Where(w.constant(np.tri(n, dtype=bool)), rows, w.name(1, x.dtype)), -1, False)
    return w.transposed(products, [back.index(i) for i in range(x.ndim)])


@writes("all")
def _all(w, x, *, axis=None, keepdims=False):
    return w.cast(w.reduced(w.ReduceMin, w.cast(w.cast(w.name(x), np.bool_), np.int32), axis, keepdims), np.bool_)


@writes("any")
def _any(w, x, *, axis=None, keepdims=False):
    return w.cast(w.reduced(w.ReduceMax, w.cast(w.cast(w.name(x), np.bool_), np.int32), axis, keepdims), np.bool_)


@writes("argsort")
def _argsort(w, x, *, axis=-1, descending=False):
    source = w.cast(w.name(x), np.int32) if x.dtype.kind == "b" else x
    return w.TopK(source, w.ints(w.shape(x)[axis]), axis=axis, largest=int(descending), outputs=2)[1]


@writes("argtopk")
def _argtopk(w, x, *, k, axis, largest):
    return w.TopK(x, w.ints(k), axis=axis, largest=int(largest), outputs=2)[1]


@writes("argkth")
def _argkth(w, x, *, k, axis):
    return w.Gather(_argtopk(w, x, k=k + 1, axis=axis, largest=False), w.ints(k), axis=axis)
