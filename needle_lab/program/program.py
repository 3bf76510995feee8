"""A whole model as data: which ops run on which values, in order.

    Value      an array on its way: its shape and dtype, and for what is there before the run, where it comes from
    Call       an op by its name, or a Python function of which nothing is recorded, on values
    Program    calls in the order in which they run, with inputs and outputs; it prints, and it runs
    Body       a Program inside of a call: a branch of an If, what a Loop repeats

A Program reads the parameters of the module that it was traced from: it trains with them, and sees them change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.graph import OPS, Op
from ..core.tensor import Tensor
from ..errors import ArgumentError, DTypeError, ShapeError
from ..nn import Module
from ..untrusted import printable
from .lengths import Formula, Measured, Sizes
from .values import Value, leaves_of, mapped

Scope = tuple[tuple[str, str], ...]            # (path, class) of each module around a call, the outermost first


@dataclass
class Body:
    """A program inside of a call.  captured: values around it, which it takes behind its own inputs."""

    program: Program
    captured: list[Any]
    output_types: list[tuple | None] = field(default_factory=list)      # declared: (dtype, shape with None for free lengths)


@dataclass(eq=False)
class Call:
    """An op on values, numbers and None; or a function of which nothing is recorded.

    function: takes the inputs, and the bodies by name -> a tuple, or one result; None for an op of the registry.
    after: elementwise calls done at once on the output, in place; a plan puts them there.
    """

    name: str
    inputs: list
    outputs: list[Value]
    attrs: dict[str, Any] = field(default_factory=dict)
    function: Callable | None = None
    bodies: dict[str, Body] = field(default_factory=dict)
    scope: Scope = ()
    after: list[Call] = field(default_factory=list)
    origin: str = ""                                        # what it is a part of

    @property
    def op(self) -> Op | None:
        return None if self.function else OPS[self.name]

    def sources(self) -> Iterator[Value]:
        """All values that it reads, those of bodies and of calls after it included."""
        for call in (self, *self.after):
            yield from leaves_of(call.inputs)
            if call.function:
                yield from leaves_of((call.attrs, [b.captured for b in call.bodies.values()]))

    def reads(self) -> Iterable[Value]:
        """Those that are not known before."""
        return (v for v in self.sources() if not v.known)


@dataclass(eq=False)
class Program:
    """Calls in the order in which they run; made by `trace`.

    program(x): inputs by position or by name -> what the module returned, in the same structure, differentiable.
    outputs: the values that are returned, in that structure. sizes: which lengths may vary, and what follows from them.
    print(program): a line for each call, with the shape of its result and the module in which it was made.

    Raises ShapeError, DTypeError and ArgumentError for inputs that it does not take.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: Any
    output_names: list[str] = field(default_factory=list)
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def results(self) -> list[Value]:
        """The outputs, one behind the other."""
        return list(leaves_of(self.outputs))

    @property
    def known(self) -> list[Value]:
        """Parameters, buffers and constants, each once, in the order in which they are read."""
        read = (v for call in self.calls for v in call.sources())
        inner = (v for call in self.calls for b in call.bodies.values() for v in b.program.known)
        return list(dict.fromkeys(v for v in (*read, *self.results, *inner) if v.known))

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Parameters and buffers that the program reads, by their paths in the module."""
        return {v.path: v.data for v in self.known if v.path}

    def part(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Program:
        """The calls between these values."""
        needed, kept = set(outputs), []
        for call in reversed(self.calls):
            if needed.intersection(call.outputs) - set(inputs):
                kept.append(call)
                needed.update(call.reads())
        return Program(list(inputs), kept[::-1], tuple(outputs), sizes=self.sizes)

    def __call__(self, *args: Any, **named: Any) -> Any:
        given = bind_names([v.name for v in self.inputs], args, named)
        return self.run([taken(v, given[v.name], self.sizes) for v in self.inputs])

    def run(self, given: list) -> Any:
        """The outputs for these inputs; a value is let go of after its last use."""
        values: dict[Value, Any] = dict(zip(self.inputs, given, strict=True))
        sizes = Measured(self.sizes, self.inputs, given)
        last = {v: i for i, call in enumerate(self.calls) for v in call.reads()} | dict.fromkeys(self.results, -1)
        gone: dict[int, list[Value]] = {}
        for value, i in last.items():
            gone.setdefault(i, []).append(value)

        def current(x: Any) -> Any:
            if not isinstance(x, Value):
                return sizes.at(x)
            return as_argument(x, sizes) if x.known else values[x]
        for i, call in enumerate(self.calls):
            for value, result in zip(call.outputs, called(call, current), strict=False):
                values[value] = result
                sizes.see(value, result)
            for value in gone.get(i, ()):
                values.pop(value, None)
        return mapped(self.outputs, current)

    def __str__(self) -> str:
        return printable("\n".join(_listing(self, "program", "")), lines=True)

    __repr__ = __str__


def called(call: Call, current: Callable[[Any], Any]) -> tuple:
    """The results of a call; current: value (or length that varies) -> what it is in this run."""
    inputs, attrs = mapped(call.inputs, current), mapped(call.attrs, current)
    if call.function:
        bodies = {name: Around(body, mapped(body.captured, current)) for name, body in call.bodies.items()}
        result = call.function(*inputs, **attrs, **bodies)
        if isinstance(call.function, Module):                        # a layer that was not looked into: (y, (h, c))
            flat: list = []
            mapped(result, flat.append)
            return tuple(flat)
    else:
        result = OPS[call.name](*inputs, **attrs)
    return result if isinstance(result, tuple) else (result,)


class Around:
    """A body with the values around it: a function of its own inputs."""

    def __init__(self, body: Body, captured: list):
        self.body, self.captured, self.output_types = body, captured, body.output_types

    def __call__(self, *inputs: Any) -> tuple:
        program = self.body.program
        own = len(program.inputs) - len(self.captured)
        result = program.run([*inputs[:own], *self.captured])
        return tuple(result) if isinstance(result, (list, tuple)) else (result,)


def as_argument(value: Value, sizes: Measured | None = None) -> Any:
    """A known value as ops take it: numbers as tensors."""
    data = sizes.at(value.data) if sizes else value.data
    return Tensor(data) if value.shape is not None and not isinstance(data, Tensor) else data


def bind_names(names: list[str], args: tuple, named: dict[str, Any]) -> dict[str, Any]:
    """Arguments by position and by name -> by name; ArgumentError for what is missing, unknown or given twice."""
    if len(args) > len(names):
        raise ArgumentError(f"the model takes {len(names)} inputs ({', '.join(names)}), got {len(args)}")
    given = dict(zip(names, args, strict=False))
    for name, value in named.items():
        if name not in names or name in given:
            raise ArgumentError(f"input {name!r} is {'given twice' if name in given else 'unknown'}; the model takes "
                                f"{', '.join(names)}")
        given[name] = value
    absent = [name for name in names if name not in given]
    if absent:
        raise ArgumentError(f"the model needs the input {absent[0]!r}; it takes {', '.join(names)}")
    return given


def taken(value: Value, given: Any, sizes: Sizes) -> Any:
    """An argument as the program takes it; ShapeError or DTypeError where it does not fit."""
    if value.shape is None:
        return given
    x = given if isinstance(given, Tensor) else Tensor(np.asarray(given))
    if not sizes.fit(value.shape, x.shape):
        raise ShapeError(f"input {value.name!r}: this program takes the shape {sizes.text(value.shape)}, got {x.shape}; "
                         "trace the module again for it, or with dynamic= for lengths that may vary")
    if x.dtype != value.dtype:
        if not (is_floating(x.dtype) and is_floating(value.dtype)):
            raise DTypeError(f"input {value.name!r}: the program takes {value.dtype}, got {x.dtype}")
        x = x.astype(value.dtype)
    return x

# --- the listing ------------------------------------------------------------------------------------------------------


def _listing(program: Program, title: str, indent: str) -> Iterator[str]:
    sizes = program.sizes
    numbered = (v for call in program.calls for v in call.outputs if not v.name)
    names = {v: f"%{i}" for i, v in enumerate(numbered)}

    def name(x: Any) -> str:
        if isinstance(x, (list, tuple)):
            return f"[{', '.join(map(name, x))}]"
        if not isinstance(x, Value):
            return x.text() if isinstance(x, Formula) else str(x)
        return names.get(x) or str(x) or f"constant {sizes.text(x.shape)}"

    def kind(v: Value) -> str:
        return "?" if v.shape is None else f"{v.dtype} {sizes.text(v.shape)}"
    yield f"{indent}{title}({', '.join(f'{v.name}: {kind(v)}' for v in program.inputs)})"
    rows = []
    for call in program.calls:
        attrs = [f"{key}={sizes.text(value)}" for key, value in call.attrs.items()]
        made = ", ".join(name(v) for v in call.outputs)
        shapes = ", ".join(kind(v) for v in call.outputs)
        where = call.scope[-1][0] if call.scope else ""
        rows.append((f"{made} = {call.name}({', '.join([*map(name, call.inputs), *attrs])})", shapes, where, call))
    wide = max((len(row[0]) for row in rows if len(row[0]) <= 80), default=0)
    for text, shapes, where, call in rows:
        yield f"{indent}  {text:<{wide}}  {shapes}{f'   # {where}' if where else ''}".rstrip()
        for key, body in call.bodies.items():
            yield from _listing(body.program, key, indent + "    ")
    yield f"{indent}  return {', '.join(name(v) for v in program.results)}"
    if sizes:
        yield f"{indent}  sizes: {sizes}"
