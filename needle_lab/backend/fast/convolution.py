"""Attaches the compiled transforms to Winograd's convolution."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from ...ops.scratch import scratch
from ...ops.strategies import batch_last
from .kernels import LEAST, loops

Winograd = sys.modules["needle_lab.ops.winograd"].Winograd         # the package's name `winograd` is the switch


def _serves(way, values: int) -> bool:
    """Whether tiles are 4x4, there are enough values, and two rows of tiles fit into a plane."""
    samples = way.geometry.x[0] if way.batch_last else 1
    return (way.tile == 4 and not way.one_tile and values >= LEAST
            and 3 * samples * (way.tiles[1] + 1) <= loops("tiles").PLANE and way.geometry.pads[1][0] >= 0)


def _strips(way, x: np.ndarray, start: int, stop: int, top: int, bottom: int) -> Iterator[tuple]:
    """(samples side by side, map (C, H, W * samples), first row of tiles, how many rows, the number of the first tile).

    All samples stand side by side where the batch is last in memory; else they come one by one.
    """
    across, n = way.tiles[1], stop - start if way.batch_last else 1
    most = loops("tiles").PLANE // (n * (across + 1)) - 2
    if way.batch_last:
        maps = batch_last(x[start:stop])
        units = [maps.reshape(*maps.shape[:2], -1)]
    else:
        units = [x[i] if x[i].flags.c_contiguous else np.ascontiguousarray(x[i]) for i in range(start, stop)]
    for i, unit in enumerate(units):
        for row in range(top, bottom, most):
            yield n, unit, row, min(most, bottom - row), (i * (bottom - top) + row - top) * across * n


def _memory(dtype) -> np.ndarray:
    return scratch("planes", (loops("tiles").SCRATCH,), dtype)


@Winograd._spread.compiled
def _(self, x, start, stop, top, bottom):
    if not _serves(self, x[start:stop].size):
        return NotImplemented
    (above, _), (left, _) = self.geometry.pads
    across, memory = self.tiles[1], _memory(x.dtype)
    out = scratch("spread", (36, x.shape[1], (stop - start) * (bottom - top) * across), x.dtype)
    for n, unit, row, down, at in _strips(self, x, start, stop, top, bottom):
        loops("tiles").spread(unit, n, 4 * row - above, -left, down, across, memory, out, at)
    return out


@Winograd._gather.compiled
def _(self, products, y, start, stop, top, bottom):
    if not _serves(self, y[start:stop].size):
        return NotImplemented
    across, memory = self.tiles[1], _memory(y.dtype)
    for n, unit, row, down, at in _strips(self, y, start, stop, top, bottom):
        loops("tiles").gather(products, n, 4 * row, down, across, memory, unit, at)
    return None


@Winograd._spread_gradient.compiled
def _(self, g, start, stop, top, bottom):
    if not _serves(self, g[start:stop].size):
        return NotImplemented
    across, memory = self.tiles[1], _memory(g.dtype)
    out = scratch("products", (36, g.shape[1], (stop - start) * (bottom - top) * across), g.dtype)
    for n, unit, row, down, at in _strips(self, g, start, stop, top, bottom):
        loops("tiles").spread_gradient(unit, n, 4 * row, down, across, memory, out, at)
    return out
