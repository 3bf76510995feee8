"""Values picked by an index, and gradients added back to where they were picked from.

`take_along_axis` and `index_select` are one kernel in two layouts: result element i is x at i's own coordinates, with
the coordinate along one axis read from the index.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

from ... import ops
from ...core.dtypes import NARROW, float32
from ...core.tiers import kernel
from ...ops.indexing import check_index
from .array import DeviceArray
from .elementwise import TRITON_DTYPES
from .layout import BLOCK, place
from .runtime import launch
from .strides import broadcast, merge

MOST_PICKS = 64          # scatter_add compares each place with every pick along the axis; beyond this the host is faster


@triton.jit(do_not_specialize=["n", "length"])
def gather_kernel(x_ptr, index_ptr, y_ptr, x_strides, index_strides, axis_stride, length, shape, n, BLOCK: tl.constexpr):
    """One program picks BLOCK values: it reads each value's index, then the value; and writes it once."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    pick = tl.load(index_ptr + place(i, shape, index_strides), mask=inside, other=0).to(tl.int32)
    pick = tl.where(pick < 0, pick + length, pick)                # -1 is the last
    x = tl.load(x_ptr + place(i, shape, x_strides) + pick * axis_stride, mask=inside)
    tl.store(y_ptr + i, x, mask=inside)


@triton.jit(do_not_specialize=["n", "length", "inner", "picks"])
def scatter_add_kernel(x_ptr, index_ptr, source_ptr, y_ptr, x_strides, index_strides, source_strides, index_step,
                       source_step, picks, length, inner, shape, n, DTYPE: tl.constexpr, BLOCK: tl.constexpr):
    """One program owns BLOCK places: each adds up, in order, the picks that name it.  No atomics: always the same bits."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    total = tl.load(x_ptr + place(i, shape, x_strides), mask=inside).to(DTYPE)
    here = i // inner % length                                    # the coordinate along the axis
    index_ptr += place(i, shape, index_strides)
    source_ptr += place(i, shape, source_strides)
    for k in range(picks):
        pick = tl.load(index_ptr + k * index_step, mask=inside, other=0).to(tl.int32)
        hit = inside & (tl.where(pick < 0, pick + length, pick) == here)
        total += tl.load(source_ptr + k * source_step, mask=hit, other=0).to(DTYPE)
    tl.store(y_ptr + i, total.to(y_ptr.dtype.element_ty), mask=inside)


def pick(x: DeviceArray, index: DeviceArray, axis: int, x_strides, index_strides, shape) -> DeviceArray:
    y = x.empty(shape, x.dtype)
    shape, x_strides, index_strides = merge(shape, x_strides, index_strides)
    launch(gather_kernel, (triton.cdiv(y.size, BLOCK),), x, index, y, x_strides, index_strides, x.strides[axis],
           x.shape[axis], shape, y.size, BLOCK=BLOCK)
    return y


@kernel(ops.index_select, "triton")
def index_select(x, index, *, axis=0, from_end=True):
    axis %= x.ndim
    check_index(index.numpy(), x.shape[axis], "index_select", from_end)   # out of range, it would read foreign memory
    before, after = x.shape[:axis], x.shape[axis + 1:]
    return pick(x, index, axis, x.strides[:axis] + (0,) * index.ndim + x.strides[axis + 1:],
                (0,) * len(before) + index.strides + (0,) * len(after), before + index.shape + after)


@kernel(ops.take_along_axis, "triton")
def take_along_axis(x, index, *, axis, from_end=True):
    axis %= x.ndim
    check_index(index.numpy(), x.shape[axis], "take_along_axis", from_end)   # out of range, it would read foreign memory
    rest = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    shape = np.broadcast_shapes(index.shape, rest)
    strides = tuple(0 if a == axis else s for a, s in enumerate(x.strides))
    return pick(x, index, axis, broadcast(rest, strides, shape), broadcast(index.shape, index.strides, shape), shape)


@kernel(ops.scatter_add, "triton")
def scatter_add(x, index, source, *, axis, from_end=True):
    axis %= x.ndim
    check_index(index.numpy(), x.shape[axis], "scatter_add", from_end)   # out of range, it would read foreign memory
    picks = index.shape[axis]
    same = all(n == m for a, (n, m) in enumerate(zip(x.shape, index.shape, strict=True)) if a != axis)
    if picks > MOST_PICKS or not same or source.shape != index.shape:
        return NotImplemented
    y = x.empty(x.shape, x.dtype)

    def without_axis(array):
        return tuple(0 if a == axis else s for a, s in enumerate(array.strides))

    launch(scatter_add_kernel, (triton.cdiv(y.size, BLOCK),), x, index, source, y, x.strides or (0,),
           without_axis(index), without_axis(source), index.strides[axis], source.strides[axis], picks, x.shape[axis],
           y.strides[axis], x.shape, y.size, DTYPE=TRITON_DTYPES[float32 if x.dtype in NARROW else x.dtype], BLOCK=BLOCK)
    return y
