"""Normalisation: standardize some axes, then scale and shift; batch, layer, group and instance norm choose the axes.

    batch norm      over samples and places, for each channel
    layer norm      over the last axes, for each sample and place
    group norm      over places and the channels of a group, for each sample
    instance norm   over places, for each sample and channel
    RMS norm        over the last axes, without subtracting the mean
"""

import math
from typing import Any, cast

import numpy as np

from ..core.dtypes import NARROW, float32, machine_epsilon
from ..core.graph import op
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Outputs, Shape, Sizes
from ..errors import ArgumentError, ShapeError
from .elementwise import rsqrt
from .pool import sum_windows
from .reduce import added, count, mean
from .reduce import sum as sum_


@op(promote="float")
def standardize(x: Array, *, axes: tuple[int, ...], eps: float) -> tuple[Array, ...]:
    """-> ((x - mean) / sqrt(var + eps), mean, var), over axes, which stay with length 1; var divides by n."""
    n = x.dtype.type(count(x, axes))
    mu = added(x, axes, True) / n
    var = added(np.square(x - mu), axes, True) / n
    return (x - mu) / np.sqrt(var + eps), mu, var


@standardize.gradient
def standardize_gradient(g: Outputs, y: Outputs, x: Tensor, axes: tuple[int, ...], eps: float) -> Gradients:
    gy, gmu, gvar = g
    y, _, var = y
    inverse = rsqrt(var + eps)
    n = count(x, axes) or 1
    dx: Any = 0.0
    if gy is not None:            # what changes the mean or the length of x changes nothing in y
        dx = inverse * (gy - mean(gy, axis=axes, keepdims=True) - y * mean(gy * y, axis=axes, keepdims=True))
    if gmu is not None:
        dx = dx + gmu * (1.0 / n)
    if gvar is not None:
        dx = dx + gvar * (y / inverse) * (2.0 / n)
    return (dx.expand(x.shape),)

# --- batch norm -------------------------------------------------------------------------------------------------------


def along_channels(x: Tensor | Array) -> tuple[int, ...]:
    """The shape in which a value for each channel broadcasts against x (N, C, *size)."""
    return (x.shape[1], *(1,) * (x.ndim - 2))


@op(promote="float", onnx="BatchNormalization")
def batch_norm_(x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float) -> tuple[Array, ...]:
    """-> (standardized by channel, times weight, plus bias; mean; var), with the statistics of this batch.

    x (N, C, *size); weight, bias, mean, var (C); var divides by the number of values.
    """
    axes, shape = (0, *range(2, x.ndim)), along_channels(x)
    n = x.dtype.type(count(x, axes))
    mu = added(x, axes) / n
    centered = x - mu.reshape(shape)
    var = added(np.square(centered), axes) / n
    y = centered / np.sqrt(var + eps).reshape(shape)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape), mu, var


@batch_norm_.gradient
def batch_norm_gradient(g: Outputs, y: Outputs, x: Tensor, weight: Tensor | None, bias: Tensor | None,
                        eps: float) -> Gradients:
    (gy, gmean, gvar), (_, mu, var) = g, y
    axes, shape = (0, *range(2, x.ndim)), along_channels(x)
    dx: Any = 0.0
    inverse = rsqrt(var + eps).reshape(shape)
    centered = x - mu.reshape(shape)
    n, dweight, dbias = count(x, axes) or 1, None, None
    if gy is not None:                # what changes the mean or the length of x changes nothing in y
        g = gy if weight is None else gy * weight.reshape(shape)
        along = mean(g * centered, axis=axes, keepdims=True) * inverse * inverse
        dx = inverse * (g - mean(g, axis=axes, keepdims=True) - centered * along)
        dweight, dbias = sum_(gy * centered * inverse, axis=axes), sum_(gy, axis=axes)
    if gmean is not None:
        dx = dx + gmean.reshape(shape) * (1.0 / n)
    if gvar is not None:
        dx = dx + gvar.reshape(shape) * centered * (2.0 / n)
    return dx.expand(x.shape), dweight, dbias


