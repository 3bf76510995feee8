"""Activations: ReLU and its kin, sigmoid, GELU, each value for itself; softmax over an axis."""

import math

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array
from ..errors import ArgumentError, ShapeError
from .elementwise import _erf, abs, elementwise, erf, exp, minimum, real, square, tanh, where
from .reduce import added
from .reduce import sum as sum_
from .shape import chunk

# --- value by value -------------------------------------------------------------------------------------------------


@elementwise(gradient=lambda g, y: g * (y > 0), onnx="Relu")
def relu(x: Array) -> Array:
    """max(x, 0).  torch.nn.functional.relu, ONNX Relu."""
    return np.maximum(x, 0)


@real(gradient=lambda g, y: g * y * (1.0 - y), onnx="Sigmoid")
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), times exp(x) / exp(x) where x < 0, so that nothing overflows.  torch.sigmoid."""
    return np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x)))


@real(gradient=lambda g, x: g * sigmoid(x), onnx="Softplus")
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow for large x.  ONNX Softplus, torch.nn.functional.softplus."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


@real(gradient=lambda g, x: g / square(1.0 + abs(x)), onnx="Softsign")
def softsign(x: Array) -> Array:
    """x / (1 + |x|).  torch.nn.functional.softsign, ONNX Softsign."""
    return x / (1.0 + np.abs(x))


@real(onnx="LeakyRelu")
def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> Array:
    """x where positive, negative_slope * x elsewhere.  ONNX calls negative_slope alpha.  torch.nn.functional.leaky_relu."""
    return np.where(x > 0, x, negative_slope * x)


@leaky_relu.gradient
def leaky_relu_gradient(g: Tensor, x: Tensor, negative_slope: float) -> Tensor:
    return where(x > 0, g, negative_slope * g)


@real(onnx="Elu")
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., 2015).  torch.nn.functional.elu."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@elu.gradient
def elu_gradient(g: Tensor, x: Tensor, alpha: float) -> Tensor:
    return where(x > 0, g, g * alpha * exp(minimum(x, 0.0)))


@real(onnx="Selu")
def selu(x: Array, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Array:
    """gamma * elu(x, alpha), which keeps mean 0 and variance 1 (Klambauer et al., 2017).  torch.nn.functional.selu."""
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@selu.gradient
def selu_gradient(g: Tensor, x: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * where(x > 0, g, g * alpha * exp(minimum(x, 0.0)))


@real()
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere (Barron, 2017).  ONNX Celu.  torch.nn.functional.celu."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


@celu.gradient
def celu_gradient(g: Tensor, x: Tensor, alpha: float) -> Tensor:
    return where(x > 0, g, g * exp(minimum(x, 0.0) / alpha))


@real(gradient=lambda g, x: g * (normal_cdf(x) + x * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))), onnx="Gelu")
def gelu(x: Array) -> Array:
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016): exact.  torch.nn.functional.gelu."""
    return 0.5 * x * (1.0 + _erf(x * 0.7071067811865476))


def normal_cdf(x: Tensor) -> Tensor:
    """The distribution function of the standard normal.  torch.special.ndtr."""
    return 0.5 * (1.0 + erf(x * math.sqrt(0.5)))


@real()
def gelu_tanh(x: Array) -> Array:
    """The tanh approximation of GELU, as GPT-2 uses it.  torch.nn.functional.gelu(approximate="tanh")."""
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))        # sqrt(2 / pi)


@gelu_tanh.gradient
def gelu_tanh_gradient(g: Tensor, x: Tensor) -> Tensor:
    t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
    slope = 0.7978845608028654 * (1.0 + 3 * 0.044715 * x * x)
    return g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)


@real()
def silu(x: Array) -> Array:
    """x * sigmoid(x), also called swish.  torch.nn.functional.silu."""
    return x * (np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x))))


