"""Winograd's transforms F(4x4, 3x3) of `needle_lab.ops.winograd`, compiled: tiles into the space of 36 products and back.

The matrices have so many zeros and pairs of points +p, -p that a dimension takes a dozen additions, where the product with
a Kronecker square takes 36 multiplications a number. So that every step is one long loop over all tiles of a channel,
however small the map, values stand in planes:

    phase     every fourth column of every fourth row: 4 x 4 planes; a tile's inputs are at one place t in all of them, or
              at the next places, which are those of the tiles beside and below
    line      one row of the map with its padding

Planes lie PLANE numbers apart: the compiler, knowing this, knows that they do not overlap. n samples, last in memory, are
n tiles side by side; n is 1 where the batch is first.
"""

from __future__ import annotations

import sys

from .compiled import f32, loop, part

_, P, _, Q, _ = (f32(p) for p in sys.modules["needle_lab.ops.winograd"].POINTS)     # 0, P, -P, Q, -Q and infinity
PP, QQ, PPP, QQQ, SUM = P * P, Q * Q, P * P * P, Q * Q * Q, P * P + Q * Q            # P * Q = 1


@part
def _to_points(d0, d1, d2, d3, d4, d5):
    """B^T d: six inputs as values at the six points."""
    even_p, odd_p = d4 - QQ * d2, P * (d3 - QQ * d1)
    even_q, odd_q = d4 - PP * d2, Q * (d3 - PP * d1)
    return (d0 - SUM * d2 + d4, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, d1 - SUM * d3 + d5)


@part
def _from_points(m0, m1, m2, m3, m4, m5):
    """A^T m: four outputs from the values of a product at the six points."""
    plus_p, minus_p, plus_q, minus_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (m0 + plus_p + plus_q, P * minus_p + Q * minus_q, PP * plus_p + QQ * plus_q,
            PPP * minus_p + QQQ * minus_q + m5)


@part
def _outputs_to_points(y0, y1, y2, y3):
    """A y: the adjoint of `_from_points`."""
    even_p, odd_p = y0 + PP * y2, P * y1 + PPP * y3
    even_q, odd_q = y0 + QQ * y2, Q * y1 + QQQ * y3
    return y0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, y3


PLANE = 4096 + 16            # 16: planes a multiple of 4 KiB apart would compete for the same cache lines
SCRATCH = 46 * PLANE         # numbers of scratch memory that each transform takes


@part
def _copy(source, target, count):
    """A plain loop: Numba's assignment of slices first finds out whether they overlap."""
    for t in range(count):
        target[t] = source[t]


@part
def _fill(target, value):
    for t in range(target.size):
        target[t] = value


@part
def _to_phases(line, n, count, phases):
    """line (count, 4, n) to four planes (count, n)."""
    if n == 1:
        for t in range(count):
            phases[t] = line[4 * t]
            phases[PLANE + t] = line[4 * t + 1]
            phases[2 * PLANE + t] = line[4 * t + 2]
            phases[3 * PLANE + t] = line[4 * t + 3]
    else:
        for t in range(count):
            for j in range(4):
                _copy(line[(4 * t + j) * n:], phases[j * PLANE + t * n:], n)


@part
def _from_phases(phases, n, count, line):
    """Four planes (count, n) to line (count, 4, n)."""
    if n == 1:
        for t in range(count):
            line[4 * t] = phases[t]
            line[4 * t + 1] = phases[PLANE + t]
            line[4 * t + 2] = phases[2 * PLANE + t]
            line[4 * t + 3] = phases[3 * PLANE + t]
    else:
        for t in range(count):
            for j in range(4):
                _copy(phases[j * PLANE + t * n:], line[(4 * t + j) * n:], n)


@part
def _six(a, b, c, d, e, f, count, y):
    """Six planes from six: `_to_points` of each place."""
    for t in range(count):
        (y[t], y[PLANE + t], y[2 * PLANE + t], y[3 * PLANE + t], y[4 * PLANE + t], y[5 * PLANE + t]) = _to_points(
            a[t], b[t], c[t], d[t], e[t], f[t])


