"""ONNX models as trainable modules: `ndl.onnx.load(path)`, `ndl.onnx.export(module, inputs, path)`."""

from __future__ import annotations

import os

from ..errors import MissingExtraError

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise MissingExtraError("ndl.onnx needs the package onnx: pip install 'needle-lab[onnx]'") from error

from . import operators
from .limits import limits
from .operators.table import writes, writes_layer
from .read.model import OnnxModule
from .read.report import inspect
from .run.backend import Backend
from .run.trainer import Trainer
from .write.export import export
from .write.training import export_training


def load(path: str | os.PathLike | bytes) -> OnnxModule:
    """Read an ONNX file (or its bytes) as a trainable module, in evaluation mode.

    Raises MissingFileError, FileFormatError (no ONNX model, damaged, cyclic), UnsupportedOnnxError (all unknown
    operators at once).

    >>> model = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.ReLU())
    >>> _ = ndl.onnx.export(model, ndl.ones(2, 3), "model.onnx")
    >>> again = ndl.onnx.load("model.onnx")
    >>> ndl.allclose(again(ndl.ones(2, 3)), model(ndl.ones(2, 3)), atol=1e-6)
    True
    """
    return OnnxModule(path)


__all__ = ["Backend", "OnnxModule", "Trainer", "export", "export_training", "inspect", "limits", "load", "operators",
           "writes", "writes_layer"]
