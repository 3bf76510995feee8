"""OnnxModule: an ONNX graph as a Module that trains, saves, prints, diffs and can be extended.

Nodes with weights are layers in a tree built from the model's own names; all others are functions of
`needle_lab.onnx.operators`.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from ...core.dtypes import is_floating
from ...core.tensor import HookHandle, Tensor
from ...errors import ArgumentError, DTypeError, ShapeError, UnsupportedOnnxError
from ...nn import Module, init
from ...program import InferencePlan, plan
from ...program.program import bind_names
from ...program.record import Sample
from ..values import numpy_dtype, value_of
from . import check, reader
from .importer import Importer, with_functions_inlined
from .steps import Graph, Step

_serial = itertools.count()


class OnnxModule(Module):
    """An ONNX model as a module.  It starts in evaluation mode; `train()` makes dropout and batch norm train.

    model(x): inputs by position or by name -> a tensor, or a tuple for several outputs.
    model(x, outputs=["name"]): any values of the graph, by their ONNX names.
    input_names, output_names: as in the file.
    import_notes: sentences on parameters of the original model that are shared here, or that the file no longer has.
    """

    def __init__(self, source: str | os.PathLike | bytes | onnx.ModelProto):
        super().__init__()
        proto = with_functions_inlined(reader.read_model(source))
        self.opset = reader.opsets_of(proto).get("", 0)
        self._input_types = {i.name: i.type for i in proto.graph.input}
        self._import_notes: list[str] = []
        self.value_hooks: dict[str, dict[int, Callable]] = {}
        with check.refusing("this model"), init.skipped():
            self._graph = Importer(self, proto).build()
            _note_types(self._graph, proto.graph)
        self.input_names = list(self._graph.inputs)
        self.output_names = list(self._graph.outputs)
        self.graph_digest = hashlib.sha256(json.dumps(
            [[s.op, s.layer, s.inputs, s.outputs] for s in self.steps]).encode()).hexdigest()[:16]
        self.eval()

    def forward(self, *args: Tensor | np.ndarray, outputs: Sequence[str] | None = None, **named: Tensor | np.ndarray):
        values = self._bind(args, named)
        if outputs is not None:
            self._check_wanted(outputs)
        found = self._graph.run(self, values, outputs)
        return found[0] if len(found) == 1 and outputs is None else found

    @property
    def import_notes(self) -> tuple[str, ...]:
        return tuple(self._import_notes)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The nodes in the order in which they run."""
        return tuple(self._graph.steps)

    def get(self, path: str) -> Any:
        """The module or parameter at a path such as "layer1.0.conv1"."""
        value: Any = self
        for name in path.split("."):
            value = value[int(name)] if isinstance(value, (list, tuple)) else \
                value[name] if isinstance(value, dict) else getattr(value, name)
        return value

    @property
    def value_names(self) -> list[str]:
        """Names of all values that `outputs=` can ask for, in order of computation."""
        return self.input_names + [name for step in self.steps for name in step.outputs if name]

    def register_value_hook(self, name: str, hook: Callable[[Any], Any]) -> HookHandle:
        """Call `hook(value)` whenever the forward pass has computed a value; what it returns (not None) replaces it.

        name: of a value (an input included), or of a node, whose first output is meant; also inside of an If or Loop.
        The handle has `.remove()` and is a context manager.  ArgumentError for an unknown name, with those like it.
        """
        if not callable(hook):
            raise ArgumentError(f"a hook is a function, got {type(hook).__name__}")
        known, nodes = set(self._graph.names()), self._graph.named_steps()
        if name not in known and name not in nodes:
            near = ", ".join(map(repr, difflib.get_close_matches(name, [*known, *nodes], 5, 0.4)))
            raise ArgumentError(f"register_value_hook: the graph has no value or node {name!r}"
                                f"{f'; there are {near}' if near else ''}; `model.value_names` lists the values")
        if name not in known:
            name = next(o for o in nodes[name].outputs if o)
        hooks = self.value_hooks.setdefault(name, {})
        hooks[key := next(_serial)] = hook
        return HookHandle(hooks, key)

    def plan(self, *examples: Tensor | np.ndarray, batch: int | None = None, **named: Tensor | np.ndarray) -> InferencePlan:
        """The model's function for inputs of one shape: faster, in less memory, without gradients.

        examples: inputs as for a call; their shapes and dtypes are those that the plan takes (their values do not matter).
        batch: instead of examples, the first length of each input where the file leaves it free; all other lengths
        have to be in the file.
        The plan is a snapshot in evaluation mode: it does not see later changes of the weights, and refuses other shapes.
        Raises ArgumentError where a length is not known, or where a subclass computes more than the file's graph.
        """
        if type(self).forward is not OnnxModule.forward:
            raise ArgumentError(f"plan: {type(self).__name__} has a forward of its own, of which this plan would know "
                                "nothing; use ndl.plan(module, x)")
        if self._graph.differentiated:
            raise UnsupportedOnnxError("plan: this model computes gradients itself (Gradient nodes); run it as it is")
        if batch is not None:
            if examples or named:
                raise ArgumentError("plan: give example inputs or batch=, not both")
            named = {name: self._of_batch(name, batch) for name in self.input_names}
        return plan(self, *examples, **named)

    def _bound_for_trace(self, examples: tuple, named: dict[str, Any]) -> tuple | None:
        """What `program.trace` runs: (itself, names of the inputs, the inputs, names of the outputs)."""
        if type(self).forward is not OnnxModule.forward:
            return None
        given = self._bind(examples, named)
        inputs = [x.detach().clone() if isinstance(x, Tensor) else x for x in given.values()]
        return self, list(given), inputs, self.output_names

    def _of_batch(self, name: str, batch: int) -> np.ndarray:
        """Zeros in the shape that the file declares for an input."""
        kind = self._input_types[name].tensor_type
        dims = list(kind.shape.dim)
        free = [i for i, d in enumerate(dims) if not d.HasField("dim_value") or d.dim_value < 0]
        if not kind.HasField("shape") or any(i > 0 for i in free):
            shape = ", ".join(str(d.dim_param or d.dim_value or "?") for d in dims)
            raise ArgumentError(f"plan: the input {name!r} has more free lengths than the first: ({shape}); give an example "
                                "of each input: model.plan(x)")
        if not free and dims and dims[0].dim_value != batch:
            raise ArgumentError(f"plan: the file fixes the first length of {name!r} at {dims[0].dim_value}; "
                                f"batch={batch} is not possible")
        return np.zeros([batch if i in free else d.dim_value for i, d in enumerate(dims)],
                        numpy_dtype(kind.elem_type))

    def _bind(self, args: tuple, named: dict[str, Any]) -> dict[str, Any]:
        given = bind_names(self.input_names, args, named)
        return {name: self._checked(name, given[name]) for name in self.input_names}

    def _checked(self, name: str, value: Any) -> Any:
        """An input as the graph takes it: a tensor; text as an array; a sequence as a list; None for an empty optional."""
        if isinstance(value, Sample):                    # in a trace: an input that is no tensor
            return value
        kind = self._input_types[name]
        if kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
            if value is None:
                return None
        if kind.HasField("sequence_type"):
            return [v if isinstance(v, Tensor) else value_of(np.asarray(v)) for v in value]
        x = value if isinstance(value, Tensor) else value_of(np.asarray(value))
        kind = kind.tensor_type
        if not kind.elem_type:
            return x
        expected = numpy_dtype(kind.elem_type)
        if x.dtype != expected and not (is_floating(x.dtype) and is_floating(expected)):
            raise DTypeError(f"input {name!r}: the model takes {expected}, got {x.dtype}; "
                             f"convert with .astype({str(expected)!r})")
        if kind.HasField("shape") and len(kind.shape.dim) != x.ndim:
            shape = ", ".join(str(d.dim_param or d.dim_value) for d in kind.shape.dim)
            raise ShapeError(f"input {name!r}: the model takes ({shape}), got {x.shape}")
        return x

    def _check_wanted(self, wanted: Sequence[str]) -> None:
        known = {*self.value_names, *self._graph.constants, *self._graph.parameters}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ArgumentError(f"the graph has no value named {unknown[0]!r}; `model.value_names` lists them")

    def extra_repr(self) -> str:
        names = f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"
        notes = f", {len(self.import_notes)} import notes" if self.import_notes else ""
        return f"{names}, opset {self.opset}, {len(self.steps)} nodes{notes}"


def _note_types(graph: Graph, proto: onnx.GraphProto) -> None:
    """What inner graphs declare of their outputs: a Loop that runs no iteration has nothing else to go by."""
    nodes = {tuple(node.output): node for node in proto.node}
    for step in graph.steps:
        for name, inner in step.graphs.items():
            body = next(a.g for a in nodes[tuple(step.outputs)].attribute if a.name == name)
            inner.output_types = [_declared(o.type.tensor_type) for o in body.output]
            _note_types(inner, body)


def _declared(kind: onnx.TypeProto.Tensor) -> tuple | None:
    if not kind.elem_type or not kind.HasField("shape"):
        return None
    lengths = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return numpy_dtype(kind.elem_type), lengths
