"""Several nodes that are one layer: x @ W + b, and the group normalisation that PyTorch writes before opset 21."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper

from ... import ops
from ...core.dtypes import is_floating

Joined = tuple[onnx.NodeProto, list[str], list[str]]          # a node with the inputs and outputs of what joined it


def weight(weights: dict[str, np.ndarray], name: str, ndim: int | None = None) -> np.ndarray | None:
    """The value of a float initialiser (with ndim axes) that is a weight, not a number in a formula."""
    array = None if name.startswith("constant_") else weights.get(name)
    return array if array is not None and is_floating(array.dtype) and ndim in (None, array.ndim) else None


def matmul_add(x, w, bias):
    return x @ w + bias


def group_norm(x, scale, bias, *, num_groups, epsilon):
    return ops.group_norm(x, num_groups, scale.reshape(-1), bias.reshape(-1), epsilon)


# what a joined node computes where it does not become a layer
FUNCTIONS = {("MatMul", 3): matmul_add, ("GroupNormalization", 3): group_norm}


def joined(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], constants: dict[str, np.ndarray],
           outputs: list[str]) -> list[Joined]:
    """All nodes in their order, each Add that ends one of the two patterns replaced by the whole.

    constants: values of the graph that are numbers (shapes); outputs: of the graph. A value in the middle of a pattern
    may have no other reader.
    """
    readers = Counter(name for node in nodes for name in node.input)
    readers.update(outputs)
    producers = {name: node for node in nodes for name in node.output}
    result: list[Joined] = []
    gone: set[str] = set()                                     # outputs of nodes that became part of another

    def before(name: str, op_type: str) -> onnx.NodeProto | None:
        node = producers.get(name)
        return node if node is not None and node.op_type == op_type and readers[name] == 1 else None

    for node in nodes:
        whole = None
        if node.op_type == "Add" and len(node.input) == 2:
            for value, bias in (tuple(node.input), tuple(node.input)[::-1]):
                whole = whole or _linear(before(value, "MatMul"), bias, weights, gone) \
                    or _group_norm(node, before(value, "Mul"), bias, before, weights, constants, gone, producers)
        made, inputs = whole or (node, list(node.input))
        result.append((made, inputs, list(node.output)))
    return [(n, i, o) for n, i, o in result if o[0] not in gone]


def _linear(product, bias, weights, gone):
    matrix, vector = product and weight(weights, product.input[1], 2), weight(weights, bias, 1)
    if matrix is None or vector is None or vector.shape[0] != matrix.shape[1]:
        return None
    gone.add(product.output[0])
    return product, [*product.input, bias]


def _group_norm(node, scaled, bias, before, weights, constants, gone, producers):
    """Add(Mul(Reshape(InstanceNormalization(Reshape(x, [0, groups, -1]), 1, 0)), scale), bias)"""
    back = scaled and before(scaled.input[0], "Reshape")
    unit = back and before(back.input[0], "InstanceNormalization")
    split = unit and before(unit.input[0], "Reshape")
    if not split:
        return None
    scale, shift = weight(weights, scaled.input[1]), weight(weights, bias)
    ones, zeros = weights.get(unit.input[1]), weights.get(unit.input[2])
    shape, target = constants.get(split.input[1]), constants.get(back.input[1])
    if any(v is None for v in (scale, shift, ones, zeros, shape)) or (ones != 1).any() or (zeros != 0).any():
        return None
    measured = producers.get(back.input[1])                    # back to the shape of x: known, or measured
    same = measured.input[0] == split.input[0] if measured is not None and measured.op_type == "Shape" \
        else target is not None and target.size == scale.ndim + 1 and target[1] == scale.size
    if not same or list(shape) != [0, ones.size, -1] or scale.shape != shift.shape or scale.shape[0] != scale.size:
        return None
    gone.update(n.output[0] for n in (scaled, back, unit, split))
    epsilon = next((a.f for a in unit.attribute if a.name == "epsilon"), 1e-5)
    made = helper.make_node("GroupNormalization", [split.input[0], scaled.input[1], bias], node.output, name=node.name,
                            num_groups=ones.size, epsilon=epsilon)
    made.metadata_props.extend(node.metadata_props)
    return made, list(made.input)
