"""ONNX operators of neural networks: convolution, pooling, normalisation, recurrence.

Where weights are initialisers, `needle_lab.onnx.layers` makes real layers of these nodes; the functions here serve
nodes whose weights are computed.
"""

# ruff: noqa: N802    functions are named after ONNX operators

import numpy as np

from ... import ops
from ...errors import UnsupportedOnnxError
from ...ops.pool import sum_windows
from .registry import since


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
    if output_shape or auto_pad not in ("NOTSET", "VALID"):
        raise UnsupportedOnnxError("ConvTranspose: output_shape and auto_pad=SAME are not supported")
    dims = w.ndim - 2
    return ops.conv_transpose(x, w, b, tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                              tuple(output_padding or (0,) * dims), group, tuple(dilations or (1,) * dims))


@since(1)
def MaxPool(x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET",
            storage_order=0, outputs=1):
    if outputs > 1:
        raise UnsupportedOnnxError("MaxPool: the output of indices is not supported")
    dims = len(kernel_shape)
    return ops.max_pool(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                        tuple(dilations or (1,) * dims), bool(ceil_mode), dims)


@since(1)
def AveragePool(x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, count_include_pad=0,
                auto_pad="NOTSET"):
    dims = len(kernel_shape)
    if any(d != 1 for d in dilations or ()):
        raise UnsupportedOnnxError("AveragePool: dilations other than 1 are not supported")
    return ops.avg_pool(x, tuple(kernel_shape), tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                        bool(ceil_mode), bool(count_include_pad), dims)


@since(1)
def GlobalAveragePool(x):
    return ops.global_avg_pool(x)


@since(1)
def GlobalMaxPool(x):
    return ops.global_max_pool(x)


@since(7)
def BatchNormalization(x, scale, b, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1, outputs=1):
    if training_mode or outputs > 1:
        raise UnsupportedOnnxError("BatchNormalization: training_mode=1 with computed weights is not supported")
    return ops.batch_norm(x, mean, var, scale, b, eps=epsilon)


@since(17)
def LayerNormalization(x, scale, b=None, *, axis=-1, epsilon=1e-5, stash_type=1, outputs=1):
    if outputs > 1:
        raise UnsupportedOnnxError("LayerNormalization: the outputs Mean and InvStdDev are not supported")
    y = ops.layer_norm(x, x.shape[axis % x.ndim:], eps=epsilon) * scale
    return y if b is None else y + b


@since(23)
def RMSNormalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    return ops.rms_norm(x, x.shape[axis % x.ndim:], eps=epsilon) * scale


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
    window = sum_windows(squares, kernel=(size, *(1,) * (x.ndim - 2)), stride=(1,) * (x.ndim - 1),
                             pads=((before, size - 1 - before), *((0, 0),) * (x.ndim - 2)))
    return x / (bias + (alpha / size) * ops.squeeze(window, 1)) ** beta


@since(1)
def LpNormalization(x, *, axis=-1, p=2):
    return x / ops.norm(x, p, axis, True)


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
