"""Ops that move values without computing: shapes, views, joins, indexing.

The gradient of a move is the move back: of a view, the inverse view; of a selection, a scatter; of a join, a split.
Dtypes are left alone (`promote=None`), and views share memory with their input.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.device import Device, to_device, to_host
from ..core.dtypes import as_dtype
from ..core.graph import op
from ..core.modes import is_tracing
from ..core.tensor import Tensor, flat
from ..core.types import Array, Axis, DeviceLike, DTypeLike, Gradients, Outputs, Pads, Shape, Sizes
from ..errors import ArgumentError, ShapeError
from .axes import normalize_axes, one_axis, torch_names
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


@permute.torch
@torch_names
def torch_permute(x: Tensor, *axes: Any, dims: Any = ()) -> Tensor:
    """permute(x, (1, 0)) and permute(x, 1, 0)."""
    return permute(x, axes=flat(axes) or dims)


@torch_names
def transpose(x: Tensor, dim0: int = -2, dim1: int = -1) -> Tensor:
    """Two axes swapped.  torch.transpose, numpy.swapaxes."""
    dim0, dim1 = one_axis(dim0, x.ndim), one_axis(dim1, x.ndim)
    axes = list(range(max(x.ndim, 1)))
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return permute(x, axes=tuple(axes)) if x.ndim else x


swapaxes = swapdims = transpose


@torch_names
def movedim(x: Tensor, source: Sizes, destination: Sizes) -> Tensor:
    """Axes moved, the others in their order: one axis, or as many to as from.  torch.movedim, numpy.moveaxis."""
    named = ((axes,) if isinstance(axes, int) else axes for axes in (source, destination))
    begin, end = ([one_axis(a, x.ndim) for a in axes] for axes in named)
    if len(begin) != len(end) or len({*begin}) != len(begin) or len({*end}) != len(end):
        raise ShapeError(f"movedim: axes {source} cannot go to {destination}; each needs a place of its own")
    axes = [a for a in range(x.ndim) if a not in begin]
    for place, axis in sorted(zip(end, begin, strict=True)):
        axes.insert(place, axis)
    return permute(x, axes=tuple(axes)) if x.ndim else x


moveaxis = movedim


@op(promote=None, view=True, gradient=lambda g: g, onnx="Expand")
def expand(x: Array, *, shape: Shape) -> Array:
    """x broadcast to shape without copying; -1 keeps a length.  torch.expand, numpy.broadcast_to."""
    missing = len(shape) - x.ndim
    shape = tuple(x.shape[i - missing] if n == -1 else n for i, n in enumerate(shape))
    return np.broadcast_to(x, shape)


@torch_names
def squeeze(x: Tensor, dim: Axis = None, *, axis: Axis = None) -> Tensor:
    """Without the axes of length 1: all, or those named.  torch.squeeze, numpy.squeeze.

    dim: an axis of another length stays, as in PyTorch. axis: it is a ShapeError, as in NumPy.
    """
    named = dim if axis is None else axis
    axes = [i for i, n in enumerate(x.shape) if n == 1] if named is None else normalize_axes(named, x.ndim)
    for a in axes:
        if x.shape[a] != 1 and axis is not None:
            raise ShapeError(f"squeeze: axis {a} of {x.shape} has length {x.shape[a]}, only length 1 can go")
    return reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


@torch_names
def unsqueeze(x: Tensor, axis: int | Sequence[int]) -> Tensor:
    """With new axes of length 1 at the positions `axis` of the result.  ONNX Unsqueeze."""
    axes = normalize_axes(axis, x.ndim + (1 if isinstance(axis, int) else len(axis)))
    old = iter(x.shape)
    return reshape(x, shape=tuple(1 if i in axes else next(old)
                                  for i in range(x.ndim + len(axes))))


@torch_names
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim..end_dim joined into one.  torch.flatten."""
    start, end = one_axis(start_dim, x.ndim), one_axis(end_dim, x.ndim)
    if start > end:
        raise ShapeError(f"flatten: start_dim={start_dim} lies behind end_dim={end_dim} in {x.shape}")
    return reshape(x, shape=x.shape[:start] + (math.prod(x.shape[start:end + 1]),) + x.shape[end + 1:])


@op(promote=None, gradient=lambda g, axis: flip(g, axis=axis))
def flip(x: Array, *, axis: int | tuple[int, ...]) -> Array:
    """The values along axis (a number or a tuple) in reverse.  torch.flip."""
    return np.flip(x, axis).copy()                     # a copy, as PyTorch's: writing into it leaves x alone


