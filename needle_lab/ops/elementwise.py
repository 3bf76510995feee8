"""Elementwise ops: one expression each, which numpy evaluates and from which the Triton kernel is generated.

Every forward is a single `return <expression>` of numpy functions, operators and constants; inputs broadcast.
The engine sums gradients over broadcast axes, so no rule here mentions shapes.
"""

# ruff: noqa: A001    abs, pow, round, max, min are the names that NumPy and PyTorch use

import functools
import math

import numpy as np

from ..core.graph import backward_kernel, kernel, op
from ..kernels.numpy import special
from ..kernels.numpy.special import erf as _erf
from ..kernels.numpy.threads import elementwise as shared

elementwise = functools.partial(op, elementwise=True)                      # +, *: integers stay integers
real = functools.partial(op, elementwise=True, promote="float")            # exp, /: integers become float32

# --- arithmetic -----------------------------------------------------------------------------------------------------


@elementwise(vjp=lambda g, _y, _a, _b: (g, g), onnx="Add")
def add(a, b):
    return a + b


@elementwise(vjp=lambda g, _y, _a, _b: (g, lambda: -g), onnx="Sub")
def sub(a, b):
    return a - b


@elementwise(vjp=lambda g, _y, a, b: (lambda: g * b, lambda: g * a), onnx="Mul")
def mul(a, b):
    return a * b


@real(vjp=lambda g, _y, a, b: (lambda: g / b, lambda: -g * a / (b * b)), onnx="Div")
def div(a, b):
    """a / b; integers divide to float32."""
    return a / b


@elementwise(onnx="Pow")
def pow(a, b):
    """a ** b; torch.pow."""
    return a ** b


@pow.gradient
def _(g, _y, a, b):
    def exponent():                       # d/db a**b = a**b log(a), which is 0 at a = 0 for b >= 0
        safe = where(a == 0, 1.0, a) if not isinstance(a, (int, float)) else float(a or 1)
        return g * pow(a, b) * log(safe)
    if isinstance(b, (int, float)):
        return g * b * pow(a, b - 1) if b != 0 else g * 0.0, exponent
    return lambda: g * b * pow(a, where(b == 0, 1.0, b - 1)), exponent


@elementwise(onnx=None)
def floor_divide(a, b):
    """The largest integer below a / b, in the inputs' dtype; torch.floor_divide."""
    return np.floor_divide(a, b)


@elementwise(vjp=lambda g, _y, a, b: (g, lambda: -g * floor(a / b)), onnx="Mod")
def remainder(a, b):
    """a - floor(a / b) * b, with the sign of b; torch.remainder, ONNX Mod (fmod=0)."""
    return np.mod(a, b)


@elementwise(vjp=lambda g, _y, a, b: (g, lambda: -g * trunc(a / b)), onnx=None)
def fmod(a, b):
    """a - trunc(a / b) * b, with the sign of a; torch.fmod, ONNX Mod (fmod=1)."""
    return np.fmod(a, b)


@elementwise(vjp=lambda g, _y, _x: -g, onnx="Neg")
def neg(x):
    return -x


@elementwise(vjp=lambda g, _y, x: g * sign(x), onnx="Abs")
def abs(x):
    return np.abs(x)


@elementwise(vjp=lambda g, _y, x: 2.0 * g * x, onnx=None)
def square(x):
    return x * x


@real(vjp=lambda g, y, _x: -g * y * y, onnx="Reciprocal")
def reciprocal(x):
    return 1.0 / x


@elementwise(onnx="Sign")
def sign(x):
    return np.sign(x)


@elementwise(onnx="Floor")
def floor(x):
    return np.floor(x)


@elementwise(onnx="Ceil")
def ceil(x):
    return np.ceil(x)


@elementwise(onnx="Round")
def round(x):
    """To the nearest integer, halves to even."""
    return np.rint(x)


@elementwise(onnx=None)
def trunc(x):
    return np.trunc(x)


