"""The inner kernel of a matrix product.

    out (rows, count) = weights (rows, K) @ columns (K, count)

A number that has been loaded should be used many times. So a tile of ROWS x 3 vectors of the result stays in registers
for the whole sum (register blocking): each step k loads 3 vectors of row k of the columns and ROWS weights, and does 3 x
ROWS multiply-adds with them. That fills three quarters of the registers, and the loads are hidden behind the arithmetic:

             vector of row k    vector      vector
    weight   sum                sum         sum            16 floats a vector and 32 registers (AVX-512): tiles of 8 x 48
    weight   sum                sum         sum             8 floats and 16 registers (AVX):              tiles of 4 x 24
    ...

BLAS copies both matrices into such an order first; with few columns (the 16 to 49 tiles or windows of a deep layer) those
copies cost as much as the product. Here nothing is copied. Weights are read where they lie, ROWS rows at a time, and the
next ROWS are fetched into the cache meanwhile. Row k of the columns begins wherever a table of offsets says: in a padded
map, what a place of the kernel sees is the map itself, moved, so that a convolution needs no im2col.

Compilers do not find this loop by themselves, so it is written in LLVM's language, with vectors as values.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .compiled import f32, loop, part
from .vectors import BYTES, INT, REGISTERS, VECTOR, WIDTH, WORD, ZERO, Memory, Vector, array, place, splat

ROWS = REGISTERS // 4

# --- one tile ---------------------------------------------------------------------------------------------------------


def _tile(height: int, vectors: int, edge: bool):
    """The kernel of a tile of height x vectors, called as

        tile(weights, i, columns, j, offsets, out, o, pitch, rows, count)

    The arrays are flat; i, j, o are the places where the tile begins in them.  weights has `height` rows of offsets.size
    numbers; out has `rows` <= height rows, `pitch` apart.  edge: only `count` columns, which end in the last vector.
    """
    @intrinsic
    def tile(_context, weights, i, columns, j, offsets, out, o, pitch, rows, count):
        def generate(context, build, signature, given):
            w, x, y = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 2, 5))
            starts, (pitch, rows, count) = array(context, build, signature, given, 4), given[7:]
            size = build.extract_value(starts.shape, 0)
            memory = Memory(build, build.sub(count, INT(WIDTH * (vectors - 1))) if edge else None)
            fetch = cgutils.get_or_insert_function(
                build.module, ir.FunctionType(ir.VoidType(), [BYTES, WORD, WORD, WORD]), "llvm.prefetch.p0")
            before, body, after = build.block, build.append_basic_block("sum"), build.append_basic_block("store")
            build.branch(body)

            build.position_at_end(body)
            k = build.phi(INT)
            sums = [[build.phi(VECTOR) for _ in range(vectors)] for _ in range(height)]
            seen = place(build, x, build.load(place(build, starts.data, k)))
            row = [memory.load(place(build, seen, v * WIDTH), last=v == vectors - 1) for v in range(vectors)]
            ahead = place(build, w, build.mul(build.add(k, size), INT(height)))
            build.call(fetch, [build.bitcast(ahead, BYTES), WORD(0), WORD(2), WORD(1)])    # to be read, into the L2 cache
            for r, line in enumerate(sums):
                weight = build.load(place(build, w, build.mul(size, INT(r)), k))
                weight = Vector(build, splat(build, weight))
                for v, value in enumerate(line):
                    value.add_incoming(ZERO, before)
                    value.add_incoming((weight * row[v] + Vector(build, value)).value, body)
            following = build.add(k, INT(1))
            k.add_incoming(INT(0), before)
            k.add_incoming(following, body)
            build.cbranch(build.icmp_signed("<", following, size), body, after)

            build.position_at_end(after)
            for r, line in enumerate(sums):
                with build.if_then(build.icmp_signed("<", INT(r), rows), likely=True):
                    for v, value in enumerate(line):
                        memory.store(Vector(build, value.incomings[1][0]),
                                     place(build, y, build.mul(pitch, INT(r)), v * WIDTH), last=v == vectors - 1)
            return context.get_dummy_value()
        return types.void(weights, types.intp, columns, types.intp, offsets, out, *[types.intp] * 4), generate
    return tile


_three, _two, _one, _tall = (_tile(*size, False) for size in ((ROWS, 3), (ROWS, 2), (ROWS, 1), (2 * ROWS, 1)))
_three_, _two_, _one_, _tall_ = (_tile(*size, True) for size in ((ROWS, 3), (ROWS, 2), (ROWS, 1), (2 * ROWS, 1)))

# --- a product --------------------------------------------------------------------------------------------------------


@part
def some_rows(weights, i, columns, j, offsets, out, o, pitch, rows, count):
    """ROWS rows of the product (the last `rows` <= ROWS of them are kept), three vectors of columns at a time."""
    stop = j + count
    while j < stop:
        left = stop - j
        if left > 4 * WIDTH or 2 * WIDTH < left <= 3 * WIDTH:
            step = 3 * WIDTH
            if left >= step:
                _three(weights, i, columns, j, offsets, out, o, pitch, rows, left)
            else:
                _three_(weights, i, columns, j, offsets, out, o, pitch, rows, left)
        elif left > WIDTH:                               # four vectors are twice two
            step = 2 * WIDTH
            if left >= step:
                _two(weights, i, columns, j, offsets, out, o, pitch, rows, left)
            else:
                _two_(weights, i, columns, j, offsets, out, o, pitch, rows, left)
        else:
            step = WIDTH
            if left == step:
                _one(weights, i, columns, j, offsets, out, o, pitch, rows, left)
            else:
                _one_(weights, i, columns, j, offsets, out, o, pitch, rows, left)
        j += step
        o += step


@part
def multiply(weights, i, columns, j, offsets, out, o, pitch, rows, count, rest):
    """out (rows, count), its rows `pitch` apart = weights (rows, K) @ columns (K, count).

    The arrays are flat and the matrices begin at places i, j and o; row k of the columns begins at j + offsets[k].
    rest: scratch of ROWS * K, for the last rows with zeros below them.
    """
    size = offsets.size
    if count <= WIDTH:                                   # one vector: twice as many rows share it
        while rows >= 2 * ROWS:
            if count == WIDTH:
                _tall(weights, i, columns, j, offsets, out, o, pitch, 2 * ROWS, count)
            else:
                _tall_(weights, i, columns, j, offsets, out, o, pitch, 2 * ROWS, count)
            i, o, rows = i + 2 * ROWS * size, o + 2 * ROWS * pitch, rows - 2 * ROWS
    while rows >= ROWS:
        some_rows(weights, i, columns, j, offsets, out, o, pitch, ROWS, count)
        i, o, rows = i + ROWS * size, o + ROWS * pitch, rows - ROWS
    if rows > 0:
        for n in range(ROWS * size):
            rest[n] = weights[i + n] if n < rows * size else f32(0)
        some_rows(rest, 0, columns, j, offsets, out, o, pitch, rows, count)


@loop
def products(weights, columns, offsets, out, pitch, rows, count, start, stop, rest):
    """The products start .. stop - 1 of a stack, each like `multiply`; the matrices of a stack lie one after another."""
    size = offsets.size
    for p in range(start, stop):
        multiply(weights, p * rows * size, columns, p * size * count, offsets, out, p * rows * pitch, pitch, rows, count,
                  rest)
