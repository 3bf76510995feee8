"""What a file must be before anything of it is built or run: shallow, free of recursion, and true to the operators.

Checks walk with a stack of their own, so that no nesting is too deep for them; the libraries called afterwards recurse.
"""

from __future__ import annotations

import contextlib
import functools
import graphlib
from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError, Message

from ...errors import FileFormatError, NeedleError, UnsupportedOnnxError
from ..limits import limits
from ..operators.table import TABLE

# What numpy, Python, protobuf and onnx raise when a file asks for something impossible.
FAULTS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError, RuntimeError, StopIteration)
LIBRARY_FAULTS = (*FAULTS, DecodeError, EncodeError, onnx.checker.ValidationError,
                  onnx.shape_inference.InferenceError, onnx.defs.SchemaError)


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever the libraries raise inside becomes a FileFormatError about `what`."""
    try:
        yield
    except NeedleError:
        raise
    except LIBRARY_FAULTS as error:
        raise FileFormatError(f"{what}: {type(error).__name__}: {error}") from error

# --- structure: safe to hand to the libraries ---------------------------------------------------------------------------


def check_structure(model: onnx.ModelProto) -> None:
    """FileFormatError for graphs or functions too deep, recursive functions, and an expansion that is too long."""
    _check_depth(model.graph, "the graph")
    _check_text(model)
    functions = {_key(f): f for f in model.functions}
    if len(functions) != len(model.functions):
        raise FileFormatError("two functions of the model have the same name")
    for function in model.functions:
        _check_depth(function, f"the function {function.name!r}")
    expanded: dict[tuple, tuple[int, int]] = {}                        # function -> (nodes, depth) when expanded
    for function in _callees_first(functions):
        expanded[_key(function)] = _expanded(function, expanded)
    nodes, depth = _expanded(model.graph, expanded)
    if depth > limits.nesting:
        raise FileFormatError(f"functions call one another {depth} deep, the limit is {limits.nesting} "
                              "(ndl.onnx.limits.nesting)")
    if nodes > limits.nodes:
        raise FileFormatError(f"the functions expand to {nodes:,} nodes, the limit is {limits.nodes:,} "
                              "(ndl.onnx.limits.nodes)")


def nodes_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterable[tuple[onnx.NodeProto, int]]:
    """All nodes, those of inner graphs included, and how deep they stand."""
    stack = [(graph, 0)]
    while stack:
        inner, depth = stack.pop()
        for node in inner.node:
            yield node, depth
            for attribute in node.attribute:
                stack += [(g, depth + 1) for g in ([attribute.g] if attribute.HasField("g") else [])]
                stack += [(g, depth + 1) for g in attribute.graphs]


def _check_depth(graph: onnx.GraphProto | onnx.FunctionProto, what: str) -> None:
    for node, depth in nodes_of(graph):
        if depth > limits.nesting:
            raise FileFormatError(f"{what} holds graphs inside graphs, more than {limits.nesting} deep, at {node.op_type} "
                                  f"{node.name!r} (ndl.onnx.limits.nesting)")


def _check_text(model: onnx.ModelProto) -> None:
    """protobuf hands text that is not UTF-8 over as bytes, which would be found to be no name much later."""
    for message in messages_in(model):
        for field, value in message.ListFields():
            texts = (value if field.is_repeated else [value]) if field.type == field.TYPE_STRING else ()
            if any(isinstance(text, bytes) for text in texts):
                raise FileFormatError(f"the {field.name} {value!r} of a {type(message).__name__} is not UTF-8 text")


def _key(item: onnx.FunctionProto | onnx.NodeProto) -> tuple[str, str, str]:
    name = item.op_type if isinstance(item, onnx.NodeProto) else item.name
    return "" if item.domain == "ai.onnx" else item.domain, name, item.overload


def _callees_first(functions: dict[tuple, onnx.FunctionProto]) -> list[onnx.FunctionProto]:
    """The functions, each after those that it calls.  FileFormatError where one calls itself, directly or not."""
    calls = {key: {_key(n) for n, _ in nodes_of(f)} & functions.keys() for key, f in functions.items()}
    try:
        return [functions[key] for key in graphlib.TopologicalSorter(calls).static_order()]
    except graphlib.CycleError as error:
        names = " -> ".join(repr(key[1]) for key in error.args[1][:5])
        raise FileFormatError(f"a function calls itself, directly or through others ({names}): a model cannot be "
                              "recursive") from error


def _expanded(graph: onnx.GraphProto | onnx.FunctionProto, known: dict[tuple, tuple[int, int]]) -> tuple[int, int]:
    sizes = [known.get(_key(node), (1, 0)) for node, _ in nodes_of(graph)]
    return sum(n for n, _ in sizes), 1 + max((d for _, d in sizes), default=0)

# --- meaning: the file can be executed ----------------------------------------------------------------------------------


def check_meaning(model: onnx.ModelProto) -> None:
    """Versions, types of the inputs, and each node's inputs, outputs and attributes against the operator's definition.

    Raises UnsupportedOnnxError for what may be right elsewhere, FileFormatError for what is wrong everywhere.
    """
    if model.ir_version > onnx.IR_VERSION:
        raise UnsupportedOnnxError(f"the file has IR version {model.ir_version}; this package onnx {onnx.__version__} knows "
                                   f"up to {onnx.IR_VERSION}: a newer one may read it")
    opsets: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if entry.version < 1 or opsets.setdefault(domain, entry.version) != entry.version:
            raise FileFormatError(f"the opset of domain {domain or 'ai.onnx'!r} is given as {entry.version}"
                                  + (f" and as {opsets[domain]}" if entry.version >= 1 else ""))
        newest = max(_newest(domain), *(max(row.versions) for row in TABLE.values() if row.domain == domain), 0, 0)
        if newest and entry.version > newest:
            raise UnsupportedOnnxError(f"the file uses opset {entry.version} of {domain or 'ai.onnx'!r}; the newest that is "
                                       f"known is {newest}")
    for value in model.graph.input:
        _check_input(value)
    for node, _ in nodes_of(model.graph):
        _check_node(node, opsets)


def _check_input(value: onnx.ValueInfoProto) -> None:
    kind = value.type
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    name = kind.WhichOneof("value")
    if name is None:
        raise FileFormatError(f"the input {value.name!r} has no type")
    if name != "tensor_type":
        raise UnsupportedOnnxError(f"the input {value.name!r} is a {name.removesuffix('_type')}; inputs are tensors, "
                                   "sequences and optionals of them")
    if kind.tensor_type.elem_type not in onnx.TensorProto.DataType.values():
        raise UnsupportedOnnxError(f"the input {value.name!r} has the unknown element type {kind.tensor_type.elem_type}")


def _check_node(node: onnx.NodeProto, opsets: dict[str, int]) -> None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    schema = _schema(node.op_type, domain, opsets.get(domain, 1))
    label = f"{node.op_type} {node.name or next(iter(node.output), '')!r}"
    names = [a.name for a in node.attribute]
    if len(set(names)) != len(names):
        raise FileFormatError(f"{label}: an attribute is given twice among {', '.join(names)}")
    if schema is None:
        return
    if not schema.min_input <= len(node.input) <= schema.max_input:
        raise FileFormatError(f"{label}: {len(node.input)} inputs, the operator takes "
                              f"{_between(schema.min_input, schema.max_input)}")
    if len(node.output) > schema.max_output:
        raise FileFormatError(f"{label}: {len(node.output)} outputs, the operator has at most {schema.max_output}")
    absent = [name for name, a in schema.attributes.items() if a.required and name not in names]
    if absent:
        raise FileFormatError(f"{label}: the attribute {absent[0]!r} is missing")
    for a in node.attribute:
        wanted: Any = schema.attributes.get(a.name)
        if wanted is not None and a.type != wanted.type.value:
            raise FileFormatError(f"{label}: the attribute {a.name!r} is {_kind(a.type)}, "
                                  f"{_kind(wanted.type.value)} is needed")


def _kind(number: int) -> str:
    known = onnx.AttributeProto.AttributeType
    return known.Name(number) if number in known.values() else f"of the unknown type {number}"


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}" if high < 2**31 - 1 else f"{low} or more"


@functools.cache
def _schema(op_type: str, domain: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


@functools.cache
def _newest(domain: str) -> int:
    """The newest opset of a domain that the package onnx defines; 0 for a domain that it does not know."""
    if not domain:
        return onnx.defs.onnx_opset_version()
    return max((s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain), default=0)


def messages_in(message: Message) -> Iterable[Message]:
    """A message and all messages inside it, at any depth."""
    stack = [message]
    while stack:
        item = stack.pop()
        yield item
        for field, value in item.ListFields():
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else [value])


def tensors_of(message: Message) -> Iterable[onnx.TensorProto]:
    """Every tensor: initialisers and attributes, those of inner graphs and functions included."""
    return (item for item in messages_in(message) if isinstance(item, onnx.TensorProto))