for _step in (sign, floor, ceil, round, trunc):       # piecewise constant: the gradient is 0
    _step.gradient(lambda g, _y, *_inputs: tuple(g * 0.0 for _ in _inputs))

# --- exponentials and logarithms ------------------------------------------------------------------------------------


@real(vjp=lambda g, y, _x: g * y, onnx="Exp")
def exp(x):
    return np.exp(x)


@real(vjp=lambda g, y, _x: g * (y + 1.0), onnx=None)
def expm1(x):
    """exp(x) - 1, accurate near 0."""
    return np.expm1(x)


@real(vjp=lambda g, _y, x: g / x, onnx="Log")
def log(x):
    return np.log(x)


@real(vjp=lambda g, _y, x: g / (x + 1.0), onnx=None)
def log1p(x):
    """log(1 + x), accurate near 0."""
    return np.log1p(x)


@real(vjp=lambda g, _y, x: g / (x * math.log(2)), onnx=None)
def log2(x):
    return np.log2(x)


@real(vjp=lambda g, y, _x: 0.5 * g / y, onnx="Sqrt")
def sqrt(x):
    return np.sqrt(x)


@real(vjp=lambda g, y, _x: -0.5 * g * y * y * y, onnx=None)
def rsqrt(x):
    return 1.0 / np.sqrt(x)

# --- trigonometry ---------------------------------------------------------------------------------------------------


@real(vjp=lambda g, _y, x: g * cos(x), onnx="Sin")
def sin(x):
    return np.sin(x)


@real(vjp=lambda g, _y, x: -g * sin(x), onnx="Cos")
def cos(x):
    return np.cos(x)


@real(vjp=lambda g, y, _x: g * (1.0 + y * y), onnx="Tan")
def tan(x):
    return np.tan(x)


@real(vjp=lambda g, _y, x: g * rsqrt(1.0 - x * x), onnx="Asin")
def asin(x):
    return np.arcsin(x)


@real(vjp=lambda g, _y, x: -g * rsqrt(1.0 - x * x), onnx="Acos")
def acos(x):
    return np.arccos(x)


@real(vjp=lambda g, _y, x: g / (1.0 + x * x), onnx="Atan")
def atan(x):
    return np.arctan(x)


@real(vjp=lambda g, _y, a, b: (lambda: g * b / (a * a + b * b), lambda: -g * a / (a * a + b * b)), onnx=None)
def atan2(a, b):
    """The angle of the point (b, a)."""
    return np.arctan2(a, b)


@real(vjp=lambda g, _y, x: g * cosh(x), onnx="Sinh")
def sinh(x):
    return np.sinh(x)


@real(vjp=lambda g, _y, x: g * sinh(x), onnx="Cosh")
def cosh(x):
    return np.cosh(x)


@real(vjp=lambda g, y, _x: g * (1.0 - y * y), onnx="Tanh")
def tanh(x):
    return np.tanh(x)


@real(vjp=lambda g, _y, x: g * rsqrt(x * x + 1.0), onnx="Asinh")
def asinh(x):
    return np.arcsinh(x)


@real(vjp=lambda g, _y, x: g * rsqrt(x * x - 1.0), onnx="Acosh")
def acosh(x):
    return np.arccosh(x)


@real(vjp=lambda g, _y, x: g / (1.0 - x * x), onnx="Atanh")
def atanh(x):
    return np.arctanh(x)


@real(vjp=lambda g, _y, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x), onnx="Erf")
def erf(x):
    """The error function; torch.erf."""
    return _erf(x)

# --- activations ----------------------------------------------------------------------------------------------------


@elementwise(vjp=lambda g, y, _x: g * (y > 0), onnx="Relu")
def relu(x):
    return np.maximum(x, 0)


@backward_kernel(relu)
def _(_needs, g, y, _x):
    return shared(_passed, g, y)


def _passed(g, y):
    return g * (y > 0).astype(g.dtype)                # faster than a product with bools


