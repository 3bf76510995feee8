"""DeviceArray: memory on a device, and a layout. What kernels take as a pointer, and ops as an array."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ...core.device import Device
from ...errors import DeviceError, DTypeError, ShapeError
from .strides import Sizes, broadcast, is_dense, row_major, split

DTYPES = tuple("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64".split())
LARGEST = 2**31 - 2**16          # kernels number elements with 32 bits; the last block may run over the end a little


class Memory(Protocol):
    """Bytes on a device."""

    address: int
    device: Device

    def allocate(self, nbytes: int) -> Memory:
        """New memory of the same device, its contents undefined."""
    def write(self, start: int, values: np.ndarray) -> None:
        """Copy a dense host array to byte `start`."""
    def read(self, start: int, nbytes: int) -> np.ndarray:
        """A host copy, uint8."""


class HostMemory:
    """Host memory that a GPU kernel of the interpreter works on.

    It starts as NaN (all bits 1), so that a kernel that reads what nobody wrote is found out, and at a multiple of
    16 bytes, as on a GPU.
    """

    device = Device("triton_cpu")                                   # the device whose memory it plays
    living: weakref.WeakSet[HostMemory] = weakref.WeakSet()         # what a kernel may touch

    def __init__(self, nbytes: int):
        block = np.full(nbytes + 16, 0xFF, np.uint8)
        start = -block.ctypes.data % 16
        self.bytes = block[start:start + nbytes]
        self.address = block.ctypes.data + start
        HostMemory.living.add(self)

    def allocate(self, nbytes: int) -> HostMemory:
        return HostMemory(nbytes)

    def write(self, start: int, values: np.ndarray) -> None:
        self.bytes[start:start + values.nbytes] = values.reshape(-1).view(np.uint8)

    def read(self, start: int, nbytes: int) -> np.ndarray:
        return self.bytes[start:start + nbytes].copy()


class DeviceArray:
    """An n-dimensional array on a device.  strides and offset count elements.

    Triton takes it as a pointer: it asks `data_ptr()` for the address and `dtype` for a type, by the name of the dtype.
    """

    __slots__ = ("memory", "shape", "strides", "offset", "dtype")

    def __init__(self, memory: Memory, shape: Sizes, strides: Sizes, offset: int, dtype: np.dtype):
        if math.prod(shape) > LARGEST:
            raise DeviceError(f"an array of shape {shape} has {math.prod(shape)} elements; kernels address {LARGEST}")
        self.memory, self.shape, self.strides, self.offset, self.dtype = memory, shape, strides, offset, dtype

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype}{list(self.shape)}, strides={self.strides}, offset={self.offset})"

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def device(self) -> Device:
        return self.memory.device

    @property
    def is_dense(self) -> bool:
        return is_dense(self.shape, self.strides)

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self.memory.address + self.offset * self.dtype.itemsize

    # --- new arrays -------------------------------------------------------------------------------------------------

    def empty(self, shape: Sizes, dtype: np.dtype | type) -> DeviceArray:
        """A dense array on the same device, its values undefined."""
        dtype = np.dtype(dtype)
        return DeviceArray(self.memory.allocate(math.prod(shape) * dtype.itemsize), shape, row_major(shape), 0, dtype)

    def astype(self, dtype) -> DeviceArray:
        """A dense copy in another dtype."""
        copy = self.empty(self.shape, dtype)
        copy.write(self)
        return copy

    def copy(self) -> DeviceArray:
        """A dense copy."""
        return self.astype(self.dtype)

    def dense(self) -> DeviceArray:
        """Itself if dense, else a copy that is."""
        return self if self.is_dense else self.astype(self.dtype)

    def from_host(self, values: np.ndarray) -> DeviceArray:
        """A host array's values on this array's device."""
        if values.dtype.name not in DTYPES:
            raise DTypeError(f"{values.dtype} stays on the CPU; devices take {', '.join(DTYPES)}")
        values = np.ascontiguousarray(values, np.dtype(values.dtype.newbyteorder("="))).reshape(values.shape)
        array = self.empty(values.shape, values.dtype)
        array.memory.write(0, values)
        return array

    # --- views ------------------------------------------------------------------------------------------------------

    def view(self, change: Callable[[np.ndarray], np.ndarray]) -> DeviceArray:
        """The view that `change` makes of a numpy array: transposes, slices, ... by numpy's own rules.

        numpy changes a one-byte array of the same layout, whose values are never read, and we take over the layout.
        """
        before = as_strided(_NOWHERE, self.shape, self.strides)
        after = change(before)
        moved = after.__array_interface__["data"][0] - before.__array_interface__["data"][0]
        return DeviceArray(self.memory, after.shape, after.strides, self.offset + moved, self.dtype)

    def __getitem__(self, index) -> DeviceArray:
        """Numbers, slices, None and ... only."""
        index = index if isinstance(index, tuple) else (index,)
        index = index if Ellipsis in index else (*index, ...)        # with ... numpy answers x[0, 0] with a view too
        return self.view(lambda x: x[index])

    def reshape(self, *shape) -> DeviceArray:
        """The same values in another shape; a view where the layout allows it."""
        target = np.empty(self.shape, np.bool_).reshape(*shape).shape if -1 in np.ravel(shape) else tuple(
            int(n) for n in np.ravel(shape))
        if math.prod(target) != self.size:
            raise ShapeError(f"cannot reshape {self.size} values of shape {self.shape} into {target}")
        strides = split(self.shape, self.strides, target)
        if strides is None:
            return self.dense().reshape(target)
        return DeviceArray(self.memory, target, strides, self.offset, self.dtype)

    def expand(self, shape: Sizes) -> DeviceArray:
        """Broadcast to a shape; nothing is copied."""
        missing = len(shape) - self.ndim
        if missing < 0 or any(n not in (1, m) for n, m in zip(self.shape, shape[missing:], strict=True)):
            raise ShapeError(f"shape {self.shape} does not broadcast to {shape}")
        return DeviceArray(self.memory, tuple(shape), broadcast(self.shape, self.strides, shape), self.offset, self.dtype)

    # --- values -----------------------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """A host copy."""
        x = self.dense()
        return x.memory.read(x.offset * x.dtype.itemsize, x.size * x.dtype.itemsize).view(x.dtype).reshape(x.shape)

    def write(self, values: np.ndarray | DeviceArray, index=...):
        """self[index] = values: broadcast, and cast to this dtype.  NotImplemented for an index with arrays."""
        if not is_basic(index):
            return NotImplemented
        if index is not ...:
            return self[index].write(values)
        if isinstance(values, np.ndarray):
            values = values.astype(self.dtype, copy=False)
            if self.is_dense and values.shape == self.shape:
                return self.memory.write(self.offset * self.dtype.itemsize, np.ascontiguousarray(values))
            values = self.from_host(values)
        elif values.memory is self.memory:                  # x[1:] = x[:-1]: read all of it before anything is written
            values = values.astype(values.dtype)
        if self.size and any(n > 1 and s == 0 for n, s in zip(self.shape, self.strides, strict=True)):
            raise ShapeError(f"{self} is expanded: several of its elements share one place; write into a clone")
        Mover.move(values.expand(self.shape), self)


class Mover:
    """The kernel that copies values from layout to layout.  layout.py, which stands on this file, enters it."""

    move: Callable[[DeviceArray, DeviceArray], None]


def is_basic(index) -> bool:
    """Whether an index picks a view: numbers, slices, None and ..., no arrays."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(p, (np.ndarray, list, bool)) for p in parts)


_NOWHERE = np.zeros(1, np.int8)          # one byte an element: numpy's strides then count elements
