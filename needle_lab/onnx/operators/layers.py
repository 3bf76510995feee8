"""What the functions under `@layer_of` share: what they may look at in a node, and what they answer with.

Each looks at a node whose weights may be initialisers and answers with a `Layer`: a module of `needle_lab.nn`, which
initialiser fills which of its parameters (and in which layout), and how to call it. None means: keep the node as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import nn

_COMPUTED = re.compile(r"val_|onnx::|const_fold|constant_|p2o\.helper|.*/Constant(_\d+)?_output_0$")


def is_computed(name: str) -> bool:
    """A name under which exporters store what they computed, not what the model's author called a weight."""
    return _COMPUTED.match(name) is not None


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


def with_bias(node: NodeView, module: nn.Module, fills: dict[str, Fill], at: int = 2) -> Layer | None:
    """Add the bias, if the node has one; a bias that is computed keeps the node an operator."""
    if len(node.inputs) > at and node.inputs[at]:
        if node.weights[at] is None:
            return None
        fills["bias"] = Fill(at)
    return Layer(module, fills)


def is_neutral(node: NodeView, scale: int, bias: int) -> bool:
    """Whether an exporter wrote ones (and zeros) where the author's layer has no weights: they are no parameters."""
    for i, value in ((scale, 1), (bias, 0)):
        if i < len(node.inputs) and node.inputs[i]:
            array = node.weights[i]
            if array is None or not is_computed(node.inputs[i]) or np.any(array != value):
                return False
    return True
