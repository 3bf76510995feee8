"""What two models compute on the same input, layer by layer, and which layer of one answers to which of the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingExtraError
from ..nn.modes import evaluating
from ..serialize.alignment import pair_in_order
from .families import family_of
from .trace import Source, as_module, host, is_onnx_path, name_of, run, tensors

SAMPLE = 4096       # values of a layer that alignment looks at; errors are taken over all of them


@dataclass
class Layer:
    """One value that passed through a model: where, what made it, the value on the host.

    layer: the path of the layer that made it, where path is another name: an ONNX value's.
    """

    path: str
    type: str
    values: np.ndarray
    layer: str = ""


def layers_of(source: Source, x: Any) -> tuple[list[Layer], list[np.ndarray]]:
    """(the values of all layers in the order of the run, the outputs).

    The path of an ONNX file runs in onnxruntime, unoptimised, with every intermediate value exposed; a Module runs
    with hooks, in evaluation mode. Raises ArgumentError, MissingFileError, MissingExtraError.
    """
    if is_onnx_path(source):
        return _onnxruntime_layers(os.fspath(source), x)
    module = as_module(source)
    if module is None:
        raise ArgumentError(f"compare: a Module or the path of an .onnx file is needed, got {name_of(source)}")
    if hasattr(module, "value_names"):
        layers = onnx_module_layers(module, x)
        values = {layer.path: layer.values for layer in layers}
        return layers, [values[name] for name in module.output_names if name in values]
    layers = []
    returned: set[int] = set()
    kept: list[Any] = []                 # tensors stay alive while ids are compared

    def seen(path: str, called: Any, inputs: list[Any], outputs: list[Any]) -> None:
        for i, value in enumerate(outputs):
            if id(value) not in returned:                 # a container that hands on what a layer returned is no layer
                returned.add(id(value))
                kept.append(value)
                name = (path or "output") + (f"[{i}]" if len(outputs) > 1 else "")
                layers.append(Layer(name, type(called).__name__, host(value).copy()))

    outputs = tensors(run(module, x, seen))
    return layers, [host(each) for each in outputs]


def onnx_module_layers(module: Any, x: Any) -> list[Layer]:
    """All values of an OnnxModule under their ONNX names, which are those of the file it came from."""
    kinds = {name: step for step in steps_of(module) for name in step.outputs if name}
    inputs = x if isinstance(x, tuple) else (x,)
    with evaluating(module):
        values = module(*inputs, outputs=list(kinds))
    return [Layer(name, step.op, host(value), step.layer) for (name, step), value in zip(kinds.items(), values, strict=True)
            if hasattr(value, "shape")]


def steps_of(module: Any) -> list[Any]:
    """The nodes of an OnnxModule in order: op, name, inputs, outputs, attrs, path of the layer."""
    return module.steps


def _onnxruntime_layers(path: str, x: Any) -> tuple[list[Layer], list[np.ndarray]]:
    from ..onnx.read.reader import read_model  # raises MissingExtraError, with what to install

    model = read_model(path)
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("compare runs an .onnx file with onnxruntime: pip install 'needle-lab[lab]'") from error
    outputs = [value.name for value in model.graph.output]
    made = {name: node.op_type for node in model.graph.node for name in node.output
            if name and node.op_type != "Constant"}
    for name in made:
        if name not in outputs:
            model.graph.output.add(name=name)              # onnxruntime finds its type
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = [host(each) for each in (x if isinstance(x, tuple) else (x,))]
    wanted = session.get_inputs()
    if len(arrays) != len(wanted):
        names = ", ".join(each.name for each in wanted)
        raise ArgumentError(f"{os.path.basename(path)} takes {len(wanted)} inputs ({names}), got {len(arrays)}; "
                            "give several as a tuple")
    feed = {each.name: array for each, array in zip(wanted, arrays, strict=True)}
    fetched = [*made, *(name for name in outputs if name not in made)]
    values = dict(zip(fetched, session.run(fetched, feed), strict=True))
    layers = [Layer(name, kind, values[name]) for name, kind in made.items() if isinstance(values[name], np.ndarray)]
    return layers, [values[name] for name in outputs]


# --- alignment ----------------------------------------------------------------------------------------------------

def align(a: Sequence[Layer], b: Sequence[Layer]) -> list[tuple[int, int]]:
    """Pairs (i, j) of layers that answer to each other, in the order of both runs.

    Only equal shapes pair. Among all pairings that keep both orders, the one with the highest total of: equal path,
    equal op family, correlation of the values. Correlation finds the partner of a layer even where one model
    deviates, and where neither names nor kinds are the same.
    """
    return pair_in_order(_likeness(a, b))


def _likeness(a: Sequence[Layer], b: Sequence[Layer]) -> np.ndarray:
    """score[i, j] >= 0 of pairing a[i] with b[j]; 0 where the shapes differ."""
    score = np.zeros((len(a), len(b)))
    shapes_b: dict[tuple[Any, ...], list[int]] = {}
    for j, layer in enumerate(b):
        shapes_b.setdefault(layer.values.shape, []).append(j)
    for shape, columns in shapes_b.items():
        rows = [i for i, layer in enumerate(a) if layer.values.shape == shape]
        if rows:
            correlation = _unit(a, rows) @ _unit(b, columns).T
            for i, line in zip(rows, correlation, strict=True):
                for j, value in zip(columns, line, strict=True):
                    same_path = a[i].path == b[j].path
                    same_family = family_of(a[i].type) is family_of(b[j].type)
                    score[i, j] = 0.1 + 4 * same_path + 0.5 * same_family + 3 * max(0.0, value)
    return score


def _unit(layers: Sequence[Layer], chosen: list[int]) -> np.ndarray:
    """Each chosen layer as a vector of mean 0 and length 1 (zeros where it is constant)."""
    flat = np.stack([np.nan_to_num(layers[i].values.reshape(-1)[:: max(1, layers[i].values.size // SAMPLE)]
                                   .astype(np.float64), posinf=0, neginf=0) for i in chosen])
    flat -= flat.mean(axis=1, keepdims=True) if flat.shape[1] else 0
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
