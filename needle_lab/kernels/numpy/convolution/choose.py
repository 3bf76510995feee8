"""Which strategy computes a convolution, and why: `choose` for programs, `explain_conv` for people."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ....core.explain import explaining
from ....core.tiers import use_kernels
from ....errors import ShapeError
from ....ops.windows import pad_pairs, spread
from ..threads import get_num_threads
from .geometry import Geometry
from .strategies import Dense, Depthwise, Empty, Im2col, Pointwise, Strategy
from .winograd import Winograd


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
        weight = weight[(slice(None), slice(None), *self.kept)]
        return self.strategy.prepare(weight) if self.what == "forward" else self.strategy.prepare_input(weight)

    def run(self, a: np.ndarray, b: Any, out: np.ndarray | None = None) -> np.ndarray:
        """The result, in any memory order, or written into `out`."""
        if self.what == "weight":
            y = self.strategy.weight_gradient(a, b)
            if y.shape[2:] != self.kernel:
                part, y = y, np.zeros((*y.shape[:2], *self.kernel), y.dtype)
                y[(slice(None), slice(None), *self.kept)] = part
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
    return _choose(tuple(x_shape), tuple(weight_shape), tuple(stride), tuple(map(tuple, pads)), tuple(dilation), groups,
                   np.dtype(dtype), what, reuse, "winograd" not in use_kernels.without, use_kernels.level == "fast",
                   get_num_threads())


@lru_cache(1024)
def _choose(x, weight, stride, pads, dilation, groups, dtype, what: str, reuse: bool, winograd: bool, fast: bool,
            _threads: int) -> Choice:                    # what a strategy costs depends on their number
    geometry = Geometry(x, weight, stride, pads, dilation, groups, dtype)
    strategy: Strategy
    trimmed, kept = geometry.trimmed() if 0 not in (*x, *weight, *geometry.y) else (geometry, ())
    if not kept or 0 in trimmed.weight:
        strategy, kept = Empty(geometry), (slice(None),) * len(geometry.kernel)
    elif Dense.fits(trimmed):
        strategy = Dense(trimmed)
    elif Depthwise.fits(trimmed):
        strategy = Depthwise(trimmed)
    elif Pointwise.fits(trimmed):
        strategy = Pointwise(trimmed)
    else:
        strategy = (winograd and Winograd.best(trimmed, what, reuse, fast)) or Im2col(trimmed)
    return Choice(strategy.name, strategy.why(), what, strategy.multiplications(), strategy, kept, geometry.kernel)

# --- for people -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvExplanation:
    """What `explain_conv` found: a row for y, dx and dw.  str() is a table, a notebook shows it as one."""

    geometry: Geometry
    rows: tuple[tuple[str, Choice], ...]

    @property
    def direct(self) -> int:
        """Multiplications of the plain sum over samples, outputs, windows, channels and places, padding included."""
        return Strategy(self.geometry).multiplications()

    def bytes_moved(self) -> int:
        """Bytes of x, weight and y together: what has to be read and written at least."""
        g = self.geometry
        return sum(int(np.prod(shape, dtype=np.int64)) for shape in (g.x, g.weight, g.y)) * g.dtype.itemsize

    def _cells(self) -> list[tuple[str, ...]]:
        table: list[tuple[str, ...]] = [("", "strategy", "multiplications (million)", "of the plain sum's (%)", "why")]
        for name, choice in self.rows:
            share = 100 * choice.multiplications / max(self.direct, 1)
            table.append((name, choice.name, f"{choice.multiplications / 1e6:,.2f}", f"{share:.0f}", choice.why))
        return table

    def _title(self) -> str:
        g = self.geometry
        moved = self.bytes_moved()
        return (f"convolution: x {g.x}, weight {g.weight} -> y {g.y}; plain sum {self.direct / 1e6:,.2f} million "
                f"multiplications; x, weight and y {moved / 2**20:,.2f} MiB: {self.direct / max(moved, 1):,.1f} a byte")

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self._title(), *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = self._cells()
        body = "".join("<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                       for row in rows[1:])
        head = "".join(f"<th style='text-align:left'>{html.escape(cell)}</th>" for cell in rows[0])
        return f"<p>{html.escape(self._title())}</p><table><tr>{head}</tr>{body}</table>"


@explaining
def explain_conv(x_shape, weight_shape, stride=1, padding=0, dilation=1, groups: int = 1, dtype="float32",
                 reuse: bool = False) -> ConvExplanation:
    """How `ndl.conv` would compute a convolution of these shapes and its two gradients, and why.

    x_shape (N, C, *size), weight_shape (O, C / groups, *kernel); the rest as for `ndl.conv`. reuse: the weight is
    prepared once for many calls, as for inference. ShapeError where the shapes do not fit.
    """
    x, weight = tuple(x_shape), tuple(weight_shape)
    dims = len(weight) - 2
    if len(x) != len(weight) or x[1] != weight[1] * groups or weight[0] % groups:
        raise ShapeError(f"explain_conv: input {x} does not fit weight {weight} with groups={groups}; expected "
                         "(N, C, *size) and (O, C / groups, *kernel)")
    steps, spacing = spread(stride, dims, "stride"), spread(dilation, dims, "dilation")
    pads = pad_pairs(padding, dims, weight[2:], spacing, x[2:], steps)
    geometry = Geometry(x, weight, steps, pads, spacing, groups, np.dtype(dtype))
    if min(geometry.out, default=1) < 0:
        raise ShapeError(f"explain_conv: a kernel of {weight[2:]} with dilation {spacing} does not fit into an input of "
                         f"{x[2:]} padded by {pads}")
    return ConvExplanation(geometry, tuple(
        (name, choose(x, weight, steps, pads, spacing, groups, dtype, what=what, reuse=reuse))
        for name, what in (("y", "forward"), ("dx", "input"), ("dw", "weight"))))
