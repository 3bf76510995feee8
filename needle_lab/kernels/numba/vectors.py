"""Vectors of floats as values: what LLVM's language has, and Numba's Python has not.

Numba leaves it to LLVM to find out which loops can work on 8 or 16 numbers at a time. Where it cannot, a kernel is written
here as a Python function that emits instructions: an `intrinsic`. `Vector` makes that read like arithmetic.
"""

from __future__ import annotations

from functools import reduce

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic


def _registers() -> tuple[int, int]:
    """(floats in a vector register, how many registers there are) of the machine that Numba compiles for."""
    chosen = vars(config)["CPU_FEATURES"]                # of the environment: NUMBA_CPU_FEATURES
    if chosen is None:
        has = {name for name, there in llvmlite.binding.get_host_cpu_features().items() if there}
    else:
        has = {name[1:] for name in chosen.split(",") if name.startswith("+")}
    if {"avx512f", "avx512vl"} <= has:
        return 16, 32
    arm = llvmlite.binding.get_default_triple().startswith(("aarch64", "arm64"))
    return (8, 16) if "avx" in has else (4, 32 if arm else 16)


WIDTH, REGISTERS = _registers()
INT, WORD, BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
ZERO = ir.Constant(VECTOR, [0.0] * WIDTH)
FUSED = ("contract",)                    # a * b + c may be rounded once


def splat(build: ir.IRBuilder, number: ir.Value, width: int = WIDTH) -> ir.Value:
    """A vector of which every value is this number."""
    empty = ir.Constant(ir.VectorType(number.type, width), ir.Undefined)
    return build.shuffle_vector(build.insert_element(empty, number, WORD(0)), empty, _places([0] * width))


def _places(numbers: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(WORD, len(numbers)), numbers)


class Vector:
    """A vector in a function that is being built; + - * with another, or with a number, add an instruction."""

    __array_ufunc__ = None               # a NumPy number on the left leaves the operation to us

    def __init__(self, build: ir.IRBuilder, value: ir.Value):
        self.build, self.value = build, value

    def _with(self, other, instruction: str, swapped: bool = False) -> Vector:
        if not isinstance(other, Vector):
            other = Vector(self.build, ir.Constant(VECTOR, [float(np.float32(other))] * WIDTH))
        a, b = (other, self) if swapped else (self, other)
        return Vector(self.build, getattr(self.build, instruction)(a.value, b.value, flags=FUSED))

    def __add__(self, other):
        return self._with(other, "fadd")

    def __sub__(self, other):
        return self._with(other, "fsub")

    def __mul__(self, other):
        return self._with(other, "fmul")

    def __radd__(self, other):
        return self._with(other, "fadd", swapped=True)

    def __rsub__(self, other):
        return self._with(other, "fsub", swapped=True)

    def __rmul__(self, other):
        return self._with(other, "fmul", swapped=True)


def every(vector: Vector, first: int, step: int) -> Vector:
    """WIDTH values of a longer vector: every step-th one from the first."""
    picked = _places([first + step * i for i in range(WIDTH)])
    return Vector(vector.build, vector.build.shuffle_vector(vector.value, vector.value, picked))


def thirds(vectors: list[Vector]) -> list[Vector]:
    """Three vectors, one behind the other, dealt out to three: values 0, 3, 6, ..., values 1, 4, 7, ..., and the rest."""
    a, b, c = (v.value for v in vectors)
    build = vectors[0].build
    results = []
    for first in range(3):
        at = [first + 3 * i for i in range(WIDTH)]
        both = build.shuffle_vector(a, b, _places([min(n, 2 * WIDTH - 1) for n in at]))
        picked = [i if n < 2 * WIDTH else n - WIDTH for i, n in enumerate(at)]
        results.append(Vector(build, build.shuffle_vector(both, c, _places(picked))))
    return results


def from_thirds(vectors: list[Vector]) -> list[Vector]:
    """The way back."""
    a, b, c = (v.value for v in vectors)
    build = vectors[0].build
    results = []
    for first in (0, WIDTH, 2 * WIDTH):
        at = [divmod(first + i, 3) for i in range(WIDTH)]                        # (place, which of the three)
        both = build.shuffle_vector(a, b, _places([i + WIDTH * min(which, 1) for i, which in at]))
        picked = [n if which < 2 else WIDTH + i for n, (i, which) in enumerate(at)]
        results.append(Vector(build, build.shuffle_vector(both, c, _places(picked))))
    return results


