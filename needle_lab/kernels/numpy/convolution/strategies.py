"""The strategies of a convolution, each with its forward pass and its two gradients; `convolve` chooses among them.

    pointwise    1x1 kernels: the map is already the matrix of columns; one product. A stride slices first.
    im2col       each window becomes a column; one product of the weight's rows with the columns. Two layouts:
                   per sample    large maps: a sample's columns stay in the cache, its result lies in y as it is
                   batch last    small maps: memory order (C, H, W, N), the whole batch in one product; what is copied
                                 are runs of N values or more, and the next layer finds its input in this order
    dense        tiny convolutions: one matrix that holds every weight wherever it acts
    depthwise    one input channel an output: products are too thin for a matrix, so places are added one by one, in runs
                 over all rows of a padded map
    winograd     3x3 kernels with stride 1, fewer multiplications: in winograd.py

All three are one sum of products  y[n, o, window] * w[o, c, place] * x[n, c, window + place],  seen from three sides.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from ....core.tiers import Tiered
from ..scratch import scratch
from ..threads import cut, get_num_threads, matmul, parallel
from .geometry import Geometry

SMALL_MAP = 256              # maps with fewer windows are computed batch last where the batch has ...
LEAST_BATCH = 8              # ... this many samples, so that a copied run is worth its overhead (measured)
MOST_BATCH = 256             # samples in one matrix of columns
SHARED_WORK = 20_000_000     # multiplications, about 0.5 ms, from which on threads share the work
LEAST_COLUMNS = 256          # of the product of one thread
FEW_OUTPUTS, MANY_COLUMNS = 64, 1024      # gradient @ columns.T with few rows: BLAS is faster when it is turned (measured)
SMALL = 1_000_000            # multiplications of a product up to which OpenBLAS works without packing
FEW_ROWS = 16
RUN_VALUES = 1 << 15         # of a depthwise sum: with its summand in the second cache (measured)
DENSE_ENTRIES = 1 << 13      # the largest matrix of a dense convolution, and ...
DENSE_PRODUCTS = 1 << 18     # ... the most multiplications with it: beyond, calls cost less than its zeros (measured)
BLOCK_VALUES = 1 << 20       # numbers in a block of columns: 4 MiB of float32, a share of the L3 cache (measured)

# --- layouts --------------------------------------------------------------------------------------------------------


def batch_last(x: np.ndarray, name: str = "batch last") -> np.ndarray:
    """x (N, C, *size) -> (C, *size, N) in this memory order: x itself if it lies so, else a copy in scratch memory."""
    view = x.transpose(*range(1, x.ndim), 0)
    if view.flags.c_contiguous:
        return view
    copy = scratch(name, view.shape, x.dtype)
    if x.flags.c_contiguous and x.strides[0] % 1024 == 0 and len(x) > 8:
        # Rows a multiple of 1 KiB apart compete for the same few cache lines: they are moved apart first.
        apart = scratch("apart", (len(x), x[0].size + 16), x.dtype)[:, :-16]
        apart[...] = x.reshape(len(x), -1)
        copy.reshape(-1, len(x))[...] = apart.T
    else:
        copy[...] = view
    return copy


def batch_first(y: np.ndarray) -> np.ndarray:
    """y (C, *size, N) -> the view (N, C, *size)."""
    return y.transpose(y.ndim - 1, *range(y.ndim - 1))


@Tiered
def product(rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """rows (n, R, K) @ columns (n, K, T).

    BLAS first packs large matrices into the order in which it reads them; with few rows or few columns that takes as long
    as the product. It does not pack small matrices: so the columns, or the rows, are multiplied in small parts.
    """
    (n, height, k), count = rows.shape, columns.shape[2]
    part = next((p for p in (64, 32) if height % p == 0 < height - p and p * k * count <= SMALL and 4 * count <= k), 0)
    if part:
        split = (n, height // part)
        matmul(rows.reshape(*split, part, k), np.broadcast_to(columns[:, None], (*split, k, count)),
               out=out.reshape(*split, part, count))
        return
    step = 256 if height <= FEW_ROWS else count
    for start, stop in _parts(count, step):
        matmul(rows, columns[:, :, start:stop], out=out[:, :, start:stop])


def _parts(n: int, step: int) -> list[tuple[int, int]]:
    return [(i, min(i + step, n)) for i in range(0, n, step)]


def even_parts(n: int, most: int, threads: int, least: int) -> list[tuple[int, int]]:
    """0 .. n-1 in parts of nearly equal size, at most `most`: `least` of them, or so many that threads finish together."""
    count = -(-n // max(1, most))
    count = min(n, least if count <= least else -(-count // threads) * threads)
    return [(part.start, part.stop) for part in cut(n, count)]


def shares(items: list, threads: int) -> list[list]:
    """The items in one share for each thread, for sums: each thread adds up its own, and the sums are added in order."""
    return [items[start:stop] for start, stop in _parts(len(items), -(-len(items) // threads))]

# --- strategies -----------------------------------------------------------------------------------------------------


class Strategy:
    """One way to compute a convolution and its two gradients, for one geometry (already trimmed).

    What depends on the weight alone is computed by `prepare`, so that a caller with constant weights does it once.
    """

    name = ""

    def __init__(self, geometry: Geometry):
        self.geometry = geometry

    def why(self) -> str:
        """One sentence with the numbers that decided."""
        raise NotImplementedError

    def multiplications(self) -> int:
        """Of one forward pass."""
        g = self.geometry
        return math.prod(g.y) * math.prod(g.weight[1:])

    def threads(self) -> int:
        """Among how many threads to share a pass: starting one costs as much as a small convolution."""
        return get_num_threads() if self.multiplications() >= SHARED_WORK else 1

    def prepare(self, weight: np.ndarray) -> Any:
        g = self.geometry
        return np.ascontiguousarray(weight).reshape(g.groups, g.weight[0] // g.groups, -1)

    def forward(self, x: np.ndarray, prepared: Any) -> np.ndarray:
        raise NotImplementedError

    def prepare_input(self, weight: np.ndarray) -> Any:
        return Strategy.prepare(self, weight).swapaxes(1, 2)

    def input_gradient(self, g: np.ndarray, prepared: Any) -> np.ndarray:
        raise NotImplementedError

    def weight_gradient(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Empty(Strategy):
    """Nothing to add: no samples, no windows or no channels."""

    name = "empty"

    def why(self) -> str:
        return f"there is nothing to add: x {self.geometry.x}, weight {self.geometry.weight}, y {self.geometry.y}"

    def forward(self, x, prepared):
        return np.zeros((len(x), *self.geometry.y[1:]), x.dtype)

    def prepare(self, weight):
        return weight

    prepare_input = prepare

    def input_gradient(self, g, prepared):
        return np.zeros((len(g), *self.geometry.x[1:]), g.dtype)

    def weight_gradient(self, x, g):
        return np.zeros(self.geometry.weight, x.dtype)


class Dense(Strategy):
    """The convolution as one matrix (O * windows, C * places of the map), each weight written wherever it acts.  2.7x on
    small_convolution_backward, whose maps are 3x5.

    Most of it is zeros, so it is for the smallest convolutions, where the number of numpy calls decides: two a pass.
    """

    name = "dense"

    def __init__(self, geometry: Geometry):
        super().__init__(geometry)
        g = geometry
        self.rows, self.values = g.weight[0] * g.windows, g.x[1] * math.prod(g.size)

    @staticmethod
    def fits(g: Geometry) -> bool:
        entries = math.prod(g.y[1:]) * math.prod(g.x[1:])
        return entries <= DENSE_ENTRIES and entries * g.x[0] <= DENSE_PRODUCTS

    def why(self) -> str:
        return f"a matrix of {self.rows} x {self.values} holds every weight wherever it acts: fewest calls, as all is tiny"

    def multiplications(self):
        return self.rows * self.values * self.geometry.x[0]

    @cached_property
    def entries(self) -> tuple[np.ndarray, ...]:
        """(entries of the flat matrix that hold a weight, in the order of the weights; the number of the weight of each;
        the weights that occur, and the first entry of each)."""
        g = self.geometry
        which = np.full((g.windows, math.prod(g.size), g.groups, g.weight[0] // g.groups, g.groups, g.weight[1]), -1)
        numbers = np.arange(math.prod(g.weight)).reshape(g.groups, -1, g.weight[1], g.places)
        at_window, at_map = (np.arange(math.prod(shape)).reshape(1, *shape) for shape in (g.out, g.size))
        for number, windows, seen, _ in g.inside(0, g.out[0]):
            for group in range(g.groups):
                which[at_window[windows].ravel(), at_map[seen].ravel(), group, :, group] = numbers[group, :, :, number]
        flat = which.reshape(g.windows, -1, g.weight[0], g.x[1]).transpose(2, 0, 3, 1).ravel()
        order = np.argsort(flat, kind="stable")[np.count_nonzero(flat < 0):]
        return order, flat[order], *np.unique(flat[order], return_index=True)

    def prepare(self, weight):
        at, numbers, *_ = self.entries
        matrix = np.zeros(self.rows * self.values, weight.dtype)
        matrix[at] = weight.reshape(-1)[numbers]
        return matrix.reshape(self.rows, self.values)

    prepare_input = prepare

    def forward(self, x, prepared):
        return (x.reshape(len(x), -1) @ prepared.T).reshape(len(x), *self.geometry.y[1:])

    def input_gradient(self, g, prepared):
        return (g.reshape(len(g), -1) @ prepared).reshape(len(g), *self.geometry.x[1:])

    def weight_gradient(self, x, g):
        at, _, weights, starts = self.entries
        products, total = g.reshape(len(g), -1).T @ x.reshape(len(x), -1), np.zeros(self.geometry.weight, x.dtype)
        total.reshape(-1)[weights] = np.add.reduceat(products.reshape(-1)[at], starts)
        return total


class Im2col(Strategy):
    """Each window becomes a column of C * places values; the weight's rows times the columns is the result.

    In what follows a unit is an array (C, *size) of one sample, or (C, *size, N) of many: the code is the same, as the
    windows of all its samples stand side by side.
    """

    name = "im2col"

    def __init__(self, geometry: Geometry):
        super().__init__(geometry)
        g = geometry
        self.batch_last = g.windows < SMALL_MAP and g.x[0] >= LEAST_BATCH
        self.values = g.x[1] * g.places                          # in a window, over all groups
        exact = all((b, a) == (0, 0) for b, a in g.pads)
        self.whole = self.batch_last and exact and g.kernel == g.size      # the window is the map: it is its own column

    def why(self) -> str:
        g = self.geometry
        layout = (f"maps have {g.windows} windows and the batch {g.x[0]} samples: batch last, one product for all"
                  if self.batch_last else f"maps have {g.windows} windows: sample by sample, columns stay in the cache")
        return f"a product ({g.weight[0]} x {self.values // g.groups}) @ columns; {layout}"

    def _rows(self, samples: int, alone: bool) -> list[tuple[int, int]]:
        """Ranges of the first output coordinate whose columns fit into the cache together.

        alone: nothing else is there to be shared among the threads, so each gets a part, if its product is large enough
        (of a smaller one, `matmul` shares the rows).
        """
        g = self.geometry
        row, step = g.windows // g.out[0] * samples, g.out[0]
        threads = self.threads()
        if alone and g.windows * samples >= LEAST_COLUMNS * threads:
            step = -(-g.out[0] // threads)
        return _parts(g.out[0], max(1, min(step, BLOCK_VALUES // (row * self.values))))

    def columns(self, unit: np.ndarray, start: int, stop: int) -> np.ndarray:
        """The windows with first coordinate in start .. stop - 1, as columns: (groups, values, windows * samples)."""
        g = self.geometry
        if self.whole:
            return unit.reshape(g.groups, self.values // g.groups, -1)
        rest = unit.shape[1 + len(g.size):]
        columns = scratch("columns", (g.x[1], g.places, stop - start, *g.out[1:], *rest), unit.dtype)
        for number, windows, seen, whole in g.inside(start, stop):
            at = columns[:, number]
            if not whole:
                at[...] = 0
            at[windows] = unit[seen]
        return columns.reshape(g.groups, self.values // g.groups, -1)

    def scatter(self, columns: np.ndarray, unit: np.ndarray, start: int, stop: int) -> None:
        """The adjoint of `columns`: each value added to the place that it came from."""
        g = self.geometry
        if self.whole:
            unit[...] = columns.reshape(unit.shape)
            return
        rest = unit.shape[1 + len(g.size):]
        columns = columns.reshape(len(unit), g.places, stop - start, *g.out[1:], *rest)
        for number, windows, seen, _ in g.inside(start, stop):
            unit[seen] += columns[:, number][windows]

    def _units(self, n: int) -> list[tuple[int, int]]:
        return _parts(n, MOST_BATCH if self.batch_last else 1)

    @Tiered
    def forward(self, x, prepared):
        g, n = self.geometry, len(x)

        def unit_product(unit, y):
            flat = y.reshape(g.groups, g.weight[0] // g.groups, -1)
            each = flat.shape[2] // g.out[0]

            def block(at):
                start, stop = at
                product(prepared, self.columns(unit, start, stop), flat[:, :, start * each:stop * each])
            rows = self._rows(unit.shape[-1] if self.batch_last else 1, self.batch_last or n == 1)
            parallel(block, rows, self.threads())
        if not self.batch_last:
            y = np.empty((n, *g.y[1:]), x.dtype)
            parallel(lambda at: unit_product(x[at[0]], y[at[0]]), self._units(n), self.threads())
            return y
        if n <= MOST_BATCH:
            y = np.empty((*g.y[1:], n), x.dtype)
            unit_product(batch_last(x), y)
        else:
            y = np.empty((*g.y[1:], n), x.dtype)
            for start, stop in self._units(n):
                part = scratch("product", (*g.y[1:], stop - start), x.dtype)
                unit_product(batch_last(x[start:stop]), part)
                y[..., start:stop] = part
        return batch_first(y)

    @Tiered
    def input_gradient(self, g, prepared):
        shape, out, n = self.geometry, self.geometry.out, len(g)

        def unit_product(part, unit, first, last):             # for channels first .. last - 1
            flat = part.reshape(shape.groups, shape.weight[0] // shape.groups, -1)
            each, places = flat.shape[2] // out[0], shape.places
            rows = prepared if last - first == shape.x[1] else prepared[:, first * places:last * places]
            unit[...] = 0
            for start, stop in self._rows(part.shape[-1] if self.batch_last else 1, False):
                columns = scratch("columns", (*rows.shape[:2], (stop - start) * each), g.dtype)
                matmul(rows, flat[:, :, start * each:stop * each], out=columns)
                self.scatter(columns, unit, start, stop)
        channels = shape.x[1]
        if not self.batch_last:
            x = np.empty((n, *shape.x[1:]), g.dtype)
            parallel(lambda at: unit_product(g[at[0]], x[at[0]], 0, channels), self._units(n), self.threads())
            return x
        x = np.empty((*shape.x[1:], n), g.dtype)
        step = -(-channels // self.threads()) if shape.groups == 1 and shape.places > 1 else channels
        for start, stop in self._units(n):
            part = batch_last(g[start:stop])
            parallel(lambda at, part=part, samples=slice(start, stop): unit_product(part, x[at[0]:at[1], ..., samples], *at),
                     _parts(channels, step), self.threads())
        return batch_first(x)

    @Tiered
    def weight_gradient(self, x, g):
        shape = self.geometry
        outputs = shape.weight[0] // shape.groups
        turned = outputs <= FEW_OUTPUTS and len(x) * shape.windows >= MANY_COLUMNS

        def unit_product(unit, part, some):
            flat = part.reshape(shape.groups, outputs, -1)
            each, total = flat.shape[2] // shape.out[0], 0
            for start, stop in some:
                gradient, columns = flat[:, :, start * each:stop * each], self.columns(unit, start, stop)
                a, b = (columns, gradient) if turned else (gradient, columns)
                total = total + matmul(a, b.swapaxes(1, 2))
            return total

        def weight(total):
            return np.ascontiguousarray(total.swapaxes(1, 2) if turned else total).reshape(shape.weight)
        if not self.batch_last:
            blocks = self._rows(1, False)
            parts = shares(self._units(len(x)), self.threads())
            sums = parallel(lambda some: sum(unit_product(x[i], g[i], blocks) for i, _ in some), parts, self.threads())
            return weight(sum(sums))
        total = 0
        for start, stop in self._units(len(x)):
            unit, part = batch_last(x[start:stop]), batch_last(g[start:stop], "gradient")
            blocks = shares(self._rows(stop - start, True), self.threads())
            total = total + sum(parallel(lambda some, unit=unit, part=part: unit_product(unit, part, some), blocks))
        return weight(total)


class Pointwise(Im2col):
    """A kernel of one place: what the windows see is the map, or a slice of it."""

    name = "pointwise"

    def __init__(self, geometry: Geometry):
        super().__init__(geometry)
        g = geometry
        self.seen = tuple(slice(-b, -b + (m - 1) * s + 1, s) for (b, _), s, m in zip(g.pads, g.stride, g.out, strict=True))
        self.all = g.out == g.size

    @staticmethod
    def fits(g: Geometry) -> bool:
        return g.places == 1 and all(b <= 0 and a <= 0 for b, a in g.pads)

    def why(self) -> str:
        g = self.geometry
        sliced = "" if self.all else f", of every {'x'.join(map(str, g.stride))}th place"
        return f"a window is one place: a product ({g.weight[0]} x {g.weight[1]}) @ the map itself{sliced}"

    def _rows(self, samples, alone):
        return [(0, self.geometry.out[0] if self.geometry.out else 1)]           # `matmul` shares its product

    def columns(self, unit, start, stop):
        g = self.geometry
        seen = unit if self.all else unit[(slice(None), *self.seen)]
        return seen.reshape(g.groups, self.values // g.groups, -1)

    def scatter(self, columns, unit, start, stop):
        at = unit if self.all else unit[(slice(None), *self.seen)]
        at[...] = columns.reshape(at.shape)


class Depthwise(Strategy):
    """One input channel an output: y = sum over places of (what the windows see there) * (one weight a channel)."""

    name = "depthwise"

    @staticmethod
    def fits(g: Geometry) -> bool:
        return g.weight[1] == 1 and g.groups > 1

    def why(self) -> str:
        g = self.geometry
        return f"each of {g.weight[0]} outputs reads one channel: {g.places} scaled maps are added, no matrix product"

    def _units(self, n: int):
        """Samples one by one: with the scratch of one they stay in the cache."""
        return range(n)

    def _scaled(self, weight: np.ndarray, number: int) -> np.ndarray:
        """The weights of a place, (C, O / C, 1, ...), to be multiplied with maps (C, 1, *out)."""
        g = self.geometry
        return weight.reshape(g.groups, -1, g.places)[:, :, number].reshape(g.groups, -1, *(1,) * len(g.out))

    def prepare(self, weight):
        return weight

    prepare_input = prepare

    @cached_property
    def _runs(self) -> tuple[tuple[int, ...], list[tuple[tuple[int, ...], int]], int]:
        """How a kernel's places see a padded map that is split by the stride into maps of every s-th place, its phases.

        -> (size of a phase; for each place its phase, and where in it the first window looks; values from the first window
        to the last). The rows of a phase lie one behind the other, so what all windows see at a place is one long run.
        """
        g = self.geometry
        size = tuple(-(-((m - 1) * s + (k - 1) * d + 1) // s)
                     for m, s, k, d in zip(g.out, g.stride, g.kernel, g.dilation, strict=True))
        rows = [math.prod(size[i + 1:]) for i in range(len(size))]
        places = []
        for place in np.ndindex(*g.kernel):
            at = [divmod(p * d, s) for p, d, s in zip(place, g.dilation, g.stride, strict=True)]
            places.append((tuple(phase for _, phase in at), sum(n * row for (n, _), row in zip(at, rows, strict=True))))
        return size, places, sum((m - 1) * row for m, row in zip(g.out, rows, strict=True)) + 1

    def _phase(self, maps: np.ndarray, phase: tuple[int, ...], out: np.ndarray) -> None:
        """What lies at every s-th place of the padded maps (C, *size), from `phase` on."""
        g, inside, seen = self.geometry, [slice(None)], [slice(None)]
        for first, n, s, (b, _), count in zip(phase, g.size, g.stride, g.pads, out.shape[1:], strict=True):
            low = max(0, -((first - b) // s))
            high = max(low, min(count, (n - 1 - first + b) // s + 1))
            inside.append(slice(low, high))
            seen.append(slice(low * s + first - b, max(low, high - 1) * s + first - b + (high > low), s))
        if out[tuple(inside)].shape != out.shape:
            out[...] = 0
        out[tuple(inside)] = maps[tuple(seen)]

    @Tiered
    def forward(self, x, prepared):
        g, (size, places, length) = self.geometry, self._runs
        plane, several, whole = math.prod(size), g.weight[0] // g.groups, (slice(None),) * 2
        weights = np.ascontiguousarray(prepared.reshape(g.groups, several, g.places, 1).transpose(2, 0, 1, 3))
        y = np.empty((len(x), g.groups, several, *g.out), x.dtype)
        step = max(1, RUN_VALUES // (plane * several))

        def block(at):
            i, c = at
            maps = x[i, c:c + step]
            phases = scratch("phases", (*g.stride, len(maps), *size), x.dtype)
            for phase in dict(places):
                self._phase(maps, phase, phases[phase])
            total = scratch("total", (len(maps), several, plane), x.dtype)
            product = scratch("product", (len(maps), several, length), x.dtype)
            for number, (phase, start) in enumerate(places):
                run = phases[phase].reshape(len(maps), 1, plane)[:, :, start:start + length]
                np.multiply(run, weights[number, c:c + step], out=product if number else total[:, :, :length])
                if number:
                    total[:, :, :length] += product
            y[i, c:c + step] = total.reshape(*total.shape[:2], *size)[(*whole, *map(slice, g.out))]
        parallel(block, [(i, c) for i in self._units(len(x)) for c in range(0, g.groups, step)])
        return y.reshape(len(x), *g.y[1:])

    @Tiered
    def input_gradient(self, g, prepared):
        shape = self.geometry
        x = np.zeros((len(g), *shape.x[1:]), g.dtype)

        def one(i):
            maps = g[i].reshape(shape.groups, -1, *shape.out)
            for number, windows, seen, _ in shape.inside(0, shape.out[0]):
                part = maps[(windows[0], slice(None), *windows[1:])] * self._scaled(prepared, number)
                x[i][seen] += part[:, 0] if part.shape[1] == 1 else part.sum(1)
        parallel(one, self._units(len(g)))
        return x

    @Tiered
    def weight_gradient(self, x, g):
        shape = self.geometry
        rows = (shape.groups, shape.weight[0] // shape.groups, shape.places)
        letters = "defghij"[:len(shape.out)]

        def some_samples(some):
            total = np.zeros(rows, x.dtype)
            for i in some:
                maps = g[i].reshape(*rows[:2], *shape.out)
                for number, windows, seen, _ in shape.inside(0, shape.out[0]):
                    part = maps[(windows[0], slice(None), *windows[1:])]
                    total[:, :, number] += np.einsum(f"c{letters},co{letters}->co", x[i][seen], part)
            return total
        return sum(parallel(some_samples, shares(list(self._units(len(x))), get_num_threads()))).reshape(shape.weight)
