"""Winograd's convolution: a 3x3 kernel with stride 1 from 2.25 to 4 times fewer multiplications.

A tile of 6x6 inputs d, a kernel g and a tile of 4x4 outputs Y are each brought into a space of 36 numbers, where the
convolution is a plain product (Winograd, 1980; Lavin and Gray, 2015):

    Y = A^T [ (G g G^T) * (B^T d B) ] A               F(4x4, 3x3): 36 multiplications instead of 144

Summed over channels, the products become 36 matrix products; the transforms are matrix products too, with the Kronecker
squares of A, B and G. The idea is polynomial: evaluate two polynomials at six points, multiply, and interpolate the
product (Toom and Cook). A weight gradient is the same, read backwards; an input gradient is another convolution.

Accuracy. Which points is free, and their powers are what is added and subtracted. The classic 0, 1, -1, 2, -2 and
infinity lose a digit and a half; 0, 2/3, -2/3, 3/2, -3/2 and infinity, each with its reciprocal so that no power grows or
vanishes (after Barabasz et al., 2020), lose one. Largest error against float64, of the largest output, on ReLU's
outputs, 3x3 layers of C channels:

    C                          64 (28x28)   128 (28x28)   256 (14x14)   512 (14x14)
    direct sum                    2.5e-7        2.4e-7        2.4e-7        2.5e-7
    F(2x2, 3x3), 0 1 -1           3.5e-7        4.4e-7        6.2e-7        5.3e-7
    F(4x4, 3x3), 2/3 3/2          1.1e-6        1.5e-6        2.2e-6        1.9e-6
    F(4x4, 3x3), 1 2              5.7e-6        8.0e-6        1.2e-5        8.0e-6

In a whole network the errors of layers do not line up: a ResNet-18's logits are 1.8e-6 from float64's (1.1e-6 without;
PyTorch 0.8e-6), a ResNet-101's 1.0e-4 where the direct sum is at 0.8e-4 (PyTorch 0.8e-4: with random weights and batch
statistics it multiplies any rounding). Gradients of a ResNet-18 in training: median 5e-6 with, 2.7e-6 without. A tile that
holds an infinity or NaN spreads it over its outputs. So it is on where it pays;
`ndl.use_kernels("fast", without=["winograd"])` switches it off.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ....core.tiers import Tiered
from ..scratch import scratch
from ..threads import matmul, parallel
from .geometry import Geometry
from .strategies import LEAST_BATCH, SMALL_MAP, Strategy, batch_first, even_parts, product, shares

BLOCK_VALUES = 1_500_000                 # numbers in the products of a block of tiles: 6 MB (measured)
POINTS = (0, Fraction(2, 3), -Fraction(2, 3), Fraction(3, 2), -Fraction(3, 2))       # and infinity

# --- matrices -------------------------------------------------------------------------------------------------------


def toom_cook(outputs: int, taps: int, points) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (n, outputs), G (n, taps), B (n, n) of F(outputs, taps), n = outputs + taps - 1, by n - 1 points and infinity.

    y_i = sum_k g_k d_(i + k)  =  A^T [(G g) * (B d)]
    """
    points = [Fraction(p) for p in points]
    a: list[list] = [[p ** i for i in range(outputs)] for p in points] + [[0] * (outputs - 1) + [1]]
    g: list[list] = []
    b: list[list] = []
    for p in points:
        others = [q for q in points if q != p]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        g.append([p ** k / scale for k in range(taps)])
        b.append([*_from_roots(others), 0])
    g.append([0] * (taps - 1) + [1])
    b.append(_from_roots(points))
    a_, g_, b_ = (np.array([[float(v) for v in row] for row in m]) for m in (a, g, b))
    return a_, g_, b_


def _from_roots(roots) -> list[Fraction]:
    """The coefficients of the product of (x - root), lowest first."""
    c = [Fraction(1)]
    for root in roots:
        c = [low - root * high for low, high in zip([Fraction(0), *c], [*c, Fraction(0)], strict=True)]
    return c


