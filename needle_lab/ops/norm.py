"""Normalisation: one op standardizes over some axes; batch, layer, group and instance norm choose which.

    batch norm      over samples and places, for each channel
    layer norm      over the last axes, for each sample and place
    group norm      over places and the channels of a group, for each sample
    instance norm   over places, for each sample and channel
    RMS norm        over the last axes, without subtracting the mean
"""

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import op
from .elementwise import rsqrt
from .reduce import mean
from .reduce import sum as sum_


@op(promote="float", onnx=None)
def standardize(x, *, axes, eps):
    """-> ((x - mean) / sqrt(var + eps), mean, var), over axes, which stay with length 1; var divides by n."""
    mu = _mean(x, axes)
    centered = x - mu
    var = _mean(centered * centered, axes)
    centered *= 1 / np.sqrt(var + x.dtype.type(eps))
    return centered, mu, var


def _mean(x, axes):
    """np.mean along one axis after another, last first: sums stay short, so float32 stays exact to a few bits."""
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = np.mean(x, axis=axis, keepdims=True)
    return x


@standardize.gradient
def _(g, y, x, axes, eps):
    gy, gmu, gvar = g
    y, _, var = y
    inverse = rsqrt(var + eps)
    n = x.size / max(var.size, 1)
    dx = 0.0
    if gy is not None:            # what changes the mean or the length of x changes nothing in y
        dx = inverse * (gy - mean(gy, axis=axes, keepdims=True) - y * mean(gy * y, axis=axes, keepdims=True))
    if gmu is not None:
        dx = dx + gmu * (1.0 / n)
    if gvar is not None:
        dx = dx + gvar * (y / inverse) * (2.0 / n)
    return dx


@op(promote="float", onnx="BatchNormalization")
def apply_batch_norm(x, mean, var, weight=None, bias=None, *, eps):
    """(x - mean) / sqrt(var + eps) * weight + bias by channel, with given statistics: one multiplication, one addition."""
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    y = x * scale.reshape(_along_channels(x))
    y += shift.reshape(_along_channels(x))
    return y


@apply_batch_norm.gradient
def _(g, _y, x, mean, var, weight=None, bias=None, eps=1e-5):
    shape, others = _along_channels(x), (0, *range(2, x.ndim))
    inverse = rsqrt(var + eps)
    scale = inverse if weight is None else inverse * weight

    def along(t):
        return t.reshape(shape)
    return (lambda: g * along(scale), lambda: -sum_(g, axis=others) * scale,
            lambda: -0.5 * sum_(g * (x - along(mean)), axis=others) * scale * inverse * inverse,
            lambda: sum_(g * (x - along(mean)), axis=others) * inverse,
            lambda: sum_(g, axis=others))


def _scale_and_shift(y, weight, bias, shape):
    y = y if weight is None else y * (weight if weight.shape == shape else weight.reshape(shape))
    return y if bias is None else y + (bias if bias.shape == shape else bias.reshape(shape))


def _along_channels(x) -> tuple[int, ...]:
    return (x.shape[1], *(1,) * (x.ndim - 2))


def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel (Ioffe and Szegedy, 2015).  x (N, C, *size); all other tensors (C).

    training: with the statistics of this batch, which also move the running ones, in place, by `momentum` (the running
    variance with Bessel's n - 1). Otherwise with the running statistics.  torch.nn.functional.batch_norm.
    """
    if x.ndim < 2 or any(t is not None and t.shape != (x.shape[1],) for t in (running_mean, running_var, weight, bias)):
        raise ShapeError(f"batch_norm: input {x.shape} needs statistics and parameters of shape "
                         f"({x.shape[1] if x.ndim > 1 else 'C'},)")
    shape = _along_channels(x)
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: training=False needs running_mean and running_var")
        return apply_batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    axes = (0, *range(2, x.ndim))
    n = x.size // max(x.shape[1], 1)
    if n < 2:
        raise ShapeError(f"batch_norm: training needs more than one value a channel, got input {x.shape}")
    y, mu, var = standardize(x, axes=axes, eps=eps)
    if running_mean is not None:
        _move(running_mean, mu, momentum)
        _move(running_var, var.detach() * (n / (n - 1)), momentum)
    return _scale_and_shift(y, weight, bias, shape)


def _move(running, batch, momentum: float) -> None:
    """running <- (1 - momentum) running + momentum batch, outside the graph."""
    running.detach().copy_(running.detach() * (1 - momentum) + batch.detach().reshape(running.shape) * momentum)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last axes, which have normalized_shape (Ba et al., 2016).  weight, bias: normalized_shape."""
    normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[x.ndim - len(normalized_shape):] != normalized_shape:
        raise ShapeError(f"layer_norm: the last axes of {x.shape} are not {normalized_shape}")
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    return _scale_and_shift(standardize(x, axes=axes, eps=eps)[0], weight, bias, normalized_shape)


def rms_norm(x, normalized_shape, weight=None, eps=1e-5):
    """x / sqrt(mean(x^2) + eps) over the last axes (Zhang and Sennrich, 2019).  ONNX RMSNormalization."""
    normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[x.ndim - len(normalized_shape):] != normalized_shape:
        raise ShapeError(f"rms_norm: the last axes of {x.shape} are not {normalized_shape}")
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    y = x * rsqrt(mean(x * x, axis=axes, keepdims=True) + eps)
    return y if weight is None else y * weight


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalise each group of channels of each sample (Wu and He, 2018).  x (N, C, *size); num_groups divides C."""
    if x.ndim < 2 or x.shape[1] % num_groups:
        raise ShapeError(f"group_norm: {num_groups} groups do not divide the channels of {x.shape}")
    grouped = x.reshape(x.shape[0], num_groups, -1) if x.size else x.reshape(x.shape[0], num_groups, 0)
    y = standardize(grouped, axes=(2,), eps=eps)[0].reshape(x.shape)
    return _scale_and_shift(y, weight, bias, _along_channels(x))


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    """Normalise each channel of each sample (Ulyanov et al., 2016).  x (N, C, *size)."""
    if x.ndim < 3:
        raise ShapeError(f"instance_norm: (N, C, *size) is needed, got {x.shape}")
    y = standardize(x, axes=tuple(range(2, x.ndim)), eps=eps)[0]
    return _scale_and_shift(y, weight, bias, _along_channels(x))
