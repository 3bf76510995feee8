"""Lengths that may vary: a model is traced at several sizes, and what differs between the traces follows from the sizes.

    Length      a length as it was in each of the traces; arithmetic on it is done in all of them
    Various     any other constant that differs: a number, an array
    Sizes       the names of the lengths that vary, and for each Length how it follows from them

So no op has to say how it hands a length on: a number that is the same in every trace is a number, one that differs is a
sum or product of the named lengths, or a length of a value that is there already; what is neither is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import GraphError, ShapeError
from .values import Value

if TYPE_CHECKING:
    from .program import Program


class Length(int):
    """An integer that differs between the traces.  As an int it is that of the first, the user's example."""

    values: tuple[int, ...]

    def __new__(cls, values: Sequence[int]) -> Length:
        made = super().__new__(cls, values[0])
        made.values = tuple(values)
        return made

    def __getnewargs__(self) -> tuple:
        return (self.values,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Length) and self.values == other.values

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.values)

    def __repr__(self) -> str:
        return f"Length{self.values}"


def length(values: Sequence[int]) -> int:
    """A plain number where all traces agree."""
    return int(values[0]) if len(set(values)) == 1 else Length([int(v) for v in values])


def _in_all_traces(function):
    def method(self: Length, other: int):
        if not isinstance(other, int):
            return NotImplemented
        others = other.values if isinstance(other, Length) else (int(other),) * len(self.values)
        return length([function(a, b) for a, b in zip(self.values, others, strict=True)])
    return method


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    _function = getattr(operator, _name)
    setattr(Length, f"__{_name}__", _in_all_traces(_function))
    setattr(Length, f"__r{_name}__", _in_all_traces(lambda a, b, f=_function: f(b, a)))


@dataclass(frozen=True)
class Form:
    """What a Various is.  number: a Length; reciprocal: 1 / a Length; else an array of a shape that may vary:

    filled     with `value` everywhere
    range      0, 1, 2, ... along `value`, its one axis that is longer than 1
    triangle   whether a place is on or below the diagonal number `value`; above: the others
    """

    kind: str
    number: int = 0
    shape: tuple[int, ...] = ()
    value: Any = 0
    above: bool = False


class Various:
    """A float or an array that differs between the traces."""

    def __init__(self, values: Sequence[Any]):
        self.values = list(values)
        first = values[0]
        self.dtype: Any = first.dtype if isinstance(first, np.ndarray) else np.dtype(np.float32)
        self.shape: tuple[int, ...] = np.shape(first)

    def form(self) -> Form | None:
        """How it follows from lengths, if it is a number, a filled array, a range or a triangle."""
        if isinstance(self.values[0], (float, np.floating)) or not self.values[0].ndim:
            return self._number()
        if len({a.ndim for a in self.values}) > 1:
            return None
        arrays = self.values
        shape = tuple(length(lengths) for lengths in zip(*(a.shape for a in arrays), strict=True))
        filled = {a.reshape(-1)[0].item() for a in arrays if a.size}
        if len(filled) == 1 and all((a == a.reshape(-1)[:1]).all() for a in arrays):
            return Form("filled", shape=shape, value=filled.pop())
        long = [i for i, n in enumerate(shape) if n != 1]
        if len(long) == 1 and all(np.array_equal(a.reshape(-1), np.arange(a.size)) for a in arrays):
            return Form("range", shape=shape, value=long[0])
        for above in (False, True) if len(shape) == 2 else ():
            for k in range(-2, 3):
                if all(np.array_equal(a, (np.tri(a.shape[0], a.shape[1], k) > 0) != above) for a in arrays):
                    return Form("triangle", shape=shape, value=k, above=above)
        return None

    def _number(self) -> Form | None:
        values = [float(v) for v in self.values]
        if all(v == round(v) for v in values):
            return Form("number", length([round(v) for v in values]))
        if all(v and abs(1 / v - round(1 / v)) < 1e-6 * abs(1 / v) for v in values):       # a mean's 1 / n
            return Form("reciprocal", length([round(1 / v) for v in values]))
        return None

    def lengths(self) -> list[Length]:
        """Those from which it follows."""
        form = self.form()
        return [] if form is None else [n for n in (form.number, *form.shape) if isinstance(n, Length)]

    def at(self, size: Any) -> Any:
        """Its value, where `size` gives the number of a Length."""
        form, shape = self.form(), ()
        if form is None:
            raise GraphError(f"a constant of shape {self.shape} depends on a length in no way that is known")
        shape = tuple(map(size, form.shape))
        if form.kind in ("number", "reciprocal"):
            number = size(form.number)
            number = number if form.kind == "number" else 1 / number
            return number if not isinstance(self.values[0], np.ndarray) else np.array(number, self.dtype)
        if form.kind == "filled":
            return np.full(shape, form.value, self.dtype)
        if form.kind == "range":
            return np.arange(shape[form.value]).astype(self.dtype).reshape(shape)
        return ((np.tri(*shape, form.value) > 0) != form.above).astype(self.dtype)


