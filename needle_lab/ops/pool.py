"""Pooling: the largest or the average value of each window, windows given, adapted to an output size, or global.

x (N, C, *size) -> (N, C, *out). Averages are sums over windows divided by a constant; the gradient of a sum over
windows spreads, and the gradient of spreading sums. A maximum hands its gradient to the first winner of its window.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Padding, Pads, Shape, Sizes
from ..errors import ArgumentError, ShapeError
from .elementwise import abs
from .indexing import index_select, take_along_axis
from .reduce import argmax, mean
from .reduce import max as max_
from .shape import squeeze
from .windows import add_windows, output_size, pad_map, pad_pairs, spread, windows

# --- ops ------------------------------------------------------------------------------------------------------------


def _values(x: Array, window: dict[str, Any], fill: float = 0.0) -> Array:
    """What each window sees: (..., *out, places)."""
    seen = windows(x, **window, fill=fill)
    return seen.reshape(*seen.shape[:x.ndim], math.prod(window["kernel"]))


def _lowest(dtype: np.dtype[Any]) -> Any:
    return -np.inf if dtype.kind not in "iub" else np.iinfo(dtype).min if dtype.kind != "b" else False


def _first(x: Array, window: dict[str, Any]) -> Array:
    """Which place of each window is the first with its largest value; padding is never it, even beside -inf."""
    seen, inside = _values(x, window, _lowest(x.dtype)), _values(np.ones(x.shape, bool), window, False)
    return (((seen == seen.max(-1, keepdims=True)) | (seen != seen)) & inside).argmax(-1)[..., None]


@op(onnx="MaxPool")
def max_windows(x: Array, *, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Array:
    """The largest value of each window."""
    return _values(x, dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation), _lowest(x.dtype)).max(-1)


@op()
def to_winners(slopes: Array, x: Array, *, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Array:
    """Each window's slope at the place of its first largest value: the gradient of `max_windows`."""
    window: dict[str, Any] = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)
    first = _first(x, window)
    share = np.where(first == np.arange(math.prod(kernel)), slopes[..., None], 0).astype(slopes.dtype)
    return add_windows(share.reshape(*slopes.shape, *kernel), x.shape[x.ndim - len(kernel):], **window)


@op()
def from_winners(values: Array, x: Array, *, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Array:
    """values at the place of each window's first largest value: the adjoint of `to_winners`."""
    window: dict[str, Any] = dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)
    first = _first(x, window)
    return np.take_along_axis(_values(values, window), first, -1)[..., 0]


@max_windows.gradient
def max_windows_gradient(g: Tensor, x: Tensor, **window: Any) -> Tensor:
    return to_winners(g, x.detach(), **window)


@to_winners.gradient("slopes")
def to_winners_to_slopes(g: Tensor, x: Tensor, **window: Any) -> Tensor:
    return from_winners(g, x, **window)


@from_winners.gradient("values")
def from_winners_to_values(g: Tensor, x: Tensor, **window: Any) -> Tensor:
    return to_winners(g, x, **window)


