"""What Triton asks about the GPU that it compiles for and launches on.  Its own driver would ask torch."""

from __future__ import annotations

import contextlib

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.backends.nvidia.driver import CudaLauncher, CudaUtils, ty_to_cpp

from ...errors import DeviceError
from .array import DeviceArray
from .gpu import Gpu


class Driver(DriverBase):
    """gpu: the one that is meant now; each launch sets it."""

    launcher_cls = CudaLauncher

    def __init__(self, gpu: Gpu):
        self.gpu, self.utils = gpu, CudaUtils()          # CudaUtils compiles a little C with the system's compiler, once

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty_to_cpp(ty)

    def get_current_target(self) -> GPUTarget:
        major, minor = self.gpu.capability
        return GPUTarget("cuda", 10 * major + minor, 32)

    def get_current_device(self) -> int:
        return self.gpu.index

    def get_current_stream(self, device: int) -> int:
        return int(self.gpu.stream)

    def get_device_capability(self, device: int | None = None) -> tuple[int, ...]:
        return self.gpu.capability

    def get_active_torch_device(self):
        raise DeviceError("needle_lab's Triton driver does not use torch")

    def get_benchmarker(self):
        from triton.testing import do_bench
        return do_bench


def install(gpu: Gpu) -> None:
    """Make Triton use the GPU."""
    if not isinstance(triton.runtime.driver._active, Driver):
        triton.runtime.driver.set_active(Driver(gpu))


@contextlib.contextmanager
def launching(arguments):
    """Around every launch: the GPU is the one whose memory the arrays are in."""
    gpu = next(x.memory.gpu for x in arguments if isinstance(x, DeviceArray))
    gpu.make_current()
    triton.runtime.driver.active.gpu = gpu
    yield
