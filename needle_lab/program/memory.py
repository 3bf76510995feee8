"""Where values live: one block of memory for all of them, in which two values share a place if they never meet.

A value lives from the call that writes it to the last call that reads it (or reads a view of it). Placing intervals so
that the block is smallest is a packing problem; greedy best fit, the largest first, comes within a few percent of the
least possible (Pisarchyk and Lee, 2020, "Efficient memory management for deep neural net inference").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..core.graph import OPS
from .kernels import IN_PLACE, kernel_of
from .program import Call, Program
from .values import Value

ALIGNMENT = 64                           # bytes: a cache line, and what AVX-512 loads best


@dataclass(eq=False)
class Storage:
    """Bytes that are needed from call `first` to call `last`, both included."""

    size: int
    first: int
    last: int
    offset: int = -1

    def meets(self, other: Storage) -> bool:
        return self.first <= other.last and other.first <= self.last


def place(storages: Iterable[Storage]) -> int:
    """Give each storage its offset; -> bytes of the whole block."""
    placed: list[Storage] = []
    for storage in sorted(storages, key=lambda s: (-s.size, s.first)):
        storage.offset = _best_gap(storage, sorted((s for s in placed if s.meets(storage)), key=lambda s: s.offset))
        placed.append(storage)
    return max((s.offset + _rounded(s.size) for s in placed), default=0)


def _best_gap(storage: Storage, neighbours: list[Storage]) -> int:
    """The offset of the smallest gap between the neighbours that is large enough; behind them if there is none."""
    size, end, best = _rounded(storage.size), 0, (np.inf, -1)
    for s in neighbours:
        gap = s.offset - end
        if size <= gap < best[0]:
            best = gap, end
        end = max(end, s.offset + _rounded(s.size))
    return end if best[1] < 0 else best[1]


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def peak(storages: Iterable[Storage]) -> int:
    """The most bytes that live at one time: no placement needs less."""
    changes: dict[int, int] = {}
    for s in storages:
        changes[s.first] = changes.get(s.first, 0) + s.size
        changes[s.last + 1] = changes.get(s.last + 1, 0) - s.size
    return max(np.cumsum([changes[t] for t in sorted(changes)]).tolist(), default=0)


class Arena:
    """The block itself; `array` is the part of a storage as the array of a value."""

    def __init__(self, size: int):
        block = np.empty(size + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        self.block = block[start:start + size]

    def array(self, storage: Storage, value: Value) -> np.ndarray:
        return self.block[storage.offset:storage.offset + value.bytes].view(value.dtype).reshape(value.shape)


class Layout:
    """Which storage each value of a graph lives in, and who shares one: views always, in-place calls where asked for.

    A call writes over its input if it computes value by value and nobody reads that input, or a view of it, later.
    """

    def __init__(self, graph: Program, in_place: bool = True):
        self.storage: dict[Value, Storage] = {}
        self.views: set[Value] = set()
        self.written_over = 0
        self._last = {v: i for i, call in enumerate(graph.calls) for v in call.reads()}
        self._last |= {v: len(graph.calls) for v in graph.outputs}
        self._shadow: dict[Value, np.ndarray] = {}           # arrays that nobody writes: memory only by address
        for value in graph.inputs:
            if value.shape is not None:
                self._own(value, -1)
        for i, call in enumerate(graph.calls):
            for value in call.outputs:
                if value.shape is not None and value in self._last and not self._is_view(value, call):
                    over = self._written_over(call, i) if in_place else None
                    if over is not None:
                        self.storage[value], self._shadow[value] = self.storage[over], self._shadow[over]
                        self.written_over += 1
                    else:
                        self._own(value, i)
        for value, storage in self.storage.items():
            storage.last = max(storage.last, self._last.get(value, storage.first))
        self.storages = set(self.storage.values())

    def _own(self, value: Value, first: int) -> None:
        self.storage[value] = Storage(value.bytes, first, first)
        self._shadow[value] = value.empty()

    def _is_view(self, value: Value, call: Call) -> bool:
        """Ask numpy: whether a reshape is a view depends on the strides."""
        if not call.op or not call.op.view or call.inputs[0].known or len(call.inputs) > 1:      # einsum of several
            return False
        source = call.inputs[0]
        shadow = call.op.definition(self._shadow[source], **call.attrs)
        if not np.may_share_memory(shadow, self._shadow[source]):
            return False
        self._shadow[value], self.storage[value] = shadow, self.storage[source]
        self.views.add(value)
        return True

    def _written_over(self, call: Call, i: int) -> Value | None:
        """The input whose memory the output of an elementwise call may take."""
        if call.name not in IN_PLACE or kernel_of(call) is None:
            return None
        reads = list(call.reads())
        for value in (v for v in call.inputs if isinstance(v, Value) and not v.known):
            same = [v for v, s in self.storage.items() if s is self.storage[value]]
            whole = value.shape == call.outputs[0].shape and self.storage[value].size == value.bytes \
                and self._shadow[value].strides == call.outputs[0].empty().strides
            if whole and all(self._last.get(v, -1) <= i for v in same) and sum(v in same for v in reads) == 1:
                return value
        return None

    def arrays(self, graph: Program) -> tuple[dict[Value, np.ndarray], int]:
        """Memory for all values, and how many bytes it is; views are arrays of their own that cost nothing."""
        arena = Arena(size := place(self.storages))
        arrays = {v: arena.array(s, v) for v, s in self.storage.items() if v not in self.views}
        for call in graph.calls:
            for value in call.outputs:
                if value in self.views:
                    arrays[value] = OPS[call.name].definition(arrays[call.inputs[0]], **call.attrs)
        return arrays, size
