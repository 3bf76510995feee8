"""What each op is in ONNX, in the form that the writer's opset has.

A rule returns the name of the result; `w.shape(x)` is the shape in which a length that may vary is a `Length`, and
`w.ints(...)` writes such a length as one that is measured when the file runs.
"""

from __future__ import annotations

import math

import numpy as np

from ...errors import UnsupportedOnnxError
from ...program.lengths import Length, Various
from .writer import EMIT, Writer, emits


def _pads(pads) -> list[int]:
    return [b for b, _ in pads] + [a for _, a in pads]

# --- products -----------------------------------------------------------------------------------------------------------


@emits("linear")
def _linear(w, x, weight, bias=None):
    if x.ndim == 2:
        return w.emit("Gemm", [w.name(x), w.name(weight), w.name(bias)], transB=1)
    y = w.emit("MatMul", [w.name(x), transposed(w, w.name(weight), [1, 0])])
    return y if bias is None else w.emit("Add", [y, w.name(bias)])


@emits("einsum")
def _einsum(w, *tensors, equation):
    return w.emit("Einsum", w.operands(tensors), equation=equation)

# --- windows ------------------------------------------------------------------------------------------------------------


@emits("convolution")
def _convolution(w, x, weight, bias=None, *, stride, pads, dilation, groups):
    return w.emit("Conv", [w.name(x), w.name(weight), w.name(bias)], kernel_shape=list(weight.shape[2:]),
                  strides=list(stride), pads=_pads(pads), dilations=list(dilation), group=groups)


@emits("convolution_input")
def _convolution_input(w, g, weight, *, size, stride, pads, dilation, groups):
    extra = [s - ((n - 1) * t + d * (k - 1) + 1 - b - a) for s, n, t, d, k, (b, a)
             in zip(size, w.shape(g)[2:], stride, dilation, weight.shape[2:], pads, strict=True)]
    return w.emit("ConvTranspose", [w.name(g), w.name(weight)], kernel_shape=list(weight.shape[2:]), strides=list(stride),
                  pads=_pads(pads), dilations=list(dilation), group=groups, output_padding=extra)


@emits("max_windows")
def _max_windows(w, x, *, kernel, stride, pads, dilation):
    return w.emit("MaxPool", [w.name(x)], kernel_shape=list(kernel), strides=list(stride), pads=_pads(pads),
                  dilations=list(dilation))


@emits("sum_windows")
def _sum_windows(w, x, *, kernel, stride, pads, dilation):
    mean = w.emit("AveragePool", [w.name(x)], kernel_shape=list(kernel), strides=list(stride), pads=_pads(pads),
                  dilations=None if set(dilation) == {1} else list(dilation), count_include_pad=1)
    return w.emit("Mul", [mean, w.name(float(np.prod(kernel)), x.dtype)])

# --- normalisation ------------------------------------------------------------------------------------------------------


@emits("apply_batch_norm")
def _batch_norm(w, x, mean, var, weight=None, bias=None, *, eps):
    scale = w.name(weight) if weight is not None else w.floats(mean.shape, 1, x.dtype)
    shift = w.name(bias) if bias is not None else w.floats(mean.shape, 0, x.dtype)
    return w.emit("BatchNormalization", [w.name(x), scale, shift, w.name(mean), w.name(var)], epsilon=eps)


@emits("batch_norm")
def _batch_norm_by_batch(w, x, weight=None, bias=None, *, eps):
    scale = w.name(weight) if weight is not None else w.floats(w.shape(x)[1:2], 1, x.dtype)
    shift = w.name(bias) if bias is not None else w.floats(w.shape(x)[1:2], 0, x.dtype)
    running = [w.floats(w.shape(x)[1:2], n, x.dtype) for n in (0, 1)]        # of which momentum=0 keeps nothing
    return w.emit("BatchNormalization", [w.name(x), scale, shift, *running], epsilon=eps, momentum=0.0, training_mode=1,
                  outputs=3)


