"""Pooling: the largest or the average value of each window, windows given, adapted to an output size, or global.

x (N, C, *size) -> (N, C, *out). Averages are sums over windows divided by a constant; the gradient of a sum over
windows spreads, and the gradient of spreading sums. A maximum hands its gradient to the first winner of its window.
"""

import numpy as np

from ..core.graph import op
from ..errors import ArgumentError, ShapeError
from ..kernels.numpy.threads import parallel
from .elementwise import abs
from .reduce import max as max_
from .reduce import mean
from .shape import index_select
from .windows import output_size, overlap, pad_map, pad_pairs, spread

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


def _spread_along(g, shape, places):
    """Zeros of this shape, and each window's g added to all its places."""
    x = _like(g, shape)
    x[...] = 0
    for windows, seen in places:
        x[seen] += g[windows]
    return x


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

# --- ops ------------------------------------------------------------------------------------------------------------


def _maxima(x, window):
    """x, and what is left of it after each dimension; the last is the result."""
    maps = [x]
    for shape, along in _dimensions(x.shape, **window):
        maps.append(_max_along(maps[-1], shape, _places(*along)))
    return maps


def _pooled(shape, window) -> tuple[int, ...]:
    return tuple(shape[:-len(window["kernel"])]) + output_size(shape[-len(window["kernel"]):], **window)


@op(onnx="MaxPool")
def max_windows(x, *, kernel, stride, pads, dilation):
    """The largest value of each window."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)

    def part(at, y):
        y[...] = _maxima(x[at], window)[-1]
    return _result(x, _pooled(x.shape, window), len(kernel), part)


@op(onnx=None)
def to_winners(g, x, y, *, kernel, stride, pads, dilation):
    """Each window's g at the place of its maximum: the gradient of `max_windows`."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)

    def part(at, dx):
        maps, d = _maxima(x[at], window), g[at]
        steps = list(_dimensions(maps[0].shape, **window))
        for before, after, (_, along) in zip(maps[-2::-1], maps[:0:-1], reversed(steps), strict=True):
            _, k, s, _, spacing, *_ = along
            d = _to_winners_along(d, before, after, _places(*along), apart=s >= (k - 1) * spacing + 1)
        dx[...] = d
    return _result(x.astype(g.dtype, copy=False), x.shape, len(kernel), part)


@op(onnx=None)
def from_winners(v, x, y, *, kernel, stride, pads, dilation):
    """v at the place of each window's maximum: the adjoint of `to_winners`."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)

    def part(at, picked):
        maps, value = _maxima(x[at], window), v[at]
        for before, after, (_, along) in zip(maps, maps[1:], _dimensions(maps[0].shape, **window), strict=False):
            chosen = np.zeros_like(after, dtype=v.dtype)
            for windows, seen, here in _winners_along(before, after, _places(*along)):
                chosen[windows] += np.where(here, value[seen], 0)
            value = chosen
        picked[...] = value
    return _result(x.astype(v.dtype, copy=False), y.shape, len(kernel), part)


@max_windows.gradient
def _(g, y, x, **window):
    return to_winners(g, x.detach(), y.detach(), **window)


@to_winners.gradient
def _(d, _y, _g, x, y, **window):
    return from_winners(d, x, y, **window), None, None


@from_winners.gradient
def _(d, _y, _v, x, y, **window):
    return to_winners(d, x, y, **window), None, None


@op(onnx=None)
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


@op(onnx=None)
def spread_windows(g, *, size, kernel, stride, pads, dilation):
    """Each window's g added to all its places: the adjoint of `sum_windows`."""
    window = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)
    shape = g.shape[:-len(kernel)] + tuple(size)

    def part(at, x):
        d, steps = g[at], list(_dimensions(x.shape, **window))
        shapes = [x.shape, *(shape for shape, _ in steps)]
        for before, (_, along) in zip(shapes[-2::-1], reversed(steps), strict=True):
            d = _spread_along(d, before, _places(*along))
        x[...] = d
    return _result(g, shape, len(kernel), part)


@sum_windows.gradient
def _(g, _y, x, **window):
    return spread_windows(g, size=x.shape[-len(window["kernel"]):], **window)


@spread_windows.gradient
def _(d, _y, _g, size, **window):
    return sum_windows(d, **window)

# --- windows of a given size ----------------------------------------------------------------------------------------


def pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims) -> dict:
    """Arguments of a pooling function -> attributes of its op: kernel, stride, dilation, pads grown by ceil_mode."""
    dims = dims or (x.ndim - 2 if isinstance(kernel_size, int) else len(kernel_size))
    kernel = spread(kernel_size, dims, "kernel_size")
    stride = kernel if stride is None else spread(stride, dims, "stride")
    dilation = spread(dilation, dims, "dilation")
    size = x.shape[-dims:]
    if x.ndim < dims + 1:
        raise ShapeError(f"pooling over {dims} dimensions needs (N, C, *size), got {x.shape}")
    pads = pad_pairs(padding, dims, kernel, dilation, size, stride)
    if any(max(p) >= (k - 1) * d + 1 for p, k, d in zip(pads, kernel, dilation, strict=True)):
        raise ArgumentError(f"pooling: padding {padding} is as wide as the kernel {kernel}: a window could be all padding")
    if ceil_mode:
        pads = tuple((b, a + _ceil_extra(n, k, s, b, a, d)) for n, k, s, (b, a), d
                     in zip(size, kernel, stride, pads, dilation, strict=True))
    if min(output_size(size, kernel, stride, pads, dilation)) < 1 and min(size) > 0:
        raise ShapeError(f"pooling: a window of {kernel} does not fit into {size} padded by {pads}")
    return dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)


