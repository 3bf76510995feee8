"""The windows of a convolution, for `multiply`: im2col without columns.

In a map with its padding, what a place of the kernel sees is the map itself, moved. So row k of the columns need not be
copied: it begins in the map, at an offset. Where windows are `stride` apart, the map is dealt out to planes first, each
with every stride-th row and column, so that a step from window to window is a step to the neighbour.

Rows of a padded map are longer than rows of windows. The windows in between see across the edge; they are computed with the
others, and dropped.
"""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic

from .compiled import loop, part
from .products import multiply
from .vectors import INT, REGISTERS, VECTOR, WIDTH, ZERO, Memory, Vector, array, clear, copy, every, place, total

# --- forward ----------------------------------------------------------------------------------------------------------


@intrinsic
def _second(_context, x, i, out, o):
    """A vector of x[i], x[i + 2], x[i + 4], ... to out[o], out[o + 1], ...; x has a number behind the last of them."""
    def generate(context, build, signature, given):
        source, target = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 2))
        Memory(build).store(every(Memory(build, width=2 * WIDTH).load(source), 0, 2), target)
        return context.get_dummy_value()
    return types.void(x, types.intp, out, types.intp), generate


@part
def _every_second(x, i, out, o, count):
    t = 0
    while t + WIDTH < count:
        _second(x, i + 2 * t, out, o + t)
        t += WIDTH
    while t < count:
        out[o + t] = x[i + 2 * t]
        t += 1