@emits("layer_norm")
def _layer_norm(w, x, weight=None, bias=None, *, axes, eps):
    if w.opset >= 17:
        scale = w.name(weight) if weight is not None else w.floats(w.shape(x)[x.ndim - axes:], 1, x.dtype)
        return w.emit("LayerNormalization", [w.name(x), scale, w.name(bias)], axis=-axes, epsilon=eps), "", ""
    y = standardized(w, w.name(x), list(range(x.ndim - axes, x.ndim)), eps, x.dtype)[0]
    y = y if weight is None else w.emit("Mul", [y, w.name(weight)])
    return y if bias is None else w.emit("Add", [y, w.name(bias)]), "", ""


@emits("standardize")
def _standardize(w, x, *, axes, eps):
    return standardized(w, w.name(x), sorted(a % x.ndim for a in axes), eps, x.dtype)


def standardized(w: Writer, x: str, axes, eps: float, dtype) -> tuple[str, str, str]:
    """(x - mean) / sqrt(var + eps) by its parts, mean, var."""
    mean = reduced(w, "ReduceMean", x, axes)
    centered = w.emit("Sub", [x, mean])
    var = reduced(w, "ReduceMean", w.emit("Mul", [centered, centered]), axes)
    length = w.emit("Sqrt", [w.emit("Add", [var, w.name(eps, dtype)])])
    return w.emit("Div", [centered, length]), mean, var


@emits("class_losses")
def _class_losses(w, x, target, *, reduction):
    return w.emit("SoftmaxCrossEntropyLoss", [w.name(x), w.name(target)], reduction=reduction), ""


EMIT["softmax"] = lambda w, x, *, axis=-1: w.emit("Softmax", [w.name(x)], axis=axis)
EMIT["log_softmax"] = lambda w, x, *, axis=-1: w.emit("LogSoftmax", [w.name(x)], axis=axis)


# --- reductions ---------------------------------------------------------------------------------------------------------


def reduced(w: Writer, op: str, x: str, axes, keepdims: bool = True) -> str:
    """A reduction; its axes moved from an attribute to an input, of the sum in opset 13, of all others in 18."""
    if axes is None:
        return w.emit(op, [x], keepdims=int(keepdims))
    axes = [axes] if isinstance(axes, int) else list(axes)
    if w.opset >= (13 if op == "ReduceSum" else 18):
        return w.emit(op, [x, w.ints(*axes)], keepdims=int(keepdims))
    return w.emit(op, [x], axes=axes, keepdims=int(keepdims))


def _reduction(op: str, whole: type | None = None):
    """whole: the dtype in which integers are reduced."""
    def emit(w, x, *, axis=None, keepdims=False):
        integers = x.dtype.kind in "iub" and whole is not None and x.dtype != whole
        return reduced(w, op, w.cast(w.name(x), whole) if integers else w.name(x), axis, keepdims)
    return emit


EMIT |= {"sum": _reduction("ReduceSum", np.int64), "prod": _reduction("ReduceProd", np.int64),
         "mean": _reduction("ReduceMean", np.float32), "logsumexp": _reduction("ReduceLogSumExp", np.float32),
         "max": _reduction("ReduceMax"), "min": _reduction("ReduceMin")}