@flip.torch
@torch_names
def torch_flip(x: Tensor, *axis: Any, dims: Any = ()) -> Tensor:
    """flip(x, (0, 1)) and flip(x, 0, 1)."""
    axes = flat(axis) or dims
    return flip(x, axis=normalize_axes(axes, max(x.ndim, 1))) if x.ndim else x


def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of the axes dim1 and dim2 as a last axis, a view.  torch.diagonal.  offset: > 0 above, < 0 below."""
    axes = one_axis(dim1, x.ndim), one_axis(dim2, x.ndim)
    if x.ndim < 2 or axes[0] == axes[1]:
        raise ShapeError(f"diagonal: two axes are needed, got {dim1} and {dim2} of {x.shape}")
    return diagonal_(x, offset=offset, axes=axes)


@op(promote=None, view=True, gradient=lambda g, x, offset, axes: from_diagonal(g, shape=x.shape, offset=offset, axes=axes))
def diagonal_(x: Array, *, offset: int, axes: Shape) -> Array:
    """x[.., i, .., i + offset, ..]: what `diagonal` is."""
    y = np.diagonal(x, offset, *axes)
    y.flags.writeable = x.flags.writeable                       # NumPy means to allow that one day
    return y


@op(promote=None, gradient=lambda g, offset, axes: diagonal_(g, offset=offset, axes=axes))
def from_diagonal(x: Array, *, shape: Shape, offset: int, axes: Shape) -> Array:
    """Zeros of `shape` with x on the diagonal: what `diag_embed` is, and the gradient of `diagonal`."""
    y = np.zeros(shape, x.dtype)
    diagonal_.definition(y, offset=offset, axes=axes)[...] = x
    return y


@torch_names
def diag_embed(x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zeros with the last axis of x on the diagonal of new axes dim1 and dim2.  torch.diag_embed."""
    n, axes = x.shape[-1] + abs(offset), (one_axis(dim1, x.ndim + 1), one_axis(dim2, x.ndim + 1))
    shape, rest = [n] * (x.ndim + 1), iter(x.shape[:-1])
    shape = [n if a in axes else next(rest) for a in range(x.ndim + 1)]
    return from_diagonal(x, shape=tuple(shape), offset=offset, axes=axes)


def diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix; of a vector the matrix that has it as diagonal.  torch.diag."""
    if x.ndim not in (1, 2):
        raise ShapeError(f"diag: a vector or a matrix is needed, got shape {x.shape}; diag_embed and diagonal take batches")
    return diag_embed(x, diagonal) if x.ndim == 1 else diagonal_(x, offset=diagonal, axes=(0, 1))

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


@roll.torch
@torch_names
def torch_roll(x: Tensor, shifts: Any, axis: Any = None) -> Tensor:
    """Also roll(x, 1) over all values, and lists of shifts and axes."""
    axis = tuple(axis) if isinstance(axis, (list, tuple)) and axis else None if axis == () or axis == [] else axis
    shifts = tuple(shifts) if isinstance(shifts, (list, tuple)) and axis is not None else flat((shifts,))
    shifts = shifts[0] if isinstance(shifts, tuple) and len(shifts) == 1 and not isinstance(axis, tuple) else shifts
    return roll(x, shifts=shifts, axis=axis)


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


@torch_names
def concat(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors joined along an existing axis; one of shape (0,) counts for nothing.  torch.cat, numpy.concatenate."""
    if isinstance(tensors, Tensor) or not tensors:
        raise ArgumentError("concat: a list of at least one tensor is needed")
    some = [x for x in tensors if x.shape != (0,)]
    return concatenate_(*(some if some and some[0].ndim != 1 else tensors), axis=axis)


cat = concatenate = concat


@torch_names
def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.  torch.stack."""
    if isinstance(tensors, Tensor) or not tensors:
        raise ArgumentError("stack: a list of at least one tensor is needed")
    if is_tracing():
        return concat([unsqueeze(x, axis) for x in tensors], axis=axis)
    return stack_(*tensors, axis=axis)


@op()
def stack_(*tensors: Array, axis: int) -> Array:
    """Arrays joined along a new axis: what `stack` is, in one step."""
    return np.stack(tensors, axis)


@stack_.gradient
def stack_gradient(g: Tensor, *tensors: Tensor, axis: int) -> Gradients:
    return unbind(g, axis)


@torch_names
def split(x: Tensor, size: Sizes, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along axis, in views: into pieces of `size` (the last may be smaller), or of these sizes.  torch.split."""
    axis = one_axis(axis, x.ndim)
    n = x.shape[axis]
    if isinstance(size, int) and (size < 0 or size == 0 < n):
        raise ArgumentError(f"split: pieces of length {size}; a length is at least 1")
    sizes = [min(size, n - i) for i in range(0, n, size or 1)] or [0] if isinstance(size, int) else list(size)
    if sum(sizes) != n:
        raise ShapeError(f"split: sizes {sizes} add up to {sum(sizes)}, axis {axis} has length {n}")
    ends = [0, *itertools.accumulate(sizes)]
    if is_tracing():                                             # as slices, which other sizes of x can be traced through
        return tuple(x[(slice(None),) * axis + (slice(a, b),)] for a, b in itertools.pairwise(ends))
    return split_(x, ends=tuple(ends), axis=axis)                # type: ignore[return-value]


