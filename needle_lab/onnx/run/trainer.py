"""Training as a file describes it: the executor of ONNX's TrainingInfoProto, whoever wrote it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import ArgumentError, FileFormatError, UnsupportedOnnxError
from ..operators.training import Gradient
from ..read import reader
from ..read.model import OnnxModule
from ..read.training import alone, combined
from ..write import saving


class Trainer:
    """A model in training, from a file with training_info (`ndl.onnx.export_training` writes one).

    trainer = Trainer("model.onnx");  trainer.step(input=x, target=y)["loss"];  trainer.model(x);  trainer.save(path)

    state: the variables by name (trained weights, the optimizer's moments, the step count), as the file has them, so
    training goes on where it was saved; `initialize()` starts afresh. input_names: what a step takes.
    Raises FileFormatError for a file without training_info or with bindings that do not fit, and what `load` raises.
    """

    def __init__(self, source: str | os.PathLike | bytes | onnx.ModelProto):
        proto = reader.read_model(source)
        if not proto.training_info:
            raise FileFormatError("the model has no training_info, it is for inference alone; write one with training by "
                                  "ndl.onnx.export_training(model, loss, optimizer, inputs, target, path)")
        self._proto = proto
        graphs = [proto.graph, *(info.algorithm for info in proto.training_info)]
        stored = {t.name: t for g in graphs for t in g.initializer}
        self._updates = [{b.key: b.value for b in info.update_binding} for info in proto.training_info]
        starts = [{b.key: b.value for b in info.initialization_binding} for info in proto.training_info]
        for info, updates, start in zip(proto.training_info, self._updates, starts, strict=True):
            made = [o.name for o in (*info.algorithm.output, *proto.graph.output)]
            _check_bindings("update_binding", updates, stored, made)
            _check_bindings("initialization_binding", start, stored, [o.name for o in info.initialization.output])
        keys = [key for updates in self._updates for key in updates]
        if len(keys) != len(set(keys)):
            raise FileFormatError(f"two update_bindings change {next(k for k in keys if keys.count(k) > 1)!r}")
        by = _differentiated(proto) - {i.name for g in graphs for i in g.input}
        if by - set(stored):
            raise UnsupportedOnnxError(f"Gradient differentiates by {min(by - set(stored))!r}, a value inside the graph; by "
                                       "inputs and initialisers it can")
        variables = {*keys, *(k for s in starts for k in s), *by}
        self._stored = {name: Tensor(reader.array_of(stored[name])) for name in sorted(variables)}
        self.state: dict[str, Tensor] = dict(self._stored)
        self._algorithms = [OnnxModule(combined(proto, info, list(self.state))) for info in proto.training_info]
        self._starts = [(start, OnnxModule(alone(proto, info.initialization)))
                        for start, info in zip(starts, proto.training_info, strict=True) if start]
        given = [*(m.input_names for m in self._algorithms)]
        self.input_names = list(dict.fromkeys(name for names in given for name in names if name not in self.state))

    def initialize(self) -> None:
        """The state at the start of training: the file's initialisers, then what its initialization graphs compute."""
        self.state = dict(self._stored)
        for binding, module in self._starts:
            made = module(outputs=list(binding.values()))
            self.state |= {key: value.detach() for key, value in zip(binding, made, strict=True)}

    def step(self, *args: Tensor | np.ndarray, **named: Tensor | np.ndarray) -> dict[str, Tensor]:
        """One step of training; -> the algorithm's outputs that are no new state, such as {"loss": ...}.

        Inputs by position (`input_names`) or by name. All variables change at once, after the step; on an error none.
        """
        given = self._bind(args, named)
        state, shown = dict(self.state), dict[str, Tensor]()
        for info, updates, module in zip(self._proto.training_info, self._updates, self._algorithms, strict=True):
            values = {name: given[name] if name in given else state[name] for name in module.input_names}
            with no_grad():
                found = dict(zip(module.output_names, module(**values, outputs=module.output_names), strict=True))
            state |= {key: found[value].detach() for key, value in updates.items()}
            shown |= {o.name: found[o.name].detach() for o in info.algorithm.output if o.name not in updates.values()}
        self.state = state
        return shown

    @property
    def model(self) -> OnnxModule:
        """The inference model with the present weights, as a module of its own."""
        proto = self._present()
        del proto.training_info[:]
        return OnnxModule(proto)

    def save(self, path: str | os.PathLike, external_data: bool | None = None) -> None:
        """Write the file with the present state; a Trainer of it goes on from here."""
        saving.write(self._present(), path, external_data)

    def _present(self) -> onnx.ModelProto:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        for g in saving.graphs_of(proto):
            for tensor in g.initializer:
                if tensor.name in self.state:
                    array = np.ascontiguousarray(self.state[tensor.name].numpy())
                    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return proto

    def _bind(self, args: tuple, named: dict[str, Any]) -> dict[str, Any]:
        takes = f"a step takes {', '.join(self.input_names) or 'no inputs'}"
        if len(args) > len(self.input_names):
            raise ArgumentError(f"{takes}; got {len(args)} inputs")
        given = dict(zip(self.input_names, args, strict=False))
        for name, value in named.items():
            if name not in self.input_names or name in given:
                raise ArgumentError(f"input {name!r} is {'given twice' if name in given else 'unknown'}; {takes}")
            given[name] = value
        absent = [name for name in self.input_names if name not in given]
        if absent:
            raise ArgumentError(f"the input {absent[0]!r} is missing; {takes}")
        return given


def _differentiated(proto: onnx.ModelProto) -> set[str]:
    """The values by which the Gradient nodes differentiate."""
    nodes = (node for info in proto.training_info for node in info.algorithm.node if node.op_type == Gradient.__name__)
    return {name.decode() for node in nodes for a in node.attribute if a.name == "xs" for name in a.strings}


def _check_bindings(kind: str, binding: dict[str, str], stored: dict[str, Any], made: list[str]) -> None:
    for key, value in binding.items():
        if key not in stored:
            raise FileFormatError(f"{kind} changes {key!r}, which is no initialiser")
        if value not in made:
            raise FileFormatError(f"{kind} gives {key!r} the value {value!r}, which is no output")
