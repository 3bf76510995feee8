"""Order: the largest values and where they stand, sorting, ranks, counting and searching.

What PyTorch answers with values and their places is a `Ranked` here: `values, indices = x.max(1)`, `x.sort().values`.
"""

# ruff: noqa: A001    max, min, any, ... are the names that NumPy and PyTorch use

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.dtypes import is_floating
from ..core.graph import Op, op
from ..core.modes import is_tracing
from ..core.tensor import Tensor
from ..core.types import Array, Axis
from ..errors import ArgumentError, DTypeError, ShapeError
from . import reduce
from .axes import one_axis, torch_names
from .elementwise import ceil, floor, isnan, maximum, minimum, round, where
from .indexing import take_along_axis
from .shape import movedim, unsqueeze


class Ranked(NamedTuple):
    """Values along an axis, and where they stood.  torch.return_types.max, .sort, .topk, ..."""

    values: Tensor
    indices: Tensor


class Extremes(NamedTuple):
    """The smallest and the largest values.  torch.return_types.aminmax."""

    min: Tensor
    max: Tensor


def _ranked(x: Tensor, indices: Tensor, axis: int, keepdims: bool = True) -> Ranked:
    """The values at `indices` (an axis of one or more places), with the gradient to those values alone."""
    values = take_along_axis(x if x.ndim else x.reshape(1), indices, axis=axis)
    if not keepdims or not x.ndim:
        return Ranked(values.squeeze(axis), indices.squeeze(axis))
    return Ranked(values, indices)


def _line(x: Tensor) -> Tensor:
    """x with at least one axis: a tensor without axes counts as one value along one."""
    return x if x.ndim else x.reshape(1)

# --- extremes -------------------------------------------------------------------------------------------------------


@reduce.max.torch
@torch_names
def max(x: Tensor, dim: Any = None, keepdims: bool = False, *, other: Any = None, axis: Axis = None) -> Any:
    """x.max(): the largest value; x.max(1), x.max(dim=1): (values, indices); max(x, other): see `maximum`.

    NumPy's call, x.max(axis=1), gives the values alone, as does `amax`.  torch.max, numpy.max.
    """
    return _extreme(reduce.max, reduce.argmax, maximum, x, dim, keepdims, other, axis)


@reduce.min.torch
@torch_names
def min(x: Tensor, dim: Any = None, keepdims: bool = False, *, other: Any = None, axis: Axis = None) -> Any:
    """As `max`, for the smallest value."""
    return _extreme(reduce.min, reduce.argmin, minimum, x, dim, keepdims, other, axis)


def _extreme(values: Op, places: Op, pairwise: Op, x: Tensor, dim: Any, keepdims: bool, other: Any, axis: Axis) -> Any:
    if other is not None or isinstance(dim, Tensor):
        return pairwise(x, dim if other is None else other)
    if dim is None:
        return values(x, axis=axis, keepdims=keepdims)
    if not isinstance(dim, int):
        raise ArgumentError(f"{values.name}: dim is one axis, got {dim!r}; a{values.name}, or axis=, takes several")
    dim = one_axis(dim, x.ndim)
    return _ranked(x, places(_line(x), axis=dim, keepdims=True), dim, keepdims)


