"""Recording: a module runs once on examples, and the ops that it calls are written down as a Program.

What is recorded holds for other inputs too, as long as no value of an input became a Python number or an array on the
way: of what is computed with those nothing is seen. So a value that leaves the trace is met where it leaves, and refused
with the line in which that happened.
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import graph
from ..core.modes import is_tracing, no_grad, untraced
from ..core.modes import trace as recording
from ..core.tensor import Tensor
from ..errors import ArgumentError, GraphError, NeedleError
from ..nn import Module
from ..random import get_rng_state, set_rng_state
from .lengths import merged
from .program import Body, Call, Program, Scope
from .values import Value, leaves_of, mapped

MOST_OPS = 2000              # a part that unrolls into more (a recurrence over a long sequence) stays one call
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
NUMPY = os.path.dirname(os.path.abspath(np.__file__)) + os.sep

Whole = Callable[[Module, list], bool]         # (layer, arguments) -> whether this call stays one call
Axes = dict[str, dict[int, str]]               # input -> axis -> the name of its length


class NotRecorded(GraphError):
    """What a trace cannot follow: a value that left it, random numbers, shapes that only the run tells."""


def trace(module: Module | Callable, *examples: Tensor | np.ndarray, dynamic: dict[str, Any] | None = None,
          training: bool = False, whole: Whole | None = None, **named: Tensor | np.ndarray) -> Program:
    """Run a module (in evaluation mode) or a function of tensors on examples -> what it computes, as a Program.

    examples: the inputs, by position or by name; their shapes and dtypes are those that the program takes.
    dynamic: {"x": {0: "batch"}} names the lengths that may vary (equal names: equal lengths), or {"x": [0]}. The model is
        then traced at other sizes too; what differs has to follow from them, and the program is held against the model
        at each of these sizes.
    training: leave each module in its own mode. whole: which calls of modules are not looked into.

    The program reads the module's own parameters and buffers. It is true for all values of the inputs: a value that
    leaves the trace (`float(x)`, `x.numpy()`, `if x.sum() > 0`) is refused with its line. `x.data` is not watched.

    Raises GraphError for what a trace cannot follow, ArgumentError for arguments that do not fit.
    """
    call, names, inputs, results = _bound(module, examples, named)
    return record(call, module, names, inputs, named_axes(dynamic or {}, names, inputs), results, training, whole).program


@dataclass
class Recording:
    """A program, and the runs that it was made from: (inputs, outputs), the example's first."""

    program: Program
    runs: list[tuple[list, list[Tensor]]]


def record(call: Callable, module: Module | Callable, names: list[str], inputs: list, axes: Axes,
           results: Sequence[str] = (), training: bool = False, whole: Whole | None = None,
           also: dict[str, Module] | None = None) -> Recording:
    """What `trace` does, for callers with names of their own.  also: further modules that `call` uses, by path."""
    held = module if isinstance(module, Module) else None
    modules = (dict(held.named_modules()) if held else {}) | (also or {})
    tensors = {path: x for path, x in (*held.named_parameters(), *held.named_buffers())} if held else {}

    def run(given: list) -> tuple[Program, list[Tensor]]:
        return Recorder(modules, tensors, whole).run(call, names, given, list(results))
    with modes(list(modules.values()), training):
        program, found = run(inputs)
        if not axes:
            return Recording(program, [(inputs, found)])
        sizes, others = at_other_sizes(run, names, inputs, axes)
        program = merged([program, *(p for p, *_ in others)], sizes)
        if not training:                                             # a module in training changes as it runs
            for _, expected, given in others:
                _hold(program, given, expected)
        return Recording(program, [(inputs, found), *((given, expected) for _, expected, given in others)])


