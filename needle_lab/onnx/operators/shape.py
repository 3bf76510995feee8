"""ONNX operators that make, move, join and pick values."""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, nn, ops
from ...core.modes import is_tracing
from ...errors import ArgumentError, ShapeError, UnsupportedOnnxError
from ..limits import limits
from ..values import numpy_dtype
from .layers import Fill, Layer, NodeView
from .table import ints, layer_of, number, scalar, since


@since(1)
def Constant(*, value=None, value_float=None, value_floats=None, value_int=None, value_ints=None, value_string=None,
             value_strings=None, sparse_value=None):
    """Exactly one of the attributes is there; integers are int64, floats float32."""
    if value is not None:
        return value
    if value_float is not None or value_floats is not None:
        return Tensor(np.asarray(value_floats if value_float is None else value_float, np.float32))
    if value_int is not None or value_ints is not None:
        return Tensor(np.asarray(value_ints if value_int is None else value_int, np.int64))
    if value_string is not None or value_strings is not None:
        return np.array(value_strings if value_string is None else value_string, dtype=object)
    if sparse_value is not None:
        return sparse_value
    raise UnsupportedOnnxError("Constant: none of its attributes holds a value")


@since(9, rank="shaped")
def ConstantOfShape(shape, *, value=None):
    fill = np.zeros(1, np.float32) if value is None else value.numpy()
    return Tensor(np.full(limits.check_shape("ConstantOfShape", ints(shape), fill.dtype), fill.reshape(())))


@since(1, rank=1)
def Shape(x, *, start=0, end=None):
    return Tensor(np.array(x.shape[slice(start, end)], np.int64))


@since(1, rank=0)
def Size(x):
    return Tensor(np.array(x.numel(), np.int64))


@since(5, rank="shaped")
def Reshape(x, shape, *, allowzero=0):
    sizes = [n if n or allowzero else x.shape[i] for i, n in enumerate(ints(shape))]
    if any(n < -1 for n in sizes):                       # numpy takes any negative number for -1
        raise ShapeError(f"Reshape: {tuple(ints(shape))} has a negative length")
    if -1 in sizes and 0 in sizes:                       # -1 next to 0 is ambiguous for numpy
        sizes[sizes.index(-1)] = 0
    return ops.reshape(x, shape=tuple(sizes))


