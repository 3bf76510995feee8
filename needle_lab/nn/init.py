"""Initialisers: they fill a tensor in place and return it.  torch.nn.init.

fan_in and fan_out are the numbers of inputs and outputs that one value of a weight (out, in, *kernel) takes part in.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import Any

import numpy as np

from .. import random
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..random import Generator

_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float = 0.01) -> float:
    """The factor that keeps the variance of values through a layer followed by this nonlinearity."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + param**2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(f"calculate_gain: {nonlinearity!r} is none of {', '.join([*_GAINS, 'leaky_relu'])}")
    return _GAINS[nonlinearity]


def fans(weight: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (out, in, *kernel)."""
    if weight.ndim < 2:
        raise ShapeError(f"fan_in and fan_out need a weight with 2 axes or more, got shape {weight.shape}")
    kernel = math.prod(weight.shape[2:])
    return weight.shape[1] * kernel, weight.shape[0] * kernel


class _Switch(threading.local):
    off = False


_switch = _Switch()


class skipped:
    """`with init.skipped(): ...` makes layers without drawing numbers, for weights that are filled right after."""

    def __enter__(self) -> skipped:
        self.before, _switch.off = _switch.off, True
        return self

    def __exit__(self, *exc: object) -> None:
        _switch.off = self.before


def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    if _switch.off:
        return x
    with no_grad():
        return x.copy_(random.uniform(a, b, x.shape, x.dtype, generator=generator))


def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    if _switch.off:
        return x
    with no_grad():
        return x.copy_(random.normal(mean, std, x.shape, x.dtype, generator=generator))


def trunc_normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Tensor:
    """Normal, values outside [a, b] drawn again."""
    if not a < b or (b - mean) / std < -6 or (a - mean) / std > 6:
        raise ArgumentError(f"trunc_normal_: no values to draw between a={a} and b={b}")
    draw = (generator or random.default_generator).numpy
    values = draw.normal(mean, std, x.shape)
    while (outside := (values < a) | (values > b)).any():
        values[outside] = draw.normal(mean, std, int(outside.sum()))
    with no_grad():
        return x.copy_(values.astype(x.dtype))


def constant_(x: Tensor, val: float) -> Tensor:
    """Every value is `val`."""
    with no_grad():
        return x.fill_(val)


def zeros_(x: Tensor) -> Tensor:
    """Every value is 0."""
    return constant_(x, 0.0)


def ones_(x: Tensor) -> Tensor:
    """Every value is 1."""
    return constant_(x, 1.0)


def eye_(x: Tensor) -> Tensor:
    """The identity matrix."""
    with no_grad():
        return x.copy_(np.eye(*x.shape, dtype=x.dtype))


def xavier_uniform_(x: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance 2 gain^2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(x)))
    return uniform_(x, -bound, bound, generator)


def xavier_normal_(x: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance 2 gain^2 / (fan_in + fan_out)."""
    return normal_(x, 0.0, gain * math.sqrt(2 / sum(fans(x))), generator)


def _kaiming_std(x: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode {mode!r} is none of 'fan_in', 'fan_out'")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans(x)[mode == "fan_out"], 1))


def kaiming_uniform_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain^2 / fan (He et al., 2015); a is the negative slope of leaky_relu."""
    bound = math.sqrt(3) * _kaiming_std(x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound, generator)


def kaiming_normal_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Normal with variance gain^2 / fan."""
    return normal_(x, 0.0, _kaiming_std(x, a, mode, nonlinearity), generator)


def orthogonal_(x: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Rows (or columns, if there are fewer) that are orthonormal (Saxe et al., 2013)."""
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    drawn = (generator or random.default_generator).numpy.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(drawn)
    q = q * np.sign(np.diag(r))
    with no_grad():
        return x.copy_((gain * (q if rows >= columns else q.T)).reshape(x.shape).astype(x.dtype))


def _of_arrays(function: Any) -> Any:
    """An initialiser that also fills an array, as weight.data is one."""
    @functools.wraps(function)
    def filling(x: Any, *args: Any, **given: Any) -> Tensor:
        return function(Tensor(x) if isinstance(x, np.ndarray) else x, *args, **given)      # type: ignore[no-any-return]
    return filling


for _name in [name for name in globals() if name.endswith("_") and name[0] != "_"]:
    globals()[_name] = _of_arrays(globals()[_name])