@emits("var")
def _var(w, x, *, axis=None, correction=1, keepdims=False):
    axes = list(range(x.ndim)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    count = math.prod(w.shape(x)[a] for a in axes)
    centered = w.emit("Sub", [w.name(x), reduced(w, "ReduceMean", w.name(x), axes)])
    total = reduced(w, "ReduceSum", w.emit("Mul", [centered, centered]), axes, keepdims)
    return w.emit("Div", [total, w.name(count - correction, x.dtype)])


def _arg(op: str):
    def emit(w, x, *, axis=None, keepdims=False):
        source = w.name(x) if axis is not None else w.emit("Reshape", [w.name(x), w.ints(-1)])
        return w.emit(op, [source], axis=axis or 0, keepdims=int(keepdims))
    return emit


EMIT |= {"argmax": _arg("ArgMax"), "argmin": _arg("ArgMin")}


@emits("cumsum")
def _cumsum(w, x, *, axis):
    return w.emit("CumSum", [w.name(x), w.constant(np.array(axis, np.int64))])

# --- moves --------------------------------------------------------------------------------------------------------------


@emits("reshape")
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
        y = w.emit("Squeeze" if len(whole) < len(have) else "Unsqueeze", [name, w.ints(*moved)])
    else:
        y = w.emit("Reshape", [name, w.ints(*sizes)])
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


@emits("permute")
def _permute(w, x, *, axes):
    return transposed(w, w.name(x), [a % x.ndim for a in axes])


def transposed(w: Writer, x: str, axes: list[int]) -> str:
    """A Transpose; of a Transpose, one that does both."""
    source, before = w.permuted.get(x, (x, list(range(len(axes)))))
    axes = [before[a] for a in axes]
    if axes == sorted(axes):
        return source
    key = "transposed", source, tuple(axes)
    if key not in w.names:
        w.names[key] = y = w.emit("Transpose", [source], perm=axes)
        w.permuted[y] = source, axes
    return w.names[key]


@emits("expand")
def _expand(w, x, *, shape):
    have = (1,) * (len(shape) - x.ndim) + w.shape(x)
    return w.emit("Expand", [w.name(x), w.ints(*(1 if n == m or n == -1 else n for n, m in zip(shape, have, strict=True)))])


@emits("flip")
def _flip(w, x, *, axis):
    axes = (axis,) if isinstance(axis, int) else axis
    return w.emit("Slice", [w.name(x), w.ints(*[-1] * len(axes)), w.ints(*[np.iinfo(np.int64).min] * len(axes)),
                            w.ints(*axes), w.ints(*[-1] * len(axes))])


@emits("take_along_axis")
def _take_along_axis(w, x, index, *, axis):
    return w.emit("GatherElements", [w.name(x), w.name(index)], axis=axis)


@emits("scatter")
def _scatter(w, x, index, source, *, axis):
    source = w.name(source) if np.ndim(source) else w.floats(w.shape(index), float(source), x.dtype)
    return w.emit("ScatterElements", [w.name(x), w.name(index), source], axis=axis)


@emits("scatter_add")
def _scatter_add(w, x, index, source, *, axis):
    return w.emit("ScatterElements", [w.name(x), w.name(index), w.name(source)], axis=axis, reduction="add")


@emits("clone", "detach")
def _clone(w, x):
    return w.emit("Identity", [w.name(x)])


@emits("concatenate")
def _concatenate(w, *tensors, axis=0):
    return w.emit("Concat", w.operands(tensors), axis=axis)


@emits("tile")
def _tile(w, x, *, repeats):
    missing = len(repeats) - x.ndim
    source = w.name(x) if missing <= 0 else w.emit("Unsqueeze", [w.name(x), w.ints(*range(missing))])
    return w.emit("Tile", [source, w.ints(*(1,) * max(-missing, 0), *repeats)])


@emits("pad_constant")
def _pad(w, x, *, widths, value=0.0):
    return w.emit("Pad", [w.name(x), w.ints(*_pads(widths)), w.name(value, x.dtype)])


@emits("cast")
def _cast(w, x, *, dtype):
    return w.cast(w.name(x), dtype)


@emits("index_select")
def _index_select(w, x, index, *, axis=0):
    return w.emit("Gather", [w.name(x), w.name(index)], axis=axis)


@emits("getitem")
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
        y = w.emit("Slice", [y, w.ints(*starts), w.ints(*ends), w.ints(*axes), w.ints(*steps)])
    if gather:
        y = w.emit("Gather", [y, w.constant(gather[1].astype(np.int64))], axis=gather[0])
    if gone:
        y = w.emit("Squeeze", [y, w.ints(*gone)])
    if new:
        kept = [p for p in parts if p is None or isinstance(p, (slice, np.ndarray))]
        y = w.emit("Unsqueeze", [y, w.ints(*(i for i, p in enumerate(kept) if p is None))])
    return y

# --- elementwise --------------------------------------------------------------------------------------------------------


@emits("gelu")
def _gelu(w, x):
    if w.opset >= 20:
        return w.emit("Gelu", [w.name(x)])
    cdf = w.emit("Add", [w.emit("Erf", [w.emit("Mul", [w.name(x), w.name(math.sqrt(0.5), x.dtype)])]), w.name(1.0, x.dtype)])
    return w.emit("Mul", [w.emit("Mul", [w.name(x), w.name(0.5, x.dtype)]), cdf])


@emits("gelu_tanh")
def _gelu_tanh(w, x):
    if w.opset >= 20:
        return w.emit("Gelu", [w.name(x)], approximate="tanh")
    square, one = w.emit("Mul", [w.name(x), w.name(x)]), w.name(1.0, x.dtype)
    factor = w.emit("Add", [w.emit("Mul", [square, w.name(0.044715, x.dtype)]), one])
    inner = w.emit("Mul", [w.emit("Mul", [w.name(x), w.name(math.sqrt(2 / math.pi), x.dtype)]), factor])
    share = w.emit("Add", [w.emit("Tanh", [inner]), one])
    return w.emit("Mul", [w.emit("Mul", [w.name(x), w.name(0.5, x.dtype)]), share])


@emits("fmod")
def _fmod(w, a, b):
    return w.emit("Mod", w.operands((a, b)), fmod=1)


@emits("trunc")
def _trunc(w, x):
    return w.emit("Mul", [w.emit("Sign", [w.name(x)]), w.emit("Floor", [w.emit("Abs", [w.name(x)])])])


@emits("isfinite")
def _isfinite(w, x):
    return w.emit("Not", [w.emit("Or", [w.emit("IsNaN", [w.name(x)]), w.emit("IsInf", [w.name(x)])])])


@emits("ones_at")
def _ones_at(w, index, *, num_classes):
    return w.emit("OneHot", [w.name(index), w.ints(num_classes), w.constant(np.array([0, 1], np.float32))], axis=-1)


@emits("log2")
def _log2(w, x):
    return w.emit("Mul", [w.emit("Log", [w.name(x)]), w.name(1 / math.log(2), x.dtype)])


@emits("ones_like")
def _ones_like(w, x):
    return w.emit("Expand", [w.constant(np.ones((), x.dtype)), w.emit("Shape", [w.name(x)])])


@emits("leaky_relu")
def _leaky_relu(w, x, *, negative_slope=0.01):
    return w.emit("LeakyRelu", [w.name(x)], alpha=negative_slope)


@emits("elu")
def _elu(w, x, *, alpha=1.0):
    return w.emit("Elu", [w.name(x)], alpha=alpha)


@emits("celu")
def _celu(w, x, *, alpha=1.0):
    return w.emit("Celu", [w.name(x)], alpha=alpha)


@emits("selu")
def _selu(w, x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return w.emit("Selu", [w.name(x)], alpha=alpha, gamma=gamma)


@emits("silu")
def _silu(w, x):
    return w.emit("Mul", [w.name(x), w.emit("Sigmoid", [w.name(x)])])


@emits("square")
def _square(w, x):
    return w.emit("Mul", [w.name(x), w.name(x)])


@emits("rsqrt")
def _rsqrt(w, x):
    return w.emit("Reciprocal", [w.emit("Sqrt", [w.name(x)])])


@emits("log1p")
def _log1p(w, x):
    return w.emit("Log", [w.emit("Add", [w.name(x), w.name(1.0, x.dtype)])])


@emits("expm1")
def _expm1(w, x):
    return w.emit("Sub", [w.emit("Exp", [w.name(x)]), w.name(1.0, x.dtype)])


@emits("ne")
def _ne(w, a, b):
    return w.emit("Not", [w.emit("Equal", w.operands((a, b)))])


@emits("clip_low")
def _clip_low(w, x, low):
    return w.emit("Max", w.operands((x, low)))


@emits("clip_high")
def _clip_high(w, x, high):
    return w.emit("Min", w.operands((x, high)))


@emits("remainder")
def _remainder(w, a, b):
    a, b = w.operands((a, b))
    return w.emit("Sub", [a, w.emit("Mul", [b, w.emit("Floor", [w.emit("Div", [a, b])])])])


@emits("zeros_like")
def _zeros_like(w, x):
    return w.emit("Expand", [w.constant(np.zeros((), x.dtype)), w.emit("Shape", [w.name(x)])])


@emits("lstm_cell")
def _lstm_cell(w, gates, c):
    i, f, g, o = w.emit("Split", [w.name(gates)], outputs=4, axis=-1, num_outputs=4 if w.opset >= 18 else None)
    i, f, o = (w.emit("Sigmoid", [gate]) for gate in (i, f, o))
    g = w.emit("Tanh", [g])
    new_c = w.emit("Add", [w.emit("Mul", [f, w.name(c)]), w.emit("Mul", [i, g])])
    return w.emit("Mul", [o, w.emit("Tanh", [new_c])]), new_c, ""
