"""Pooling: the largest or the average value of each window, windows given, adapted to an output size, or global.

x (N, C, *size) -> (N, C, *out). Averages are sums over windows divided by a constant; the gradient of a sum over
windows spreads, and the gradient of spreading sums. A maximum hands its gradient to the first winner of its window.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Padding, Pads, Shape, Sizes
from ..errors import ArgumentError, ShapeError
from .axes import torch_names
from .indexing import index_select, scatter, take_along_axis
from .reduce import argmax, mean
from .reduce import max as max_
from .shape import permute, squeeze
from .windows import add_windows, output_size, pad_map, pad_pairs, spread, windows

F = TypeVar("F", bound=Callable[..., Any])

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
    stride = kernel if stride is None or stride in ((), []) else spread(stride, dims, "stride")
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
             ceil_mode: bool = False, return_indices: bool = False, dims: int | None = None) -> Any:
    """The largest value of each window; padding never wins.  stride: kernel_size by default.

    return_indices: -> (values, their places in the map, counted row by row).
    torch.nn.functional.max_pool1d/2d/3d, ONNX MaxPool.
    """
    window = pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims)
    y = max_windows(x, **window)
    return (y, places_of_maxima(x, window)) if return_indices else y


def places_of_maxima(x: Tensor, window: dict[str, Any]) -> Tensor:
    """Where in its map each window's first largest value stands, int64: the places themselves go through the windows."""
    size = x.shape[-len(window["kernel"]):]
    places = np.broadcast_to(np.arange(math.prod(size), dtype=np.float64).reshape(size), x.shape)
    picked = from_winners.compute(np.ascontiguousarray(places), np.ascontiguousarray(x.numpy()), **window)
    return Tensor(picked.astype(np.int64), device=x.device)


def max_unpool(x: Tensor, indices: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0,
               output_size: Shape | None = None, dims: int = 2) -> Tensor:
    """Each value back at the place that max_pool noted, zeros elsewhere.  x, indices (N, C, *size) or (C, *size).

    output_size: where several fit; its last lengths count.  torch.nn.functional.max_unpool1d/2d/3d, ONNX MaxUnpool.
    """
    kernel = spread(kernel_size, dims, "kernel_size")
    steps, pads = kernel if stride is None else spread(stride, dims, "stride"), spread(padding, dims, "padding")
    size = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[-dims:], steps, pads, kernel, strict=True))
    if output_size is not None:
        given = tuple(output_size)[-dims:]
        if any(not n - s < m < n + s for m, n, s in zip(given, size, steps, strict=True)):
            raise ArgumentError(f"max_unpool: output_size {given} is not within {steps} of {size}")
        size = given
    if x.shape != indices.shape:
        raise ShapeError(f"max_unpool: values {x.shape} and indices {indices.shape} need the same shape")
    lead, places = x.shape[:-dims], indices.reshape(*x.shape[:-dims], -1)
    if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < math.prod(size):
        raise ShapeError(f"max_unpool: an index is not in a map of {size}")
    empty = Tensor(np.zeros((*lead, math.prod(size)), x.dtype), device=x.device)
    return scatter(empty, places, x.reshape(*lead, -1), axis=-1).reshape(*lead, *size)


def avg_pool(x: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None, dims: int | None = None,
             dilation: Sizes = 1) -> Tensor:
    """The average of each window; padding counts as zeros, or not at all with count_include_pad=False.

    divisor_override: divide the sums by this number instead.
    torch.nn.functional.avg_pool1d/2d/3d, ONNX AveragePool (whose default for count_include_pad is False).
    """
    plain = pool_window(x, kernel_size, stride, padding, dilation, False, dims)["pads"]
    window = pool_window(x, kernel_size, stride, padding, dilation, ceil_mode, dims)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ArgumentError("avg_pool: divisor_override must not be 0")
        return sum_windows(x, **window) * (1.0 / divisor_override)
    inside, rest = np.ones(x.shape[-len(plain):], x.dtype), window["pads"]
    if count_include_pad:                      # what ceil_mode adds behind the padding never counts
        inside, rest = pad_map(inside, plain, 1.0), tuple((0, a - p) for (_, a), (_, p) in zip(rest, plain, strict=True))
    share = (1.0 / np.maximum(sum_windows.definition(inside, **window | {"pads": rest}), 1)).astype(x.dtype)
    uniform = share.size and (share == share.flat[0]).all()
    return sum_windows(x, **window) * (float(share.flat[0]) if uniform else share)


def lp_pool(x: Tensor, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False,
            dims: int | None = None) -> Tensor:
    """(sum of x^p over each window)^(1/p).  torch.nn.functional.lp_pool1d/2d/3d; ONNX LpPool takes |x|^p."""
    window = pool_window(x, kernel_size, stride, 0, 1, ceil_mode, dims)
    if ceil_mode:                                # a last, partial window stands for a whole one, as in PyTorch
        sums: Tensor = avg_pool(x**norm_type, kernel_size, stride, 0, True, dims=dims) * math.prod(window["kernel"])
        return sums ** (1.0 / norm_type)
    return sum_windows(x**norm_type, **window) ** (1.0 / norm_type)


