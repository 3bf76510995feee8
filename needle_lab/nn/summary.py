"""The summary of a module: its tree with types, output shapes and parameter counts, for text, JSON and widgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..untrusted import printable
from .modes import evaluating
from .parameter import Buffer, Parameter

if TYPE_CHECKING:
    from .module import Module

MIB = 2**20


@dataclass(frozen=True)
class SummaryRow:
    """One module or container.  parameters: everything in and below it, a shared one once, at its first path."""

    path: str
    name: str
    type: str
    depth: int
    output: Any                  # shape, or a nest of shapes; None without an input or where forward did not pass
    parameters: int
    share: float                 # of all parameters, 0 to 1
    shared_with: str | None      # first path of a module that is held twice


@dataclass(frozen=True)
class Summary:
    """Rows in pre-order and totals.  str() is the table, to_json() the same as plain values."""

    rows: list[SummaryRow]
    parameters: int
    trainable: int
    buffers: int                 # values in buffers
    nbytes: int                  # of parameters and buffers

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"parameters": self.parameters, "trainable": self.trainable, "buffers": self.buffers,
                "nbytes": self.nbytes, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        with_shapes = any(row.output is not None for row in self.rows)
        table = [("module", "output shape", "parameters", "share (%)")]
        for row in self.rows:
            label = printable(f"{row.name}: {row.type}" if row.name else row.type)
            if row.shared_with is not None:
                label += f" (the same as {row.shared_with})"
            numbers = f"{row.parameters:,}", f"{100 * row.share:.1f}"
            table.append(("  " * row.depth + label, _words(row.output), *numbers))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for module, output, parameters, share in table:
            middle = f"   {output:<{widths[1]}}" if with_shapes else ""
            lines.append(f"{module:<{widths[0]}}{middle}   {parameters:>{widths[2]}}   {share:>{widths[3]}}")
        lines.insert(1, "-" * len(lines[0]))
        return "\n".join([*lines, lines[1], f"{self.parameters:,} parameters, {self.trainable:,} trainable; "
                          f"{self.buffers:,} values in buffers; {self.nbytes / MIB:.2f} MiB"])

    __repr__ = __str__


def summary(module: Module, x: Any = None) -> Summary:
    """The tree of `module`; with an input, the output shapes too.

    x: a tensor, a tuple of inputs, or a shape such as (1, 3, 32, 32), for which zeros are made. The forward runs in
    evaluation mode and records nothing: parameters, buffers and modes are as before.
    """
    shapes = {} if x is None else _output_shapes(module, x)
    entries = list(module.walk())
    counts: dict[str, int] = {}
    for path, value, first in entries:
        if isinstance(value, Parameter) and path == first:
            while path:
                path = path.rpartition(".")[0]
                counts[path] = counts.get(path, 0) + value.numel()
    total = counts.get("", 0)
    rows = [SummaryRow(path, path.rpartition(".")[2], type(value).__name__, path.count(".") + 1 if path else 0,
                       shapes.get(id(value)), counts.get(path, 0), counts.get(path, 0) / total if total else 0.0,
                       first if first != path else None)
            for path, value, first in entries if not isinstance(value, Tensor)]
    parameters, buffers = list(module.parameters()), list(module.buffers())
    return Summary(rows, total, sum(p.numel() for p in parameters if p.requires_grad), sum(b.numel() for b in buffers),
                   sum(tensor.nbytes for tensor in [*parameters, *buffers]))


def _output_shapes(module: Module, x: Any) -> dict[int, Any]:
    """id(module) -> shape of its first output."""
    shapes: dict[int, Any] = {}
    with ExitStack() as stack, evaluating(module):
        for m in module.modules():
            stack.enter_context(m.register_forward_hook(_recorder(shapes)))
        module(*_inputs(module, x))
    return shapes


def _recorder(shapes: dict[int, Any]) -> Callable[..., Any]:
    def record(m: Module, _args: tuple[Any, ...], output: Any) -> None:
        shapes.setdefault(id(m), _shape(output))
    return record


def _inputs(module: Module, x: Any) -> tuple[Any, ...]:
    if isinstance(x, Tensor):
        return (x,)
    if isinstance(x, np.ndarray):
        return (Tensor(x),)
    if isinstance(x, (tuple, list)) and x and all(type(n) is int for n in x):
        device = next((value.device for _, value, _ in module.walk() if isinstance(value, (Parameter, Buffer))), None)
        return (Tensor(np.zeros(x, np.float32), device=device),)
    if isinstance(x, (tuple, list)):
        return tuple(x)
    raise ArgumentError(f"summary: x is a tensor, a tuple of inputs, or a shape such as (1, 3, 32, 32); got {x!r}")


def _shape(output: Any) -> Any:
    if isinstance(output, Tensor):
        return list(output.shape)
    if isinstance(output, (tuple, list)):
        return [_shape(item) for item in output]
    if isinstance(output, dict):
        return {str(name): _shape(item) for name, item in output.items()}
    return None


def _words(shape: Any) -> str:
    if shape is None:
        return ""
    if isinstance(shape, list) and all(type(n) is int for n in shape):
        return str(tuple(shape))
    return json.dumps(shape)
