"""ONNX operators as functions: a page a family, a row an operator (`table.TABLE`)."""

from . import (
    activation,
    attention,
    control,
    convolution,
    image,
    loss,
    math,
    ml,
    moves,
    norm,
    parts,
    plain,
    pooling,
    quantized,
    random,
    recurrent,
    reduction,
    shape,
    signal,
    text,
    training,
)
from .table import TABLE, call, find, row_of, since, supported

plain.enter()

__all__ = ["TABLE", "activation", "attention", "call", "control", "convolution", "find", "image", "loss", "math", "ml",
           "moves", "norm", "parts", "plain", "pooling", "quantized", "random", "recurrent", "reduction", "row_of", "shape",
           "signal", "since", "supported", "text", "training"]