@real(vjp=lambda g, y, _x: g * y * (1.0 - y), onnx="Sigmoid")
def sigmoid(x):
    """1 / (1 + exp(-x)), by way of tanh, which does not overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


@real(vjp=lambda g, _y, x: g * sigmoid(x), onnx="Softplus")
def softplus(x):
    """log(1 + exp(x)), without overflow for large x.  ONNX Softplus, torch.nn.functional.softplus."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


@real(vjp=lambda g, _y, x: g / square(1.0 + abs(x)), onnx="Softsign")
def softsign(x):
    return x / (1.0 + np.abs(x))


@real(onnx="LeakyRelu")
def leaky_relu(x, *, negative_slope=0.01):
    """x where positive, negative_slope * x elsewhere.  ONNX's name for negative_slope is alpha."""
    return np.where(x > 0, x, negative_slope * x)


@leaky_relu.gradient
def _(g, _y, x, negative_slope=0.01):
    return where(x > 0, g, negative_slope * g)


@real(onnx="Elu")
def elu(x, *, alpha=1.0):
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., 2015)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@elu.gradient
def _(g, _y, x, alpha=1.0):
    return where(x > 0, g, g * alpha * exp(minimum(x, 0.0)))


@real(onnx="Selu")
def selu(x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    """gamma * elu(x, alpha), with the constants that keep mean 0 and variance 1 (Klambauer et al., 2017)."""
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


@selu.gradient
def _(g, _y, x, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return gamma * where(x > 0, g, g * alpha * exp(minimum(x, 0.0)))


@real(onnx=None)
def celu(x, *, alpha=1.0):
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere (Barron, 2017).  ONNX Celu."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


@celu.gradient
def _(g, _y, x, alpha=1.0):
    return where(x > 0, g, g * exp(minimum(x, 0.0) / alpha))


@real(vjp=lambda g, _y, x: g * (normal_cdf(x) + x * exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))), onnx="Gelu")
def gelu(x):
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016): the exact form."""
    return 0.5 * x * (1.0 + _erf(x * 0.7071067811865476))


kernel(gelu, "numpy")(special.gelu)


@backward_kernel(gelu)
def _(_needs, g, _y, x):
    return shared(special.gelu_gradient, g, x)


def normal_cdf(x):
    """The distribution function of the standard normal.  torch.special.ndtr."""
    return 0.5 * (1.0 + erf(x * math.sqrt(0.5)))


@real(onnx=None)
def gelu_tanh(x):
    """The tanh approximation of GELU, as GPT-2 uses it.  torch.nn.functional.gelu(approximate="tanh")."""
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))        # sqrt(2 / pi)


@gelu_tanh.gradient
def _(g, _y, x):
    t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
    slope = 0.7978845608028654 * (1.0 + 3 * 0.044715 * x * x)
    return g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)


kernel(gelu_tanh, "numpy")(special.gelu_tanh)


@backward_kernel(gelu_tanh)
def _(_needs, g, _y, x):
    return shared(special.gelu_tanh_gradient, g, x)


@real(onnx=None)
def silu(x):
    """x * sigmoid(x), also called swish."""
    return x * (0.5 * np.tanh(0.5 * x) + 0.5)


@silu.gradient
def _(g, _y, x):
    s = sigmoid(x)
    return g * s * (1.0 + x * (1.0 - s))


def prelu(x, weight):
    """x where positive, weight * x elsewhere; weight (1,) or one value a channel of x (N, C, *size).  ONNX PRelu."""
    slope = weight if weight.size == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))
    return where(x > 0, x, slope * x)


def mish(x):
    """x * tanh(softplus(x)) (Misra, 2019).  ONNX Mish."""
    return x * tanh(softplus(x))


def log_sigmoid(x):
    """log(sigmoid(x)), without overflow."""
    return -softplus(-x)


def hardtanh(x, min_val=-1.0, max_val=1.0):
    """x clipped to [min_val, max_val]."""
    return clip(x, min_val, max_val)


def relu6(x):
    """x clipped to [0, 6]."""
    return clip(x, 0.0, 6.0)


def hardsigmoid(x, alpha=1 / 6, beta=0.5):
    """alpha * x + beta clipped to [0, 1]; ONNX's default for alpha is 0.2."""
    return clip(alpha * x + beta, 0.0, 1.0)


