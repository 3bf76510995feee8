"""Layers that ONNX has as one operator: each is written as that operator, not as what its forward does step by step.

A rule is `(writer, layer, *inputs)`; it falls back on the parts where the opset is older than the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import nn
from ...core.tensor import Tensor
from ...errors import UnsupportedOnnxError
from ...nn.norm import machine_epsilon
from ...ops.conv import pad_pairs, spread
from ..operators.nn import onnx_gates
from .emit import reduced, transposed
from .writer import EMIT, LAYERS, Writer, kind_of

_LOSSES = (nn.NLLLoss, nn.CrossEntropyLoss)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def is_one_operator(module: Any, arguments: list) -> bool:
    """Whether a call of this layer is written as one operator."""
    kind = kind_of(module)
    if kind in _LOSSES:                        # of class numbers; probabilities as target are ordinary arithmetic
        return len(arguments) == 2 and isinstance(arguments[1], Tensor) and arguments[1].dtype.kind in "iu"
    if kind in _TRANSPOSED:                    # one sample without a batch axis gets one in the parts
        return arguments[0].ndim == module.weight.ndim
    return kind in LAYERS


def _writes(*kinds: type) -> Callable[[Callable], Callable]:
    def enter(function: Callable) -> Callable:
        LAYERS.update(dict.fromkeys(kinds, function))
        return function
    return enter


# --- convolution --------------------------------------------------------------------------------------------------------


@_writes(*_TRANSPOSED)
def _conv_transpose(w, layer, x):
    shape, dims = layer.weight.shape, layer.weight.ndim - 2
    stride, dilation = spread(layer.stride, dims, "stride"), spread(layer.dilation, dims, "dilation")
    pads = pad_pairs(layer.padding, dims, shape[2:], dilation)
    return w.emit("ConvTranspose", [w.name(x), w.name(layer.weight), w.name(layer.bias)], kernel_shape=list(shape[2:]),
                  strides=list(stride), pads=[b for b, _ in pads] + [a for _, a in pads], dilations=list(dilation),
                  group=layer.groups, output_padding=list(layer.output_padding))

# --- normalisation ------------------------------------------------------------------------------------------------------


def _affine(w: Writer, layer, size: int, dtype) -> tuple[str, str]:
    """Names of weight and bias; ones and zeros where the layer has none."""
    scale = w.name(layer.weight) if layer.weight is not None else w.floats((size,), 1, dtype)
    return scale, w.name(layer.bias) if layer.bias is not None else w.floats((size,), 0, dtype)


@_writes(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _batch_norm(w, layer, x):
    n, name = layer.num_features, w.name(x)
    scale, shift = _affine(w, layer, n, x.dtype)
    momentum = 1 - (0.1 if layer.momentum is None else layer.momentum)
    training = w.training and layer.training
    if not training and layer.track_running_stats:
        return w.emit("BatchNormalization", [name, scale, shift, w.name(layer.running_mean), w.name(layer.running_var)],
                      epsilon=layer.eps, momentum=momentum)
    if layer.track_running_stats and layer.momentum is None:
        raise UnsupportedOnnxError("export: BatchNorm with momentum=None averages over all batches, which the operator "
                                   "BatchNormalization cannot; give it a momentum, or call model.eval()")
    if not layer.track_running_stats:
        return w.emit("BatchNormalization", [name, scale, shift, w.floats((n,), 0, x.dtype), w.floats((n,), 1, x.dtype)],
                      epsilon=layer.eps, training_mode=1, outputs=3)[0]
    # ONNX moves the running variance by the batch's own, PyTorch and we by n / (n - 1) of it: given (n - 1) / n of the
    # running variance, the operator returns (n - 1) / n of what we want.
    count = w.emit("Div", [w.emit("Size", [name]), w.constant(np.array(n))])
    count = w.cast(count, x.dtype)
    one = w.name(1.0, x.dtype)
    share = w.emit("Div", [w.emit("Sub", [count, one]), count])
    y, mean, var = w.emit("BatchNormalization", [name, scale, shift, w.name(layer.running_mean),
                                                 w.emit("Mul", [w.name(layer.running_var), share])],
                          epsilon=layer.eps, momentum=momentum, training_mode=1, outputs=3)
    w.updates |= {layer.running_mean: mean, layer.running_var: w.emit("Div", [var, share])}
    return y


@_writes(nn.LayerNorm)
def _layer_norm(w, layer, x):
    return EMIT["layer_norm"](w, x, layer.weight, layer.bias, axes=len(layer.normalized_shape), eps=layer.eps)[0]


@_writes(nn.RMSNorm)
def _rms_norm(w, layer, x):
    count, eps = len(layer.normalized_shape), machine_epsilon(x.dtype) if layer.eps is None else layer.eps
    if w.opset >= 23:
        scale = w.name(layer.weight) if layer.weight is not None else w.floats(layer.normalized_shape, 1, x.dtype)
        return w.emit("RMSNormalization", [w.name(x), scale], axis=-count, epsilon=eps)
    mean = reduced(w, "ReduceMean", w.emit("Mul", [w.name(x), w.name(x)]), list(range(x.ndim - count, x.ndim)))
    length = w.emit("Sqrt", [w.emit("Add", [mean, w.name(eps, x.dtype)])])
    y = w.emit("Div", [w.name(x), length])
    return y if layer.weight is None else w.emit("Mul", [y, w.name(layer.weight)])


@_writes(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def _instance_norm(w, layer, x):
    return w.emit("InstanceNormalization", [w.name(x), *_affine(w, layer, layer.num_features, x.dtype)], epsilon=layer.eps)


@_writes(nn.GroupNorm)
def _group_norm(w, layer, x):
    """Before opset 21, where GroupNormalization had one scale a group, the way in which PyTorch writes it."""
    groups, size = layer.num_groups, layer.num_channels
    if w.opset >= 21:
        return w.emit("GroupNormalization", [w.name(x), *_affine(w, layer, size, x.dtype)], num_groups=groups,
                      epsilon=layer.eps)
    grouped = w.emit("Reshape", [w.name(x), w.ints(0, groups, -1)])
    unit = w.emit("InstanceNormalization", [grouped, w.floats((groups,), 1, x.dtype), w.floats((groups,), 0, x.dtype)],
                  epsilon=layer.eps)
    y = w.emit("Reshape", [unit, w.emit("Shape", [w.name(x)])])
    if layer.weight is None:
        return y
    shape = (size, *(1,) * (x.ndim - 2))
    for op, p in (("Mul", layer.weight), ("Add", layer.bias)):
        y = w.emit(op, [y, w.weight(w.path(p), (p,), lambda a: a.reshape(shape), "by channel")])
    return y

# --- recurrence ---------------------------------------------------------------------------------------------------------


@_writes(nn.RNN, nn.LSTM, nn.GRU)
def _recurrent(w, layer, x, *state):
    """One operator a layer; ONNX's order of axes, gates and weights differs from PyTorch's, which the layer has."""
    directions, single = layer.directions, x.ndim == 2
    y, starts = w.name(x), [w.name(s) for s in state]
    if single:
        y, starts = (w.emit("Unsqueeze", [y, w.ints(1)])), [w.emit("Unsqueeze", [s, w.ints(1)]) for s in starts]
    elif layer.batch_first:
        y = transposed(w, y, [1, 0, 2])
    finals: list[list[str]] = [[] for _ in range(layer.states)]
    for k in range(layer.num_layers):
        of = slice(k * directions, (k + 1) * directions)
        own = [s if layer.num_layers == 1 else w.emit("Slice", [s, w.ints(of.start), w.ints(of.stop), w.ints(0)])
               for s in starts]
        y, *last = _one_layer(w, layer, k, y, own)
        for found, s in zip(finals, last, strict=True):
            found.append(s)
        y = _directions_joined(w, layer, y, w.shape(x))
    ends = [f[0] if len(f) == 1 else w.emit("Concat", f, axis=0) for f in finals]
    if single:
        y, ends = w.emit("Squeeze", [y, w.ints(1)]), [w.emit("Squeeze", [s, w.ints(1)]) for s in ends]
    elif layer.batch_first:
        y = transposed(w, y, [1, 0, 2])
    return y, *ends


def _one_layer(w: Writer, layer: Any, k: int, x: str, state: list[str]) -> tuple[str, ...]:
    """-> Y (T, directions, N, H), and the last states."""
    kind, suffixes = kind_of(layer).__name__, layer._suffixes(k)

    def stacked(letter: str, *names: str) -> str:
        """ONNX has the weights of both directions in one tensor, and the two biases one behind the other."""
        parts = tuple(getattr(layer, name + suffix) for suffix in suffixes for name in names)
        path, n = w.path(parts[0]), len(names)
        name = f"{path.rpartition('.')[0]}.{letter}_l{k}".removeprefix(".") if path else ""
        return w.weight(name, parts, lambda *arrays: np.stack([
            np.concatenate([onnx_gates(a, kind) for a in arrays[i:i + n]]) for i in range(0, len(arrays), n)]), letter)
    weights = [stacked("W", "weight_ih"), stacked("R", "weight_hh"),
               stacked("B", "bias_ih", "bias_hh") if layer.use_bias else ""]
    special: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    if kind == "RNN":
        special["activations"] = [layer.nonlinearity.title()] * layer.directions
    return w.emit(kind, [x, *weights, "", *state], outputs=1 + layer.states, hidden_size=layer.hidden_size,
                  direction="bidirectional" if layer.bidirectional else "forward", **special)


def _directions_joined(w, layer, y: str, of: tuple[int, ...]) -> str:
    """Y (T, directions, N, H) -> (T, N, directions * H), and what undoes it is known to undo it."""
    apart = transposed(w, y, [0, 2, 1, 3])
    joined = w.emit("Squeeze", [y, w.ints(1)]) if layer.directions == 1 else \
        w.emit("Reshape", [apart, w.ints(0, 0, layer.directions * layer.hidden_size)])
    batch, steps = (1, of[0]) if len(of) == 2 else (of[0], of[1]) if layer.batch_first else (of[1], of[0])
    w.reshaped[joined] = apart, (steps, batch, layer.directions, layer.hidden_size)
    return joined

# --- losses -------------------------------------------------------------------------------------------------------------


@_writes(*_LOSSES)
def _loss(w, layer, x, target):
    if getattr(layer, "label_smoothing", 0.0):
        raise UnsupportedOnnxError("export: ONNX's cross entropy has no label smoothing; pass probabilities as the target")
    op = "SoftmaxCrossEntropyLoss" if isinstance(layer, nn.CrossEntropyLoss) else "NegativeLogLikelihoodLoss"
    ignored = layer.ignore_index
    weight = "" if layer.weight is None else w.name(layer.weight)
    return w.emit(op, [w.name(x), w.name(target), weight], reduction=layer.reduction, ignore_index=ignored)
