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


def opset_of(model: onnx.ModelProto, domain: str = "") -> int:
    """The version of an operator set that the model uses."""
    versions = {o.domain or "": o.version for o in model.opset_import}
    return versions.get(domain if domain != "ai.onnx" else "", versions.get("ai.onnx", 0))


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


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values: texts decoded, tensors as Tensor."""
    values = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = Tensor(array_of(value).copy())
        elif isinstance(value, onnx.GraphProto):
            raise UnsupportedOnnxError(f"{node.op_type} {node.name!r}: operators with subgraphs are not supported")
        elif attribute.type == onnx.AttributeProto.STRINGS:
            value = [v.decode("utf-8", "replace") for v in value]
        elif isinstance(value, float):
            value = float(str(np.float32(value)))            # stored as float32: 1e-05, not 9.999999747378752e-06
        values[attribute.name] = list(value) if attribute.type in (
            onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value
    return values


def sorted_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes such that each comes after what it reads, in the file's order where that is possible.

    Raises FileFormatError for a value produced twice, one that nobody produces, and a cycle.
    """
    known = {"", *(i.name for i in graph.input), *(t.name for t in graph.initializer)}
    producer: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in producer or name in known):
                raise FileFormatError(f"the value {name!r} is produced twice")
            producer[name] = i
    waiting = [len({producer[name] for name in node.input if name in producer and name not in known})
               for node in graph.node]
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(graph.node):
        for name in node.input:
            if name not in known and name not in producer:
                raise FileFormatError(f"{node.op_type} {node.name!r} reads {name!r}, which nothing produces")
        for source in {producer[name] for name in node.input if name in producer and name not in known}:
            readers.setdefault(source, []).append(i)

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
