"""Moves made of the moves in `shape`: stacks, cuts, grids, parts, windows, under the names that PyTorch and NumPy share."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.tensor import Tensor, flat
from ..core.types import Sizes
from ..errors import ArgumentError, ShapeError
from .axes import one_axis, torch_names
from .indexing import index_select
from .shape import concat, diag, expand, flip, movedim, reshape, split, stack, tile, transpose, unsqueeze

# --- joins ----------------------------------------------------------------------------------------------------------


def atleast_1d(*tensors: Any) -> Any:
    """Tensors without axes get one of length 1.  torch.atleast_1d."""
    return _each(tensors, lambda x: x if x.ndim else x.reshape(1))


def atleast_2d(*tensors: Any) -> Any:
    """Tensors with fewer than two axes get axes of length 1 in front.  torch.atleast_2d."""
    return _each(tensors, lambda x: x if x.ndim > 1 else x.reshape(1, -1))


def atleast_3d(*tensors: Any) -> Any:
    """Matrices get a last axis of length 1, vectors and numbers a first one too.  torch.atleast_3d."""
    return _each(tensors, lambda x: x if x.ndim > 2 else unsqueeze(x if x.ndim == 2 else x.reshape(1, -1), -1))


def _each(tensors: Any, change: Any) -> Any:
    """One tensor for one; a tuple for several or a list."""
    some = flat(tensors)
    return change(some[0]) if len(tensors) == 1 and some is tensors else tuple(change(x) for x in some)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the second axis; vectors along their only one.  torch.hstack."""
    some = atleast_1d(tensors)
    return concat(some, min(some[0].ndim - 1, 1))


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the first axis; vectors are rows.  torch.vstack."""
    return concat(atleast_2d(tensors))


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the third axis.  torch.dstack."""
    return concat(atleast_3d(tensors), 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along the second axis; vectors are columns.  torch.column_stack."""
    return concat([x if x.ndim > 1 else x.reshape(-1, 1) for x in tensors], 1)


row_stack = vstack

# --- cuts -----------------------------------------------------------------------------------------------------------


@torch_names
def tensor_split(x: Tensor, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along axis into so many pieces of nearly equal length, or at these places.  torch.tensor_split."""
    axis = one_axis(axis, x.ndim)
    n, cut = x.shape[axis], indices_or_sections
    cut = cut.tolist() if isinstance(cut, Tensor) else cut
    if isinstance(cut, int):
        if cut < 1:
            raise ArgumentError(f"tensor_split: {cut} pieces; at least one is needed")
        ends = [n // cut * i + min(i, n % cut) for i in range(cut + 1)]
        return split(x, [b - a for a, b in itertools.pairwise(ends)], axis)
    places = [0, *(slice(p).indices(n)[1] for p in cut), n]
    return tuple(x.narrow(axis, a, max(b - a, 0)) if a < n else x.narrow(axis, n, 0) for a, b in itertools.pairwise(places))


def hsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along the second axis; of a vector along its only one.  torch.hsplit."""
    return _equal_split("hsplit", x, indices_or_sections, 1 if x.ndim > 1 else 0)


def vsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along the first axis.  torch.vsplit."""
    return _equal_split("vsplit", x, indices_or_sections, 0)


def dsplit(x: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along the third axis.  torch.dsplit."""
    return _equal_split("dsplit", x, indices_or_sections, 2)


def _equal_split(name: str, x: Tensor, cut: Any, axis: int) -> tuple[Tensor, ...]:
    if x.ndim <= {"hsplit": 0, "vsplit": 1, "dsplit": 2}[name]:
        raise ShapeError(f"{name}: {x.shape} has too few axes")
    if isinstance(cut, int) and x.shape[axis] % cut:
        raise ShapeError(f"{name}: {cut} equal pieces of length {x.shape[axis]}; tensor_split makes unequal ones")
    return tensor_split(x, cut, axis)


@torch_names
def narrow(x: Tensor, axis: int, start: Any, length: int) -> Tensor:
    """x[start : start + length] along axis, a view.  torch.narrow."""
    axis, start = one_axis(axis, x.ndim), int(start)
    n = x.shape[axis]
    start = start + n if start < 0 else start
    if length < 0 or start < 0 or start + length > n:
        raise ShapeError(f"narrow: {start} to {start + length} along axis {axis}, which has length {n}")
    return x[(slice(None),) * axis + (slice(start, start + length),)]


@torch_names
def select(x: Tensor, axis: int, index: int) -> Tensor:
    """x[index] along axis, a view.  torch.select."""
    return x[(slice(None),) * one_axis(axis, x.ndim) + (int(index),)]


@torch_names
def unfold(x: Tensor, axis: int, size: int, step: int) -> Tensor:
    """The windows of `size` values along axis, `step` apart; their values are a new last axis, copied.  Tensor.unfold."""
    axis = one_axis(axis, x.ndim)
    line = x if x.ndim else x.reshape(1)
    if not 0 <= size <= line.shape[axis] or step < 1:
        raise ShapeError(f"unfold: windows of {size} values, {step} apart, along an axis of length {line.shape[axis]}")
    starts = np.arange(0, line.shape[axis] - size + 1, step)
    windows = movedim(index_select(line, starts[:, None] + np.arange(size), axis=axis), axis + 1, -1)
    return windows if x.ndim else windows[0]

# --- shapes ---------------------------------------------------------------------------------------------------------


def ravel(x: Tensor) -> Tensor:
    """All values in a row.  torch.ravel."""
    return reshape(x, shape=(-1,)) if x.numel() else reshape(x, shape=(0,))


def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    """x in the shape of other.  torch.Tensor.reshape_as, view_as."""
    return reshape(x, shape=other.shape)


@torch_names
def unflatten(x: Tensor, axis: int, sizes: Sizes) -> Tensor:
    """One axis as several of these lengths, one of which may be -1.  torch.unflatten."""
    axis = one_axis(axis, x.ndim)
    sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if -1 in sizes and x.shape[axis] % (math.prod(sizes) or 1) == 0:
        sizes = tuple(x.shape[axis] // -math.prod(sizes) if n == -1 else n for n in sizes)
    if math.prod(sizes) != x.shape[axis]:
        raise ShapeError(f"unflatten: axis {axis} of length {x.shape[axis]} as {sizes}")
    return reshape(x, shape=(*x.shape[:axis], *sizes, *x.shape[axis + 1:]))


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape to which these broadcast.  torch.broadcast_shapes; ShapeError where they do not."""
    try:
        return np.broadcast_shapes(*(s if isinstance(s, int) else tuple(s) for s in shapes))
    except ValueError as error:
        raise ShapeError(f"broadcast_shapes: {shapes} do not fit together") from error


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the shape to which they broadcast.  torch.broadcast_tensors."""
    some = flat(tensors)
    shape = broadcast_shapes(*(x.shape for x in some))
    return tuple(expand(x, shape=shape) for x in some)


def broadcast_to(x: Tensor, size: Sizes) -> Tensor:
    """x in this shape, without a copy.  torch.broadcast_to."""
    return expand(x, shape=tuple(size) if not isinstance(size, int) else (size,))


def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x in the shape of other, without a copy.  torch.Tensor.expand_as."""
    return expand(x, shape=other.shape)


def sum_to_size(x: Tensor, *size: Any) -> Tensor:
    """The sum that undoes broadcasting from this shape.  torch.Tensor.sum_to_size."""
    shape = flat(size)
    extra = x.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[extra:], strict=True)):
        raise ShapeError(f"sum_to_size: {x.shape} does not come from {shape}")
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape) if n == 1 != x.shape[extra + i]))
    return (x.sum(axis=axes, keepdims=True) if axes else x).reshape(shape)


