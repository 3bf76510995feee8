"""Which nodes become layers: those whose weights are initialisers.

Each function is named after its operator and answers with a `Layer`: a module of `needle_lab.nn`, which initialiser
fills which of its parameters (and in which layout), and how to call it. None means: keep the node as a plain operator.
"""

# ruff: noqa: N802    functions are named after ONNX operators

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import nn, ops
from ...core.graph import is_tracing
from ..operators.nn import padding_of, reorder_gates, run_recurrent
from ..operators.table import DOMAINS
from .naming import is_computed


@dataclass
class NodeView:
    """What a layer builder may look at."""

    op: str
    attrs: dict[str, Any]
    inputs: list[str]                       # names; "" for an absent one
    weights: list[np.ndarray | None]        # the value of an input that is a float initialiser
    rank: int | None                        # axes of the first input, where known
    outputs: int
    opset: int


@dataclass
class Fill:
    """A parameter's value: the initialiser at input `source`, brought into the layer's layout."""

    source: int
    layout: str = "same"                    # two parameters share memory if initialiser and layout are the same
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray


@dataclass
class Layer:
    """A module for a node: its parameters by name, and how it is called."""

    module: nn.Module
    fills: dict[str, Fill]
    inputs: list[int] = field(default_factory=lambda: [0])       # which inputs of the node are passed at run time
    call: Callable | None = None                                # (module, *inputs) -> outputs; module(*inputs) otherwise


def _dims(node: NodeView) -> int:
    """Spatial dimensions of a convolution; 0 where its weight is computed."""
    return 0 if node.weights[1] is None else node.weights[1].ndim - 2


def Conv(node: NodeView) -> Layer | None:
    weight, dims = node.weights[1], _dims(node)
    if weight is None or dims not in (1, 2, 3):
        return None
    a, group = node.attrs, node.attrs.get("group", 1)
    module = getattr(nn, f"Conv{dims}d")(
        weight.shape[1] * group, weight.shape[0], weight.shape[2:], tuple(a.get("strides") or (1,) * dims),
        padding_of(a.get("pads"), a.get("auto_pad", "NOTSET"), dims), tuple(a.get("dilations") or (1,) * dims), group,
        bias=len(node.inputs) > 2)
    return _with_bias(node, module, {"weight": Fill(1)})


def ConvTranspose(node: NodeView) -> Layer | None:
    weight, a = node.weights[1], node.attrs
    if weight is None or _dims(node) not in (1, 2, 3) or a.get("output_shape") or a.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    dims, group = _dims(node), a.get("group", 1)
    module = getattr(nn, f"ConvTranspose{dims}d")(
        weight.shape[0], weight.shape[1] * group, weight.shape[2:], tuple(a.get("strides") or (1,) * dims),
        padding_of(a.get("pads"), "NOTSET", dims), tuple(a.get("output_padding") or (0,) * dims), group,
        bias=len(node.inputs) > 2, dilation=tuple(a.get("dilations") or (1,) * dims))
    return _with_bias(node, module, {"weight": Fill(1)})


def _with_bias(node: NodeView, module: nn.Module, fills: dict[str, Fill], at: int = 2) -> Layer | None:
    """Add the bias, if the node has one; a bias that is computed keeps the node an operator."""
    if len(node.inputs) > at and node.inputs[at]:
        if node.weights[at] is None:
            return None
        fills["bias"] = Fill(at)
    return Layer(module, fills)


def Gemm(node: NodeView) -> Layer | None:
    weight, a = node.weights[1], node.attrs
    if weight is None or a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0 or a.get("transA", 0):
        return None
    bias = node.weights[2] if len(node.inputs) > 2 else None
    outputs, inputs = weight.shape if a.get("transB", 0) else weight.shape[::-1]
    if bias is not None and bias.shape != (outputs,):
        return None
    fill = Fill(1) if a.get("transB", 0) else Fill(1, "transposed", np.transpose)
    return _with_bias(node, nn.Linear(inputs, outputs, bias=len(node.inputs) > 2), {"weight": fill})


