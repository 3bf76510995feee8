"""L-BFGS: Newton's method with a curvature that is remembered from the last steps (Liu and Nocedal, 1989)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from .. import ops
from ..core.modes import enable_grad, no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError
from .optimizer import Optimizer

Point = tuple[float, float, float, Tensor]               # along a line: place, loss, slope, gradient


class LBFGS(Optimizer):
    """Steps along -H^-1 g, H^-1 built from the last history_size steps and changes of the gradient.  torch.optim.LBFGS.

    One group of parameters. step(closure) calls closure, which computes loss and gradients, up to max_eval times and makes
    up to max_iter steps. line_search_fn: None (steps of length lr), or "strong_wolfe" (Nocedal and Wright, 2006).
    """

    def __init__(self, params: Iterable[Any], lr: float = 1.0, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None):
        if line_search_fn not in (None, "strong_wolfe"):
            raise ArgumentError(f"LBFGS: line_search_fn {line_search_fn!r} is none of None, 'strong_wolfe'")
        super().__init__(params, dict(lr=lr, max_iter=max_iter, max_eval=max_eval or max_iter * 5 // 4,
                                      tolerance_grad=tolerance_grad, tolerance_change=tolerance_change,
                                      history_size=history_size, line_search_fn=line_search_fn))

    def add_param_group(self, group: dict[str, Any]) -> None:
        """The one group that there can be."""
        if self.param_groups:
            raise ArgumentError("LBFGS: its curvature is that of all parameters together: there can be one group only")
        super().add_param_group(group)

    def _fits(self, name: str, value: Tensor, p: Tensor) -> bool:
        return value.shape[-1:] == (sum(q.numel() for q in self._parameters()),)

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Minimise what closure returns, for up to max_iter steps; -> its first value."""
        if closure is None:
            raise ArgumentError("LBFGS.step needs a closure that computes the loss and its gradients, and returns the loss")
        group, params, evaluated = self.param_groups[0], self._parameters(), enable_grad()(closure)
        state = self.state.setdefault(params[0], {"step": 0})
        first = evaluated()
        loss, g, calls = float(first), self._gradient(), 1
        for i in range(group["max_iter"]):
            if float(abs(g).max()) <= group["tolerance_grad"]:
                break
            state["step"] += 1
            direction = self._direction(g, state, group["history_size"])
            slope = float(ops.dot(g, direction))
            t = group["lr"] * (min(1.0, 1.0 / float(abs(g).sum())) if state["step"] == 1 else 1.0)
            state["gradient"], state["move"], before = g, direction * t, loss
            if slope > -group["tolerance_change"]:
                break
            if group["line_search_fn"]:
                start = [p.clone() for p in params]

                def at(t: float, start: list[Tensor] = start, direction: Tensor = direction) -> Point:
                    self._move(t, direction)
                    loss, g = float(evaluated()), self._gradient()
                    for p, value in zip(params, start, strict=True):
                        p.copy_(value)
                    return t, loss, float(ops.dot(g, direction)), g
                (t, loss, _, g), used = strong_wolfe(at, (0.0, loss, slope, g), t, float(abs(direction).max()),
                                                     group["max_eval"] - calls, group["tolerance_change"])
                self._move(t, direction)
                calls += used
            else:
                self._move(t, direction)
                if i + 1 < group["max_iter"]:            # the last one's loss would go unused
                    loss, g, calls = float(evaluated()), self._gradient(), calls + 1
            state["move"] = direction * t
            if (calls >= group["max_eval"] or float(abs(state["move"]).max()) <= group["tolerance_change"]
                    or abs(loss - before) < group["tolerance_change"]):
                break
        return first

    def _direction(self, g: Tensor, state: dict[str, Any], history_size: int) -> Tensor:
        """-H^-1 g by the two loops of the paper, the last step taken into the history first."""
        if state["step"] == 1:
            return -g
        change, move = g - state["gradient"], state["move"]
        curvature = float(ops.dot(change, move))
        if curvature > 1e-10:
            for name, new in (("changes", change), ("moves", move)):
                kept = [state[name]] if name in state else []
                state[name] = ops.concat([*kept, ops.unsqueeze(new, 0)])[-history_size:]
            state["scale"] = curvature / float(ops.dot(change, change))
        history = zip(state.get("changes", ()), state.get("moves", ()), strict=True)
        pairs = [(y, s, 1.0 / float(ops.dot(y, s))) for y, s in history]
        q, shares = -g, list[float]()
        for y, s, rho in reversed(pairs):
            shares.append(rho * float(ops.dot(s, q)))
            q = q - shares[-1] * y
        q = q * state.get("scale", 1.0)
        for (y, s, rho), share in zip(pairs, reversed(shares), strict=True):
            q = q + (share - rho * float(ops.dot(y, q))) * s
        return q

    def _gradient(self) -> Tensor:
        """All gradients as one vector; zeros where there is none."""
        return ops.concat([ops.reshape(ops.zeros_like(p) if p.grad is None else p.grad, shape=(-1,))
                           for p in self._parameters()]).clone()

    def _move(self, t: float, direction: Tensor) -> None:
        parts = ops.split(direction, [p.numel() for p in self._parameters()])
        for p, part in zip(self._parameters(), parts, strict=True):
            p.copy_(p + t * part.reshape(p.shape))