@op()
def sum_windows(x: Array, *, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Array:
    """The sum of each window."""
    return _values(x, dict(kernel=kernel, stride=stride, pads=pads, dilation=dilation)).sum(-1)


@op()
def spread_windows(sums: Array, *, size: Shape, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Array:
    """Each window's value added to all its places: the adjoint of `sum_windows`."""
    each = np.broadcast_to(sums.reshape(*sums.shape, *(1,) * len(kernel)), (*sums.shape, *kernel))
    return add_windows(each, size, kernel, stride, pads, dilation)


@sum_windows.gradient
def sum_windows_gradient(g: Tensor, x: Tensor, **window: Any) -> Tensor:
    return spread_windows(g, size=x.shape[-len(window["kernel"]):], **window)


@spread_windows.gradient
def spread_windows_gradient(g: Tensor, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Tensor:
    return sum_windows(g, kernel=kernel, stride=stride, pads=pads, dilation=dilation)

# --- windows of a given size ----------------------------------------------------------------------------------------


def pool_window(x: Tensor, kernel_size: Sizes, stride: Sizes | None, padding: Padding, dilation: Sizes, ceil_mode: bool,
                dims: int | None) -> dict[str, Any]:
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


def _ceil_extra(n: int, k: int, s: int, before: int, after: int, d: int) -> int:
    """Padding that lets a last, partial window in; it must start inside the input or its padding before."""
    room = n + before + after - d * (k - 1) - 1
    windows = -(-room // s) + 1
    if (windows - 1) * s >= n + before:
        windows -= 1
    return max((windows - 1) * s - room, 0)


def max_pool(x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, dilation: Sizes = 1,
             ceil_mode: bool = False, dims: int | None = None) -> Tensor:
    """The largest value of each window; padding never wins.  stride: kernel_size by default.

    torch.nn.functional.max_pool1d/2d/3d, ONNX MaxPool.
    """
    return max_windows(x, **pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims))


def avg_pool(x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, dims: int | None = None, dilation: Sizes = 1) -> Tensor:
    """The average of each window; padding counts as zeros, or not at all with count_include_pad=False.

    torch.nn.functional.avg_pool1d/2d/3d, ONNX AveragePool (whose default for count_include_pad is False).
    """
    plain = pool_window(x, kernel_size, stride, padding, dilation, False, dims)["pads"]
    window = pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims)
    inside, rest = np.ones(x.shape[-len(plain):], x.dtype), window["pads"]
    if count_include_pad:                      # what ceil_mode adds behind the padding never counts
        inside, rest = pad_map(inside, plain, 1.0), tuple((0, a - p) for (_, a), (_, p) in zip(rest, plain, strict=True))
    share = (1.0 / np.maximum(sum_windows.definition(inside, **window | {"pads": rest}), 1)).astype(x.dtype)
    uniform = share.size and (share == share.flat[0]).all()
    return sum_windows(x, **window) * (float(share.flat[0]) if uniform else share)


def lp_pool(x: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False) -> Tensor:
    """(sum of |x|^p over each window)^(1/p).  ONNX LpPool, torch.nn.functional.lp_pool2d."""
    window = pool_window(x, kernel_size, stride, 0, 1, ceil_mode, None)
    return sum_windows(abs(x) ** norm_type, **window) ** (1.0 / norm_type)


max_pool1d = max_pool2d = max_pool3d = max_pool
avg_pool1d = avg_pool2d = avg_pool3d = avg_pool

# --- windows that adapt to the output size --------------------------------------------------------------------------


def _adaptive(x: Tensor, output_size: Sizes, dims: int, along_axis: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    sizes = spread(output_size, dims, "output_size") if isinstance(output_size, int) else tuple(output_size)
    for i, m in reversed(list(enumerate(sizes))):            # the last axis first: of equal ones the first, row by row
        axis = x.ndim - len(sizes) + i
        if m is not None and m != x.shape[axis]:
            x = along_axis(x, axis, m)
    return x


def _bins(n: int, m: int) -> list[tuple[int, int]]:
    """PyTorch's windows: m windows over n places, from floor(i n / m) to ceil((i + 1) n / m)."""
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def adaptive_avg_pool(x: Tensor, output_size: Sizes, dims: int | None = None) -> Tensor:
    """Averages over windows chosen so that the result has output_size.  torch.nn.functional.adaptive_avg_pool2d."""
    def along_axis(x: Tensor, axis: int, m: int) -> Tensor:
        n = x.shape[axis]
        weights = np.zeros((n, m), x.dtype)
        for i, (start, end) in enumerate(_bins(n, m)):
            weights[start:end, i] = 1.0 / (end - start)
        return (x.transpose(axis, -1) @ weights).transpose(axis, -1)
    dims = dims or (x.ndim - 2 if isinstance(output_size, int) else len(output_size))
    if output_size == 1 or tuple(spread(output_size, dims, "output_size")) == (1,) * dims:
        return mean(x, axis=tuple(range(x.ndim - dims, x.ndim)), keepdims=True)
    return _adaptive(x, output_size, dims, along_axis)


def adaptive_max_pool(x: Tensor, output_size: Sizes, dims: int | None = None) -> Tensor:
    """Maxima over windows chosen so that the result has output_size.  torch.nn.functional.adaptive_max_pool2d."""
    def along_axis(x: Tensor, axis: int, m: int) -> Tensor:
        bins = _bins(x.shape[axis], m)
        longest = max(end - start for start, end in bins)
        index = np.array([[min(start + j, end - 1) for j in range(longest)] for start, end in bins])
        seen = index_select(x, index, axis=axis)
        first = argmax(seen, axis=axis + 1, keepdims=True)              # of equal ones the first, as in `max_windows`
        return squeeze(take_along_axis(seen, first, axis=axis + 1), axis + 1)
    return _adaptive(x, output_size, dims or x.ndim - 2, along_axis)


adaptive_avg_pool1d = adaptive_avg_pool2d = adaptive_avg_pool3d = adaptive_avg_pool
adaptive_max_pool1d = adaptive_max_pool2d = adaptive_max_pool3d = adaptive_max_pool


def global_avg_pool(x: Tensor) -> Tensor:
    """The average of each channel, spatial axes kept with length 1.  ONNX GlobalAveragePool."""
    return mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def global_max_pool(x: Tensor) -> Tensor:
    """The maximum of each channel, spatial axes kept with length 1.  ONNX GlobalMaxPool."""
    return max_(x, axis=tuple(range(2, x.ndim)), keepdims=True)
