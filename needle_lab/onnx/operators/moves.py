"""Our ops that move values, as ONNX operators: shapes, axes, pieces, places."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ...errors import UnsupportedOnnxError
from ...program.lengths import Length, Various
from .convolution import pads_of
from .table import writes


@writes("reshape")
def _reshape(w, x, *, shape):
    have, name = w.shape(x), w.name(x)
    rest = math.prod(n for n in shape if n != -1)
    whole = tuple(math.prod(have) // rest if n == -1 and rest else n for n in shape)
    if name in w.reshaped and w.reshaped[name][1] == whole:          # back to what it was
        return w.reshaped[name][0]
    if whole == have:
        return name
    sizes, moved = _sizes(have, shape, whole), _ones_between(have, whole) or _ones_between(whole, have)
    if moved and not (-1 in shape and -1 in sizes):
        y = (w.Squeeze if len(whole) < len(have) else w.Unsqueeze)(name, w.ints(*moved))
    else:
        y = w.Reshape(name, w.ints(*sizes))
    w.reshaped[y] = name, have
    return y


def _ones_between(longer: tuple[int, ...], shorter: tuple[int, ...]) -> list[int]:
    """The axes of length 1 without which `longer` is `shorter`; [] if there are none."""
    gone, rest = [], list(shorter)
    for i, n in enumerate(longer):
        if rest and rest[0] == n:
            rest.pop(0)
        elif n == 1:
            gone.append(i)
        else:
            return []
    return [] if rest else gone


def _sizes(have: tuple[int, ...], shape: tuple[int, ...], whole: tuple[int, ...]) -> list[int]:
    """A shape as Reshape takes it.  shape: as asked for, perhaps with a -1; whole: what that comes to."""
    # 0 copies the input's length, -1 is what is left: lengths that vary are measured where neither will do
    sizes, same = list(shape), True
    for i, n in enumerate(whole):
        same = same and i < len(have) and n == have[i] and n != 0
        sizes[i] = 0 if same else sizes[i]
    varying = [i for i, n in enumerate(sizes) if isinstance(n, Length)]
    if len(varying) == 1 and -1 not in sizes:
        sizes[varying[0]] = -1
    return sizes


@writes("permute")
def _permute(w, x, *, axes):
    return w.transposed(w.name(x), [a % x.ndim for a in axes])


@writes("expand")
def _expand(w, x, *, shape):
    have = (1,) * (len(shape) - x.ndim) + w.shape(x)
    return w.Expand(x, w.ints(*(1 if n == m or n == -1 else n for n, m in zip(shape, have, strict=True))))


@writes("flip")
def _flip(w, x, *, axis):
    axes = (axis,) if isinstance(axis, int) else axis
    back = [-1] * len(axes)
    return w.Slice(x, w.ints(*back), w.ints(*[np.iinfo(np.int64).min] * len(axes)), w.ints(*axes), w.ints(*back))


@writes("take_along_axis")
def _take_along_axis(w, x, index, *, axis, from_end=True):
    return w.GatherElements(x, index, axis=axis)


@writes("scatter")
def _scatter(w, x, index, source, *, axis, from_end=True):
    source = source if np.ndim(source) else w.floats(w.shape(index), float(source), x.dtype)
    return w.ScatterElements(x, index, source, axis=axis)


@writes("scatter_add")
def _scatter_add(w, x, index, source, *, axis, from_end=True):
    return w.ScatterElements(x, index, source, axis=axis, reduction="add")


@writes("clone", "detach")
def _clone(w, x):
    return w.Identity(x)


@writes("concatenate")
def _concatenate(w, *tensors, axis=0):
    return w.Concat(*w.operands(tensors), axis=axis)


@writes("tile")
def _tile(w, x, *, repeats):
    missing = len(repeats) - x.ndim
    source = x if missing <= 0 else w.Unsqueeze(x, w.ints(*range(missing)))
    return w.Tile(source, w.ints(*(1,) * max(-missing, 0), *repeats))


@writes("pad_constant")
def _pad(w, x, *, widths, value=0.0):
    return w.Pad(x, w.ints(*pads_of(widths)), w.name(value, x.dtype))


@writes("index_select")
def _index_select(w, x, index, *, axis=0, from_end=True):
    return w.Gather(x, index, axis=axis)


@writes("getitem")
def _getitem(w, x, *, index):
    parts = list(index) if isinstance(index, tuple) else [index]
    rest = x.ndim - sum(p is not None and p is not ... for p in parts)
    if ... in [p if p is ... else None for p in parts]:
        at = next(i for i, p in enumerate(parts) if p is ...)
        parts[at:at + 1] = [slice(None)] * rest
    arrays = [p for p in parts if isinstance(p, (np.ndarray, Various))]
    if len(arrays) > 1 or any(isinstance(a, Various) or a.dtype == np.bool_ for a in arrays):
        raise UnsupportedOnnxError("export: an index with several arrays or a mask has no simple ONNX form")
    y, axis, starts, ends, axes, steps, gone, new, gather = w.name(x), 0, [], [], [], [], [], [], None
    for p in parts:
        if p is None:
            new.append(p)
        elif isinstance(p, np.ndarray):
            gather, axis = (axis, p), axis + 1
        else:
            if not isinstance(p, slice):
                gone.append(axis)
                p = slice(p, p + 1 if p != -1 else np.iinfo(np.int64).max)
            if p != slice(None):
                starts.append(0 if p.start is None and (p.step or 1) > 0 else -1 if p.start is None else p.start)
                ends.append(p.stop if p.stop is not None else np.iinfo(np.int64).max if (p.step or 1) > 0
                            else np.iinfo(np.int64).min)
                axes.append(axis), steps.append(p.step or 1)
            axis += 1
    if axes:
        y = w.Slice(y, w.ints(*starts), w.ints(*ends), w.ints(*axes), w.ints(*steps))
    if gather:
        y = w.Gather(y, w.constant(gather[1].astype(np.int64)), axis=gather[0])
    if gone:
        y = w.Squeeze(y, w.ints(*gone))
    if new:
        kept = [p for p in parts if p is None or isinstance(p, (slice, np.ndarray))]
        y = w.Unsqueeze(y, w.ints(*(i for i, p in enumerate(kept) if p is None)))
    return y


@writes("ones_at")
def _ones_at(w, index, *, num_classes):
    return w.OneHot(index, w.ints(num_classes), w.constant(np.array([0, 1], np.float32)), axis=-1)


@writes("ones_like")
def _ones_like(w, x):
    return w.Expand(w.constant(np.ones((), x.dtype)), w.Shape(x))


@writes("zeros_like")
def _zeros_like(w, x):
    return w.Expand(w.constant(np.zeros((), x.dtype)), w.Shape(x))


@writes("roll")
def _roll(w, x, *, shifts, axis=None):
    if axis is None:
        return w.Reshape(_rolled(w, w.Reshape(x, w.ints(-1)), 0, int(shifts)), w.Shape(x))
    y, axes = w.name(x), (axis,) if isinstance(axis, int) else axis
    for a, shift in zip(axes, shifts if isinstance(shifts, tuple) else (shifts,) * len(axes), strict=True):
        n = w.shape(x)[a]
        y = _rolled(w, y, a, shift if isinstance(n, Length) else shift % max(n, 1))
    return y


def _rolled(w, y: str, axis: int, shift: int) -> str:
    """What falls off one end comes in at the other; the shift is smaller than the axis is long."""
    if not shift:
        return y
    cut, end = w.ints(-shift), w.ints(np.iinfo(np.int64).max)
    return w.Concat(w.Slice(y, cut, end, w.ints(axis)), w.Slice(y, w.ints(0), cut, w.ints(axis)), axis=axis)


@writes("nonzero")
def _nonzero(w, x):
    return w.Transpose(w.NonZero(x), perm=[1, 0])


@writes("index_put")
def _index_put(w, x, value, *, index):
    """The places that the index names, read from a map of all places, are written in a row of the values."""
    if any(isinstance(n, Length) for n in w.shape(x)):
        raise UnsupportedOnnxError("export: index_put into a tensor whose lengths vary has no simple ONNX form")
    places = np.arange(math.prod(x.shape)).reshape(x.shape)[index]
    value = w.Expand(w.operands((x, value))[1], w.ints(*places.shape))
    flat = w.ScatterElements(w.Reshape(x, w.ints(-1)), w.constant(places.reshape(-1)), w.Reshape(value, w.ints(-1)), axis=0)
    return w.Reshape(flat, w.ints(*x.shape))


@writes("stack")
def _stack(w, *tensors, axis):
    return w.Concat(*(w.Unsqueeze(x, w.ints(axis)) for x in w.operands(tensors)), axis=axis)


@writes("split")
def _split(w, x, *, ends, axis):
    return tuple(w.Slice(x, w.ints(start), w.ints(end), w.ints(axis)) for start, end in itertools.pairwise(ends))


@writes("unbind")
def _unbind(w, x, *, axis):
    n = w.shape(x)[axis]
    if isinstance(n, Length):
        raise UnsupportedOnnxError("export: unbind along an axis whose length varies has no simple ONNX form")
    return tuple(w.Gather(x, w.constant(np.array(i, np.int64)), axis=axis) for i in range(n))


@writes("scatter_extreme")
def _scatter_extreme(w, x, index, source, *, axis, how, from_end=False):
    part = w.Slice(source, w.ints(*[0] * x.ndim), w.ints(*w.shape(index)), w.ints(*range(x.ndim)))
    return w.ScatterElements(x, index, part, axis=axis, reduction={"prod": "mul", "amax": "max", "amin": "min"}[how])


@writes("diagonal")
def _diagonal(w, x, *, offset, axes):
    shape = w.shape(x)
    if any(isinstance(shape[a], Length) for a in axes):
        raise UnsupportedOnnxError("export: a diagonal of axes whose lengths vary has no simple ONNX form")
    first, second = (a % x.ndim for a in axes)
    rest = [a for a in range(x.ndim) if a not in (first, second)]
    n, m = shape[first], shape[second]
    flat = w.Reshape(w.transposed(w.name(x), [*rest, first, second]), w.ints(*(shape[a] for a in rest), n * m))
    return w.Gather(flat, w.constant(np.diagonal(np.arange(n * m).reshape(n, m), offset).astype(np.int64)), axis=len(rest))


@writes("from_diagonal")
def _from_diagonal(w, x, *, shape, offset, axes):
    """Rows that begin with the values of the diagonal, of which each keeps the one on it."""
    first, second = (a % len(shape) for a in axes)
    rest = [a for a in range(len(shape)) if a not in (first, second)]
    if any(isinstance(shape[a], Length) for a in axes):
        raise UnsupportedOnnxError("export: a diagonal of axes whose lengths vary has no simple ONNX form")
    n, m, before = shape[first], shape[second], max(-offset, 0)
    padded = w.Pad(x, w.ints(*[0] * len(rest), before, *[0] * len(rest), n - before - w.shape(x)[-1]))
    y = w.Where(w.constant(np.eye(n, m, offset, dtype=bool)), w.Unsqueeze(padded, w.ints(-1)), w.name(0, x.dtype))
    back = [*rest, first, second]
    return w.transposed(y, [back.index(a) for a in range(len(shape))])