@dataclass(frozen=True)
class Formula:
    """factor * (product of the named lengths) + offset."""

    factor: int
    names: tuple[str, ...]
    offset: int = 0

    def at(self, sizes: dict[str, int]) -> int:
        n = self.factor
        for name in self.names:
            n *= sizes[name]
        return n + self.offset

    def text(self) -> str:
        product = "*".join([*([str(self.factor)] if self.factor != 1 else []), *self.names])
        return product + (f"{self.offset:+d}" if self.offset else "")


@dataclass(frozen=True, eq=False)
class Axis:
    """The length of another value, which is there already."""

    value: Value
    axis: int


@dataclass
class Sizes:
    """names: length that varies -> what it was in each trace. known: Length -> how it follows from them."""

    names: dict[str, tuple[int, ...]] = field(default_factory=dict)
    known: dict[Length, Formula | Axis] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names)

    def __str__(self) -> str:
        return ", ".join(f"{name} any length (tried {', '.join(map(str, sorted(set(values))))})"
                         for name, values in self.names.items())

    def formula(self, wanted: Length) -> Formula | None:
        """A named length, that plus or times a number, both, or a product of two of them times a number."""
        names = list(self.names)
        single = [(name,) for name in names]
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i:]]
        for group in (*single, *pairs):
            products = [int(np.prod(v)) for v in zip(*(self.names[name] for name in group), strict=True)]
            first = next((i for i, p in enumerate(products) if p != products[0]), None)
            if first is None:
                continue
            factor, rest = divmod(wanted.values[first] - wanted.values[0], products[first] - products[0])
            offset = wanted.values[0] - factor * products[0]
            if not rest and factor and all(factor * p + offset == n for p, n in zip(products, wanted.values, strict=True)):
                return Formula(factor, group, offset)
        return None

    def fit(self, expected: tuple, shape: tuple) -> bool:
        """Whether a shape is the expected one, lengths that vary left open."""
        return len(expected) == len(shape) and all(isinstance(n, Length) or n == m
                                                   for n, m in zip(expected, shape, strict=True))

    def text(self, value: Any) -> str:
        """A shape or an attribute, as people read it."""
        if isinstance(value, Length):
            how = self.known.get(value)
            return how.text() if isinstance(how, Formula) else "?"
        if isinstance(value, (tuple, list)):
            inner = ", ".join(map(self.text, value))
            return f"({inner}{',' if len(value) == 1 else ''})" if isinstance(value, tuple) else f"[{inner}]"
        if isinstance(value, slice):
            parts = ["" if part is None else self.text(part) for part in (value.start, value.stop, value.step)]
            return ":".join(parts[:2] if not parts[2] else parts)
        return f"array {value.shape}" if isinstance(value, np.ndarray) and value.size > 4 else \
            "..." if value is ... else str(value)


class Measured:
    """The lengths of one run of a program: numbers for what varies."""

    def __init__(self, sizes: Sizes, inputs: Sequence[Value], given: Sequence[Any]):
        self.sizes, self.named = sizes, dict[str, int]()
        self.shapes: dict[Value, tuple[int, ...]] = {}
        for value, x in zip(inputs, given, strict=True):
            for n, m in zip(value.shape, x.shape, strict=True) if sizes and value.shape is not None else ():
                if isinstance(n, Length):
                    name = sizes.known[n].names[0]                       # type: ignore[union-attr]
                    if self.named.setdefault(name, m) != m:
                        raise ShapeError(f"input {value.name!r}: {name} is {self.named[name]} in another axis, here {m}")
        self._watched = {how.value for how in sizes.known.values() if isinstance(how, Axis)}

    def see(self, value: Value, found: Any) -> None:
        """A result, whose length another may be."""
        if value in self._watched:
            self.shapes[value] = found.shape

    def at(self, tree: Any) -> Any:
        """A number, an attribute or a constant for this run."""
        if isinstance(tree, Length):
            how = self.sizes.known[tree]
            return how.at(self.named) if isinstance(how, Formula) else self.shapes[how.value][how.axis]
        if isinstance(tree, Various):
            return tree.at(self.at)
        if isinstance(tree, slice):
            return slice(*map(self.at, (tree.start, tree.stop, tree.step)))
        return tree

# --- several traces as one program --------------------------------------------------------------------------------------


def merged(programs: Sequence[Program], names: dict[str, tuple[int, ...]]) -> Program:
    """The first program, with lengths in the place of the numbers that differ.  GraphError for what cannot vary."""
    first, *others = programs
    if any(len(p.calls) != len(first.calls) for p in others):
        counts = " and ".join(str(len(p.calls)) for p in programs)
        raise GraphError(f"trace: the model ran {counts} ops at different sizes: its Python code repeats or chooses ops by "
                         "a length, which a trace would fix; leave that axis out")
    merge = _Merge(others)
    for values in zip(*(p.inputs for p in programs), strict=True):
        merge.enter(values)
    first.sizes = Sizes(names)
    merge.resolve(first.sizes, [v.shape for v in first.inputs], [])
    made = list(first.inputs)
    for calls in zip(*(p.calls for p in programs), strict=True):
        call = calls[0]
        if len({c.name for c in calls}) > 1 or len({len(c.inputs) for c in calls}) > 1:
            raise GraphError(f"trace: the model runs other ops ({', '.join(sorted({c.name for c in calls}))}) at another "
                             "size, which a program cannot; leave that axis out")
        call.inputs = merge.tree(tuple(c.inputs for c in calls))
        call.attrs = merge.tree(tuple(c.attrs for c in calls))
        merge.resolve(first.sizes, [call.inputs, call.attrs], made)
        for values in zip(*(c.outputs for c in calls), strict=True):
            merge.enter(values)
        made += call.outputs
    first.outputs = merge.tree(tuple(p.outputs for p in programs))
    merge.resolve(first.sizes, [first.outputs], made)
    for value in made:                                       # for people: lengths that no call asks for
        for n in value.shape or ():
            how = first.sizes.formula(n) if isinstance(n, Length) and n not in first.sizes.known else None
            if how:
                first.sizes.known[n] = how
    return first


