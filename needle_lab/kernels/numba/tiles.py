"""Winograd's transforms F(4x4, 3x3) and F(2x2, 3x3), compiled: tiles into the space of products and back.

What they compute is written out in `kernels/numpy/convolution/winograd.py`.

The matrices have so many zeros and pairs of points +p, -p that a dimension takes a dozen additions, where the product with
a Kronecker square takes 36 multiplications a number. Vectors run along the tiles: a vector holds the same place of 16
tiles (or 8, or 4), whether they lie in one row of the map or in several, so that small maps fill vectors too. For that a
channel is brought into planes first, one for each place of a tile, in which tiles lie side by side. Of the side + 2 rows
that a tile sees, the last two are the first two of the tile below: they lie one row of tiles further on in their planes.

n samples, last in memory, are n tiles side by side; n is 1 where the batch is first.
"""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic

from ..numpy.convolution.winograd import POINTS
from .compiled import f32, loop, part
from .products import ROWS, some_rows
from .vectors import INT, WIDTH, Memory, array, clear, copy, every, from_thirds, place, thirds, zipped

_, P, _, Q, _ = (f32(p) for p in POINTS)     # 0, P, -P, Q, -Q and infinity
PP, QQ, PPP, QQQ, SUM = P * P, Q * Q, P * P * P, Q * Q * Q, P * P + Q * Q            # P * Q = 1
OF_P, OF_Q = f32(1) / (f32(2) * PP * (PP - QQ)), f32(1) / (f32(2) * QQ * (QQ - PP))

# --- one dimension of a tile, by its side ---------------------------------------------------------------------------


def _to_points(d0, d1, d2, d3, d4, d5):
    """B^T d: six inputs as values at the six points."""
    even_p, odd_p = d4 - QQ * d2, P * (d3 - QQ * d1)
    even_q, odd_q = d4 - PP * d2, Q * (d3 - PP * d1)
    return (d0 - SUM * d2 + d4, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, d1 - SUM * d3 + d5)


def _from_points(m0, m1, m2, m3, m4, m5):
    """A^T m: four outputs from the values of a product at the six points."""
    plus_p, minus_p, plus_q, minus_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (m0 + plus_p + plus_q, P * minus_p + Q * minus_q, PP * plus_p + QQ * plus_q,
            PPP * minus_p + QQQ * minus_q + m5)


def _outputs_to_points(y0, y1, y2, y3):
    """A y: the adjoint of `_from_points`."""
    even_p, odd_p = y0 + PP * y2, P * y1 + PPP * y3
    even_q, odd_q = y0 + QQ * y2, Q * y1 + QQQ * y3
    return y0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, y3


def _kernel_to_points(g0, g1, g2):
    """G g: three weights as values at the six points."""
    even_p, odd_p = OF_P * g0 + OF_P * PP * g2, OF_P * P * g1
    even_q, odd_q = OF_Q * g0 + OF_Q * QQ * g2, OF_Q * Q * g1
    return g0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, g2


def _to_points_2(d0, d1, d2, d3):
    """The same four with four points: 0, 1, -1 and infinity."""
    return d2 - d0, d1 + d2, d2 - d1, d3 - d1


def _from_points_2(m0, m1, m2, m3):
    return m0 + m1 + m2, m1 - m2 + m3


def _outputs_to_points_2(y0, y1):
    return y0, y0 + y1, y0 - y1, y1

def _kernel_to_points_2(g0, g1, g2):
    even, odd = f32(0.5) * g0 + f32(0.5) * g2, f32(0.5) * g1
    return f32(-1) * g0, even + odd, even - odd, g2


def _kernel_to_three(g0, g1, g2):
    """The same for a map of two places (`TWO` in winograd.py)."""
    return g1, g2 - g1, g0 - g1


