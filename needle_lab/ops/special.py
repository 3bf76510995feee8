"""Special functions: error functions, gamma functions, and products with logarithms that mean 0 at 0."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array
from ..errors import ArgumentError
from .activations import sigmoid
from .axes import torch_names
from .elementwise import exp, log, log1p, logical_and, logical_or, mul, sin, where
from .reduce import sum as sum_

# NumPy has none of these; Python's math has some, for one value at a time.


def _each(function: Callable[[float], float], x: Array) -> Array:
    return np.vectorize(function, otypes=[np.result_type(x)])(x)


@op(promote="float", gradient=lambda g, x: g * (-2 / math.sqrt(math.pi)) * exp(-x * x))
def erfc(x: Array) -> Array:
    """1 - erf(x), accurate where that is small.  torch.erfc."""
    return _each(math.erfc, x)


@op(promote="float", gradient=lambda g, y: g * (math.sqrt(math.pi) / 2) * exp(y * y))
def erfinv(x: Array) -> Array:
    """The y with erf(y) = x, for -1 < x < 1; infinite at the ends, nan beyond.  torch.erfinv."""
    x64 = x.astype(np.float64)
    with np.errstate(all="ignore"):
        w = np.log1p(-x64 * x64)                             # a start within 2e-3 (Winitzki, 2008), then Newton's steps
        a = 2 / (math.pi * 0.147) + w / 2
        y = np.sign(x64) * np.sqrt(np.sqrt(a * a - w / 0.147) - a)
        for _ in range(3):
            small = np.abs(x64) < 0.5
            error = np.where(small, _each(math.erf, np.where(small, y, 0.0)) - x64,
                             np.sign(x64) * (1 - np.abs(x64) - _each(math.erfc, np.abs(y))))
            step = error * (math.sqrt(math.pi) / 2) * np.exp(y * y)
            y = y - step / (1 + y * step)                          # Halley's form: the curve is steep near the ends
        y = np.where(np.abs(x64) == 1, np.copysign(np.inf, x64), y)
    return np.asarray(y).astype(x.dtype)


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except ValueError:                                             # a pole: 0, -1, -2, ...
        return math.inf


@op(promote="float", gradient=lambda g, x: g * digamma(x))
def lgamma(x: Array) -> Array:
    """log |gamma(x)|.  torch.lgamma."""
    return _each(_lgamma, x)


@op(promote="float", gradient=lambda g, x: g * polygamma(1, x))
def digamma(x: Array) -> Array:
    """The derivative of lgamma; nan at -1, -2, ..., -inf at 0.  torch.digamma."""
    x64 = x.astype(np.float64)
    with np.errstate(all="ignore"):
        mirrored = x64 <= 0
        z, shift = np.where(mirrored, 1 - x64, x64), np.zeros_like(x64)   # psi(1 - x) = psi(x) + pi / tan(pi x)
        for _ in range(10):                                        # psi(x + 1) = psi(x) + 1 / x, until its series is exact
            shift = shift + np.where(z < 10, 1 / z, 0)
            z = np.where(z < 10, z + 1, z)
        s = 1 / (z * z)
        series = s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s * (5 / 660 - s * 691 / 32760)))))
        y = np.log(z) - 0.5 / z - series - shift
        part = x64 - np.rint(x64)                                  # the tangent has period 1
        y = np.where(mirrored, np.where(part == 0, np.nan, y - math.pi / np.tan(math.pi * part)), y)
        y = np.where(x64 == 0, np.copysign(np.inf, -x64), np.where(x64 == np.inf, np.inf, y))
    return np.asarray(y).astype(x.dtype)


@op(promote="float", gradient=lambda g, x, n: g * polygamma(n + 1, x))
def polygamma_(x: Array, *, n: int) -> Array:
    """(-1)^(n + 1) n! sum over k from 0 of 1 / (x + k)^(n + 1), for n >= 1: what `polygamma` is."""
    z, s = x.astype(np.float64), n + 1
    total: Any = 0.0
    with np.errstate(all="ignore"):
        pole = (z <= 0) & (z == np.rint(z))
        for _ in range(int(np.ceil(max(12 - np.min(z, initial=12.0, where=np.isfinite(z)), 0)))):
            small = z < 12
            total = total + np.where(small, z ** -s, 0)
            z = np.where(small, z + 1, z)
        # the rest by Euler's and Maclaurin's formula: integral, half of the first term, then Bernoulli's numbers
        total = total + z ** (1 - s) / (s - 1) + 0.5 * z ** -s
        factor, power = float(s), z ** (-s - 1)
        for i, b in enumerate((1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000)):
            total = total + b * factor * power
            factor, power = factor * (s + 2 * i + 1) * (s + 2 * i + 2), power / (z * z)
        total = np.where(pole, np.inf, total)
    return np.asarray((-1) ** (n + 1) * float(math.factorial(n)) * total).astype(x.dtype)


def polygamma(n: Any, x: Any) -> Tensor:
    """The n-th derivative of digamma.  torch.polygamma; also polygamma(x, n), as a method has it."""
    n, x = (x, n) if isinstance(n, Tensor) else (n, x)
    if n < 0:
        raise ArgumentError(f"polygamma: n={n}; it is 0 or more")
    return digamma(x) if n == 0 else polygamma_(x, n=n)


@torch_names
def mvlgamma(x: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p.  torch.mvlgamma."""
    halves = Tensor(np.arange(p) * -0.5, device=x.device).astype(x.dtype if x.dtype.kind == "f" else "float32")
    return sum_(lgamma(x.unsqueeze(-1) + halves), axis=-1) + p * (p - 1) / 4 * math.log(math.pi)