def hardswish(x):
    """x * hardsigmoid(x)."""
    return x * hardsigmoid(x)

# --- choices --------------------------------------------------------------------------------------------------------


@elementwise(onnx="Max")
def maximum(a, b):
    return np.maximum(a, b)


@maximum.gradient
def _(g, _y, a, b):                       # at a tie each side gets half, as in PyTorch
    return lambda: g * ((a > b) + 0.5 * (a == b)), lambda: g * ((b > a) + 0.5 * (a == b))


@elementwise(onnx="Min")
def minimum(a, b):
    return np.minimum(a, b)


@minimum.gradient
def _(g, _y, a, b):
    return lambda: g * ((a < b) + 0.5 * (a == b)), lambda: g * ((b < a) + 0.5 * (a == b))


@elementwise(onnx="Where", index_inputs=(0,))
def where(condition, a, b):
    """a where condition holds, b elsewhere."""
    return np.where(condition, a, b)


@where.gradient
def _(g, _y, condition, _a, _b):
    return None, lambda: where(condition, g, 0.0), lambda: where(condition, 0.0, g)


def clip(x, min=None, max=None):
    """x limited to [min, max]; either may be None, a number or a tensor.  ONNX Clip, torch.clamp."""
    x = x if min is None else clip_low(x, min)
    return x if max is None else clip_high(x, max)


clamp = clip


@elementwise(onnx=None)
def clip_low(x, low):
    """max(x, low); at x == low the whole gradient goes to x, as in torch.clamp."""
    return np.maximum(x, low)


@clip_low.gradient
def _(g, _y, x, low):
    return lambda: g * (x >= low), lambda: g * (x < low)


@elementwise(onnx=None)
def clip_high(x, high):
    """min(x, high); at x == high the whole gradient goes to x, as in torch.clamp."""
    return np.minimum(x, high)


@clip_high.gradient
def _(g, _y, x, high):
    return lambda: g * (x <= high), lambda: g * (x > high)


def masked_fill(x, mask, value):
    """x with `value` where mask holds.  torch.masked_fill."""
    return where(mask, value, x)

def allclose(a, b, rtol=1e-5, atol=1e-8) -> bool:
    """Whether |a - b| <= atol + rtol |b| everywhere.  numpy.allclose, torch.allclose."""
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol, atol))

# --- comparisons and logic: bool results, no gradient ---------------------------------------------------------------


@elementwise(onnx="Equal")
def eq(a, b):
    return a == b


@elementwise(onnx=None)
def ne(a, b):
    return a != b


@elementwise(onnx="Less")
def lt(a, b):
    return a < b


@elementwise(onnx="LessOrEqual")
def le(a, b):
    return a <= b


@elementwise(onnx="Greater")
def gt(a, b):
    return a > b


@elementwise(onnx="GreaterOrEqual")
def ge(a, b):
    return a >= b


@elementwise(onnx="IsNaN")
def isnan(x):
    return np.isnan(x)


@elementwise(onnx="IsInf")
def isinf(x):
    return np.isinf(x)


@elementwise(onnx=None)
def isfinite(x):
    return np.isfinite(x)


@elementwise(onnx="And")
def logical_and(a, b):
    return np.logical_and(a, b)


@elementwise(onnx="Or")
def logical_or(a, b):
    return np.logical_or(a, b)


@elementwise(onnx="Xor")
def logical_xor(a, b):
    return np.logical_xor(a, b)


@elementwise(onnx="Not")
def logical_not(x):
    return np.logical_not(x)


@elementwise(onnx="BitwiseAnd")
def bitwise_and(a, b):
    return a & b


@elementwise(onnx="BitwiseOr")
def bitwise_or(a, b):
    return a | b


@elementwise(onnx="BitwiseXor")
def bitwise_xor(a, b):
    return a ^ b


@elementwise(onnx="BitwiseNot")
def bitwise_not(x):
    return ~x
