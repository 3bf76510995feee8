"""How much an ONNX model may ask for: a file of a few bytes can name a tensor of a terabyte or a loop without an end.

    ndl.onnx.limits.memory = 2**36                 # bytes that one computed value may take
    with ndl.onnx.limits.set(loop_iterations=10**8):
        model(x)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..errors import ArgumentError, ShapeError


@dataclass
class Limits:
    """memory: bytes of one computed value; loop_iterations: of one Loop; nodes: after all functions are expanded;
    nesting: graphs inside graphs (If, Loop, Scan), functions inside functions.
    """

    memory: int = 2**32
    loop_iterations: int = 1_000_000
    nodes: int = 1_000_000
    nesting: int = 30                       # what fits into the 100 levels that protobuf reads

    @contextlib.contextmanager
    def set(self, **changes: int) -> Iterator[Limits]:
        """Other limits inside a `with` block."""
        unknown = [name for name in changes if name not in {f.name for f in fields(self)}]
        if unknown:
            raise ArgumentError(f"limits.set: {unknown[0]!r} is none of {', '.join(f.name for f in fields(self))}")
        before = {name: getattr(self, name) for name in changes}
        vars(self).update(changes)
        try:
            yield self
        finally:
            vars(self).update(before)

    def check_shape(self, what: str, shape: Sequence[int], dtype=np.float32) -> tuple[int, ...]:
        """The shape, before anything is allocated for it.  ShapeError where it is negative or beyond `memory`."""
        shape = tuple(int(n) for n in shape)
        if any(n < 0 for n in shape):
            raise ShapeError(f"{what}: the shape {shape} has a negative length")
        size = math.prod(shape) * max(np.dtype(dtype).itemsize, 1)
        if size > self.memory:
            raise ShapeError(f"{what}: the shape {shape} needs {size / 2**30:,.1f} GiB, the limit is "
                             f"{self.memory / 2**30:,.1f}; set ndl.onnx.limits.memory higher if that is meant")
        return shape

    def check_broadcast(self, what: str, inputs: Sequence) -> None:
        """The same for the values of an operator that combines its inputs (outer products included)."""
        shapes = [x.shape for x in inputs if hasattr(x, "shape")]
        if math.prod(map(math.prod, shapes)) * 8 <= self.memory:       # never more than that: the usual case, at once
            return
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:                                             # not combined so: a convolution, a lookup
            return
        self.check_shape(what, shape)


limits = Limits()
