"""ONNX operators of neural networks: convolution, pooling, normalisation, recurrence.

Where weights are initialisers, `needle_lab.onnx.layers` makes real layers of these nodes; the functions here serve
nodes whose weights are computed.
"""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from ...errors import UnsupportedOnnxError
from ...ops.norm import standardize
from ...ops.pool import from_winners, max_windows, pool_window, sum_windows
from ..limits import limits
from .table import ints, since


def padding_of(pads, auto_pad: str, dims: int):
    """ONNX's pads (all before, all after) and auto_pad -> what `ops.conv` and the pools take."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return auto_pad.lower()
    if auto_pad == "VALID" or not pads:
        return 0
    before, after = tuple(pads[:dims]), tuple(pads[dims:])
    return before if before == after else tuple(zip(before, after, strict=True))


@since(1)
def Conv(x, w, b=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"):
    dims = w.ndim - 2
    return ops.conv(x, w, b, tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                    tuple(dilations or (1,) * dims), group)


@since(1)
def ConvTranspose(x, w, b=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1,
                  output_padding=None, output_shape=None, auto_pad="NOTSET"):
    dims = w.ndim - 2
    strides, dilations, extra = strides or [1] * dims, dilations or [1] * dims, list(output_padding or [0] * dims)
    pads = list(pads or [0] * 2 * dims)
    if output_shape or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = output_shape or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        for i in range(dims):
            full = (x.shape[2 + i] - 1) * strides[i] + (w.shape[2 + i] - 1) * dilations[i] + 1 + extra[i]
            total = full - wanted[-dims + i]
            half = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            pads[i], pads[i + dims] = half, total - half
    return ops.conv_transpose(x, w, b, tuple(strides), padding_of(pads, "NOTSET", dims), tuple(extra), group,
                              tuple(dilations))


@since(1)
def MaxPool(x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET",
            storage_order=0, outputs=1):
    dims = len(kernel_shape)
    window = pool_window(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                         tuple(dilations or (1,) * dims), bool(ceil_mode), dims)
    y = max_windows(x, **window)
    return y if outputs == 1 else (y, _places_of_maxima(x, window, storage_order))


def _places_of_maxima(x, window, storage_order: int):
    """Where in the whole input each maximum stands, int64: the places themselves go through the windows of the maxima."""
    dims = len(window["kernel"])
    places = np.arange(x.size, dtype=np.float64).reshape(x.shape)
    if storage_order:                                        # column major within a map
        size = x.shape[-dims:]
        inner = np.arange(math.prod(size)).reshape(size[::-1]).T
        places = (np.arange(x.size // inner.size) * inner.size).reshape(*x.shape[:-dims], *(1,) * dims) + inner
    values = x.numpy()
    picked = from_winners.forward(places.astype(np.float64), values, max_windows.forward(values, **window), **window)
    return Tensor(picked.astype(np.int64))


@since(9)
def MaxUnpool(x, indices, output_shape=None, *, kernel_shape, strides=None, pads=None):
    """Each value back at the place that MaxPool noted, zeros elsewhere."""
    dims = len(kernel_shape)
    strides, pads = strides or [1] * dims, pads or [0] * 2 * dims
    size = tuple((n - 1) * s + k - pads[i] - pads[i + dims]
                 for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel_shape, strict=True)))
    small = x.shape[:2] + size
    shape = small if output_shape is None else ints(output_shape)
    limits.check_shape("MaxUnpool", shape, x.dtype)
    places = indices.numpy().reshape(-1)
    if shape != small:                                       # the places count in the smaller output
        places = np.ravel_multi_index(np.unravel_index(places, small), shape)
    return ops.scatter(Tensor(np.zeros(math.prod(shape), x.dtype)), places, x.reshape(-1), axis=0).reshape(shape)


@since(1)
def LpPool(x, *, kernel_shape, p=2, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    dims = len(kernel_shape)
    window = pool_window(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                         tuple(dilations or (1,) * dims), bool(ceil_mode), dims)
    return sum_windows(ops.abs(x) ** p, **window) ** (1 / p)


@since(1)
def GlobalLpPool(x, *, p=2):
    return ops.norm(x, p, tuple(range(2, x.ndim)), True)


@since(1)
def AveragePool(x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, count_include_pad=0,
                auto_pad="NOTSET"):
    dims = len(kernel_shape)
    return ops.avg_pool(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                        bool(ceil_mode), bool(count_include_pad), dims, tuple(dilations or (1,) * dims))


@since(1)
def GlobalAveragePool(x):
    return ops.global_avg_pool(x)


@since(1)
def GlobalMaxPool(x):
    return ops.global_max_pool(x)


@since(7)
def BatchNormalization(x, scale, b, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1, outputs=1):
    if not training_mode:
        return ops.batch_norm(x, mean, var, scale, b, eps=epsilon)
    axes = (0, *range(2, x.ndim))
    batch_mean, batch_var = ops.mean(x, axis=axes), ops.var(x, axis=axes, correction=0)
    y = ops.batch_norm(x, None, None, scale, b, training=True, eps=epsilon)
    moved = (mean * momentum + batch_mean * (1 - momentum), var * momentum + batch_var * (1 - momentum))
    return (y, *moved)[:max(outputs, 1)]


@since(17)
def LayerNormalization(x, scale, b=None, *, axis=-1, epsilon=1e-5, stash_type=1, outputs=1):
    y, mean, var = standardize(x, axes=tuple(range(axis % x.ndim, x.ndim)), eps=epsilon)
    y = y * scale if b is None else y * scale + b
    return (y, mean, ops.rsqrt(var + epsilon))[:outputs] if outputs > 1 else y


@since(23)
def RMSNormalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    return ops.rms_norm(x, x.shape[axis % x.ndim:], eps=epsilon) * scale


@since(9)
def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    mean = ops.mean(x, axis=tuple(axes), keepdims=True)
    return (x - mean) / (ops.sqrt(ops.mean(x * x, axis=tuple(axes), keepdims=True) - mean * mean) + 1e-9)


@since(6)
def InstanceNormalization(x, scale, b, *, epsilon=1e-5):
    return ops.instance_norm(x, scale, b, epsilon)


@since(21)
def GroupNormalization(x, scale, b, *, num_groups, epsilon=1e-5, stash_type=1):
    return ops.group_norm(x, num_groups, scale, b, epsilon)


@since(18)
def GroupNormalization_18(x, scale, b, *, num_groups, epsilon=1e-5):
    """Before opset 21, scale and bias were given once a group."""
    repeats = x.shape[1] // num_groups
    return ops.group_norm(x, num_groups, ops.repeat_interleave(scale, repeats, 0),
                          ops.repeat_interleave(b, repeats, 0), epsilon)


@since(1)
def LRN(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Local response normalisation over `size` channels (Krizhevsky et al., 2012)."""
    before = (size - 1) // 2
    squares = ops.unsqueeze(x * x, 1)
    ones = (1,) * (x.ndim - 1)
    window = sum_windows(squares, kernel=(size, *ones[1:]), stride=ones, dilation=ones,
                         pads=((before, size - 1 - before), *((0, 0),) * (x.ndim - 2)))
    return x / (bias + (alpha / size) * ops.squeeze(window, 1)) ** beta


