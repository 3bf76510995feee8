"""The interface of ONNX's own test suite: `Backend.prepare(model).run(inputs)`, numpy in and out.

    make test-onnx
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx.backend.base

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ..read.model import OnnxModule


class BackendRep(onnx.backend.base.BackendRep):
    """A model ready to run."""

    def __init__(self, module: OnnxModule):
        self.module = module

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """inputs: arrays in the order of the model's inputs -> arrays in the order of its outputs."""
        with no_grad():
            outputs = self.module(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(_plain(y) for y in outputs)


class Backend(onnx.backend.base.Backend):
    """See onnx.backend.base.Backend."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        return BackendRep(OnnxModule(model))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


def _plain(value: Any) -> Any:
    """A value of the graph as the suite compares it: arrays, lists of them for sequences, None for an empty optional."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.detach().numpy() if isinstance(value, Tensor) else value
