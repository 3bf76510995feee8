"""Reductions: the reduced axes of an array become columns, all others rows, whatever the layout.

`row_sum` and the like walk along rows of any length in tiles. Softmax and its kin keep whole rows in registers: they
read every value once and write every result once, which is why they take rows of up to 32,768 values only.
"""

from __future__ import annotations

import functools

import numpy as np
import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice

from ... import ops
from ...dtypes import NARROW, float32
from ...graph import kernel
from ...ops.reduce import normalize_axes
from .array import DeviceArray
from .elementwise import TRITON_DTYPES
from .layout import place
from .runtime import launch
from .strides import Sizes, merge

TILE = 4096                # values that one program holds at once
LONGEST_ROW = 32768


@triton.jit
def load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, OUTSIDE: tl.constexpr,
              DTYPE: tl.constexpr):
    """x at rows x cols, with OUTSIDE beyond the edges."""
    places = place(rows, row_shape, row_strides)[:, None] + place(cols, col_shape, col_strides)[None, :]
    inside = (rows[:, None] < n_rows) & (cols[None, :] < n_cols)
    return tl.load(x_ptr + places, mask=inside, other=OUTSIDE).to(DTYPE)


@triton.jit
def fold(tile, HOW: tl.constexpr):
    """A tile's rows -> one value each.  nan wins over every maximum and minimum, as in numpy."""
    if HOW == "sum":
        return tl.sum(tile, 1)
    else:
        extreme = tl.max(tile, 1) if HOW == "max" else tl.min(tile, 1)
        if tile.dtype.is_floating():
            extreme = tl.where(tl.sum((tile != tile).to(tl.int32), 1) > 0, float("nan"), extreme)
        return extreme


