"""Ops that move values without computing: shapes, views, joins, indexing.

The gradient of a move is the move back: of a view, the inverse view; of a selection, a scatter; of a join, a split.
Dtypes are left alone (`promote=None`), and views share memory with their input.
"""

import math

import numpy as np

from ..core.device import Device, to_device, to_host
from ..core.dtypes import is_floating
from ..core.graph import backward_kernel, kernel, op
from ..errors import ArgumentError, DTypeError, ShapeError
from .elementwise import where
from .reduce import normalize_axes
from .reduce import sum as sum_

# --- views ----------------------------------------------------------------------------------------------------------


@op(promote=None, view=True, vjp=lambda g, _y, x, shape: g.reshape(x.shape), onnx="Reshape")
def reshape(x, *, shape):
    """Same values in another shape; one length may be -1."""
    return x.reshape(shape)


@backward_kernel(reshape)
def _(_needs, g, _y, x, *, shape):
    return g.reshape(x.shape)


@op(promote=None, view=True, onnx="Transpose")
def permute(x, *, axes):
    """Axes in another order.  numpy.transpose, torch.permute, ONNX Transpose."""
    return np.transpose(x, axes)


@permute.gradient
def _(g, _y, x, axes):
    inverse = np.argsort([a % x.ndim for a in axes])
    return permute(g, axes=tuple(int(a) for a in inverse))


def transpose(x, axis0=-2, axis1=-1):
    """Two axes swapped.  torch.transpose, numpy.swapaxes."""
    axes = list(range(x.ndim))
    (axis0,), (axis1,) = normalize_axes(axis0, x.ndim), normalize_axes(axis1, x.ndim)
    axes[axis0], axes[axis1] = axes[axis1], axes[axis0]
    return permute(x, axes=tuple(axes))


swapaxes = transpose


def movedim(x, source: int, destination: int):
    """One axis moved, the others in their order.  torch.movedim, numpy.moveaxis."""
    (source,), (destination,) = normalize_axes(source, x.ndim), normalize_axes(destination, x.ndim)
    axes = [a for a in range(x.ndim) if a != source]
    axes.insert(destination, source)
    return permute(x, axes=tuple(axes))


@op(promote=None, view=True, vjp=lambda g, _y, x, shape: g, onnx="Expand")
def expand(x, *, shape):
    """x broadcast to shape without copying; -1 keeps a length.  torch.expand, numpy.broadcast_to."""
    missing = len(shape) - x.ndim
    shape = tuple(x.shape[i - missing] if n == -1 else n for i, n in enumerate(shape))
    return np.broadcast_to(x, shape)


def squeeze(x, axis=None):
    """Without the axes of length 1 (those named in axis, or all)."""
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else normalize_axes(axis, x.ndim)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {x.shape} has length {x.shape[a]}, only length 1 can go")
    return reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def unsqueeze(x, axis):
    """With new axes of length 1 at the positions `axis` of the result.  ONNX Unsqueeze."""
    axes = normalize_axes(axis, x.ndim + (1 if isinstance(axis, int) else len(axis)))
    old = iter(x.shape)
    return reshape(x, shape=tuple(1 if i in axes else next(old)
                                  for i in range(x.ndim + len(axes))))


def flatten(x, start_axis=0, end_axis=-1):
    """Axes start_axis..end_axis joined into one.  torch.flatten."""
    (start,), (end,) = normalize_axes(start_axis, x.ndim or 1), normalize_axes(end_axis, x.ndim or 1)
    return reshape(x, shape=x.shape[:start] + (math.prod(x.shape[start:end + 1]),) + x.shape[end + 1:])


@op(promote=None, view=True, vjp=lambda g, _y, _x, axis: flip(g, axis=axis), onnx=None)
def flip(x, *, axis):
    """The values along axis (a number or a tuple) in reverse."""
    return np.flip(x, axis)

# --- copies ---------------------------------------------------------------------------------------------------------


@op(promote=None, vjp=lambda g, _y, _x: g, onnx="Identity")
def clone(x):
    """The same values in memory of their own."""
    return x.copy()


@op(promote=None, vjp=lambda g, _y, x, dtype: cast(g, dtype=x.dtype) if is_floating(dtype) else None, onnx="Cast")
def cast(x, *, dtype):
    """The values in another dtype.  Tensor.astype."""
    return x.astype(dtype)


