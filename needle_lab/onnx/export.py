"""From a module or function to an ONNX file, by running it on example inputs and writing down what it did.

    tracing     one run: the nodes of the graph, and the module that made each of them
    lengths     runs at several sizes: which numbers follow from the sizes of the inputs
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

from ..core import graph
from ..core.dtypes import is_floating
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, NeedleError, UnsupportedOnnxError
from ..nn import Module
from . import saving, tracing
from .check import FAULTS
from .lengths import Length, Runs
from .model import OnnxModule
from .operators import is_one_operator
from .tidy import tidy
from .tracing import Trace
from .writer import Writer

OPSET = 20
OLDEST = 13

Axes = dict[str, dict[int, str]]


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

    Raises ArgumentError for arguments that do not fit one another, UnsupportedOnnxError for what ONNX (or the opset)
    cannot say, StorageError for what the file system refuses.
    """
    if not callable(model):
        raise ArgumentError(f"export: a module or a function of tensors is needed, got {type(model).__name__}")
    inputs = as_tensors(example_inputs, "example_inputs")
    check_opset(opset)
    named, results = names_of(model, len(inputs), names, input_names, output_names)
    axes = dynamic(dynamic_axes or {}, named, inputs, results)
    modules = tracing.modules_of(model)

    def run(examples: Sequence[Tensor]) -> Trace:
        return tracing.run(model, modules, examples, is_one_operator)
    base = run(inputs)
    unread = base.unread()
    if unread:
        raise UnsupportedOnnxError(f"export: the result does not depend on {named[unread[0]]!r} through recorded ops; "
                                   "was its value taken out as a number or a numpy array?")
    results = numbered(results, len(base.outputs), named)
    refuse_values_taken_out(run, base)
    runs = Runs([base, *at_other_sizes(run, inputs, named, axes)])
    writer = Writer(model, opset, {*named, *results})
    g = graph_of(writer, runs, named, results, axes)
    proto = saving.model_of(g, opset)
    for trace in runs.traces[1:]:
        check_size(proto, named, trace)
    if path is not None:
        saving.write(proto, path, external_data)
    elif external_data:
        raise ArgumentError("export: external_data=True needs a path, beside which the weights are written")
    return proto


def graph_of(writer: Writer, runs: Runs, names: list[str], results: list[str], axes: Axes) -> onnx.GraphProto:
    """The written graph, with its inputs and outputs declared."""
    trace = runs.traces[0]
    for x, name in zip(trace.inputs, names, strict=True):
        writer.names[graph.key_of(x)] = name
    writer.write(runs)
    for y, name in zip(trace.outputs, results, strict=True):
        writer.emit("Identity", [writer.name(y)], output=name)
    tidy(writer, results)
    symbols = {runs.shape(x)[axis]: symbol for x, name in zip(trace.inputs, names, strict=True)
               for axis, symbol in axes.get(name, {}).items()}
    declared = [_declared(name, x, runs, symbols, axes) for name, x in zip(names, trace.inputs, strict=True)]
    made = [_declared(name, y, runs, symbols, axes) for name, y in zip(results, trace.outputs, strict=True)]
    return helper.make_graph(writer.nodes, "needle_lab", declared, made, list(writer.initializers.values()))


def _declared(name: str, x: Tensor, runs: Runs, symbols: dict[int, str], axes: Axes) -> onnx.ValueInfoProto:
    """The declaration of an input or output; a length that varies is a symbol if it is an input's, else open."""
    own = axes.get(name, {})
    shape = [(symbols.get(n) or own.get(i)) if isinstance(n, Length) else n for i, n in enumerate(runs.shape(x))]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), shape)

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
    if not isinstance(given, dict) or not all(isinstance(of, (dict, list, tuple)) for of in given.values()):
        raise ArgumentError(f"export: dynamic_axes={given!r}; it is {{\"{names[0]}\": {{0: \"batch\"}}}}, the axes of each "
                            "input by number, with a name each")
    axes: Axes = {}
    lengths: dict[str, int] = {}
    for name, of in given.items():
        chosen = of if isinstance(of, dict) else {axis: f"{name}_{axis}" for axis in of}
        if name not in names:
            if name in results or name.startswith("output"):
                axes[name] = chosen
                continue
            raise ArgumentError(f"export: dynamic_axes names {name!r}; the inputs are {', '.join(names)}")
        x = inputs[names.index(name)]
        for axis, symbol in chosen.items():
            if not isinstance(axis, int) or not -x.ndim <= axis < x.ndim:
                raise ArgumentError(f"export: dynamic_axes of {name!r} names axis {axis!r}; its example has shape {x.shape}")
            n = x.shape[axis]
            if lengths.setdefault(symbol, n) != n:
                raise ArgumentError(f"export: dynamic_axes calls both a length of {lengths[symbol]} and one of {n} "
                                    f"{symbol!r}; lengths of one name are equal")
            if n < 1:
                raise ArgumentError(f"export: axis {axis} of {name!r} has length 0 in the example; give one with values")
            axes.setdefault(name, {})[axis % x.ndim] = symbol
    return axes

