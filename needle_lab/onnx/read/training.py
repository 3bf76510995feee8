"""The graphs of a file's training as models of their own: one step, and the start."""

from __future__ import annotations

import onnx
from onnx import helper

from ..operators.training import Gradient
from . import reader


def combined(proto: onnx.ModelProto, info: onnx.TrainingInfoProto, variables: list[str]) -> onnx.ModelProto:
    """The graph of one step: the inference graph, then the algorithm, without what the algorithm does not need.

    variables: initialisers that become inputs.
    """
    parts = (proto.graph, info.algorithm)
    weights = {t.name: t for g in parts for t in g.initializer}
    changed = {b.value for b in info.update_binding}
    outputs = [*info.algorithm.output, *(o for o in proto.graph.output if o.name in changed)]
    needed, nodes = {o.name for o in outputs}, []
    for node in reversed([n for g in parts for n in g.node]):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(reader._names_read(node))
            if node.op_type == Gradient.__name__:                 # it names the result whose derivative it is
                needed.update(a.s.decode() for a in node.attribute if a.name == "y")
    inputs = [i for g in parts for i in g.input if i.name not in variables]
    inputs += [helper.make_tensor_value_info(name, weights[name].data_type, weights[name].dims)
               for name in variables if name in weights]
    g = helper.make_graph(nodes[::-1], "step", [i for i in inputs if i.name in needed], outputs,
                          [t for name, t in weights.items() if name not in variables and name in needed],
                          value_info=[v for part in parts for v in part.value_info])
    return _model_like(proto, g)


def alone(proto: onnx.ModelProto, g: onnx.GraphProto) -> onnx.ModelProto:
    own = onnx.GraphProto()
    own.CopyFrom(g)
    own.name = own.name or "start"
    return _model_like(proto, own)


def _model_like(proto: onnx.ModelProto, g: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(g, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    model.functions.extend(proto.functions)
    return model
