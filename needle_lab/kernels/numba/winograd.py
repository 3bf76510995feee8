"""Attaches the compiled loops to Winograd's convolution: transforms of tiles and kernels, and both with products."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ...core.tiers import kernel
from ..numpy.convolution.strategies import batch_last
from ..numpy.convolution.winograd import Winograd
from ..numpy.scratch import scratch
from .attach import LEAST, loops, plain, share
from .convolution import FEW_COLUMNS, LEAST_PRODUCTS, row_starts

# --- tiles ------------------------------------------------------------------------------------------------------------

STRIP = 1024                 # tiles of a channel that are transformed together: their planes stay in the L2 cache


def _serves(way, values: int) -> bool:
    """Whether maps are cut into tiles, no column is cropped, and there are enough values."""
    return not way.one_tile and values >= LEAST and way.geometry.pads[1][0] >= 0


def _strips(way, x: np.ndarray, start: int, stop: int, top: int, bottom: int, work: Callable) -> None:
    """work(samples side by side, map (C, H, W * samples), first row of tiles, how many rows, the number of the first tile,
    first channel, last) for all samples start .. stop - 1 and rows of tiles top .. bottom - 1.

    All samples stand side by side where the batch is last in memory; else they come one by one.
    """
    across, n = way.tiles[1], stop - start if way.batch_last else 1
    most = max(1, STRIP // (n * across))
    if way.batch_last:
        maps = batch_last(x[start:stop])
        units = [maps.reshape(*maps.shape[:2], -1)]
    else:
        units = [x[i] if x[i].flags.c_contiguous else np.ascontiguousarray(x[i]) for i in range(start, stop)]
    for i, unit in enumerate(units):
        for row in range(top, bottom, most):
            at = (i * (bottom - top) + row - top) * across * n
            share(len(unit), unit.size, functools.partial(work, n, unit, row, min(most, bottom - row), at))


def _planes(way, planes: int, n: int, down: int) -> np.ndarray:
    """Scratch for so many planes, each with a row of tiles and a vector more."""
    return scratch("tiles", (planes * ((down + 1) * way.tiles[1] * n + loops("tiles").WIDTH),), np.float32)


def _padded(way, n: int, down: int) -> np.ndarray:
    """Scratch for the map under so many rows of tiles, and vectors that begin in it."""
    side = way.tile
    numbers = (side * down + 2) * (side * way.tiles[1] + 2) * n
    return scratch("padded", (numbers + (side + 1) * loops("tiles").WIDTH,), np.float32)


@kernel(Winograd._spread, "numba")
def compiled_winograd_spread(self, x, start, stop, top, bottom):
    if not _serves(self, x[start:stop].size):
        return NotImplemented
    (above, _), (left, _) = self.geometry.pads
    across, side = self.tiles[1], self.tile
    out = scratch("spread", (self.numbers, x.shape[1], (stop - start) * (bottom - top) * across), x.dtype)

    def some(n, unit, row, down, at, first, last):
        loops("tiles").spread(unit, n, side, side * row - above, left, down, across, _padded(self, n, down),
                              _planes(self, side * (side + 2), n, down), out, at, first, last)
    _strips(self, x, start, stop, top, bottom, some)
    return out


@kernel(Winograd._gather, "numba")
def compiled_winograd_gather(self, products, y, start, stop, top, bottom):
    if not _serves(self, y[start:stop].size):
        return NotImplemented

    def some(n, unit, row, down, at, first, last):
        loops("tiles").gather(products, n, self.tile, self.tile * row, down, self.tiles[1],
                              _planes(self, self.tile**2, n, down), unit, at, first, last)
    _strips(self, y, start, stop, top, bottom, some)
    return None


@kernel(Winograd._spread_gradient, "numba")
def compiled_winograd_spread_gradient(self, g, start, stop, top, bottom):
    if not _serves(self, g[start:stop].size):
        return NotImplemented
    out = scratch("products", (self.numbers, g.shape[1], (stop - start) * (bottom - top) * self.tiles[1]), g.dtype)

    def some(n, unit, row, down, at, first, last):
        loops("tiles").spread_gradient(unit, n, self.tile, self.tile * row, down, self.tiles[1], _padded(self, n, down),
                                       _planes(self, self.tile**2, n, down), out, at, first, last)
    _strips(self, g, start, stop, top, bottom, some)
    return out


# --- kernels ----------------------------------------------------------------------------------------------------------

SQUARES = (36, 16, 9)        # numbers of a kernel in the spaces that have a compiled transform


@kernel(Winograd._kernels, "numba")
def compiled_winograd_kernels(self, weight, turned):
    (outputs, channels), width = weight.shape[:2], loops("tiles").WIDTH
    if (self.numbers not in SQUARES or weight.dtype != np.float32 or outputs * channels % width
            or weight.size < LEAST):
        return NotImplemented
    kernels, out = plain(weight).reshape(-1), np.empty((self.numbers, outputs, channels), np.float32)
    share(outputs * channels // width, out.size, lambda start, stop: loops("tiles").kernels_to_points(
        kernels, turned, out.reshape(self.numbers, -1), start * width, stop * width))
    return out


@kernel(Winograd._kernels_gradient, "numba")
def compiled_winograd_kernels_gradient(self, total):
    count, width = total.size // self.numbers, loops("tiles").WIDTH
    if (self.numbers not in SQUARES or total.dtype != np.float32 or count % width or total.size < LEAST
            or not total.flags.c_contiguous):
        return NotImplemented
    out = np.empty((count, 9), np.float32)
    share(count // width, total.size, lambda start, stop: loops("tiles").points_to_kernels(
        total.reshape(self.numbers, -1), out.reshape(-1), start * width, stop * width))
    return out


@kernel(Winograd._multiply, "numba")
def compiled_winograd_multiply(self, prepared, spread, products):
    """Kernels are brought into the space of products some rows at a time, and used while they are in the cache."""
    if prepared.ndim == 3 or self.numbers not in SQUARES or not spread.flags.c_contiguous:
        return NotImplemented
    (outputs, channels), count, do = prepared.shape[:2], spread.shape[2], loops("tiles")
    if (prepared.dtype != np.float32 or count > FEW_COLUMNS or products.size * channels < LEAST_PRODUCTS
            or outputs % do.ROWS or do.ROWS * channels % do.WIDTH):
        return NotImplemented
    kernels, columns, out = plain(prepared).reshape(-1), spread.reshape(-1), products.reshape(-1)
    starts = row_starts(channels, count)

    def some(start, stop):
        weights = scratch("kernels", (self.numbers * (do.ROWS * channels + do.WIDTH),), np.float32)
        do.products_with_kernels(kernels, self.numbers, columns, starts, out, outputs, count, start * do.ROWS,
                                 stop * do.ROWS, weights)
    share(outputs // do.ROWS, products.size * channels // 32, some)
    return None
