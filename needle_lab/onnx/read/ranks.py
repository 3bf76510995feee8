"""How many axes each value of a graph has, as far as that can be told without running it.

onnx.shape_inference tells more, but a file with wrong attributes makes it end the whole process (it indexes vectors
without a check), so nothing of a file that somebody sent is handed to it.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from ..operators import row_of
from .reader import attributes_of

Ranks = dict[str, int]
Node = onnx.NodeProto

def ranks_of(graph: onnx.GraphProto) -> Ranks:
    """Value name -> number of axes: what the file declares, and what follows from it. Nodes in the file's order."""
    known = {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.input, *graph.value_info, *graph.output)
             if v.type.tensor_type.HasField("shape")}
    known |= {t.name: len(t.dims) for t in graph.initializer}
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for tensor in (a.t for a in node.attribute if a.name == "value" and a.HasField("t")):
                constants[node.output[0]], known[node.output[0]] = tensor, len(tensor.dims)
        rank = _rank(node, known, constants)
        if rank is not None:
            for name in node.output[:1] if node.op_type != "Split" else node.output:
                known.setdefault(name, rank)
    return known


def _rank(node: Node, known: Ranks, constants: dict[str, onnx.TensorProto]) -> int | None:
    """Axes of the first output, or None."""
    ranks = [known.get(name) for name in node.input if name]
    row = row_of(node.op_type, node.domain)
    if row is None or row.rank is None or not ranks:
        return None
    if isinstance(row.rank, int):
        return row.rank
    return _RULES[row.rank](node, ranks, constants) if ranks[0] is not None or row.rank in _OF_ALL else None


def _length(node: Node, constants: dict[str, onnx.TensorProto], attribute: str) -> int | None:
    """How many integers an attribute, or the constant last input that took its place, has."""
    if len(node.input) > 1 or not attribute:
        tensor = constants.get(node.input[-1])
        return tensor.dims[0] if tensor is not None and len(tensor.dims) == 1 and tensor.dims[0] >= 0 else None
    given = attributes_of(node)[0].get(attribute)
    return len(given) if isinstance(given, list) else None


def _moved(sign: int) -> Callable:
    def rule(node, ranks, constants):
        count = _length(node, constants, "axes")
        return None if count is None else max(ranks[0] + sign * count, 0)
    return rule


def _product(node, ranks, constants):
    if len(ranks) < 2 or ranks[1] is None:
        return None
    return max(ranks) if min(ranks) > 1 else ranks[0] + ranks[1] - 2 if max(ranks) < 2 else max(ranks) - 1


def _gathered(node, ranks, constants):
    return ranks[0] + ranks[1] - 1 if len(ranks) > 1 and ranks[1] is not None else None


def _shaped(node, ranks, constants):
    return _length(node, constants, "shape" if any(a.name == "shape" for a in node.attribute) else "")


def _broadcast(node, ranks, constants):
    return None if None in ranks else max(ranks)


# what a row says of its first output's rank -> (node, ranks of its inputs, constants) -> that rank
_RULES: dict[str, Callable] = {"first": lambda node, ranks, constants: ranks[0], "broadcast": _broadcast, "shaped": _shaped,
                               "product": _product, "gathered": _gathered, "+axes": _moved(1), "-axes": _moved(-1)}
_OF_ALL = ("shaped", "broadcast")             # the rank of the first input alone does not matter
