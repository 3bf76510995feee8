"""`plan(module, x)`: what a module computes, prepared for inputs of one shape.

    trace       run the module once on examples and write down the ops that it calls      record.py
    optimise    fold, share, fuse and drop calls                                          passes.py
    lay out     find each value a place in one block of memory                            memory.py
    bind        give each call its arrays, once: what is left to do is call after call    kernels.py

A compiler in small: the same four parts, under other names, are in onnxruntime, TVM or torch.compile.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import html
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, DeviceError, DTypeError, ShapeError
from ..extras import pyplot
from ..nn import Module
from ..untrusted import printable
from .kernels import bound
from .memory import Layout, peak
from .passes import optimise
from .program import Call, Program, as_argument, bind_names, called
from .record import modes, trace
from .values import Value, mapped

_living: weakref.WeakSet[InferencePlan] = weakref.WeakSet()


def _in_a_forked_process() -> None:
    """A plan that another thread was running is free again: that thread stayed behind."""
    for one in list(_living):
        one._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_process)


def plan(module: Module | Callable, *examples: Tensor | np.ndarray, **named: Any) -> InferencePlan:
    """Any module (or function of tensors), prepared for inference on inputs of the shapes of these examples: the fastest
    way to run it.  Batch norms fold into weights, weights are prepared once, one block of memory serves all values.

    examples: an input each, by position or by name; their values do not matter. A plan is a snapshot in evaluation mode:
    later changes of the weights do not reach it (`plan.is_stale(module)` tells), hooks do not run, other shapes are
    refused.

    Raises ArgumentError without an example for each input, GraphError for a module whose computation depends on values.
    """
    modules = list(module.modules()) if isinstance(module, Module) else []
    with modes(modules, training=False), _without_hooks(modules):
        program = trace(module, *examples, **named)
        return InferencePlan(copy.deepcopy(program), _origins(program))


@contextlib.contextmanager
def _without_hooks(modules: list[Module]) -> Iterator[None]:
    """Hooks on modules, and on the values of an imported graph, are out of the way for a while."""
    kept = [(vars(m), name, vars(m)[name]) for m in modules for name in ("_hooks", "value_hooks") if vars(m).get(name)]
    for holder, name, _ in kept:
        holder[name] = {}
    try:
        yield
    finally:
        for holder, name, hooks in kept:
            holder[name] = hooks


# --- which weights ------------------------------------------------------------------------------------------------------

Origin = tuple[tuple[int, ...], bytes]                       # of a weight: its shape, and a digest of its values


def _digest(x: Tensor) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(Value("", data=x).array()).tobytes(), digest_size=16).digest()


def _origins(program: Program) -> dict[str, Origin]:
    return {path: (x.shape, _digest(x)) for path, x in program.parameters.items()}


# --- the plan -----------------------------------------------------------------------------------------------------------

def _size(count: int) -> str:
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


@dataclass
class PlanReport:
    """What a plan did.  Sizes in bytes; `print` it.

    steps: calls of the traced program, calls of the plan that run, and views, which only name memory. memory: all values,
    the most that live at once in the program, the block of the plan. done: what the passes did -> how often. ordinary:
    steps of an imported model that run as they are.
    """

    inputs: list[str]
    traced: int
    calls: int
    views: int
    bytes_of_all: int
    bytes_at_once: int
    bytes_of_plan: int
    done: dict[str, int] = field(default_factory=dict)
    ordinary: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """(label, text) of each line."""
        rows = [("inputs" if i == 0 else "", text) for i, text in enumerate(self.inputs)]
        rows += [("steps", f"{self.traced} ops in the model -> {self.calls} calls, {self.views} views that cost nothing"),
                 ("memory", f"{_size(self.bytes_of_all)} in all values, {_size(self.bytes_at_once)} at once "
                            f"-> {_size(self.bytes_of_plan)} in one block")]
        rows += [(f"{count:>6}", text) for text, count in self.done.items() if count]
        if self.ordinary:
            rows.append((f"{len(self.ordinary):>6}", f"steps run as in the model: {', '.join(sorted(set(self.ordinary)))}"))
        return rows

    def __str__(self) -> str:
        return printable("\n".join(f"{label:<8} {text}".rstrip() for label, text in self.rows()), lines=True)

    def _repr_html_(self) -> str:
        cells = "".join(f'<tr><th style="text-align:right">{html.escape(label)}</th><td style="text-align:left">'
                        f"{html.escape(printable(text))}</td></tr>" for label, text in self.rows())
        return f"<table>{cells}</table>"


class InferencePlan:
    """A model, prepared for inputs of one shape; made by `plan` or `OnnxModule.plan`.

    plan(x): inputs by position or by name, as the model takes them -> what it returns, without a graph.
    plan.report(): what was folded, fused and dropped, and the memory before and after; `print(plan)` shows it.
    plan.is_stale(model): whether the model's weights are others by now.

    Its memory is taken once and used in every call; a lock lets one thread at a time through (for more at a time,
    `copy.copy(plan)` for each: weights are shared). Results are copies: the next call does not change them. A plan can be
    pickled, with its weights.
    """

    def __init__(self, program: Program, origins: dict[str, Origin]):
        self._origins = origins
        self.input_names, self.output_names = [v.name for v in program.inputs], program.output_names
        for value in (*program.inputs, *program.known):
            if isinstance(value.data, Tensor) and value.data.device.backend != "numpy":
                raise DeviceError(f"plan: {value} is on {value.data.device}; plans run on the CPU: module.to('cpu')")
        numbers = iter(range(len(program.results)))
        self._structure = mapped(program.outputs, lambda leaf: next(numbers) if isinstance(leaf, Value) else leaf)
        graph = Program(program.inputs, program.calls, program.results)
        for value in (*(v for call in graph.calls for v in call.sources()), *graph.outputs):
            if value.known and value.shape is not None:
                value.data = value.array()
        traced, plain = len(graph.calls), Layout(graph, in_place=False)
        done = optimise(graph)
        self._graph = graph
        layout, size = self._bind()
        done["calls write over their input"] = layout.written_over
        self._report = PlanReport(
            [f"{v.name} {v.shape} {v.dtype}" if v.shape is not None else f"{v.name} (no tensor)" for v in graph.inputs],
            traced, len(self._steps), len(layout.views), sum(s.size for s in plain.storages), peak(plain.storages), size,
            dict(done), [call.name for call in graph.calls if call.function])

    def _bind(self) -> tuple[Layout, int]:
        """Memory for all values, and functions without arguments that run the calls on it."""
        layout = Layout(self._graph)
        self._arrays, size = layout.arrays(self._graph)
        self._free: dict[Value, Any] = {}                    # values without a place, during a call
        self._lock = threading.Lock()
        _living.add(self)
        self._places = {(s.first, s.last, s.offset, s.size) for s in layout.storages if s.size}
        self._steps = [(call, self._prepared(call)) for call in self._graph.calls if call.outputs[0] not in layout.views]
        return layout, size

    def __getstate__(self) -> dict[str, Any]:
        made = ("_arrays", "_free", "_lock", "_places", "_steps")
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bind()

    def __call__(self, *args: Any, **named: Any) -> Any:
        given = bind_names(self.input_names, args, named)
        with self._lock, no_grad():
            for value in self._graph.inputs:
                self._take(value, given[value.name])
            for _, run in self._steps:
                run()
            results = [self._result(v) for v in self._graph.outputs]
            self._free.clear()
        return mapped(self._structure, lambda leaf: results[leaf] if isinstance(leaf, int) else leaf)

    def is_stale(self, module: Module) -> bool:
        """Whether the module's weights are others than those that the plan holds: then make the plan again.

        The values are compared, by a digest of each: about 1 ms a MB. ArgumentError for a plan of a function, whose weights
        have no paths.
        """
        if not self._origins and any(v.known for call in self._graph.calls for v in call.sources()):
            raise ArgumentError("is_stale: this plan knows no weights by their paths, as it was made from a function; make "
                                "it from the module itself")
        tensors = dict((*module.named_parameters(), *module.named_buffers()))

        def differs(path: str, shape: tuple, digest: bytes) -> bool:
            x = tensors.get(path)
            return x is None or x.shape != shape or _digest(x) != digest
        return any(differs(path, *origin) for path, origin in self._origins.items())

    def report(self) -> PlanReport:
        """What was done, as numbers; print it for the table."""
        return self._report

    @property
    def steps(self) -> list[tuple[str, Callable[[], object]]]:
        """(name, function) of each call in order, to be timed: the functions work on the plan's own memory."""
        return [(" + ".join([call.name, *(c.name for c in call.after)]), run) for call, run in self._steps]

    def plot(self, ax: Any = None) -> Any:
        """The plan's memory: a box for each place, from the call that writes it to the last that reads it.  -> the axes."""
        ax = pyplot().subplots(figsize=(8, 3.2), constrained_layout=True)[1] if ax is None else ax
        for i, (first, last, offset, size) in enumerate(sorted(self._places)):
            colour = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")[i % 4]
            ax.bar(first - 0.5, size / 1024, last - first + 1, offset / 1024, align="edge", color=colour, alpha=0.75,
                   edgecolor="white")
        block, whole = _size(self._report.bytes_of_plan), _size(self._report.bytes_of_all)
        ax.set(xlabel="call (inputs are there before call 0)", ylabel="place in the block (KiB)",
               title=f"{len(self._places)} places in {block}; all values would take {whole}")
        return ax

    def __str__(self) -> str:
        names = [printable(", ".join(names)) for names in (self.input_names, self.output_names)]
        return f"InferencePlan: {' -> '.join(names)}\n{self._report}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._report._repr_html_()

    def _take(self, value: Value, given: Any) -> None:
        """Copy an input into the plan's memory."""
        if value.shape is None:
            self._free[value] = given
            return
        x = given.numpy() if isinstance(given, Tensor) else np.asarray(given)
        if x.shape != value.shape:
            raise ShapeError(f"input {value.name!r}: this plan is for the shape {value.shape}, got {x.shape}; make another "
                             "plan for it")
        if x.dtype != value.dtype and not (is_floating(x.dtype) and is_floating(value.dtype)):
            raise DTypeError(f"input {value.name!r}: the plan takes {value.dtype}, got {x.dtype}")
        self._arrays[value][...] = x

    def _result(self, value: Value) -> Any:
        result = self._argument(value)
        return result.clone() if isinstance(result, Tensor) and value not in self._arrays else result

    def _argument(self, x: Any) -> Any:
        """A value during a call, as ops and functions take it: not the plan's own memory."""
        if not isinstance(x, Value):
            return x
        return as_argument(x) if x.known else Tensor(self._arrays[x].copy()) if x in self._arrays else self._free[x]

    def _prepared(self, call: Call) -> Callable[[], object]:
        """A function without arguments that runs one call."""
        if call.op:
            return bound(call, self._arrays)

        def run() -> None:
            for value, result in zip(call.outputs, called(call, self._argument), strict=False):
                if value in self._arrays:
                    self._arrays[value][...] = result.data
                else:
                    self._free[value] = result
        return run
