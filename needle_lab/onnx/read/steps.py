"""What an ONNX graph becomes: a list of steps over named values, with graphs inside for control flow."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...core.modes import enable_grad, is_tracing
from ...errors import ArgumentError, NeedleError
from ...nn import Module
from ...program.program import Body, Call, Program
from ...program.record import active, example_of
from ...program.values import Value, known_value
from .. import operators
from .check import FAULTS

if TYPE_CHECKING:
    from .model import OnnxModule


@dataclass
class Step:
    """One node, ready to run: a function of `needle_lab.onnx.operators`, or a layer of the module."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    function: Any = None                        # None for a layer
    attrs: dict[str, Any] = field(default_factory=dict)
    layer: str = ""                             # path of the layer
    call: Callable | None = None                # how the layer is called, where module(*inputs) is not enough
    graphs: dict[str, Graph] = field(default_factory=dict)      # bodies of If, Loop and Scan, by attribute
    scope: tuple[tuple[str, str], ...] = ()     # (path, class) of the modules around the node, where the file says so
    release: list[str] = field(default_factory=list)

    def reads(self) -> set[str]:
        """Every value this step needs, those that its inner graphs take from outside included."""
        return set(self.inputs).union(*(g.captured() for g in self.graphs.values()))

    def named(self, results: tuple) -> dict[str, Any]:
        """The results by the names that the node gives them; ArgumentError where it names more than there are."""
        if any(self.outputs[len(results):]):
            raise ArgumentError(f"node {self.name!r} ({self.op}) of the ONNX graph names {len(self.outputs)} outputs, "
                                f"it has {len(results)} here")
        return {name: value for name, value in zip(self.outputs, results, strict=False) if name}


