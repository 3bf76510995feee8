"""Ops that move values without computing: shapes, views, joins, indexing.

The gradient of a move is the move back: of a view, the inverse view; of a selection, a scatter; of a join, a split.
Dtypes are left alone (`promote=None`), and views share memory with their input.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.device import Device, to_device, to_host
from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Axis, Gradients, Pads, Shape, Sizes
from ..errors import ArgumentError, ShapeError
from .axes import normalize_axes
from .elementwise import where

# --- views ----------------------------------------------------------------------------------------------------------


@op(promote=None, view=True, gradient=lambda g, x: g.reshape(x.shape), onnx="Reshape")
def reshape(x: Array, *, shape: Shape) -> Array:
    """Same values in another shape; one length may be -1.  torch.reshape."""
    return x.reshape(shape)


@op(promote=None, view=True, onnx="Transpose")
def permute(x: Array, *, axes: Shape) -> Array:
    """Axes in another order.  numpy.transpose, torch.permute, ONNX Transpose."""
    return np.transpose(x, axes)


@permute.gradient
def permute_gradient(g: Tensor, x: Tensor, axes: Shape) -> Tensor:
    inverse = np.argsort([a % x.ndim for a in axes])
    return permute(g, axes=tuple(int(a) for a in inverse))


def transpose(x: Tensor, axis0: int = -2, axis1: int = -1) -> Tensor:
    """Two axes swapped.  torch.transpose, numpy.swapaxes."""
    axes = list(range(x.ndim))
    (axis0,), (axis1,) = normalize_axes(axis0, x.ndim), normalize_axes(axis1, x.ndim)
    axes[axis0], axes[axis1] = axes[axis1], axes[axis0]
    return permute(x, axes=tuple(axes))


swapaxes = transpose


def movedim(x: Tensor, source: int, destination: int) -> Tensor:
    """One axis moved, the others in their order.  torch.movedim, numpy.moveaxis."""
    (source,), (destination,) = normalize_axes(source, x.ndim), normalize_axes(destination, x.ndim)
    axes = [a for a in range(x.ndim) if a != source]
    axes.insert(destination, source)
    return permute(x, axes=tuple(axes))


@op(promote=None, view=True, gradient=lambda g: g, onnx="Expand")
def expand(x: Array, *, shape: Shape) -> Array:
    """x broadcast to shape without copying; -1 keeps a length.  torch.expand, numpy.broadcast_to."""
    missing = len(shape) - x.ndim
    shape = tuple(x.shape[i - missing] if n == -1 else n for i, n in enumerate(shape))
    return np.broadcast_to(x, shape)


def squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    """Without the axes of length 1 (those named in axis, or all).  torch.squeeze."""
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else normalize_axes(axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.shape} has length {x.shape[a]}, only length 1 can go")
    return reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def unsqueeze(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """With new axes of length 1 at the positions `axis` of the result.  ONNX Unsqueeze."""
    axes = normalize_axes(axis, x.ndim + (1 if isinstance(axis, int) else len(axis)))
    old = iter(x.shape)
    return reshape(x, shape=tuple(1 if i in axes else next(old)
                                  for i in range(x.ndim + len(axes))))


def flatten(x: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Axes start_axis..end_axis joined into one.  torch.flatten."""
    (start,), (end,) = normalize_axes(start_axis, x.ndim or 1), normalize_axes(end_axis, x.ndim or 1)
    return reshape(x, shape=x.shape[:start] + (math.prod(x.shape[start:end + 1]),) + x.shape[end + 1:])


@op(promote=None, view=True, gradient=lambda g, axis: flip(g, axis=axis))
def flip(x: Array, *, axis: int | tuple[int, ...]) -> Array:
    """The values along axis (a number or a tuple) in reverse.  torch.flip."""
    return np.flip(x, axis)

# --- copies ---------------------------------------------------------------------------------------------------------


@op(promote=None, gradient=lambda g: g, onnx="Identity")
def clone(x: Array) -> Array:
    """The same values in memory of their own.  torch.clone."""
    return x.copy()


@op(promote=None, gradient=lambda g, x: cast(g, dtype=x.dtype), onnx="Cast")
def cast(x: Array, *, dtype: Any) -> Array:
    """The values in another dtype.  Tensor.astype."""
    return x.astype(dtype)


def transfer(x: Tensor, device: Device) -> Tensor:
    """x on another device; differentiable.  Tensor.to."""
    return transferred(x, device=device, source=x.device)


