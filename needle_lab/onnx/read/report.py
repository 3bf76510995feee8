"""What is in an ONNX file, told without running it: `ndl.onnx.inspect(path)`, `needle-lab inspect FILE`."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx

from ...errors import NeedleError
from ...untrusted import printable
from ..operators import table
from ..values import numpy_dtype
from . import reader
from .importer import all_graphs, all_nodes, is_supported, with_functions_inlined
from .model import OnnxModule


@dataclass
class Value:
    """An input or output: shape has numbers, names of free lengths, or "?"; None if the rank is unknown."""

    name: str
    dtype: str
    shape: list[int | str] | None

    def __str__(self) -> str:
        shape = "(unknown shape)" if self.shape is None else f"({', '.join(map(str, self.shape))})"
        return f"{self.name}: {self.dtype} {shape}"


@dataclass
class OnnxReport:
    """See `inspect`.

    weights, parameters, bytes: how many tensors the file holds (in Constant nodes too), their numbers, their size.
    attributes: op -> attribute -> the values it takes. notes: what the import says of shared and missing parameters.
    problem: why the model cannot be imported, or "".
    """

    producer: str
    ir_version: int
    opsets: dict[str, int]
    inputs: list[Value]
    outputs: list[Value]
    operators: dict[str, int]
    unsupported: list[str]
    weights: int
    parameters: int
    bytes: int
    attributes: dict[str, dict[str, list]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        opsets = ", ".join(f"{domain} {version}" for domain, version in self.opsets.items())
        rows = [f"producer    {self.producer or 'unknown'}", f"opset       {opsets}   (IR {self.ir_version})"]
        rows += [f"{'input' if i == 0 else '':<11} {v}" for i, v in enumerate(self.inputs)]
        rows += [f"{'output' if i == 0 else '':<11} {v}" for i, v in enumerate(self.outputs)]
        rows += [f"weights     {self.parameters:,} numbers in {self.weights} tensors, {self.bytes / 2**20:.2f} MiB",
                 f"operators   {sum(self.operators.values())} nodes of {len(self.operators)} kinds"]
        for op, count in sorted(self.operators.items(), key=lambda item: (-item[1], item[0])):
            notes = "; ".join(f"{name} {_range(values)}" for name, values in sorted(self.attributes.get(op, {}).items()))
            mark = "  NOT SUPPORTED" if op in self.unsupported else ""
            rows.append(f"  {count:>5}  {op:<22} {notes}{mark}".rstrip())
        if self.unsupported:
            rows.append(f"not supported: {', '.join(self.unsupported)}; the model cannot be imported yet")
        else:
            rows.append("every operator is supported")
            if self.problem:
                rows.append(f"the model cannot be imported: {self.problem}")
        rows += [f"note: {note}" for note in self.notes]
        return printable("\n".join(rows), lines=True)


def inspect(source: str | os.PathLike | bytes | onnx.ModelProto, try_import: bool = True) -> OnnxReport:
    """Opsets, producer, inputs and outputs, operator counts, the range of each attribute, weights, what is supported.

    try_import: where every operator is supported, also import the model (not run it), for what the import has to say.
    Works on models that cannot be executed.  Raises MissingFileError or FileFormatError for what is no ONNX model.
    """
    original = reader.read_model(source, executable=False)
    model = with_functions_inlined(original)
    graph, opsets = model.graph, reader.opsets_of(model)
    initializers = {t.name for t in graph.initializer}
    tensors = [t for g in all_graphs(graph) for t in g.initializer]
    tensors += [a.t for node in all_nodes(graph) if node.op_type == "Constant" for a in node.attribute if a.HasField("t")]
    operators: Counter[str] = Counter()
    attributes: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    unsupported = set()
    for node in all_nodes(graph):
        label = f"{node.domain}::{node.op_type}" if node.domain not in table.DOMAINS else node.op_type
        operators[label] += 1
        if not is_supported(node, opsets):
            unsupported.add(label)
        for a in node.attribute:
            if a.type in (a.INT, a.FLOAT, a.STRING, a.INTS, a.FLOATS):
                value = onnx.helper.get_attribute_value(a)
                value = value.decode("utf-8", "replace") if isinstance(value, bytes) else \
                    [_shortest(v) for v in value] if a.type in (a.INTS, a.FLOATS) else _shortest(value)
                if value not in attributes[label][a.name]:
                    attributes[label][a.name].append(value)
    sizes = [math.prod(t.dims) for t in tensors]
    notes, problem = _imported(original) if try_import and not unsupported else ([], "")
    return OnnxReport(
        f"{model.producer_name} {model.producer_version}".strip(), model.ir_version,
        {o.domain or "ai.onnx": o.version for o in model.opset_import},
        [_value(v) for v in graph.input if v.name not in initializers], [_value(v) for v in graph.output],
        dict(operators), sorted(unsupported), len(tensors), sum(sizes),
        sum(n * numpy_dtype(t.data_type).itemsize for n, t in zip(sizes, tensors, strict=True)),
        {op: dict(values) for op, values in attributes.items()}, notes, problem)


def _imported(model: onnx.ModelProto) -> tuple[list[str], str]:
    """What an import has to say, and why there is none."""
    try:
        return list(OnnxModule(model).import_notes), ""
    except NeedleError as error:
        return [], str(error)


def _value(info: onnx.ValueInfoProto) -> Value:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        return Value(info.name, info.type.WhichOneof("value") or "unknown", None)
    shape = [d.dim_param or (d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else "?") for d in kind.shape.dim]
    return Value(info.name, str(numpy_dtype(kind.elem_type)), shape if kind.HasField("shape") else None)


def _shortest(value: Any) -> Any:
    """A float as the file means it: stored as float32, 1e-05 comes back as 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _range(values: list) -> str:
    """One value as it is; numbers, and lists of one length place by place, as their range; others by count."""
    if len(values) == 1:
        return str(values[0])
    if all(isinstance(v, (int, float)) for v in values):
        return f"{min(values):g}..{max(values):g}"
    if all(isinstance(v, list) and v and isinstance(v[0], (int, float)) for v in values) and len(set(map(len, values))) == 1:
        low, high = ([f"{end(column):g}" for column in zip(*values, strict=True)] for end in (min, max))
        return f"[{', '.join(low)}]..[{', '.join(high)}]"
    return f"{len(values)} values, such as {values[0]}"
