"""ONNX models as trainable modules: `ndl.onnx.load(path)`, `ndl.onnx.export(module, inputs, path)`."""

from __future__ import annotations

import os

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, MissingExtraError
from ..nn import Module

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise MissingExtraError("ndl.onnx needs the package onnx: pip install 'needle-lab[onnx]'") from error

from . import convert
from .backend import Backend
from .export import export
from .limits import limits
from .model import OnnxModule
from .plan import InferencePlan
from .report import inspect
from .trainer import Trainer
from .training_export import export_training


def load(path: str | os.PathLike | bytes) -> OnnxModule:
    """Read an ONNX file (or its bytes) as a trainable module, in evaluation mode.

    Raises MissingFileError, FileFormatError (no ONNX model, damaged, cyclic), UnsupportedOnnxError (all unknown
    operators at once).
    """
    return OnnxModule(path)


def plan(module: Module, *examples: Tensor | np.ndarray) -> InferencePlan:
    """Any module, prepared for inference on inputs of the shapes of these examples: the fastest way to run it.

    The module is exported in memory, read back, and `OnnxModule.plan` does the rest: batch norms fold into weights, weights
    are brought into the order in which they are read, one block of memory serves all values. It is a snapshot.

    Raises ArgumentError without an example for each input, and what `export` raises for a module that ONNX cannot say.
    """
    if not examples:
        raise ArgumentError("plan: an example of each input is needed: ndl.onnx.plan(module, x); its values do not matter")
    return OnnxModule(export(module, examples)).plan(*examples)


__all__ = ["Backend", "InferencePlan", "OnnxModule", "Trainer", "convert", "export", "export_training", "inspect", "limits",
           "load", "plan"]