@triton.jit(do_not_specialize=["n_rows"])
def reduce_kernel(x_ptr, y_ptr, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, HOW: tl.constexpr,
                  MEAN: tl.constexpr, NONZERO: tl.constexpr, START: tl.constexpr, DTYPE: tl.constexpr,
                  ROWS: tl.constexpr, COLS: tl.constexpr):
    """One program reduces ROWS rows: it reads them once, a tile of COLS columns at a time, and writes one value each."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.full((ROWS,), START, DTYPE)
    for first in range(0, n_cols, COLS):
        cols = first + tl.arange(0, COLS)
        tile = load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, START, DTYPE)
        if NONZERO:
            tile = (tile != 0).to(DTYPE)
        part = fold(tile, HOW)
        if HOW == "sum":
            total += part
        elif HOW == "max":
            total = tl.maximum(total, part, propagate_nan=tl.PropagateNan.ALL)
        else:
            total = tl.minimum(total, part, propagate_nan=tl.PropagateNan.ALL)
    if MEAN:
        total = libdevice.div_rn(total, tl.full((ROWS,), n_cols, DTYPE))
    tl.store(y_ptr + rows, total.to(y_ptr.dtype.element_ty), mask=rows < n_rows)


@triton.jit(do_not_specialize=["n_rows", "n_cols"])
def softmax_kernel(x_ptr, y_ptr, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, y_row_strides,
                   y_col_strides, LOG: tl.constexpr, DTYPE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """One program owns ROWS whole rows in registers: one read, one write."""
    rows, cols = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLS)
    x = load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, float("-inf"), DTYPE)
    x = x - fold(x, "max")[:, None]
    e = libdevice.exp(x)
    total = tl.sum(e, 1)[:, None]
    if LOG:
        y = x - libdevice.log(total)
    else:
        y = libdevice.div_rn(e, tl.broadcast_to(total, (ROWS, COLS)))
    places = place(rows, row_shape, y_row_strides)[:, None] + place(cols, col_shape, y_col_strides)[None, :]
    tl.store(y_ptr + places, y.to(y_ptr.dtype.element_ty), mask=(rows[:, None] < n_rows) & (cols[None, :] < n_cols))


@triton.jit(do_not_specialize=["n_rows", "n_cols"])
def logsumexp_kernel(x_ptr, y_ptr, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, DTYPE: tl.constexpr,
                     ROWS: tl.constexpr, COLS: tl.constexpr):
    """One program owns ROWS whole rows in registers: one read, one value written for each row."""
    rows, cols = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLS)
    x = load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, float("-inf"), DTYPE)
    top = fold(x, "max")
    top = tl.where(tl.abs(top) < float("inf"), top, 0.0)           # rows of -inf, inf or nan: exp gives the answer
    y = libdevice.log(tl.sum(libdevice.exp(x - top[:, None]), 1)) + top
    tl.store(y_ptr + rows, y.to(y_ptr.dtype.element_ty), mask=rows < n_rows)


@triton.jit(do_not_specialize=["n_rows", "n_cols"])
def argmax_kernel(x_ptr, y_ptr, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, HOW: tl.constexpr,
                  OUTSIDE: tl.constexpr, DTYPE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """One program owns ROWS whole rows in registers, and writes the first column of each that holds its extreme."""
    rows, cols = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLS)
    x = load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, OUTSIDE, DTYPE)
    extreme = fold(x, HOW)[:, None]
    found = (x == extreme) | ((x != x) & (extreme != extreme))     # a nan is the extreme, and equals nothing
    first = tl.min(tl.where(found & (cols[None, :] < n_cols), cols[None, :], COLS), 1)
    tl.store(y_ptr + rows, first.to(y_ptr.dtype.element_ty), mask=rows < n_rows)


# --- rows and columns -------------------------------------------------------------------------------------------------

class Rows:
    """An array as rows (the axes that stay) and columns (the axes that are reduced), in the arguments of a kernel."""

    def __init__(self, x: DeviceArray, axis, *results: DeviceArray):
        axes = normalize_axes(axis, x.ndim)
        kept = tuple(a for a in range(x.ndim) if a not in axes)
        self.n_rows, self.n_cols = (int(np.prod([x.shape[a] for a in side], dtype=np.int64)) for side in (kept, axes))
        arrays = (x, *results)
        self.rows, self.cols = (merge(tuple(x.shape[a] for a in side), *(tuple(y.strides[a] for a in side) for y in arrays))
                                for side in (kept, axes))
        self.shape: Sizes = tuple(x.shape[a] for a in kept)
        self.shape_kept: Sizes = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        compute = float32 if x.dtype in NARROW else x.dtype
        self.compute = compute

    def launch(self, function, *arrays: DeviceArray, whole: bool, **constants) -> None:
        """Start a row kernel on (x, result): tiles of up to 4096 values; `whole` rows in one tile."""
        cols = triton.next_power_of_2(max(self.n_cols, 1))
        cols = cols if whole else min(cols, 512)
        rows = max(1, min(TILE // cols, triton.next_power_of_2(max(self.n_rows, 1))))
        (row_shape, *row_strides), (col_shape, *col_strides) = self.rows, self.cols
        extra = [part for pair in zip(row_strides[1:], col_strides[1:], strict=True) for part in pair]
        launch(function, (triton.cdiv(self.n_rows, rows),), *arrays, self.n_rows, self.n_cols, row_shape, row_strides[0],
               col_shape, col_strides[0], *extra, ROWS=rows, COLS=cols, **constants)


def lowest(dtype: np.dtype):
    """The identity of the maximum."""
    return -float("inf") if dtype.kind == "f" else 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)


def highest(dtype: np.dtype):
    """The identity of the minimum."""
    return float("inf") if dtype.kind == "f" else 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def reduce(x, how: str, axis, keepdims, mean: bool = False, nonzero: bool = False):
    table = Rows(x, axis)
    if how != "sum" and not nonzero and not table.n_cols:
        return NotImplemented                                      # numpy says that there is no maximum of nothing
    compute = table.compute
    if how == "sum" and compute.kind in "iub":
        compute = np.dtype(np.int64)
    elif nonzero or compute.kind == "b":
        compute = np.dtype(np.int32) if compute.kind == "b" else compute
    start = 0 if how == "sum" else (0 if how == "max" else 1) if nonzero else \
        lowest(compute) if how == "max" else highest(compute)
    result = np.dtype(np.bool_) if nonzero else compute if how == "sum" and compute == np.int64 else x.dtype
    y = x.empty(table.shape_kept if keepdims else table.shape, result)
    table.launch(reduce_kernel, x, y, whole=False, HOW=how, MEAN=mean, NONZERO=nonzero, START=start,
                 DTYPE=TRITON_DTYPES[compute])
    return y


for _op, _settings in {ops.sum: dict(how="sum"), ops.mean: dict(how="sum", mean=True), ops.max: dict(how="max"),
                       ops.min: dict(how="min"), ops.any: dict(how="max", nonzero=True),
                       ops.all: dict(how="min", nonzero=True)}.items():
    @kernel(_op, "triton")
    def _reduction(x, *, axis=None, keepdims=False, settings=_settings):
        return reduce(x, axis=axis, keepdims=keepdims, **settings)


def softmax(x, *, axis=-1, log: bool):
    y = x.empty(x.shape, x.dtype)
    table = Rows(x, axis, y)
    if table.n_cols > LONGEST_ROW:
        return NotImplemented
    table.launch(softmax_kernel, x, y, whole=True, LOG=log, DTYPE=TRITON_DTYPES[table.compute])
    return y


kernel(ops.softmax, "triton")(functools.partial(softmax, log=False))
kernel(ops.log_softmax, "triton")(functools.partial(softmax, log=True))


@kernel(ops.logsumexp, "triton")
def logsumexp(x, *, axis=None, keepdims=False):
    table = Rows(x, axis)
    if table.n_cols > LONGEST_ROW:
        return NotImplemented
    y = x.empty(table.shape_kept if keepdims else table.shape, x.dtype)
    table.launch(logsumexp_kernel, x, y, whole=True, DTYPE=TRITON_DTYPES[table.compute])
    return y


def argmax(x, *, axis=None, keepdims=False, how: str):
    table = Rows(x, axis)
    if not 0 < table.n_cols <= LONGEST_ROW or x.dtype.kind == "b":
        return NotImplemented
    y = x.empty(table.shape_kept if keepdims else table.shape, np.dtype(np.int64))
    table.launch(argmax_kernel, x, y, whole=True, HOW=how, DTYPE=TRITON_DTYPES[table.compute],
                 OUTSIDE=(lowest if how == "max" else highest)(table.compute))
    return y


kernel(ops.argmax, "triton")(functools.partial(argmax, how="max"))
kernel(ops.argmin, "triton")(functools.partial(argmax, how="min"))
