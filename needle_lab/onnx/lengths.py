"""Lengths that may vary: a model is run at several sizes, and what differs between the runs follows from the sizes.

    Length      a length as it was in each of the runs; arithmetic on it is done in all of them
    Various     any other constant that differs: a number, an array
    Runs        the runs side by side: the same nodes, with lengths in place of the numbers that differ

So nothing has to be said about which op hands a length on: a number that is the same in every run is written as it is,
one that differs is found again among the shapes of values (`Writer.length`), and what is found nowhere is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import graph
from ..core.tensor import Tensor
from ..errors import UnsupportedOnnxError
from ..nn import Module
from .tracing import Trace


class Length(int):
    """An integer that differs between the runs.  As an int it is that of the first run, the user's example."""

    values: tuple[int, ...]

    def __new__(cls, values: Sequence[int]) -> Length:
        made = super().__new__(cls, values[0])
        made.values = tuple(values)
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Length) and self.values == other.values

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.values)

    def __repr__(self) -> str:
        return f"Length{self.values}"


def length(values: Sequence[int]) -> int:
    """A plain number where all runs agree."""
    return int(values[0]) if len(set(values)) == 1 else Length([int(v) for v in values])


def _in_all_runs(function):
    def method(self: Length, other: int):
        if not isinstance(other, int):
            return NotImplemented
        others = other.values if isinstance(other, Length) else (int(other),) * len(self.values)
        return length([function(a, b) for a, b in zip(self.values, others, strict=True)])
    return method


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    _function = getattr(operator, _name)
    setattr(Length, f"__{_name}__", _in_all_runs(_function))
    setattr(Length, f"__r{_name}__", _in_all_runs(lambda a, b, f=_function: f(b, a)))


class Various:
    """A float or an array that differs between the runs."""

    def __init__(self, values: Sequence[Any]):
        self.values = list(values)
        if isinstance(values[0], np.ndarray):
            self.dtype, self.shape = values[0].dtype, values[0].shape


class Runs:
    """Runs of one model, the user's example first."""

    def __init__(self, traces: Sequence[Trace]):
        first, *others = self.traces = list(traces)
        self.shapes: dict[Any, tuple[int, ...]] = {}           # of every value, by its key in the first run
        self.constants: dict[Tensor, Various] = {}             # tensors made during the run, where they differ
        self.calls: dict[graph.Node, tuple[list, dict]] = {}   # node -> its inputs and attributes
        if any(len(t.nodes) != len(first.nodes) or len(t.outputs) != len(first.outputs) for t in others):
            counts = " and ".join(str(len(t.nodes)) for t in (first, *others))
            raise UnsupportedOnnxError(f"export: the model ran {counts} ops at different sizes: its Python code repeats or "
                                       "chooses ops by a length, which the file would fix; leave that axis out of "
                                       "dynamic_axes")
        self._places = [_places(t) for t in traces]
        for tensors in zip(*(t.inputs + t.outputs for t in traces), strict=True):
            self._enter(tensors)
        for nodes in zip(*(t.nodes for t in traces), strict=True):
            self._enter_call(nodes)

    @property
    def differ(self) -> bool:
        """Whether any number or constant is not the same in all runs."""
        return bool(self.constants) or any(_differs(part) for call in self.calls.values() for part in call)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        return self.shapes.get(graph.key_of(x), x.shape)

    def _enter_call(self, nodes: tuple[graph.Node, ...]) -> None:
        ops = {node.op.name for node in nodes}
        if len(ops) > 1 or len({len(node.inputs) for node in nodes}) > 1:
            raise UnsupportedOnnxError(f"export: the model runs other ops ({', '.join(sorted(ops))}) at another size, which "
                                       "the file cannot; leave that axis out of dynamic_axes")
        inputs = []
        for values in zip(*(node.inputs for node in nodes), strict=True):
            if all(isinstance(x, Tensor) for x in values):
                self._enter(values)
                inputs.append(values[0])
            else:
                inputs.append(_merged(values))
        self.calls[nodes[0]] = inputs, _merged(tuple(node.attrs for node in nodes))

    def _enter(self, tensors: tuple[Tensor, ...]) -> None:
        """One value in all runs: its shape, and whether it is the same value of the graph or the same constant."""
        first = tensors[0]
        where = {self._where(x, run) for run, x in enumerate(tensors)}
        if len(where) > 1:
            raise UnsupportedOnnxError("export: the model's ops read other values at another size, which the file cannot; "
                                       "leave that axis out of dynamic_axes")
        if len({x.ndim for x in tensors}) == 1:
            self.shapes[graph.key_of(first)] = tuple(map(length, zip(*(x.shape for x in tensors), strict=True)))
        if where == {None} and any(x.data is not first.data for x in tensors):
            merged = _merged(tuple(x.numpy() for x in tensors))
            if isinstance(merged, Various):
                self.constants[first] = merged

    def _where(self, x: Tensor, run: int) -> tuple[int, int] | None:
        """Which output of which node it is, or which input of the model (node -1); None for a constant."""
        return self._places[run].get(id(x.data))


def _places(trace: Trace) -> dict[int, tuple[int, int]]:
    """Array -> the value of the graph that it is: a detached tensor has the array of the value that it was."""
    number = {node: i for i, node in enumerate(trace.nodes)}
    values = [*trace.outputs, *(x for node in trace.nodes for x in node.inputs if isinstance(x, Tensor))]
    found = {id(x.data): (number[x.node], x.output_index) for x in values if x.node in number}
    return found | {id(x.data): (-1, i) for i, x in enumerate(trace.inputs)}


def _merged(values: tuple) -> Any:
    """One value for all runs: itself where they agree, with a Length or Various where not."""
    first = values[0]
    kinds = {type(v) for v in values}
    if isinstance(first, Tensor):
        return _merged(tuple(v.numpy() for v in values))
    if isinstance(first, np.ndarray) and len(kinds) == 1:
        same = all(v.dtype == first.dtype and v.shape == first.shape and v.tobytes() == first.tobytes() for v in values)
        return first if same else Various(values)
    if isinstance(first, Module) or len(kinds) > 1:
        if all(v is first for v in values):
            return first
    elif isinstance(first, (tuple, list)) and len({len(v) for v in values}) == 1:
        return type(first)(map(_merged, zip(*values, strict=True)))
    elif isinstance(first, dict):
        return {name: _merged(tuple(v[name] for v in values)) for name in first}
    elif isinstance(first, slice):
        return slice(*(_merged(tuple(getattr(v, part) for v in values)) for part in ("start", "stop", "step")))
    elif all(v is first or v == first for v in values):
        return first
    elif isinstance(first, (int, np.integer)) and not isinstance(first, bool):
        return length(values)
    elif isinstance(first, (float, np.floating)):
        return Various(values)
    raise UnsupportedOnnxError(f"export: an op is given {' or '.join(map(repr, values))}, depending on the size, which the "
                               "file cannot; leave that axis out of dynamic_axes")


def _differs(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_differs, value))
    if isinstance(value, dict):
        return any(map(_differs, value.values()))
    if isinstance(value, slice):
        return _differs((value.start, value.stop, value.step))
    return isinstance(value, (Length, Various))
