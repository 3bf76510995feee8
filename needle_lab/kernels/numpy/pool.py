"""Pooling one dimension after another, in parts that stay in the cache and are shared among the threads."""

import numpy as np

from ...core.tiers import kernel
from ...ops import pool
from ...ops.windows import output_size
from .convolution.geometry import overlap
from .threads import parallel

# --- along one dimension --------------------------------------------------------------------------------------------
#
# The largest value, or the sum, of a window is that of its rows' largest values, or sums: k + k steps instead of k * k.
# The first winner of a window, row by row, is the first winner of the first row that has one, so gradients go the same
# way back. Work is done in parts that stay in the cache, and the parts are shared among the threads.

PART_VALUES = 1 << 18        # numbers in a part (measured)


def _places(n: int, k: int, s: int, pad: tuple[int, int], d: int, m: int, axis: int, ndim: int):
    """For each place in a window along one axis: (index of the windows, index of what they see there of the map)."""
    lead, rest = (slice(None),) * axis, (slice(None),) * (ndim - axis - 1)
    for p in range(k):
        first, last = overlap(p, n, s, pad[0], d, 0, m)
        if first < last:
            at = first * s - pad[0] + p * d
            yield (*lead, slice(first, last), *rest), (*lead, slice(at, at + (last - first - 1) * s + 1, s), *rest)


def _dimensions(shape, kernel, stride, pads, dilation):
    """Last dimension first: (axis, the shape after it, the arguments of `_places`)."""
    shape, ndim = list(shape), len(shape)
    for axis in reversed(range(ndim - len(kernel), ndim)):
        i = axis - ndim
        n = shape[axis]
        shape[axis], = output_size((n,), kernel[i:][:1], stride[i:][:1], pads[i:][:1], dilation[i:][:1])
        yield tuple(shape), (n, kernel[i], stride[i], pads[i], dilation[i], shape[axis], axis, ndim)


def _like(x, shape):
    """An uninitialised array of this shape in the memory order of x."""
    return np.empty_like(x, shape=shape)


def _max_along(x, shape, places, y=None):
    y = _like(x, shape) if y is None else y
    started = False
    for windows, seen in places:
        if started:
            np.maximum(y[windows], x[seen], out=y[windows])
        else:
            if y[windows].shape != y.shape:
                y[...] = _lowest(x.dtype)
            y[windows] = x[seen]
            started = True
    if not started:
        y[...] = _lowest(x.dtype)
    return y


def _lowest(dtype):
    return -np.inf if dtype.kind not in "iub" else np.iinfo(dtype).min if dtype.kind != "b" else False


def _winners_along(x, y, places):
    """For each place: (its windows, its part of the map, where a window's first largest value stands there)."""
    taken = None
    for windows, seen in places:
        here = x[seen] == y[windows]
        if taken is None:
            taken = np.zeros(y.shape, bool)
        else:
            here &= ~taken[windows]
        taken[windows] |= here
        yield windows, seen, here


def _to_winners_along(g, x, y, places, apart: bool):
    """Each window's g to its first largest value.  apart: no place is in two windows.

    A comparison's outcome as -1 or 0 is a mask of bits: `g & mask` is g or zero, five times faster than np.where.
    """
    bits = np.dtype(f"i{g.itemsize}")
    rest, dx = np.empty_like(y, dtype=g.dtype), np.zeros_like(x, dtype=g.dtype)       # rest: what no place has taken yet
    rest[...] = g
    for windows, seen in places:
        mask = np.negative((x[seen] == y[windows]).view(np.int8), dtype=bits)
        open_ = rest[windows].view(bits)
        mask &= open_
        open_ ^= mask
        if apart:
            dx[seen] = mask.view(g.dtype)
        else:
            dx[seen] += mask.view(g.dtype)
    return dx


def _by_parts(function, x, spatial: int) -> None:
    """function(index) for parts of x along the outermost of its axes in memory that is not spatial."""
    axis = max(range(max(x.ndim - spatial, 1)), key=lambda i: (x.strides[i], -i))
    n = x.shape[axis]
    step = max(1, PART_VALUES * n // max(x.size, 1))
    parallel(lambda i: function((*(slice(None),) * axis, slice(i, i + step))), range(0, n, step))


def _result(x, shape, spatial: int, compute):
    """An array of this shape, computed part by part: compute(index, the part of the result)."""
    y = _like(x, shape)
    _by_parts(lambda at: compute(at, y[at]), x, spatial)
    return y

def _maxima(x, window):
    """x, and what is left of it after each dimension; the last is the result."""
    maps = [x]
    for shape, along in _dimensions(x.shape, **window):
        maps.append(_max_along(maps[-1], shape, _places(*along)))
    return maps


def _pooled(shape, window) -> tuple[int, ...]:
    return tuple(shape[:-len(window["kernel"])]) + output_size(shape[-len(window["kernel"]):], **window)


@kernel(pool.max_windows, "numpy")
def max_windows(x, *, kernel, stride, pads, dilation):
    """The largest value of each window."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)

    def part(at, y):
        y[...] = _maxima(x[at], window)[-1]
    return _result(x, _pooled(x.shape, window), len(kernel), part)


@kernel(pool.to_winners, "numpy")
def to_winners(slopes, x, *, kernel, stride, pads, dilation):
    """Each window's g at the place of its maximum: the gradient of `max_windows`."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)
    if slopes.shape != _pooled(x.shape, window):
        return NotImplemented

    def part(at, dx):
        maps, d = _maxima(x[at], window), slopes[at]
        steps = list(_dimensions(maps[0].shape, **window))
        for before, after, (_, along) in zip(maps[-2::-1], maps[:0:-1], reversed(steps), strict=True):
            _, k, s, _, spacing, *_ = along
            d = _to_winners_along(d, before, after, _places(*along), apart=s >= (k - 1) * spacing + 1)
        dx[...] = d
    return _result(x.astype(slopes.dtype, copy=False), x.shape, len(kernel), part)


@kernel(pool.from_winners, "numpy")
def from_winners(values, x, *, kernel, stride, pads, dilation):
    """v at the place of each window's maximum: the adjoint of `to_winners`."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)
    if values.shape != x.shape:
        return NotImplemented

    def part(at, picked):
        maps, value = _maxima(x[at], window), values[at]
        for before, after, (_, along) in zip(maps, maps[1:], _dimensions(maps[0].shape, **window), strict=False):
            chosen = np.zeros_like(after, dtype=values.dtype)
            for windows, seen, here in _winners_along(before, after, _places(*along)):
                chosen[windows] += np.where(here, value[seen], 0)
            value = chosen
        picked[...] = value
    return _result(x.astype(values.dtype, copy=False), _pooled(x.shape, window), len(kernel), part)


@kernel(pool.sum_windows, "numpy")
def sum_windows(x, *, kernel, stride, pads, dilation):
    """The sum of each window."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)

    def part(at, y):
        total = x[at]
        for shape, along in _dimensions(total.shape, **window):
            sums = _like(total, shape)
            sums[...] = 0
            for windows, seen in _places(*along):
                sums[windows] += total[seen]
            total = sums
        y[...] = total
    return _result(x, _pooled(x.shape, window), len(kernel), part)
