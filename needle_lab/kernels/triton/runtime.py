"""Starting Triton, once and in one of two tiers, and launching kernels.

    start_interpreter()   kernels run in Triton's interpreter, program after program, on host memory
    start_gpu(i)          kernels are compiled for GPU i and run there

Triton decides between the two when it is first imported, so one process has one tier.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from ...core.device import Device
from ...errors import DeviceError, MissingExtraError
from .array import DeviceArray, HostMemory, Memory

KERNELS = ("layout", "elementwise", "reduce", "matmul", "gather")      # modules that attach kernels to ops

_spaces: dict[str, Memory] = {}           # by device name: an empty piece of its memory, from which more is allocated
_around: Callable[[tuple], AbstractContextManager] = nullcontext       # what surrounds a launch of these arguments


def start_interpreter() -> None:
    """Triton's interpreter.  DeviceError where Triton was already imported to compile."""
    global _around
    if "triton_cpu" in _spaces:
        return
    if "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    _import_triton()
    if not _interprets():
        raise DeviceError("triton_cpu needs Triton's interpreter, but Triton was already imported to compile for a GPU, and "
                          "a process has one or the other: start a new process, and call ndl.triton_cpu() first")
    from . import interpreter
    interpreter.repair()
    _around = interpreter.launching
    _spaces["triton_cpu"] = HostMemory(0)
    _attach_kernels()


def start_gpu(index: int) -> None:
    """NVIDIA GPU `index`.  DeviceError where there is none or where this process interprets."""
    global _around
    name = str(Device("cuda", index))
    if name in _spaces:
        return
    if "triton_cpu" in _spaces:
        raise DeviceError(f"{name} needs Triton's compiler, but this process runs Triton's interpreter for triton_cpu, "
                          "and a process has one or the other: start a new process")
    from . import gpu
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")      # a * b + c rounds once; Triton 3.9 wants to be told
    memory = gpu.start(index)             # first ask for the GPU: where there is none, the interpreter is still to be had
    _import_triton()
    if _interprets():
        raise DeviceError(f"{name} needs Triton's compiler, but TRITON_INTERPRET=1 is set: start a process without it")
    from . import driver
    driver.install(memory.gpu)
    _around = driver.launching
    _spaces[name] = memory
    _attach_kernels()


def from_numpy(array: np.ndarray, device: Device) -> DeviceArray:
    """A copy of a host array on a device."""
    if str(device) not in _spaces:
        start_interpreter() if device.kind == "triton_cpu" else start_gpu(device.index)
    return DeviceArray(_spaces[str(device)], (0,), (1,), 0, array.dtype).from_host(array)


def launch(kernel, grid: tuple[int, ...], *arguments, **constants) -> None:
    """Start `kernel` once for each index of the grid, on the device of its arrays."""
    if 0 in grid:
        return
    with _around(arguments):
        kernel[grid](*arguments, **constants)


def _import_triton() -> None:
    try:
        importlib.import_module("triton")
    except ModuleNotFoundError as error:
        raise MissingExtraError("this device runs Triton kernels, and Triton is not installed; "
                                "pip install 'needle-lab[gpu]'") from error
    _keep_torch_out()


class _NoTorch:
    """An import finder that says: there is no torch."""

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)


def _keep_torch_out() -> None:
    """Triton 3.6 imports torch at the first kernel argument it looks at, if torch is installed.

    Let it look at one while torch cannot be found; it asks only once.
    """
    if "torch" in sys.modules:
        return
    finder = _NoTorch()
    sys.meta_path.insert(0, finder)         # type: ignore[arg-type]
    try:
        importlib.import_module("triton.runtime.jit").mangle_type(7)
    finally:
        sys.meta_path.remove(finder)        # type: ignore[arg-type]


def _interprets() -> bool:
    """Which tier Triton chose: its own library functions were decorated when it was imported."""
    return type(importlib.import_module("triton.language.standard").cdiv).__name__ == "InterpretedFunction"


def _attach_kernels() -> None:
    for module in KERNELS:
        importlib.import_module(f"{__package__}.{module}")
