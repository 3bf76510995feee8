"""ONNX operators that compute value by value, and their reductions and products."""

# ruff: noqa: N802    functions are named after ONNX operators

import functools
import math

import ml_dtypes
import numpy as np
import onnx

from ... import Tensor, ops
from ...core.graph import OPS
from ...random import default_generator
from ..values import numpy_dtype, value_of
from .table import TABLE, ints, is_true, number, scalar, since

# Operators that are one op of the same meaning: the op's own `onnx` name says which.
_SAME = ("Neg Abs Reciprocal Sign Floor Ceil Round Exp Log Sqrt Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh "
         "Atanh Erf Relu Sigmoid Softplus Softsign IsNaN Not Sub Mul Add Less LessOrEqual Greater "
         "GreaterOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Where MatMul")


def _same(name, *inputs):
    return OPS[name](*inputs)


for _op in OPS.values():
    if _op.onnx in _SAME.split():
        TABLE[_op.onnx] = {1: functools.partial(_same, _op.name)}


@since(1)
def Div(a, b):
    """Integers divide towards zero."""
    if a.dtype.kind in "iu":
        return Tensor(np.trunc(a.numpy() / b.numpy()).astype(a.dtype)) if a.dtype.kind == "i" else a // b
    return a / b


@since(1)
def BitShift(x, y, *, direction):
    values, places = x.numpy(), y.numpy()
    return Tensor(np.left_shift(values, places) if direction == "LEFT" else np.right_shift(values, places))


@since(1)
def Pow(a, b):
    """In the dtype of the base."""
    return ops.pow(a, b).astype(a.dtype)


@since(1)
def Equal(a, b):
    return Tensor(a == b) if isinstance(a, np.ndarray) else ops.eq(a, b)


@since(10)
def Mod(a, b, *, fmod=0):
    return ops.fmod(a, b) if fmod else ops.remainder(a, b)


@since(1)
def Identity(value):
    """Any value: a tensor, text, a sequence, an optional."""
    return value


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
    return ops.clip(x, number(min), number(max))


@since(1)
def IsInf(x, *, detect_negative=1, detect_positive=1):
    infinite = ops.isinf(x)
    return infinite & ((x < 0) if not detect_positive else (x > 0) if not detect_negative else infinite)


@since(1)
def Cast(x, *, to, saturate=1, round_mode="up"):
    """To another dtype; text to and from numbers too. Float8 and narrower take their limit for what is beyond it."""
    if isinstance(x, np.ndarray):                            # text
        return value_of(x) if to == STRING else Tensor(x.astype(np.float64).astype(numpy_dtype(to)))
    if to == STRING:
        return np.array([str(v) for v in x.numpy().reshape(-1)], dtype=object).reshape(x.shape)
    return x.astype(numpy_dtype(to)) if is_wide(numpy_dtype(to)) else Tensor(
        to_narrow(x.numpy(), numpy_dtype(to), bool(saturate), round_mode))


STRING = 8                                                   # TensorProto.STRING


def is_wide(dtype: np.dtype) -> bool:
    """Whether numpy's own conversion is ONNX's: all but float8, float4 and 4-bit and 2-bit integers."""
    return dtype.kind != "V" and "float8" not in dtype.name and "float4" not in dtype.name or dtype.name == "bfloat16"


def to_narrow(x: np.ndarray, dtype: np.dtype, saturate: bool, round_mode: str) -> np.ndarray:
    if "int" in dtype.name:
        return x.astype(np.int64).astype(dtype)
    values = x.astype(np.float32)
    if dtype.name == "float8_e8m0fnu":                       # powers of two only
        return _power_of_two(values, saturate, round_mode).astype(dtype)
    limit = float(ml_dtypes.finfo(dtype).max)
    if saturate:
        values = np.where(np.isnan(values), values, np.clip(values, -limit, limit))
    return values.astype(dtype)


