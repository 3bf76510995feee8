"""Picking values by index, and putting values at an index: the gradient of the one is the other."""

from typing import Any

import numpy as np

from ..core.graph import op
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..core.types import Array, Pads, Shape
from ..errors import ArgumentError, DTypeError, ShapeError
from .axes import one_axis, torch_names
from .elementwise import where
from .shape import pad_constant, unsqueeze, zeros_like


def _repeats_nothing(index: Any) -> bool:
    """Whether an index can meet no element twice: slices, numbers, ... and masks."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(not isinstance(p, np.ndarray) or p.dtype == np.bool_ for p in parts)


@op(promote=None, view=True)
def getitem(x: Array, *, index: Any) -> Array:
    """x[index] with NumPy's rules: slices are views, arrays of integers and masks are copies."""
    return x[index]


@getitem.gradient
def getitem_gradient(g: Tensor, x: Tensor, index: Any) -> Tensor:
    return add_at(g, shape=x.shape, index=index)


@op(gradient=lambda g, index: g[index])
def add_at(x: Array, *, shape: Shape, index: Any) -> Array:
    """Zeros of `shape` with x added at index: the gradient of x[index]."""
    y = np.zeros(shape, x.dtype)
    if _repeats_nothing(index):
        y[index] = x
    else:
        np.add.at(y, index, x)
    return y


@op()
def index_put(x: Array, value: Array, *, index: Any) -> Array:
    """A copy of x with x[index] = value; differentiable, unlike the in-place write."""
    y = x.copy()
    y[index] = value
    return y


@index_put.gradient("x")
def index_put_to_x(g: Tensor, index: Any) -> Tensor:
    return index_put(g, 0.0, index=index)


@index_put.gradient("value")
def index_put_to_value(g: Tensor, value: Tensor, index: Any) -> Tensor:
    return g[index] if value.ndim else g[index].sum()


@op(promote=None, onnx="GatherElements")
def take_along_axis(x: Array, index: Array, *, axis: int, from_end: bool = True) -> Array:
    """y[.., i, ..] = x[.., index[.., i, ..], ..]: one pick for each place of index.  numpy.take_along_axis.

    from_end: negative indices count from the end, as in NumPy and ONNX; else they are a ShapeError, as in PyTorch's gather.
    """
    check_index(index, x.shape[axis], "gather", from_end)
    return np.take_along_axis(x, index, axis)


@take_along_axis.gradient("x")
def take_along_axis_to_x(g: Tensor, x: Tensor, index: Tensor, axis: int) -> Tensor:
    return scatter_add(zeros_like(x), index, g, axis=axis)


@torch_names
def gather(x: Tensor, axis: int, index: Tensor, sparse_grad: bool = False, from_end: bool = False) -> Tensor:
    """torch.gather: `take_along_axis` in which index may be smaller than x along the other axes.

    An index outside 0..n-1 is a ShapeError that names it; from_end: negative ones count from the end, as in ONNX.
    sparse_grad changes nothing: gradients are dense.
    """
    axis = one_axis(axis, x.ndim)
    if 0 in index.shape:                             # a rule may be handed an array
        return x.reshape(-1)[:0].reshape(index.shape)
    if not x.ndim or not index.ndim:
        return gather(x.reshape(-1), 0, index.reshape(-1), False, from_end).reshape(index.shape)
    corner = tuple(slice(None) if a == axis else slice(0, n) for a, n in enumerate(index.shape))
    return take_along_axis(x[corner], index, axis=axis, from_end=from_end)


def _grid(index: Array, axis: int) -> Any:
    """The index arrays that address every place of `index`, with index itself along axis."""
    grid = list(np.ogrid[tuple(slice(0, n) for n in index.shape)])
    grid[axis] = index
    return tuple(grid)


@op(index_inputs=(1,), onnx="ScatterElements")
def scatter(x: Array, index: Array, source: Array, *, axis: int, from_end: bool = True) -> Array:
    """A copy of x with source written at the places of index along axis.  numpy.put_along_axis, torch.scatter."""
    check_index(index, x.shape[axis], "scatter", from_end)
    y = x.copy()
    y[_grid(index, axis)] = source if np.ndim(source) == 0 else source[tuple(slice(0, n) for n in index.shape)]
    return y


@scatter.gradient("x")
def scatter_to_x(g: Tensor, index: Tensor, axis: int) -> Tensor:
    return scatter(g, index, 0.0, axis=axis)


@scatter.gradient("source")
def scatter_to_source(g: Tensor, index: Tensor, source: Tensor, axis: int) -> Tensor:
    return into_corner(gather(g, axis, index, from_end=True), source.shape)


@op(index_inputs=(1,))
def scatter_add(x: Array, index: Array, source: Array, *, axis: int, from_end: bool = True) -> Array:
    """A copy of x with source added at the places of index along axis, repeats adding up.  torch.scatter_add."""
    check_index(index, x.shape[axis], "scatter_add", from_end)
    y = x.copy()
    np.add.at(y, _grid(index, axis), source[tuple(slice(0, n) for n in index.shape)])
    return y