@op(promote=None, gradient=lambda g, device, source: transferred(g, device=source, source=device))
def transferred(x: Array, *, device: Any, source: Any) -> Array:
    """x copied from the device `source` to `device`: what `transfer` is."""
    return to_device(to_host(x), device)


@op(promote=None, gradient=lambda g, shifts, axis: roll(
    g, shifts=tuple(-s for s in shifts) if isinstance(shifts, tuple) else -shifts, axis=axis))
def roll(x: Array, *, shifts: Any, axis: Axis = None) -> Array:
    """Values moved by `shifts` along axis, what falls off one end coming in at the other.  torch.roll."""
    return np.roll(x, shifts, axis)


@op(promote=None, onnx="Tile")
def tile(x: Array, *, repeats: Shape) -> Array:
    """x repeated as a whole, repeats[i] times along axis i.  numpy.tile, torch.Tensor.repeat."""
    return np.tile(x, repeats)


@tile.gradient
def tile_gradient(g: Tensor, x: Tensor, repeats: Shape) -> Tensor:
    shape = (1,) * (len(repeats) - x.ndim) + x.shape
    repeats = (1,) * (len(shape) - len(repeats)) + tuple(repeats)
    apart = g.reshape(tuple(n for pair in zip(repeats, shape, strict=True) for n in pair))
    return apart.sum(axis=tuple(range(0, 2 * len(shape), 2))).reshape(x.shape)


@op(promote=None, onnx="Pad")
def pad_constant(x: Array, *, widths: Pads, value: float = 0.0) -> Array:
    """A border of `value`; negative widths crop."""
    inside = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))
    grown = tuple((max(b, 0), max(a, 0)) for b, a in widths)
    return np.pad(x[inside], grown, constant_values=np.asarray(value).astype(x.dtype))


@pad_constant.gradient
def pad_constant_gradient(g: Tensor, widths: Pads, value: float) -> Tensor:
    return pad_constant(g, widths=tuple((-b, -a) for b, a in widths))

# --- joins and splits -----------------------------------------------------------------------------------------------


@op(onnx="Concat")
def concatenate_(*tensors: Array, axis: int = 0) -> Array:
    """Arrays joined along an existing axis: what `concat` is."""
    return np.concatenate(tensors, axis)


@concatenate_.gradient
def concatenate_gradient(g: Tensor, *tensors: Tensor, axis: int) -> Gradients:
    return tuple(split(g, [x.shape[axis] for x in tensors], axis=axis))


def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis.  torch.cat, numpy.concatenate."""
    if not tensors:
        raise ArgumentError("concat: at least one tensor is needed")
    return concatenate_(*tensors, axis=axis)


cat = concatenate = concat


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.  torch.stack."""
    return concat([unsqueeze(x, axis) for x in tensors], axis=axis)


def split(x: Tensor, size: Sizes, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along axis: into pieces of `size` (the last may be smaller), or of the sizes in a list.  torch.split."""
    (axis,) = normalize_axes(axis, x.ndim)
    n = x.shape[axis]
    sizes = [min(size, n - i) for i in range(0, n, size)] or [0] if isinstance(size, int) else list(size)
    if sum(sizes) != n:
        raise ShapeError(f"split: sizes {sizes} add up to {sum(sizes)}, axis {axis} has length {n}")
    ends = np.cumsum([0, *sizes])
    at = (slice(None),) * axis
    return tuple(x[at + (slice(int(a), int(b)),)] for a, b in zip(ends, ends[1:], strict=False))


def chunk(x: Tensor, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut into `chunks` pieces of equal size (the last may be smaller).  torch.chunk."""
    return split(x, -(-x.shape[axis] // chunks) or 1, axis)

def unbind(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along axis, without that axis.  torch.unbind."""
    return tuple(squeeze(part, axis) for part in split(x, 1, axis))

# --- masks and constants --------------------------------------------------------------------------------------------


def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two axes, zeros elsewhere.  torch.tril."""
    return where(np.tri(x.shape[-2], x.shape[-1], diagonal, dtype=np.bool_), x, 0)


def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two axes, zeros elsewhere.  torch.triu."""
    return where(~np.tri(x.shape[-2], x.shape[-1], diagonal - 1, dtype=np.bool_), x, 0)


@op(promote=None, differentiable=False)
def zeros_like(x: Array) -> Array:
    """Zeros of x's shape, dtype and device.  torch.zeros_like."""
    return np.zeros(x.shape, x.dtype)


@op(promote=None, differentiable=False)
def ones_like(x: Array) -> Array:
    """Ones of x's shape, dtype and device.  torch.ones_like."""
    return np.ones(x.shape, x.dtype)
