"""OnnxModule: an ONNX graph as a Module that trains, saves, prints, diffs and can be extended.

Nodes with weights are layers in a tree built from the model's own names; all others are functions of
`needle_lab.onnx.convert`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from ..dtypes import is_floating
from ..errors import ArgumentError, DTypeError, ShapeError
from ..nn import Module
from ..tensor import Tensor
from . import check, reader
from .importer import Importer, with_functions_inlined
from .program import Step


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
        with check.refusing("this model"):
            self._program = Importer(self, proto).build()
        self.input_names = list(self._program.inputs)
        self.output_names = list(self._program.outputs)
        self.graph_digest = hashlib.sha256(json.dumps(
            [[s.op, s.layer, s.inputs, s.outputs] for s in self.steps]).encode()).hexdigest()[:16]
        self.eval()

    def forward(self, *args: Tensor | np.ndarray, outputs: Sequence[str] | None = None, **named: Tensor | np.ndarray):
        values = self._bind(args, named)
        if outputs is not None:
            self._check_wanted(outputs)
        found = self._program.run(self, values, outputs)
        return found[0] if len(found) == 1 and outputs is None else found

    @property
    def import_notes(self) -> tuple[str, ...]:
        return tuple(self._import_notes)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The nodes in the order in which they run."""
        return tuple(self._program.steps)

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

    def _bind(self, args: tuple, named: dict[str, Any]) -> dict[str, Tensor]:
        if len(args) > len(self.input_names):
            raise ArgumentError(f"the model takes {len(self.input_names)} inputs ({', '.join(self.input_names)}), "
                                f"got {len(args)}")
        given = dict(zip(self.input_names, args, strict=False))
        for name, value in named.items():
            if name not in self.input_names or name in given:
                raise ArgumentError(f"input {name!r} is {'given twice' if name in given else 'unknown'}; the model takes "
                                    f"{', '.join(self.input_names)}")
            given[name] = value
        absent = [name for name in self.input_names if name not in given]
        if absent:
            raise ArgumentError(f"the model needs the input {absent[0]!r}; it takes {', '.join(self.input_names)}")
        return {name: self._checked(name, value) for name, value in given.items()}

    def _checked(self, name: str, value: Any) -> Any:
        """An input as the graph takes it: a tensor; text as an array; a sequence as a list; None for an empty optional."""
        kind = self._input_types[name]
        if kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
            if value is None:
                return None
        if kind.HasField("sequence_type"):
            return [v if isinstance(v, Tensor) else reader.value_of(np.asarray(v)) for v in value]
        x = value if isinstance(value, Tensor) else reader.value_of(np.asarray(value))
        kind = kind.tensor_type
        if not kind.elem_type:
            return x
        expected = reader.numpy_dtype(kind.elem_type)
        if x.dtype != expected and not (is_floating(x.dtype) and is_floating(expected)):
            raise DTypeError(f"input {name!r}: the model takes {expected}, got {x.dtype}; "
                             f"convert with .astype({str(expected)!r})")
        if kind.HasField("shape") and len(kind.shape.dim) != x.ndim:
            shape = ", ".join(str(d.dim_param or d.dim_value) for d in kind.shape.dim)
            raise ShapeError(f"input {name!r}: the model takes ({shape}), got {x.shape}")
        return x

    def _check_wanted(self, wanted: Sequence[str]) -> None:
        known = {*self.value_names, *self._program.constants, *self._program.parameters}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ArgumentError(f"the graph has no value named {unknown[0]!r}; `model.value_names` lists them")

    def extra_repr(self) -> str:
        names = f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"
        notes = f", {len(self.import_notes)} import notes" if self.import_notes else ""
        return f"{names}, opset {self.opset}, {len(self.steps)} nodes{notes}"
