"""An NVIDIA GPU by its driver alone: memory, and the stream on which everything happens, through NVIDIA's cuda-bindings.

One stream for each GPU: copies, kernels and the release of memory happen in the order in which they are asked for, so
memory may be given back as soon as Python forgets the array, though kernels that read it have not run yet.
"""

from __future__ import annotations

import weakref

import numpy as np

from ...core.device import Device
from ...errors import DeviceError, MissingExtraError

try:
    from cuda.bindings import driver
except ImportError as error:
    raise MissingExtraError("GPUs are driven by NVIDIA's cuda-bindings, which is not installed; "
                            "pip install 'needle-lab[gpu]'") from error


def call(function, *arguments):
    """Call the driver; DeviceError if it answers with an error, else its results."""
    error, *results = function(*arguments)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise DeviceError(f"{function.__name__}: the GPU's driver answers {driver.CUresult(error).name}")
    return results[0] if len(results) == 1 else results


class Gpu:
    """One GPU: its context, its stream, and the driver's own pool of memory."""

    def __init__(self, index: int):
        self.index, self.device = index, Device("cuda", index)
        device = call(driver.cuDeviceGet, index)
        self.context = call(driver.cuDevicePrimaryCtxRetain, device)
        self.make_current()
        self.stream = call(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        attribute = driver.CUdevice_attribute
        self.capability = tuple(call(driver.cuDeviceGetAttribute, a, device) for a in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR))
        call(driver.cuMemPoolSetAttribute, call(driver.cuDeviceGetDefaultMemPool, device),      # keep what was freed
             driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, driver.cuuint64_t(2**64 - 1))

    def make_current(self) -> None:
        """Driver calls of this thread mean this GPU from now on."""
        call(driver.cuCtxSetCurrent, self.context)

    def free(self, address: int) -> None:
        """Give memory back once the work asked for so far is done."""
        self.make_current()
        call(driver.cuMemFreeAsync, address, self.stream)

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""
        call(driver.cuStreamSynchronize, self.stream)


class GpuMemory:
    """Bytes in a GPU's memory, given back when Python forgets them."""

    def __init__(self, gpu: Gpu, nbytes: int):
        self.gpu, self.device = gpu, gpu.device
        gpu.make_current()
        self.address = int(call(driver.cuMemAllocAsync, max(nbytes, 1), gpu.stream))
        weakref.finalize(self, gpu.free, self.address).atexit = False           # at exit the driver takes all of it back

    def allocate(self, nbytes: int) -> GpuMemory:
        return GpuMemory(self.gpu, nbytes)

    def write(self, start: int, values: np.ndarray) -> None:
        if values.nbytes:
            self.gpu.make_current()
            call(driver.cuMemcpyHtoDAsync, self.address + start, values.ctypes.data, values.nbytes, self.gpu.stream)
            self.gpu.synchronize()                  # the caller may change `values` right away

    def read(self, start: int, nbytes: int) -> np.ndarray:
        values = np.empty(nbytes, np.uint8)
        if nbytes:
            self.gpu.make_current()
            call(driver.cuMemcpyDtoHAsync, values.ctypes.data, self.address + start, nbytes, self.gpu.stream)
            self.gpu.synchronize()
        return values


def count() -> int:
    """How many GPUs answer; 0 where there is no driver."""
    try:
        call(driver.cuInit, 0)
        return call(driver.cuDeviceGetCount)
    except RuntimeError:            # cuda-bindings found no driver, or the driver (DeviceError) no GPU
        return 0


def start(index: int) -> GpuMemory:
    """Take GPU `index` into use.  -> an empty piece of its memory."""
    there = count()
    if not there:
        raise DeviceError("no NVIDIA GPU answers on this machine; ndl.triton_cpu() runs the same kernels in Triton's "
                          "interpreter, and `needle-lab doctor` says what is missing")
    if index >= there:
        raise DeviceError(f"cuda:{index} does not exist; this machine has {there} GPU{'s' * (there != 1)}, cuda:0 the first")
    return GpuMemory(Gpu(index), 0)
