"""ONNX operators that compute value by value, and their reductions and products."""

# ruff: noqa: N802    functions are named after ONNX operators

import functools
import math

import numpy as np

from ... import Tensor, ops
from ...graph import OPS
from .registry import TABLE, ints, is_true, scalar, since

# Operators that are one op of the same meaning: the op's own `onnx` name says which.
_SAME = ("Neg Abs Reciprocal Sign Floor Ceil Round Exp Log Sqrt Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh "
         "Atanh Erf Relu Sigmoid Softplus Softsign IsNaN Not Identity Sub Mul Add Pow Equal Less LessOrEqual Greater "
         "GreaterOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Where MatMul")


for _op in OPS.values():
    if _op.onnx in _SAME.split():
        TABLE[_op.onnx] = {1: functools.partial(lambda op, *inputs: op(*inputs), _op)}


@since(1)
def Div(a, b):
    """Integers divide towards zero."""
    if a.dtype.kind in "iu":
        return Tensor(np.trunc(a.numpy() / b.numpy()).astype(a.dtype)) if a.dtype.kind == "i" else a // b
    return a / b


@since(10)
def Mod(a, b, *, fmod=0):
    return ops.fmod(a, b) if fmod else ops.remainder(a, b)


@since(1)
def Sum(*tensors):
    return functools.reduce(ops.add, tensors)


@since(1)
def Mean(*tensors):
    return functools.reduce(ops.add, tensors) * (1.0 / len(tensors))


@since(1)
def Max(*tensors):
    return functools.reduce(ops.maximum, tensors)


@since(1)
def Min(*tensors):
    return functools.reduce(ops.minimum, tensors)


@since(1)
def Clip(x, min=None, max=None):
    return ops.clip(x, scalar(min), scalar(max))


@since(1)
def IsInf(x, *, detect_negative=1, detect_positive=1):
    infinite = ops.isinf(x)
    return infinite & ((x < 0) if not detect_positive else (x > 0) if not detect_negative else infinite)


@since(1)
def Cast(x, *, to, saturate=1, round_mode="up"):
    from ..reader import numpy_dtype
    return x.astype(numpy_dtype(to))


@since(15)
def CastLike(x, like, *, saturate=1, round_mode="up"):
    return x.astype(like.dtype)

# --- activations ----------------------------------------------------------------------------------------------------


@since(1)
def LeakyRelu(x, *, alpha=0.01):
    return ops.leaky_relu(x, negative_slope=alpha)


@since(1)
def PRelu(x, slope):
    return ops.where(x > 0, x, slope * x)


@since(1)
def Elu(x, *, alpha=1.0):
    return ops.elu(x, alpha=alpha)


@since(1)
def Selu(x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return ops.selu(x, alpha=alpha, gamma=gamma)


@since(12)
def Celu(x, *, alpha=1.0):
    return ops.celu(x, alpha=alpha)


@since(20)
def Gelu(x, *, approximate="none"):
    return ops.gelu_tanh(x) if approximate == "tanh" else ops.gelu(x)


@since(1)
def HardSigmoid(x, *, alpha=0.2, beta=0.5):
    return ops.hardsigmoid(x, alpha, beta)


@since(14)
def HardSwish(x):
    return ops.hardswish(x)


@since(18)
def Mish(x):
    return ops.mish(x)


@since(1)
def ThresholdedRelu(x, *, alpha=1.0):
    return ops.where(x > alpha, x, 0.0)


@since(13)
def Softmax(x, *, axis=-1):
    return ops.softmax(x, axis=axis)


@since(1)
def Softmax_1(x, *, axis=1):
    """Before opset 13, everything from axis on counted as one."""
    return ops.softmax(_flat_from(x, axis), axis=-1).reshape(x.shape)


@since(13)
def LogSoftmax(x, *, axis=-1):
    return ops.log_softmax(x, axis=axis)


@since(1)
def LogSoftmax_1(x, *, axis=1):
    return ops.log_softmax(_flat_from(x, axis), axis=-1).reshape(x.shape)


def _flat_from(x, axis: int):
    axis %= x.ndim
    return x.reshape(math.prod(x.shape[:axis]), -1)


@since(7)
def Dropout(x, ratio=None, training_mode=None, *, seed=None, outputs=1):
    """Drops in a model that trains (the graph says so by training_mode); otherwise it passes x on."""
    p = 0.5 if ratio is None else scalar(ratio)
    active = training_mode is not None and is_true(scalar(training_mode)) and p > 0
    y = ops.dropout(x, p) if active else x
    if outputs == 1:
        return y
    return y, (y != 0) if active else Tensor(np.ones(x.shape, bool))

# --- reductions -----------------------------------------------------------------------------------------------------


def _reduction(reduce):
    def function(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        axis = ints(axes)
        if not axis:
            if noop_with_empty_axes:
                return x
            axis = None
        return reduce(x, axis=axis, keepdims=bool(keepdims))
    return function


def _log_sum(x, axis, keepdims):
    return ops.log(ops.sum(x, axis=axis, keepdims=keepdims))


def _sum_square(x, axis, keepdims):
    return ops.sum(x * x, axis=axis, keepdims=keepdims)


def _norm(p):
    return lambda x, axis, keepdims: ops.norm(x, p, axis, keepdims)


for _name, _reduce in {"ReduceSum": ops.sum, "ReduceMean": ops.mean, "ReduceProd": ops.prod, "ReduceMax": ops.max,
                       "ReduceMin": ops.min, "ReduceLogSumExp": ops.logsumexp, "ReduceL1": _norm(1), "ReduceL2": _norm(2),
                       "ReduceLogSum": _log_sum, "ReduceSumSquare": _sum_square}.items():
    TABLE[_name] = {1: _reduction(_reduce)}


def _arg(op, x, axis, keepdims, last):
    if not last:
        return op(x, axis=axis, keepdims=bool(keepdims))
    return x.shape[axis] - 1 - op(ops.flip(x, axis=axis), axis=axis, keepdims=bool(keepdims))


@since(1)
def ArgMax(x, *, axis=0, keepdims=1, select_last_index=0):
    return _arg(ops.argmax, x, axis, keepdims, select_last_index)


@since(1)
def ArgMin(x, *, axis=0, keepdims=1, select_last_index=0):
    return _arg(ops.argmin, x, axis, keepdims, select_last_index)


@since(11)
def CumSum(x, axis, *, exclusive=0, reverse=0):
    axis = int(scalar(axis)) % x.ndim
    x = ops.flip(x, axis=axis) if reverse else x
    y = ops.cumsum(x, axis=axis)
    y = y - x if exclusive else y
    return ops.flip(y, axis=axis) if reverse else y


@since(11)
def TopK(x, k, *, axis=-1, largest=1, sorted=1):
    return ops.topk(x, int(scalar(k)), axis, bool(largest))

# --- products -------------------------------------------------------------------------------------------------------


@since(1)
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y if alpha == 1.0 else alpha * y
    return y if c is None or beta == 0 else y + (c if beta == 1.0 else beta * c)


@since(12)
def Einsum(*tensors, equation):
    return ops.einsum(equation, *tensors)