def transfer(x, device: Device):
    """x on another device; differentiable.  Tensor.to."""
    return transferred(x, device=device, source=x.device)


@op(promote=None, onnx=None, vjp=lambda g, _y, _x, device, source: transferred(g, device=source, source=device))
def transferred(x, *, device, source):
    return to_device(to_host(x), device)


kernel(transferred, "triton")(transferred.forward)       # from a GPU too, a transfer is a copy, not a fallback


@op(promote=None, vjp=lambda g, _y, _x, shifts, axis: roll(
    g, shifts=tuple(-s for s in shifts) if isinstance(shifts, tuple) else -shifts, axis=axis), onnx=None)
def roll(x, *, shifts, axis=None):
    """Values moved by `shifts` along axis, what falls off one end coming in at the other."""
    return np.roll(x, shifts, axis)


@op(promote=None, onnx="Tile")
def tile(x, *, repeats):
    """x repeated as a whole, repeats[i] times along axis i.  numpy.tile, torch.Tensor.repeat."""
    return np.tile(x, repeats)


@tile.gradient
def _(g, _y, x, repeats):
    shape = (1,) * (len(repeats) - x.ndim) + x.shape
    repeats = (1,) * (len(shape) - len(repeats)) + tuple(repeats)
    apart = g.reshape(tuple(n for pair in zip(repeats, shape, strict=True) for n in pair))
    return sum_(apart, axis=tuple(range(0, 2 * len(shape), 2))).reshape(x.shape)


def repeat_interleave(x, repeats: int, axis: int):
    """Each value repeated `repeats` times in place.  numpy.repeat."""
    (axis,) = normalize_axes(axis, x.ndim)
    index = np.repeat(np.arange(x.shape[axis]), repeats)
    return index_select(x, index, axis=axis)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge", "circular": "wrap",
              "wrap": "wrap"}


def pad(x, widths, mode="constant", value=0.0):
    """x with a border.  numpy.pad, ONNX Pad.

    widths: ((before, after), ...) for each axis; or, like torch.nn.functional.pad, a flat sequence
    (last axis before, after, second last before, after, ...). Negative widths crop.
    mode: "constant", "reflect", "replicate" (or "edge"), "circular" (or "wrap").
    """
    widths = [tuple(w) if isinstance(w, (tuple, list)) else w for w in widths]
    if widths and not isinstance(widths[0], tuple):
        pairs = list(zip(widths[::2], widths[1::2], strict=True))
        widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    if len(widths) != x.ndim:
        raise ShapeError(f"pad: {len(widths)} pairs of widths for a tensor with {x.ndim} axes {x.shape}")
    if mode not in _PAD_MODES:
        raise ArgumentError(f"pad: mode {mode!r} is none of {', '.join(_PAD_MODES)}")
    if mode == "constant":
        return pad_constant(x, widths=tuple(widths), value=value)
    for axis, (before, after) in enumerate(widths):        # the other modes copy values of x: a selection along each axis
        if before or after:
            index = np.pad(np.arange(x.shape[axis]), (max(before, 0), max(after, 0)), mode=_PAD_MODES[mode])
            index = index[max(-before, 0):len(index) - max(-after, 0)]
            x = index_select(x, index, axis=axis)
    return x


@op(promote=None, onnx="Pad")
def pad_constant(x, *, widths, value=0.0):
    """A border of `value`; negative widths crop."""
    inside = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, widths, strict=True))
    grown = tuple((max(b, 0), max(a, 0)) for b, a in widths)
    return np.pad(x[inside], grown, constant_values=np.asarray(value).astype(x.dtype))


@pad_constant.gradient
def _(g, _y, _x, widths, value=0.0):
    return pad_constant(g, widths=tuple((-b, -a) for b, a in widths))

# --- joins and splits -----------------------------------------------------------------------------------------------


@op(onnx="Concat")
def concatenate(*tensors, axis=0):
    return np.concatenate(tensors, axis)


@concatenate.gradient
def _(g, _y, *tensors, axis=0):
    return tuple(split(g, [x.shape[axis] for x in tensors], axis=axis))


