"""Pooling: what windows over a map have as their maximum, mean or norm."""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from ...ops.pool import from_winners, max_windows, pool_window, sum_windows
from ..limits import limits
from .convolution import padding_of, pads_of
from .table import ints, since, writes


@since(1, family="pool", rank="first")
def MaxPool(x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET",
            storage_order=0, outputs=1):
    dims = len(kernel_shape)
    window = pool_window(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                         tuple(dilations or (1,) * dims), bool(ceil_mode), dims)
    y = max_windows(x, **window)
    return y if outputs == 1 else (y, _places_of_maxima(x, window, storage_order))


def _places_of_maxima(x, window, storage_order: int):
    """Where in the whole input each maximum stands, int64: the places themselves go through the windows of the maxima."""
    dims = len(window["kernel"])
    places = np.arange(x.numel(), dtype=np.float64).reshape(x.shape)
    if storage_order:                                        # column major within a map
        size = x.shape[-dims:]
        inner = np.arange(math.prod(size)).reshape(size[::-1]).T
        places = (np.arange(x.numel() // inner.size) * inner.size).reshape(*x.shape[:-dims], *(1,) * dims) + inner
    values = x.numpy()
    picked = from_winners.compute(places.astype(np.float64), values, **window)
    return Tensor(picked.astype(np.int64))


@since(9, family="pool")
def MaxUnpool(x, indices, output_shape=None, *, kernel_shape, strides=None, pads=None):
    """Each value back at the place that MaxPool noted, zeros elsewhere."""
    dims = len(kernel_shape)
    strides, pads = strides or [1] * dims, pads or [0] * 2 * dims
    size = tuple((n - 1) * s + k - pads[i] - pads[i + dims]
                 for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel_shape, strict=True)))
    small = x.shape[:2] + size
    shape = small if output_shape is None else ints(output_shape)
    limits.check_shape("MaxUnpool", shape, x.dtype)
    places = indices.numpy().reshape(-1)
    if shape != small:                                       # the places count in the smaller output
        places = np.ravel_multi_index(np.unravel_index(places, small), shape)
    return ops.scatter(Tensor(np.zeros(math.prod(shape), x.dtype)), places, x.reshape(-1), axis=0).reshape(shape)


@since(1, family="pool", rank="first")
def LpPool(x, *, kernel_shape, p=2, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    dims = len(kernel_shape)
    window = pool_window(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                         tuple(dilations or (1,) * dims), bool(ceil_mode), dims)
    return sum_windows(ops.abs(x) ** p, **window) ** (1 / p)


@since(1, family="pool")
def GlobalLpPool(x, *, p=2):
    return ops.norm(x, p, tuple(range(2, x.ndim)), True)


@since(1, family="pool", rank="first")
def AveragePool(x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, count_include_pad=0,
                auto_pad="NOTSET"):
    dims = len(kernel_shape)
    return ops.avg_pool(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                        bool(ceil_mode), bool(count_include_pad), None, dims, tuple(dilations or (1,) * dims))


@since(1, family="pool", rank="first")
def GlobalAveragePool(x):
    return ops.global_avg_pool(x)


@since(1, family="pool", rank="first")
def GlobalMaxPool(x):
    return ops.global_max_pool(x)


@writes("max_windows")
def _max_pool(w, x, *, kernel, stride, pads, dilation):
    return w.MaxPool(x, kernel_shape=list(kernel), strides=list(stride), pads=pads_of(pads), dilations=list(dilation))


@writes("sum_windows")
def _sum_pool(w, x, *, kernel, stride, pads, dilation):
    mean = w.AveragePool(x, kernel_shape=list(kernel), strides=list(stride), pads=pads_of(pads),
                         dilations=None if set(dilation) == {1} else list(dilation), count_include_pad=1)
    return w.Mul(mean, w.name(float(np.prod(kernel)), x.dtype))
