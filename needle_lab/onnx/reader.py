"""From a file to a checked ModelProto, and from protobuf messages to Python values."""

from __future__ import annotations

import heapq
import os
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, helper, numpy_helper

from ..errors import FileFormatError, MissingFileError, StorageError, UnsupportedOnnxError
from ..tensor import Tensor


def read_model(source: str | os.PathLike | bytes | onnx.ModelProto) -> onnx.ModelProto:
    """A path, the bytes of a file, or a ModelProto -> ModelProto with its weights in memory.

    Raises MissingFileError, StorageError, or FileFormatError for anything that is no ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return source
    folder, where = None, "these bytes"
    if not isinstance(source, bytes):
        where, folder = os.fspath(source), os.path.dirname(os.path.abspath(source))
        source = _read_bytes(where)
    if not source:
        raise FileFormatError(f"{where}: empty, expected an ONNX model")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(source)
    except DecodeError as error:
        raise FileFormatError(f"{where}: not an ONNX model, or truncated ({error})") from error
    if not model.HasField("graph") or not model.opset_import:
        raise FileFormatError(f"{where}: not an ONNX model: it has no graph or no opset version")
    _load_external_data(model, folder, where)
    return model


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: there is no such file") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _load_external_data(model: onnx.ModelProto, folder: str | None, where: str) -> None:
    """Weights in files beside the model; a path that leads out of the model's folder is refused."""
    for tensor in model.graph.initializer:
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = external_data_helper.ExternalDataInfo(tensor).location
        if folder is None:
            raise FileFormatError(f"{where}: the weight {tensor.name!r} is in the file {location!r}; "
                                  "load the model by its path")
        target = os.path.realpath(os.path.join(folder, location))
        if os.path.commonpath([target, os.path.realpath(folder)]) != os.path.realpath(folder):
            raise FileFormatError(f"{where}: the weight {tensor.name!r} points out of the model's folder, "
                                  f"to {location!r}")
        if not os.path.isfile(target):
            raise MissingFileError(f"{where}: the weight {tensor.name!r} needs the file {target}, which is not there")
        try:
            external_data_helper.load_external_data_for_tensor(tensor, folder)
        except (ValueError, OSError, onnx.checker.ValidationError) as error:
            raise FileFormatError(f"{where}: the weight {tensor.name!r} cannot be read from {location!r}: "
                                  f"{error}") from error


def opsets_of(model: onnx.ModelProto) -> dict[str, int]:
    """Domain -> version of each operator set that the model uses; "" is ONNX's own."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}


def numpy_dtype(element_type: int) -> np.dtype:
    """ONNX's number for a dtype -> numpy dtype."""
    try:
        return helper.tensor_dtype_to_np_dtype(element_type)
    except KeyError as error:
        raise UnsupportedOnnxError(f"element type {element_type} is unknown") from error


def array_of(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a TensorProto; FileFormatError where its shape and its data disagree."""
    if any(n < 0 for n in tensor.dims):
        raise FileFormatError(f"the tensor {tensor.name!r} has the shape {list(tensor.dims)}")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"the tensor {tensor.name!r} of shape {list(tensor.dims)}: {error}") from error


def value_of(array: np.ndarray) -> Tensor | np.ndarray:
    """A constant as a value of the graph: a tensor; text stays a numpy array of str."""
    if array.dtype.kind in "OSU":
        texts = [t.decode("utf-8") if isinstance(t, bytes) else str(t) for t in array.reshape(-1)]
        return np.array(texts, dtype=object).reshape(array.shape)
    return Tensor(np.array(array))


def dense_array_of(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """A sparse tensor with its zeros written out."""
    values, indices = array_of(sparse.values), array_of(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
    dense.reshape(-1)[places] = values
    return dense


def attributes_of(node: onnx.NodeProto) -> tuple[dict[str, Any], dict[str, onnx.GraphProto]]:
    """-> attributes as Python values (texts decoded, tensors as values of the graph), and the inner graphs."""
    values: dict[str, Any] = {}
    graphs: dict[str, onnx.GraphProto] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = value_of(array_of(value))
        elif isinstance(value, onnx.SparseTensorProto):
            value = value_of(dense_array_of(value))
        elif isinstance(value, onnx.GraphProto):
            graphs[attribute.name] = value
            continue
        elif attribute.type == onnx.AttributeProto.STRINGS:
            value = [v.decode("utf-8", "replace") for v in value]
        elif isinstance(value, float):
            value = float(str(np.float32(value)))            # stored as float32: 1e-05, not 9.999999747378752e-06
        listed = attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)
        values[attribute.name] = list(value) if listed else value
    return values, graphs


def sorted_nodes(graph: onnx.GraphProto, outer: set[str] = frozenset()) -> list[onnx.NodeProto]:     # type: ignore[assignment]
    """Nodes such that each comes after what it reads, in the file's order where that is possible.

    outer: values of the surrounding graphs, which an inner graph may read.

    Raises FileFormatError for a value produced twice, one that nobody produces, and a cycle.
    """
    own = {*(i.name for i in graph.input), *(t.name for t in graph.initializer),
           *(t.values.name for t in graph.sparse_initializer)}
    known = {"", *outer, *own}
    producer: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in producer or name in own):
                raise FileFormatError(f"the value {name!r} is produced twice")
            producer[name] = i
    sources = []
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(graph.node):
        for name in node.input:
            if name not in known and name not in producer:
                raise FileFormatError(f"{node.op_type} {node.name!r} reads {name!r}, which nothing produces")
        sources.append({producer[name] for name in _names_read(node) if name in producer and name not in own})
        for source in sources[-1]:
            readers.setdefault(source, []).append(i)
    waiting = [len(s) for s in sources]

    ready = [i for i, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(graph.node[i])
        for reader in readers.get(i, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) != len(graph.node):
        stuck = [n.op_type + " " + repr(n.name) for n, count in zip(graph.node, waiting, strict=True) if count]
        raise FileFormatError(f"the graph has a cycle through {', '.join(stuck[:5])}")
    return order


def _names_read(node: onnx.NodeProto) -> set[str]:
    """Inputs of a node, and every name that its inner graphs mention (a superset of what they take from outside)."""
    names, stack = set(node.input) - {""}, [a.g for a in node.attribute if a.type == a.GRAPH]
    while stack:
        graph = stack.pop()
        names.update(o.name for o in graph.output)
        for inner in graph.node:
            names.update(inner.input)
            stack.extend(a.g for a in inner.attribute if a.type == a.GRAPH)
    return names - {""}
