"""Normalisation: one op standardizes over some axes; batch, layer, group and instance norm choose which.

    batch norm      over samples and places, for each channel
    layer norm      over the last axes, for each sample and place
    group norm      over places and the channels of a group, for each sample
    instance norm   over places, for each sample and channel
    RMS norm        over the last axes, without subtracting the mean

Batch norm and layer norm, which stand in every other layer, are ops of their own: as one function, with its gradient as
another, they go over their input a block that fits the cache at a time. Their rules in ops, beside them, say what they
compute.
"""

import math

import numpy as np

from ..core.graph import backward_kernel, no_grad, op
from ..errors import ArgumentError, ShapeError
from ..kernels.numpy.threads import parallel, shares
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
    return dx.expand(x.shape)


# --- the values of a channel -------------------------------------------------------------------------------------------

BLOCK = 1 << 16                  # values in a block of rows: with its temporaries it stays in the cache


def _blocks(rows):
    """Slices of so many rows that they hold about BLOCK values."""
    step = max(1, BLOCK // max(rows.shape[1], 1))
    return [slice(i, i + step) for i in range(0, len(rows), step)]


def _each_block(function, rows) -> None:
    blocks = _blocks(rows)
    parallel(lambda at: [function(block) for block in blocks[at]], shares(len(blocks), rows.size))


class _Channels:
    """x (N, C, *size) as a matrix with long rows, so that every step over it is one long loop, however small the maps.

    A row is a sample, all its channels and places side by side, (N, C * P): what belongs to a channel is repeated for
    its P places. Where the batch is last in memory, as convolutions of small maps leave it, a row is a channel,
    (C, P * N). Sums along or over the rows are products with ones.
    """

    def __init__(self, x):
        self.shape, self.places = x.shape, math.prod(x.shape[2:])
        self.by_channel = not x.flags.c_contiguous and x.transpose(*range(1, x.ndim), 0).flags.c_contiguous

    def rows(self, x):
        """The matrix; a copy where x lies otherwise in memory."""
        n, channels, *size = self.shape
        if self.by_channel:
            return x.transpose(*range(1, x.ndim), 0).reshape(channels, self.places * n)
        return x.reshape(n, channels * self.places)

    def back(self, rows):
        """The matrix as (N, C, *size)."""
        n, channels, *size = self.shape
        if self.by_channel:
            return rows.reshape(channels, *size, n).transpose(len(size) + 1, *range(len(size) + 1))
        return rows.reshape(self.shape)

    def along(self, vector):
        """A vector with one value a channel, to be broadcast against the matrix: ((C, 1), or (1, C * P))."""
        return vector[:, None] if self.by_channel else np.repeat(vector, self.places)[None]

    def part(self, along, block):
        """What of `along` belongs to a block of rows."""
        return along[block] if self.by_channel else along

    def sum(self, rows):
        """(C): the sum of each channel."""
        if self.by_channel:
            return rows @ np.ones(rows.shape[1], rows.dtype)
        return (np.ones(len(rows), rows.dtype) @ rows).reshape(self.shape[1], -1).sum(axis=1)

    def sum_of_products(self, pair, rows):
        """(C): the sum of a * b in each channel, `pair` giving both for a block of rows."""
        blocks = _blocks(rows)

        def some(at):
            total = np.zeros(self.shape[1] if self.by_channel else rows.shape[1], rows.dtype)
            for block in blocks[at]:
                if self.by_channel:
                    total[block] = np.einsum("nk,nk->n", *pair(block))
                else:
                    total += np.einsum("nk,nk->k", *pair(block))
            return total
        total = sum(parallel(some, shares(len(blocks), rows.size)))
        return total if self.by_channel else total.reshape(self.shape[1], -1).sum(axis=1)

    def scaled(self, rows, scale, shift):
        """rows * scale + shift by channel, as (N, C, *size)."""
        scale, shift, y = self.along(scale), self.along(shift), np.empty_like(rows)

        def block_scaled(block):
            np.multiply(rows[block], self.part(scale, block), out=y[block])
            y[block] += self.part(shift, block)
        _each_block(block_scaled, rows)
        return self.back(y)

# --- batch norm with the statistics of the batch -----------------------------------------------------------------------


@op(promote="float", onnx="BatchNormalization")
def batch_norm_(x, weight=None, bias=None, *, eps):
    """-> (standardized by channel, times weight, plus bias; mean; var), with the statistics of this batch.

    x (N, C, *size); weight, bias, mean, var (C); var divides by the number of values.
    """
    channels = _Channels(x)
    rows, count = channels.rows(x), x.dtype.type(x.shape[0] * channels.places)
    mean = channels.sum(rows) / count
    center = channels.along(mean)

    def centered_twice(block):
        return (rows[block] - channels.part(center, block),) * 2
    var = channels.sum_of_products(centered_twice, rows) / count
    scale = _inverse(var, eps) if weight is None else _inverse(var, eps) * weight
    return channels.scaled(rows, scale, -mean * scale if bias is None else bias - mean * scale), mean, var


def _inverse(var, eps):
    return 1 / np.sqrt(var + var.dtype.type(eps))


@batch_norm_.gradient
def _(g, y, x, weight=None, bias=None, eps=1e-5):
    (gy, gmean, gvar), (_, mu, var) = g, y
    axes, shape = (0, *range(2, x.ndim)), _along_channels(x)
    inverse = rsqrt(var + eps).reshape(shape)
    centered = x - mu.reshape(shape)

    def to_x():
        n, dx = x.size // x.shape[1], 0.0
        if gy is not None:            # what changes the mean or the length of x changes nothing in y
            g = gy if weight is None else gy * weight.reshape(shape)
            along = mean(g * centered, axis=axes, keepdims=True) * inverse * inverse
            dx = inverse * (g - mean(g, axis=axes, keepdims=True) - centered * along)
        if gmean is not None:
            dx = dx + gmean.reshape(shape) * (1.0 / n)
        if gvar is not None:
            dx = dx + gvar.reshape(shape) * centered * (2.0 / n)
        return dx.expand(x.shape)
    if gy is None:
        return to_x, None, None
    return to_x, lambda: sum_(gy * centered * inverse, axis=axes), lambda: sum_(gy, axis=axes)


@backward_kernel(batch_norm_)
def _(needs, g, y, x, weight=None, bias=None, *, eps):
    (gy, gmean, gvar), (_, mu, var) = g, y
    if gmean is not None or gvar is not None or not x.size:
        return NotImplemented
    channels = _Channels(x)
    rows, g = channels.rows(x), channels.rows(gy)
    count, inverse, center = x.dtype.type(x.shape[0] * channels.places), _inverse(var, eps), channels.along(mu)
    def centered_and_gradient(block):
        return rows[block] - channels.part(center, block), g[block]
    total, along = channels.sum(g), channels.sum_of_products(centered_and_gradient, rows) * inverse
    if not needs[0]:
        return None, along, total
    scale = inverse if weight is None else inverse * weight
    slope = -scale * along * inverse / count                     # dx = scale * g + slope * (x - mean) - scale * mean(g)
    offset = channels.along(-scale * total / count - slope * mu)
    scale, slope, dx = channels.along(scale), channels.along(slope), np.empty_like(rows)

    def to_x(block):
        part = dx[block]
        np.multiply(rows[block], channels.part(slope, block), out=part)
        part += g[block] * channels.part(scale, block)
        part += channels.part(offset, block)
    _each_block(to_x, rows)
    return channels.back(dx), along, total

# --- layer norm ---------------------------------------------------------------------------------------------------------


@op(promote="float", onnx="LayerNormalization")
def layer_norm_(x, weight=None, bias=None, *, axes, eps):
    """-> (standardized over the last axes, times weight, plus bias; mean; 1 / sqrt(var + eps)).

    axes: how many of the last axes; weight, bias: their shape. mean and the last result keep them with length 1.
    """
    shape, rows = x.shape[:x.ndim - axes] + (1,) * axes, _rows_of(x, axes)
    mean, inverse, y = np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype), np.empty_like(rows)
    ones = np.full(rows.shape[1], 1 / max(rows.shape[1], 1), x.dtype)

    def standardized(block):
        mean[block] = rows[block] @ ones
        part = np.subtract(rows[block], mean[block, None], out=y[block])
        inverse[block] = 1 / np.sqrt((part * part) @ ones + x.dtype.type(eps))
        part *= inverse[block, None]
        if weight is not None:
            part *= weight.reshape(-1)
        if bias is not None:
            part += bias.reshape(-1)
    _each_block(standardized, rows)
    return y.reshape(x.shape), mean.reshape(shape), inverse.reshape(shape)