def _power_of_two(values: np.ndarray, saturate: bool, round_mode: str) -> np.ndarray:
    mantissa, exponent = np.frexp(np.abs(values))            # |x| = mantissa * 2^exponent, 0.5 <= mantissa < 1
    exponent = exponent.astype(np.int64) - 1
    if round_mode == "up":
        exponent += mantissa > 0.5
    elif round_mode == "nearest":
        exponent += mantissa >= 0.75
    exponent = np.where(values == 0, -127, exponent)
    limited = np.clip(exponent, -127, 127)
    result = np.ldexp(np.float64(1), limited)
    beyond = (exponent > 127) | np.isinf(values)
    result = np.where(beyond, np.ldexp(np.float64(1), 127) if saturate else np.nan, result)
    return np.where(np.isnan(values), np.nan, result).astype(np.float32)


@since(26)
def BitCast(x, *, to):
    """The same bits read as another dtype of the same width."""
    return Tensor(np.ascontiguousarray(x.numpy()).view(numpy_dtype(to)).reshape(x.shape))


@since(15)
def CastLike(x, like, *, saturate=1, round_mode="up"):
    return Cast(x, to=8 if isinstance(like, np.ndarray) else onnx.helper.np_dtype_to_tensor_dtype(like.dtype),
                saturate=saturate, round_mode=round_mode)

# --- activations ----------------------------------------------------------------------------------------------------


@since(1)
def LeakyRelu(x, *, alpha=0.01):
    return ops.leaky_relu(x, negative_slope=alpha)


@since(7)
def PRelu(x, slope):
    return ops.where(x > 0, x, slope * x)


@since(1)
def PRelu_1(x, slope, *, consumed_inputs=None):
    """Before opset 7 the slope was one number, or one a channel."""
    return ops.prelu(x, slope)


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


@since(9)
def Shrink(x, *, bias=0.0, lambd=0.5):
    return ops.where(x < -lambd, x + bias, ops.where(x > lambd, x - bias, 0.0)).astype(x.dtype)


@since(24)
def Swish(x, *, alpha=1.0):
    return x * ops.sigmoid(alpha * x)


@since(13)
def Hardmax(x, *, axis=-1):
    """1 at the first largest value along axis, 0 elsewhere."""
    first = ops.argmax(x, axis=axis, keepdims=True)
    return ops.scatter(ops.zeros_like(x), first, 1.0, axis=axis)


@since(1)
def Hardmax_1(x, *, axis=1):
    return Hardmax(_flat_from(x, axis)).reshape(x.shape)


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
    p = 0.5 if ratio is None else number(ratio)
    keep = np.ones(x.shape, bool)
    if training_mode is not None and is_true(scalar(training_mode)):
        draw = default_generator.numpy if seed is None else np.random.RandomState(seed)     # as ONNX's reference does
        keep = draw.uniform(0, 1, x.shape) >= scalar(p)
        x = x * (keep / (1.0 - p)).astype(x.dtype)
    return x if outputs == 1 else (x, Tensor(keep))

# --- before opset 7: broadcasting only where an attribute asked for it ------------------------------------------------


def _legacy(function):
    def operator(a, b, *, axis=None, broadcast=0, consumed_inputs=None):
        if broadcast and axis is not None:                   # b's first axis stands at this axis of a
            b = b.reshape(*b.shape, *(1,) * (a.ndim - axis % a.ndim - b.ndim))
        return function(a, b)
    return operator


for _name in "Add Sub Mul Div Pow And Or Xor Equal Less Greater".split():
    TABLE[_name] = {1: _legacy(TABLE[_name][1]), 7: TABLE[_name][1]}

# --- reductions -----------------------------------------------------------------------------------------------------