@op(promote=None, view=True)
def split_(x: Array, *, ends: Shape, axis: int) -> tuple[Array, ...]:
    """x[ends[i]:ends[i + 1]] along axis, each a view: what `split` is."""
    at = (slice(None),) * axis
    return tuple(x[(*at, slice(a, b))] for a, b in itertools.pairwise(ends))


@split_.gradient
def split_gradient(g: Outputs, x: Tensor, ends: Shape, axis: int) -> Tensor:
    shapes = [(*x.shape[:axis], b - a, *x.shape[axis + 1:]) for a, b in itertools.pairwise(ends)]
    return concatenate_(*[np.zeros(shape, x.dtype) if part is None else part
                          for part, shape in zip(_all(g), shapes, strict=True)], axis=axis)


def _all(g: Outputs) -> Outputs:
    """The gradients of all outputs, also where there is one."""
    return g if isinstance(g, tuple) else (g,)


split_with_sizes = split


@torch_names
def chunk(x: Tensor, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut into `chunks` pieces of equal size (the last may be smaller), in views.  torch.chunk."""
    return split(x, -(-x.shape[one_axis(axis, x.ndim)] // chunks) or 1, axis)


@torch_names
def unbind(x: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along axis, without that axis, in views.  torch.unbind; also what `for row in x` goes through."""
    axis = one_axis(axis, x.ndim)
    if not x.ndim:
        raise ShapeError("unbind: a tensor without axes has no slices")
    if is_tracing():
        return tuple(squeeze(part, axis) for part in split(x, 1, axis)) if x.shape[axis] else ()
    return unbind_(x, axis=axis) if x.shape[axis] else ()        # type: ignore[return-value]


@op(promote=None, view=True)
def unbind_(x: Array, *, axis: int) -> tuple[Array, ...]:
    """x[.., i, ..] for each i along axis: what `unbind` is, in one step."""
    rows = np.moveaxis(x, axis, 0)
    return tuple([rows[i, ...] for i in range(len(rows))])       # ..., so that single values too are views


@unbind_.gradient
def unbind_gradient(g: Outputs, x: Tensor, axis: int) -> Tensor:
    nothing = np.zeros(x.shape[:axis] + x.shape[axis + 1:], x.dtype)
    return stack_(*[nothing if part is None else part for part in _all(g)], axis=axis)

# --- masks and constants --------------------------------------------------------------------------------------------


@torch_names
def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two axes, zeros elsewhere.  torch.tril."""
    return where(np.tri(x.shape[-2], x.shape[-1], diagonal, dtype=np.bool_), x, 0)


@torch_names
def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two axes, zeros elsewhere.  torch.triu."""
    return where(~np.tri(x.shape[-2], x.shape[-1], diagonal - 1, dtype=np.bool_), x, 0)


@op(promote=None, differentiable=False)
def zeros_like(x: Array) -> Array:
    """Zeros of x's shape, dtype and device.  torch.zeros_like."""
    return np.zeros(x.shape, x.dtype)


@zeros_like.torch
@torch_names
def torch_zeros_like(x: Tensor, *, dtype: DTypeLike | None = None, device: DeviceLike = None,
                     requires_grad: bool = False) -> Tensor:
    """Of another dtype, on another device."""
    return Tensor(np.zeros(x.shape, x.dtype if dtype is None else as_dtype(dtype)), requires_grad, device or x.device)


@op(promote=None, differentiable=False)
def ones_like(x: Array) -> Array:
    """Ones of x's shape, dtype and device.  torch.ones_like."""
    return np.ones(x.shape, x.dtype)


@ones_like.torch
@torch_names
def torch_ones_like(x: Tensor, *, dtype: DTypeLike | None = None, device: DeviceLike = None,
                    requires_grad: bool = False) -> Tensor:
    """Of another dtype, on another device."""
    return Tensor(np.ones(x.shape, x.dtype if dtype is None else as_dtype(dtype)), requires_grad, device or x.device)
