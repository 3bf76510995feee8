"""Elementwise ops: one expression each, which numpy evaluates and from which the Triton kernel is generated.

Every forward is a single `return <expression>` of numpy functions, operators and constants; inputs broadcast.
The engine sums gradients over broadcast axes, so no rule here mentions shapes.
"""

# ruff: noqa: A001, A002    abs, pow, round, max, min, input are the names that NumPy and PyTorch use

import math
from typing import Any

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Decorator
from ..errors import ArgumentError, DTypeError
from .axes import torch_names

# --- three kinds ------------------------------------------------------------------------------------------------------


def elementwise(**options: Any) -> Decorator:
    """For +, *: integers stay integers."""
    return op(elementwise=True, **options)


def real(**options: Any) -> Decorator:
    """For exp, /: integers become float32."""
    return op(elementwise=True, promote="float", **options)


def decision(**options: Any) -> Decorator:
    """For ==, <: bools, without a gradient."""
    return op(elementwise=True, differentiable=False, **options)


def _erf(x: Array) -> Array:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, one value at a time: NumPy has no error function."""
    return np.vectorize(math.erf, otypes=[np.result_type(x)])(x)


def _flat(g: Tensor) -> Tensor:
    """The gradient of a step function: 0 everywhere."""
    return g * 0.0

# --- arithmetic -----------------------------------------------------------------------------------------------------


@elementwise(gradient=(lambda g: g, lambda g: g), onnx="Add")
def add(a: Array, b: Array) -> Array:
    """a + b.  torch.add, ONNX Add."""
    return a + b


@add.torch
@torch_names
def torch_add(a: Tensor, b: Tensor | float, *, alpha: float = 1) -> Tensor:
    """a + alpha b."""
    return add(a, b * alpha)


@elementwise(gradient=(lambda g: g, lambda g: -g), onnx="Sub")
def sub(a: Array, b: Array) -> Array:
    """a - b.  torch.sub, ONNX Sub."""
    return a - b


@sub.torch
@torch_names
def torch_sub(a: Tensor, b: Tensor | float, *, alpha: float = 1) -> Tensor:
    """a - alpha b."""
    return sub(a, b * alpha)


@elementwise(gradient=(lambda g, b: g * b, lambda g, a: g * a), onnx="Mul")
def mul(a: Array, b: Array) -> Array:
    """a * b, value by value.  torch.mul, ONNX Mul."""
    return a * b


@real(gradient=(lambda g, b: g / b, lambda g, a, b: -g * (a / b) / b), onnx="Div")
def div(a: Array, b: Array) -> Array:
    """a / b; integers divide to float32.  torch.div, ONNX Div."""
    return a / b


@div.torch
@torch_names
def torch_div(a: Tensor, b: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    """a / b, the quotient rounded towards 0 ("trunc") or down ("floor") and of the inputs' dtype."""
    if rounding_mode not in (None, "trunc", "floor"):
        raise ArgumentError(f"div: rounding_mode is None, 'trunc' or 'floor', got {rounding_mode!r}")
    if rounding_mode is None:
        return div(a, b)
    if rounding_mode == "floor":
        return floor_divide(a, b)
    whole = all(isinstance(x, int) or getattr(x, "dtype", np.dtype("float32")).kind in "iub" for x in (a, b))
    return floor_divide(sub(a, fmod(a, b)), b) if whole else trunc(div(a, b))


@elementwise(onnx="Pow")
def pow(a: Array, b: Array) -> Array:
    """a ** b; torch.pow."""
    return a ** b


@pow.gradient("a")
def pow_to_base(g: Tensor, a: Tensor, b: Tensor | float) -> Tensor:
    if isinstance(b, (int, float)):
        return g * b * pow(a, b - 1) if b != 0 else g * 0.0
    return where(b == 0, 0.0, g * b * pow(a, where(b == 0, 1.0, b - 1)))