@dataclass
class Graph:
    """Steps in the order in which they run."""

    inputs: list[str]
    outputs: list[str]
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)      # value name -> path of a parameter that no layer holds
    differentiated: set[str] = field(default_factory=set)         # values by which a Gradient node differentiates
    output_types: list[tuple | None] = field(default_factory=list)      # declared: (dtype, shape with None for free lengths)

    def names(self) -> list[str]:
        """All values that are computed or given, in order, those of inner graphs included."""
        inner = [name for s in self.steps for g in s.graphs.values() for name in g.names()]
        return [*self.inputs, *(name for s in self.steps for name in s.outputs if name), *inner]

    def named_steps(self) -> dict[str, Step]:
        """Steps by the names of their nodes, those of inner graphs included."""
        inner = [g.named_steps() for s in self.steps for g in s.graphs.values()]
        return {name: s for steps in inner for name, s in steps.items()} | {s.name: s for s in self.steps if s.name}

    def captured(self) -> set[str]:
        """The values of the surrounding graph that this one reads."""
        own = {*self.inputs, *self.constants, *self.parameters, ""}.union(*(s.outputs for s in self.steps))
        return {name for names in (self.outputs, *(s.reads() for s in self.steps)) for name in names} - own

    def run(self, module: OnnxModule, values: dict[str, Any], wanted: Iterable[str] | None = None) -> tuple:
        """values: the inputs by name (and the surrounding values) -> the outputs, or the wanted values.

        A value is let go of after its last use. With `wanted`, the run ends when everything asked for is there.
        """
        if self.differentiated:
            given = self.differentiated & set(values)
            values = values | {name: values[name].detach().requires_grad_() for name in given}
            with enable_grad():
                return self._steps_run(module, values, wanted)
        return self._steps_run(module, values, wanted)

    def _steps_run(self, module: OnnxModule, values: dict[str, Any], wanted: Iterable[str] | None) -> tuple:
        names = list(self.outputs if wanted is None else wanted)
        values = {**values, **self.constants, **{name: module.get(path) for name, path in self.parameters.items()}}
        hooks = module.value_hooks
        for name in hooks.keys() & set(self.inputs):
            values[name] = _hooked(hooks, name, values[name])
        missing = set(names) - set(values)
        for step in self.steps:
            if wanted is not None and not missing:
                break
            for name, value in step.named(self._run(step, module, values)).items():
                if name in self.differentiated and not value.requires_grad:
                    value = value.detach().requires_grad_()
                values[name] = _hooked(hooks, name, value) if name in hooks else value
                missing.discard(name)
            for name in step.release:
                if name not in names:
                    values.pop(name, None)
        return tuple(values[name] if name else None for name in names)

    @staticmethod
    def _run(step: Step, module: OnnxModule, values: dict[str, Any]) -> tuple:
        inputs = [values[name] if name else None for name in step.inputs]
        layer = module.get(step.layer) if step.layer else None
        function = functools.partial(run_step, step, layer)
        recorder = active()
        if recorder is None:
            return function(*inputs, **{name: _body(g, module, values) for name, g in step.graphs.items()})
        captured = sorted({name for g in step.graphs.values() for name in g.captured()})

        def inner() -> dict[str, Callable]:
            known = values if is_tracing() else {name: example_of(value) for name, value in values.items()}
            return {name: _body(g, module, known) for name, g in step.graphs.items()}

        def bodies() -> dict[str, Body]:
            return {name: g.as_body(module, lambda n: recorder.value_of(values[n])) for name, g in step.graphs.items()}
        with recorder.inside(step.scope) if step.scope else contextlib.nullcontext():
            return recorder.attempt(step.op, function, inputs, [values[name] for name in captured], bodies, inner)

    def as_body(self, module: OnnxModule, around: Callable[[str], Any]) -> Body:
        """The graph as a Program inside of a call: each step a call of which nothing is recorded, as shapes may change from
        one iteration to the next.  around: name -> value of the program around it."""
        names = sorted(self.captured())
        own = {name: Value(name, varies=True) for name in (*self.inputs, *names)}
        inputs = list(own.values())
        for name, data in self.constants.items():
            own[name] = known_value(name, data)
        for name, path in self.parameters.items():
            x = module.get(path)
            own[name] = Value(name, x.shape, x.dtype, True, x, path)
        calls = []
        for step in self.steps:
            layer = module.get(step.layer) if step.layer else None
            bodies = {name: g.as_body(module, own.__getitem__) for name, g in step.graphs.items()}
            given = [own[name] if name else None for name in step.inputs]
            made = [Value(name, varies=True) for name in step.outputs]
            own.update({v.name: v for v in made if v.name})
            calls.append(Call(step.op, given, made, {}, functools.partial(run_step, step, layer), bodies, step.scope))
        outputs = tuple(own[name] if name else None for name in self.outputs)
        return Body(Program(inputs, calls, outputs), [around(name) for name in names], self.output_types)

    def plan_releases(self) -> None:
        """Note at each step which values nobody reads any more."""
        kept = {*self.outputs, *self.constants, *self.parameters, ""}
        last: dict[str, Step] = {}
        for step in self.steps:
            last.update(dict.fromkeys((*step.outputs, *step.reads()), step))
        for name, step in last.items():
            if name not in kept:
                step.release.append(name)


def run_step(step: Step, layer: Module | None, *inputs: Any, **bodies: Callable) -> tuple:
    """What a step computes; layer: of the module, where it is one; bodies: its inner graphs as functions."""
    try:
        if layer is not None:
            result = step.call(layer, *inputs) if step.call else layer(*inputs)
        else:
            result = operators.call(step.function, list(inputs), step.attrs | bodies, len(step.outputs), step.op)
    except NeedleError as error:
        error.add_note(f"in node {step.name!r} ({step.op}) of the ONNX graph")
        raise
    except FAULTS as error:
        raise ArgumentError(f"node {step.name!r} ({step.op}) of the ONNX graph: {type(error).__name__}: {error}; "
                            f"inputs: {', '.join(map(_described, inputs)) or 'none'}") from error
    return result if isinstance(result, tuple) else (result,)


def _hooked(hooks: dict[str, dict[int, Callable]], name: str, value: Any) -> Any:
    """The value, or what the functions registered for it put in its place."""
    for hook in list(hooks[name].values()):
        changed = hook(value)
        value = value if changed is None else changed
    return value


def _described(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else type(value).__name__


def _body(graph: Graph, module: OnnxModule, values: dict[str, Any]) -> Callable[..., tuple]:
    """A function of the inner graph's inputs that also sees the values around it."""
    def body(*inputs) -> tuple:
        return graph.run(module, {**values, **dict(zip(graph.inputs, inputs, strict=False))})
    vars(body)["output_types"] = graph.output_types
    return body
