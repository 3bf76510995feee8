"""From a module or function to an ONNX file, by way of its Program: what it does on example inputs.

    program     the model as data: its ops, the module that made each of them, lengths that follow from the inputs
    emit, operators    what each op, and what each layer that ONNX knows as a whole, is in ONNX
    writer      names, nodes and initialisers as they come to be
    tidy        several nodes that are one operator
    saving      the check, the file, and a second file for large weights

Weights are initialisers under their paths, and every node says in which module it was made, so an exported file reads
like the model and comes back as the same tree.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import ArgumentError, GraphError, NeedleError, UnsupportedOnnxError
from ...nn import Module
from ...program.lengths import Length
from ...program.program import Program
from ...program.record import Axes, NotRecorded, Recording, agree, named_axes, record
from ...program.values import Value
from ..read.model import OnnxModule
from . import saving
from .tidy import tidy
from .writer import Writer, is_one_operator

OPSET = 20
OLDEST = 13


def export(model: Module | Callable, example_inputs: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
           path: str | os.PathLike | None = None, *, opset: int = OPSET,
           dynamic_axes: dict[str, Any] | None = None, names: dict[str, Sequence[str]] | None = None,
           input_names: Sequence[str] | None = None, output_names: Sequence[str] | None = None,
           external_data: bool | None = None) -> onnx.ModelProto:
    """Write a module or a function of tensors as an ONNX model, checked by ONNX's own full check.

    The model runs in evaluation mode on example_inputs (one array or tensor, or a sequence of them); control flow is
    written as it ran. path=None only returns the model; an existing file is replaced at once or not at all.

    opset: 13 to the newest that the package onnx knows; what an older opset lacks is written by its parts.
    dynamic_axes: {"input": {0: "batch"}} names the lengths that may vary (equal names: equal lengths), or
        {"input": [0]}. The model then runs at other sizes too: what differs is measured when the file runs, and the
        file is tried at those sizes. What cannot vary is refused.
    names: {"inputs": [...], "outputs": [...]}, either one; or input_names and output_names, as in torch.onnx.export. By
        default an import keeps its names; else "input" and "output", numbered where there are several.
    external_data: True puts the weights into `path`.data beside the model, False does not, None does from 2 GiB on.

    Raises ArgumentError for arguments that do not fit one another, GraphError for a value that leaves the graph,
    UnsupportedOnnxError for what ONNX (or the opset) cannot say, StorageError for what the file system refuses.
    """
    if not callable(model):
        raise ArgumentError(f"export: a module or a function of tensors is needed, got {type(model).__name__}")
    inputs = as_tensors(example_inputs, "example_inputs")
    check_opset(opset)
    named, results = names_of(model, len(inputs), names, input_names, output_names)
    axes = dynamic(dynamic_axes or {}, named, inputs, results)
    recording = recorded(model, model, named, inputs, axes)
    program = recording.program
    unread = unread_inputs(program)
    if unread:
        raise UnsupportedOnnxError(f"export: the result does not depend on {unread[0]!r} through recorded ops")
    results = numbered(results, len(program.results), named)
    writer = Writer(model, opset, {*named, *results})
    proto = saving.model_of(graph_of(writer, program, named, results, axes), opset)
    for given, expected in recording.runs[1:]:
        check_size(proto, named, given, expected)
    if path is not None:
        saving.write(proto, path, external_data)
    elif external_data:
        raise ArgumentError("export: external_data=True needs a path, beside which the weights are written")
    return proto


def graph_of(writer: Writer, program: Program, names: list[str], results: list[str], axes: Axes) -> onnx.GraphProto:
    """The written graph, with its inputs and outputs declared."""
    writer.names.update(zip(program.inputs, names, strict=True))
    writer.write(program)
    for y, name in zip(program.results, results, strict=True):
        writer.Identity(y, output=name)
    tidy(writer, results)
    symbols = {x.shape[axis]: symbol for x, name in zip(program.inputs, names, strict=True)
               for axis, symbol in axes.get(name, {}).items()}
    declared = [_declared(name, x, symbols, axes) for name, x in zip(names, program.inputs, strict=True)]
    made = [_declared(name, y, symbols, axes) for name, y in zip(results, program.results, strict=True)]
    return helper.make_graph(writer.nodes, "needle_lab", declared, made, list(writer.initializers.values()))


def _declared(name: str, x: Value, symbols: dict[int, str], axes: Axes) -> onnx.ValueInfoProto:
    """The declaration of an input or output; a length that varies is a symbol if it is an input's, else open."""
    own = axes.get(name, {})
    shape = [(symbols.get(n) or own.get(i)) if isinstance(n, Length) else n for i, n in enumerate(x.shape)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), shape)