def repeat(x: Tensor, *sizes: Any) -> Tensor:
    """x as a whole, sizes[i] times along axis i.  torch.Tensor.repeat, numpy.tile; for each value see repeat_interleave."""
    times = flat(sizes)
    if len(times) < x.ndim:
        raise ShapeError(f"repeat: {len(times)} numbers for the {x.ndim} axes of {x.shape}; tile takes fewer")
    return tile(x, repeats=times)


def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; vectors stay.  torch.t."""
    if x.ndim > 2:
        raise ShapeError(f"t: a matrix is needed, got shape {x.shape}; use .mT or transpose")
    return transpose(x, 0, 1) if x.ndim == 2 else x


def fliplr(x: Tensor) -> Tensor:
    """The second axis in reverse.  torch.fliplr."""
    if x.ndim < 2:
        raise ShapeError(f"fliplr: at least two axes are needed, got shape {x.shape}")
    return flip(x, axis=1)


def flipud(x: Tensor) -> Tensor:
    """The first axis in reverse.  torch.flipud."""
    if x.ndim < 1:
        raise ShapeError("flipud: at least one axis is needed")
    return flip(x, axis=0)


def rot90(x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """x turned by k times 90 degrees, from the first of two axes towards the second.  torch.rot90."""
    a, b = (one_axis(d, x.ndim) for d in dims)
    if a == b:
        raise ShapeError(f"rot90: two different axes are needed, got {dims}")
    x = flip(x, axis=(a, b)) if k % 4 == 2 else flip(x, axis=b if k % 4 == 1 else a) if k % 2 else x.clone()
    return transpose(x, a, b) if k % 2 else x


def diagflat(x: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all values of x on its diagonal.  torch.diagflat."""
    return diag(x.reshape(-1), offset)

# --- grids ----------------------------------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: for vectors of n, m, ... values tensors (n, m, ...).  torch.meshgrid.

    indexing: "ij", or "xy" as in NumPy: (m, n, ...).
    """
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing is 'ij' or 'xy', got {indexing!r}")
    vectors = [x.reshape(-1) for x in flat(tensors)]
    places = [1, 0, *range(2, len(vectors))] if indexing == "xy" and len(vectors) > 1 else list(range(len(vectors)))
    shape = tuple(vectors[p].shape[0] for p in places)
    return tuple(x.reshape(tuple(-1 if p == i else 1 for p in places)).expand(shape) for i, x in enumerate(vectors))


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All tuples of values, one from each vector: (n m ..., how many).  torch.cartesian_prod."""
    return stack([x.reshape(-1) for x in meshgrid(*tensors)], 1) if len(tensors) > 1 else tensors[0]


@torch_names
def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r values of a vector, in order: (how many, r).  torch.combinations."""
    choose: Any = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    index = np.array(list(choose(range(len(x)), r)), np.int64).reshape(-1, r)
    return index_select(x, index, axis=0)


def unravel_index(indices: Tensor, shape: Sizes) -> tuple[Tensor, ...]:
    """Places counted row by row as one index for each axis.  torch.unravel_index, numpy.unravel_index."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return tuple(Tensor(np.asarray(i), device=indices.device) for i in np.unravel_index(indices.numpy(), shape))
