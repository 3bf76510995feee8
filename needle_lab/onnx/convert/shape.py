"""ONNX operators that make, move, join and pick values."""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from ...errors import ShapeError, UnsupportedOnnxError
from .registry import ints, scalar, since


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
    raise UnsupportedOnnxError("Constant: strings and sparse values are not supported")


@since(9)
def ConstantOfShape(shape, *, value=None):
    fill = np.zeros(1, np.float32) if value is None else value.numpy()
    return Tensor(np.full(ints(shape), fill.reshape(())))


@since(1)
def Shape(x, *, start=0, end=None):
    return Tensor(np.array(x.shape[slice(start, end)], np.int64))


@since(1)
def Size(x):
    return Tensor(np.array(x.size, np.int64))


@since(5)
def Reshape(x, shape, *, allowzero=0):
    sizes = [n if n or allowzero else x.shape[i] for i, n in enumerate(ints(shape))]
    if -1 in sizes and 0 in sizes:                       # -1 next to 0 is ambiguous for numpy
        sizes[sizes.index(-1)] = 0
    return ops.reshape(x, shape=tuple(sizes))


@since(1)
def Flatten(x, *, axis=1):
    axis = axis % x.ndim if axis < 0 else axis
    return ops.reshape(x, shape=(math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@since(1)
def Transpose(x, *, perm=None):
    return ops.permute(x, axes=tuple(reversed(range(x.ndim))) if perm is None else tuple(perm))


@since(1)
def Squeeze(x, axes=None):
    return ops.squeeze(x, ints(axes))


@since(1)
def Unsqueeze(x, axes):
    return ops.unsqueeze(x, ints(axes))


@since(8)
def Expand(x, shape):
    return ops.expand(x, shape=np.broadcast_shapes(x.shape, ints(shape)))


@since(6)
def Tile(x, repeats):
    return ops.tile(x, repeats=ints(repeats))


@since(1)
def Concat(*tensors, axis):
    return ops.concat(tensors, axis)


@since(1)
def Split(x, split=None, *, axis=0, num_outputs=None, outputs=1):
    count = num_outputs or outputs
    sizes = ints(split) if split is not None else -(-x.shape[axis] // count)
    parts = ops.split(x, list(sizes) if isinstance(sizes, tuple) else sizes, axis)
    return tuple(parts)


@since(1)
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


@since(1)
def Gather(x, indices, *, axis=0):
    return ops.index_select(x, indices, axis=axis)


@since(11)
def GatherElements(x, indices, *, axis=0):
    axis %= x.ndim
    return ops.gather(x, axis, indices)


@since(11)
def GatherND(x, indices, *, batch_dims=0):
    if batch_dims:
        raise UnsupportedOnnxError("GatherND: batch_dims other than 0 is not supported")
    places = indices.numpy()
    return x[tuple(places[..., i] for i in range(places.shape[-1]))]


@since(11)
def ScatterElements(x, indices, updates, *, axis=0, reduction="none"):
    if reduction not in ("none", "add"):
        raise UnsupportedOnnxError(f"ScatterElements: reduction={reduction!r} is not supported; 'none' and 'add' are")
    return (ops.scatter if reduction == "none" else ops.scatter_add)(x, indices, updates, axis=axis)


@since(11)
def ScatterND(x, indices, updates, *, reduction="none"):
    if reduction != "none":
        raise UnsupportedOnnxError(f"ScatterND: reduction={reduction!r} is not supported")
    places = indices.numpy()
    return ops.index_put(x, updates, index=tuple(places[..., i] for i in range(places.shape[-1])))


@since(1)
def Pad(x, pads, value=None, axes=None, *, mode="constant"):
    pads, axes = ints(pads), ints(axes) or tuple(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    return ops.pad(x, widths, mode, 0.0 if value is None else scalar(value))


@since(11)
def Range(start, limit, delta):
    return Tensor(np.arange(scalar(start), scalar(limit), scalar(delta), start.dtype))


@since(1)
def OneHot(indices, depth, values, *, axis=-1):
    off, on = values.numpy()
    hot = ops.one_hot(indices, int(scalar(depth))) > 0
    y = ops.where(hot, Tensor(np.asarray(on)), Tensor(np.asarray(off)))
    order = list(range(y.ndim - 1))
    order.insert(axis % y.ndim, y.ndim - 1)
    return ops.permute(y, axes=tuple(order))


@since(14)
def Trilu(x, k=None, *, upper=1):
    return (ops.triu if upper else ops.tril)(x, 0 if k is None else int(scalar(k)))


@since(1)
def NonZero(x):
    return Tensor(np.array(np.nonzero(x.numpy()), np.int64))


@since(1)
def EyeLike(x, *, dtype=None, k=0):
    from ..reader import numpy_dtype
    if x.ndim != 2:
        raise ShapeError(f"EyeLike: a matrix is needed, got shape {x.shape}")
    return Tensor(np.eye(*x.shape, k=k, dtype=x.dtype if dtype is None else numpy_dtype(dtype)))


@since(1)
def DepthToSpace(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        y = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // b**2, h * b, w * b)


@since(1)
def SpaceToDepth(x, *, blocksize):
    n, c, h, w = x.shape
    b = blocksize
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)
