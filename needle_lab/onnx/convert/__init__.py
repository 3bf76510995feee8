"""ONNX operators as functions: a page a family, and one table of versions (`registry.TABLE`)."""

from . import math, nn, shape
from .registry import TABLE, call, find, since, supported

__all__ = ["TABLE", "call", "find", "math", "nn", "shape", "since", "supported"]
