"""Gradients of sums and moves as one function of arrays: small steps whose tensors would cost more than their values."""

import math

import numpy as np

from ... import ops
from ...core.tiers import kernel
from ...ops.indexing import index_select_grad
from ...ops.reduce import count, restore


@kernel(ops.sum.gradient, "numpy")
def sum_gradient(wants, g, x, axis, keepdims):
    dx = np.empty_like(x)
    dx[...] = g if axis is None else restore(g, x, axis, keepdims)
    return dx


@kernel(ops.mean.gradient, "numpy")
def mean_gradient(wants, g, x, axis, keepdims):
    dx = sum_gradient(wants, g, x, axis, keepdims)
    dx *= x.dtype.type(1 / (count(x, axis) or math.nan))
    return dx


@kernel(ops.reshape.gradient, "numpy")
def reshape_gradient(wants, g, x):
    return g.reshape(x.shape)


@kernel(index_select_grad, "numpy")
def sorted_sums(slices, index, *, shape, axis):
    """The places sorted, then summed in runs: np.add.at takes an order of magnitude longer."""
    flat = np.asarray(index).reshape(-1) % max(shape[axis], 1)
    if slices.size != math.prod(shape[:axis]) * flat.size * math.prod(shape[axis + 1:]):
        return NotImplemented
    rows = np.moveaxis(slices.reshape(shape[:axis] + (flat.size,) + shape[axis + 1:]), axis, 0)
    y = np.zeros((shape[axis],) + rows.shape[1:], slices.dtype)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        y[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return np.moveaxis(y, 0, axis)