def _rows_of(x, axes: int):
    """(..., last axes) -> (rows, values of a row)."""
    width = math.prod(x.shape[x.ndim - axes:])
    return x.reshape(x.size // width if width else math.prod(x.shape[:x.ndim - axes]), width)


@layer_norm_.gradient
def _(g, y, x, weight=None, bias=None, axes=1, eps=1e-5):
    (gy, gmean, ginverse), (_, mu, inverse) = g, y
    last = tuple(range(x.ndim - axes, x.ndim))
    centered = x - mu

    def to_x():
        n, dx = math.prod(x.shape[x.ndim - axes:]) or 1, 0.0
        if gy is not None:
            g = gy if weight is None else gy * weight
            along = mean(g * centered, axis=last, keepdims=True) * inverse * inverse
            dx = inverse * (g - mean(g, axis=last, keepdims=True) - centered * along)
        if gmean is not None:
            dx = dx + gmean * (1.0 / n)
        if ginverse is not None:
            dx = dx - ginverse * inverse * inverse * inverse * centered * (1.0 / n)
        return dx.expand(x.shape)
    if gy is None:
        return to_x, None, None
    return to_x, lambda: gy * centered * inverse, lambda: gy          # the engine sums over the rows


@backward_kernel(layer_norm_)
def _(needs, g, y, x, weight=None, bias=None, *, axes, eps):
    (gy, gmean, ginverse), (_, mu, inverse) = g, y
    if gmean is not None or ginverse is not None or not x.size:
        return NotImplemented
    rows, g, mu, inverse = _rows_of(x, axes), _rows_of(gy, axes), mu.reshape(-1, 1), inverse.reshape(-1, 1)
    ones, dx, blocks = np.full(rows.shape[1], 1 / rows.shape[1], x.dtype), np.empty_like(rows), _blocks(rows)

    def some(at):
        dweight = np.zeros(rows.shape[1], x.dtype)
        for block in blocks[at]:
            part = np.subtract(rows[block], mu[block], out=dx[block])      # the standardized values
            part *= inverse[block]
            scaled = g[block]
            if weight is not None:
                dweight += np.einsum("nk,nk->k", scaled, part)
                scaled = scaled * weight.reshape(-1)
            along = np.einsum("nk,nk->n", scaled, part) * ones[0]
            part *= -along[:, None]
            part += scaled
            part -= (scaled @ ones)[:, None]
            part *= inverse[block]
        return dweight
    dweight, dbias = sum(parallel(some, shares(len(blocks), x.size))), np.ones(len(g), x.dtype) @ g
    shape = x.shape[x.ndim - axes:]
    return dx.reshape(x.shape), dweight.reshape(shape), dbias.reshape(shape)

# --- batch norm with given statistics -----------------------------------------------------------------------------------


@op(promote="float", onnx="BatchNormalization")
def apply_batch_norm(x, mean, var, weight=None, bias=None, *, eps):
    """(x - mean) / sqrt(var + eps) * weight + bias by channel, with given statistics: one multiplication, one addition."""
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    scale = scale if weight is None else scale * weight
    channels = _Channels(x)
    return channels.scaled(channels.rows(x), scale, -mean * scale if bias is None else bias - mean * scale)


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

# --- the functions that people call ---------------------------------------------------------------------------------


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
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: training=False needs running_mean and running_var")
        return apply_batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    n = x.size // max(x.shape[1], 1)
    if n < 2:
        raise ShapeError(f"batch_norm: training needs more than one value a channel, got input {x.shape}")
    y, mu, var = batch_norm_(x, weight, bias, eps=eps)
    if running_mean is not None:
        with no_grad():                              # running <- (1 - momentum) running + momentum batch
            running_mean.copy_(running_mean * (1 - momentum) + mu * momentum)
            running_var.copy_(running_var * (1 - momentum) + var * (momentum * n / (n - 1)))
    return y


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalise over the last axes, which have normalized_shape (Ba et al., 2016).  weight, bias: normalized_shape."""
    normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[x.ndim - len(normalized_shape):] != normalized_shape:
        raise ShapeError(f"layer_norm: the last axes of {x.shape} are not {normalized_shape}")
    if any(t is not None and t.shape != normalized_shape for t in (weight, bias)):
        raise ShapeError(f"layer_norm: weight and bias must have shape {normalized_shape}")
    return layer_norm_(x, weight, bias, axes=len(normalized_shape), eps=eps)[0]


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