@pow.gradient("b")
def pow_to_exponent(g: Tensor, y: Tensor, a: Tensor | float, b: Tensor) -> Tensor:
    """a**b log(a), which is 0 at a = 0 for b >= 0."""
    if isinstance(a, (int, float)):
        return g * y * (log(float(a)) if a else where(b >= 0, 0.0 * b, -math.inf))
    return g * y * log(where(b >= 0, where(a == 0, 1.0, a), a))


@elementwise(gradient=(_flat, _flat))
def floor_divide(a: Array, b: Array) -> Array:
    """The largest integer that is at most a / b, in the inputs' dtype; no gradient passes.  torch.floor_divide."""
    return np.floor_divide(a, b)


@elementwise(gradient=(lambda g: g, lambda g, a, b: -g * floor_divide(a, b)), onnx="Mod")
def remainder(a: Array, b: Array) -> Array:
    """a - floor(a / b) * b, with the sign of b; torch.remainder, ONNX Mod (fmod=0)."""
    return np.mod(a, b)


@elementwise(gradient=(lambda g: g, lambda g, a, b: -g * trunc(a / b)))
def fmod(a: Array, b: Array) -> Array:
    """a - trunc(a / b) * b, with the sign of a; torch.fmod, ONNX Mod (fmod=1)."""
    return np.fmod(a, b)


@elementwise(gradient=lambda g: -g, onnx="Neg")
def neg(x: Array) -> Array:
    """-x.  torch.neg, ONNX Neg."""
    return -x


@elementwise(gradient=lambda g, x: g * sign(x), onnx="Abs")
def abs(x: Array) -> Array:
    """|x|; the gradient at 0 is 0.  torch.abs, ONNX Abs."""
    return np.abs(x)


@elementwise(gradient=lambda g, x: 2.0 * g * x)
def square(x: Array) -> Array:
    """x * x.  torch.square."""
    return x * x


@real(gradient=lambda g, y: -g * y * y, onnx="Reciprocal")
def reciprocal(x: Array) -> Array:
    """1 / x.  torch.reciprocal, ONNX Reciprocal."""
    return 1.0 / x


@elementwise(onnx="Sign", gradient=_flat)
def sign(x: Array) -> Array:
    """-1, 0 or 1; no gradient passes.  torch.sign, ONNX Sign."""
    return np.sign(x)


@elementwise(onnx="Floor", gradient=_flat)
def floor(x: Array) -> Array:
    """The largest integer that is at most x; no gradient passes.  torch.floor, ONNX Floor."""
    return np.floor(x)


@elementwise(onnx="Ceil", gradient=_flat)
def ceil(x: Array) -> Array:
    """The smallest integer that is at least x; no gradient passes.  torch.ceil, ONNX Ceil."""
    return np.ceil(x)


@elementwise(onnx="Round", gradient=_flat)
def round(x: Array) -> Array:
    """To the nearest integer, halves to even; integers stay as they are.  torch.round, ONNX Round."""
    return np.round(x)


@round.torch
@torch_names
def torch_round(x: Tensor, decimals: int = 0) -> Tensor:
    """To so many decimals; negative ones round to tens, hundreds, ..."""
    scale = 10.0 ** math.fabs(decimals)
    return div(round(x * scale), scale) if decimals >= 0 else mul(round(x / scale), scale)


@elementwise(gradient=_flat)
def trunc(x: Array) -> Array:
    """The integer part of x, towards 0; no gradient passes.  torch.trunc."""
    return np.trunc(x)


# --- exponentials and logarithms ------------------------------------------------------------------------------------


@real(gradient=lambda g, y: g * y, onnx="Exp")
def exp(x: Array) -> Array:
    """e to the power of x.  torch.exp, ONNX Exp."""
    return np.exp(x)


@real(gradient=lambda g, y: g * (y + 1.0))
def expm1(x: Array) -> Array:
    """exp(x) - 1, accurate near 0.  torch.expm1."""
    return np.expm1(x)