def concat(tensors, axis=0):
    """Tensors joined along an existing axis.  torch.cat."""
    if not tensors:
        raise ArgumentError("concat: at least one tensor is needed")
    return concatenate(*tensors, axis=axis)


cat = concat


def stack(tensors, axis=0):
    """Tensors of one shape joined along a new axis."""
    return concat([unsqueeze(x, axis) for x in tensors], axis=axis)


def split(x, size, axis=0):
    """x cut along axis: into pieces of `size` (the last may be smaller), or of the sizes in a list.  torch.split."""
    (axis,) = normalize_axes(axis, x.ndim)
    n = x.shape[axis]
    sizes = [min(size, n - i) for i in range(0, n, size)] or [0] if isinstance(size, int) else list(size)
    if sum(sizes) != n:
        raise ShapeError(f"split: sizes {sizes} add up to {sum(sizes)}, axis {axis} has length {n}")
    ends = np.cumsum([0, *sizes])
    at = (slice(None),) * axis
    return tuple(x[at + (slice(int(a), int(b)),)] for a, b in zip(ends, ends[1:], strict=False))


def chunk(x, chunks, axis=0):
    """x cut into `chunks` pieces of equal size (the last may be smaller).  torch.chunk."""
    return split(x, -(-x.shape[axis] // chunks) or 1, axis)

def unbind(x, axis=0):
    """The slices of x along axis, without that axis.  torch.unbind."""
    return tuple(squeeze(part, axis) for part in split(x, 1, axis))

# --- indexing -------------------------------------------------------------------------------------------------------


def _repeats_nothing(index) -> bool:
    """Whether an index can meet no element twice: slices, numbers, ... and masks."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(not isinstance(p, np.ndarray) or p.dtype == np.bool_ for p in parts)


@op(promote=None, view=True, onnx=None)
def getitem(x, *, index):
    """x[index] with NumPy's rules: slices are views, arrays of integers and masks are copies."""
    return x[index]


@getitem.gradient
def _(g, _y, x, index):
    return index_add(g, shape=x.shape, index=index)


@op(onnx=None, vjp=lambda g, _y, _x, shape, index: g[index])
def index_add(x, *, shape, index):
    """Zeros of `shape` with x added at index: the gradient of x[index]."""
    y = np.zeros(shape, x.dtype)
    if _repeats_nothing(index):
        y[index] = x
    else:
        np.add.at(y, index, x)
    return y


@op(onnx=None)
def index_put(x, value, *, index):
    """A copy of x with x[index] = value; differentiable, unlike the in-place write."""
    y = x.copy()
    y[index] = value
    return y


@index_put.gradient
def _(g, _y, _x, value, index):
    return index_put(g, 0.0, index=index), lambda: g[index] if value.ndim else sum_(g[index])


@op(promote=None, onnx="GatherElements")
def take_along_axis(x, index, *, axis):
    """y[.., i, ..] = x[.., index[.., i, ..], ..]: one pick for each place of index.  numpy.take_along_axis."""
    _check_index(index, x.shape[axis], "take_along_axis")
    return np.take_along_axis(x, index, axis)


@take_along_axis.gradient
def _(g, _y, x, index, axis):
    return scatter_add(zeros_like(x), index, g, axis=axis), None


def gather(x, axis, index):
    """torch.gather: `take_along_axis` in which index may be smaller than x along the other axes."""
    (axis,) = normalize_axes(axis, x.ndim)
    corner = tuple(slice(None) if a == axis else slice(0, n) for a, n in enumerate(index.shape))
    return take_along_axis(x[corner], index, axis=axis)


def _grid(index, axis):
    """The index arrays that address every place of `index`, with index itself along axis."""
    grid = list(np.ogrid[tuple(slice(0, n) for n in index.shape)])
    grid[axis] = index
    return tuple(grid)


@op(index_inputs=(1,), onnx="ScatterElements")
def scatter(x, index, source, *, axis):
    """A copy of x with source written at the places of index along axis.  numpy.put_along_axis, torch.scatter."""
    _check_index(index, x.shape[axis], "scatter")
    y = x.copy()
    y[_grid(index, axis)] = source if np.ndim(source) == 0 else source[tuple(slice(0, n) for n in index.shape)]
    return y


@scatter.gradient
def _(g, _y, _x, index, source, axis):
    return (scatter(g, index, 0.0, axis=axis), None,
            lambda: _into_corner(gather(g, axis, index), source.shape))


@op(index_inputs=(1,), onnx=None)
def scatter_add(x, index, source, *, axis):
    """A copy of x with source added at the places of index along axis, repeats adding up.  torch.scatter_add."""
    _check_index(index, x.shape[axis], "scatter_add")
    y = x.copy()
    np.add.at(y, _grid(index, axis), source[tuple(slice(0, n) for n in index.shape)])
    return y


@scatter_add.gradient
def _(g, _y, _x, index, source, axis):
    return g, None, lambda: _into_corner(gather(g, axis, index), source.shape)


def _into_corner(g, shape):
    """Zeros of shape with g in the corner at the origin (index may be smaller than source)."""
    return pad_constant(g, widths=tuple((0, n - m) for n, m in zip(shape, g.shape, strict=True)))


@op(promote=None, onnx="Gather")
def index_select(x, index, *, axis=0):
    """Whole slices of x picked by integers: result has index's shape in place of the axis.  numpy.take, ONNX Gather.

    An embedding table is `index_select(weight, tokens)`.
    """
    _check_index(index, x.shape[axis], "index_select")
    return np.take(x, index, axis=axis)


@index_select.gradient
def _(g, _y, x, index, axis=0):
    return index_select_grad(g, index, shape=x.shape, axis=axis % x.ndim), None


@op(index_inputs=(1,), onnx=None)
def index_select_grad(g, index, *, shape, axis):
    """Slices of g added into zeros of `shape` at the picked places: sorted, then summed in runs.

    numpy's own scatter (np.add.at) takes an order of magnitude longer.
    """
    rows = np.moveaxis(g.reshape(shape[:axis] + (-1,) + shape[axis + 1:]), axis, 0)
    flat = np.asarray(index).reshape(-1) % max(shape[axis], 1)
    y = np.zeros((shape[axis],) + rows.shape[1:], g.dtype)
    if flat.size:
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        y[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return np.moveaxis(y, 0, axis)


@index_select_grad.gradient
def _(g, _y, _x, index, shape, axis):
    return index_select(g, index, axis=axis), None


def _check_index(index, n: int, name: str) -> None:
    index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"{name}: the index must be integers, got {index.dtype}")
    if index.size and (index.min() < -n or index.max() >= n):
        raise ShapeError(f"{name}: index {index.min() if index.min() < -n else index.max()} is out of range "
                         f"for an axis of length {n}")


def tril(x, diagonal=0):
    """The lower triangle of the last two axes, zeros elsewhere."""
    return where(np.tri(*x.shape[-2:], diagonal, dtype=bool), x, 0)


def triu(x, diagonal=0):
    """The upper triangle of the last two axes, zeros elsewhere."""
    return where(~np.tri(*x.shape[-2:], diagonal - 1, dtype=bool), x, 0)


def diagonal(x, offset=0):
    """The diagonal of the last two axes, as a last axis."""
    n, m = x.shape[-2:]
    i = np.arange(max(min(n + min(offset, 0), m - max(offset, 0)), 0))
    return x[..., i - min(offset, 0), i + max(offset, 0)]


@op(promote=None, onnx=None)
def nonzero(x):
    """Where x is not 0: int64 (n, x.ndim), one row a place.  torch.nonzero."""
    return np.argwhere(x)


def one_hot(index, num_classes: int):
    """1.0 at the place of each index, along a new last axis; float32.  torch.nn.functional.one_hot, as floats."""
    values = np.asarray(index)
    _check_index(values, num_classes, "one_hot")
    return ones_at(index, num_classes=num_classes)


@op(promote=None, onnx=None)
def ones_at(index, *, num_classes):
    return (index[..., None] % num_classes == np.arange(num_classes)).astype(np.float32)


@op(promote=None, onnx=None)
def zeros_like(x):
    """Zeros of x's shape, dtype and device."""
    return np.zeros(x.shape, x.dtype)


@op(promote=None, onnx=None)
def ones_like(x):
    """Ones of x's shape, dtype and device."""
    return np.ones(x.shape, x.dtype)