def recorded(call: Callable, model: Module | Callable, names: list[str], inputs: list[Tensor], axes: Axes, **options: Any
             ) -> Recording:
    """The program, in which a layer that ONNX knows as a whole is one call."""
    of_inputs = {name: of for name, of in axes.items() if name in names}
    try:
        return record(call, model, names, inputs, of_inputs, whole=is_one_operator, **options)
    except NotRecorded:                                              # a value left, random numbers: no file can say that
        raise
    except GraphError as error:                                      # a length that cannot vary
        raise UnsupportedOnnxError(f"export: {str(error).removeprefix('trace: ')}") from error


def unread_inputs(program: Program) -> list[str]:
    """The inputs on which no output depends."""
    read = {*(v for call in program.calls for v in call.reads()), *program.results}
    return [v.name for v in program.inputs if v not in read]

# --- arguments ----------------------------------------------------------------------------------------------------------


def as_tensors(given: Any, what: str) -> list[Tensor]:
    """Examples as tensors without a history."""
    given = given if isinstance(given, (list, tuple)) else [given]
    if not given:
        raise ArgumentError(f"export: {what} is empty; give one example for each input of the model")
    for x in given:
        if not isinstance(x, (Tensor, np.ndarray, np.generic, int, float)):
            raise ArgumentError(f"export: {what} are tensors or numpy arrays, got {type(x).__name__}")
    return [x.detach().clone() if isinstance(x, Tensor) else Tensor(np.array(x)) for x in given]


def check_opset(opset: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    if not isinstance(opset, int) or not OLDEST <= opset <= newest:
        raise ArgumentError(f"export: opset={opset!r}; {OLDEST} to {newest} can be written (onnx {onnx.__version__})")


def names_of(model: Any, count: int, names: dict | None, inputs: Sequence[str] | None,
           outputs: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Names of the inputs, and those given for the outputs."""
    names = {} if names is None else names
    if not isinstance(names, dict) or set(names) - {"inputs", "outputs"}:
        raise ArgumentError(f"export: names={names!r}; it is {{\"inputs\": [...], \"outputs\": [...]}}, either one")
    for kind, other in (("inputs", inputs), ("outputs", outputs)):
        if kind in names and other is not None:
            raise ArgumentError(f"export: the {kind} are named twice, by names and by {kind[:-1]}_names")
    wanted = names.get("inputs", inputs)
    results = names.get("outputs", outputs)
    if isinstance(model, OnnxModule):                  # what came in by a name goes out by it
        wanted, results = wanted or model.input_names, results or model.output_names
    default = ["input"] if count == 1 else [f"input_{i}" for i in range(count)]
    named = default if wanted is None else _texts("inputs", wanted)
    if len(named) != count:
        raise ArgumentError(f"export: {count} inputs need as many names, got {named}")
    results = [] if results is None else _texts("outputs", results)
    twice = [name for name in named + results if (named + results).count(name) > 1]
    if twice:
        raise ArgumentError(f"export: the name {twice[0]!r} is given twice")
    return named, results


def _texts(kind: str, names: Any) -> list[str]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(f"export: the names of the {kind} are a list of texts, got {names!r}")
    return list(names)


def numbered(results: list[str], count: int, taken: list[str]) -> list[str]:
    """Names for all outputs: the given ones, then "output", or "output_1" where there are several."""
    if len(results) > count:
        raise ArgumentError(f"export: the model has {count} outputs, {len(results)} are named: {', '.join(results)}")
    results = list(results)
    for i in range(len(results), count):
        name = "output" if count == 1 else f"output_{i}"
        while name in taken or name in results:
            name += "_"
        results.append(name)
    return results


def dynamic(given: dict[str, Any], names: list[str], inputs: list[Tensor], results: list[str]) -> Axes:
    """dynamic_axes with a name for every axis; those of outputs follow from the inputs' and only lend names."""
    made = {} if not isinstance(given, dict) else {
        name: of for name, of in given.items() if name not in names and (name in results or name.startswith("output"))}
    inner = {name: of for name, of in given.items() if name not in made} if made else given
    axes = named_axes(inner, names, inputs, "export: dynamic_axes")
    return axes | {name: of if isinstance(of, dict) else {axis: f"{name}_{axis}" for axis in of}
                   for name, of in made.items()}


def check_size(proto: onnx.ModelProto, names: list[str], inputs: list[Tensor], expected: list[Tensor]) -> None:
    """The file, at another size than the example's, gives what the model gave there."""
    shapes = ", ".join(f"{name} {x.shape}" for name, x in zip(names, inputs, strict=True))
    try:
        with no_grad():
            found = OnnxModule(proto)(**dict(zip(names, inputs, strict=True)))
    except NeedleError as error:
        raise UnsupportedOnnxError(f"export: the file would not run at {shapes}; leave an axis out of dynamic_axes: "
                                   f"{error}") from error
    for y, e in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        if not agree(y, e):
            raise UnsupportedOnnxError(f"export: at {shapes} the file would give {y.shape} where the model gives "
                                       f"{e.shape}, or other values; leave an axis out of dynamic_axes")
