"""A checked ModelProto as a file, its large weights in a second one where they do not fit into the first."""

from __future__ import annotations

import os

import onnx
from onnx import helper

from ...errors import ArgumentError, UnsupportedOnnxError
from ...serialize.atomic import replacing
from ..read.check import LIBRARY_FAULTS

LARGEST = 2**31 - 2**20        # bytes: a protobuf message ends at 2 GiB
SMALL = 1024                   # bytes: below this a tensor stays in the model, external or not
ALIGNMENT = 4096               # bytes: a page, so that a reader can map a weight into memory

# opset -> IR version: of the first release of ONNX with that opset, so that as many readers as possible take the file
IR_VERSIONS: dict[int, int] = {}
for _row in helper.VERSION_TABLE:
    IR_VERSIONS.setdefault(int(_row[2]), int(_row[1]))


def model_of(g: onnx.GraphProto, opset: int, *more: onnx.OperatorSetIdProto) -> onnx.ModelProto:
    """The graph as a checked model.  more: versions of other domains than ONNX's own."""
    return checked(helper.make_model(g, opset_imports=[helper.make_opsetid("", opset), *more], producer_name="needle_lab",
                                     ir_version=IR_VERSIONS[opset]))


def checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, after ONNX's full check; of a model of 2 GiB or more everything but the weights is checked."""
    subject = model if weights_size(model) < LARGEST else _without_weights(model)
    try:
        onnx.checker.check_model(subject, full_check=True)
    except LIBRARY_FAULTS as error:
        opset = max(o.version for o in model.opset_import if not o.domain)
        raise UnsupportedOnnxError(f"export: ONNX's checker refuses the model at opset {opset}: {error}") from error
    return model


def write(model: onnx.ModelProto, path: str | os.PathLike, external_data: bool | None) -> None:
    """Write the file, and `path`.data beside it if wanted; both complete before the first takes its name."""
    large = weights_size(model) >= LARGEST
    if large and external_data is False:
        raise ArgumentError(f"export: the weights take {weights_size(model):,} bytes, one file holds {LARGEST:,}; "
                            "external_data=None or True writes them to a second file")
    if not (large if external_data is None else external_data):
        with replacing(path) as file:
            file.write(model.SerializeToString())
        return
    data = os.fspath(path) + ".data"
    light, weights = _split(model, os.path.basename(data))
    with replacing(path) as file:
        file.write(light.SerializeToString())
        with replacing(data) as second:
            for offset, tensor in weights:
                second.seek(offset)
                second.write(tensor.raw_data)


def weights_size(model: onnx.ModelProto) -> int:
    return sum(len(t.raw_data) for g in graphs_of(model) for t in g.initializer)


def graphs_of(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The inference graph, and the graphs of training."""
    return [model.graph, *(g for info in model.training_info for g in (info.initialization, info.algorithm))]


def _emptied(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[tuple[onnx.GraphProto, onnx.GraphProto]]]:
    """The model without initialisers, and its graphs beside their counterparts; no weight is copied."""
    light = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name not in ("graph", "training_info"):
            if field.is_repeated:
                getattr(light, field.name).extend(value)
            else:
                setattr(light, field.name, value)
    for info in model.training_info:
        made = light.training_info.add()
        made.initialization_binding.extend(info.initialization_binding)
        made.update_binding.extend(info.update_binding)
    pairs = list(zip(graphs_of(model), graphs_of(light), strict=True))
    for full, empty in pairs:
        for field, value in full.ListFields():
            if field.name == "initializer":
                continue
            if field.is_repeated:
                getattr(empty, field.name).extend(value)
            else:
                setattr(empty, field.name, value)
    return light, pairs


def _split(model: onnx.ModelProto, location: str) -> tuple[onnx.ModelProto, list[tuple[int, onnx.TensorProto]]]:
    """The model with references in place of its large weights, and those weights with their offsets."""
    light, pairs = _emptied(model)
    weights, offset = [], 0
    for full, empty in pairs:
        for tensor in full.initializer:
            if len(tensor.raw_data) < SMALL:
                empty.initializer.append(tensor)
                continue
            stub = empty.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims,
                                         data_location=onnx.TensorProto.EXTERNAL)
            for key, value in (("location", location), ("offset", offset), ("length", len(tensor.raw_data))):
                stub.external_data.add(key=key, value=str(value))
            weights.append((offset, tensor))
            offset += -(-len(tensor.raw_data) // ALIGNMENT) * ALIGNMENT
    return light, weights


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with large weights as inputs: small enough for the checker, which reads a serialised model."""
    light, pairs = _emptied(model)
    for full, empty in pairs:
        for tensor in full.initializer:
            if len(tensor.raw_data) < SMALL:
                empty.initializer.append(tensor)
            else:
                empty.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return light