@since(1)
def LpNormalization(x, *, axis=-1, p=2):
    length = ops.norm(x, p, axis, True)
    return x / ops.where(length == 0.0, 1.0, length)          # a zero stays a zero


@since(13)
def SoftmaxCrossEntropyLoss(scores, labels, weights=None, *, reduction="mean", ignore_index=-100, outputs=1):
    loss = ops.cross_entropy(scores, labels, weights, ignore_index, reduction)
    return loss if outputs == 1 else (loss, ops.log_softmax(scores, axis=1))


@since(13)
def NegativeLogLikelihoodLoss(x, target, weight=None, *, reduction="mean", ignore_index=-100):
    return ops.nll_loss(x, target, weight, ignore_index, reduction)


# --- recurrence: gate orders of ONNX and of `needle_lab` (PyTorch's) ----------------------------------------------------

# ours[k] = ONNX's[order[k]]: iofc -> ifco, zrh -> rzh
GATE_ORDER = {"RNN": (0,), "LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}


def reorder_gates(weight: np.ndarray, kind: str) -> np.ndarray:
    """Rows of (gates * H, ...) from ONNX's order of gates to PyTorch's."""
    parts = np.split(weight, len(GATE_ORDER[kind]))
    return np.concatenate([parts[i] for i in GATE_ORDER[kind]])


def onnx_gates(weight: np.ndarray, kind: str) -> np.ndarray:
    """Rows of (gates * H, ...) from PyTorch's order of gates to ONNX's."""
    parts = np.split(weight, len(GATE_ORDER[kind]))
    return np.concatenate([parts[GATE_ORDER[kind].index(i)] for i in range(len(parts))])


def run_recurrent(layer, x, sequence_lens=None, initial_h=None, initial_c=None, *, layout=0, outputs=1):
    """Call nn.RNN, LSTM or GRU as the ONNX operator: -> Y (T, directions, N, H), Y_h, Y_c."""
    if sequence_lens is not None and set(sequence_lens.tolist()) != {x.shape[1] if layout else x.shape[0]}:
        raise UnsupportedOnnxError("sequence_lens shorter than the sequence are not supported")
    swap = (lambda t: None if t is None else t.transpose(0, 1)) if layout else (lambda t: t)
    initial_h, initial_c = swap(initial_h), swap(initial_c)
    state = initial_h
    if layer.states == 2 and initial_h is not None:
        state = (initial_h, initial_h * 0.0 if initial_c is None else initial_c)
    y, final = layer(swap(x), state)
    y = y.reshape(*y.shape[:2], layer.directions, layer.hidden_size)
    final = final if isinstance(final, tuple) else (final,)
    if layout:                                               # (N, T, directions, H) and (N, directions, H)
        return (y.transpose(0, 1), *(t.transpose(0, 1) for t in final))[:max(outputs, 1)]
    return (y.transpose(1, 2), *final)[:max(outputs, 1)]
