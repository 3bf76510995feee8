"""The parts of a graph, of a file, an imported model or a Program, and how they become a drawing."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from .drawing import TINY, Arrow, Box, Drawing, short
from .families import family_of
from .layers import onnx_module_layers, steps_of
from .outline import show_shape


@dataclass
class Node:
    """A node on its way into the drawing; lines are the constants that it holds."""

    op: str
    inputs: list[str]
    outputs: list[str]
    lines: list[str]
    details: dict[str, str]


@dataclass
class Parts:
    """A graph by the names of its values; shapes: name -> text."""

    inputs: list[str]
    nodes: list[Node]
    outputs: list[str]
    shapes: dict[str, str]


def assemble(parts: Parts, max_nodes: int) -> tuple[Drawing, int]:
    """The drawing, and how many nodes did not fit into it."""
    drawing, made = Drawing(), dict[str, str]()

    def endpoint(name: str, kind: str) -> str:
        lines = [parts.shapes[name]] if parts.shapes.get(name) else []
        drawing.boxes.append(Box(f"v{len(drawing.boxes)}", name, "", lines, {"kind": kind}))
        return drawing.boxes[-1].id

    made.update({name: endpoint(name, "input") for name in parts.inputs})
    for i, node in enumerate(parts.nodes[:max_nodes]):
        outputs = ", ".join(f"{name} {parts.shapes.get(name, '')}".strip() for name in node.outputs if name)
        drawing.boxes.append(Box(f"n{i}", node.op, family_of(node.op).key, node.lines,
                                 {**node.details, "output": outputs}))
        drawing.arrows += [Arrow(made[name], f"n{i}", parts.shapes.get(name, ""))
                           for name in node.inputs if name in made]
        made |= {name: f"n{i}" for name in node.outputs if name}
    for name in parts.outputs:
        if name in made:
            drawing.arrows.append(Arrow(made[name], endpoint(name, "output")))
    return drawing, max(0, len(parts.nodes) - max_nodes)


def parts_of_module(module: Any, x: Any) -> tuple[str, str, Parts]:
    """An OnnxModule: its layers show their parameters and their path in the tree."""
    values = [] if x is None else onnx_module_layers(module, x)
    shapes = {value.path: show_shape(value.values.shape) for value in values}
    nodes = []
    for step in steps_of(module):
        layer = module.get(step.layer) if step.layer else None
        weights = [f"{name} {show_shape(p.shape)}" for name, p in layer.named_parameters()] if layer else []
        attributes = {key: str(value) for key, value in step.attrs.items()}
        nodes.append(Node(step.op, step.inputs, step.outputs, weights, {
            "name": step.name, "layer": f"{step.layer}: {layer!r}" if layer else "", **attributes}))
    parts = Parts(list(module.input_names), nodes, list(module.output_names), shapes)
    return type(module).__name__, f"{len(nodes):,} nodes, opset {module.opset}", parts


def parts_of_program(program: Any) -> Parts:
    """A Program: its calls, which show the parameters and constants that they read."""
    names = {value: value.name or f"v{i}" for i, value in
             enumerate([*program.inputs, *(v for call in program.calls for v in call.outputs)])}
    text = program.sizes.text
    shapes = {name: "" if value.shape is None else text(value.shape) for value, name in names.items()}
    nodes = []
    for call in program.calls:
        known = [v for v in call.sources() if v.known]
        lines = [f"{v.path} {show_shape(v.shape)}" if v.path else f"= {v}" if v.shape == () else show_shape(v.shape)
                 for v in known if v.shape is not None]
        where = {"module": call.scope[-1][0]} if call.scope else {}
        nodes.append(Node(call.name, [names[v] for v in call.reads()], [names[v] for v in call.outputs], lines,
                          {**where, **{key: text(value) for key, value in call.attrs.items()}}))
    return Parts([names[v] for v in program.inputs], nodes, [names[v] for v in program.results if v in names], shapes)


def parts_of_proto(model: Any) -> tuple[str, str, Parts]:
    """A file or a ModelProto, with inferred shapes; Constant nodes become lines of the nodes that read them."""
    onnx, (title, proto) = _onnx(), _model_proto(model)
    graph = proto.graph
    constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
    constants |= {each.values.name: f"{tuple(each.dims)} sparse" for each in graph.sparse_initializer}
    constants |= {node.output[0]: _constant_node(onnx, node) for node in graph.node if node.op_type == "Constant"}
    nodes = []
    for node in graph.node:
        if node.op_type != "Constant":
            formal = _formal_names(onnx, node)
            lines = [f"{formal(k)} {constants[name]}" for k, name in enumerate(node.input) if name in constants]
            nodes.append(Node(node.op_type, list(node.input), list(node.output), lines, {
                "name": node.name, "domain": node.domain, **{a.name: _attribute(onnx, a) for a in node.attribute}}))
    shapes = {value.name: _value_shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    parts = Parts([value.name for value in graph.input if value.name not in constants], nodes,
                   [value.name for value in graph.output], shapes)
    opsets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in proto.opset_import)
    return title, f"{len(graph.node):,} nodes, opset {opsets}", parts


def _model_proto(model: Any) -> tuple[str, Any]:
    """(title, ModelProto with inferred shapes) of a path or a ModelProto."""
    onnx = _onnx()
    title, proto = type(model).__name__, model
    if isinstance(model, (str, os.PathLike)):
        from ..onnx.read.reader import read_model

        title, proto = os.path.basename(os.fspath(model)), read_model(model)
    if not isinstance(proto, onnx.ModelProto):
        raise ArgumentError("onnx_graph: the path of an .onnx file, a ModelProto or an OnnxModule is needed, got "
                            f"{title}; a Module is drawn after ndl.onnx.export(module, inputs, path)")
    slim = onnx.ModelProto()
    slim.CopyFrom(proto)
    for tensor in slim.graph.initializer:
        if math.prod(tensor.dims) > 64:            # shapes do not depend on weights, and inference copies all it gets
            for data in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(data)
    return title, _with_shapes(onnx, slim)


INFER = ("import sys, onnx; model = onnx.load_from_string(sys.stdin.buffer.read()); "
         "sys.stdout.buffer.write(onnx.shape_inference.infer_shapes(model).SerializeToString())")
LONGEST = 60             # seconds


def _with_shapes(onnx: Any, model: Any) -> Any:
    """The model with the shapes of its values: those that the file declares, else what ONNX infers.

    Inference is C++ that trusts the file, and a wrong attribute ends the process that runs it. So it runs in a process of
    its own; where that does not come back, the declared shapes are all there is.
    """
    declared = {value.name for value in (*model.graph.value_info, *model.graph.output)}
    if all(name in declared for node in model.graph.node for name in node.output if name and node.op_type != "Constant"):
        return model
    try:
        with tempfile.TemporaryDirectory() as empty:             # an onnx.py beside the model is not the package
            done = subprocess.run([sys.executable, "-P", "-c", INFER], input=model.SerializeToString(), capture_output=True,
                                  timeout=LONGEST, check=False, cwd=empty)
    except (OSError, subprocess.TimeoutExpired):               # no processes here, as in a browser; or it never ends
        return model
    return onnx.load_from_string(done.stdout) if done.returncode == 0 else model


def _value_shape(value: Any) -> str:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return ""
    sizes = ["?" if dim.dim_param.startswith("unk__") else dim.dim_param or          # inference's word for unknown
             (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in value.type.tensor_type.shape.dim]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def _constant(tensor: Any) -> str:
    """The shape of a weight; the values of a scalar or of a few whole numbers (a shape, axes)."""
    from onnx import numpy_helper

    size, whole = math.prod(tensor.dims), tensor.data_type in (tensor.INT32, tensor.INT64, tensor.BOOL)
    if size > (TINY if whole else 1) or len(tensor.dims) > 1 or tensor.data_location == tensor.EXTERNAL:
        return show_shape(tensor.dims)
    return f"= {short(numpy_helper.to_array(tensor))}"


def _constant_node(onnx: Any, node: Any) -> str:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    return _constant(value) if isinstance(value, onnx.TensorProto) else f"= {_attribute(onnx, attribute)}"


def _formal_names(onnx: Any, node: Any) -> Any:
    """Position of an input -> the name that the operator's definition gives it (W, B, scale, ...)."""
    try:
        formal = [each.name for each in onnx.defs.get_schema(node.op_type, domain=node.domain).inputs]
    except onnx.defs.SchemaError:
        formal = []
    return lambda k: formal[min(k, len(formal) - 1)] if formal else f"input {k}"


def _attribute(onnx: Any, attribute: Any) -> str:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.GraphProto):
        return f"graph of {len(value.node)} nodes"
    if isinstance(value, onnx.TensorProto):
        return _constant(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Iterable) and not isinstance(value, str):
        return str([round(x, 6) if isinstance(x, float) else x.decode() if isinstance(x, bytes) else x for x in value])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _onnx() -> Any:
    from ..onnx.read import reader  # raises MissingExtraError, with what to install

    return reader.onnx