def _bound(module: Module | Callable, examples: tuple, named: dict[str, Any]) -> tuple[Callable, list[str], list, list[str]]:
    """-> (what to call, names of the inputs, the inputs, names of the outputs where they have some)."""
    if not callable(module):
        raise ArgumentError(f"trace: a module or a function of tensors is needed, got {type(module).__name__}")
    own = module._bound_for_trace(examples, named) if hasattr(module, "_bound_for_trace") else None
    if own is not None:
        return own
    if not examples and not named:
        raise ArgumentError("trace: an example of each input is needed: trace(module, x); its values do not matter")
    for x in (*examples, *named.values()):
        if not isinstance(x, (Tensor, np.ndarray, np.generic)):
            raise ArgumentError(f"trace: examples are tensors or numpy arrays, got {type(x).__name__}; for fixed arguments, "
                                "trace a function: trace(lambda x: model(x, 3), x)")
    names: list[str] = []
    for p in inspect.signature(module.forward if isinstance(module, Module) else module).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}{i}" for i in range(len(examples) - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    names = [names[i] if i < len(names) else f"input_{i}" for i in range(len(examples))] + list(named)
    inputs = [x.detach().clone() if isinstance(x, Tensor) else Tensor(np.array(x)) for x in (*examples, *named.values())]
    count = len(examples)
    return (lambda *xs: module(*xs[:count], **dict(zip(named, xs[count:], strict=True)))), names, inputs, []

# --- one run ------------------------------------------------------------------------------------------------------------


class _Active(threading.local):
    recorder: Recorder | None = None


_active = _Active()


def active() -> Recorder | None:
    """The recorder of the trace that is on."""
    return _active.recorder if is_tracing() else None


class Sample:
    """A value of which a trace knows nothing but an example: text, a sequence, an absent optional."""

    def __init__(self, value: Value, example: Any):
        self.value, self.example = value, example


