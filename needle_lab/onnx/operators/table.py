"""The one table of ONNX operators: name -> {first opset version: function}.

A function is named after its operator; positional parameters are the ONNX inputs (None for an absent one), keyword-only
parameters the ONNX attributes with their defaults. What was an attribute in an old opset and is an input in a new one
(axes of Squeeze) is found by its name either way. The function for a model is the latest that is not newer than the
model's opset.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import Tensor
from ...errors import UnsupportedOnnxError
from ..limits import limits

TABLE: dict[str, dict[int, Callable]] = {}
DOMAINS = ("", "ai.onnx")


def since(version: int, domain: str = ""):
    """Enter a function into the table for all opsets from `version` on; `Softmax_1` is another version of Softmax."""
    def enter(function: Callable) -> Callable:
        name, _, suffix = function.__name__.rpartition("_")
        name = name if suffix.isdigit() else function.__name__
        TABLE.setdefault(f"{domain}::{name}" if domain else name, {})[version] = function
        return function
    return enter


def find(op_type: str, domain: str, opsets: dict[str, int]) -> Callable | None:
    """The function for an operator at the model's opset version of its domain, or None."""
    own = domain in DOMAINS
    versions = TABLE.get(op_type if own else f"{domain}::{op_type}", {})
    known = [v for v in versions if v <= opsets.get("" if own else domain, 1)]
    return versions[max(known)] if known else None


def supported() -> list[str]:
    """The names of all operators in the table."""
    return sorted(TABLE)


def call(function: Callable, inputs: list, attributes: dict[str, Any], count: int, name: str):
    """Call a convert function on values and attributes; `count` is how many outputs the node has."""
    parameters = inspect.signature(function).parameters
    extra = {"outputs": count} if "outputs" in parameters else {}
    unknown = [a for a in attributes if a not in parameters]
    if unknown:
        raise UnsupportedOnnxError(f"{name}: attribute {unknown[0]}={attributes[unknown[0]]!r} is not supported; "
                                   f"known are {', '.join(parameters)}")
    limits.check_broadcast(name, inputs)
    return function(*inputs, **attributes, **extra)


# --- helpers of the convert functions ----------------------------------------------------------------------------------


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
