"""Moving values: views, which move nothing, and one kernel that copies from any layout to any other.

A transposed copy, a cast, a join, a padded border, a repeated tile: each is that one kernel between two views.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

from ... import ops
from ...core.tiers import kernel
from .array import DeviceArray, Mover, is_basic
from .runtime import launch
from .strides import merge

BLOCK = 1024


@triton.jit
def place(i, shape, strides):
    """Where element number i (in row-major order) of an array lies: its coordinates times the strides."""
    offset = i * 0
    for axis in tl.static_range(len(shape) - 1, 0, -1):
        offset += (i % shape[axis]) * strides[axis]
        i = i // shape[axis]
    return offset + i * strides[0]


@triton.jit(do_not_specialize=["n"])
def move_kernel(source_ptr, target_ptr, source_strides, target_strides, shape, n, BLOCK: tl.constexpr):
    """One program moves BLOCK values: each is read once, cast, and written once."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    values = tl.load(source_ptr + place(i, shape, source_strides), mask=inside)
    tl.store(target_ptr + place(i, shape, target_strides), values.to(target_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["value", "n"])
def fill_kernel(target_ptr, value, n, BLOCK: tl.constexpr):
    """One program writes BLOCK values; nothing is read."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target_ptr + i, tl.full((BLOCK,), value, target_ptr.dtype.element_ty), mask=i < n)


def move(source: DeviceArray, target: DeviceArray) -> None:
    """Copy values between layouts of one shape, casting to the target's dtype."""
    shape, source_strides, target_strides = merge(source.shape, source.strides, target.strides)
    launch(move_kernel, (triton.cdiv(source.size, BLOCK),), source, target, source_strides, target_strides, shape,
           source.size, BLOCK=BLOCK)


def full(like: DeviceArray, shape: tuple[int, ...], value) -> DeviceArray:
    """A dense array filled with one value."""
    y = like.empty(shape, like.dtype)
    launch(fill_kernel, (triton.cdiv(y.size, BLOCK),), y, value, y.size, BLOCK=BLOCK)
    return y


# --- views ----------------------------------------------------------------------------------------------------------

Mover.move = staticmethod(move)


@kernel(ops.reshape, "triton")
def reshape(x, *, shape):
    return x.reshape(shape)


@kernel(ops.permute, "triton")
def permute(x, *, axes):
    return x.view(lambda v: np.transpose(v, axes))


@kernel(ops.expand, "triton")
def expand(x, *, shape):
    return x.view(lambda v: ops.expand.definition(v, shape=shape))


@kernel(ops.flip, "triton")
def flip(x, *, axis):
    return x.view(lambda v: np.flip(v, axis))


@kernel(ops.indexing.getitem, "triton")
def getitem(x, *, index):
    return x[index] if is_basic(index) else NotImplemented


# --- copies ---------------------------------------------------------------------------------------------------------

@kernel(ops.clone, "triton")
def clone(x):
    return x.astype(x.dtype)


@kernel(ops.cast, "triton")
def cast(x, *, dtype):
    return x.astype(dtype)


@kernel(ops.zeros_like, "triton")
def zeros_like(x):
    return full(x, x.shape, 0)


@kernel(ops.ones_like, "triton")
def ones_like(x):
    return full(x, x.shape, 1)


@kernel(ops.shape.concatenate_, "triton")
def concatenate(*arrays, axis=0):
    y = arrays[0].empty(np.concatenate([np.empty(x.shape, np.bool_) for x in arrays], axis).shape, arrays[0].dtype)
    start = 0
    for x in arrays:
        end = start + x.shape[axis]
        y[(slice(None),) * (axis % x.ndim) + (slice(start, end),)].write(x)
        start = end
    return y


@kernel(ops.shape.pad_constant, "triton")
def pad_constant(x, *, widths, value=0.0):
    y = full(x, tuple(b + n + a for n, (b, a) in zip(x.shape, widths, strict=True)), value)
    kept = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))
    room = tuple(slice(max(b, 0), n - max(a, 0)) for n, (b, a) in zip(y.shape, widths, strict=True))
    y[room].write(x[kept])
    return y


@kernel(ops.tile, "triton")
def tile(x, *, repeats):
    ndim = max(x.ndim, len(repeats))
    repeats = (1,) * (ndim - len(repeats)) + tuple(repeats)
    shape = (1,) * (ndim - x.ndim) + x.shape
    apart = x.reshape(tuple(n for length in shape for n in (1, length)))
    apart = apart.expand(tuple(n for pair in zip(repeats, shape, strict=True) for n in pair))
    return apart.reshape(tuple(r * n for r, n in zip(repeats, shape, strict=True)))


@kernel(ops.indexing.add_at, "triton")
def add_at(x, *, shape, index):
    if not is_basic(index):
        return NotImplemented
    y = full(x, shape, 0)
    y[index].write(x)
    return y


@kernel(ops.index_put, "triton")
def index_put(x, value, *, index):
    if not is_basic(index):
        return NotImplemented
    y = clone(x)
    y[index].write(value if isinstance(value, DeviceArray) else np.asarray(value))
    return y


# From a GPU too, a transfer is a copy, not a fallback.
kernel(ops.shape.transferred, "triton")(ops.shape.transferred.definition)