class Recorder:
    """One run.  tensors: parameters and buffers by path; whole: (module, arguments) -> whether its call stays one."""

    def __init__(self, modules: dict[str, Module], tensors: dict[str, Tensor], whole: Whole | None = None):
        self.modules, self.whole = modules, whole
        self.calls: list[Call] = []
        self.scope: Scope = ()
        self._lost: NotRecorded | None = None
        self._given: Scope = ()                                      # what `inside` says, in place of the modules
        self._nodes: dict[graph.Node, list[Value]] = {}
        self._tensors: dict[int, tuple[Tensor, Value]] = {}          # tensors without a node, by identity
        self._arrays: dict[int, tuple[Any, Value]] = {}              # what lies in which array: a detached twin shares it
        for path, x in tensors.items():
            self._enter(x, Value(path, x.shape, x.dtype, True, x, path))

    def run(self, call: Callable, names: list[str], given: list, results: list[str]) -> tuple[Program, list[Tensor]]:
        """-> (the program, the outputs of this run)."""
        inputs, arguments = [], []
        for name, x in zip(names, given, strict=True):
            is_tensor = isinstance(x, Tensor)
            value = Value(name, x.shape if is_tensor else None, x.dtype if is_tensor else None, varies=True)
            inputs.append(value)
            if is_tensor:
                self._enter(x, value)
            arguments.append(x if is_tensor else Sample(value, x))
        before, around = get_rng_state(), _active.recorder
        _active.recorder = self
        try:
            with self._scopes(), recording(self._recorded, self._leaving):
                found = call(*arguments)
                outputs = mapped(found, self._output)
        finally:
            _active.recorder = around
        if self._lost:                                               # the model caught it
            raise self._lost
        _refuse_random(before)
        flat = list(leaves_of(outputs))
        numbered = ["output"] if len(flat) == 1 else [f"output_{i}" for i in range(len(flat))]
        tensors: list[Tensor] = []
        mapped(found, tensors.append)
        program = Program(inputs, self.calls, outputs, results or numbered)
        program.calls = program.part([], flat).calls                 # what no output depends on goes
        return program, tensors

    # --- what happens during the run ------------------------------------------------------------------------------------

    def _recorded(self, node: graph.Node, results: Any) -> None:
        inputs = [self.value_of(x) for x in node.inputs]
        values = list(leaves_of(inputs))
        if any(v.shape is None and v.varies for v in values):
            raise NotRecorded(f"trace: {node.op.name!r} reads a value whose shape depends on the values of the inputs: "
                              "what follows from it would be fixed as it is in the example" + _where()[1])
        outputs = []
        for y in results if isinstance(results, tuple) else (results,):
            outputs.append(Value() if y is None else Value("", y.shape, y.dtype, varies=any(v.varies for v in values)))
            if y is not None:
                self._arrays.setdefault(id(y.data), (y.data, outputs[-1]))
        self._nodes[node] = outputs
        registered = graph.OPS.get(node.op.name) is node.op
        self.calls.append(Call(node.op.name, inputs, outputs, dict(node.attrs), None if registered else node.op,
                               scope=self.scope))

    def _leaving(self, x: Tensor) -> None:
        value = self._found(x)
        if value is not None and value.varies:
            how, place = _where()
            self._lost = NotRecorded(f"trace: {how} takes a value that depends on the inputs out of the trace{place}; the "
                                     "program would repeat that of the example. Compute with ops (a choice: ndl.where), or "
                                     "give the number as an input")
            raise self._lost
        if value is not None and value.known and not value.path:      # it may be changed in place: then it is another one
            self._tensors.pop(id(x), None)
            self._arrays.pop(id(x.data), None)

    def _found(self, x: Any) -> Value | None:
        """The value that a tensor or an array is, if it is one of the trace."""
        if isinstance(x, Sample):
            return x.value
        if isinstance(x, Tensor):
            if x.node in self._nodes:
                return self._nodes[x.node][x.output_index]
            if id(x) in self._tensors:
                return self._tensors[id(x)][1]
            x = x.data
        return self._arrays[id(x)][1] if id(x) in self._arrays else None

    def value_of(self, x: Any) -> Any:
        """The value of anything that an op is given; numbers and None stay as they are."""
        if isinstance(x, (list, tuple)):
            return type(x)(map(self.value_of, x))
        if not isinstance(x, (Tensor, np.ndarray, Sample)):
            return x
        value = self._found(x)
        if value is None and not isinstance(x, Sample):
            return self._constant(x)
        if value is not None and isinstance(x, Tensor) and self._is_detached(x) and value.shape is not None:
            twin = Value("", value.shape, value.dtype, varies=value.varies)          # its values, but not its gradient
            self.calls.append(Call("detach", [value], [twin], function=Tensor.detach, scope=self.scope))
            self._tensors[id(x)] = x, twin
            return twin
        return value

    def _is_detached(self, x: Tensor) -> bool:
        return x.node is None and id(x) not in self._tensors

    def _constant(self, x: Tensor | np.ndarray) -> Value:
        if isinstance(x, np.ndarray):
            return Value("", x.shape if x.dtype != object else None, x.dtype, True, x.copy())
        if x.node is not None:
            raise NotRecorded(f"trace: a result of {x.node.op.name!r} was computed before the trace began; compute it "
                              "inside, give it as an input, or use its .detach()")
        live = x.requires_grad or type(x) is not Tensor              # a parameter of no module that is known here
        with untraced(), no_grad():
            value = Value("", x.shape, x.dtype, True, x if live else x.detach().clone())
        self._enter(x, value)
        return value

    def _enter(self, x: Tensor, value: Value) -> None:
        self._tensors[id(x)] = x, value
        self._arrays[id(x.data)] = x.data, value

    def _output(self, x: Any) -> Any:
        if not isinstance(x, (Tensor, Sample)) and x is not None:
            raise ArgumentError(f"trace: the model returned a {type(x).__name__}; tensors, and tuples, lists and dicts of "
                                "them, can be outputs")
        return self.value_of(x)

    # --- parts of which nothing, or not all, is recorded ------------------------------------------------------------------

    def attempt(self, name: str, function: Callable, inputs: list, captured: list, bodies: Callable[[], dict[str, Body]],
                inner: Callable[[], dict[str, Callable]]) -> tuple:
        """function(*inputs, **inner()) op by op where a trace can follow it, else as one call, with these bodies.

        captured: what the bodies read around them.
        """
        given = [self.value_of(x) for x in (*inputs, *captured)]
        if not any(v.varies and v.shape is None for v in leaves_of(given)):
            start, before = len(self.calls), get_rng_state()
            try:
                results = function(*inputs, **inner())
                _refuse_random(before)
                if len(self.calls) - start <= MOST_OPS:
                    return results
            except NotRecorded:
                set_rng_state(before)
                self._lost = None
            del self.calls[start:]
        return self.one_call(name, function, inputs, bodies(), inner)

    def one_call(self, name: str, function: Callable, inputs: list, bodies: dict[str, Body],
                 inner: Callable[[], dict[str, Callable]]) -> tuple:
        """A call of a function of which nothing is recorded: its results are known by one example only."""
        values, before = [self.value_of(x) for x in inputs], get_rng_state()
        with untraced(), no_grad():
            results = function(*mapped(list(inputs), example_of), **inner())
        set_rng_state(before)                                        # it will draw its random numbers in each run
        outputs = [Value(varies=True) for _ in results]
        self.calls.append(Call(name, values, outputs, {}, function, bodies, self.scope))
        return tuple(self._opaque(r, v) for r, v in zip(results, outputs, strict=True))

    def _opaque(self, result: Any, value: Value) -> Any:
        if not isinstance(result, Tensor):
            return Sample(value, result)
        own = Tensor(result)
        self._enter(own, value)
        return own

    # --- modules ----------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def inside(self, scope: Scope) -> Iterator[None]:
        """What is computed here came from these modules of the model that a file was written from."""
        before = self.scope, self._given
        self.scope = self._given = scope
        try:
            yield
        finally:
            self.scope, self._given = before

    @contextlib.contextmanager
    def _scopes(self) -> Iterator[None]:
        """Every module's forward says when it begins and ends."""
        own = {id(m): vars(m).get("forward") for m in self.modules.values()}
        stack: list[tuple[str, str]] = []

        def noting(path: str, module: Module, forward: Callable) -> Callable:
            def noted(*args, **kwargs):
                stack.append((path, f"{type(module).__module__}.{type(module).__qualname__}"))
                before, self.scope = self.scope, self._given or tuple(stack)
                try:
                    given = [*args, *kwargs.values()]
                    if self.whole is None or active() is None or not self.whole(module, given):
                        return forward(*args, **kwargs)
                    return self._as_one(module, forward, args, kwargs)
                finally:
                    stack.pop()
                    self.scope = before
            return noted
        try:
            for path, m in self.modules.items():
                vars(m)["forward"] = noting(path, m, m.forward)
            yield
        finally:
            for m in self.modules.values():
                del vars(m)["forward"]
                if own[id(m)] is not None:
                    vars(m)["forward"] = own[id(m)]

    def _as_one(self, module: Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        """A call of a module that is not looked into."""
        inputs, attrs = [self.value_of(x) for x in args], {name: self.value_of(x) for name, x in kwargs.items()}
        values = list(leaves_of((inputs, attrs)))
        with untraced(), no_grad():
            found = forward(*args, **kwargs)
        outputs: list[Value] = []

        def entered(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            outputs.append(Value("", x.shape, x.dtype, varies=any(v.varies for v in values)))
            own = Tensor(x)
            self._enter(own, outputs[-1])
            return own
        result = mapped(found, entered)
        self.calls.append(Call(type(module).__name__, inputs, outputs, attrs, module, scope=self.scope))
        return result


def example_of(x: Any) -> Any:
    return x.example if isinstance(x, Sample) else x


@contextlib.contextmanager
def modes(modules: list[Module], training: bool) -> Iterator[None]:
    """Evaluation mode (or each module's own mode, if training) for a while."""
    before = [m.training for m in modules]
    try:
        for m, mode in zip(modules, before, strict=True):
            m.training = mode and training
        yield
    finally:
        for m, mode in zip(modules, before, strict=True):
            m.training = mode


def _refuse_random(before: dict) -> None:
    if get_rng_state() != before:
        raise NotRecorded("trace: the model drew random numbers (dropout in training mode?), which a program would repeat "
                          "for ever; call model.eval(), or draw them outside and pass them as an input")


HOW = {"__float__": "float()", "__int__": "int()", "__bool__": "a branch (if, while, and, or, bool())",
       "__index__": "an index", "__array__": "numpy", "__setitem__": "a change in place", "copy_": "a change in place",
       "fill_": "a change in place", "zero_": "a change in place", "__getitem__": "an index", "__contains__": "`in`"}


def _where() -> tuple[str, str]:
    """How a value left (the method of Tensor that was called), and the user's line in which that was."""
    frame: Any = sys._getframe(1)
    method, place = "", ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file == os.path.join(PACKAGE, "core", "tensor.py") and not frame.f_code.co_name.startswith("_host"):
            method = frame.f_code.co_name
        if not file.startswith((PACKAGE, NUMPY)):
            line = linecache.getline(file, frame.f_lineno).strip()
            place = f", at {file}:{frame.f_lineno}: {line}" if line else f", at {file}:{frame.f_lineno}"
            break
        frame = frame.f_back
    return HOW.get(method, f".{method}()"), place

# --- other sizes --------------------------------------------------------------------------------------------------------


def named_axes(given: dict[str, Any], names: Sequence[str], inputs: Sequence[Any], what: str = "trace: dynamic") -> Axes:
    """`dynamic` with a name for every axis.  what: how the caller's argument is called."""
    if not isinstance(given, dict) or not all(isinstance(of, (dict, list, tuple)) for of in given.values()):
        raise ArgumentError(f"{what}={given!r}; it is {{\"{names[0]}\": {{0: \"batch\"}}}}, the axes of each input "
                            "by number, with a name each")
    axes: Axes = {}
    lengths: dict[str, int] = {}
    for name, of in given.items():
        if name not in names:
            raise ArgumentError(f"{what} names {name!r}; the inputs are {', '.join(names)}")
        x = inputs[list(names).index(name)]
        for axis, symbol in (of if isinstance(of, dict) else {axis: f"{name}_{axis}" for axis in of}).items():
            if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
                raise ArgumentError(f"{what} of {name!r} names axis {axis!r}; its example has shape {x.shape}")
            n = x.shape[axis]
            if lengths.setdefault(symbol, n) != n:
                raise ArgumentError(f"{what} calls both a length of {lengths[symbol]} and one of {n} {symbol!r}; "
                                    "lengths of one name are equal")
            if n < 1:
                raise ArgumentError(f"{what}: axis {axis} of {name!r} has length 0 in the example; give one with values")
            axes.setdefault(name, {})[axis % x.ndim] = symbol
    return axes


CHANGES = ((1, 3), (-1, -2))         # to a length, in the traces beside the example's; the second where the first cannot be


def at_other_sizes(run: Callable, names: list[str], inputs: list[Tensor], axes: Axes
                   ) -> tuple[dict[str, tuple[int, ...]], list[tuple[Program, list[Tensor], list[Tensor]]]]:
    """Traces with each length that varies changed, twice, and one with all of them changed.

    -> (each length in all traces, the example's first; the traces with their results and their inputs).
    """
    now = {symbol: inputs[names.index(name)].shape[axis] for name, of in axes.items() for axis, symbol in of.items()}
    runs, sizes, works = [], [dict(now)], {}

    def at(changed: dict[str, int]) -> None:
        given = [resized(x, {axis: changed[s] for axis, s in axes.get(name, {}).items()})
                 for name, x in zip(names, inputs, strict=True)]
        runs.append((*run(given), given))
        sizes.append(changed)
    for symbol in sorted(now):
        for changes in CHANGES:
            count = len(runs)
            try:
                for change in changes:
                    if now[symbol] + change >= 1:
                        at(now | {symbol: now[symbol] + change})
            except NotRecorded:
                raise
            except (NeedleError, ValueError, IndexError, TypeError) as error:
                if len(runs) == count and changes == CHANGES[-1]:
                    raise GraphError(f"trace: the model does not run with {symbol!r} one more or less than in the example: "
                                     f"{error}") from error
            if len(runs) > count:
                works[symbol] = sizes[count + 1][symbol]
                break
    if len(now) > 1:
        at(now | works)
    return {symbol: tuple(each[symbol] for each in sizes) for symbol in now}, runs


def resized(x: Tensor, lengths: dict[int, int]) -> Tensor:
    """An example with values repeated, or left out at the end."""
    array = x.numpy()
    for axis, n in lengths.items():
        array = np.take(array, np.arange(n) % array.shape[axis], axis)
    return Tensor(array.copy())


def _hold(program: Program, inputs: list[Tensor], expected: list[Tensor]) -> None:
    """GraphError where the program gives something else than the model did."""
    found: list[Tensor] = []
    shapes = ", ".join(str(x.shape) for x in inputs)
    with no_grad():
        try:
            mapped(program(*inputs), found.append)
        except NeedleError as error:
            raise GraphError(f"trace: the program would not run at {shapes}; leave an axis out of dynamic: {error}"
                             ) from error
    for y, e in zip(found, expected, strict=True):
        if not agree(y, e):
            raise GraphError(f"trace: at {shapes} the program would give {y.shape} where the model gives {e.shape}, or "
                             "other values; leave an axis out of dynamic")


def agree(y: Tensor, expected: Tensor) -> bool:
    """The same shape and, to rounding, the same values."""
    ours, theirs = (np.asarray(t.numpy(), np.float64) for t in (y, expected))
    tolerance = (1e-3 if expected.dtype.itemsize > 2 else 5e-2) * np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
    return ours.shape == theirs.shape and np.allclose(ours, theirs, 0, tolerance, equal_nan=True)
