"""The one table of ONNX operators: a row an operator, and all that the package knows of it in that row.

A row begins with a function named after the operator, under `@since(version)`; positional parameters are the ONNX inputs
(None for an absent one), keyword-only parameters the ONNX attributes with their defaults. What was an attribute in an old
opset and is an input in a new one (axes of Squeeze) is found by its name either way. The function for a model is the
latest that is not newer than the model's opset. Beside it stand

    @layer_of(Conv)               which layer of `needle_lab.nn` a node becomes whose weights are in the file
    @writes("convolution")        how our op is written as operators;  @writes_layer(nn.GroupNorm): a whole layer

Rules of writing take a `Writer` first, on which each operator is a method: `w.Conv(x, weight, strides=[1, 1])`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ... import Tensor, nn
from ...core.graph import Op
from ...errors import UnsupportedOnnxError
from ..limits import limits

DOMAINS = ("", "ai.onnx")


@dataclass
class Operator:
    """A row.  versions: first opset -> function.

    family: its colour in drawings ("" is shape, other). rank: how many axes its first output has, as `read.ranks` tells it.
    weights: inputs that are weights, whatever the file calls them; numbers: the input from which on it reads numbers that
    nobody trains. layer: what a node becomes whose weights are in the file (see `layers`).
    """

    name: str
    domain: str = ""
    page: str = ""
    versions: dict[int, Callable] = field(default_factory=dict)
    family: str = ""
    rank: str | int | None = None
    weights: Sequence[int] = ()
    numbers: int | None = None
    layer: Callable | None = None


TABLE: dict[str, Operator] = {}
WRITES: dict[str, Callable] = {}                       # our op -> (writer, *inputs, **attrs) -> name of the result, or names
WRITES_LAYER: dict[type[nn.Module], Callable] = {}     # our layer -> (writer, layer, *inputs) -> the same


def since(version: int, domain: str = "", *, family: str = "", rank: str | int | None = None, weights: Sequence[int] = (),
          numbers: int | None = None):
    """Enter a function into the table for all opsets from `version` on; `Softmax_1` is another version of Softmax."""
    def enter(function: Callable) -> Callable:
        name, _, suffix = function.__name__.rpartition("_")
        name = name if suffix.isdigit() else function.__name__
        row = TABLE.setdefault(f"{domain}::{name}" if domain else name, Operator(name, domain))
        row.versions[version] = function
        if not suffix.isdigit():
            row.page, row.family, row.rank = function.__module__.rpartition(".")[2], family, rank
            row.weights, row.numbers = weights, numbers
        return function
    return enter


def layer_of(operator: Callable):
    """Enter the function that makes a layer of a node of this operator: (NodeView) -> Layer, or None."""
    def enter(builder: Callable) -> Callable:
        TABLE[operator.__name__].layer = builder
        return builder
    return enter


def writes(*which: str | Op):
    """Enter how these ops are written, by their names or as they are; a user's own op too: `@ndl.onnx.writes(swish)`.

    The rule takes a `Writer`, then what the op takes, and returns the name of its result (or names):
    `lambda w, x: w.Mul(x, w.Sigmoid(x))`. Each ONNX operator is a method of the writer, its attributes keyword arguments.
    """
    def enter(rule: Callable) -> Callable:
        WRITES.update(dict.fromkeys((op.name if isinstance(op, Op) else op for op in which), rule))
        return rule
    return enter


def writes_layer(*kinds: type[nn.Module]):
    """Enter how layers of these classes are written, not op by op."""
    def enter(rule: Callable) -> Callable:
        WRITES_LAYER.update(dict.fromkeys(kinds, rule))
        return rule
    return enter


def kind_of(module: nn.Module) -> type[nn.Module]:
    """The layer whose forward the module has; a subclass that writes its own is another layer, of its own kind."""
    found = (kind for kind in type(module).__mro__ if kind in WRITES_LAYER and kind.forward is type(module).forward)
    return next(found, type(module))


def row_of(op_type: str, domain: str) -> Operator | None:
    """The row of an operator, if there is one."""
    return TABLE.get(op_type if domain in DOMAINS else f"{domain}::{op_type}")


def find(op_type: str, domain: str, opsets: dict[str, int]) -> Callable | None:
    """The function for an operator at the model's opset version of its domain, or None."""
    row = row_of(op_type, domain)
    known = [v for v in row.versions if v <= opsets.get("" if domain in DOMAINS else domain, 1)] if row else []
    return row.versions[max(known)] if row and known else None


def supported() -> list[str]:
    """The names of all operators in the table."""
    return sorted(TABLE)


def call(function: Callable, inputs: list, attributes: dict[str, Any], count: int, name: str):
    """Call an operator's function on values and attributes; `count` is how many outputs the node has."""
    parameters = inspect.signature(function).parameters
    extra = {"outputs": count} if "outputs" in parameters else {}
    unknown = [a for a in attributes if a not in parameters]
    if unknown:
        raise UnsupportedOnnxError(f"{name}: attribute {unknown[0]}={attributes[unknown[0]]!r} is not supported; "
                                   f"known are {', '.join(parameters)}")
    limits.check_broadcast(name, inputs)
    return function(*inputs, **attributes, **extra)


# --- helpers of the operators' functions ----------------------------------------------------------------------------------


def ints(value) -> tuple[int, ...] | None:
    """Axes, shapes, sizes: a tensor, a list or None -> Python integers."""
    if value is None:
        return None
    return tuple(int(v) for v in (value.numpy().reshape(-1) if isinstance(value, Tensor) else np.ravel(value)))


def scalar(value):
    """A tensor with one value, or a number -> a Python number."""
    return value.item() if isinstance(value, Tensor) else value


def number(value):
    """A Python number where no gradient is wanted of it; a tensor that requires one stays a tensor."""
    return value if isinstance(value, Tensor) and value.requires_grad else scalar(value)


def is_true(flag) -> bool:
    return bool(int(flag))
