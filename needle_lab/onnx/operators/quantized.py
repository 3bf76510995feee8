"""ONNX operators of quantised arithmetic: integers that stand for (value - zero_point) * scale."""

# ruff: noqa: N802    functions are named after ONNX operators

import math
from typing import Any

import ml_dtypes
import numpy as np

from ... import Tensor, ops
from ..values import numpy_dtype
from .convolution import padding_of
from .table import since


def limits(dtype: np.dtype) -> tuple[float, float]:
    """The smallest and largest value of an integer or low-bit float dtype."""
    info: Any = ml_dtypes.iinfo(dtype) if is_integer(dtype) else ml_dtypes.finfo(dtype)
    return float(info.min), float(info.max)


def is_integer(dtype: np.dtype) -> bool:
    return "int" in dtype.name


def along(scale, x, axis: int, block_size: int = 0):
    """A scale or zero point brought to x's axes: one value, one a slice along axis, or one a block along axis."""
    if scale.ndim == 0 or math.prod(scale.shape) == 1:
        return scale.reshape(())
    if block_size or scale.ndim == x.ndim:
        size = block_size or x.shape[axis] // scale.shape[axis]
        repeat = ops.repeat_interleave if isinstance(scale, Tensor) else np.repeat
        return repeat(scale, size, axis)[tuple(slice(0, n) for n in x.shape)]
    return scale.reshape(*(-1 if i == axis % x.ndim else 1 for i in range(x.ndim)))


def _plain(x) -> np.ndarray:
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def saturate(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounded to the nearest (halves to even) and limited to the dtype's range."""
    low, high = limits(dtype)
    rounded = np.rint(values) if is_integer(dtype) else values
    limited = np.clip(rounded, low, high)
    return (limited.astype(np.int64) if is_integer(dtype) else limited.astype(np.float32)).astype(dtype)


def quantize(x: np.ndarray, scale, zero_point, dtype) -> np.ndarray:
    """x / scale rounded to the nearest integer (halves to even), moved by the zero point, limited to the dtype."""
    if not is_integer(dtype):
        return saturate(x / scale, dtype)
    return saturate(np.rint(x / scale) + (0 if zero_point is None else zero_point.astype(np.float32)), dtype)


@since(10, rank="first")
def QuantizeLinear(x, y_scale, y_zero_point=None, *, axis=1, block_size=0, output_dtype=0, precision=0, saturate=1):
    values, scale = _plain(x).astype(np.float32), _plain(y_scale).astype(np.float32)
    if y_zero_point is not None:
        zero = _plain(y_zero_point)
        dtype, zero = zero.dtype, along(zero, values, axis, block_size)
    else:
        dtype, zero = (numpy_dtype(output_dtype) if output_dtype else np.dtype(np.uint8)), None
    return Tensor(quantize(values, along(scale, values, axis, block_size), zero, dtype))


@since(10, rank="first")
def DequantizeLinear(x, x_scale, x_zero_point=None, *, axis=1, block_size=0, output_dtype=0):
    """(x - zero_point) * scale, differentiable in the scale."""
    dtype = numpy_dtype(output_dtype) if output_dtype else x_scale.dtype
    wide = np.result_type(np.float32, x_scale.dtype) if x_scale.dtype.kind == "f" else np.dtype(np.float32)
    values = _plain(x).astype(wide)
    if x_zero_point is not None:
        values = values - along(_plain(x_zero_point).astype(wide), values, axis, block_size)
    return (Tensor(values) * along(x_scale.astype(wide), values, axis, block_size)).astype(dtype)


@since(11)
def DynamicQuantizeLinear(x):
    """-> (x in uint8, its scale, its zero point), with the range chosen so that 0 is exact."""
    low, high = (ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)) if x.numel() else (x.sum(), x.sum())
    scale = (high - low) / 255.0
    scale = scale if scale.item() else ops.ones_like(scale)
    zero = saturate(-low.numpy() / scale.numpy(), np.dtype(np.uint8))
    return Tensor(quantize(_plain(x), scale.numpy(), zero, np.dtype(np.uint8))), scale, Tensor(zero)


def _offset(x, zero_point, axis: int) -> np.ndarray:
    """x - zero_point in int32; a zero point with one value a row (or column) stands along axis."""
    values = _plain(x).astype(np.int32)
    if zero_point is None:
        return values
    zero = _plain(zero_point).astype(np.int32)
    if zero.ndim == 1 and zero.size > 1:
        zero = zero.reshape(-1, 1) if axis == 0 else zero
    return values - zero


@since(10, family="linear")
def MatMulInteger(a, b, a_zero_point=None, b_zero_point=None):
    return Tensor(np.matmul(_offset(a, a_zero_point, 0), _offset(b, b_zero_point, 1)).astype(np.int32))


@since(10, family="linear")
def QLinearMatMul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point):
    product = np.matmul(_offset(a, a_zero_point, 0), _offset(b, b_zero_point, 1)).astype(np.float64)
    scale = _plain(a_scale).astype(np.float64) * _plain(b_scale).astype(np.float64) / _plain(y_scale).astype(np.float64)
    zero = _plain(y_zero_point)
    return Tensor(saturate(product * scale + zero.astype(np.float64), zero.dtype))


def _integer_conv(x, w, kernel_shape, strides, pads, dilations, group, auto_pad) -> np.ndarray:
    """A convolution of integers, exact in float64."""
    dims = w.ndim - 2
    return ops.conv(Tensor(x.astype(np.float64)), Tensor(w.astype(np.float64)), None, tuple(strides or (1,) * dims),
                    padding_of(pads, auto_pad, dims), tuple(dilations or (1,) * dims), group).numpy()


@since(10, family="linear")
def ConvInteger(x, w, x_zero_point=None, w_zero_point=None, *, kernel_shape=None, strides=None, pads=None, dilations=None,
                group=1, auto_pad="NOTSET"):
    kernel = _offset(w, None, 0)
    if w_zero_point is not None:
        kernel = kernel - _plain(w_zero_point).astype(np.int32).reshape(-1, *(1,) * (kernel.ndim - 1))
    y = _integer_conv(_offset(x, x_zero_point, 1), kernel, kernel_shape, strides, pads, dilations, group, auto_pad)
    return Tensor(y.astype(np.int32))


@since(10, family="linear")
def QLinearConv(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, b=None, *, kernel_shape=None,
                strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"):
    by_output = (-1, *(1,) * (w.ndim - 1))
    kernel = _offset(w, None, 0) - _plain(w_zero_point).astype(np.int32).reshape(
        by_output if w_zero_point.numel() > 1 else ())
    y = _integer_conv(_offset(x, x_zero_point, 1), kernel, kernel_shape, strides, pads, dilations, group, auto_pad)
    by_channel = (-1, *(1,) * (w.ndim - 2))
    if b is not None:
        y = y + _plain(b).reshape(by_channel)
    scale = _plain(x_scale).astype(np.float64) * _plain(w_scale).astype(np.float64) / _plain(y_scale).astype(np.float64)
    zero = _plain(y_zero_point)
    scale = scale.reshape(by_channel) if scale.size > 1 else scale
    return Tensor(saturate(y * scale + zero.astype(np.float64), zero.dtype))