def strong_wolfe(at: Callable[[float], Point], origin: Point, t: float, size: float, most: int, tolerance: float,
                 decrease: float = 1e-4, flatten: float = 0.9) -> tuple[Point, int]:
    """A place along a line where the loss has fallen enough and is flat enough; -> (it, how often the loss was computed).

    First a bracket around such a place is found by growing steps, then the bracket is narrowed by cubics.
    size: of the direction's largest value.
    """
    _, start, slope, _ = origin
    before, new, calls = origin, at(t), 1

    def ends(a: Point, b: Point) -> tuple[Point, Point]:
        return (a, b) if a[1] <= b[1] else (b, a)
    while True:                                            # look for a bracket
        if calls > most:
            return ends(origin, new)[0], calls
        too_high = new[1] > start + decrease * new[0] * slope or (calls > 2 and new[1] >= before[1])
        if not too_high and abs(new[2]) <= -flatten * slope:
            return new, calls
        if too_high or new[2] >= 0:
            break
        t = _cubic(before, new, new[0] + 0.01 * (new[0] - before[0]), 10 * new[0])
        before, new, calls = new, at(t), calls + 1
    (low, high), stuck, found = ends(before, new), False, False
    while not found and calls <= most and abs(high[0] - low[0]) * size >= tolerance:
        lower, upper = sorted((low[0], high[0]))
        t, margin = _cubic(low, high, lower, upper), 0.1 * (upper - lower)
        near = min(upper - t, t - lower) < margin
        if near and (stuck or t >= upper or t <= lower):   # too close to an end, twice: a tenth away from it
            t, near = (upper - margin if abs(t - upper) < abs(t - lower) else lower + margin), False
        stuck, new, calls = near, at(t), calls + 1
        if new[1] > start + decrease * t * slope or new[1] >= low[1]:
            low, high = ends(low, new)
        else:
            found = abs(new[2]) <= -flatten * slope
            low, high = new, low if not found and new[2] * (high[0] - low[0]) >= 0 else high
    return low, calls


def _cubic(a: Point, b: Point, least: float, most: float) -> float:
    """Where the cubic through two points with these slopes is smallest, within [least, most]."""
    (x1, f1, g1, _), (x2, f2, g2, _) = a, b
    if x1 > x2:
        x1, f1, g1, x2, f2, g2 = x2, f2, g2, x1, f1, g1
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if square < 0:
        return (least + most) / 2
    d2 = math.sqrt(square)
    return min(max(x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2)), least), most)