@op(promote="float", onnx="BatchNormalization")
def apply_batch_norm(x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, *,
                     eps: float) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias by channel, with given statistics."""
    shape = along_channels(x)
    y = (x - mean.reshape(shape)) / np.sqrt(var + eps).reshape(shape)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


@apply_batch_norm.gradient
def apply_batch_norm_gradient(g: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None,
                              eps: float) -> Gradients:
    shape, others = along_channels(x), (0, *range(2, x.ndim))
    inverse = rsqrt(var + eps)
    scale = inverse if weight is None else inverse * weight
    shift, along = sum_(g, axis=others), sum_(g * (x - mean.reshape(shape)), axis=others)
    return g * scale.reshape(shape), -shift * scale, -0.5 * along * scale * inverse * inverse, along * inverse, shift

# --- layer norm -------------------------------------------------------------------------------------------------------


@op(promote="float", onnx="LayerNormalization")
def layer_norm_(x: Array, weight: Array | None = None, bias: Array | None = None, *, axes: int,
                eps: float) -> tuple[Array, ...]:
    """-> (standardized over the last axes, times weight, plus bias; mean; 1 / sqrt(var + eps)).

    axes: how many of the last axes; weight, bias: their shape. mean and the last result keep them with length 1.
    """
    last = tuple(range(x.ndim - axes, x.ndim))
    n = x.dtype.type(count(x, last))
    mu = added(x, last, True) / n
    inverse = 1 / np.sqrt(added(np.square(x - mu), last, True) / n + eps)
    y = (x - mu) * inverse
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mu, inverse


@layer_norm_.gradient
def layer_norm_gradient(g: Outputs, y: Outputs, x: Tensor, weight: Tensor | None, bias: Tensor | None, axes: int,
                        eps: float) -> Gradients:
    (gy, gmean, ginverse), (_, mu, inverse) = g, y
    last = tuple(range(x.ndim - axes, x.ndim))
    centered, dx = x - mu, cast(Any, 0.0)
    n, dweight = math.prod(x.shape[x.ndim - axes:]) or 1, None
    if gy is not None:
        g = gy if weight is None else gy * weight
        along = mean(g * centered, axis=last, keepdims=True) * inverse * inverse
        dx = inverse * (g - mean(g, axis=last, keepdims=True) - centered * along)
        dweight = gy * centered * inverse
    if gmean is not None:
        dx = dx + gmean * (1.0 / n)
    if ginverse is not None:
        dx = dx - ginverse * inverse * inverse * inverse * centered * (1.0 / n)
    return dx.expand(x.shape), dweight, gy                            # the engine sums the last two over the rows

# --- the functions that people call ---------------------------------------------------------------------------------


def _scale_and_shift(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Shape) -> Tensor:
    y = y if weight is None else y * (weight if weight.shape == shape else weight.reshape(shape))
    return y if bias is None else y + (bias if bias.shape == shape else bias.reshape(shape))


def batch_norm(x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
               weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
               eps: float = 1e-5) -> Tensor:
    """Normalise each channel (Ioffe and Szegedy, 2015).  x (N, C, *size); all other tensors (C).

    training: with the statistics of this batch, which also move the running ones, in place, by `momentum` (the running
    variance with Bessel's n - 1). Otherwise with the running statistics.  torch.nn.functional.batch_norm.
    """
    channels = x.shape[1:2] or x.shape                             # (C), of nothing at all (0)
    if (x.ndim < 2 and x.numel()) or any(t is not None and t.shape != channels
                                         for t in (running_mean, running_var, weight, bias)):
        raise ShapeError(f"batch_norm: input {x.shape} needs statistics and parameters of shape "
                         f"({x.shape[1] if x.ndim > 1 else 'C'},)")
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: training=False needs running_mean and running_var")
        if x.ndim > 1:
            return apply_batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    if not x.numel():                                # of no samples there are no statistics, and nothing to standardize
        return _scale_and_shift(x, weight, bias, along_channels(x) if x.ndim > 1 else x.shape)
    n = x.numel() // x.shape[1]
    if n < 2:
        raise ShapeError(f"batch_norm: training needs more than one value a channel, got input {x.shape}")
    y, mu, var = batch_norm_(x, weight, bias, eps=eps)
    if running_mean is not None and running_var is not None:
        _move(running_mean, mu, momentum)
        _move(running_var, var * (n / (n - 1)), momentum)
    return y


def layer_norm(x: Tensor, normalized_shape: Sizes, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Normalise over the last axes, which have normalized_shape (Ba et al., 2016).  weight, bias: normalized_shape."""
    normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[x.ndim - len(normalized_shape):] != normalized_shape:
        raise ShapeError(f"layer_norm: the last axes of {x.shape} are not {normalized_shape}")
    if any(t is not None and t.shape != normalized_shape for t in (weight, bias)):
        raise ShapeError(f"layer_norm: weight and bias must have shape {normalized_shape}")
    return layer_norm_(x, weight, bias, axes=len(normalized_shape), eps=eps)[0]


def rms_norm(x: Tensor, normalized_shape: Sizes, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axes (Zhang and Sennrich, 2019).  eps: the machine epsilon of x's dtype.

    torch.nn.functional.rms_norm, ONNX RMSNormalization.
    """
    normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[x.ndim - len(normalized_shape):] != normalized_shape:
        raise ShapeError(f"rms_norm: the last axes of {x.shape} are not {normalized_shape}")
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    wide = x.astype(float32) if x.dtype in NARROW else x             # squares of float16 would overflow from 256 on
    y = wide * rsqrt(mean(wide * wide, axis=axes, keepdims=True) + (machine_epsilon(x.dtype) if eps is None else eps))
    return (y if weight is None else y * weight).astype(x.dtype)


def group_norm(x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5) -> Tensor:
    """Normalise each group of channels of each sample (Wu and He, 2018).  x (N, C, *size); num_groups divides C."""
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ShapeError(f"group_norm: {num_groups} groups do not divide the channels of {x.shape}")
    grouped = x.reshape(x.shape[0], num_groups, -1) if x.numel() else x.reshape(x.shape[0], num_groups, 0)
    y = standardize(grouped, axes=(2,), eps=eps)[0].reshape(x.shape)
    return _scale_and_shift(y, weight, bias, along_channels(x))


def instance_norm(x: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Normalise each channel of each sample (Ulyanov et al., 2016).  x (N, C, *size), all other tensors (C).

    The running statistics move by `momentum` towards the mean of the samples'; use_input_stats=False: normalise with them.
    torch.nn.functional.instance_norm.
    """
    if x.ndim < 3 or any(t is not None and t.shape != x.shape[1:2] for t in (running_mean, running_var, weight, bias)):
        raise ShapeError(f"instance_norm: (N, C, *size) is needed, and all else (C,), got {x.shape}")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    n = math.prod(x.shape[2:])
    if n < 2:
        raise ShapeError(f"instance_norm: more than one value a channel of a sample is needed, got input {x.shape}")
    y, mu, var = standardize(x, axes=tuple(range(2, x.ndim)), eps=eps)
    if running_mean is not None and running_var is not None:
        axes = (0, *range(2, x.ndim))
        _move(running_mean, mean(mu, axis=axes), momentum)
        _move(running_var, mean(var, axis=axes) * (n / (n - 1)), momentum)
    return _scale_and_shift(y, weight, bias, along_channels(x))


def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * mean of the squares of `size` neighbouring channels)^beta  (Krizhevsky et al., 2012).

    x (N, C, *size). torch.nn.functional.local_response_norm, ONNX LRN.
    """
    if x.ndim < 3 or size < 1:
        raise ShapeError(f"local_response_norm: (N, C, *size) and a size above 0 are needed, got {x.shape} and {size}")
    flat = (x * x).reshape(*x.shape[:2], math.prod(x.shape[2:]))
    sums = sum_windows(flat, kernel=(size, 1), stride=(1, 1), pads=((size // 2, (size - 1) // 2), (0, 0)), dilation=(1, 1))
    return x / (k + (alpha / size) * sums.reshape(x.shape)) ** beta


def _move(running: Tensor, now: Tensor, momentum: float) -> None:
    """running <- (1 - momentum) running + momentum now, in place."""
    with no_grad():
        running.copy_(running * (1 - momentum) + now * momentum)
