"""The GPU backend: arrays in device memory and Triton kernels, without torch.  Read in this order:

    translate.py    an op's numpy expression -> the text of its kernel
    elementwise.py  the generated kernels at work: broadcasting, scalars, dtypes
    layout.py       views, and the one kernel that moves values from layout to layout
    reduce.py       one result per row: sum, max, ...; and rows that fit into registers: softmax, ...
    matmul.py       products of tiles
    gather.py       values picked by an index, and added back

    array.py        what the kernels work on: memory and a layout
    strides.py      layouts: how shapes and strides broadcast, merge and split
    runtime.py      starting a tier, launching a kernel
    interpreter.py  Triton's interpreter, made to behave like a GPU
    gpu.py          memory, stream and launches by NVIDIA's driver

Triton is imported when a device is first asked for (`ndl.triton_cpu()`, `ndl.cuda()`), never before.
"""

import importlib
from typing import Any

import numpy as np

from ...core.device import BACKENDS, Device
from .. import devices


class TritonDevices:
    """What the core asks of the devices "cuda" and "triton_cpu"; the rest of this room opens at the first question."""

    def start(self, device: Device) -> None:
        runtime = importlib.import_module(f"{__name__}.runtime")
        runtime.start_interpreter() if device.kind == "triton_cpu" else runtime.start_gpu(device.index)

    def from_numpy(self, array: np.ndarray, device: Device) -> Any:
        return importlib.import_module(f"{__name__}.runtime").from_numpy(array, device)

    def run(self, op: Any, device: Device, arrays: list, attrs: dict[str, Any]) -> Any:
        return devices.run(op, device, arrays, attrs)

    def write(self, data: Any, value: Any, index: Any, device: Device) -> None:
        devices.write(data, value, index, device)


BACKENDS["cuda"] = BACKENDS["triton_cpu"] = TritonDevices()


def source(op: Any, scalars: tuple[int, ...] = ()) -> str:
    """The text of an elementwise op's Triton kernel, generated from its definition.  Needs no Triton."""
    return importlib.import_module(f"{__name__}.translate").source(op, scalars)
