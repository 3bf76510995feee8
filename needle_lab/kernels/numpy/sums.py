"""Sums of many float32 values that keep their digits, along any axes, as fast as the values can be read.

NumPy adds in pairs only along the axis that is contiguous in memory. Along the others it adds row after row into one
float32, to which after 2^24 equal rows nothing more can be added. Here runs of rows are summed by a product with ones
(BLAS takes half the time of np.add.reduce), short rows lying side by side in longer ones; the runs are added in float64.
"""

import functools
import itertools
import math

import numpy as np

from ... import ops
from ...core.tiers import kernel
from ...ops.axes import normalize_axes
from ...ops.reduce import added, count

RUN = 128                    # rows added one after the other: each addition loses up to 2^-25 of the sum, 4e-6 in all
WIDTH = 512                  # values of a row from which on BLAS works at full speed
LONG = 4096                  # values along a row, of which each lane of a vector adds one in eight or sixteen
FEW = 256                    # values of which no addition loses much


@kernel(added, "numpy")
def long_sums(x, axis=None, keepdims=False):
    if x.dtype != np.float32 or not x.size:
        return NotImplemented
    many = x.size if axis is None else x.shape[axis] if type(axis) is int and -x.ndim <= axis < x.ndim else count(x, axis)
    if many <= FEW or (axis is None and x.flags.forc) or (axis in (-1, x.ndim - 1) and x.flags.c_contiguous):
        return np.add.reduce(x, axis=axis, keepdims=keepdims)             # in pairs, or of so few
    if axis == 0 and x.flags.c_contiguous:
        y = middle(x.reshape(1, len(x), -1)).reshape(x.shape[1:])
        return y[None] if keepdims else y
    axes = normalize_axes(axis, x.ndim)
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))       # the axes as they lie in memory
    if not x.transpose(order).flags.c_contiguous:
        return NotImplemented
    groups = [(gone, math.prod(x.shape[i] for i in part)) for gone, part in itertools.groupby(order, axes.__contains__)]
    y = x.transpose(order).reshape([n for _, n in groups])
    for place in reversed(range(len(groups))):
        if groups[place][0]:
            y = middle(y.reshape(math.prod(y.shape[:place]), groups[place][1], -1)).reshape(*y.shape[:place], -1)
    kept = [i for i in order if i not in axes]
    y = y.reshape([x.shape[i] for i in kept]).transpose(np.argsort(kept))
    return y.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]) if keepdims else y


@kernel(ops.sum, "numpy")
def quick_sum(x, *, axis=None, keepdims=False):
    return long_sums(x, axis, keepdims)


def middle(x):
    """(A, R, K) -> (A, K), over the middle axis."""
    a, r, k = x.shape
    if k == 1:
        return np.add.reduce(x.reshape(a, r), axis=1, keepdims=True)
    if r <= RUN:
        return np.add.reduce(x, axis=1)
    fold = max(1, min(WIDTH // max(k, 1), r // RUN))                      # so many rows side by side
    runs = r // (RUN * fold)
    rows = x[:, :runs * RUN * fold].reshape(a, runs, RUN, fold * k)
    total = np.add.reduce(ones(RUN, x.dtype) @ rows, axis=1, dtype=np.float64)
    total = np.add.reduce(total.reshape(a, fold, k), axis=1)
    rest = x[:, runs * RUN * fold:]
    return (total + middle(rest) if rest.shape[1] else total).astype(x.dtype)


def of_rows(x):
    """(R, K) -> (K)."""
    return ones(len(x), x.dtype).dot(x) if len(x) <= 4 * RUN or x.dtype != np.float32 else middle(x[None])[0]


def products(a, b):
    """(R, K) twice -> (K): the sum of a * b over the rows."""
    return np.einsum("rk,rk->k", a, b) if len(a) <= RUN else of_rows(a * b)


def products_along(a, b):
    """(R, K) twice -> (R): the sum of a * b along the rows."""
    whole = a.shape[1] // LONG * LONG
    if not whole:
        return np.einsum("rk,rk->r", a, b)
    runs = np.einsum("rnk,rnk->rn", *(x[:, :whole].reshape(len(x), -1, LONG) for x in (a, b)))
    return runs.sum(1, dtype=np.float64) + np.einsum("rk,rk->r", a[:, whole:], b[:, whole:])


@functools.lru_cache(maxsize=8)
def ones(n, dtype):
    """What a product with sums n rows."""
    values = np.ones(n, dtype)
    values.flags.writeable = False
    return values