def transforms(down, across) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both dimensions at once: matrices that bring inputs (B^T d B) and kernels (G g G^T) into the space of products, and
    products back to outputs (A^T m A), each tile as one column.  down, across: (A, G, B) of a dimension."""
    (a0, g0, b0), (a1, g1, b1) = down, across
    inputs, kernel, outputs = (np.kron(p, q).astype(np.float32) for p, q in ((b0, b1), (g0, g1), (a0.T, a1.T)))
    return inputs, kernel, outputs


F4 = toom_cook(4, 3, POINTS)
F2 = toom_cook(2, 3, (0, 1, -1))
# A map of two places padded by one: y0 = g1 d0 + g2 d1, y1 = g0 d0 + g1 d1, by three multiplications instead of six:
# g1 (d0 + d1) is in both sums, and (g2 - g1) d1, (g0 - g1) d0 put right what it has too much of.
TWO = (np.array([[1.0, 1], [1, 0], [0, 1]]), np.array([[0.0, 1, 0], [0, -1, 1], [1, -1, 0]]),
       np.array([[1.0, 1], [0, 1], [1, 0]]))


def _line(size: int, out: int, before: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The matrices of a dimension whose map is covered by one tile, for its real inputs alone; None if it is longer."""
    if size == out == 2 and before == 1:
        return TWO
    if out <= 4 and before >= 0 and before + size <= 6:
        a, g, b = F4
        return a[:, :out], g, b[:, before:before + size]
    return None

# --- the strategy ---------------------------------------------------------------------------------------------------


