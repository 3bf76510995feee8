"""Softmax and its logarithm."""

import numpy as np

from ..core.graph import backward_kernel, op
from .elementwise import exp
from .reduce import sum as sum_


@op(promote="float", onnx="Softmax")
def softmax(x, *, axis=-1):
    """exp(x) / sum(exp(x)) along axis, shifted by the maximum so that nothing overflows."""
    e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    e /= np.sum(e, axis=axis, keepdims=True)
    return e


@softmax.gradient
def _(g, y, _x, axis=-1):
    return y * (g - sum_(g * y, axis=axis, keepdims=True))


@backward_kernel(softmax)
def _(_needs, g, y, _x, *, axis=-1):
    dx = g * y
    dx -= y * dx.sum(axis=axis, keepdims=True)
    return dx


@op(promote="float", onnx="LogSoftmax")
def log_softmax(x, *, axis=-1):
    """log(softmax(x)), computed without the detour through small numbers."""
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


@log_softmax.gradient
def _(g, y, _x, axis=-1):
    return g - exp(y) * sum_(g, axis=axis, keepdims=True)
