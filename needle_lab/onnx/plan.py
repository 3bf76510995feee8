"""`model.plan(...)`: the same function as an imported model, prepared for inputs of one shape.

    lower        run the model once on examples and write down the array functions that it calls     plan_lower.py
    optimise     fold, share, fuse and drop calls                                                    plan_passes.py
    lay out      find each value a place in one block of memory                                      plan_memory.py
    bind         give each call its arrays, once: what is left to do is call after call              plan_kernels.py

A compiler in small: the same four parts, under other names, are in onnxruntime, TVM or torch.compile.
"""

from __future__ import annotations

import copy
import html
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedOnnxError
from .plan_kernels import bound
from .plan_lower import Call, Value, as_argument, lower
from .plan_memory import Layout, peak
from .plan_passes import optimise
from .program import Program

if TYPE_CHECKING:
    from .model import OnnxModule


def _size(count: int) -> str:
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


@dataclass
class PlanReport:
    """What a plan did.  Sizes in bytes; `print` it.

    steps: nodes of the model, calls of the plan that run, and views, which only name memory. memory: all values, the most
    that live at once in the model, the block of the plan. done: what the passes did -> how often. ordinary: steps of the
    model that run as they are.
    """

    inputs: list[str]
    nodes: int
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
        rows += [("steps", f"{self.nodes} nodes in the model -> {self.calls} calls, {self.views} views that cost nothing"),
                 ("memory", f"{_size(self.bytes_of_all)} in all values, {_size(self.bytes_at_once)} at once "
                            f"-> {_size(self.bytes_of_plan)} in one block")]
        rows += [(f"{count:>6}", text) for text, count in self.done.items() if count]
        if self.ordinary:
            rows.append((f"{len(self.ordinary):>6}", f"steps run as in the model: {', '.join(sorted(set(self.ordinary)))}"))
        return rows

    def __str__(self) -> str:
        return "\n".join(f"{label:<8} {text}".rstrip() for label, text in self.rows())

    def _repr_html_(self) -> str:
        cells = "".join(f'<tr><th style="text-align:right">{html.escape(label)}</th><td style="text-align:left">'
                        f"{html.escape(text)}</td></tr>" for label, text in self.rows())
        return f"<table>{cells}</table>"


class InferencePlan:
    """An imported model, prepared for inputs of one shape; made by `OnnxModule.plan`.

    plan(x): inputs by position or by name, as the model takes them -> Tensors without a graph.
    plan.report(): what was folded, fused and dropped, and the memory before and after; `print(plan)` shows it.

    A plan is a snapshot in evaluation mode: later changes of the model's weights do not reach it, and hooks do not run.
    Its memory is taken once and used in every call; a lock lets one thread at a time through (for more at a time, a plan
    for each). Results are copies: the next call does not change them.
    """

    def __init__(self, model: OnnxModule, examples: dict[str, Any]):
        snapshot = copy.deepcopy(model).eval()
        for module in snapshot.modules():
            vars(module).pop("_hooks", None)
        snapshot.value_hooks = {}
        if snapshot._program.differentiated:
            raise UnsupportedOnnxError("plan: this model computes gradients itself (Gradient nodes); run it as it is")
        self.input_names, self.output_names = model.input_names, model.output_names
        graph = lower(snapshot, examples)
        plain = Layout(graph, in_place=False)
        done = optimise(graph)
        layout = Layout(graph)
        arrays, size = layout.arrays(graph)
        done["calls write over their input"] = layout.written_over
        self._graph, self._lock = graph, threading.Lock()
        self._free: dict[Value, Any] = {}                    # values of ordinary steps, during a call
        self._arrays = arrays
        self._places = {(s.first, s.last, s.offset, s.size) for s in layout.storages if s.size}
        self._steps = [(call, self._prepared(call, snapshot)) for call in graph.calls if call.outputs[0] not in layout.views]
        self._report = PlanReport(
            [f"{v.name} {v.shape} {v.dtype}" if v.shape is not None else f"{v.name} (no tensor)" for v in graph.inputs],
            len(model.steps), len(self._steps), len(layout.views), sum(s.size for s in plain.storages),
            peak(plain.storages), size, dict(done), [call.name for call in graph.calls if call.step])

    def __call__(self, *args: Any, **named: Any) -> Any:
        given = bind_names(self.input_names, args, named)
        with self._lock, no_grad():
            for value in self._graph.inputs:
                self._take(value, given[value.name])
            for _, run in self._steps:
                run()
            results = tuple(self._result(v) for v in self._graph.outputs)
            self._free.clear()
        return results[0] if len(results) == 1 else results

    def report(self) -> PlanReport:
        """What was done, as numbers; print it for the table."""
        return self._report

    @property
    def steps(self) -> list[tuple[str, Callable[[], object]]]:
        """(name, function) of each call in order, to be timed: the functions work on the plan's own memory."""
        return [(" + ".join([call.name, *(c.name for c in call.after)]), run) for call, run in self._steps]

    def plot(self, ax: Any = None) -> Any:
        """The plan's memory: a box for each place, from the call that writes it to the last that reads it.  -> the axes."""
        from ..plots import _pyplot

        ax = _pyplot().subplots(figsize=(8, 3.2), constrained_layout=True)[1] if ax is None else ax
        for i, (first, last, offset, size) in enumerate(sorted(self._places)):
            colour = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")[i % 4]
            ax.bar(first - 0.5, size / 1024, last - first + 1, offset / 1024, align="edge", color=colour, alpha=0.75,
                   edgecolor="white")
        block, whole = _size(self._report.bytes_of_plan), _size(self._report.bytes_of_all)
        ax.set(xlabel="call (inputs are there before call 0)", ylabel="place in the block (KiB)",
               title=f"{len(self._places)} places in {block}; all values would take {whole}")
        return ax

    def __str__(self) -> str:
        return f"InferencePlan: {', '.join(self.input_names)} -> {', '.join(self.output_names)}\n{self._report}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._report._repr_html_()

    def _take(self, value: Value, given: Any) -> None:
        """Copy an input into the plan's memory."""
        if value.shape is None:
            self._free[value] = given
            return
        x = given.data if isinstance(given, Tensor) else np.asarray(given)
        if x.shape != value.shape:
            raise ShapeError(f"input {value.name!r}: this plan is for the shape {value.shape}, got {x.shape}; make another "
                             "with model.plan(...) for it")
        if x.dtype != value.dtype and not (is_floating(x.dtype) and is_floating(value.dtype)):
            raise DTypeError(f"input {value.name!r}: the plan takes {value.dtype}, got {x.dtype}")
        self._arrays[value][...] = x

    def _result(self, value: Value) -> Any:
        if value in self._arrays:
            return Tensor(self._arrays[value].copy())
        result = as_argument(value) if value.known else self._free[value]
        return result.clone() if isinstance(result, Tensor) else result

    def _prepared(self, call: Call, snapshot: OnnxModule) -> Callable[[], object]:
        """A function without arguments that runs one call."""
        if call.op:
            return bound(call, self._arrays)
        arrays, free, step = self._arrays, self._free, call.step
        known = {name: as_argument(v) for name, v in zip(call.names, call.inputs, strict=True) if v.known}
        given = [(name, v) for name, v in zip(call.names, call.inputs, strict=True) if not v.known]

        def run() -> None:
            values = {name: Tensor(arrays[v].copy()) if v in arrays else free[v] for name, v in given}
            results = step.named(Program._run(step, snapshot, known | values))
            free.update({v: results[v.name] for v in call.outputs})
        return run


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