@real(gradient=lambda g, x: g / x, onnx="Log")
def log(x: Array) -> Array:
    """The natural logarithm; -inf at 0, nan below.  torch.log, ONNX Log."""
    return np.log(x)


@real(gradient=lambda g, x: g / (x + 1.0))
def log1p(x: Array) -> Array:
    """log(1 + x), accurate near 0.  torch.log1p."""
    return np.log1p(x)


@real(gradient=lambda g, x: g / (x * math.log(2)))
def log2(x: Array) -> Array:
    """The logarithm to base 2.  torch.log2."""
    return np.log2(x)


@real(gradient=lambda g, x: g / (x * math.log(10)))
def log10(x: Array) -> Array:
    """The logarithm to base 10.  torch.log10."""
    return np.log10(x)


@real(gradient=lambda g, y: 0.5 * g / y, onnx="Sqrt")
def sqrt(x: Array) -> Array:
    """The square root; nan below 0.  torch.sqrt, ONNX Sqrt."""
    return np.sqrt(x)


@real(gradient=lambda g, y: -0.5 * g * y * y * y)
def rsqrt(x: Array) -> Array:
    """1 / sqrt(x).  torch.rsqrt."""
    return 1.0 / np.sqrt(x)

# --- trigonometry ---------------------------------------------------------------------------------------------------


@real(gradient=lambda g, x: g * cos(x), onnx="Sin")
def sin(x: Array) -> Array:
    """The sine of x in radians.  torch.sin, ONNX Sin."""
    return np.sin(x)


@real(gradient=lambda g, x: -g * sin(x), onnx="Cos")
def cos(x: Array) -> Array:
    """The cosine of x in radians.  torch.cos, ONNX Cos."""
    return np.cos(x)


@real(gradient=lambda g, y: g * (1.0 + y * y), onnx="Tan")
def tan(x: Array) -> Array:
    """The tangent of x in radians.  torch.tan, ONNX Tan."""
    return np.tan(x)


@real(gradient=lambda g, x: g * rsqrt(1.0 - x * x), onnx="Asin")
def asin(x: Array) -> Array:
    """The angle in radians, -pi/2 to pi/2, whose sine is x.  torch.asin, ONNX Asin."""
    return np.arcsin(x)


@real(gradient=lambda g, x: -g * rsqrt(1.0 - x * x), onnx="Acos")
def acos(x: Array) -> Array:
    """The angle in radians, 0 to pi, whose cosine is x.  torch.acos, ONNX Acos."""
    return np.arccos(x)


@real(gradient=lambda g, x: g / (1.0 + x * x), onnx="Atan")
def atan(x: Array) -> Array:
    """The angle in radians, -pi/2 to pi/2, whose tangent is x.  torch.atan, ONNX Atan."""
    return np.arctan(x)


@real(gradient=(lambda g, a, b: g * b * _inverse_square(a, b), lambda g, a, b: -g * a * _inverse_square(a, b)))
def atan2(a: Array, b: Array) -> Array:
    """The angle of the point (b, a); the gradient at (0, 0) is 0.  torch.atan2."""
    return np.arctan2(a, b)


def _inverse_square(a: Tensor | float, b: Tensor | float) -> Tensor:
    """1 / (a^2 + b^2), and 0 at (0, 0)."""
    square = a * a + b * b
    return where(square == 0, 0.0, reciprocal(where(square == 0, 1.0, square)))