@scatter_add.gradient("x")
def scatter_add_to_x(g: Tensor) -> Tensor:
    return g


scatter_add.gradient("source")(scatter_to_source)


def into_corner(g: Tensor, shape: Shape) -> Tensor:
    """Zeros of shape with g in the corner at the origin (index may be smaller than source)."""
    return pad_constant(g, widths=tuple((0, n - m) for n, m in zip(shape, g.shape, strict=True)))


@op(promote=None, onnx="Gather")
def index_select(x: Array, index: Array, *, axis: int = 0, from_end: bool = True) -> Array:
    """Whole slices of x picked by integers: result has index's shape in place of the axis.  numpy.take, ONNX Gather.

    An embedding table is `index_select(weight, tokens)`. from_end: negative indices count from the end; in PyTorch's call,
    index_select(x, 0, index), they are a ShapeError.
    """
    check_index(index, x.shape[axis], "index_select", from_end)
    return np.take(x, index, axis=axis) if x.size else x[(slice(None),) * (axis % x.ndim) + (index,)]


@index_select.gradient("x")
def index_select_to_x(g: Tensor, x: Tensor, index: Tensor, axis: int) -> Tensor:
    return index_select_grad(g, index, shape=x.shape, axis=axis % x.ndim)


@op(index_inputs=(1,))
def index_select_grad(slices: Array, index: Array, *, shape: Shape, axis: int) -> Array:
    """Zeros of `shape` with slices added at the picked places: what `index_select` read, its gradient reaches."""
    y = np.zeros(shape, slices.dtype)
    at: Any = (slice(None),) * axis + (index,)
    np.add.at(y, at, slices)
    return y


@index_select_grad.gradient("slices")
def index_select_grad_to_slices(g: Tensor, index: Tensor, axis: int) -> Tensor:
    return index_select(g, index, axis=axis)


def check_index(index: Any, n: int, name: str, from_end: bool) -> None:
    """Whether every index names one of n places; negative ones only where they may count from the end."""
    index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"{name}: the index must be integers, got {index.dtype}")
    lowest = -n if from_end else 0
    if index.size and (index.min() < lowest or index.max() >= n):
        raise ShapeError(f"{name}: index {index.min() if index.min() < lowest else index.max()} is out of range "
                         f"for an axis of length {n}, {lowest} to {n - 1}")