@silu.gradient
def silu_gradient(g: Tensor, x: Tensor) -> Tensor:
    s = sigmoid(x)
    return g * s * (1.0 + x * (1.0 - s))


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where positive, weight * x elsewhere; weight (1,) or one value a channel of x (N, C, *size).  ONNX PRelu."""
    slope = weight.reshape(()) if weight.numel() == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))
    return where(x > 0, x, slope * x)


def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x)) (Misra, 2019).  ONNX Mish.  torch.nn.functional.mish."""
    return x * tanh(softplus(x))


def log_sigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow.  torch.nn.functional.logsigmoid."""
    return -softplus(-x)


def glu(x: Tensor, axis: int = -1) -> Tensor:
    """The first half of x along axis, times the sigmoid of the second (Dauphin et al., 2017).  torch.nn.functional.glu."""
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: axis {axis} of {x.shape} has no halves")
    first, second = chunk(x, 2, axis)
    return first * sigmoid(second)


def tanhshrink(x: Tensor) -> Tensor:
    """x - tanh(x).  torch.nn.functional.tanhshrink."""
    return x - tanh(x)


def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved by lambd towards 0, at most to 0.  torch.nn.functional.softshrink, ONNX Shrink (bias=lambd)."""
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd={lambd} must not be negative")
    return where(x > lambd, x - lambd, where(x < -lambd, x + lambd, x * 0.0))


def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    """x, and 0 where |x| <= lambd.  torch.nn.functional.hardshrink, ONNX Shrink."""
    return where((x >= -lambd) & (x <= lambd), 0.0, x)


def threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    """x where it is above the threshold, value elsewhere.  torch.nn.functional.threshold, ONNX ThresholdedRelu."""
    return where(x <= threshold, value, x)


@real()
def hardtanh(x: Array, *, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """x clipped to [min_val, max_val]; unlike `clip`, no gradient passes at the bounds.  torch.nn.functional.hardtanh."""
    return np.minimum(np.maximum(x, min_val), max_val)


@hardtanh.gradient
def hardtanh_gradient(g: Tensor, x: Tensor, min_val: float, max_val: float) -> Tensor:
    return where(x > min_val, where(x < max_val, g, 0.0), 0.0)


def relu6(x: Tensor) -> Tensor:
    """x clipped to [0, 6].  torch.nn.functional.relu6."""
    return hardtanh(x, min_val=0.0, max_val=6.0)


def hardsigmoid(x: Tensor, alpha: float = 1 / 6, beta: float = 0.5) -> Tensor:
    """alpha * x + beta clipped to [0, 1]; ONNX's default for alpha is 0.2."""
    return hardtanh(alpha * x + beta, min_val=0.0, max_val=1.0)


@real(gradient=lambda g, x: where(x <= -3.0, 0.0, where(x < 3.0, g * (x / 3.0 + 0.5), g)))
def hardswish(x: Array) -> Array:
    """x * min(max(x + 3, 0), 6) / 6, which is x * hardsigmoid(x) (Howard et al., 2019).  torch.nn.functional.hardswish."""
    return x * (np.minimum(np.maximum(x + 3.0, 0.0), 6.0) / 6.0)

# --- over an axis ---------------------------------------------------------------------------------------------------


@op(promote="float", onnx="Softmax")
def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along axis, shifted by the maximum so that nothing overflows.  torch.softmax.

    >>> ndl.softmax(ndl.tensor([0.0, 0.0, 1000.0]))
    tensor([0., 0., 1.])
    """
    e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    e /= added(e, axis, True)
    return e


@softmax.gradient
def softmax_gradient(g: Tensor, y: Tensor, axis: int) -> Tensor:
    return y * (g - sum_(g * y, axis=axis, keepdims=True))


@op(promote="float", onnx="LogSoftmax")
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """log(softmax(x)), computed without the detour through small numbers.  torch.log_softmax."""
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(added(np.exp(shifted), axis, True))


@log_softmax.gradient
def log_softmax_gradient(g: Tensor, y: Tensor, axis: int) -> Tensor:
    return g - exp(y) * sum_(g, axis=axis, keepdims=True)