def MatMul(node: NodeView) -> Layer | None:
    """x @ W with a matrix W; the importer joins the Add of a bias behind it to the same node."""
    weight = node.weights[1]
    if weight is None or weight.ndim != 2:
        return None
    module = nn.Linear(weight.shape[0], weight.shape[1], bias=len(node.inputs) > 2)
    return _with_bias(node, module, {"weight": Fill(1, "transposed", np.transpose)})


def Gather(node: NodeView) -> Layer | None:
    weight = node.weights[0]
    if weight is None or weight.ndim != 2 or node.attrs.get("axis", 0) != 0 or node.inputs[0] == node.inputs[1]:
        return None
    return Layer(nn.Embedding(*weight.shape), {"weight": Fill(0)}, inputs=[1], call=_embed)


def _embed(module, index):
    """An index may count from the end; a trace does not look at it: on arrays the op takes it as it is."""
    return module(index if is_tracing() or index.size == 0 or index.numpy().min() >= 0 else index % module.num_embeddings)


def BatchNormalization(node: NodeView) -> Layer | None:
    scale = node.weights[1]
    if scale is None or any(w is None for w in node.weights[2:5]) or node.outputs > 1:
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(node.rank or 4)
    if kind is None:
        return None
    affine = not _is_neutral(node, 1, 2)
    module = kind(len(scale), node.attrs.get("epsilon", 1e-5),
                  round(1.0 - node.attrs.get("momentum", 0.9), 6), affine=affine)
    fills = {"weight": Fill(1), "bias": Fill(2)} if affine else {}
    return Layer(module, fills | {"running_mean": Fill(3), "running_var": Fill(4)},
                 call=_by_batch_statistics if node.attrs.get("training_mode") else None)


def _by_batch_statistics(module, x):
    """training_mode=1: normalised by the batch's own statistics in either mode; train() moves the running ones too."""
    if module.training:
        return module(x)
    return ops.batch_norm(x, None, None, module.weight, module.bias, training=True, eps=module.eps)


def _is_neutral(node: NodeView, scale: int, bias: int) -> bool:
    """Whether an exporter wrote ones (and zeros) where the author's layer has no weights: they are no parameters."""
    for i, value in ((scale, 1), (bias, 0)):
        if i < len(node.inputs) and node.inputs[i]:
            array = node.weights[i]
            if array is None or not is_computed(node.inputs[i]) or np.any(array != value):
                return False
    return True


def LayerNormalization(node: NodeView) -> Layer | None:
    weight, axis = node.weights[1], node.attrs.get("axis", -1)
    if weight is None or node.outputs > 1 or (axis >= 0 and node.rank is None):
        return None
    count = -axis if axis < 0 else node.rank - axis
    if weight.ndim != count:
        return None
    eps = node.attrs.get("epsilon", 1e-5)
    if _is_neutral(node, 1, 2):
        return Layer(nn.LayerNorm(weight.shape, eps, elementwise_affine=False), {})
    return _with_bias(node, nn.LayerNorm(weight.shape, eps, bias=len(node.inputs) > 2), {"weight": Fill(1)})


def RMSNormalization(node: NodeView) -> Layer | None:
    weight, axis = node.weights[1], node.attrs.get("axis", -1)
    if weight is None or (axis >= 0 and node.rank is None) or weight.ndim != (-axis if axis < 0 else node.rank - axis):
        return None
    eps, affine = node.attrs.get("epsilon", 1e-5), not _is_neutral(node, 1, 2)
    return Layer(nn.RMSNorm(weight.shape, eps, elementwise_affine=affine), {"weight": Fill(1)} if affine else {})