def _of_dims(function: F, dims: int) -> F:
    """A pooling function for maps with so many dimensions."""
    named = torch_names(function)

    def pool(*args: Any, **options: Any) -> Any:
        return named(*args, **options, dims=dims)
    pool.__name__ = pool.__qualname__ = f"{function.__name__}{dims}d"
    pool.__doc__, pool.__module__ = function.__doc__, function.__module__
    pool.__signature__ = inspect.signature(function)               # type: ignore[attr-defined]
    return pool                                                    # type: ignore[return-value]


max_pool1d, max_pool2d, max_pool3d = (_of_dims(max_pool, d) for d in (1, 2, 3))
max_unpool1d, max_unpool2d, max_unpool3d = (_of_dims(max_unpool, d) for d in (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = (_of_dims(avg_pool, d) for d in (1, 2, 3))
lp_pool1d, lp_pool2d, lp_pool3d = (_of_dims(lp_pool, d) for d in (1, 2, 3))

# --- windows that adapt to the output size --------------------------------------------------------------------------


def _adaptive_size(x: Tensor, output_size: Any, dims: int | None) -> tuple[int, ...]:
    """One number, or a number or None (as long as x) for each dimension -> a number for each."""
    dims = dims or (x.ndim - 2 if isinstance(output_size, int) or output_size is None else len(output_size))
    sizes = (output_size,) * dims if isinstance(output_size, int) or output_size is None else tuple(output_size)
    if len(sizes) != dims or x.ndim < dims + 1 or any(m is not None and m < 0 for m in sizes):
        raise ShapeError(f"adaptive pooling of x {x.shape} needs an output_size of {dims} lengths, got {output_size}")
    return tuple(n if m is None else m for n, m in zip(x.shape[x.ndim - dims:], sizes, strict=True))


def _bins(n: int, m: int) -> list[tuple[int, int]]:
    """PyTorch's windows: m windows over n places, from floor(i n / m) to ceil((i + 1) n / m)."""
    return [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]


def adaptive_avg_pool(x: Tensor, output_size: Any, dims: int | None = None) -> Tensor:
    """Averages over windows chosen so that the result has output_size.  torch.nn.functional.adaptive_avg_pool2d."""
    sizes = _adaptive_size(x, output_size, dims)
    if set(sizes) == {1}:
        return mean(x, axis=tuple(range(x.ndim - len(sizes), x.ndim)), keepdims=True)
    for axis, m in enumerate(sizes, x.ndim - len(sizes)):
        n = x.shape[axis]
        if m != n:
            weights = np.zeros((n, m), x.dtype)
            for i, (start, end) in enumerate(_bins(n, m)):
                weights[start:end, i] = 1.0 / (end - start)
            x = (x.transpose(axis, -1) @ weights).transpose(axis, -1)
    return x


def adaptive_max_pool(x: Tensor, output_size: Any, return_indices: bool = False, dims: int | None = None) -> Any:
    """Maxima over windows chosen so that the result has output_size; return_indices: and their places in the map.

    torch.nn.functional.adaptive_max_pool1d/2d/3d.
    """
    sizes = _adaptive_size(x, output_size, dims)
    size, lead = x.shape[x.ndim - len(sizes):], x.ndim - len(sizes)
    if all(m and n and n % m == 0 for n, m in zip(size, sizes, strict=True)):             # all windows are alike
        kernel = tuple(n // m for n, m in zip(size, sizes, strict=True))
        return max_pool(x, kernel, return_indices=return_indices, dims=len(sizes))
    places = np.arange(math.prod(size)).reshape(size)
    for i, (n, m) in enumerate(zip(size, sizes, strict=True)):             # axis i becomes (windows, places of a window)
        bins = _bins(n, m)
        longest = max((end - start for start, end in bins), default=1)
        index = np.array([[min(start + j, end - 1) for j in range(longest)] for start, end in bins], np.int64)
        index = index.reshape(m, longest)
        x, places = index_select(x, index, axis=lead + 2 * i), places.take(index, 2 * i)
    order = (*range(0, 2 * len(sizes), 2), *range(1, 2 * len(sizes), 2))
    places = places.transpose(order).reshape(*sizes, -1)
    x = permute(x, axes=(*range(lead), *(lead + i for i in order)))
    x = x.reshape(*x.shape[:lead], *sizes, math.prod(x.shape[lead + len(sizes):]))
    winner = argmax(x, axis=-1, keepdims=True)
    y = squeeze(take_along_axis(x, winner, axis=-1), -1)
    if not return_indices:
        return y
    return y, Tensor(np.take_along_axis(np.broadcast_to(places, x.shape), winner.numpy(), -1)[..., 0], device=x.device)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_of_dims(adaptive_avg_pool, d) for d in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_of_dims(adaptive_max_pool, d) for d in (1, 2, 3))


def global_avg_pool(x: Tensor) -> Tensor:
    """The average of each channel, spatial axes kept with length 1.  ONNX GlobalAveragePool."""
    return mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def global_max_pool(x: Tensor) -> Tensor:
    """The maximum of each channel, spatial axes kept with length 1.  ONNX GlobalMaxPool."""
    return max_(x, axis=tuple(range(2, x.ndim)), keepdims=True)
