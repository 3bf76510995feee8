"""Activations, softmax and dropout."""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from ...random import default_generator
from .table import is_true, number, scalar, since, writes


@since(1, family="activation", rank="first")
def LeakyRelu(x, *, alpha=0.01):
    return ops.leaky_relu(x, negative_slope=alpha)


@since(7, family="activation", rank="broadcast")
def PRelu(x, slope):
    return ops.where(x > 0, x, slope * x)


@since(1)
def PRelu_1(x, slope, *, consumed_inputs=None):
    """Before opset 7 the slope was one number, or one a channel."""
    return ops.prelu(x, slope)


@since(1, family="activation", rank="first")
def Elu(x, *, alpha=1.0):
    return ops.elu(x, alpha=alpha)


@since(1, family="activation", rank="first")
def Selu(x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return ops.selu(x, alpha=alpha, gamma=gamma)


@since(12, family="activation", rank="first")
def Celu(x, *, alpha=1.0):
    return ops.celu(x, alpha=alpha)


@since(20, family="activation", rank="first")
def Gelu(x, *, approximate="none"):
    return ops.gelu_tanh(x) if approximate == "tanh" else ops.gelu(x)


@since(1, family="activation", rank="first")
def HardSigmoid(x, *, alpha=0.2, beta=0.5):
    return ops.hardsigmoid(x, alpha, beta)


@since(14, family="activation", rank="first")
def HardSwish(x):
    return ops.hardswish(x)


@since(18, family="activation", rank="first")
def Mish(x):
    return ops.mish(x)


@since(1, family="activation", rank="first")
def ThresholdedRelu(x, *, alpha=1.0):
    return ops.where(x > alpha, x, 0.0)


@since(9, family="activation", rank="first")
def Shrink(x, *, bias=0.0, lambd=0.5):
    return ops.where(x < -lambd, x + bias, ops.where(x > lambd, x - bias, 0.0)).astype(x.dtype)


@since(24, family="activation", rank="first")
def Swish(x, *, alpha=1.0):
    return x * ops.sigmoid(alpha * x)


@since(13, family="activation", rank="first")
def Hardmax(x, *, axis=-1):
    """1 at the first largest value along axis, 0 elsewhere."""
    first = ops.argmax(x, axis=axis, keepdims=True)
    return ops.scatter(ops.zeros_like(x), first, 1.0, axis=axis)


@since(1)
def Hardmax_1(x, *, axis=1):
    return Hardmax(_flat_from(x, axis)).reshape(x.shape)


@since(13, family="activation", rank="first")
def Softmax(x, *, axis=-1):
    return ops.softmax(x, axis=axis)


@since(1)
def Softmax_1(x, *, axis=1):
    """Before opset 13, everything from axis on counted as one."""
    return ops.softmax(_flat_from(x, axis), axis=-1).reshape(x.shape)


@since(13, family="activation", rank="first")
def LogSoftmax(x, *, axis=-1):
    return ops.log_softmax(x, axis=axis)


@since(1)
def LogSoftmax_1(x, *, axis=1):
    return ops.log_softmax(_flat_from(x, axis), axis=-1).reshape(x.shape)


def _flat_from(x, axis: int):
    axis %= x.ndim
    return x.reshape(math.prod(x.shape[:axis]), -1)


@since(7, rank="first")
def Dropout(x, ratio=None, training_mode=None, *, seed=None, outputs=1):
    """Drops in a model that trains (the graph says so by training_mode); otherwise it passes x on."""
    p = 0.5 if ratio is None else number(ratio)
    keep = np.ones(x.shape, bool)
    if training_mode is not None and is_true(scalar(training_mode)):
        draw = default_generator.numpy if seed is None else np.random.RandomState(seed)     # as ONNX's reference does
        keep = draw.uniform(0, 1, x.shape) >= scalar(p)
        x = x * (keep / (1.0 - p)).astype(x.dtype)
    return x if outputs == 1 else (x, Tensor(keep))

# --- written --------------------------------------------------------------------------------------------------------------


@writes("leaky_relu")
def _leaky_relu(w, x, *, negative_slope=0.01):
    return w.LeakyRelu(x, alpha=negative_slope)


@writes("elu")
def _elu(w, x, *, alpha=1.0):
    return w.Elu(x, alpha=alpha)


@writes("celu")
def _celu(w, x, *, alpha=1.0):
    return w.Celu(x, alpha=alpha)


@writes("selu")
def _selu(w, x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return w.Selu(x, alpha=alpha, gamma=gamma)


@writes("hardtanh")
def _hardtanh(w, x, *, min_val=-1.0, max_val=1.0):
    return w.Clip(x, w.name(min_val, x.dtype), w.name(max_val, x.dtype))


@writes("hardswish")
def _hardswish(w, x):
    if w.opset >= 14:
        return w.HardSwish(x)
    return w.Mul(x, w.HardSigmoid(x, alpha=1 / 6, beta=0.5))


@writes("softmax")
def _softmax(w, x, *, axis=-1):
    return w.Softmax(x, axis=axis)


@writes("log_softmax")
def _log_softmax(w, x, *, axis=-1):
    return w.LogSoftmax(x, axis=axis)


@writes("gelu")
def _gelu(w, x):
    if w.opset >= 20:
        return w.Gelu(x)
    cdf = w.Add(w.Erf(w.Mul(x, w.name(math.sqrt(0.5), x.dtype))), w.name(1.0, x.dtype))
    return w.Mul(w.Mul(x, w.name(0.5, x.dtype)), cdf)


@writes("gelu_tanh")
def _gelu_tanh(w, x):
    if w.opset >= 20:
        return w.Gelu(x, approximate="tanh")
    one = w.name(1.0, x.dtype)
    factor = w.Add(w.Mul(w.Mul(x, x), w.name(0.044715, x.dtype)), one)
    share = w.Add(w.Tanh(w.Mul(w.Mul(x, w.name(math.sqrt(2 / math.pi), x.dtype)), factor)), one)
    return w.Mul(w.Mul(x, w.name(0.5, x.dtype)), share)