def _reduction(reduce, pointwise=None):
    """An ONNX reduction; pointwise is what it does to each value where there are no axes to reduce."""
    def function(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        axis = ints(axes)
        if not axis:
            if noop_with_empty_axes:
                return pointwise(x) if pointwise else x
            axis = None
        return reduce(x, axis=axis, keepdims=bool(keepdims)).astype(x.dtype)
    return function


def _log_sum(x, axis, keepdims):
    return ops.log(ops.sum(x, axis=axis, keepdims=keepdims))


def _sum_square(x, axis, keepdims):
    return ops.sum(x * x, axis=axis, keepdims=keepdims)


def _extreme(op, lowest):
    """max or min, with the dtype's limit where there is nothing to compare."""
    def reduce(x, axis, keepdims):
        if x.size:
            return op(x.astype(np.uint8) if x.dtype == bool else x, axis=axis, keepdims=keepdims)
        shape = np.zeros(x.shape).sum(axis=axis, keepdims=keepdims).shape
        ends = (False, True) if x.dtype == bool else (-np.inf, np.inf)
        if x.dtype.kind in "iu":
            ends = (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        return Tensor(np.full(shape, ends[0] if lowest else ends[1], x.dtype))
    return reduce


def _norm(p):
    return lambda x, axis, keepdims: ops.norm(x, p, axis, keepdims)


_REDUCTIONS = {                  # operator: (over axes, on each value where there are no axes to reduce)
    "ReduceSum": (ops.sum, None), "ReduceMean": (ops.mean, None), "ReduceProd": (ops.prod, None),
    "ReduceMax": (_extreme(ops.max, True), None), "ReduceMin": (_extreme(ops.min, False), None),
    "ReduceLogSumExp": (ops.logsumexp, None), "ReduceL1": (_norm(1), ops.abs), "ReduceL2": (_norm(2), ops.abs),
    "ReduceLogSum": (_log_sum, ops.log), "ReduceSumSquare": (_sum_square, ops.square),
}
for _name, _functions in _REDUCTIONS.items():
    TABLE[_name] = {1: _reduction(*_functions)}


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


def _cumulative(op, neutral, x, axis, exclusive, reverse):
    axis = int(scalar(axis)) % x.ndim
    x = ops.flip(x, axis=axis) if reverse else x
    y = op(x, axis=axis).astype(x.dtype)
    if exclusive:                                  # what came before: shifted by one
        before = [(1, 0) if i == axis else (0, 0) for i in range(x.ndim)]
        y = ops.pad(y, before, value=neutral)[(slice(None),) * axis + (slice(0, x.shape[axis]),)]
    return ops.flip(y, axis=axis) if reverse else y


@since(11)
def CumSum(x, axis, *, exclusive=0, reverse=0):
    return _cumulative(ops.cumsum, 0, x, axis, exclusive, reverse)


@since(26)
def CumProd(x, axis, *, exclusive=0, reverse=0):
    return _cumulative(ops.cumprod, 1, x, axis, exclusive, reverse)


@since(11)
def TopK(x, k, *, axis=-1, largest=1, sorted=1):
    return ops.topk(x, int(scalar(k)), axis, bool(largest))

# --- products -------------------------------------------------------------------------------------------------------


@since(1)
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0, broadcast=0):
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y if alpha == 1.0 else alpha * y
    return y if c is None or beta == 0 else y + (c if beta == 1.0 else beta * c)


@since(11)
def Det(x):
    """The determinant of the last two axes, by Gaussian elimination with pivots, written in ops."""
    matrix, sign = x, np.ones(x.shape[:-2], x.dtype)
    product = None
    for k in range(x.shape[-1]):
        pivot = np.abs(matrix.numpy()[..., k:, k]).argmax(-1) + k
        sign = np.where(pivot == k, sign, -sign)
        order = np.broadcast_to(np.arange(x.shape[-1]), (*x.shape[:-2], x.shape[-1])).copy()
        np.put_along_axis(order, np.expand_dims(pivot, -1), k, -1)
        order[..., k] = pivot
        rows = np.broadcast_to(order[..., None], x.shape)
        matrix = ops.take_along_axis(matrix, rows, axis=matrix.ndim - 2)
        top = matrix[..., k:k + 1, :]
        head = top[..., k:k + 1]
        product = head[..., 0, 0] if product is None else product * head[..., 0, 0]
        if k + 1 < x.shape[-1]:
            below = matrix[..., k + 1:, :]
            safe = ops.where(head == 0.0, 1.0, head)
            matrix = ops.concat([matrix[..., :k + 1, :], below - below[..., k:k + 1] / safe * top], -2)
    return product * sign


@since(12)
def Einsum(*tensors, equation):
    return ops.einsum(equation, *tensors)