def _ceil_extra(n, k, s, before, after, d) -> int:
    """Padding that lets a last, partial window in; it must start inside the input or its padding before."""
    room = n + before + after - d * (k - 1) - 1
    windows = -(-room // s) + 1
    if (windows - 1) * s >= n + before:
        windows -= 1
    return max((windows - 1) * s - room, 0)


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, dims=None):
    """The largest value of each window; padding never wins.  stride: kernel_size by default.

    torch.nn.functional.max_pool1d/2d/3d, ONNX MaxPool.
    """
    return max_windows(x, **pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims))


def avg_pool(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, dims=None, dilation=1):
    """The average of each window; padding counts as zeros, or not at all with count_include_pad=False.

    torch.nn.functional.avg_pool1d/2d/3d, ONNX AveragePool (whose default for count_include_pad is False).
    """
    plain = pool_window(x, kernel_size, stride, padding, dilation, False, dims)["pads"]
    window = pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims)
    inside, rest = np.ones(x.shape[-len(plain):], x.dtype), window["pads"]
    if count_include_pad:                      # what ceil_mode adds behind the padding never counts
        inside, rest = pad_map(inside, plain, 1.0), tuple((0, a - p) for (_, a), (_, p) in zip(rest, plain, strict=True))
    share = (1.0 / np.maximum(sum_windows.forward(inside, **window | {"pads": rest}), 1)).astype(x.dtype)
    uniform = share.size and (share == share.flat[0]).all()
    return sum_windows(x, **window) * (float(share.flat[0]) if uniform else share)


def lp_pool(x, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(sum of |x|^p over each window)^(1/p).  ONNX LpPool, torch.nn.functional.lp_pool2d."""
    window = pool_window(x, kernel_size, stride, 0, 1, ceil_mode, None)
    return sum_windows(abs(x) ** norm_type, **window) ** (1.0 / norm_type)


max_pool1d = max_pool2d = max_pool3d = max_pool
avg_pool1d = avg_pool2d = avg_pool3d = avg_pool

# --- windows that adapt to the output size --------------------------------------------------------------------------


def _adaptive(x, output_size, dims, along_axis):
    sizes = spread(output_size, dims, "output_size") if isinstance(output_size, int) else tuple(output_size)
    for i, m in enumerate(sizes):
        axis = x.ndim - len(sizes) + i
        if m is not None and m != x.shape[axis]:
            x = along_axis(x, axis, m)
    return x


def _bins(n: int, m: int):
    """PyTorch's windows: m windows over n places, from floor(i n / m) to ceil((i + 1) n / m)."""
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def adaptive_avg_pool(x, output_size, dims=None):
    """Averages over windows chosen so that the result has output_size.  torch.nn.functional.adaptive_avg_pool2d."""
    def along_axis(x, axis, m):
        n = x.shape[axis]
        weights = np.zeros((n, m), x.dtype)
        for i, (start, end) in enumerate(_bins(n, m)):
            weights[start:end, i] = 1.0 / (end - start)
        return (x.transpose(axis, -1) @ weights).transpose(axis, -1)
    dims = dims or (x.ndim - 2 if isinstance(output_size, int) else len(output_size))
    if output_size == 1 or tuple(spread(output_size, dims, "output_size")) == (1,) * dims:
        return mean(x, axis=tuple(range(x.ndim - dims, x.ndim)), keepdims=True)
    return _adaptive(x, output_size, dims, along_axis)


def adaptive_max_pool(x, output_size, dims=None):
    """Maxima over windows chosen so that the result has output_size.  torch.nn.functional.adaptive_max_pool2d."""
    def along_axis(x, axis, m):
        bins = _bins(x.shape[axis], m)
        longest = max(end - start for start, end in bins)
        index = np.array([[min(start + j, end - 1) for j in range(longest)] for start, end in bins])
        return max_(index_select(x, index, axis=axis), axis=axis + 1)
    return _adaptive(x, output_size, dims or x.ndim - 2, along_axis)


adaptive_avg_pool1d = adaptive_avg_pool2d = adaptive_avg_pool3d = adaptive_avg_pool
adaptive_max_pool1d = adaptive_max_pool2d = adaptive_max_pool3d = adaptive_max_pool


def global_avg_pool(x):
    """The average of each channel, spatial axes kept with length 1.  ONNX GlobalAveragePool."""
    return mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def global_max_pool(x):
    """The maximum of each channel, spatial axes kept with length 1.  ONNX GlobalMaxPool."""
    return max_(x, axis=tuple(range(2, x.ndim)), keepdims=True)