# --- runs ---------------------------------------------------------------------------------------------------------------


Run = Callable[[Sequence[Tensor]], Trace]


def refuse_values_taken_out(run: Run, base: Trace) -> None:
    """The model runs once more on other values: a constant that changed with them was computed from the inputs.

    A model that does other things then, or refuses them, has control flow that depends on values: it is written as it
    ran.
    """
    others = []
    for x in base.inputs:
        values = np.roll(x.numpy().reshape(-1), 1).reshape(x.shape)          # integers stay valid as indices
        if is_floating(x.dtype):                                             # and signs and zeros what they are
            values = values * np.linspace(0.5, 0.75, x.size).astype(x.dtype).reshape(x.shape)
        others.append(Tensor(values))
    try:
        runs = Runs([base, run(others)])
    except (NeedleError, *FAULTS):
        return
    if runs.differ:
        raise UnsupportedOnnxError("export: a value computed from the inputs was taken out of the graph, as a number or a "
                                   "numpy array (.item(), .numpy(), .tolist()); the file would repeat that of the example")


def at_other_sizes(run: Run, inputs: list[Tensor], names: list[str], axes: Axes) -> list[Trace]:
    """A run for each dynamic length with that length changed, and one with all of them changed."""
    symbols = sorted({symbol for name in names for symbol in axes.get(name, {}).values()})
    traces, works = [], {}
    for symbol in symbols:
        for change in (1, -1):
            try:
                traces.append(run(_resized(inputs, names, axes, {symbol: change})))
            except (NeedleError, *FAULTS) as error:
                if change == -1 or isinstance(error, UnsupportedOnnxError):
                    raise UnsupportedOnnxError(f"export: the model does not run with {symbol!r} one more or less than in "
                                               f"the example: {error}") from error
                continue
            works[symbol] = change
            break
    if len(symbols) > 1:
        traces.append(run(_resized(inputs, names, axes, works)))
    return traces


def _resized(inputs: list[Tensor], names: list[str], axes: Axes, changes: dict[str, int]) -> list[Tensor]:
    """The examples with values repeated, or left out at the end."""
    made = []
    for x, name in zip(inputs, names, strict=True):
        array = x.numpy()
        for axis, symbol in axes.get(name, {}).items():
            n = array.shape[axis]
            array = np.take(array, np.arange(max(n + changes.get(symbol, 0), 1)) % n, axis)
        made.append(Tensor(array.copy()))
    return made


def check_size(proto: onnx.ModelProto, names: list[str], trace: Trace) -> None:
    """The file, at another size than the example's, gives what the model gave there."""
    shapes = ", ".join(f"{name} {x.shape}" for name, x in zip(names, trace.inputs, strict=True))
    with no_grad():
        try:
            found = OnnxModule(proto)(**dict(zip(names, trace.inputs, strict=True)))
        except NeedleError as error:
            raise UnsupportedOnnxError(f"export: the file would not run at {shapes}; leave an axis out of dynamic_axes: "
                                       f"{error}") from error
    for y, expected in zip(found if isinstance(found, tuple) else (found,), trace.outputs, strict=True):
        ours, theirs = (np.asarray(t.numpy(), np.float64) for t in (y, expected))
        tolerance = 1e-3 if expected.dtype.itemsize > 2 else 5e-2
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
        if ours.shape != theirs.shape or not np.allclose(ours, theirs, 0, tolerance * scale, equal_nan=True):
            raise UnsupportedOnnxError(f"export: at {shapes} the file would give {y.shape} where the model gives "
                                       f"{expected.shape}, or other values; leave an axis out of dynamic_axes")
