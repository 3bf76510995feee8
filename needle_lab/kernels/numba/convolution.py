"""Attaches the compiled loops to the strategies of a convolution: products, im2col without columns, and depthwise.

Left to numpy, as measured: large products with many columns, gradients of weights with few windows.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from ...core.tiers import kernel
from ..numpy.convolution.geometry import Geometry
from ..numpy.convolution.strategies import MOST_BATCH, Depthwise, Im2col, Pointwise, batch_first, batch_last, product
from ..numpy.scratch import scratch
from ..numpy.threads import parallel
from .attach import LEAST, loops, plain, share

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
def row_starts(size: int, step: int) -> np.ndarray:
    """0, step, 2 step, ...: where the rows of a matrix begin."""
    return np.arange(size) * step


@kernel(product, "numba")
def compiled_product(rows, columns, out):
    size, count = columns.shape[1:]
    few = count <= FEW_COLUMNS or len(rows) == 1 and (columns.size <= IN_CACHE or rows.shape[1] <= FEW_ROWS)
    if (not few or rows.size * count < LEAST_PRODUCTS or len(rows) != len(columns)
            or not all(a.dtype == np.float32 and a.flags.c_contiguous for a in (rows, columns, out))):
        return NotImplemented
    weights, flat, starts = plain(rows), plain(columns).reshape(-1), row_starts(size, count)

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


@kernel(Im2col.forward, "numba")
def compiled_im2col_forward(self, x, prepared):
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


@kernel(Im2col.input_gradient, "numba")
def compiled_im2col_input_gradient(self, g, prepared):
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


@kernel(Im2col.weight_gradient, "numba")
def compiled_im2col_weight_gradient(self, x, g):
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


@kernel(Depthwise.forward, "numba")
def compiled_depthwise_forward(self, x, prepared):
    g = self.geometry
    if not _serves_depthwise(self, x, prepared):
        return NotImplemented
    return _depthwise(x, prepared, g.stride, g.pads, g.dilation, g.out)


@kernel(Depthwise.input_gradient, "numba")
def compiled_depthwise_input_gradient(self, g, prepared):
    """A convolution too, where the stride is 1: of g, with the kernel turned round."""
    shape = self.geometry
    reach = [(k - 1) * d for k, d in zip(shape.kernel, shape.dilation, strict=True)]
    pads = tuple((r - b, r - a) for r, (b, a) in zip(reach, shape.pads, strict=True))
    if not _serves_depthwise(self, g, prepared) or shape.stride != (1, 1) or min(min(pair) for pair in pads) < 0:
        return NotImplemented
    return _depthwise(g, prepared[:, :, ::-1, ::-1], (1, 1), pads, shape.dilation, shape.size)