@torch_names
def amax(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest values along one axis, some, or all; ties share the gradient.  torch.amax, numpy.max."""
    return reduce.max(x, axis=_axes(axis), keepdims=keepdims)


@torch_names
def amin(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest values along one axis, some, or all; ties share the gradient.  torch.amin, numpy.min."""
    return reduce.min(x, axis=_axes(axis), keepdims=keepdims)


def _axes(axis: Any) -> Axis:
    """Also lists, and () for all, as PyTorch's reductions take them."""
    return tuple(axis) or None if isinstance(axis, (list, tuple)) else axis


@torch_names
def aminmax(x: Tensor, *, axis: int | None = None, keepdims: bool = False) -> Extremes:
    """-> (min, max) along axis, or of all.  torch.aminmax."""
    return Extremes(amin(x, axis, keepdims), amax(x, axis, keepdims))


@op(differentiable=False)
def running_places(x: Array, *, axis: int, largest: bool) -> Array:
    """Where the largest (or smallest) value so far stood, the latest of equals; a nan is the largest and the smallest."""
    best = (np.maximum if largest else np.minimum).accumulate(x, axis)
    places = np.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return np.maximum.accumulate(np.where((x == best) | (x != x), places, 0), axis)


@torch_names
def cummax(x: Tensor, axis: int) -> Ranked:
    """The largest value so far along axis, and where it stood.  torch.cummax."""
    return _running(x, axis, True)


@torch_names
def cummin(x: Tensor, axis: int) -> Ranked:
    """The smallest value so far along axis, and where it stood.  torch.cummin."""
    return _running(x, axis, False)


def _running(x: Tensor, axis: int, largest: bool) -> Ranked:
    axis = one_axis(axis, x.ndim)
    return _ranked(x, running_places(_line(x), axis=axis, largest=largest), axis)

# --- sorting --------------------------------------------------------------------------------------------------------


@reduce.argsort.torch
@torch_names
def argsort(x: Tensor, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The order of the values along axis, which is always the stable one."""
    return reduce.argsort(_line(x), axis=one_axis(axis, x.ndim), descending=descending).reshape(x.shape)


@torch_names
def sort(x: Tensor, axis: int = -1, descending: bool = False, stable: bool = True) -> Ranked:
    """-> (sorted values, their indices); equal values keep their order, also without stable=True.  torch.sort."""
    axis = one_axis(axis, x.ndim)
    return _ranked(x, reduce.argsort(_line(x), axis=axis, descending=descending), axis)


def msort(x: Tensor) -> Tensor:
    """The values sorted along the first axis.  torch.msort."""
    return sort(x, 0).values


@op(differentiable=False)
def argtopk(x: Array, *, k: int, axis: int, largest: bool) -> Array:
    """The places of the k largest (or smallest) values along axis, in order, the first of equals first."""
    rows, n = np.moveaxis(x, axis, -1), x.shape[axis]
    argsort = reduce.argsort.definition
    if 0 < 8 * k < n:                                              # else sorting all costs no more
        some = np.argpartition(rows, n - k, -1)[..., n - k:] if largest else np.argpartition(rows, k, -1)[..., :k]
        some = np.sort(some, -1)
        picked = np.take_along_axis(rows, some, -1)
        last = picked.min(-1, keepdims=True) if largest else picked.max(-1, keepdims=True)
        if not ((rows >= last if largest else rows <= last).sum(-1) > k).any():        # else the last has an equal outside
            order = argsort(picked, axis=-1, descending=largest)
            return np.moveaxis(np.take_along_axis(some, order, -1), -1, axis)
    return np.moveaxis(argsort(rows, axis=-1, descending=largest)[..., :k], -1, axis)


@torch_names
def topk(x: Tensor, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> Ranked:
    """-> (the k largest or smallest values along axis, their indices), always in order.  torch.topk, ONNX TopK."""
    axis = one_axis(axis, x.ndim)
    n = _line(x).shape[axis]
    if not 0 <= k <= n:
        raise ArgumentError(f"topk: k={k} of {n} values along axis {axis}")
    return _ranked(x, argtopk(_line(x), k=int(k), axis=axis, largest=largest), axis)


@torch_names
def kthvalue(x: Tensor, k: int, axis: int = -1, keepdims: bool = False) -> Ranked:
    """-> (the k-th smallest value along axis, counted from 1, and its index).  torch.kthvalue."""
    axis = one_axis(axis, x.ndim)
    n = _line(x).shape[axis]
    if not 1 <= k <= n:
        raise ArgumentError(f"kthvalue: k={k} of {n} values along axis {axis}; it counts from 1")
    return _ranked(x, argkth(_line(x), k=k - 1, axis=axis), axis, keepdims)


@op(differentiable=False)
def argkth(x: Array, *, k: int, axis: int) -> Array:
    """Where the value stands that sorting along axis would bring to place k (length 1 along axis); nan sorts last."""
    return np.take(np.argpartition(x, k, axis), [k], axis)


@torch_names
def median(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """The middle value (of two, the lower): of all, or (values, indices) along axis; nan if one is.  torch.median."""
    return _median(x, axis, keepdims, False)


@torch_names
def nanmedian(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Any:
    """As `median`, of the values that are not nan.  torch.nanmedian."""
    return _median(x, axis, keepdims, True)


def _median(x: Tensor, axis: int | None, keepdims: bool, skip: bool) -> Any:
    if axis is None:
        return _median(x.reshape(-1), 0, False, skip).values if x.numel() else x.sum() * math.nan
    axis = one_axis(axis, x.ndim)
    line = _line(x)
    if not line.shape[axis]:
        raise ShapeError(f"median: there are no values along axis {axis} of {x.shape}")
    missing = isnan(line)
    if not is_tracing() and not missing.any():
        return _ranked(x, argkth(line, k=(line.shape[axis] - 1) // 2, axis=axis), axis, keepdims)
    order = reduce.argsort(line, axis=axis)                                        # nan sorts last
    known = line.shape[axis] - reduce.sum(missing, axis=axis, keepdims=True)
    middle = (known - 1).clip(min=0).floor_divide(2)
    if not skip:
        middle = where(known < line.shape[axis], known, middle)                    # the first nan
    return _ranked(x, take_along_axis(order, middle, axis=axis), axis, keepdims)


@torch_names
def mode(x: Tensor, axis: int = -1, keepdims: bool = False) -> Ranked:
    """-> (the most frequent value along axis, of equals the smallest, and where it stands last).  torch.mode."""
    axis = one_axis(axis, x.ndim)
    order = reduce.argsort(_line(x), axis=axis)
    rows = np.moveaxis(take_along_axis(_line(x), order, axis=axis).numpy(), axis, -1)
    place = np.arange(rows.shape[-1])
    begins = np.concatenate([np.ones_like(rows[..., :1], bool), rows[..., 1:] != rows[..., :-1]], -1)
    length = place - np.maximum.accumulate(np.where(begins, place, 0), -1)         # of the run of equals, up to each place
    best = np.expand_dims(np.argmax(length, -1), axis)
    return _ranked(x, take_along_axis(order, best, axis=axis), axis, keepdims)


@torch_names
def quantile(x: Tensor, q: Any, axis: int | None = None, keepdims: bool = False, *, interpolation: str = "linear") -> Tensor:
    """The value below which the share q (a number, or several as a first axis) of the values along axis lies; nan if one is.

    interpolation: "linear", "lower", "higher", "midpoint" or "nearest" of the two values around.  torch.quantile.
    """
    return _quantile(x, q, axis, keepdims, interpolation, False)


@torch_names
def nanquantile(x: Tensor, q: Any, axis: int | None = None, keepdims: bool = False, *,
                interpolation: str = "linear") -> Tensor:
    """As `quantile`, of the values that are not nan.  torch.nanquantile."""
    return _quantile(x, q, axis, keepdims, interpolation, True)


def _quantile(x: Tensor, q: Any, axis: int | None, keepdims: bool, interpolation: str, skip: bool) -> Tensor:
    if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise ArgumentError(f"quantile: interpolation {interpolation!r} is none of linear, lower, higher, midpoint, nearest")
    shares = np.asarray(q, np.float64)
    if shares.ndim > 1 or ((shares < 0) | (shares > 1)).any():
        raise ArgumentError(f"quantile: q is a number from 0 to 1, or several in a vector, got {q!r}")
    if x.numel() == 0:
        raise ShapeError(f"quantile: there are no values in {x.shape}")
    rows = x.reshape(-1) if axis is None else movedim(_line(x), one_axis(axis, x.ndim), -1)
    rows = sort(rows, -1).values
    known = rows.shape[-1] - reduce.sum(isnan(rows), axis=-1, keepdims=True)
    rank = (known - 1).clip(min=0).astype("float64") * shares.reshape(-1)          # (..., how many)
    if not skip:
        rank = where(known < rows.shape[-1], rows.shape[-1] - 1.0, rank)           # nan, which stands last
    low = {"nearest": round, "higher": ceil}.get(interpolation, floor)(rank)
    value = take_along_axis(rows, low.astype("int64"), axis=-1)
    if interpolation in ("linear", "midpoint"):
        above = take_along_axis(rows, ceil(rank).astype("int64"), axis=-1)
        share = (rank - low if interpolation == "linear" else rank * 0.0 + 0.5).astype(x.dtype)
        value = where(share == 0, value, value + (above - value) * share)
    value = movedim(value, -1, 0)
    if keepdims and (axis is None or not x.ndim):
        value = value.reshape(len(value), *(1,) * x.ndim)
    elif keepdims and axis is not None:
        value = unsqueeze(value, one_axis(axis, x.ndim) + 1)
    return value if shares.ndim else value[0]

# --- counting and searching: host values, no gradient -----------------------------------------------------------------


def _answer(values: Any, like: Tensor) -> Tensor:
    return Tensor(np.ascontiguousarray(values), device=like.device)


def unique(x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The different values in order (or the different slices along dim); then, as asked, which of them each value is,
    and how often each comes.  torch.unique.
    """
    values, inverse, counts = np.unique(x.numpy(), return_inverse=True, return_counts=True, axis=dim)
    inverse = inverse.reshape(x.shape if dim is None else -1)
    return _asked(x, values, inverse, counts, return_inverse, return_counts)


def unique_consecutive(x: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """The values (or slices along dim) without those equal to the one before; then as `unique`.  PyTorch has it too."""
    values = x.numpy().reshape(-1) if dim is None else np.moveaxis(x.numpy(), dim, 0)
    new = np.ones(len(values), bool)
    if len(values):
        new[1:] = (values[1:] != values[:-1]).any(axis=tuple(range(1, values.ndim)))
    counts = np.diff(np.append(np.flatnonzero(new), len(values)))
    inverse = (np.cumsum(new) - 1).reshape(x.shape if dim is None else -1)
    return _asked(x, values[new] if dim is None else np.moveaxis(values[new], 0, dim), inverse, counts, return_inverse,
                  return_counts)


def _asked(x: Tensor, values: Array, inverse: Array, counts: Array, return_inverse: bool, return_counts: bool) -> Any:
    found = [values, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
    tensors = tuple(_answer(v, x).reshape(v.shape) for v in found)
    return tensors if len(tensors) > 1 else tensors[0]


def searchsorted(sorted_sequence: Tensor, values: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Tensor | None = None) -> Tensor:
    """Where each value goes in a sorted last axis, before equal ones or after them (right).  torch.searchsorted.

    sorted_sequence: a vector, or with the leading axes of values. side: "left" or "right", instead of right.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ArgumentError(f"searchsorted: side is 'left' or 'right', got {side!r} with right={right}")
    given = np.asarray(values)
    rows = sorted_sequence.numpy()
    if sorter is not None:
        rows = np.take_along_axis(rows, sorter.numpy(), -1)
    place: Any = "right" if right or side == "right" else "left"
    if rows.ndim == 1:
        found: Any = np.searchsorted(rows, given, place)
    elif rows.shape[:-1] != given.shape[:-1]:
        raise ShapeError(f"searchsorted: {rows.shape} and {given.shape} differ in leading axes")
    else:
        pairs = zip(rows.reshape(-1, rows.shape[-1]), given.reshape(-1, given.shape[-1]), strict=True)
        found = np.array([np.searchsorted(row, v, place) for row, v in pairs]).reshape(given.shape)
    return _answer(np.asarray(found).astype(np.int32 if out_int32 else np.int64), sorted_sequence).reshape(given.shape)


@torch_names
def bucketize(x: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Between which of the sorted boundaries each value lies: `searchsorted` the other way round.  torch.bucketize."""
    return searchsorted(boundaries, x, out_int32=out_int32, right=right)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is one of the test elements, as bools.  torch.isin, numpy.isin."""
    like = elements if isinstance(elements, Tensor) else test_elements
    return Tensor(np.isin(np.asarray(elements), np.asarray(test_elements), assume_unique, invert), device=like.device)


@torch_names
def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, ... comes in a vector of integers, or the sums of their weights.  torch.bincount."""
    if x.ndim != 1 or x.dtype.kind not in "iu" or (x.numel() and x.numpy().min() < 0):
        raise ArgumentError(f"bincount: a vector of integers from 0 on is needed, got {x.dtype}{list(x.shape)}")
    found = np.bincount(x.numpy().astype(np.int64), None if weights is None else weights.numpy(), minlength)
    return _answer(found if weights is None or weights.dtype != np.float32 else found.astype(np.float32), x)


@torch_names
def histc(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many values lie in each of `bins` equal parts of min..max (if equal, of the values' range).  torch.histc."""
    return _histogram(x, bins, (min, max), margin=1.0)[0]


class Histogram(NamedTuple):
    """Counts, and the edges between which they lie.  torch.return_types.histogram."""

    hist: Tensor
    bin_edges: Tensor


@torch_names
def histogram(x: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None,
              density: bool = False) -> Histogram:
    """-> (counts, edges): bins is a number of equal parts of `range`, or the edges.  torch.histogram, numpy.histogram."""
    return Histogram(*_histogram(x, bins, range, weight, density))


def _histogram(x: Tensor, bins: Any, ends: Any, weight: Tensor | None = None, density: bool = False,
               margin: float = 0.5) -> tuple[Tensor, Tensor]:
    if not is_floating(x.dtype):
        raise DTypeError(f"histogram: floating values are needed, got {x.dtype}")
    values = x.numpy().reshape(-1).astype(x.dtype if x.dtype.kind == "f" else np.float32)
    if isinstance(bins, int):
        low, high = ends if ends and ends[0] != ends[1] else (values.min(initial=np.inf), values.max(initial=-np.inf)) \
            if values.size else (0, 0)
        low, high = (low - margin, high + margin) if low == high else (low, high)
        bins = np.linspace(low, high, bins + 1).astype(x.dtype)
    counts, edges = np.histogram(values, np.asarray(bins), weights=None if weight is None else weight.numpy().reshape(-1),
                                 density=density)
    return _answer(counts.astype(x.dtype), x), _answer(edges.astype(x.dtype), x)