@torch_names
def repeat_interleave(x: Tensor, repeats: Any = None, axis: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Each value repeated in place, all as often or each as `repeats` (n,) says; over all values by default.

    numpy.repeat, torch.repeat_interleave. With one argument: i repeated x[i] times. output_size changes nothing.
    """
    if repeats is None:
        return repeat_interleave(Tensor(np.arange(len(x)), device=x.device), x)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, one_axis(axis, x.ndim))
    index = np.repeat(np.arange(x.shape[axis]), np.asarray(repeats))
    return index_select(x, index, axis=axis)


_PAD_MODES: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge",
                              "circular": "wrap", "wrap": "wrap"}


def pad(x: Tensor, widths: Pads | Shape, mode: str = "constant", value: float = 0.0) -> Tensor:
    """x with a border.  numpy.pad, ONNX Pad.

    widths: ((before, after), ...) for each axis; or, like torch.nn.functional.pad, a flat sequence
    (last axis before, after, second last before, after, ...). Negative widths crop.
    mode: "constant", "reflect", "replicate" (or "edge"), "circular" (or "wrap").
    """
    pairs: list[Any] = [tuple(w) if isinstance(w, (tuple, list)) else w for w in widths]
    if pairs and not isinstance(pairs[0], tuple):
        flat = list(zip(pairs[::2], pairs[1::2], strict=True))
        pairs = [(0, 0)] * (x.ndim - len(flat)) + flat[::-1]
    if len(pairs) != x.ndim:
        raise ShapeError(f"pad: {len(pairs)} pairs of widths for a tensor with {x.ndim} axes {x.shape}")
    if mode not in _PAD_MODES:
        raise ArgumentError(f"pad: mode {mode!r} is none of {', '.join(_PAD_MODES)}")
    if mode == "constant":
        return pad_constant(x, widths=tuple(pairs), value=value)
    for axis, (before, after) in enumerate(pairs):         # the other modes copy values of x: a selection along each axis
        if before or after:
            n, index = x.shape[axis], np.arange(x.shape[axis])
            inside, ends = slice(max(-before, 0), n - max(-after, 0)), (max(before, 0), max(after, 0))
            if mode in ("circular", "wrap"):               # what is cut off does not come back at the other end
                index = np.pad(index[inside], ends, mode="wrap")
            else:
                index = np.pad(index, ends, mode=_PAD_MODES[mode])[inside.start:n + sum(ends) - max(-after, 0)]
            x = index_select(x, index, axis=axis)
    return x


@op(promote=None, differentiable=False)
def nonzero(x: Array) -> Array:
    """Where x is not 0: int64 (n, x.ndim), one row a place.  torch.nonzero."""
    return np.argwhere(x)


def one_hot(index: Any, num_classes: int) -> Tensor:
    """1.0 at the place of each index, along a new last axis; float32.  torch.nn.functional.one_hot, as floats."""
    return ones_at(index, num_classes=num_classes)


@op(promote=None, differentiable=False)
def ones_at(index: Array, *, num_classes: int) -> Array:
    """1.0 at the place of each index along a new last axis, 0.0 elsewhere: what `one_hot` is."""
    check_index(index, num_classes, "one_hot", False)
    return (index[..., None] == np.arange(num_classes)).astype(np.float32)


def embedding(index: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """weight[index]: index of any shape, weight (num_embeddings, dim) -> (*index.shape, dim).

    padding_idx: this row gets no gradient. max_norm: rows that are looked up are shortened to it first, in place.
    scale_grad_by_freq: each row's gradient is divided by how often it is looked up. sparse changes nothing: gradients are
    dense.  torch.nn.functional.embedding, ONNX Gather.
    """
    if index.dtype.kind not in "iu":
        raise DTypeError(f"embedding: indices must be integers, got {index.dtype}")
    if max_norm is not None:
        shorten_rows(weight, index, max_norm, norm_type)
    rows = index_select(weight, index, from_end=False)
    if not rows.requires_grad:
        return rows
    if scale_grad_by_freq:
        counts = np.bincount(index.numpy().reshape(-1), minlength=weight.shape[0])[index.numpy()][..., None]
        rows = rows.detach() + (rows - rows.detach()) / np.maximum(counts, 1).astype(rows.dtype)
    if padding_idx is not None:
        rows = where(unsqueeze(index == padding_idx % weight.shape[0], -1), rows.detach(), rows)
    return rows


def shorten_rows(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Rows of weight that index names, in place: no longer than max_norm in the p-norm."""
    with no_grad():
        rows = np.unique(index.numpy())
        lengths = np.linalg.norm(weight.numpy()[rows], norm_type, axis=1)
        long = lengths > max_norm
        if long.any():
            weight[rows[long]] = weight[rows[long]] * (max_norm / (lengths[long] + 1e-7))[:, None].astype(weight.dtype)


def embedding_bag(index: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
                  norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """The sum, mean or maximum of the rows of each bag: index (B, n), or (n) cut at offsets (B) -> (B, dim).

    per_sample_weights: of index's shape, for "sum". padding_idx: rows that do not count. A bag without rows gives zeros.
    torch.nn.functional.embedding_bag.
    """
    if mode not in ("sum", "mean", "max") or (per_sample_weights is not None and mode != "sum"):
        raise ArgumentError(f"embedding_bag: mode {mode!r} is none of 'sum', 'mean', 'max', and only 'sum' takes weights")
    if (index.ndim == 2) == (offsets is not None) or index.ndim not in (1, 2):
        raise ShapeError(f"embedding_bag: bags (B, n) without offsets, or (n) with offsets, are needed, got {index.shape}")
    rows = embedding(index, weight, None, max_norm, norm_type, scale_grad_by_freq).reshape(-1, weight.shape[1])
    flat = index.numpy().reshape(-1)
    if offsets is None:
        bags, bag_of = index.shape[0], np.repeat(np.arange(index.shape[0]), index.shape[1])
    else:
        starts = offsets.numpy()[:-1] if include_last_offset else offsets.numpy()
        bags, bag_of = len(starts), np.searchsorted(starts, np.arange(len(flat)), side="right") - 1
    if padding_idx is not None:
        counted = flat != padding_idx % weight.shape[0]
        rows, bag_of = rows[np.flatnonzero(counted)], bag_of[counted]
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)[np.flatnonzero(counted)]
    if per_sample_weights is not None:
        rows = rows * unsqueeze(per_sample_weights.reshape(-1), -1)
    sizes = np.bincount(bag_of, minlength=bags)
    if mode == "max":                                        # each bag as wide as the longest, its last row repeated
        if not len(bag_of):
            return weight[:1].detach() * 0.0 + Tensor(np.zeros((bags, weight.shape[1]), weight.dtype))
        ends = np.cumsum(sizes)
        places = np.minimum((ends - sizes)[:, None] + np.arange(sizes.max()), np.maximum(ends - 1, 0)[:, None])
        seen = rows[places]
        winner = np.expand_dims(seen.numpy().argmax(1), 1)
        return where((sizes > 0)[:, None], take_along_axis(seen, winner, axis=1)[:, 0], 0.0)
    sums = index_select_grad(rows, bag_of, shape=(bags, weight.shape[1]), axis=0)
    return sums if mode == "sum" else sums / np.maximum(sizes, 1)[:, None].astype(rows.dtype)