@loop
def spread(x, n, top, left, down, across, scratch, out, at):
    """A map x (C, H, W * n), the first tile beginning at (top, left), as out (36, C, tiles): from tile `at` on.

    down, across: how many tiles; (down + 1) (across + 1) n must fit into a plane.
    """
    height, width, row, tiles = x.shape[1], x.shape[2], (across + 1) * n, across * n
    phases, columns, points, line = (scratch[:16 * PLANE], scratch[16 * PLANE:40 * PLANE], scratch[40 * PLANE:],
                                     scratch[40 * PLANE:40 * PLANE + 4 * row])            # points come after the line
    before, last = -left * n, min(width, 4 * row + left * n)
    for c in range(x.shape[0]):
        _fill(line, f32(0))
        for r in range(4 * down + 2):
            h = top + r
            if 0 <= h < height:
                _copy(x[c, h], line[before:], last)
            else:
                _fill(line, f32(0))
            _to_phases(line, n, across + 1, phases[(r % 4) * 4 * PLANE + (r // 4) * row:])
        for j in range(4):                                               # along the columns: a phase at six points
            p = phases[j * PLANE:]
            _six(p, p[4 * PLANE:], p[8 * PLANE:], p[12 * PLANE:], p[row:], p[4 * PLANE + row:], down * row,
                 columns[j * 6 * PLANE:])
        for u in range(6):                                               # along the rows
            p = columns[u * PLANE:]
            _six(p, p[6 * PLANE:], p[12 * PLANE:], p[18 * PLANE:], p[n:], p[6 * PLANE + n:], down * row - n, points)
            for v in range(6):
                found, target = points[v * PLANE:], out[6 * u + v, c, at:]
                for i in range(down):
                    _copy(found[i * row:], target[i * tiles:], tiles)


@loop
def gather(products, n, top, down, across, scratch, y, at):
    """The way back: products (36, O, tiles), from tile `at` on, to the rows from `top` on of y (O, H, W * n)."""
    height, width, row, tiles = y.shape[1], y.shape[2], across * n, down * across * n
    rows, phases, line = scratch[:24 * PLANE], scratch[24 * PLANE:28 * PLANE], scratch[28 * PLANE:28 * PLANE + 4 * row]
    for o in range(y.shape[0]):
        for v in range(6):
            m0, m1, m2 = products[v, o, at:], products[6 + v, o, at:], products[12 + v, o, at:]
            m3, m4, m5 = products[18 + v, o, at:], products[24 + v, o, at:], products[30 + v, o, at:]
            r = rows[v * PLANE:]
            for t in range(tiles):
                r[t], r[6 * PLANE + t], r[12 * PLANE + t], r[18 * PLANE + t] = _from_points(
                    m0[t], m1[t], m2[t], m3[t], m4[t], m5[t])
        for i in range(4):
            m = rows[i * 6 * PLANE:]
            for t in range(tiles):
                phases[t], phases[PLANE + t], phases[2 * PLANE + t], phases[3 * PLANE + t] = _from_points(
                    m[t], m[PLANE + t], m[2 * PLANE + t], m[3 * PLANE + t], m[4 * PLANE + t], m[5 * PLANE + t])
            for d in range(down):
                h = top + 4 * d + i
                if h < height:
                    _from_phases(phases[d * row:], n, across, line)
                    _copy(line, y[o, h], width)


@loop
def spread_gradient(g, n, top, down, across, scratch, out, at):
    """The adjoint of `gather`: the rows from `top` on of g (O, H, W * n) to out (36, O, tiles), from tile `at` on."""
    height, width, row, tiles = g.shape[1], g.shape[2], across * n, down * across * n
    phases, columns, points, line = (scratch[:16 * PLANE], scratch[16 * PLANE:40 * PLANE], scratch[40 * PLANE:],
                                     scratch[40 * PLANE:40 * PLANE + 4 * row])
    for o in range(g.shape[0]):
        _fill(line, f32(0))
        for r in range(4 * down):
            if top + r < height:
                _copy(g[o, top + r], line, width)
            else:
                _fill(line, f32(0))
            _to_phases(line, n, across, phases[(r % 4) * 4 * PLANE + (r // 4) * row:])
        for j in range(4):
            p, c = phases[j * PLANE:], columns[j * 6 * PLANE:]
            for t in range(tiles):
                (c[t], c[PLANE + t], c[2 * PLANE + t], c[3 * PLANE + t], c[4 * PLANE + t],
                 c[5 * PLANE + t]) = _outputs_to_points(p[t], p[4 * PLANE + t], p[8 * PLANE + t], p[12 * PLANE + t])
        for u in range(6):
            p = columns[u * PLANE:]
            for t in range(tiles):
                (points[t], points[PLANE + t], points[2 * PLANE + t], points[3 * PLANE + t], points[4 * PLANE + t],
                 points[5 * PLANE + t]) = _outputs_to_points(p[t], p[6 * PLANE + t], p[12 * PLANE + t], p[18 * PLANE + t])
            for v in range(6):
                _copy(points[v * PLANE:], out[6 * u + v, o, at:], tiles)
