"""Gradients against finite differences, in a random direction of each leaf, in float64.

f(x + t v) has the slope (gradient . v) at t = 0. Central differences with steps t and 2 t, extrapolated, are exact up to
t^4. A gradient is a function of the leaves and of the incoming gradients, and its own gradient is checked in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.derivatives import grad
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import CheckError

STEP = 1e-4                      # where the error of the formula (t^4) and that of rounding (1e-16 / t) meet


def check_slopes(call: Callable[[], Sequence[Tensor]], leaves: Sequence[Tensor], names: Sequence[str], what: str,
                 tolerance: float = 1e-6, second_order: bool = True) -> bool:
    """CheckError unless the gradients of call()'s outputs are right to second order.  -> whether any output has one.

    The leaves are float64; their values are moved and set back. tolerance: relative to the largest slope by a leaf; for
    second derivatives 20 times as much.
    """
    outputs = call()
    kept = [i for i, y in enumerate(outputs) if y.requires_grad]
    incoming = [Tensor(_random(y.shape, i), True, dtype=np.float64) for i, y in enumerate(outputs)]

    def first() -> Any:
        ys = call()
        return sum(((ys[i] * incoming[i].detach()).sum() for i in kept), 0.0)

    def second() -> Any:
        ys = call()
        found = grad([ys[i] for i in kept], leaves, [incoming[i] for i in kept], create_graph=True, allow_unused=True)
        return sum(((g * _random(g.shape, 100 + i)).sum() for i, g in enumerate(found) if g is not None), 0.0)
    if kept and leaves:
        _check(first, leaves, names, f"{what}: gradient", tolerance)
        if second_order:
            _check(second, [*leaves, *(incoming[i] for i in kept)], [*names, *(f"the incoming gradient {i}" for i in kept)],
                   f"{what}: second derivative", 20 * tolerance)
    return bool(kept and leaves)


def _check(function: Callable[[], Any], leaves: Sequence[Tensor], names: Sequence[str], what: str, tolerance: float) -> None:
    for x, g, name in zip(leaves, gradients([function()], leaves), names, strict=True):
        start, v = x.numpy().copy(), _random(x.shape, 1000)

        def at(step: float, x: Tensor = x, start: np.ndarray = start, v: np.ndarray = v) -> float:
            with no_grad():
                x.copy_(start + step * v)
            return float(function())
        one, two = ((at(t) - at(-t)) / (2 * t) for t in (STEP, 2 * STEP))
        numeric, noise = (4 * one - two) / 3, 1e-11 * max(abs(at(0.0)), 1.0)          # of rounding, divided by the step
        analytic, most = (0.0, 0.0) if g is None else (float((g * v).sum()), np.abs(g).max(initial=0.0))
        if not abs(numeric - analytic) <= tolerance * max(abs(numeric), most) + noise:
            raise CheckError(f"{what} by {name}: finite differences find a slope of {numeric:.9g} in a random direction, "
                             f"the gradient says {analytic:.9g}{'; none came: is it detached?' if g is None else ''}")


def _random(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


def gradients(outputs: Sequence[Any], leaves: Sequence[Tensor], incoming: Sequence[Any] | None = None) -> list[Any]:
    """The gradients of the leaves as arrays, None where no output depends on one."""
    kept = [i for i, y in enumerate(outputs) if isinstance(y, Tensor) and y.requires_grad]
    if not kept or not leaves:
        return [None] * len(leaves)
    found = grad([outputs[i] for i in kept], leaves, incoming and [incoming[i] for i in kept], retain_graph=True,
                 allow_unused=True)
    return [None if g is None else g.numpy() for g in found]