class _Merge:
    """Which values of the other programs are which of the first."""

    def __init__(self, others: Sequence[Program]):
        self.twins: list[dict[Value, Value]] = [{} for _ in others]

    def enter(self, values: tuple[Value, ...]) -> None:
        """One value in all programs: its shape, and what a constant is."""
        first, *others = values
        for twins, value in zip(self.twins, others, strict=True):
            twins[value] = first
        if first.shape is not None and len({len(v.shape) for v in values}) == 1:
            first.shape = tuple(map(length, zip(*(v.shape for v in values), strict=True)))
        if first.known and not first.path and first.shape is not None:
            data = _merged(tuple(v.array() for v in values))
            first.data = data if isinstance(data, Various) else first.data

    def tree(self, trees: tuple) -> Any:
        first = trees[0]
        if any(isinstance(t, Value) for t in trees):
            fresh = all(t not in twins for t, twins in zip(trees[1:], self.twins, strict=True))
            alike = all(t.known == first.known and t.path == first.path for t in trees)
            if fresh and alike and first.known:
                self.enter(trees)
            elif not all(twins.get(t) is first for t, twins in zip(trees[1:], self.twins, strict=True)):
                raise GraphError("trace: the model's ops read other values at another size, which a program cannot; leave "
                                 "that axis out")
            return first
        if isinstance(first, (tuple, list)) and len({len(t) for t in trees}) == 1:
            parts = [self.tree(parts) for parts in zip(*trees, strict=True)]
            return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
        if isinstance(first, dict):
            return {name: self.tree(tuple(t[name] for t in trees)) for name in first}
        return _merged(trees)

    def resolve(self, sizes: Sizes, tree: Any, made: list[Value]) -> None:
        """Find how each length in an attribute, a number or a constant follows from what is there."""
        for x in _leaves(tree):
            if isinstance(x, Various) and x.form() is None:
                shapes = " or ".join(str(np.shape(v)) for v in x.values)
                raise GraphError(f"trace: a constant of shape {shapes} was made while the model ran and depends on a "
                                 "length; numbers that fill it, ranges and triangles can vary, others not: leave that axis "
                                 "out, or make it an input")
        for n in (n for x in _leaves(tree) for n in (x.lengths() if isinstance(x, Various) else [x])):
            how = sizes.known.get(n) or sizes.formula(n) or next(
                (Axis(v, v.shape.index(n)) for v in made if v.shape is not None and n in v.shape), None)
            if how is None:
                raise GraphError(f"trace: the model uses a length that is {' or '.join(map(str, n.values))} at different "
                                 "sizes, which is no length of any of its values; leave that axis out")
            sizes.known[n] = how


def _leaves(tree: Any) -> list[Any]:
    """What varies in attributes, inputs and constants: each Length and Various."""
    if isinstance(tree, (Length, Various)):
        return [tree]
    if isinstance(tree, slice):
        return _leaves((tree.start, tree.stop, tree.step))
    if isinstance(tree, dict):
        return _leaves(list(tree.values()))
    if isinstance(tree, (tuple, list)):
        return [n for part in tree for n in _leaves(part)]
    return _leaves(tree.data) if isinstance(tree, Value) and tree.known and not tree.path else []


def _merged(values: tuple) -> Any:
    """One value for all traces: itself where they agree, with a Length or Various where not."""
    first, kinds = values[0], {type(v) for v in values}
    if isinstance(first, np.ndarray) and len(kinds) == 1:
        same = all(v.dtype == first.dtype and v.shape == first.shape and v.tobytes() == first.tobytes() for v in values)
        return first if same else Various(values)
    if all(v is first for v in values):
        return first
    if len(kinds) == 1:
        if isinstance(first, slice):
            return slice(*(_merged(tuple(getattr(v, part) for v in values)) for part in ("start", "stop", "step")))
        if not isinstance(first, Tensor) and all(v == first for v in values):
            return first
        if isinstance(first, (int, np.integer)) and not isinstance(first, bool):
            return length(values)
        if isinstance(first, (float, np.floating)):
            return Various(values)
    raise GraphError(f"trace: an op is given {' or '.join(map(repr, values))}, depending on the size, which a program "
                     "cannot; leave that axis out")