@loop
def planes(x, n, stride, pad, shape, out, start, stop):
    """Channels start .. stop - 1 of maps x (C, H, W * n) in planes, so that a step of `stride` is a step to the neighbour.

    out, flat: (C, *stride, *shape, n); plane (a, b) has every stride-th row from a and column from b on of the map with its
    padding, of which `pad` is that above and to the left.  n samples lie side by side.
    """
    height, width, o = x.shape[1], x.shape[2] // n, start * stride[0] * stride[1] * shape[0] * shape[1] * n
    maps = x.reshape(x.size)
    for c in range(start, stop):
        for a in range(stride[0]):
            for b in range(stride[1]):
                first = min(max(0, -((b - pad[1]) // stride[1])), shape[1])                # columns that are in the map
                last = max(first, min(shape[1], (width - 1 + pad[1] - b) // stride[1] + 1))
                for r in range(shape[0]):
                    h, w = r * stride[0] + a - pad[0], first * stride[1] + b - pad[1]
                    if 0 <= h < height:
                        i = ((c * height + h) * width + w) * n
                        clear(out, o, first * n)
                        if stride[1] == 1:
                            copy(maps, i, out, o + first * n, (last - first) * n)
                        elif n == 1 and stride[1] == 2:
                            _every_second(maps, i, out, o + first, last - first)
                        else:
                            for t in range(last - first):
                                copy(maps, i + t * stride[1] * n, out, o + (first + t) * n, n)
                        clear(out, o + last * n, (shape[1] - last) * n)
                    else:
                        clear(out, o, shape[1] * n)
                    o += shape[1] * n


@loop
def windows(weights, maps, offsets, row, kept, out, start, stop, step, product, rest):
    """Rows of windows start .. stop - 1 of out (O, rows, kept): weights (O, K) times what the windows see in `maps`.

    A row of windows takes `row` >= kept columns of the product, of which the last ones see across the edge of the map and
    are dropped.  step: how many rows of windows form one product.
    """
    outputs, pitch, size = out.shape[0], out.shape[1] * kept, out.size
    flat = out.reshape(size)
    for r in range(start, stop, step):
        rows = min(step, stop - r)
        if row == kept:
            multiply(weights, 0, maps, r * row, offsets, flat, r * row, pitch, outputs, rows * row, rest)
        elif step == 1:
            multiply(weights, 0, maps, r * row, offsets, flat, r * kept, pitch, outputs, kept, rest)
        else:
            count = rows * row - (row - kept)
            multiply(weights, 0, maps, r * row, offsets, product, 0, step * row, outputs, count, rest)
            for o in range(outputs):
                for i in range(rows):
                    copy(product, (o * step + i) * row, flat, o * pitch + (r + i) * kept, kept)

# --- the weight's gradient --------------------------------------------------------------------------------------------

FEW = 4                                  # rows of columns in a tile
SOME = REGISTERS // 8                    # rows of the gradient in a tile


def _sums(height: int, width: int):
    """The kernel of a tile of height x width sums over t < count, each added to its place in out, called as

        sums(g, i, pitch, x, j, offsets, k, out, o, step, count)

        out[o + step r + s] += sum over t of g[i + pitch r + t] x[j + offsets[k + s] + t]

    Each sum is kept as a vector of sums over every WIDTH-th t, and added up at the end.
    """
    @intrinsic
    def sums(_context, g, i, pitch, x, j, offsets, k, out, o, step, count):
        def generate(context, build, signature, given):
            rows, columns, results = (place(build, array(context, build, signature, given, n).data, given[n + 1])
                                      for n in (0, 3, 7))
            starts = place(build, array(context, build, signature, given, 5).data, given[6])
            pitch, step, count = given[2], given[9], given[10]
            rows = [place(build, rows, build.mul(pitch, INT(r))) for r in range(height)]
            columns = [place(build, columns, build.load(place(build, starts, s))) for s in range(width)]
            whole = build.and_(count, INT(-WIDTH))
            before = build.block
            head, body, after = (build.append_basic_block(name) for name in ("more", "sum", "rest"))

            def products(memory, t, totals):
                seen = [memory.load(place(build, column, t)) for column in columns]
                return [[row * value + Vector(build, one) for value, one in zip(seen, line, strict=True)]
                        for row, line in zip((memory.load(place(build, row, t)) for row in rows), totals, strict=True)]
            build.branch(head)
            build.position_at_end(head)
            t = build.phi(INT)
            totals = [[build.phi(VECTOR) for _ in range(width)] for _ in range(height)]
            build.cbranch(build.icmp_signed("<", t, whole), body, after)

            build.position_at_end(body)
            for line, news in zip(totals, products(Memory(build), t, totals), strict=True):
                for one, new in zip(line, news, strict=True):
                    one.add_incoming(ZERO, before)
                    one.add_incoming(new.value, body)
            t.add_incoming(INT(0), before)
            t.add_incoming(build.add(t, INT(WIDTH)), body)
            build.branch(head)

            build.position_at_end(after)
            for r, line in enumerate(products(Memory(build, build.sub(count, whole)), whole, totals)):
                for s, value in enumerate(line):
                    at = place(build, results, build.mul(step, INT(r)), s)
                    build.store(build.fadd(build.load(at), total(value)), at)
            return context.get_dummy_value()
        whole = types.intp
        return types.void(g, whole, whole, x, whole, offsets, whole, out, whole, whole, whole), generate
    return sums


_sums_of_many, _sums_of_row, _sums_of_column, _sum = (_sums(*size) for size in ((SOME, FEW), (1, FEW), (SOME, 1), (1, 1)))


@loop
def windows_gradient(g, outputs, pitch, maps, offsets, step, count, out, start, stop):
    """out (outputs, K) += g (outputs, count) times what the windows see in `maps`, for k = start .. stop - 1; all flat.

    The adjoint of `windows`, with rows of windows as long as those of the maps: what was dropped there is zero in g. Rows of
    g are `pitch` apart; `step` columns are added at a time, which stay in the cache.
    """
    size = offsets.size
    for t in range(0, count, step):
        length = min(step, count - t)
        for k in range(start, stop - FEW + 1, FEW):
            r = 0
            while r + SOME <= outputs:
                _sums_of_many(g, r * pitch + t, pitch, maps, t, offsets, k, out, r * size + k, size, length)
                r += SOME
            while r < outputs:
                _sums_of_row(g, r * pitch + t, pitch, maps, t, offsets, k, out, r * size + k, size, length)
                r += 1
        for k in range(stop - (stop - start) % FEW, stop):
            r = 0
            while r + SOME <= outputs:
                _sums_of_column(g, r * pitch + t, pitch, maps, t, offsets, k, out, r * size + k, size, length)
                r += SOME
            while r < outputs:
                _sum(g, r * pitch + t, pitch, maps, t, offsets, k, out, r * size + k, size, length)
                r += 1


@loop
def widen(g, row, out):
    """Rows of g (O, rows, kept) to rows of `row` >= kept numbers in out, flat, with zeros behind."""
    outputs, rows, kept = g.shape
    flat = g.reshape(g.size)
    for r in range(outputs * rows):
        copy(flat, r * kept, out, r * row, kept)
        clear(out, r * row + kept, row - kept)
