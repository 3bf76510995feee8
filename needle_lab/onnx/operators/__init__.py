"""ONNX operators as functions: a page a family, and one table of versions (`registry.TABLE`)."""

from . import attention, control, image, math, ml, nn, quantized, random, recurrent, shape, signal, text, training
from .table import TABLE, call, find, since, supported

__all__ = ["TABLE", "attention", "call", "control", "find", "image", "math", "ml", "nn", "quantized", "random", "recurrent",
           "shape", "signal", "since", "supported", "text", "training"]
