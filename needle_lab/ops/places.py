"""PyTorch's calls that pick and put values by an index along one axis, made of the ops of `indexing`.

All but `take`, `put` and `take_along_dim` refuse an index outside 0..n-1 with a ShapeError that names it, as PyTorch does.
A tensor without axes counts as one with a single value.
"""

from typing import Any

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor, plain_index
from ..core.types import Array, Gradients, Shape
from ..errors import ArgumentError, DTypeError, ShapeError
from .axes import one_axis, torch_names
from .elementwise import eq, where
from .indexing import (
    add_at,
    check_index,
    gather,
    index_put,
    index_select,
    index_select_grad,
    into_corner,
    nonzero,
    scatter,
    scatter_add,
    take_along_axis,
)
from .shape import ones_like, unbind


def _source(x: Tensor, index: Tensor, source: Any, name: str) -> Tensor:
    """What is written: a tensor of x's dtype, or a number at every place of index."""
    if not isinstance(source, Tensor):
        return Tensor(np.full(index.shape, source, x.dtype), device=x.device)
    if source.dtype != x.dtype:
        raise DTypeError(f"{name}: {source.dtype} values do not go into a tensor of {x.dtype}; cast one of them")
    return source


@scatter.torch
@torch_names
def torch_scatter(x: Tensor, axis: int, index: Tensor, src: Any = None, value: Any = None,
                  reduce: str | None = None) -> Tensor:
    """A copy of x with src (or one value) written at the places of index; reduce: "add" or "multiply" instead."""
    source = _source(x, index, value if src is None else src, "scatter")
    if reduce is not None:
        if reduce not in ("add", "multiply"):
            raise ArgumentError(f"scatter: reduce is 'add' or 'multiply', got {reduce!r}; scatter_reduce has more")
        return scatter_reduce(x, axis, index, source, "sum" if reduce == "add" else "prod")
    return _along(scatter, x, axis, index, source)


@scatter_add.torch
@torch_names
def torch_scatter_add(x: Tensor, axis: int, index: Tensor, src: Any) -> Tensor:
    """A copy of x with src added at the places of index."""
    return _along(scatter_add, x, axis, index, _source(x, index, src, "scatter_add"))


def _along(function: Any, x: Tensor, axis: int, index: Tensor, source: Tensor, **options: Any) -> Tensor:
    axis = one_axis(axis, x.ndim)
    if not index.numel():
        return x.clone()
    if not x.ndim or not index.ndim:
        parts = [part.reshape(-1) for part in (x, index, source)]
        return _along(function, parts[0], 0, parts[1], parts[2], **options).reshape(x.shape)
    return function(x, index, source, axis=axis, from_end=False, **options)           # type: ignore[no-any-return]


