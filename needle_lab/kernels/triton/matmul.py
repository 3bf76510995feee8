"""Matrix products, tile by tile: each program owns one tile of the result.

Layouts are strides, so a transposed operand costs nothing, and leading axes broadcast with strides of 0. float32 is
multiplied as IEEE float32, not in the shorter tf32; float16 and bfloat16 products are summed in float32.
"""

from __future__ import annotations

import math

import numpy as np
import triton
import triton.language as tl

from ... import ops
from ...core.dtypes import is_floating
from ...core.tiers import kernel
from ...errors import ShapeError
from .array import DeviceArray
from .layout import place
from .runtime import launch
from .strides import broadcast, merge

LARGEST_TILE = (64, 64, 32)          # rows, columns, and terms added at a time
GROUP = 8                            # programs that run together share columns of b: GROUP tiles down, then across


@triton.jit(do_not_specialize=["m", "n", "k"])
def matmul_kernel(a_ptr, b_ptr, bias_ptr, y_ptr, m, n, k, a_row, a_col, b_row, b_col, bias_step, batch_shape, a_batch,
                  b_batch, BIAS: tl.constexpr, ACCUMULATE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
                  TERMS: tl.constexpr, GROUP: tl.constexpr):
    """y = a @ b (+ bias).  a (batch, m, k), b (batch, k, n), y (batch, m, n) dense.

    One program owns a tile of ROWS x COLS values of y: it walks along k, TERMS at a time, reads the tiles of a and b that
    meet there, keeps the sum in registers, and writes it once.
    """
    down, across = tl.cdiv(m, ROWS), tl.cdiv(n, COLS)
    batch = tl.program_id(0) // (down * across)
    tile = tl.program_id(0) % (down * across)
    first = tile // (GROUP * across) * GROUP
    height = min(down - first, GROUP)
    rows = (first + tile % (GROUP * across) % height) * ROWS + tl.arange(0, ROWS)
    cols = (tile % (GROUP * across) // height) * COLS + tl.arange(0, COLS)
    terms = tl.arange(0, TERMS)

    a_ptr += place(batch, batch_shape, a_batch)
    b_ptr += place(batch, batch_shape, b_batch)
    total = tl.zeros((ROWS, COLS), ACCUMULATE)
    for start in range(0, k, TERMS):
        here = start + terms
        a = tl.load(a_ptr + rows[:, None] * a_row + here[None, :] * a_col,
                    mask=(rows[:, None] < m) & (here[None, :] < k), other=0.0)
        b = tl.load(b_ptr + here[:, None] * b_row + cols[None, :] * b_col,
                    mask=(here[:, None] < k) & (cols[None, :] < n), other=0.0)
        total = tl.dot(a, b, total, input_precision="ieee", out_dtype=ACCUMULATE)
    if BIAS:
        total += tl.load(bias_ptr + cols * bias_step, mask=cols < n, other=0.0).to(ACCUMULATE)[None, :]
    tl.store(y_ptr + batch * m * n + rows[:, None] * n + cols[None, :], total.to(y_ptr.dtype.element_ty),
             mask=(rows[:, None] < m) & (cols[None, :] < n))


def product(a: DeviceArray, b: DeviceArray, bias: DeviceArray | None = None) -> DeviceArray:
    """(..., m, k) @ (..., k, n) + (n) -> (..., m, n)."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = a.empty((*lead, m, n), a.dtype)
    batch, a_batch, b_batch = merge(lead, *(broadcast(x.shape[:-2], x.strides[:-2], lead) for x in (a, b)))
    rows, cols, terms = (max(16, min(most, triton.next_power_of_2(size or 1)))        # a dot needs at least 16
                         for most, size in zip(LARGEST_TILE, (m, n, k), strict=True))
    launch(matmul_kernel, (math.prod(lead) * triton.cdiv(m, rows) * triton.cdiv(n, cols),),
           a, b, bias if bias is not None else b, y, m, n, k, *a.strides[-2:], *b.strides[-2:],
           bias.strides[0] if bias is not None else 0, batch, a_batch, b_batch, BIAS=bias is not None,
           ACCUMULATE=tl.float64 if a.dtype == np.float64 else tl.float32, ROWS=rows, COLS=cols, TERMS=terms, GROUP=GROUP)
    return y


@kernel(ops.matmul, "triton")
def matmul(a, b):
    if not is_floating(a.dtype):
        return NotImplemented
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(f"matmul: {a.shape} @ {b.shape}: the last axis of the first and the second last of the second "
                         "need the same length")
    left = a if a.ndim > 1 else a[None, :]               # a vector on the left is a row, on the right a column
    right = b if b.ndim > 1 else b[:, None]
    y = product(left, right)
    if a.ndim == 1:
        y = y[..., 0, :]
    return y if b.ndim > 1 else y[..., 0]


@kernel(ops.linear, "triton")
def linear(x, weight, bias=None):
    if not is_floating(x.dtype):
        return NotImplemented
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ShapeError(f"linear: input {x.shape} needs {weight.shape[-1]} as its last length for weight {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        return NotImplemented
    lead = x.shape[:-1]
    y = product(x.reshape((math.prod(lead), x.shape[-1])), weight.view(lambda w: w.T), bias)
    return y.reshape((*lead, weight.shape[0]))
