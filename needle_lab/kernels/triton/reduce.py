"""Reductions: the reduced axes of an array become columns, all others rows, whatever the layout.

Sums and extremes walk along rows of any length, tile by tile. Softmax and its kin keep whole rows in registers: they
read every value once and write every result once, which is why they take rows of up to 32,768 values only.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice

from ... import ops
from ...core.dtypes import NARROW, float32
from ...core.tiers import kernel
from ...ops.axes import normalize_axes
from . import functions
from .array import DeviceArray
from .elementwise import TRITON_DTYPES
from .layout import place
from .runtime import launch
from .strides import Sizes, merge

TILE = 4096                # values that one program holds at once
WIDEST_TILE = 512          # columns of it, where rows are walked along
LONGEST_ROW = 32768


@triton.jit
def load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, OUTSIDE: tl.constexpr,
              DTYPE: tl.constexpr):
    """x at rows x cols, with OUTSIDE beyond the edges."""
    places = place(rows, row_shape, row_strides)[:, None] + place(cols, col_shape, col_strides)[None, :]
    inside = (rows[:, None] < n_rows) & (cols[None, :] < n_cols)
    return tl.where(inside, tl.load(x_ptr + places, mask=inside).to(DTYPE), OUTSIDE).to(DTYPE)


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
                  MEAN: tl.constexpr, START: tl.constexpr, DTYPE: tl.constexpr,
                  ROWS: tl.constexpr, COLS: tl.constexpr):
    """One program reduces ROWS rows: it reads them once, a tile of COLS columns at a time, and writes one value each.

    Tiles are summed in float64: added in float32, a long row's would lose their digits.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    TOTAL: tl.constexpr = tl.float64 if HOW == "sum" and DTYPE == tl.float32 else DTYPE      # noqa: SIM300
    total = tl.full((ROWS,), START, TOTAL)
    for first in range(0, n_cols, COLS):
        cols = first + tl.arange(0, COLS)
        tile = load_tile(x_ptr, rows, cols, n_rows, n_cols, row_shape, row_strides, col_shape, col_strides, START, DTYPE)
        part = fold(tile, HOW)
        if HOW == "sum":
            total += part.to(TOTAL)
        elif HOW == "max":
            total = functions.maximum(total, part)
        else:
            total = functions.minimum(total, part)
    if MEAN:
        total = libdevice.div_rn(total, tl.full((ROWS,), n_cols, TOTAL))
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
        reduced = normalize_axes(axis, x.ndim)
        kept = tuple(a for a in range(x.ndim) if a not in reduced)

        def side(axes: Sizes) -> tuple[Sizes, ...]:
            """The shape and, for x and each result, the strides of some of the axes."""
            return merge(tuple(x.shape[a] for a in axes), *(tuple(y.strides[a] for a in axes) for y in (x, *results)))

        self.rows, self.cols = side(kept), side(reduced)
        self.n_rows, self.n_cols = math.prod(self.rows[0]), math.prod(self.cols[0])
        self.shape = {False: tuple(x.shape[a] for a in kept),                     # of the result, by keepdims
                      True: tuple(1 if a in reduced else n for a, n in enumerate(x.shape))}
        small = x.dtype.kind in "iub" and x.dtype.itemsize < 4                     # Triton reduces them as int32
        self.compute = float32 if x.dtype in NARROW else np.dtype(np.int32) if small else x.dtype

    def launch(self, function, *arrays: DeviceArray, whole: bool, **constants) -> None:
        """Start a row kernel on (x, result).  whole: all columns in one tile."""
        cols = triton.next_power_of_2(max(self.n_cols, 1))
        cols = cols if whole else min(cols, WIDEST_TILE)
        rows = max(1, min(TILE // cols, triton.next_power_of_2(max(self.n_rows, 1))))
        (row_shape, *row_strides), (col_shape, *col_strides) = self.rows, self.cols
        extra = [part for pair in zip(row_strides[1:], col_strides[1:], strict=True) for part in pair]
        launch(function, (triton.cdiv(self.n_rows, rows),), *arrays, self.n_rows, self.n_cols, row_shape, row_strides[0],
               col_shape, col_strides[0], *extra, ROWS=rows, COLS=cols, num_warps=4 if cols <= TILE else 16, **constants)


def identity(how: str, dtype: np.dtype):
    """What changes no sum, maximum or minimum."""
    if how == "sum" or dtype.kind == "b":
        return int(how == "min")
    if dtype.kind == "f":
        return -math.inf if how == "max" else math.inf
    return int(np.iinfo(dtype).min if how == "max" else np.iinfo(dtype).max)


def reduce(x, *, axis=None, keepdims=False, how: str, mean: bool = False, truth: bool = False):
    """truth: x is taken as bools, and all of nothing is true."""
    x = x.astype(np.bool_) if truth else x
    table = Rows(x, axis)
    if how != "sum" and not truth and not table.n_cols:
        return NotImplemented                              # numpy says that nothing has no maximum
    count = how == "sum" and x.dtype.kind in "iub"         # integers add up to int64
    compute = np.dtype(np.int64) if count else table.compute
    y = x.empty(table.shape[keepdims], compute if count else x.dtype)
    table.launch(reduce_kernel, x, y, whole=False, HOW=how, MEAN=mean, START=identity(how, x.dtype if truth else compute),
                 DTYPE=TRITON_DTYPES[compute])
    return y


kernel(ops.sum, "triton")(functools.partial(reduce, how="sum"))
kernel(ops.mean, "triton")(functools.partial(reduce, how="sum", mean=True))
kernel(ops.max, "triton")(functools.partial(reduce, how="max"))
kernel(ops.min, "triton")(functools.partial(reduce, how="min"))
kernel(ops.any, "triton")(functools.partial(reduce, how="max", truth=True))
kernel(ops.all, "triton")(functools.partial(reduce, how="min", truth=True))


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
    y = x.empty(table.shape[keepdims], x.dtype)
    table.launch(logsumexp_kernel, x, y, whole=True, DTYPE=TRITON_DTYPES[table.compute])
    return y


def argmax(x, *, axis=None, keepdims=False, how: str):
    table = Rows(x, axis)
    if not 0 < table.n_cols <= LONGEST_ROW or x.dtype.kind == "b":
        return NotImplemented
    y = x.empty(table.shape[keepdims], np.dtype(np.int64))
    table.launch(argmax_kernel, x, y, whole=True, HOW=how, DTYPE=TRITON_DTYPES[table.compute],
                 OUTSIDE=identity(how, table.compute))
    return y


kernel(ops.argmax, "triton")(functools.partial(argmax, how="max"))
kernel(ops.argmin, "triton")(functools.partial(argmax, how="min"))
