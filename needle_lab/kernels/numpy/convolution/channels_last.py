"""Convolution with weights that stay the same, as in inference: maps lie in memory as (N, *size, C), channels last.

A place of a map is then a run of C numbers. Columns and tiles are copied run by run, where with channels first they are
picked up number by number; all windows stand below one another, so a whole batch is one product; and what comes out lies
as the next layer wants it. Each window is a row here:

    (windows, places * C) @ (places * C, O)  ->  (windows, O)

The price is the kernel, which has to be turned, and brought into Winograd's space, for each new weight: `prepare` costs more
than a small batch's product. PyTorch calls this order torch.channels_last; oneDNN and cuDNN compute in it too. The compiled
loops of [fast] need no such copies, so with them maps stay channels first.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..scratch import scratch
from ..threads import matmul, parallel, shares
from .geometry import Geometry
from .strategies import BLOCK_VALUES, SMALL, Depthwise, Strategy, even_parts
from .winograd import F2, F4, Winograd, transforms

# What costs, in multiplications inside a large product (measured; about 45 a nanosecond on one AVX-512 core):
MOVED = 6                                # to copy one value into a tile or a column, or out of it
READ = 4                                 # to read one number of the weight
PACKED = 9                               # and to pack it for a product that is too large for panels
TILE_VALUES = 1_500_000                  # numbers in a block of tiles and their products (measured)
MANY_WINDOWS = 64                        # or tiles, for each thread: so many are shared out, fewer stay together
LEAST_ROWS, MANY_ROWS = 7, 4             # of such a product; with more than 4 rows for each of K, packing does not matter


def channels_last(x: np.ndarray) -> np.ndarray:
    """x (N, C, *size) -> the view (N, *size, C)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: np.ndarray) -> np.ndarray:
    """x (N, *size, C) -> the view (N, C, *size)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


# --- products with a prepared weight ----------------------------------------------------------------------------------
#
# With few rows to multiply (16 to 49 tiles or windows of a deep layer), packing a weight of megabytes costs BLAS as much as
# the product (see strategies.product). So the weight is cut into panels of some columns, once, and each is multiplied for
# itself: small matrices are not packed.


def panel_width(rows: int, k: int, outputs: int) -> int:
    """Of how many columns the panels of a weight (k, outputs) are, for products of so many rows; `outputs` for no panels."""
    for width in (64, 32):
        if outputs % width == 0 and k * width * min(rows, LEAST_ROWS) <= SMALL and rows <= MANY_ROWS * k:
            return width
    return outputs


def panels(weight: np.ndarray, width: int) -> np.ndarray:
    """weight (numbers, K, O) -> (numbers, O / width, K, width), each panel in one piece."""
    numbers, k, outputs = weight.shape
    return np.ascontiguousarray(weight.reshape(numbers, k, outputs // width, width).swapaxes(1, 2))


def times_panels(rows: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """rows (numbers, R, K) @ weight in panels (numbers, P, K, width) -> out (numbers, P, R, width)."""
    (numbers, count, k), (_, pieces, _, width) = rows.shape, weight.shape
    if pieces == 1 and numbers == 1:
        matmul(rows[0], weight[0, 0], out=out[0, 0])
        return
    most = count if pieces == 1 else max(1, SMALL // (k * width))
    step = -(-count // -(-count // most))                    # parts of the same number of rows, as far as possible
    even = count // step * step
    split, rest = (numbers, pieces, even // step, step, width), slice(even, None)

    def some(numbers: slice, pieces: slice) -> None:
        a, b = rows[numbers, None], weight[numbers, pieces]
        np.matmul(a[:, :, :even].reshape(len(a), 1, *split[2:4], k), b[:, :, None],
                  out=out[:, :, :even].reshape(split)[numbers, pieces])
        if even < count:
            np.matmul(a[:, :, rest], b, out=out[numbers, pieces, rest])
    each = rows.size * pieces * width // 16
    if numbers > 1:
        parallel(lambda at: some(at, slice(None)), shares(numbers, each))
    else:
        parallel(lambda at: some(slice(None), at), shares(pieces, each))

# --- the strategies ---------------------------------------------------------------------------------------------------


class ChannelsLast(Strategy):
    """What the strategies of this order share: blocks of windows, and the map under a block with its padding."""

    values_of_window: int                # numbers in memory for a window or tile while it is worked on
    most_values = BLOCK_VALUES

    def __init__(self, geometry: Geometry):
        super().__init__(geometry)
        self.step = geometry.stride      # from a window, or a tile, to the next
        self.counts = geometry.out       # of windows or tiles
        self.extent = geometry.kernel    # what one sees along each dimension
        self.spacing = geometry.dilation        # between the places that it sees

    def forward(self, x, prepared, out=None):
        g, source = self.geometry, channels_last(x)
        target = np.empty((len(x), *g.out, g.weight[0]), x.dtype) if out is None else channels_last(out)
        parallel(lambda at: self._block(source, prepared, target, *at), self._blocks(len(x)), self.threads())
        return channels_first(target)

    def _block(self, x, prepared, y, start: int, stop: int, top: int, bottom: int) -> None:
        """For samples start .. stop - 1, the windows with first coordinate top .. bottom - 1."""
        raise NotImplementedError

    def _blocks(self, n: int) -> list[tuple[int, int, int, int]]:
        """Whole samples while they fit into the cache together, else rows of windows of one sample."""
        rows, each = self.counts[0], math.prod(self.counts[1:])
        most = max(1, self.most_values // (self.values_of_window * each))            # rows
        threads, windows = self.threads(), n * rows * each
        alone = threads if windows >= MANY_WINDOWS * threads else 1              # of few windows, threads share the product
        if n > 1 and most >= rows:
            return [(*samples, 0, rows) for samples in even_parts(n, most // rows, threads, min(alone, n))]
        parts = even_parts(rows, most, *((threads, alone) if n == 1 else (1, 1)))
        return [(i, i + 1, *part) for i in range(n) for part in parts]

    def _seen(self, x: np.ndarray, start: int, stop: int, top: int, bottom: int) -> np.ndarray:
        """What the windows of a block see: a view (samples, *windows, *extent, C) of the map, or of a padded copy."""
        g, counts = self.geometry, (bottom - top, *self.counts[1:])
        first = [top * self.step[0] - g.pads[0][0], *(-b for b, _ in g.pads[1:])]
        lengths = [(m - 1) * s + (e - 1) * d + 1
                   for m, s, e, d in zip(counts, self.step, self.extent, self.spacing, strict=True)]
        ends = [f + n for f, n in zip(first, lengths, strict=True)]
        x = x[start:stop]
        if all(f >= 0 and e <= n for f, e, n in zip(first, ends, g.size, strict=True)):
            part = x[(slice(None), *map(slice, first, ends))]
        else:
            part = scratch("padded", (stop - start, *lengths, g.x[1]), x.dtype)
            inside = []
            for axis, (f, e, n) in enumerate(zip(first, ends, g.size, strict=True), start=1):
                low, high = max(f, 0), max(f, min(e, n), 0)
                inside.append((slice(low, high), slice(low - f, high - f)))
                before = (slice(None),) * axis
                part[(*before, slice(0, low - f))] = 0
                part[(*before, slice(high - f, None))] = 0
            part[(slice(None), *(to for _, to in inside))] = x[(slice(None), *(at for at, _ in inside))]
        moves = part.strides[1:-1]
        return as_strided(part, (stop - start, *counts, *self.extent, g.x[1]), (
            part.strides[0], *(s * m for s, m in zip(self.step, moves, strict=True)),
            *(d * m for d, m in zip(self.spacing, moves, strict=True)), part.strides[-1]))


class LastIm2col(ChannelsLast):
    """Each window is a row of places * C values; one product of the rows with the turned weight, or one for each group."""

    name = "im2col, channels last"

    def __init__(self, geometry: Geometry):
        super().__init__(geometry)
        self.values_of_window = geometry.places * geometry.x[1]

    def why(self) -> str:
        g = self.geometry
        k, run = self.values_of_window // g.groups, g.weight[1]
        return (f"the weight is prepared once: rows of {k} values, copied in runs of {run} or more, "
                f"times ({k} x {g.weight[0] // g.groups})")

    def work(self) -> float:
        """Products and values moved, in multiplications of a thread; all share the memory of the weight."""
        g = self.geometry
        rows, outputs = g.x[0] * g.windows / self.threads(), g.weight[0] // g.groups
        weights = self.values_of_window * outputs * (rows + READ + PACKED * (self.panel == outputs))
        moved = 0 if g.places == 1 else rows * self.values_of_window
        return weights + moved * MOVED

    @cached_property
    def panel(self) -> int:
        g, k = self.geometry, self.values_of_window
        return panel_width(min(g.x[0] * g.windows, self.most_values // k), k // g.groups, g.weight[0] // g.groups)

    def prepare(self, weight):
        g = self.geometry
        turned = weight.reshape(g.groups, g.weight[0] // g.groups, *weight.shape[1:])
        turned = np.ascontiguousarray(turned.transpose(0, *range(3, turned.ndim), 2, 1))
        return panels(turned.reshape(g.groups, -1, turned.shape[-1]), self.panel)

    def _block(self, x, prepared, y, start, stop, top, bottom):
        seen, target, groups = self._seen(x, start, stop, top, bottom), y[start:stop, top:bottom], self.geometry.groups
        rows = math.prod(seen.shape[:1 + len(self.counts)])
        if groups > 1 or not seen.flags.c_contiguous:    # under a 1x1 kernel, a map's places are its rows already
            copy = scratch("columns", (groups, *seen.shape[:-1], seen.shape[-1] // groups), x.dtype)
            copy[...] = np.moveaxis(seen.reshape(*seen.shape[:-1], groups, -1), -2, 0)
            seen = copy
        columns, (_, pieces, _, width) = seen.reshape(groups, rows, -1), prepared.shape
        if target.flags.c_contiguous and groups == pieces == 1:
            times_panels(columns, prepared, target.reshape(1, 1, rows, width))
            return
        out = scratch("products", (groups, pieces, rows, width), x.dtype)
        times_panels(columns, prepared, out)
        in_pieces = target.reshape(*target.shape[:-1], groups, pieces, width)
        in_pieces[...] = np.moveaxis(out.reshape(groups, pieces, *target.shape[:-1], width), (0, 1), (-3, -2))


class LastDepthwise(ChannelsLast):
    """One input channel an output: what the windows see at each place of the kernel, times a weight a channel, is added."""

    name = "depthwise, channels last"
    most_values = 1 << 15                # of a block of the result: with its summand in the second-level cache (measured)

    def __init__(self, geometry: Geometry):
        super().__init__(geometry)
        self.values_of_window = geometry.x[1]

    @staticmethod
    def fits(g: Geometry) -> bool:
        return g.groups == g.x[1] == g.weight[0] > 1

    def why(self) -> str:
        g = self.geometry
        return f"each of {g.weight[0]} outputs reads one channel: {g.places} maps, scaled by runs of channels, are added"

    def prepare(self, weight):
        return np.ascontiguousarray(weight.reshape(len(weight), -1).T)

    def _block(self, x, prepared, y, start, stop, top, bottom):
        seen, target = self._seen(x, start, stop, top, bottom), y[start:stop, top:bottom]
        part = scratch("products", target.shape, x.dtype)
        kernel = seen.shape[1 + len(self.counts):-1]
        for number, place in enumerate(np.ndindex(*kernel)):
            at = (slice(None),) * (1 + len(self.counts))
            np.multiply(seen[(*at, *place)], prepared[number], out=part if number else target)
            if number:
                target += part


class LastWinograd(ChannelsLast):
    """Winograd's tiles (see winograd.py): 36, or 16, products (tiles, C) @ (C, O)."""

    name = "winograd, channels last"
    most_values = TILE_VALUES

    def __init__(self, geometry: Geometry, tile: int = 4):
        super().__init__(geometry)
        g, self.tile = geometry, tile
        self.inputs, self.kernel, self.outputs = transforms(*[F4 if tile == 4 else F2] * 2)
        self.numbers = len(self.inputs)
        self.step, self.extent = (tile, tile), (tile + 2, tile + 2)
        self.counts = tuple(-(-m // tile) for m in g.out)
        self.values_of_window = self.numbers * (g.x[1] + g.weight[0])

    @staticmethod
    def fits(g: Geometry) -> bool:
        return Winograd.fits(g) and min(min(pair) for pair in g.pads) >= 0

    @cached_property
    def whole(self) -> bool:
        """Whether the tiles cover the result exactly."""
        return all(m == n * self.tile for m, n in zip(self.geometry.out, self.counts, strict=True))

    def multiplications(self) -> int:
        g = self.geometry
        return self.numbers * g.weight[0] * g.x[1] * g.x[0] * math.prod(self.counts)

    def why(self) -> str:
        less = Strategy.multiplications(self) / self.multiplications()
        tiles = "x".join(map(str, self.counts))
        return (f"the weight is prepared once; {tiles} tiles of {self.tile}x{self.tile} outputs, {self.numbers} products "
                f"each: {less:.1f} times fewer multiplications than summing 9 places")

    def work(self) -> float:
        """Products, transforms and values moved, in multiplications of a thread; all share the memory of the weight."""
        g = self.geometry
        channels, outputs, tiles = g.x[1], g.weight[0], g.x[0] * math.prod(self.counts) / self.threads()
        moved = (self.inputs.shape[1] * channels + len(self.outputs) * outputs) * tiles
        weights = self.numbers * channels * outputs * (tiles + READ + PACKED * (self.panel == outputs))
        return weights + moved * (self.numbers + MOVED)

    @cached_property
    def panel(self) -> int:
        g = self.geometry
        tiles = min(g.x[0] * math.prod(self.counts), self.most_values // self.values_of_window)
        return panel_width(tiles, g.x[1], g.weight[0])

    def prepare(self, weight):
        outputs, channels = weight.shape[:2]
        spread = matmul(self.kernel, np.ascontiguousarray(weight).reshape(outputs * channels, 9).T)
        return panels(spread.reshape(-1, outputs, channels).swapaxes(1, 2), self.panel)

    def _block(self, x, prepared, y, start, stop, top, bottom):
        spread = self._spread(x, start, stop, top, bottom)
        products = scratch("products", (self.numbers, prepared.shape[1], spread.shape[1], prepared.shape[3]), x.dtype)
        times_panels(spread, prepared, products)
        self._gather(products, y, start, stop, top, bottom)

    def _spread(self, x, start, stop, top, bottom) -> np.ndarray:
        """The numbers of a block of tiles: (numbers, tiles, C)."""
        seen = self._seen(x, start, stop, top, bottom)
        patches = scratch("patches", (*self.extent, *seen.shape[:3], seen.shape[-1]), x.dtype)
        patches[...] = seen.transpose(3, 4, 0, 1, 2, 5)
        flat = patches.reshape(self.numbers, -1)
        spread = matmul(self.inputs, flat, out=scratch("spread", flat.shape, x.dtype))
        return spread.reshape(self.numbers, -1, x.shape[-1])

    def _gather(self, products, y, start, stop, top, bottom) -> None:
        """From the products of a block of tiles, (numbers, panels, tiles, width), to its part of y (N, *out, O)."""
        flat, tile, (_, pieces, _, width) = products.reshape(self.numbers, -1), self.tile, products.shape
        tiles = matmul(self.outputs, flat, out=scratch("patches", (len(self.outputs), flat.shape[1]), y.dtype))
        tiles = tiles.reshape(tile, tile, pieces, stop - start, bottom - top, self.counts[1], width)
        tiles = tiles.transpose(0, 1, 3, 4, 5, 2, 6)
        part = y[start:stop, tile * top:tile * bottom]
        part = part.reshape(*part.shape[:-1], pieces, width)
        if self.whole and part.flags.c_contiguous:
            in_tiles = part.reshape(stop - start, bottom - top, tile, self.counts[1], tile, pieces, width)
            in_tiles[...] = tiles.transpose(2, 3, 0, 4, 1, 5, 6)
            return
        for i in range(tile):
            for j in range(tile):
                target = part[:, i::tile, j::tile]
                target[...] = tiles[i, j, :, :target.shape[1], :target.shape[2]]


def best(g: Geometry, winograd: bool) -> ChannelsLast | None:
    """The strategy of this order with the least work; None where one for channels first is better."""
    if LastDepthwise.fits(g):
        return LastDepthwise(g)
    nine_products = winograd and Winograd.fits(g) and g.size == (2, 2)
    if not g.size or nine_products or Depthwise.fits(g):
        return None
    ways: list[LastIm2col | LastWinograd] = [LastIm2col(g)]
    if winograd and LastWinograd.fits(g):
        ways += [LastWinograd(g, 4), LastWinograd(g, 2)]
    return min(ways, key=lambda way: way.work())
