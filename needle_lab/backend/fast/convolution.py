"""Attaches the compiled loops to the strategies of a convolution: Winograd's transforms, and depthwise.

Measured, and left to numpy: im2col's columns (numpy copies runs faster), the kernels' transform (bound by what it writes).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from ...ops.scratch import scratch
from ...ops.strategies import Depthwise, batch_last
from .kernels import LEAST, loops, plain, share

Winograd = sys.modules["needle_lab.ops.winograd"].Winograd         # the package's name `winograd` is the switch

# --- Winograd's transforms --------------------------------------------------------------------------------------------


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

# --- depthwise --------------------------------------------------------------------------------------------------------


def _serves_depthwise(way, *maps: np.ndarray) -> bool:
    """Whether maps are flat, each output channel has its own input channel, and nothing is cropped."""
    g = way.geometry
    return (len(g.out) == 2 and g.weight[0] == g.groups and maps[0].size >= LEAST
            and all(m.dtype == np.float32 for m in maps) and min(min(pair) for pair in g.pads) >= 0)


def _plane(size, pads, window) -> tuple[int, int]:
    """(columns of a padded map, numbers to hold it: `window` more rows and columns, which a moved map reads)."""
    pitch = size[1] + sum(pads[1])
    return pitch, (size[0] + sum(pads[0]) + 1) * pitch + window


def _depthwise(x, weight, stride, pads, dilation, out) -> np.ndarray:
    """x (N, C, H, W), weight (C, 1, *kernel) -> (N, C, *out)."""
    n, channels, *size = x.shape
    maps, y = plain(x).reshape(n * channels, *size), np.empty((n * channels, *out), x.dtype)
    rows = plain(weight).reshape(channels, *weight.shape[2:])
    pitch, numbers = _plane(size, pads, weight.shape[3] * dilation[1])
    corner = pads[0][0], pads[1][0]

    def some(start, stop):
        plane, sums = scratch("plane", (numbers,), x.dtype), scratch("sums", (numbers,), x.dtype)
        loops("depthwise").forward(maps, rows, stride, corner, dilation, pitch, plane, sums, y, start, stop)
    share(len(maps), x.size, some)
    return y.reshape(n, channels, *out)


@Depthwise.forward.compiled
def _(self, x, prepared):
    g = self.geometry
    if not _serves_depthwise(self, x, prepared):
        return NotImplemented
    return _depthwise(x, prepared, g.stride, g.pads, g.dilation, g.out)


@Depthwise.input_gradient.compiled
def _(self, g, prepared):
    """A convolution too, where the stride is 1: of g, with the kernel turned round."""
    shape = self.geometry
    reach = [(k - 1) * d for k, d in zip(shape.kernel, shape.dilation, strict=True)]
    pads = tuple((r - b, r - a) for r, (b, a) in zip(reach, shape.pads, strict=True))
    if not _serves_depthwise(self, g, prepared) or shape.stride != (1, 1) or min(min(pair) for pair in pads) < 0:
        return NotImplemented
    return _depthwise(g, prepared[:, :, ::-1, ::-1], (1, 1), pads, shape.dilation, shape.size)


@Depthwise.weight_gradient.compiled
def _(self, x, g):
    shape = self.geometry
    if not _serves_depthwise(self, x, g) or shape.stride != (1, 1):
        return NotImplemented
    maps, slopes, dweight = plain(x), plain(g), np.zeros((shape.groups, *shape.kernel), x.dtype)
    pitch, numbers = _plane(shape.size, shape.pads, shape.kernel[1] * shape.dilation[1])
    corner = shape.pads[0][0], shape.pads[1][0]

    def some(start, stop):
        plane, spread = scratch("plane", (numbers,), x.dtype), scratch("sums", (numbers,), x.dtype)
        loops("depthwise").weight_gradient(maps, slopes, corner, shape.dilation, pitch, plane, spread, dweight, start, stop)
    share(shape.groups, x.size, some)
    return dweight.reshape(shape.weight)