def zipped(vectors: list[Vector]) -> Vector:
    """The first values of all the vectors, then their second values, and so on: 2 or 4 vectors in one."""
    build, values, n = vectors[0].build, [v.value for v in vectors], len(vectors)
    while len(values) > 1:                               # one behind the other
        length = values[0].type.count
        values = [build.shuffle_vector(a, b, _places(list(range(2 * length))))
                  for a, b in zip(values[::2], values[1::2], strict=True)]
    order = [j * WIDTH + i for i in range(WIDTH) for j in range(n)]
    return Vector(build, build.shuffle_vector(values[0], values[0], _places(order)))


def total(vector: Vector) -> ir.Value:
    """The sum of its values, of halves, of quarters, and so on."""
    build, length = vector.build, WIDTH
    while length > 1:
        length //= 2
        vector = vector + Vector(build, build.shuffle_vector(vector.value, vector.value, _places(
            [length + i if i < length else i for i in range(WIDTH)])))
    return build.extract_element(vector.value, WORD(0))


class Memory:
    """Loads and stores of vectors.  count: only so many values, at least 1, of a vector marked `last` are touched."""

    def __init__(self, build: ir.IRBuilder, count: ir.Value | None = None, width: int = WIDTH):
        self.build, self.mask, self.kind = build, None, ir.VectorType(ir.FloatType(), width)
        if count is not None:
            self.mask = build.icmp_signed("<", _places(list(range(width))), splat(build, build.trunc(count, WORD), width))

    def load(self, pointer: ir.Value, last: bool = True) -> Vector:
        at = self.build.bitcast(pointer, self.kind.as_pointer())
        if self.mask is None or not last:
            return Vector(self.build, self.build.load(at, align=4))
        zero = ir.Constant(self.kind, [0.0] * self.kind.count)
        return Vector(self.build, self._masked("load", self.kind, at, WORD(4), self.mask, zero))

    def store(self, value: Vector, pointer: ir.Value, last: bool = True) -> None:
        at = self.build.bitcast(pointer, self.kind.as_pointer())
        if self.mask is None or not last:
            self.build.store(value.value, at, align=4)
        else:
            self._masked("store", ir.VoidType(), value.value, at, WORD(4), self.mask)

    def _masked(self, name, result, *arguments):
        form = ir.FunctionType(result, [a.type for a in arguments])
        name = f"llvm.masked.{name}.v{self.kind.count}f32.p0"
        return self.build.call(cgutils.get_or_insert_function(self.build.module, form, name), arguments)


def array(context, build: ir.IRBuilder, signature, given, at: int):
    """Argument `at` of an intrinsic, an array, with its fields."""
    return cgutils.create_struct_proxy(signature.args[at])(context, build, given[at])


def place(build: ir.IRBuilder, pointer: ir.Value, *steps) -> ir.Value:
    """The pointer, moved by the sum of these numbers or values (units: values)."""
    return build.gep(pointer, [reduce(build.add, [INT(step) if isinstance(step, int) else step for step in steps])])


@intrinsic
def copy(_context, source, i, target, o, count):
    """target[o:o + count] = source[i:i + count], flat arrays that do not overlap, without looking whether they do."""
    def generate(context, build, signature, given):
        x, y = (place(build, array(context, build, signature, given, n).data, given[n + 1]) for n in (0, 2))
        cgutils.raw_memcpy(build, y, x, given[4], 4)
        return context.get_dummy_value()
    return types.void(source, types.intp, target, types.intp, types.intp), generate


@intrinsic
def clear(_context, target, o, count):
    """target[o:o + count] = 0"""
    def generate(context, build, signature, given):
        y = place(build, array(context, build, signature, given, 0).data, given[1])
        cgutils.memset(build, y, build.mul(given[2], INT(4)), 0)
        return context.get_dummy_value()
    return types.void(target, types.intp, types.intp), generate