@index_select.torch
@torch_names
def torch_index_select(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Whole slices of x, picked by a vector of integers."""
    axis = one_axis(axis, x.ndim)
    if not x.ndim:
        return index_select(x.reshape(1), index.reshape(()), axis=0, from_end=False)
    if index.ndim > 1:
        raise ShapeError(f"index_select: a vector of indices is needed, got shape {index.shape}")
    return index_select(x, index.reshape(-1), axis=axis, from_end=False)


@op(index_inputs=(1,))
def scatter_extreme(x: Array, index: Array, source: Array, *, axis: int, how: str, from_end: bool = False) -> Array:
    """A copy of x where each value met those that index sends to it: their product ("prod"), or the largest ("amax") or
    smallest ("amin") of all: what `scatter_reduce` is for these."""
    check_index(index, x.shape[axis], "scatter_reduce", from_end)
    y, grid = x.copy(), list(np.ogrid[tuple(slice(0, n) for n in index.shape)])
    grid[axis] = index
    combine: Any = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}[how]
    combine.at(y, tuple(grid), source[tuple(slice(0, n) for n in index.shape)])
    return y


@scatter_extreme.gradient
def scatter_extreme_gradient(g: Tensor, y: Tensor, x: Tensor, index: Tensor, source: Tensor, axis: int,
                             how: str) -> Gradients:
    part = source[tuple(slice(0, n) for n in index.shape)]

    def meets(values: Tensor) -> Tensor:                         # what a result is, at each place of the source
        return gather(values, axis, index)
    if how != "prod":                                            # ties share
        mine, theirs = eq(x, y).astype(x.dtype), eq(part, meets(y)).astype(x.dtype)
        share = g / scatter_add(mine, index, theirs, axis=axis)
        return share * mine, None, into_corner(meets(share) * theirs, source.shape)
    zero, zero_part = eq(x, 0.0), eq(part, 0.0)
    zeros = scatter_add(zero.astype(x.dtype), index, zero_part.astype(x.dtype), axis=axis)
    # A product with one zero still has a slope there: that of the others. With more it has none.
    others = scatter_extreme(where(zero, 1.0, x), index, where(zero_part, 1.0, part), axis=axis, how=how)
    single = eq(zeros, 1.0)
    rest = g * where(eq(zeros, 0.0), others, 0.0)
    to_x = where(zero, where(single, g * others, 0.0), rest / where(zero, 1.0, x))
    to_part = where(zero_part, where(meets(single), meets(g * others), 0.0), meets(rest) / where(zero_part, 1.0, part))
    return to_x, None, into_corner(to_part, source.shape)


@torch_names
def scatter_reduce(x: Tensor, axis: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy of x where each value meets those of src that index sends to it: "sum", "prod", "mean", "amax" or "amin".

    include_self=False: the value of x itself does not count where any came.  torch.scatter_reduce.
    """
    neutral: dict[str, Any] = {"sum": 0, "mean": 0, "prod": 1, "amax": -np.inf, "amin": np.inf}
    if reduce not in neutral:
        raise ArgumentError(f"scatter_reduce: reduce is one of {', '.join(neutral)}, got {reduce!r}")
    src = _source(x, index, src, "scatter_reduce")
    if not include_self:
        start = neutral[reduce]
        if x.dtype.kind in "iub" and np.isinf(start):
            start = np.iinfo(x.dtype).min if start < 0 else np.iinfo(x.dtype).max
        base = torch_scatter(x, axis, index, start)
    else:
        base = x
    if reduce not in ("sum", "mean"):
        return _along(scatter_extreme, base, axis, index, src, how=reduce)
    total = _along(scatter_add, base, axis, index, src)
    if reduce == "sum":
        return total
    ones = ones_like(x) if include_self else torch_scatter(ones_like(x), axis, index, 0)
    count = _along(scatter_add, ones, axis, index, ones_like(src))
    return total.div(count, rounding_mode="floor") if x.dtype.kind in "iu" else total / count


def _spread(index: Tensor, shape: Shape, axis: int) -> Tensor:
    """A vector of indices along axis, the same at all places of the other axes."""
    return index.reshape(tuple(-1 if a == axis else 1 for a in range(len(shape)))).expand(tuple(shape))


@torch_names
def index_add(x: Tensor, axis: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy of x with alpha times the slices of source added at the places of index along axis.  torch.index_add."""
    axis = one_axis(axis, x.ndim)
    if not x.ndim:
        return index_add(x.reshape(1), 0, index.reshape(-1), source.reshape(-1), alpha=alpha).reshape(())
    _fits(x, axis, index, source, "index_add")
    return x + index_select_grad(source if alpha == 1 else source * alpha, index.reshape(-1), shape=x.shape, axis=axis)


@torch_names
def index_copy(x: Tensor, axis: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy of x with the slices of source written at the places of index along axis.  torch.index_copy."""
    axis = one_axis(axis, x.ndim)
    if not x.ndim:
        return index_copy(x.reshape(1), 0, index.reshape(-1), source.reshape(-1)).reshape(())
    _fits(x, axis, index, source, "index_copy")
    return _along(scatter, x, axis, _spread(index, source.shape, axis), source)


@torch_names
def index_fill(x: Tensor, axis: int, index: Tensor, value: Any) -> Tensor:
    """A copy of x with the slices at the places of index along axis filled with value.  torch.index_fill."""
    axis = one_axis(axis, x.ndim)
    n = x.shape[axis] if x.ndim else 1
    check_index(index.numpy(), n, "index_fill", False)
    hit = np.isin(np.arange(n), index.numpy()).reshape(tuple(n if a == axis else 1 for a in range(x.ndim)))
    return where(hit, value.astype(x.dtype) if isinstance(value, Tensor) else np.asarray(value, x.dtype), x)


def _fits(x: Tensor, axis: int, index: Tensor, source: Tensor, name: str) -> None:
    """Whether source has a slice for each index, and slices are those of x; no index may leave x."""
    check_index(index.numpy(), x.shape[axis], name, False)
    if source.dtype != x.dtype:
        raise DTypeError(f"{name}: {source.dtype} values do not go into a tensor of {x.dtype}; cast one of them")
    if index.ndim > 1 or source.shape != (*x.shape[:axis], index.numel(), *x.shape[axis + 1:]):
        raise ShapeError(f"{name}: {index.numel()} slices of {x.shape} along axis {axis} are needed, got {source.shape}")


@index_put.torch
@torch_names
def torch_index_put(x: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """A copy of x with x[indices] = values, or += where accumulate, repeats adding up."""
    index = plain_index(tuple(indices))
    values = values if isinstance(values, Tensor) else Tensor(np.asarray(values, x.dtype), device=x.device)
    if values.dtype != x.dtype:
        raise DTypeError(f"index_put: {values.dtype} values do not go into a tensor of {x.dtype}; cast one of them")
    values = values.expand(np.broadcast_to(0, x.shape)[index].shape)
    return x + add_at(values, shape=x.shape, index=index) if accumulate else index_put(x, values, index=index)


@torch_names
def take(x: Tensor, index: Tensor) -> Tensor:
    """Values by their place in x read row by row; negative ones count from the end.  torch.take."""
    return index_select(x.reshape(-1), index, axis=0)


def put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of x with source written (or added) at places counted row by row.  torch.put."""
    check_index(index, x.numel(), "put", True)
    return torch_index_put(x.reshape(-1), (index.reshape(-1),), source.reshape(-1), accumulate).reshape(x.shape)


@torch_names
def take_along_dim(x: Tensor, indices: Tensor, axis: int | None = None) -> Tensor:
    """One pick for each place of indices, which broadcasts against x along the other axes.  torch.take_along_dim."""
    if axis is None:
        return gather(x.reshape(-1), 0, indices.reshape(-1))
    axis = one_axis(axis, x.ndim)
    if x.ndim != indices.ndim:
        raise ShapeError(f"take_along_dim: {indices.ndim} axes of indices for {x.ndim} axes of {x.shape}")
    rest = np.broadcast_shapes(*(tuple(1 if a == axis else n for a, n in enumerate(y.shape)) for y in (x, indices)))
    x, indices = (y.expand(tuple(y.shape[a] if a == axis else n for a, n in enumerate(rest))) for y in (x, indices))
    return take_along_axis(x, indices, axis=axis)


@torch_names
def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """The values where mask (bool) holds, as a vector; both broadcast.  torch.masked_select, x[mask]."""
    _is_mask(mask, "masked_select")
    shape = np.broadcast_shapes(x.shape, mask.shape)
    return x.expand(shape)[mask.expand(shape)].reshape(-1)


@torch_names
def masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """x with the first values of source, in their order, where mask (bool) holds.  torch.masked_scatter."""
    _is_mask(mask, "masked_scatter")
    shape = np.broadcast_shapes(x.shape, mask.shape)
    index = np.broadcast_to(mask.numpy(), shape)
    wanted = int(index.sum())
    if source.numel() < wanted:
        raise ShapeError(f"masked_scatter: {wanted} values are needed, source has {source.numel()}")
    return index_put(x.expand(shape), source.reshape(-1)[:wanted], index=index)


def _is_mask(mask: Tensor, name: str) -> None:
    if mask.dtype != np.bool_:
        raise DTypeError(f"{name}: the mask must be bool, got {mask.dtype}; use mask.bool() or mask != 0")


@nonzero.torch
@torch_names
def torch_nonzero(x: Tensor, *, as_tuple: bool = False) -> Any:
    """(n, x.ndim), one row a place; or as_tuple: one vector for each axis, an index of x."""
    return unbind(nonzero(x if x.ndim else x.reshape(1)), 1) if as_tuple else nonzero(x)


argwhere = nonzero
