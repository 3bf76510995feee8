"""Which strategy computes a convolution, and why: `choose` for programs, `explain_conv` for people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .strategies import Depthwise, Empty, Im2col, Pointwise, Strategy
from .windows import Geometry
from .winograd import Winograd, winograd_allowed


@dataclass(frozen=True)
class Choice:
    """A strategy for one of the three sums: `run(a, prepare(weight))`, for the weight gradient `run(x, g)`.

    what: "forward" (a = x), "input" (a = g, the gradient of y) or "weight".
    """

    name: str
    why: str
    what: str
    multiplications: int
    strategy: Strategy
    kept: tuple[slice, ...]              # the part of the kernel that sees more than padding
    kernel: tuple[int, ...]              # the whole kernel

    def prepare(self, weight: np.ndarray) -> Any:
        """What can be computed from the weight alone."""
        weight = weight[(..., *self.kept)]
        return self.strategy.prepare(weight) if self.what == "forward" else self.strategy.prepare_input(weight)

    def run(self, a: np.ndarray, b: Any, out: np.ndarray | None = None) -> np.ndarray:
        """The result, in any memory order, or written into `out`."""
        if self.what == "weight":
            y = self.strategy.weight_gradient(a, b)
            if y.shape[2:] != self.kernel:
                part, y = y, np.zeros((*y.shape[:2], *self.kernel), y.dtype)
                y[(..., *self.kept)] = part
        else:
            y = (self.strategy.forward if self.what == "forward" else self.strategy.input_gradient)(a, b)
        if out is None:
            return y
        out[...] = y
        return out


def choose(x_shape, weight_shape, stride, pads, dilation, groups: int = 1, dtype=np.float32, *, what: str = "forward",
           reuse: bool = False) -> Choice:
    """The strategy for a convolution, or for one of its gradients.

    x_shape (N, C, *size), weight_shape (O, C / groups, *kernel); stride and dilation by dimension, pads as pairs.
    what: "forward", "input" or "weight". reuse: the weight stays the same over many calls, so that `prepare` is free.
    """
    return _choose(Geometry(tuple(x_shape), tuple(weight_shape), tuple(stride), tuple(map(tuple, pads)), tuple(dilation),
                            groups, np.dtype(dtype)), what, reuse, winograd_allowed())


@lru_cache(4096)
def _choose(geometry: Geometry, what: str, reuse: bool, allowed: bool) -> Choice:
    kept = (slice(None),) * len(geometry.kernel)
    if 0 in (*geometry.x, *geometry.weight, *geometry.y):
        strategy: Strategy = Empty(geometry)
    else:
        trimmed, kept = geometry.trimmed()
        if Depthwise.fits(trimmed):
            strategy = Depthwise(trimmed)
        elif Pointwise.fits(trimmed):
            strategy = Pointwise(trimmed)
        else:
            strategy = (allowed and Winograd.best(trimmed, what, reuse)) or Im2col(trimmed)
    return Choice(strategy.name, strategy.why(), what, strategy.multiplications(), strategy, kept, geometry.kernel)