@op(promote="float", gradient=(lambda g, y, a: g * (a / y), lambda g, y, b: g * (b / y)))
def hypot(a: Array, b: Array) -> Array:
    """sqrt(a^2 + b^2), without overflow.  torch.hypot."""
    return np.hypot(a, b)


@op(promote="float", gradient=(lambda g, a, b: g * sigmoid(a - b), lambda g, a, b: g * sigmoid(b - a)))
def logaddexp(a: Array, b: Array) -> Array:
    """log(exp(a) + exp(b)), without overflow.  torch.logaddexp."""
    return np.logaddexp(a, b)


@torch_names
def logaddexp2(a: Tensor, b: Tensor) -> Tensor:
    """log2(2^a + 2^b), without overflow.  torch.logaddexp2."""
    return logaddexp(a * math.log(2), b * math.log(2)) / math.log(2)


@torch_names
def xlogy(a: Any, b: Any) -> Tensor:
    """a log(b), which is 0 at a = 0 whatever b is, but nan.  torch.xlogy."""
    return _times_log(a, b, log, 0.0)


@torch_names
def xlog1py(a: Any, b: Any) -> Tensor:
    """a log(1 + b), which is 0 at a = 0 whatever b is, but nan.  torch.special.xlog1py."""
    return _times_log(a, b, log1p, -1.0)


def _times_log(a: Any, b: Any, function: Callable[[Tensor], Tensor], edge: float) -> Tensor:
    a, b = (x if isinstance(x, Tensor) else Tensor(x) for x in (a, b))
    unseen = logical_and(a == 0, logical_or(b <= edge, b == math.inf))
    return mul(a, function(where(unseen, edge + 1.0, b)))


def entr(x: Tensor) -> Tensor:
    """-x log(x), 0 at 0 and -inf below: a term of an entropy.  torch.special.entr."""
    positive = x > 0
    return where(positive, -x * log(where(positive, x, 1.0)), where(x < 0, -math.inf, x * 0.0))


def sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0.  torch.sinc, numpy.sinc."""
    angle = where(x == 0, 1.0, x) * math.pi
    return where(x == 0, 1.0, sin(angle) / angle)


@torch_names
def logit(x: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), the inverse of sigmoid; eps: x is kept in [eps, 1 - eps] first.  torch.logit."""
    x = x if eps is None else x.clip(eps, 1 - eps)
    return log(x / (1.0 - x))


def ndtr(x: Tensor) -> Tensor:
    """The share of a standard normal distribution below x.  torch.special.ndtr."""
    return erfc(x * -math.sqrt(0.5)) * 0.5


def exp2(x: Tensor) -> Tensor:
    """2 to the power of x.  torch.exp2."""
    return 2.0 ** x

