"""Pooling: the largest or the average value of each window, windows given, adapted to an output size, or global.

x (N, C, *size) -> (N, C, *out). Averages are sums over windows divided by a constant; the gradient of a sum over
windows spreads, and the gradient of spreading sums. A maximum hands its gradient to the first winner of its window.
"""

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import op
from .elementwise import abs
from .reduce import max as max_
from .reduce import mean
from .shape import index_select
from .windows import crop_map, output_size, pad_map, pad_pairs, spread, window_slices

# --- ops ------------------------------------------------------------------------------------------------------------


@op(onnx="MaxPool")
def max_windows(x, *, kernel, stride, pads, dilation):
    """The largest value of each window."""
    out = output_size(x.shape[-len(kernel):], kernel, stride, pads, dilation)
    padded = pad_map(x, pads, _lowest(x.dtype))
    slices = window_slices(kernel, stride, dilation, out)
    y = padded[next(slices)].copy()
    for at in slices:
        np.maximum(y, padded[at], out=y)
    return y


def _lowest(dtype):
    return -np.inf if dtype.kind not in "iub" else np.iinfo(dtype).min if dtype.kind != "b" else False


def _winners(x, y, kernel, stride, pads, dilation):
    """For each place in the kernel: (its slice of the padded map, where the window's first maximum stands there)."""
    padded = pad_map(x, pads, _lowest(x.dtype))
    taken = np.zeros(y.shape, bool)
    for at in window_slices(kernel, stride, dilation, y.shape[-len(kernel):]):
        here = (padded[at] == y) & ~taken
        taken |= here
        yield at, here


@op(onnx=None)
def to_winners(g, x, y, *, kernel, stride, pads, dilation):
    """Each window's g at the place of its maximum: the gradient of `max_windows`."""
    size = x.shape[-len(kernel):]
    spread_out = np.zeros(x.shape[:-len(kernel)] + tuple(b + n + a for n, (b, a) in zip(size, pads, strict=True)), g.dtype)
    for at, here in _winners(x, y, kernel, stride, pads, dilation):
        spread_out[at] += np.where(here, g, 0)
    return crop_map(spread_out, pads, size)


@op(onnx=None)
def from_winners(v, x, y, *, kernel, stride, pads, dilation):
    """v at the place of each window's maximum: the adjoint of `to_winners`."""
    padded = pad_map(v, pads)
    picked = np.zeros(y.shape, v.dtype)
    for at, here in _winners(x, y, kernel, stride, pads, dilation):
        picked += np.where(here, padded[at], 0)
    return picked


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
    out = output_size(x.shape[-len(kernel):], kernel, stride, pads, dilation)
    padded = pad_map(x, pads)
    y = np.zeros(x.shape[:-len(kernel)] + out, x.dtype)
    for at in window_slices(kernel, stride, dilation, out):
        y += padded[at]
    return y


@op(onnx=None)
def spread_windows(g, *, size, kernel, stride, pads, dilation):
    """Each window's g added to all its places: the adjoint of `sum_windows`."""
    padded = np.zeros(g.shape[:-len(kernel)] + tuple(b + n + a for n, (b, a) in zip(size, pads, strict=True)), g.dtype)
    for at in window_slices(kernel, stride, dilation, g.shape[-len(kernel):]):
        padded[at] += g
    return crop_map(padded, pads, size)


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
