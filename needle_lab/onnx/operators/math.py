"""ONNX operators that compute value by value, and products.  Those that are one op of the same meaning: `plain`."""

# ruff: noqa: N802    functions are named after ONNX operators

import functools

import ml_dtypes
import numpy as np
import onnx

from ... import Tensor, nn, ops
from ...ops.matrices import det
from ..values import numpy_dtype, value_of
from .layers import Fill, Layer, NodeView, with_bias
from .table import layer_of, number, since, writes


@since(1, rank="broadcast")
def Div(a, b):
    """Integers divide towards zero."""
    if a.dtype.kind in "iu":
        return Tensor(np.trunc(a.numpy() / b.numpy()).astype(a.dtype)) if a.dtype.kind == "i" else a // b
    return a / b


@since(1, rank="broadcast")
def BitShift(x, y, *, direction):
    values, places = x.numpy(), y.numpy()
    return Tensor(np.left_shift(values, places) if direction == "LEFT" else np.right_shift(values, places))


@since(1, rank="broadcast")
def Pow(a, b):
    """In the dtype of the base."""
    return ops.pow(a, b).astype(a.dtype)


@since(1, rank="broadcast")
def Equal(a, b):
    return Tensor(a == b) if isinstance(a, np.ndarray) else ops.eq(a, b)


@since(10, rank="broadcast")
def Mod(a, b, *, fmod=0):
    return ops.fmod(a, b) if fmod else ops.remainder(a, b)


@since(1, rank="first")
def Identity(value):
    """Any value: a tensor, text, a sequence, an optional."""
    return value


@since(1, family="pool", rank="broadcast")
def Sum(*tensors):
    return functools.reduce(ops.add, tensors)


@since(1, family="pool", rank="broadcast")
def Mean(*tensors):
    return functools.reduce(ops.add, tensors) * (1.0 / len(tensors))


@since(1, family="pool", rank="broadcast")
def Max(*tensors):
    return functools.reduce(ops.maximum, tensors)


@since(1, family="pool", rank="broadcast")
def Min(*tensors):
    return functools.reduce(ops.minimum, tensors)


@since(1, rank="first")
def Clip(x, min=None, max=None):
    return ops.clip(x, number(min), number(max))


@since(1, rank="first")
def IsInf(x, *, detect_negative=1, detect_positive=1):
    infinite = ops.isinf(x)
    return infinite & ((x < 0) if not detect_positive else (x > 0) if not detect_negative else infinite)


@since(1, rank="first")
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


@since(15, rank="first")
def CastLike(x, like, *, saturate=1, round_mode="up"):
    return Cast(x, to=8 if isinstance(like, np.ndarray) else onnx.helper.np_dtype_to_tensor_dtype(like.dtype),
                saturate=saturate, round_mode=round_mode)

# --- products -------------------------------------------------------------------------------------------------------


@since(1, family="linear", rank=2, weights=(1, 2))
def Gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0, broadcast=0):
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y if alpha == 1.0 else alpha * y
    return y if c is None or beta == 0 else y + (c if beta == 1.0 else beta * c)


@since(1, family="linear", rank="product", weights=(0, 1))
def MatMul(a, b):
    return ops.matmul(a, b)


@layer_of(MatMul)
def _product_layer(node: NodeView) -> Layer | None:
    """x @ W with a matrix W; the importer joins the Add of a bias behind it to the same node."""
    weight = node.weights[1]
    if weight is None or weight.ndim != 2:
        return None
    module = nn.Linear(weight.shape[0], weight.shape[1], bias=len(node.inputs) > 2)
    return with_bias(node, module, {"weight": Fill(1, "transposed", np.transpose)})


@layer_of(Gemm)
def _linear_layer(node: NodeView) -> Layer | None:
    weight, a = node.weights[1], node.attrs
    if weight is None or a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
        return None
    bias = node.weights[2] if len(node.inputs) > 2 else None
    outputs, inputs = weight.shape if a.get("transB", 0) else weight.shape[::-1]
    if bias is not None and bias.shape != (outputs,):
        return None
    fill = Fill(1) if a.get("transB", 0) else Fill(1, "transposed", np.transpose)
    return with_bias(node, nn.Linear(inputs, outputs, bias=len(node.inputs) > 2), {"weight": fill})


@writes("linear")
def _linear(w, x, weight, bias=None):
    if x.ndim == 2:
        return w.Gemm(x, weight, bias, transB=1)
    y = w.MatMul(x, w.transposed(w.name(weight), [1, 0]))
    return y if bias is None else w.Add(y, bias)


@since(11)
def Det(x):
    return det(x)


@since(12, family="linear")
def Einsum(*tensors, equation):
    return ops.einsum(equation, *tensors)

# --- written --------------------------------------------------------------------------------------------------------------


@writes("cast")
def _cast(w, x, *, dtype):
    return w.cast(w.name(x), dtype)


@writes("fmod")
def _fmod(w, a, b):
    return w.Mod(*w.operands((a, b)), fmod=1)


@writes("clip_low")
def _clip_low(w, x, low):
    return w.Max(*w.operands((x, low)))


@writes("clip_high")
def _clip_high(w, x, high):
    return w.Min(*w.operands((x, high)))


@writes("det")
def _det(w, x):
    return w.Det(x)


@writes("einsum")
def _einsum(w, *tensors, equation):
    return w.Einsum(*w.operands(tensors), equation=equation)
