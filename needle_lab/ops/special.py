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


# Wichura's rational functions (1988, algorithm AS 241): of the middle, of the tails, of the far tails; each / each.
_QUANTILES = (
    ((2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
      1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
     (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
      687.1870074920579083, 42.313330701600911252, 1)),
    ((7.7454501427834140764e-4, .0227238449892691845833, .24178072517745061177, 1.27045825245236838258,
      3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
     (1.05075007164441684324e-9, 5.475938084995344946e-4, .0151986665636164571966, .14810397642748007459,
      .68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1)),
    ((2.01033439929228813265e-7, 2.71155556874348757815e-5, .0012426609473880784386, .026532189526576123093,
      .29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
     (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
      .0148753612908506148525, .13692988092273580531, .59983220655588793769, 1)))


@op(promote="float", gradient=lambda g, y: g * (math.sqrt(math.pi) / 2) * exp(y * y))
def erfinv(x: Array) -> Array:
    """The y with erf(y) = x, for -1 < x < 1; infinite at the ends, nan beyond.  torch.erfinv."""
    q = x.astype(np.float64) / 2
    with np.errstate(all="ignore"):
        r = np.sqrt(-np.log(0.5 - np.abs(q)))
        places = (0.180625 - q * q, r - 1.6, r - 5)
        middle, tail, far = (np.polyval(a, z) / np.polyval(b, z) for (a, b), z in zip(_QUANTILES, places, strict=True))
        y = np.where(np.abs(q) <= 0.425, q * middle, np.copysign(np.where(r <= 5, tail, far), q))
        y = np.where(np.abs(q) == 0.5, np.copysign(np.inf, q), y) * math.sqrt(0.5)
    return np.asarray(y).astype(x.dtype)


@op(promote="float", gradient=lambda g, x: g * digamma(x))
def lgamma(x: Array) -> Array:
    """log |gamma(x)|, infinite at 0, -1, -2, ...  torch.lgamma."""
    x64 = x.astype(np.float64)
    with np.errstate(all="ignore"):
        mirrored = x64 < 0.5
        z, product = np.where(mirrored, 1 - x64, x64), np.ones_like(x64)
        for _ in range(10):                                        # gamma(x + 1) = x gamma(x), until the series is exact
            product, z = np.where(z < 10, product * z, product), np.where(z < 10, z + 1, z)
        s = 1 / (z * z)
        series = (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s * (1 / 1188 - s * 691 / 360360))))) / z
        y = (z - 0.5) * np.log(z) - z + 0.5 * math.log(2 * math.pi) + series - np.log(product)
        part = x64 - np.rint(x64)                                  # gamma(x) gamma(1 - x) = pi / sin(pi x), of period 2
        y = np.where(mirrored, math.log(math.pi) - np.log(np.abs(np.sin(math.pi * part))) - y, y)
        y = np.where(np.isinf(x64), np.inf, np.where((x64 == 1) | (x64 == 2), 0.0, y))
    return np.asarray(y).astype(x.dtype)


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

