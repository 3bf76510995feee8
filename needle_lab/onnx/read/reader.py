"""From a file to a checked ModelProto, and from protobuf messages to Python values."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, helper, numpy_helper

from ...errors import FileFormatError, MissingFileError, StorageError
from ..limits import limits
from ..values import value_of
from . import check


def read_model(source: str | os.PathLike | bytes | onnx.ModelProto, executable: bool = True) -> onnx.ModelProto:
    """A path, the bytes of a file, or a ModelProto -> ModelProto with its weights in memory.

    executable: also check that each node is what its operator asks for.
    Raises MissingFileError, StorageError, or FileFormatError for anything that is no ONNX model.
    """
    folder, where = None, "these bytes"
    if isinstance(source, onnx.ModelProto):
        model, where = source, "this model"
    else:
        if not isinstance(source, bytes):
            where, folder = os.fspath(source), os.path.dirname(os.path.abspath(source))
            source = _read_bytes(where)
        if not source:
            raise FileFormatError(f"{where}: empty, expected an ONNX model")
        model = onnx.ModelProto()
        try:
            model.ParseFromString(source)
        except DecodeError as error:
            raise FileFormatError(f"{where}: not an ONNX model, truncated, or nested too deep ({error})") from error
    if not model.HasField("graph") or not model.opset_import:
        raise FileFormatError(f"{where}: not an ONNX model: it has no graph or no opset version")
    with check.refusing(where):
        check.check_structure(model)
        if executable:
            check.check_meaning(model)
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
    for tensor in check.tensors_of(model):
        if not external_data_helper.uses_external_data(tensor):
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        what = f"{where}: the weight {tensor.name!r}"
        if folder is None:
            raise FileFormatError(f"{what} is in the file {entry.get('location')!r}; load the model by its path")
        try:
            offset, length = int(entry.get("offset", 0)), int(entry.get("length", -1))
        except ValueError as error:
            raise FileFormatError(f"{what}: offset and length of its data are no integers: {entry}") from error
        content = _read_part(folder, entry.get("location", ""), offset, length, what)
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def _read_part(folder: str, location: str, offset: int, length: int, what: str) -> bytes:
    """`length` bytes (-1: all) from `offset` on of a file in the model's folder.

    Only a regular file with one name is read: a symbolic or a second hard link could show a file from elsewhere, which
    whoever sent the model could not read himself.
    """
    root = os.path.realpath(folder)
    target = "" if "\0" in location else os.path.realpath(os.path.join(root, location))
    if not target or os.path.isabs(location) or os.path.commonpath([target, root]) != root:
        raise FileFormatError(f"{what} points out of the model's folder, to {location!r}")
    if target != os.path.normpath(os.path.join(root, location)):
        raise FileFormatError(f"{what} points to {location!r}, a symbolic link; put the file itself into the model's folder")
    if not os.path.isfile(target):
        raise MissingFileError(f"{what} needs the file {target}, which is not there")
    try:
        with open(target, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_nlink > 1:
                raise FileFormatError(f"{what} points to {location!r}, a file with {found.st_nlink} names (hard links), of "
                                      "which one may lie outside of the model's folder; replace it by a copy")
            length = found.st_size - offset if length < 0 else length
            if offset < 0 or offset + length > found.st_size:
                raise FileFormatError(f"{what}: bytes {offset} to {offset + length} of {location!r} are needed, it has "
                                      f"{found.st_size}")
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise StorageError(f"{what}: {location!r} cannot be read: {error.strerror}") from error


def opsets_of(model: onnx.ModelProto) -> dict[str, int]:
    """Domain -> version of each operator set that the model uses; "" is ONNX's own."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}


def array_of(tensor: onnx.TensorProto) -> np.ndarray:
    """The values of a TensorProto; FileFormatError where its shape and its data disagree."""
    if any(n < 0 for n in tensor.dims):
        raise FileFormatError(f"the tensor {tensor.name!r} has the shape {list(tensor.dims)}")
    if external_data_helper.uses_external_data(tensor):
        raise FileFormatError(f"the tensor {tensor.name!r} has its data in another file, which was not read")
    try:
        return numpy_helper.to_array(tensor)
    except check.FAULTS as error:
        raise FileFormatError(f"the tensor {tensor.name!r} of shape {list(tensor.dims)}: {error}") from error


def dense_array_of(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """A sparse tensor with its zeros written out."""
    values, indices, what = array_of(sparse.values), array_of(sparse.indices), f"the sparse tensor {sparse.values.name!r}"
    dense = np.zeros(limits.check_shape(what, sparse.dims, values.dtype), values.dtype)
    with check.refusing(what):
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dense.shape)
        dense.reshape(-1)[places] = values
    return dense


def attributes_of(node: onnx.NodeProto) -> tuple[dict[str, Any], dict[str, onnx.GraphProto]]:
    """-> attributes as Python values (texts decoded, tensors as values of the graph), and the inner graphs."""
    with check.refusing(f"{node.op_type} {node.name!r}"):
        return _attributes_of(node)


def _attributes_of(node: onnx.NodeProto) -> tuple[dict[str, Any], dict[str, onnx.GraphProto]]:
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
    weights = [*(t.name for t in graph.initializer), *(t.values.name for t in graph.sparse_initializer)]
    for kind, given in (("input", [i.name for i in graph.input]), ("initialiser", weights)):
        twice = [name for name, count in Counter(given).items() if count > 1]
        if twice:
            raise FileFormatError(f"the {kind} {twice[0]!r} is there twice")
    own = {*(i.name for i in graph.input), *weights}
    known = {"", *outer, *own}
    producer: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        for name in node.output:
            if name and (name in producer or name in own):
                raise FileFormatError(f"the value {name!r} is produced twice")
            producer[name] = i
    for output in graph.output:
        if output.name not in known and output.name not in producer:
            raise FileFormatError(f"the output {output.name!r} is produced by nothing")
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
    """Inputs of a node, and what its inner graphs take from outside: the names they read and do not define themselves."""
    names = set(node.input) - {""}
    stack = [(a.g, {""}) for a in node.attribute if a.type == a.GRAPH]
    while stack:
        graph, defined = stack.pop()
        defined = defined.union((i.name for i in graph.input), (t.name for t in graph.initializer),
                                (o for inner in graph.node for o in inner.output))
        names.update(o.name for o in graph.output if o.name not in defined)
        for inner in graph.node:
            names.update(name for name in inner.input if name not in defined)
            stack.extend((a.g, defined) for a in inner.attribute if a.type == a.GRAPH)
    return names