@since(1, rank=2)
def Flatten(x, *, axis=1):
    axis = axis % x.ndim if axis < 0 else axis
    return ops.reshape(x, shape=(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@since(1, rank="first")
def Transpose(x, *, perm=None):
    return ops.permute(x, axes=tuple(reversed(range(x.ndim))) if perm is None else tuple(perm))


@since(1, rank="-axes")
def Squeeze(x, axes=None):
    return ops.squeeze(x, ints(axes))


@since(1, rank="+axes")
def Unsqueeze(x, axes):
    return ops.unsqueeze(x, ints(axes))


@since(8)
def Expand(x, shape):
    return ops.expand(x, shape=np.broadcast_shapes(x.shape, limits.check_shape("Expand", ints(shape), x.dtype)))


@since(6, rank="first")
def Tile(x, repeats):
    repeats = ints(repeats)
    limits.check_shape("Tile", [n * r for n, r in zip(x.shape, repeats, strict=True)], x.dtype)
    return ops.tile(x, repeats=repeats)


@since(1, rank="first")
def Concat(*tensors, axis):
    return ops.concat(tensors, axis)


@since(1, rank="first")
def Split(x, split=None, *, axis=0, num_outputs=None, outputs=1):
    count = num_outputs or outputs
    sizes = ints(split) if split is not None else -(-x.shape[axis] // count)
    parts = ops.split(x, list(sizes) if isinstance(sizes, tuple) else sizes, axis)
    return tuple(parts)


@since(1, rank="first")
def Slice(x, starts, ends, axes=None, steps=None):
    """NumPy's slices, ends beyond the axis included."""
    starts, ends = ints(starts), ints(ends)
    axes = ints(axes) or tuple(range(len(starts)))
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, ints(steps) or (1,) * len(starts), strict=True):
        n = x.shape[axis]
        if step < 0 and end < -n:                        # -INT_MAX: down to and with the first
            end = None
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


@since(1, rank="gathered")
def Gather(x, indices, *, axis=0):
    return ops.index_select(x, indices, axis=axis)


@layer_of(Gather)
def _embedding_layer(node: NodeView) -> Layer | None:
    weight = node.weights[0]
    if weight is None or weight.ndim != 2 or node.attrs.get("axis", 0) != 0 or node.inputs[0] == node.inputs[1]:
        return None
    return Layer(nn.Embedding(*weight.shape), {"weight": Fill(0)}, inputs=[1], call=_embed)


def _embed(module, index):
    """An index may count from the end, which a layer refuses; a trace does not look at it: the op takes it as it is."""
    if is_tracing():
        return ops.index_select(module.weight, index)
    return module(ops.where(index < 0, index + module.num_embeddings, index))


@since(11)
def GatherElements(x, indices, *, axis=0):
    axis %= x.ndim
    return ops.gather(x, axis, indices, from_end=True)


@since(11)
def GatherND(x, indices, *, batch_dims=0):
    places = indices.numpy()
    batch = [np.arange(n).reshape(*(-1 if i == d else 1 for i in range(places.ndim - 1)))
             for d, n in enumerate(x.shape[:batch_dims])]
    return x[(*batch, *(places[..., i] for i in range(places.shape[-1])))]


@since(11, rank="first")
def ScatterElements(x, indices, updates, *, axis=0, reduction="none"):
    if reduction in ("none", "add"):
        return (ops.scatter if reduction == "none" else ops.scatter_add)(x, indices, updates, axis=axis)
    axis %= x.ndim
    grid = list(np.ogrid[tuple(slice(0, n) for n in indices.shape)])
    grid[axis] = indices.numpy()
    return _scatter_one_by_one(x, tuple(np.broadcast_arrays(*grid)), updates, reduction)


@since(9)
def Scatter(x, indices, updates, *, axis=0):
    """The former name of ScatterElements."""
    return ScatterElements(x, indices, updates, axis=axis)


@since(11, rank="first")
def ScatterND(x, indices, updates, *, reduction="none"):
    places = indices.numpy()
    index = tuple(places[..., i] for i in range(places.shape[-1]))
    if reduction == "none":
        return ops.index_put(x, updates, index=index)
    return _scatter_one_by_one(x, index, updates, reduction)


_COMBINE = {"add": ops.add, "mul": ops.mul, "max": ops.maximum, "min": ops.minimum}


def _scatter_one_by_one(x, index, updates, reduction: str):
    """Updates that meet at one place are combined in turn: in rounds, none of which meets a place twice."""
    if reduction not in _COMBINE:
        raise UnsupportedOnnxError(f"reduction={reduction!r} is none of {', '.join(['none', *_COMBINE])}")
    index = tuple(np.where(i < 0, i + n, i) for i, n in zip(index, x.shape, strict=False))
    flat = np.ravel_multi_index(tuple(i.reshape(-1) for i in index), x.shape[:len(index)])
    rows = updates.reshape(len(flat), *x.shape[len(index):])
    while len(flat):
        _, first = np.unique(flat, return_index=True)
        at = np.unravel_index(flat[first], x.shape[:len(index)])
        x = ops.index_put(x, _COMBINE[reduction](x[at], rows[first]), index=at)
        rest = np.setdiff1d(np.arange(len(flat)), first)
        flat, rows = flat[rest], rows[rest]
    return x


@since(1, rank="first")
def Pad(x, pads, value=None, axes=None, *, mode="constant"):
    pads, axes = ints(pads), ints(axes) or tuple(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    limits.check_shape("Pad", [max(n + sum(w), 0) for n, w in zip(x.shape, widths, strict=True)], x.dtype)
    fill = 0.0 if value is None else number(value)
    if isinstance(fill, Tensor) and mode == "constant":      # the border's value has a gradient of its own
        return ops.where(np.asarray(ops.pad(Tensor(np.ones(x.shape, bool)), widths, value=False)),
                         ops.pad(x, widths), fill)
    return ops.pad(x, widths, mode, fill if mode == "constant" else 0.0)


@since(11)
def Range(start, limit, delta):
    if not scalar(delta):
        raise ArgumentError("Range: the step is 0")
    count = max(math.ceil((scalar(limit) - scalar(start)) / scalar(delta)), 0)
    limits.check_shape("Range", [count], start.dtype)
    if not (start.requires_grad or delta.requires_grad):
        return Tensor(np.arange(scalar(start), scalar(limit), scalar(delta), start.dtype))
    return start + np.arange(count).astype(start.dtype) * delta


@since(1)
def OneHot(indices, depth, values, *, axis=-1):
    n, places = int(scalar(depth)), indices.numpy().astype(np.int64)
    limits.check_shape("OneHot", [*places.shape, n], values.dtype)
    hot = np.where(places < 0, places + n, places)[..., None] == np.arange(n)          # out of range: nowhere
    y = ops.where(hot, values[1], values[0])
    order = list(range(y.ndim - 1))
    order.insert(axis % y.ndim, y.ndim - 1)
    return ops.permute(y, axes=tuple(order))


@since(14, rank="first")
def Trilu(x, k=None, *, upper=1):
    return (ops.triu if upper else ops.tril)(x, 0 if k is None else int(scalar(k)))


@since(1)
def NonZero(x):
    return Tensor(np.array(np.nonzero(x.numpy()), np.int64))


@since(1)
def EyeLike(x, *, dtype=None, k=0):
    if x.ndim != 2:
        raise ShapeError(f"EyeLike: a matrix is needed, got shape {x.shape}")
    return Tensor(np.eye(*x.shape, k=k, dtype=x.dtype if dtype is None else numpy_dtype(dtype)))


@since(9)
def Compress(x, condition, *, axis=None):
    places = np.flatnonzero(condition.numpy())
    return ops.index_select(x.reshape(-1) if axis is None else x, places, axis=axis or 0)


@since(11)
def Unique(x, *, axis=None, sorted=1):
    """-> (values, first places, where each input went, counts)."""
    _, first, inverse, counts = np.unique(x.numpy(), return_index=True, return_inverse=True, return_counts=True, axis=axis)
    if not sorted:                                   # in order of appearance
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        first, counts, inverse = first[order], counts[order], rank[inverse]
    values = ops.index_select(x.reshape(-1) if axis is None else x, first, axis=axis or 0)
    return values, *(Tensor(np.ascontiguousarray(v)) for v in (first, inverse.reshape(-1), counts))


@since(10, rank="first")
def ReverseSequence(x, sequence_lens, *, batch_axis=1, time_axis=0):
    """The first sequence_lens[i] steps of sample i in reverse."""
    lengths, steps = sequence_lens.numpy()[:, None], np.arange(x.shape[time_axis])[None]
    order = np.where(steps < lengths, lengths - 1 - steps, steps)               # (batch, time)
    order = order if batch_axis < time_axis else order.T
    order = order.reshape(*order.shape, *(1,) * (x.ndim - 2))
    return ops.take_along_axis(x, np.broadcast_to(order, x.shape), axis=time_axis)


@since(24)
def TensorScatter(past, update, write_indices=None, *, axis=-2, mode="linear"):
    """update written into past along axis, from write_indices[i] on in sample i; "circular" wraps around."""
    axis %= past.ndim
    starts = np.zeros(past.shape[0], np.int64) if write_indices is None else write_indices.numpy()
    places = starts[:, None] + np.arange(update.shape[axis])
    places = places % past.shape[axis] if mode == "circular" else places
    index = places.reshape(-1, *(update.shape[axis] if i == axis else 1 for i in range(1, past.ndim)))
    return ops.scatter(past, np.broadcast_to(index, update.shape), update, axis=axis)


@since(1, rank="first")
def DepthToSpace(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // b**2, h * b, w * b)


@since(1, rank="first")
def SpaceToDepth(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).permute(*order).reshape(n, c * b * b, h // b, w // b)
