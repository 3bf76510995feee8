"""Attaches the compiled loops to the strategies of a convolution: products, Winograd's transforms, and depthwise.

Measured, and left to numpy: products with many columns, the kernels' transform (bound by what it writes).
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ...ops.scratch import scratch
from ...ops.strategies import MOST_BATCH, Depthwise, Im2col, Pointwise, batch_first, batch_last, product
from ...ops.windows import Geometry
from ...threads import parallel
from .kernels import LEAST, loops, plain, share

Winograd = sys.modules["needle_lab.ops.winograd"].Winograd         # the package's name `winograd` is the switch

# --- products ---------------------------------------------------------------------------------------------------------

LEAST_PRODUCTS = 1 << 18     # multiplications that are worth a call of a loop
FEW_COLUMNS = 256            # up to here our products are faster than those of BLAS, beyond as fast; a single product also
IN_CACHE, FEW_ROWS = 1 << 18, 128         # while the columns stay in the L2 cache or are read a few times (measured)
CHUNK = 480                  # columns that a block of windows forms
LEAST_WINDOWS = 512          # of a sample, or of the batch where it is last: with fewer, sums are short, and BLAS is faster
LEAST_WINDOWS_OF_INPUT = 1024             # with fewer, it costs too much to turn the weight
SCATTERED = 80               # to add a value of a column to its place in the input costs as many multiplications
TOGETHER = 2048              # windows whose gradients are added together


def _rest(size: int) -> np.ndarray:
    """Scratch for the last rows of weights with `size` columns."""
    return scratch("rest", (loops("products").ROWS * size,), np.float32)


@functools.lru_cache(1024)
def _each(size: int, step: int) -> np.ndarray:
    """0, step, 2 step, ...: where the rows of a matrix begin."""
    return np.arange(size) * step


@product.compiled
def _(rows, columns, out):
    size, count = columns.shape[1:]
    few = count <= FEW_COLUMNS or len(rows) == 1 and (columns.size <= IN_CACHE or rows.shape[1] <= FEW_ROWS)
    if (not few or rows.size * count < LEAST_PRODUCTS or len(rows) != len(columns)
            or not all(a.dtype == np.float32 and a.flags.c_contiguous for a in (rows, columns, out))):
        return NotImplemented
    weights, flat, starts = plain(rows), plain(columns).reshape(-1), _each(size, count)

    def some(start, stop, first, last):                  # these products of the stack, these rows
        loops("products").products(weights[:, first:last].reshape(-1), flat, starts, out[:, first:last].reshape(-1), count,
                                   last - first, count, start, stop, _rest(size))
    if len(rows) > 1:
        share(len(rows), rows.size * count // 32, lambda start, stop: some(start, stop, 0, rows.shape[1]))
    else:
        share(rows.shape[1], rows.size * count // 32, lambda first, last: some(0, 1, first, last))
    return None

# --- im2col without columns -------------------------------------------------------------------------------------------


@functools.lru_cache(1024)
def _seen(g: Geometry, n: int) -> tuple[tuple[int, int], np.ndarray]:
    """(rows and columns of a plane, where in the planes of n samples each channel and place of the kernel begins)."""
    reach = [[place * d for place in range(k)] for k, d in zip(g.kernel, g.dilation, strict=True)]
    height, width = (m + r[-1] // s for m, r, s in zip(g.out, reach, g.stride, strict=True))
    down, across = g.stride
    starts = [(((c * down + i % down) * across + j % across) * height + i // down) * width + j // across
              for c, i, j in itertools.product(range(g.weight[1]), *reach)]
    return (height, width), np.array(starts) * n


def _needs_columns(way: Im2col, n: int, *arrays) -> bool:
    """Whether numpy would copy windows to columns, and there is enough to do."""
    return (not isinstance(way, Pointwise) and not way.whole and len(way.geometry.out) == 2 and n <= MOST_BATCH
            and way.multiplications() >= LEAST_PRODUCTS and all(a.dtype == np.float32 for a in arrays))


def _maps(g: Geometry, x: np.ndarray, n: int, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """x (C, H, W) or (C, H, W, n) in planes, flat, and how many numbers each channel has."""
    each = math.prod(g.stride) * math.prod(shape) * n
    maps, unit = scratch("planes", (g.x[1] * each,), x.dtype), x.reshape(g.x[1], g.size[0], -1)
    corner = g.pads[0][0], g.pads[1][0]
    share(g.x[1], g.x[1] * each,
          lambda first, last: loops("windows").planes(unit, n, g.stride, corner, shape, maps, first, last))
    return maps, each


@Im2col.forward.compiled
def _(self, x, prepared):
    g, n = self.geometry, len(x)
    if not _needs_columns(self, n, x, prepared):
        return NotImplemented
    weights = plain(prepared)
    if self.batch_last:
        y = np.empty((*g.y[1:], n), x.dtype)
        _convolve(self, batch_last(x), n, weights, y)
        return batch_first(y)
    y = np.empty((n, *g.y[1:]), x.dtype)
    parallel(lambda i: _convolve(self, plain(x[i]), 1, weights, y[i]), range(n), self.threads())
    return y


def _convolve(way: Im2col, x: np.ndarray, n: int, weights: np.ndarray, y: np.ndarray) -> None:
    """x (C, H, W) or (C, H, W, n), weights (groups, O / groups, K) -> y (O, *out) or (O, *out, n)."""
    g, do = way.geometry, loops("windows")
    shape, starts = _seen(g, n)
    size, row, kept = len(starts), shape[1] * n, g.out[1] * n
    (maps, each), results = _maps(g, x, n, shape), y.reshape(g.groups, -1, g.out[0], kept)
    width = do.WIDTH                                     # row by row, if its last vector wastes no more than dropped columns
    step = 1 if row > kept and -(-kept // width) * width <= row else max(1, min(CHUNK // row, g.out[0]))

    def some(start, stop):
        block = scratch("product", (results.shape[1] * step * row,), x.dtype)
        for group in range(g.groups):
            do.windows(weights[group].reshape(-1), maps[group * g.weight[1] * each:], starts, row, kept, results[group],
                       start, stop, step, block, _rest(size))
    share(g.out[0], way.multiplications() // g.x[0] * n // 32, some)


class _Phase(NamedTuple):
    """Every stride-th row and column of the input, from `at` on: its gradient is a convolution of g with stride 1."""

    at: tuple[slice, slice]
    taps: tuple[list[int], list[int]]    # the places of the kernel that see these rows and columns
    size: tuple[int, int]
    starts: np.ndarray                   # where, in g with its padding, each output and place begins


@functools.lru_cache(1024)
def _phases(g: Geometry, n: int) -> tuple[tuple[int, int], tuple[int, int], list[_Phase]]:
    """(padding above and to the left of g, its shape with padding, phases), g having n samples side by side.

    Row h of the input is row q of phase a where h + padding = q stride + a. A place i of the kernel sees it where
    i dilation = m stride + a for a whole m: from window q - m.
    """
    lines: list[list[tuple]] = []
    for size, k, s, (before, _), d in zip(g.size, g.kernel, g.stride, g.pads, g.dilation, strict=True):
        line = []
        for a in range(s):
            first, last = -((a - before) // s), (size - 1 + before - a) // s              # q
            taps = [i for i in range(k) if i * d % s == a]
            if taps and first <= last:
                line.append((slice(first * s + a - before, size, s), taps, first, last, [i * d // s for i in taps]))
        lines.append(line)
    pad = tuple(max(0, *(max(ms) - first for _, _, first, _, ms in line)) for line in lines)
    shape = tuple(max(last - min(ms) for _, _, _, last, ms in line) + p + 1 for line, p in zip(lines, pad, strict=True))
    phases = []
    for rows, columns in itertools.product(*lines):
        places = [[first - m + p for m in ms] for (_, _, first, _, ms), p in zip((rows, columns), pad, strict=True)]
        outputs = range(g.weight[0] // g.groups)
        starts = [(o * shape[0] + i) * shape[1] + j for o, i, j in itertools.product(outputs, *places)]
        phases.append(_Phase((rows[0], columns[0]), (rows[1], columns[1]),
                             (rows[3] - rows[2] + 1, columns[3] - columns[2] + 1), np.array(starts) * n))
    return (pad[0], pad[1]), (shape[0], shape[1]), phases


@Im2col.input_gradient.compiled
def _(self, g, prepared):
    shape, n = self.geometry, len(g)
    channels, outputs = shape.weight[1], shape.weight[0] // shape.groups
    if (not _needs_columns(self, n, g, prepared) or n * shape.windows < LEAST_WINDOWS_OF_INPUT
            or -channels % loops("products").ROWS * outputs > SCATTERED * channels):
        return NotImplemented
    phases = _phases(shape, n if self.batch_last else 1)[2]
    kernels = prepared.swapaxes(1, 2).reshape(shape.groups, -1, shape.weight[1], *shape.kernel).swapaxes(1, 2)
    weights = [kernels[:, :, :, down][..., across].reshape(*kernels.shape[:2], -1)
               for down, across in (phase.taps for phase in phases)]
    whole = len(phases) == math.prod(shape.stride)
    if self.batch_last:
        x = (np.empty if whole else np.zeros)((*shape.x[1:], n), g.dtype)
        _spread_gradient(self, batch_last(g), n, weights, x)
        return batch_first(x)
    x = (np.empty if whole else np.zeros)((n, *shape.x[1:]), g.dtype)
    parallel(lambda i: _spread_gradient(self, plain(g[i]), 1, weights, x[i]), range(n), self.threads())
    return x


def _spread_gradient(way: Im2col, g: np.ndarray, n: int, weights: list[np.ndarray], x: np.ndarray) -> None:
    """g (O, *out) or (O, *out, n), weights (groups, C / groups, O / groups * places) by phase -> x (C, H, W) or with n."""
    geometry, do = way.geometry, loops("windows")
    pad, shape, phases = _phases(geometry, n)
    each, row = math.prod(shape) * n, shape[1] * n
    maps = scratch("planes", (len(g) * each,), g.dtype)
    unit = g.reshape(len(g), geometry.out[0], -1)
    share(len(g), len(g) * each, lambda first, last: do.planes(unit, n, (1, 1), pad, shape, maps, first, last))
    for phase, rows in zip(phases, weights, strict=True):
        kept, step = phase.size[1] * n, max(1, min(CHUNK // row, phase.size[0]))
        straight = geometry.stride == (1, 1)
        out = x if straight else scratch("phase", (len(x), *phase.size, n), x.dtype)
        results = out.reshape(geometry.groups, -1, phase.size[0], kept)

        def some(start, stop, rows=rows, phase=phase, results=results, kept=kept, step=step):
            block = scratch("product", (results.shape[1] * step * row,), g.dtype)
            for group in range(geometry.groups):
                seen = maps[group * (len(g) // geometry.groups) * each:]
                do.windows(rows[group].reshape(-1), seen, phase.starts, row, kept, results[group], start, stop, step, block,
                           _rest(len(phase.starts)))
        share(phase.size[0], way.multiplications() // geometry.x[0] * n // 32 // len(phases), some)
        if not straight:
            x[(slice(None), *phase.at)] = out.reshape(len(x), *phase.size, *x.shape[3:])


@Im2col.weight_gradient.compiled
def _(self, x, g):
    shape, n = self.geometry, len(x)
    if not _needs_columns(self, n, x, g) or shape.windows * (n if self.batch_last else 1) < LEAST_WINDOWS:
        return NotImplemented
    total = np.zeros((shape.groups, shape.weight[0] // shape.groups, math.prod(shape.weight[1:])), x.dtype)
    if self.batch_last:
        _add_weight_gradient(self, batch_last(x), batch_last(g, "gradient"), n, total)
    else:
        for i in range(n):
            _add_weight_gradient(self, plain(x[i]), plain(g[i]), 1, total)
    return total.reshape(shape.weight)


def _add_weight_gradient(way: Im2col, x: np.ndarray, g: np.ndarray, n: int, total: np.ndarray) -> None:
    """x (C, H, W) or (C, H, W, n), g (O, *out) or (O, *out, n): the gradient is added to total (groups, O / groups, K)."""
    shape, do = way.geometry, loops("windows")
    seen, starts = _seen(shape, n)
    row, kept, rows = seen[1] * n, shape.out[1] * n, shape.out[0]
    maps, each = _maps(shape, x, n, seen)
    wide = g.reshape(-1)
    if row > kept:
        wide = scratch("wide", (shape.weight[0] * rows * row,), x.dtype)
        do.widen(g.reshape(-1, rows, kept), row, wide)
    pitch, outputs = rows * row, total.shape[1]

    def some(first, last):
        for group in range(shape.groups):
            seen_maps = maps[group * shape.weight[1] * each:]
            do.windows_gradient(wide[group * outputs * pitch:], outputs, pitch, seen_maps, starts,
                                TOGETHER, pitch - (row - kept), total[group].reshape(-1), first, last)
    share(len(starts), way.multiplications() // shape.x[0] * n // 32, some)

# --- Winograd's transforms --------------------------------------------------------------------------------------------


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


@Winograd._spread.compiled
def _(self, x, start, stop, top, bottom):
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


@Winograd._gather.compiled
def _(self, products, y, start, stop, top, bottom):
    if not _serves(self, y[start:stop].size):
        return NotImplemented

    def some(n, unit, row, down, at, first, last):
        loops("tiles").gather(products, n, self.tile, self.tile * row, down, self.tiles[1],
                              _planes(self, self.tile**2, n, down), unit, at, first, last)
    _strips(self, y, start, stop, top, bottom, some)
    return None


@Winograd._spread_gradient.compiled
def _(self, g, start, stop, top, bottom):
    if not _serves(self, g[start:stop].size):
        return NotImplemented
    out = scratch("products", (self.numbers, g.shape[1], (stop - start) * (bottom - top) * self.tiles[1]), g.dtype)

    def some(n, unit, row, down, at, first, last):
        loops("tiles").spread_gradient(unit, n, self.tile, self.tile * row, down, self.tiles[1], _padded(self, n, down),
                                       _planes(self, self.tile**2, n, down), out, at, first, last)
    _strips(self, g, start, stop, top, bottom, some)
    return out


SQUARES = (36, 16, 9)        # numbers of a kernel in the spaces that have a compiled transform


@Winograd._kernels.compiled
def _(self, weight, turned):
    (outputs, channels), width = weight.shape[:2], loops("tiles").WIDTH
    if (self.numbers not in SQUARES or weight.dtype != np.float32 or outputs * channels % width
            or weight.size < LEAST):
        return NotImplemented
    kernels, out = plain(weight).reshape(-1), np.empty((self.numbers, outputs, channels), np.float32)
    share(outputs * channels // width, out.size, lambda start, stop: loops("tiles").kernels_to_points(
        kernels, turned, out.reshape(self.numbers, -1), start * width, stop * width))
    return out


@Winograd._kernels_gradient.compiled
def _(self, total):
    count, width = total.size // self.numbers, loops("tiles").WIDTH
    if (self.numbers not in SQUARES or total.dtype != np.float32 or count % width or total.size < LEAST
            or not total.flags.c_contiguous):
        return NotImplemented
    out = np.empty((count, 9), np.float32)
    share(count // width, total.size, lambda start, stop: loops("tiles").points_to_kernels(
        total.reshape(self.numbers, -1), out.reshape(-1), start * width, stop * width))
    return out


@Winograd._multiply.compiled
def _(self, prepared, spread, products):
    """Kernels are brought into the space of products some rows at a time, and used while they are in the cache."""
    if prepared.ndim == 3 or self.numbers not in SQUARES or not spread.flags.c_contiguous:
        return NotImplemented
    (outputs, channels), count, do = prepared.shape[:2], spread.shape[2], loops("tiles")
    if (prepared.dtype != np.float32 or count > FEW_COLUMNS or products.size * channels < LEAST_PRODUCTS
            or outputs % do.ROWS or do.ROWS * channels % do.WIDTH):
        return NotImplemented
    kernels, columns, out = plain(prepared).reshape(-1), spread.reshape(-1), products.reshape(-1)
    starts = _each(channels, count)

    def some(start, stop):
        weights = scratch("kernels", (self.numbers * (do.ROWS * channels + do.WIDTH),), np.float32)
        do.products_with_kernels(kernels, self.numbers, columns, starts, out, outputs, count, start * do.ROWS,
                                 stop * do.ROWS, weights)
    share(outputs // do.ROWS, products.size * channels // 32, some)
    return None

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
