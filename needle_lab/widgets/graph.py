"""`onnx_graph` and `autograd_graph`: a computation as boxes and arrows, coloured by op family, shapes on the arrows."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .drawing import INSTALL, Arrow, Box, Drawing
from .families import ascii_legend, family_of, html_legend
from .layers import onnx_module_layers, steps_of
from .outline import show_shape
from .trace import host
from .view import View

TINY = 8               # values of a tensor that are written out; more are only a shape
MAX_NODES = 400        # drawing time and the reader's patience both end about here


def onnx_graph(model: Any, x: Any = None, max_nodes: int = MAX_NODES, right: bool = False) -> GraphView:
    """Draw an ONNX graph: the path of a file, an onnx.ModelProto, or an OnnxModule.

    Shapes on the arrows come from the file and from ONNX shape inference; of an OnnxModule from one run on x (a tuple
    for several inputs), and without x there are none. Weights and small constants stand inside the node that reads
    them, as `W (64, 3, 7, 7)`. max_nodes: a larger graph is drawn up to there, and says so. right: draw from left to
    right. Keys in the live view: arrows follow the values, `n`/`p` next and previous node, `+` `-` `0` zoom, `/`
    search; a click shows attributes; drag to pan.
    Raises MissingExtraError without the onnx package, MissingFileError, FileFormatError, ArgumentError.
    """
    title, summary, parts = _parts_of_module(model, x) if hasattr(model, "value_names") else _parts_of_proto(model)
    drawing, cut = _assemble(parts, max_nodes)
    drawing.right = right
    note = f"the first {max_nodes:,} of {max_nodes + cut:,} nodes; for more: max_nodes=" if cut else ""
    return GraphView(title, summary, drawing, note)


def autograd_graph(tensor: Any, **names: Any) -> GraphView:
    """Draw what backward will walk: the ops that made `tensor`, from its leaves, left to right.

    names: tensors to be named in the picture, `autograd_graph(c, a=a, b=b, c=c)`. Leaves show their value where it is
    tiny, and their gradient once it is known. An arrow for each use: `a + a` has two.
    Raises ArgumentError for a result of no recorded op, GraphError for a graph that an earlier backward has freed.
    """
    from ..graph import key_of, topological_order

    if getattr(tensor, "node", None) is None:
        raise ArgumentError("autograd_graph: a tensor that was computed from one with requires_grad=True is needed; "
                            "this one has no recorded op")
    named = {key_of(value): name for name, value in names.items()}
    order = topological_order([tensor.node])[::-1]
    made = {key_of(x): x for node in order for x in node.inputs if hasattr(x, "node")} | {key_of(tensor): tensor}
    drawing, places = Drawing(right=True), {node: f"n{i}" for i, node in enumerate(order)}
    for key, leaf in made.items():
        if leaf.node is None:
            places[key] = f"leaf{len(drawing.boxes)}"
            kind = "leaf" if leaf.requires_grad else "constant"
            lines = [_value(leaf)] + ([f"grad {_value(leaf.grad)}"] if leaf.grad is not None else [])
            drawing.boxes.append(Box(places[key], named.get(key, kind), "", lines, {
                "kind": kind, "shape": show_shape(leaf.shape), "dtype": str(leaf.dtype), "device": str(leaf.device)}))
    for node in order:
        outputs = [made.get((node, i)) for i in range(node.count)]
        lines = [f"{named[key_of(x)]} = {_value(x)}" if key_of(x) in named else _value(x)
                 for x in outputs if x is not None]
        details = {"shape": " ".join(show_shape(x.shape) for x in outputs if x is not None)}
        details |= {key: str(value) for key, value in node.attrs.items()}
        details |= {f"input {i}": repr(x) for i, x in enumerate(node.inputs) if not hasattr(x, "node")}
        drawing.boxes.append(Box(places[node], node.op.name, family_of(node.op.name).key, lines, details))
        drawing.arrows += [Arrow(places[x.node if x.node is not None else x], places[node],
                                 show_shape(x.shape) if x.ndim else "") for x in node.inputs if hasattr(x, "node")]
    return GraphView("autograd graph", f"{len(order):,} op{'s' * (len(order) != 1)}", drawing)


class GraphView(View):
    """What `onnx_graph` and `autograd_graph` return; `drawing` holds the boxes and arrows, `svg` the picture."""

    script = "graph"

    def __init__(self, title: str, summary: str, drawing: Drawing, note: str = ""):
        self.title, self.summary, self.drawing, self.note = title, summary, drawing, note
        self.dot, self.svg = drawing.dot(), drawing.svg()

    def text(self) -> str:
        """One line for each box, in order: what it is, what it reads, which shape flows in."""
        from .families import FAMILIES

        into: dict[str, list[str]] = {}
        for arrow in self.drawing.arrows:
            into.setdefault(arrow.target, []).append(f"{arrow.source} {arrow.label}".strip())
        rows = [(box.id, f"{FAMILIES[box.family].ascii if box.family else ' '} {box.title}", " ".join(box.lines),
                 f"<- {', '.join(into[box.id])}" if box.id in into else "") for box in self.drawing.boxes]
        width = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c:<{width[2]}}  {d}".rstrip() for a, b, c, d in rows]
        return "\n".join([f"{self.title}: {self.summary}", *([self.note] if self.note else []), *lines, ascii_legend()])

    def page(self) -> str:
        note = f"<p class=ndl-more>{html.escape(self.note)}</p>" if self.note else ""
        picture = (f"<div class='ndl-canvas ndl-box'>{self.svg}</div>" if self.svg else
                   f"<p class=ndl-more>{INSTALL}</p><pre class=ndl-dot>{html.escape(self.dot)}</pre>")
        return (f"<div class=ndl-head><b>{html.escape(self.title)}</b><span>{html.escape(self.summary)}; shapes on the "
                f"arrows</span></div>{note}{picture}{html_legend()}")

    def data(self) -> dict[str, Any]:
        return {"title": self.title, "summary": f"{self.summary}; shapes on the arrows", "note": self.note,
                "svg": self.svg or "", "dot": "" if self.svg else self.dot, "install": INSTALL,
                "right": self.drawing.right,
                "boxes": [[box.id, box.title, box.family, box.lines, list(box.details.items())]
                          for box in self.drawing.boxes],
                "arrows": [[arrow.source, arrow.target] for arrow in self.drawing.arrows]}


# --- ONNX ---------------------------------------------------------------------------------------------------------

def _onnx() -> Any:
    from ..onnx import reader  # raises MissingExtraError, with what to install

    return reader.onnx


@dataclass
class _Node:
    """A node on its way into the drawing; lines are the constants that it holds."""

    op: str
    inputs: list[str]
    outputs: list[str]
    lines: list[str]
    details: dict[str, str]


@dataclass
class _Parts:
    """A graph by the names of its values; shapes: name -> text."""

    inputs: list[str]
    nodes: list[_Node]
    outputs: list[str]
    shapes: dict[str, str]


def _assemble(parts: _Parts, max_nodes: int) -> tuple[Drawing, int]:
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


def _parts_of_module(module: Any, x: Any) -> tuple[str, str, _Parts]:
    """An OnnxModule: its layers show their parameters and their path in the tree."""
    values = [] if x is None else onnx_module_layers(module, x)
    shapes = {value.path: show_shape(value.values.shape) for value in values}
    nodes = []
    for step in steps_of(module):
        layer = module.get(step.layer) if step.layer else None
        weights = [f"{name} {show_shape(p.shape)}" for name, p in layer.named_parameters()] if layer else []
        attributes = {key: str(value) for key, value in step.attrs.items()}
        nodes.append(_Node(step.op, step.inputs, step.outputs, weights, {
            "name": step.name, "layer": f"{step.layer}: {layer!r}" if layer else "", **attributes}))
    parts = _Parts(list(module.input_names), nodes, list(module.output_names), shapes)
    return type(module).__name__, f"{len(nodes):,} nodes, opset {module.opset}", parts


def _parts_of_proto(model: Any) -> tuple[str, str, _Parts]:
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
            nodes.append(_Node(node.op_type, list(node.input), list(node.output), lines, {
                "name": node.name, "domain": node.domain, **{a.name: _attribute(onnx, a) for a in node.attribute}}))
    shapes = {value.name: _value_shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    parts = _Parts([value.name for value in graph.input if value.name not in constants], nodes,
                   [value.name for value in graph.output], shapes)
    opsets = ", ".join(f"{each.domain or 'ai.onnx'} {each.version}" for each in proto.opset_import)
    return title, f"{len(graph.node):,} nodes, opset {opsets}", parts


def _model_proto(model: Any) -> tuple[str, Any]:
    """(title, ModelProto with inferred shapes) of a path or a ModelProto."""
    onnx = _onnx()
    title, proto = type(model).__name__, model
    if isinstance(model, (str, os.PathLike)):
        from ..onnx.reader import read_model

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
    return title, onnx.shape_inference.infer_shapes(slim)


def _value_shape(value: Any) -> str:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return ""
    sizes = ["?" if dim.dim_param.startswith("unk__") else dim.dim_param or          # inference's word for unknown
             (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in value.type.tensor_type.shape.dim]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


def _constant(tensor: Any) -> str:
    """The shape of a weight; the values of a scalar or of a few whole numbers (a shape, axes)."""
    from onnx import numpy_helper

    size, whole = int(np.prod(tensor.dims)), tensor.data_type in (tensor.INT32, tensor.INT64, tensor.BOOL)
    if size > (TINY if whole else 1) or len(tensor.dims) > 1 or tensor.data_location == tensor.EXTERNAL:
        return show_shape(tensor.dims)
    return f"= {_short(numpy_helper.to_array(tensor))}"


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


# --- values -------------------------------------------------------------------------------------------------------

def _value(x: Any) -> str:
    """A tiny tensor's values, any other's shape."""
    return _short(host(x)) if x.size <= TINY and x.ndim <= 1 else f"{show_shape(x.shape)} {x.dtype}"


def _short(array: np.ndarray) -> str:
    def number(x: Any) -> str:
        return f"{x:.4g}" if isinstance(x, float) else str(x)

    values = array.tolist()
    return f"[{', '.join(map(number, values))}]" if isinstance(values, list) else number(values)