@real(gradient=lambda g, x: g * cosh(x), onnx="Sinh")
def sinh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / 2.  torch.sinh, ONNX Sinh."""
    return np.sinh(x)


@real(gradient=lambda g, x: g * sinh(x), onnx="Cosh")
def cosh(x: Array) -> Array:
    """(exp(x) + exp(-x)) / 2.  torch.cosh, ONNX Cosh."""
    return np.cosh(x)


@real(gradient=lambda g, y: g * (1.0 - y * y), onnx="Tanh")
def tanh(x: Array) -> Array:
    """sinh(x) / cosh(x), between -1 and 1.  torch.tanh, ONNX Tanh."""
    return np.tanh(x)


@real(gradient=lambda g, x: g * rsqrt(x * x + 1.0), onnx="Asinh")
def asinh(x: Array) -> Array:
    """The inverse of sinh.  torch.asinh, ONNX Asinh."""
    return np.arcsinh(x)


@real(gradient=lambda g, x: g * rsqrt(x * x - 1.0), onnx="Acosh")
def acosh(x: Array) -> Array:
    """The inverse of cosh, for x >= 1.  torch.acosh, ONNX Acosh."""
    return np.arccosh(x)


@real(gradient=lambda g, x: g / (1.0 - x * x), onnx="Atanh")
def atanh(x: Array) -> Array:
    """The inverse of tanh, for |x| < 1.  torch.atanh, ONNX Atanh."""
    return np.arctanh(x)


@real(gradient=lambda g, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x), onnx="Erf")
def erf(x: Array) -> Array:
    """The error function; torch.erf."""
    return _erf(x)

# --- choices --------------------------------------------------------------------------------------------------------


@elementwise(onnx="Max", gradient=(lambda g, a, b: g * ((a > b) + 0.5 * (a == b)),
                                    lambda g, a, b: g * ((b > a) + 0.5 * (a == b))))
def maximum(a: Array, b: Array) -> Array:
    """The larger value; at a tie each side gets half of the gradient, as in PyTorch.  torch.maximum."""
    return np.maximum(a, b)


@elementwise(onnx="Min", gradient=(lambda g, a, b: g * ((a < b) + 0.5 * (a == b)),
                                    lambda g, a, b: g * ((b < a) + 0.5 * (a == b))))
def minimum(a: Array, b: Array) -> Array:
    """The smaller value; at a tie each side gets half of the gradient, as in PyTorch.  torch.minimum."""
    return np.minimum(a, b)


@elementwise(onnx="Where", index_inputs=(0,), gradient=(None, lambda g, condition: where_(condition, g, 0.0),
                                                        lambda g, condition: where_(condition, 0.0, g)))
def where_(condition: Array, a: Array, b: Array) -> Array:
    """a where condition holds, b elsewhere: what `where` is."""
    return np.where(condition, a, b)


def where(condition: Any, input: Any = None, other: Any = None) -> Tensor:
    """input where condition holds, other elsewhere; with the condition alone, where it holds: an index for each axis.

    torch.where, numpy.where, ONNX Where.
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)                        # type: ignore[no-any-return]
    if float in (type(input), type(other)) and not (hasattr(input, "dtype") or hasattr(other, "dtype")):
        input, other = Tensor(float(input)), Tensor(float(other))          # numbers alone are float32 as everywhere
    return where_(condition, input, other)