def GroupNormalization(node: NodeView) -> Layer | None:
    """Also PyTorch's five nodes before opset 21, which `joins` brings here with scale and bias (C, 1, 1)."""
    scale, bias, groups = node.weights[1], node.weights[2], node.attrs["num_groups"]
    if scale is None or bias is None or (scale.ndim == 1 and node.opset < 21):       # one number a group, not a channel
        return None
    module = nn.GroupNorm(groups, scale.size, node.attrs.get("epsilon", 1e-5), affine=not _is_neutral(node, 1, 2))
    if not module.affine:
        return Layer(module, {})
    layout = "same" if scale.ndim == 1 else "flat"
    return Layer(module, {"weight": Fill(1, layout, np.ravel), "bias": Fill(2, layout, np.ravel)})


def InstanceNormalization(node: NodeView) -> Layer | None:
    scale = node.weights[1]
    if scale is None or node.weights[2] is None or node.rank not in (3, 4, 5):
        return None
    affine = not _is_neutral(node, 1, 2)
    module = getattr(nn, f"InstanceNorm{node.rank - 2}d")(len(scale), node.attrs.get("epsilon", 1e-5), affine=affine)
    return Layer(module, {"weight": Fill(1), "bias": Fill(2)} if affine else {})


def _recurrent(node: NodeView) -> Layer | None:
    a, w, r = node.attrs, node.weights[1], node.weights[2]
    usual = {"RNN": (["Tanh"], ["Relu"]), "LSTM": (["Sigmoid", "Tanh", "Tanh"],), "GRU": (["Sigmoid", "Tanh"],)}[node.op]
    directions = 2 if a.get("direction", "forward") == "bidirectional" else 1
    activations = a.get("activations") or usual[0] * directions
    peepholes = len(node.inputs) > 7 and node.inputs[7]
    if (w is None or r is None or a.get("direction", "forward") == "reverse" or a.get("clip") or a.get("input_forget")
            or peepholes or activations not in [u * directions for u in usual]
            or (node.op == "GRU" and not a.get("linear_before_reset"))):
        return None
    bias = len(node.inputs) > 3 and bool(node.inputs[3])
    if bias and node.weights[3] is None:
        return None
    options = {"nonlinearity": activations[0].lower()} if node.op == "RNN" else {}
    module = getattr(nn, node.op)(w.shape[2], r.shape[2], bias=bias, bidirectional=directions == 2, **options)
    fills: dict[str, Fill] = {}
    for d, suffix in enumerate(["_l0", "_l0_reverse"][:directions]):
        def part(values, d=d):
            return reorder_gates(values[d], node.op)

        def input_bias(values, d=d):
            return reorder_gates(np.split(values[d], 2)[0], node.op)

        def hidden_bias(values, d=d):
            return reorder_gates(np.split(values[d], 2)[1], node.op)
        fills |= {"weight_ih" + suffix: Fill(1, f"gates {d}", part), "weight_hh" + suffix: Fill(2, f"gates {d}", part)}
        if bias:
            fills |= {"bias_ih" + suffix: Fill(3, f"input bias {d}", input_bias),
                      "bias_hh" + suffix: Fill(3, f"hidden bias {d}", hidden_bias)}
    call = functools.partial(run_recurrent, layout=a.get("layout", 0), outputs=node.outputs)
    dynamic = [0, *range(4, len(node.inputs))]
    return Layer(module, fills, dynamic, call)


RNN = LSTM = GRU = _recurrent

_BUILDERS = {f.__name__: f for f in (Conv, ConvTranspose, Gemm, MatMul, Gather, BatchNormalization, LayerNormalization,
                                    RMSNormalization, GroupNormalization, InstanceNormalization)}
_BUILDERS |= dict.fromkeys(("RNN", "LSTM", "GRU"), _recurrent)


def builder_of(op_type: str, domain: str) -> Callable[[NodeView], Layer | None] | None:
    """The function that makes a layer of an operator, if there is one."""
    return _BUILDERS.get(op_type) if domain in DOMAINS else None
