"""Elementwise functions made of ops, one to three lines each."""

# ruff: noqa: A001, A002    min, max are the names that NumPy and PyTorch use

import math
from typing import Any

import ml_dtypes
import numpy as np

from ..core.dtypes import float64, is_floating
from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array
from .axes import torch_names
from .elementwise import (
    abs,
    isfinite,
    isinf,
    isnan,
    logical_and,
    logical_or,
    pow,
    sub,
    trunc,
    where,
)


def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value a b.  torch.addcmul."""
    return x + (a * b if value == 1 else a * b * value)


def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    """x + value a / b.  torch.addcdiv."""
    return x + (a / b if value == 1 else a / b * value)


@torch_names
def lerp(x: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """x + weight (end - x): x at weight 0, end at 1.  torch.lerp."""
    return x + (end - x) * weight


@torch_names
def rsub(a: Tensor, b: Any, *, alpha: float = 1) -> Tensor:
    """b - alpha a.  torch.rsub."""
    return sub(b, a if alpha == 1 else a * alpha)


def positive(x: Tensor) -> Tensor:
    """x itself.  torch.positive."""
    return x


def frac(x: Tensor) -> Tensor:
    """x without its integer part.  torch.frac."""
    return x - trunc(x)


def deg2rad(x: Tensor) -> Tensor:
    """Degrees as radians.  torch.deg2rad."""
    return x * (math.pi / 180)


def rad2deg(x: Tensor) -> Tensor:
    """Radians as degrees.  torch.rad2deg."""
    return x * (180 / math.pi)


@torch_names
def fmax(a: Tensor, b: Tensor) -> Tensor:
    """The larger value, or the one that is not nan.  torch.fmax."""
    return where(logical_or(a >= b, isnan(b)), a, b)


@torch_names
def fmin(a: Tensor, b: Tensor) -> Tensor:
    """The smaller value, or the one that is not nan.  torch.fmin."""
    return where(logical_or(a <= b, isnan(b)), a, b)


@op(differentiable=False)
def signbit(x: Array) -> Array:
    """Whether the sign is -, of zeros too, as bools.  torch.signbit."""
    return np.signbit(x) if x.dtype.kind != "b" else np.zeros_like(x)


@torch_names
def copysign(a: Tensor, b: Any) -> Tensor:
    """|a| with the sign of b, also of a zero.  torch.copysign."""
    size = abs(a if is_floating(a.dtype) else a.astype("float32"))
    negative = signbit(b) if isinstance(b, Tensor) else math.copysign(1, b) < 0
    return where(negative, -size, size)


@torch_names
def heaviside(x: Tensor, values: Tensor) -> Tensor:
    """0 below 0, 1 above, values at 0; no gradient passes.  torch.heaviside."""
    return where(x == 0, values, (x > 0).astype(x.dtype)).detach()


def isposinf(x: Tensor) -> Tensor:
    """Where x is inf, as bools.  torch.isposinf."""
    return x == math.inf


def isneginf(x: Tensor) -> Tensor:
    """Where x is -inf, as bools.  torch.isneginf."""
    return x == -math.inf


@torch_names
def isclose(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where |a - b| <= atol + rtol |b|, as bools.  numpy.isclose, torch.isclose."""
    off, allowed = abs(a * 1.0 - b), atol + rtol * abs(b * 1.0)
    close = logical_or(a == b, logical_and(isfinite(off), off <= allowed))
    return logical_or(close, logical_and(isnan(a), isnan(b))) if equal_nan else close


@torch_names
def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have one shape and the same values.  torch.equal, numpy.array_equal."""
    return np.array_equal(a.numpy(), b.numpy())


@torch_names
def nan_to_num(x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """nan and infinities replaced, infinities by the dtype's largest values unless said otherwise.  torch.nan_to_num."""
    if not is_floating(x.dtype):
        return x
    ends: Any = ml_dtypes.finfo(x.dtype)                                # type: ignore[no-untyped-call]
    high, low = float(ends.max) if posinf is None else posinf, float(ends.min) if neginf is None else neginf
    return where(isnan(x), 0.0 if nan is None else nan, where(isinf(x), where(x > 0, high, low).astype(x.dtype), x))


@torch_names
def float_power(a: Any, b: Any) -> Tensor:
    """a ** b, computed in float64 whatever comes.  torch.float_power."""
    a, b = (x.astype(float64) if isinstance(x, Tensor) else x for x in (a, b))
    return pow(a, b)


@torch_names
def ldexp(a: Tensor, b: Tensor) -> Tensor:
    """a 2^b.  torch.ldexp."""
    return a * 2.0 ** b


@op(differentiable=False)
def gcd(a: Array, b: Array) -> Array:
    """The greatest common divisor of integers.  torch.gcd."""
    return np.gcd(a, b)


@op(differentiable=False)
def lcm(a: Array, b: Array) -> Array:
    """The least common multiple of integers.  torch.lcm."""
    return np.lcm(a, b)


@op(differentiable=False)
def bitwise_left_shift(a: Array, b: Array) -> Array:
    """The bits of a moved up by b places.  torch.bitwise_left_shift, a << b."""
    return np.left_shift(a, b)


@op(differentiable=False)
def bitwise_right_shift(a: Array, b: Array) -> Array:
    """The bits of a moved down by b places, the sign kept.  torch.bitwise_right_shift, a >> b."""
    return np.right_shift(a, b)


@torch_names
def fill(x: Tensor, value: Any) -> Tensor:
    """A tensor like x that holds value everywhere.  torch.fill."""
    return where(True, value.astype(x.dtype) if isinstance(value, Tensor) else value, x)


def is_floating_point(x: Tensor) -> bool:
    """Whether x holds floating values, which can require a gradient.  torch.is_floating_point."""
    return is_floating(x.dtype)


def is_tensor(x: Any) -> bool:
    """Whether x is a Tensor.  torch.is_tensor."""
    return isinstance(x, Tensor)


@torch_names
def numel(x: Tensor) -> int:
    """How many values x holds.  torch.numel."""
    return x.numel()