@torch_names
def clip(x: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """x limited to [min, max]; either may be None, a number or a tensor.  ONNX Clip, torch.clamp."""
    x = x if min is None else clip_low(x, min)
    return x if max is None else clip_high(x, max)


clamp = clip


def clamp_min(x: Tensor, min: Tensor | float) -> Tensor:
    """x, at least min.  torch.clamp_min."""
    return clip_low(x, min)


def clamp_max(x: Tensor, max: Tensor | float) -> Tensor:
    """x, at most max.  torch.clamp_max."""
    return clip_high(x, max)


@elementwise(gradient=(lambda g, x, low: g * (x >= low), lambda g, x, low: g * (x < low)))
def clip_low(x: Array, low: Array) -> Array:
    """max(x, low); at x == low the whole gradient goes to x, as in torch.clamp."""
    return np.maximum(x, low)


@elementwise(gradient=(lambda g, x, high: g * (x <= high), lambda g, x, high: g * (x > high)))
def clip_high(x: Array, high: Array) -> Array:
    """min(x, high); at x == high the whole gradient goes to x, as in torch.clamp."""
    return np.minimum(x, high)


def masked_fill(x: Tensor, mask: Tensor, value: Tensor | float) -> Tensor:
    """x with `value` where mask (bool) holds, in x's dtype.  torch.masked_fill."""
    if getattr(mask, "dtype", np.bool_) != np.bool_:
        raise DTypeError(f"masked_fill: the mask must be bool, got {mask.dtype}; use mask.bool() or mask != 0")
    return where_(mask, value, x)


@torch_names
def allclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |a - b| <= atol + rtol |b| everywhere.  numpy.allclose, torch.allclose."""
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol, atol, equal_nan))

# --- comparisons and logic: bool results, no gradient ---------------------------------------------------------------


@decision(onnx="Equal")
def eq(a: Array, b: Array) -> Array:
    """a == b, as bools.  torch.eq, ONNX Equal."""
    return a == b


@decision()
def ne(a: Array, b: Array) -> Array:
    """a != b, as bools.  torch.ne."""
    return a != b


@decision(onnx="Less")
def lt(a: Array, b: Array) -> Array:
    """a < b, as bools.  torch.lt, ONNX Less."""
    return a < b


@decision(onnx="LessOrEqual")
def le(a: Array, b: Array) -> Array:
    """a <= b, as bools.  torch.le, ONNX LessOrEqual."""
    return a <= b


@decision(onnx="Greater")
def gt(a: Array, b: Array) -> Array:
    """a > b, as bools.  torch.gt, ONNX Greater."""
    return a > b


@decision(onnx="GreaterOrEqual")
def ge(a: Array, b: Array) -> Array:
    """a >= b, as bools.  torch.ge, ONNX GreaterOrEqual."""
    return a >= b


@decision(onnx="IsNaN")
def isnan(x: Array) -> Array:
    """Where x is not a number, as bools.  torch.isnan, ONNX IsNaN."""
    return np.isnan(x)


@decision(onnx="IsInf")
def isinf(x: Array) -> Array:
    """Where x is inf or -inf, as bools.  torch.isinf, ONNX IsInf."""
    return np.isinf(x)


@decision()
def isfinite(x: Array) -> Array:
    """Where x is neither nan nor infinite, as bools.  torch.isfinite."""
    return np.isfinite(x)


@decision(onnx="And")
def logical_and(a: Array, b: Array) -> Array:
    """Whether both are true (not 0).  torch.logical_and, ONNX And."""
    return np.logical_and(a, b)


@decision(onnx="Or")
def logical_or(a: Array, b: Array) -> Array:
    """Whether one is true (not 0), or both.  torch.logical_or, ONNX Or."""
    return np.logical_or(a, b)


@decision(onnx="Xor")
def logical_xor(a: Array, b: Array) -> Array:
    """Whether exactly one is true (not 0).  torch.logical_xor, ONNX Xor."""
    return np.logical_xor(a, b)


@decision(onnx="Not")
def logical_not(x: Array) -> Array:
    """Whether x is false (0).  torch.logical_not, ONNX Not."""
    return np.logical_not(x)


@decision(onnx="BitwiseAnd")
def bitwise_and(a: Array, b: Array) -> Array:
    """a & b, of integers or bools.  torch.bitwise_and, ONNX BitwiseAnd."""
    return a & b


@decision(onnx="BitwiseOr")
def bitwise_or(a: Array, b: Array) -> Array:
    """a | b, of integers or bools.  torch.bitwise_or, ONNX BitwiseOr."""
    return a | b


@decision(onnx="BitwiseXor")
def bitwise_xor(a: Array, b: Array) -> Array:
    """a ^ b, of integers or bools.  torch.bitwise_xor, ONNX BitwiseXor."""
    return a ^ b


@decision(onnx="BitwiseNot")
def bitwise_not(x: Array) -> Array:
    """All bits turned, of integers or bools.  torch.bitwise_not, ONNX BitwiseNot."""
    return ~x