class Winograd(Strategy):
    """Tiles of the input into the space of products, one matrix product for each of its numbers, and back.

    A map no larger than a tile needs no tiling: its border of zeros is left out of B, and all samples form one product.
    fast: the compiled transforms are there; they take whole tiles. late: kernels come as they are, and are brought into the
    space of products in `forward`.
    """

    name = "winograd"

    def __init__(self, geometry: Geometry, tile: int = 4, fast: bool = False, late: bool = False):
        super().__init__(geometry)
        g, self.tile, self.fast, self.late = geometry, tile, fast, late
        lines = [_line(n, m, b) for n, m, (b, _) in zip(g.size, g.out, g.pads, strict=True)]
        self.one_tile = None not in lines and (not fast or any(line is TWO for line in lines))
        (a0, g0, b0), (a1, g1, b1) = [line or F4 for line in lines] if self.one_tile else [F4 if tile == 4 else F2] * 2
        self.inputs, self.kernel, self.outputs = transforms((a0, g0, b0), (a1, g1, b1))
        self.numbers = len(self.inputs)
        self.tiles = (1, 1) if self.one_tile else tuple(-(-m // tile) for m in g.out)
        self.batch_last = self.one_tile or (g.windows < SMALL_MAP and g.x[0] >= LEAST_BATCH)

    @staticmethod
    def fits(g: Geometry) -> bool:
        return (g.kernel == (3, 3) and g.stride == (1, 1) == g.dilation and g.groups == 1 and g.dtype == np.float32
                and all(p <= 2 for pair in g.pads for p in pair))

    @classmethod
    def best(cls, g: Geometry, what: str, reuse: bool, fast: bool) -> Winograd | None:
        """With the better size of tiles, if its work, in multiplications, is clearly under that of im2col; else None."""
        if not cls.fits(g):
            return None
        costs, late = FAST if fast and what == "forward" else NUMPY, fast and what == "forward" and not reuse
        way = min((cls(g, tile, fast, late) for tile in (4, 2)), key=lambda way: way.work(costs, reuse))
        windows = g.x[0] * g.windows
        direct = g.places * g.x[1] * (g.weight[0] * costs.columns(windows) + windows * costs.moved)
        return way if way.work(costs, reuse) < 0.9 * direct else None

    def work(self, costs: Costs, reuse: bool) -> float:
        """Products, transforms and values moved, in multiplications."""
        g = self.geometry
        tiles = g.x[0] * self.tiles[0] * self.tiles[1]
        channels, outputs = g.x[1], g.weight[0]
        moved = (len(self.inputs[0]) * channels + len(self.outputs) * outputs) * tiles
        weights = costs.columns(tiles) + (costs.read if reuse else costs.weight_moved)
        return self.numbers * channels * outputs * weights + moved * (self.numbers + costs.moved)

    def multiplications(self) -> int:
        g = self.geometry
        return self.numbers * g.weight[0] * g.x[1] * g.x[0] * self.tiles[0] * self.tiles[1]

    def why(self) -> str:
        g = self.geometry
        less = Strategy.multiplications(self) / self.multiplications()
        side = self.tile
        unit = "the map is one tile" if self.one_tile else f"{self.tiles[0]}x{self.tiles[1]} tiles of {side}x{side} outputs"
        return f"{unit}, {self.numbers} products each: {less:.1f} times fewer multiplications than summing {g.places} places"

    def prepare(self, weight):
        return weight if self.late else self._kernels(weight, False)

    def prepare_input(self, weight):
        return self.flipped._kernels(weight, True).swapaxes(1, 2)

    @Tiered
    def _kernels(self, weight, turned: bool) -> np.ndarray:
        """Kernels in the space of products: (numbers, O, C).  turned: by half a turn before."""
        outputs, channels = weight.shape[:2]
        flat = np.ascontiguousarray(weight).reshape(outputs * channels, 9)
        return matmul(self.kernel[:, ::-1] if turned else self.kernel, flat.T).reshape(-1, outputs, channels)

    @cached_property
    def flipped(self) -> Winograd:
        """The input gradient is a convolution too: of g, with the kernel turned round, inputs and outputs swapped."""
        g = self.geometry
        return Winograd(Geometry(g.y, (g.x[1], g.weight[0], 3, 3), g.stride, tuple((2 - b, 2 - a) for b, a in g.pads),
                                 g.dilation, 1, g.dtype), self.tile, self.fast)

    def forward(self, x, prepared):
        shape = (*self.geometry.y[1:], len(x))
        y = batch_first(np.empty(shape, x.dtype)) if self.batch_last else np.empty((len(x), *shape[:-1]), x.dtype)
        blocks = self._blocks(len(x))
        if prepared.ndim > 3 and len(blocks) > 1:
            prepared = self._kernels(prepared, False)

        def block(at):
            spread = self._spread(x, *at)
            products = scratch("products", (self.numbers, y.shape[1], spread.shape[2]), x.dtype)
            self._multiply(prepared, spread, products)
            self._gather(products, y, *at)
        parallel(block, blocks, self.threads())
        return y

    @Tiered
    def _multiply(self, prepared, spread, products) -> None:
        """The matrix products, with prepared kernels (numbers, O, C) or with kernels (O, C, 3, 3) as they are."""
        product(prepared if prepared.ndim == 3 else self._kernels(prepared, False), spread, products)

    def input_gradient(self, g, prepared):
        return self.flipped.forward(g, prepared)

    def weight_gradient(self, x, g):
        """The adjoint: gradients of the 36 products, times the 36 numbers of the inputs, summed over all tiles."""
        shape = self.geometry.weight
        blocks = self._blocks(len(x))

        def part(some):
            first, *others = some
            total = matmul(self._spread_gradient(g, *first), self._spread(x, *first).swapaxes(1, 2))
            for at in others:
                total += matmul(self._spread_gradient(g, *at), self._spread(x, *at).swapaxes(1, 2))
            return total
        first, *others = parallel(part, shares(blocks, self.threads()), self.threads())
        return self._kernels_gradient(sum(others, first)).reshape(shape)

    @Tiered
    def _kernels_gradient(self, total) -> np.ndarray:
        """The adjoint of `_kernels`: (numbers, O, C) -> (O * C, 9)."""
        return total.reshape(self.numbers, -1).T @ self.kernel

    def _blocks(self, n: int) -> list[tuple[int, int, int, int]]:
        """(first sample, last, first row of tiles, last), so that a block's numbers stay in the cache."""
        g, (down, across) = self.geometry, self.tiles
        most = max(1, BLOCK_VALUES // (self.numbers * (g.x[1] + g.weight[0])))            # tiles
        alone = 1 if self.fast else self.threads()           # compiled, threads share a block: its channels, its products
        if self.one_tile or (not self.batch_last and n > 1 and down * across <= most):
            return [(*samples, 0, down) for samples in even_parts(n, most // (down * across), self.threads(), alone)]
        if self.batch_last:
            return [(0, n, *rows) for rows in even_parts(down, most // (n * across), self.threads(), alone)]
        rows = even_parts(down, most // across, *((self.threads(), alone) if n == 1 else (1, 1)))
        return [(i, i + 1, *part) for i in range(n) for part in rows]

    @Tiered
    def _spread(self, x, start, stop, top, bottom) -> np.ndarray:
        """The numbers of a block of tiles: (numbers, C, tiles)."""
        n, channels = stop - start, x.shape[1]
        if self.one_tile:
            patches = scratch("patches", (*x.shape[2:], channels, n), x.dtype)
            patches[...] = x[start:stop].transpose(2, 3, 1, 0)
        else:
            height, width = self.tile * (bottom - top) + 2, self.tile * self.tiles[1] + 2
            padded = self._map("padded", n, channels, height, width, x.dtype)
            padded[...] = 0
            (above, _), (left, _) = self.geometry.pads
            rows, columns = _overlap(self.tile * top - above, height, x.shape[2]), _overlap(-left, width, x.shape[3])
            padded[:, :, rows[1], columns[1]] = x[start:stop, :, rows[0], columns[0]]
            s0, s1, s2, s3 = padded.strides
            tiles, steps = self._order(n, bottom - top, self.tiles[1]), self._order(s0, self.tile * s2, self.tile * s3)
            patches = scratch("patches", (self.tile + 2, self.tile + 2, channels, *tiles), x.dtype)
            patches[...] = as_strided(padded, patches.shape, (s2, s3, s1, *steps))
        flat = patches.reshape(self.inputs.shape[1], -1)
        spread = matmul(self.inputs, flat, out=scratch("spread", (self.numbers, flat.shape[1]), x.dtype))
        return spread.reshape(self.numbers, channels, -1)

    @Tiered
    def _gather(self, products, y, start, stop, top, bottom) -> None:
        """From the products of a block of tiles to its part of y."""
        flat = products.reshape(self.numbers, -1)
        tiles = matmul(self.outputs, flat, out=scratch("patches", (len(self.outputs), flat.shape[1]), y.dtype))
        for target, source in self._pieces(tiles, y, start, stop, top, bottom):
            target[...] = source

    @Tiered
    def _spread_gradient(self, g, start, stop, top, bottom) -> np.ndarray:
        """The adjoint of `_gather`: (numbers, O, tiles)."""
        count = (stop - start) * (bottom - top) * self.tiles[1]
        tiles = scratch("patches", (len(self.outputs), g.shape[1] * count), g.dtype)
        if any(m % self.tile for m in self.geometry.out) and not self.one_tile:
            tiles[...] = 0
        for source, target in self._pieces(tiles, g, start, stop, top, bottom):
            target[...] = source
        products = scratch("products", (self.numbers, tiles.shape[1]), g.dtype)
        return matmul(self.outputs.T, tiles, out=products).reshape(self.numbers, g.shape[1], count)

    def _pieces(self, tiles, y, start, stop, top, bottom):
        """Pairs of views: of a map y (N, O, *out), and of what lies there in the tiles of a block."""
        n, outputs = stop - start, y.shape[1]
        if self.one_tile:
            yield y[start:stop], tiles.reshape(*self.geometry.out, outputs, n).transpose(3, 2, 0, 1)
            return
        order = self._order(n, bottom - top, self.tiles[1])
        tiles = tiles.reshape(self.tile, self.tile, outputs, *order)
        tiles = tiles.transpose(0, 1, 5, 2, 3, 4) if self.batch_last else tiles.swapaxes(2, 3)     # 4, 4, n, O, down, across
        for i in range(self.tile):
            for j in range(self.tile):
                part = y[start:stop, :, self.tile * top + i:self.tile * bottom:self.tile, j::self.tile]
                yield part, tiles[i, j, :, :, :part.shape[2], :part.shape[3]]

    def _order(self, samples: int, down: int, across: int) -> tuple[int, int, int]:
        return (down, across, samples) if self.batch_last else (samples, down, across)

    def _map(self, name: str, n: int, channels: int, height: int, width: int, dtype) -> np.ndarray:
        """Scratch for (n, channels, height, width), in the memory order of the layout."""
        if self.batch_last:
            return batch_first(scratch(name, (channels, height, width, n), dtype))
        return scratch(name, (n, channels, height, width), dtype)


def _overlap(first: int, length: int, size: int) -> tuple[slice, slice]:
    """Where a window first .. first + length - 1 lies in a map of this size: the slice of the map, and of the window."""
    start, stop = max(0, first), max(0, min(size, first + length))
    return slice(start, stop), slice(start - first, stop - first)


class Costs(NamedTuple):
    """What else costs, in multiplications inside a large product (measured; about 45 a nanosecond on one AVX-512 core).

    moved: to copy one value into or out of a tile or a column. weight_moved: to bring one number of a kernel into the space
    of products. read: to read it from there, where weights are prepared. few: so many more columns would cost a product as
    much as its start does. step: columns that are computed together.
    """

    moved: float
    weight_moved: float
    read: float
    few: int
    step: int

    def columns(self, n: int) -> int:
        """What a product over n columns costs, in columns."""
        return -(-n // self.step) * self.step + self.few


NUMPY = Costs(moved=15, weight_moved=45, read=13, few=8, step=1)
FAST = Costs(moved=15, weight_moved=6, read=3, few=0, step=16)