def _points_to_kernel(m0, m1, m2, m3, m4, m5):
    """G^T m, three times: the adjoints."""
    even_p, odd_p, even_q, odd_q = OF_P * (m1 + m2), OF_P * P * (m1 - m2), OF_Q * (m3 + m4), OF_Q * Q * (m3 - m4)
    return m0 + even_p + even_q, odd_p + odd_q, PP * even_p + QQ * even_q + m5


def _points_to_kernel_2(m0, m1, m2, m3):
    even = f32(0.5) * (m1 + m2)
    return even - m0, f32(0.5) * (m1 - m2), even + m3


def _three_to_kernel(m0, m1, m2):
    return m2, m0 - m1 - m2, m1

# --- both dimensions of a vector of tiles -----------------------------------------------------------------------------


def _both(formula, rows):
    """The formula along the columns of a square, then along its rows."""
    turned = [formula(*column) for column in zip(*rows, strict=True)]
    return [formula(*column) for column in zip(*turned, strict=True)]


def _transform(formula, size: int, period: int, edge: bool):
    """The kernel for a vector of tiles, called as

        transform(x, i, apart, below, y, o, further, count)

    It reads size x size vectors from x and writes as many as the formula makes to y, flat arrays both: from place i on,
    planes `apart`, and from o on, planes `further` from each other. Rows from `period` on are read from the planes of the
    first rows, `below` values further on. edge: there are only `count` tiles.
    """
    @intrinsic
    def transform(_context, x, i, apart, below, y, o, further, count):
        def generate(context, build, signature, given):
            source, target = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 4))
            apart, below, further, count = given[2], given[3], given[6], given[7]
            memory = Memory(build, count if edge else None)
            rows = [[memory.load(place(build, source, build.mul(apart, INT(r % period * size + c)),
                                       build.mul(below, INT(r // period)))) for c in range(size)] for r in range(size)]
            results = _both(formula, rows)
            for number, value in enumerate(value for row in results for value in row):
                memory.store(value, place(build, target, build.mul(further, INT(number))))
            return context.get_dummy_value()
        return types.void(x, *[types.intp] * 3, y, *[types.intp] * 3), generate
    return transform


_spread_4, _spread_4_ = (_transform(_to_points, 6, 4, edge) for edge in (False, True))
_spread_2, _spread_2_ = (_transform(_to_points_2, 4, 2, edge) for edge in (False, True))
_gather_4, _gather_4_ = (_transform(_from_points, 6, 6, edge) for edge in (False, True))
_gather_2, _gather_2_ = (_transform(_from_points_2, 4, 4, edge) for edge in (False, True))
_adjoint_4, _adjoint_4_ = (_transform(_outputs_to_points, 4, 4, edge) for edge in (False, True))
_adjoint_2, _adjoint_2_ = (_transform(_outputs_to_points_2, 2, 2, edge) for edge in (False, True))

# --- maps and planes --------------------------------------------------------------------------------------------------


def _dealer(side: int, places: int):
    """deal(line, i, planes, o, apart): from the places of WIDTH tiles that begin at line[i], a vector to each plane."""
    @intrinsic
    def deal(_context, line, i, planes, o, apart):
        def generate(context, build, signature, given):
            source, target = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 2))
            memory, tiles = Memory(build), Memory(build, width=side * WIDTH)
            for j in range(places):
                row = tiles.load(place(build, source, j // side * side))
                memory.store(every(row, j % side, side), place(build, target, build.mul(given[4], INT(j))))
            return context.get_dummy_value()
        return types.void(line, types.intp, planes, *[types.intp] * 2), generate
    return deal


def _collector(side: int):
    """collect(planes, i, apart, y, o, count): the way back, to a row of the map of which `count` numbers are left."""
    @intrinsic
    def collect(_context, planes, i, apart, y, o, count):
        def generate(context, build, signature, given):
            source, target = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 3))
            memory, tiles = Memory(build), Memory(build, given[5], side * WIDTH)
            rows = [memory.load(place(build, source, build.mul(given[2], INT(j)))) for j in range(side)]
            tiles.store(zipped(rows), target)
            return context.get_dummy_value()
        return types.void(planes, *[types.intp] * 2, y, *[types.intp] * 2), generate
    return collect


_deal_6, _deal_4, _deal_4_of_2, _deal_2 = _dealer(4, 6), _dealer(4, 4), _dealer(2, 4), _dealer(2, 2)
_collect_4, _collect_2 = _collector(4), _collector(2)


@part
def _deal(line, i, n, side, places, across, planes, o, apart):
    """A row of a map, from line[i] on, dealt out to the planes of its places: those of every side-th column from there."""
    if n == 1:
        for t in range(0, across, WIDTH):
            if places == 6:
                _deal_6(line, i + 4 * t, planes, o + t, apart)
            elif side == 4:
                _deal_4(line, i + 4 * t, planes, o + t, apart)
            elif places == 4:
                _deal_4_of_2(line, i + 2 * t, planes, o + t, apart)
            else:
                _deal_2(line, i + 2 * t, planes, o + t, apart)
    else:
        for t in range(across):
            for j in range(places):
                copy(line, i + (t * side + j) * n, planes, o + j * apart + t * n, n)


@part
def _collect(planes, i, apart, n, side, across, y, o, width):
    """A row of the map, `width` numbers, from the planes of its places."""
    if n == 1:
        for t in range(0, across, WIDTH):
            if side == 4:
                _collect_4(planes, i + t, apart, y, o + 4 * t, width - 4 * t)
            else:
                _collect_2(planes, i + t, apart, y, o + 2 * t, width - 2 * t)
    else:
        for t in range(across):
            for j in range(min(side, width // n - t * side)):
                copy(planes, i + j * apart + t * n, y, o + (t * side + j) * n, n)


@part
def _into_planes(maps, c, height, width, n, side, places, top, left, rows, across, padded, planes, apart):
    """Channel c of maps (C, height, width), a row of the map at (top, left) with its padding, and on to the planes.

    Numbers of `padded` that are outside of the map are not touched.
    """
    row = across * n
    pitch, first = row * side + (places - side) * n, left * n
    last = min(width, pitch - first)
    for r in range(max(0, -top), min(rows, height - top)):
        copy(maps, (c * height + top + r) * width, padded, r * pitch + first, last)
    for r in range(rows):
        _deal(padded, r * pitch, n, side, places, across, planes, r % side * places * apart + r // side * row, apart)


@loop
def spread(x, n, side, top, left, down, across, padded, planes, out, at, start, stop):
    """A map x (C, H, W * n), the first tile beginning at (top, -left), as out (numbers, C, tiles): from tile `at` on.

    Channels start .. stop - 1. down, across: how many tiles. Scratch: padded for (side * down + 2) (side * across + 2) n
    numbers and side + 1 vectors; planes for side (side + 2), each of (down + 1) across n numbers and a vector.
    """
    height, width = x.shape[1:]
    row, tiles, total, further = across * n, down * across * n, out.shape[2], out.shape[1] * out.shape[2]
    apart, maps, flat = (down + 1) * row + WIDTH, x.reshape(x.size), out.reshape(out.size)
    clear(padded, 0, padded.size)
    for c in range(start, stop):
        _into_planes(maps, c, height, width, n, side, side + 2, top, left, side * down + 2, across, padded, planes, apart)
        for t in range(0, tiles, WIDTH):
            left_over, o = tiles - t, c * total + at + t
            if side == 4:
                if left_over >= WIDTH:
                    _spread_4(planes, t, apart, row, flat, o, further, left_over)
                else:
                    _spread_4_(planes, t, apart, row, flat, o, further, left_over)
            elif left_over >= WIDTH:
                _spread_2(planes, t, apart, row, flat, o, further, left_over)
            else:
                _spread_2_(planes, t, apart, row, flat, o, further, left_over)


@loop
def gather(products, n, side, top, down, across, planes, y, at, start, stop):
    """The way back: products (numbers, O, tiles), from tile `at` on, to the rows from `top` on of y (O, H, W * n).

    planes is scratch for side^2 planes, each of down across n numbers and a vector.
    """
    height, width, row, tiles = y.shape[1], y.shape[2], across * n, down * across * n
    total, further, apart = products.shape[2], products.shape[1] * products.shape[2], tiles + WIDTH
    maps, flat = y.reshape(y.size), products.reshape(products.size)
    for c in range(start, stop):
        for t in range(0, tiles, WIDTH):
            left_over, i = tiles - t, c * total + at + t
            if side == 4:
                if left_over >= WIDTH:
                    _gather_4(flat, i, further, 0, planes, t, apart, left_over)
                else:
                    _gather_4_(flat, i, further, 0, planes, t, apart, left_over)
            elif left_over >= WIDTH:
                _gather_2(flat, i, further, 0, planes, t, apart, left_over)
            else:
                _gather_2_(flat, i, further, 0, planes, t, apart, left_over)
        for r in range(min(side * down, height - top)):
            i, o = r % side * side * apart + r // side * row, (c * height + top + r) * width
            _collect(planes, i, apart, n, side, across, maps, o, width)


@loop
def spread_gradient(g, n, side, top, down, across, padded, planes, out, at, start, stop):
    """The adjoint of `gather`: the rows from `top` on of g (O, H, W * n) to out (numbers, O, tiles), from tile `at` on."""
    height, width = g.shape[1:]
    tiles, total, further = down * across * n, out.shape[2], out.shape[1] * out.shape[2]
    apart, maps, flat = tiles + WIDTH, g.reshape(g.size), out.reshape(out.size)
    clear(padded, 0, padded.size)
    for c in range(start, stop):
        _into_planes(maps, c, height, width, n, side, side, top, 0, side * down, across, padded, planes, apart)
        for t in range(0, tiles, WIDTH):
            left_over, o = tiles - t, c * total + at + t
            if side == 4:
                if left_over >= WIDTH:
                    _adjoint_4(planes, t, apart, 0, flat, o, further, left_over)
                else:
                    _adjoint_4_(planes, t, apart, 0, flat, o, further, left_over)
            elif left_over >= WIDTH:
                _adjoint_2(planes, t, apart, 0, flat, o, further, left_over)
            else:
                _adjoint_2_(planes, t, apart, 0, flat, o, further, left_over)

# --- kernels ----------------------------------------------------------------------------------------------------------


def _kernels(formula, turned: bool):
    """The kernel for WIDTH kernels of 3x3, called as transform(x, i, y, o, apart): they begin at x[i], and a vector of the
    first of their numbers is written from y[o] on, the others `apart` from each other.  turned: by half a turn before.
    """
    @intrinsic
    def transform(_context, x, i, y, o, apart):
        def generate(context, build, signature, given):
            source, target = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 2))
            memory = Memory(build)
            nine = [memory.load(place(build, source, n * WIDTH)) for n in range(9)]
            columns = zip(*(thirds(nine[n:n + 3]) for n in (0, 3, 6)), strict=True)     # of the kernels, all rows
            rows = list(zip(*(thirds(list(column)) for column in columns), strict=True))
            rows = [row[::-1] for row in rows[::-1]] if turned else rows
            for number, value in enumerate(value for row in _both(formula, rows) for value in row):
                memory.store(value, place(build, target, build.mul(given[4], INT(number))))
            return context.get_dummy_value()
        return types.void(x, types.intp, y, *[types.intp] * 2), generate
    return transform


def _kernels_back(formula, size: int):
    """The adjoint, called as back(x, i, apart, y, o): size x size vectors, `apart` from each other, to WIDTH kernels."""
    @intrinsic
    def back(_context, x, i, apart, y, o):
        def generate(context, build, signature, given):
            source, target = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 3))
            memory = Memory(build)
            rows = [[memory.load(place(build, source, build.mul(given[2], INT(r * size + c)))) for c in range(size)]
                    for r in range(size)]
            columns = [from_thirds(list(column)) for column in zip(*_both(formula, rows), strict=True)]
            nine = [vector for chunk in zip(*columns, strict=True) for vector in from_thirds(list(chunk))]
            for n, vector in enumerate(nine):
                memory.store(vector, place(build, target, n * WIDTH))
            return context.get_dummy_value()
        return types.void(x, *[types.intp] * 2, y, types.intp), generate
    return back


_of_36, _of_36_turned = (_kernels(_kernel_to_points, turned) for turned in (False, True))
_of_16, _of_16_turned = (_kernels(_kernel_to_points_2, turned) for turned in (False, True))
_of_9, _of_9_turned = (_kernels(_kernel_to_three, turned) for turned in (False, True))
_back_from_36, _back_from_16, _back_from_9 = (_kernels_back(*way) for way in (
    (_points_to_kernel, 6), (_points_to_kernel_2, 4), (_three_to_kernel, 3)))


@part
def _all_kernels(kernels, i, count, numbers, turned, out, o, apart):
    """36, 16 or 9 numbers of each kernel."""
    for t in range(0, count, WIDTH):
        if numbers == 36:
            if turned:
                _of_36_turned(kernels, i + 9 * t, out, o + t, apart)
            else:
                _of_36(kernels, i + 9 * t, out, o + t, apart)
        elif numbers == 16:
            if turned:
                _of_16_turned(kernels, i + 9 * t, out, o + t, apart)
            else:
                _of_16(kernels, i + 9 * t, out, o + t, apart)
        elif turned:
            _of_9_turned(kernels, i + 9 * t, out, o + t, apart)
        else:
            _of_9(kernels, i + 9 * t, out, o + t, apart)


@loop
def points_to_kernels(total, out, start, stop):
    """The adjoint of `kernels_to_points`: total (numbers, count) to kernels start .. stop - 1 of out, flat (count, 3, 3)."""
    numbers, count = total.shape
    flat = total.reshape(total.size)
    for t in range(start, stop, WIDTH):
        if numbers == 36:
            _back_from_36(flat, t, count, out, 9 * t)
        elif numbers == 16:
            _back_from_16(flat, t, count, out, 9 * t)
        else:
            _back_from_9(flat, t, count, out, 9 * t)


@loop
def kernels_to_points(kernels, turned, out, start, stop):
    """Kernels start .. stop - 1 of kernels, flat (count, 3, 3), in the space of products: out (numbers, count).

    start and stop are multiples of WIDTH.
    """
    numbers, count = out.shape
    flat = out.reshape(out.size)
    _all_kernels(kernels, 9 * start, stop - start, numbers, turned, flat, start, count)


@loop
def products_with_kernels(kernels, numbers, columns, offsets, out, rows, count, start, stop, weights):
    """Products as of `products`, whose weights are kernels, flat (rows, K, 3, 3), in the space of `numbers` products.

    ROWS rows after another are brought there, into scratch memory for numbers (ROWS K + WIDTH), which stays in the cache.
    (WIDTH, as lines a multiple of 4 KiB apart would compete for one place.)  For rows start .. stop - 1, ROWS K and their
    number being multiples of WIDTH and ROWS.
    """
    size = offsets.size
    apart = ROWS * size + WIDTH
    for r in range(start, stop, ROWS):
        _all_kernels(kernels, 9 * r * size, ROWS * size, numbers, False, weights, 0, apart)
        for p in range(numbers):
            some_rows(weights, p * apart, columns, p * size * count, offsets, out, (p * rows + r) * count, count,
                       ROWS, count)
