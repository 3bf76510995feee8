"""Batch norm and layer norm over a block of rows that fits the cache at a time, the blocks shared among the threads."""

import math

import numpy as np

from ...core.tiers import kernel
from ...ops.normalization import apply_batch_norm, batch_norm_, layer_norm_
from .sums import RUN, of_rows, products, products_along
from .threads import parallel, shares

# --- the values of a channel -------------------------------------------------------------------------------------------

BLOCK = 1 << 16                  # values in a block of rows: with its temporaries it stays in the cache


def _blocks(rows):
    """Slices of so many rows that they hold about BLOCK values."""
    step = max(1, BLOCK // max(rows.shape[1], 1))
    return [slice(i, i + step) for i in range(0, len(rows), step)]


def _each_block(function, rows) -> None:
    blocks = _blocks(rows)
    parallel(lambda at: [function(block) for block in blocks[at]], shares(len(blocks), rows.size))


class Channels:
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
            return np.add.reduce(rows, axis=1)
        return of_rows(rows).reshape(self.shape[1], -1).sum(axis=1)

    def sum_of_products(self, pair, rows):
        """(C): the sum of a * b in each channel, `pair` giving both for a block of rows."""
        blocks, few = _blocks(rows), not self.by_channel and len(rows) <= 2 * RUN

        def some(at):
            total = np.zeros(self.shape[1] if self.by_channel else rows.shape[1], rows.dtype if few else np.float64)
            for block in blocks[at]:
                if self.by_channel:
                    total[block] = products_along(*pair(block))
                else:
                    total += products(*pair(block))
            return total
        total = sum(parallel(some, shares(len(blocks), rows.size))).astype(rows.dtype, copy=False)
        return total if self.by_channel else total.reshape(self.shape[1], -1).sum(axis=1)

    def scaled(self, rows, scale, shift):
        """rows * scale + shift by channel, as (N, C, *size)."""
        scale, shift, y = self.along(scale), self.along(shift), np.empty_like(rows)

        def block_scaled(block):
            np.multiply(rows[block], self.part(scale, block), out=y[block])
            y[block] += self.part(shift, block)
        _each_block(block_scaled, rows)
        return self.back(y)

# --- batch norm ---------------------------------------------------------------------------------------------------------


@kernel(batch_norm_, "numpy")
def batch_norm(x, weight=None, bias=None, *, eps):
    if not x.size or any(v is not None and v.size != x.shape[1] for v in (weight, bias)):
        return NotImplemented
    channels = Channels(x)
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


@kernel(batch_norm_.gradient, "numpy")
def batch_norm_gradient(wants, g, y, x, weight, eps):
    (gy, gmean, gvar), (_, mu, var) = g, y
    if gmean is not None or gvar is not None or not x.size:
        return NotImplemented
    channels = Channels(x)
    rows, g = channels.rows(x), channels.rows(gy)
    count, inverse, center = x.dtype.type(x.shape[0] * channels.places), _inverse(var, eps), channels.along(mu)
    def centered_and_gradient(block):
        return rows[block] - channels.part(center, block), g[block]
    total, along = channels.sum(g), channels.sum_of_products(centered_and_gradient, rows) * inverse
    if not wants[0]:
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


@kernel(apply_batch_norm, "numpy")
def quick_apply_batch_norm(x, mean, var, weight=None, bias=None, *, eps):
    """Scale and shift in one: a multiplication and an addition for each value."""
    if any(v is not None and v.size != x.shape[1] for v in (mean, var, weight, bias)):
        return NotImplemented
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    scale = scale if weight is None else scale * weight
    channels = Channels(x)
    return channels.scaled(channels.rows(x), scale, -mean * scale if bias is None else bias - mean * scale)

# --- layer norm ---------------------------------------------------------------------------------------------------------

WIDEST = 1 << 14                 # values of a row that a product with ones sums without losing digits


@kernel(layer_norm_, "numpy")
def layer_norm(x, weight=None, bias=None, *, axes, eps):
    shape, rows = x.shape[:x.ndim - axes] + (1,) * axes, rows_of(x, axes)
    if rows.shape[1] > WIDEST:
        return NotImplemented
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


def rows_of(x, axes: int):
    """(..., last axes) -> (rows, values of a row)."""
    width = math.prod(x.shape[x.ndim - axes:])
    return x.reshape(x.size // width if width else math.prod(x.shape[:x.ndim - axes]), width)


@kernel(layer_norm_.gradient, "numpy")
def layer_norm_gradient(wants, g, y, x, weight, axes):
    (gy, gmean, ginverse), (_, mu, inverse) = g, y
    if gmean is not None or ginverse is not None or not x.size:
        return NotImplemented
    rows, g, mu, inverse = rows_of(x, axes), rows_of(gy, axes), mu.reshape(-1, 1), inverse.reshape(-1, 1)
    if rows.shape[1] > WIDEST:
        return NotImplemented
    ones, dx, blocks = np.full(rows.shape[1], 1 / rows.shape[1], x.dtype), np.empty_like(rows), _blocks(rows)

    def some(at):
        dweight = np.zeros(rows.shape[1])
        for block in blocks[at]:
            part = np.subtract(rows[block], mu[block], out=dx[block])      # the standardized values
            part *= inverse[block]
            scaled = g[block]
            if weight is not None:
                dweight += products(scaled, part)
                scaled = scaled * weight.reshape(-1)
            along = np.einsum("nk,nk->n", scaled, part) * ones[0]
            part *= -along[:, None]
            part += scaled
            part -= (scaled @ ones)[:, None]
            part *= inverse[block]
        return dweight
    dweight, dbias = sum(parallel(some, shares(len(blocks), x.size))).astype(x.dtype), of_rows(g)
    shape = x.shape[x.ndim - axes:]
    return dx.reshape(x.shape), dweight.reshape(shape), dbias.reshape(shape)
