"""Normalisation: by batch, layer, group, instance and neighbourhood."""

# ruff: noqa: N802    functions are named after ONNX operators

from __future__ import annotations

import numpy as np

from ... import nn, ops
from ...core.dtypes import machine_epsilon
from ...errors import UnsupportedOnnxError
from ...ops.normalization import local_response_norm, standardize
from .layers import Fill, Layer, NodeView, is_neutral, with_bias
from .table import layer_of, since, writes, writes_layer


@since(7, family="norm", rank="first", numbers=3)
def BatchNormalization(x, scale, b, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1, outputs=1):
    if not training_mode:
        return ops.batch_norm(x, mean, var, scale, b, eps=epsilon)
    axes = (0, *range(2, x.ndim))
    batch_mean, batch_var = ops.mean(x, axis=axes), ops.var(x, axis=axes, correction=0)
    y = ops.batch_norm(x, None, None, scale, b, training=True, eps=epsilon)
    moved = (mean * momentum + batch_mean * (1 - momentum), var * momentum + batch_var * (1 - momentum))
    return (y, *moved)[:max(outputs, 1)]


@since(17, family="norm", rank="first")
def LayerNormalization(x, scale, b=None, *, axis=-1, epsilon=1e-5, stash_type=1, outputs=1):
    y, mean, var = standardize(x, axes=tuple(range(axis % x.ndim, x.ndim)), eps=epsilon)
    y = y * scale if b is None else y * scale + b
    return (y, mean, ops.rsqrt(var + epsilon))[:outputs] if outputs > 1 else y


@since(23, family="norm", rank="first")
def RMSNormalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    return ops.rms_norm(x, x.shape[axis % x.ndim:], eps=epsilon) * scale


@since(9, family="norm", rank="first")
def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    mean = ops.mean(x, axis=tuple(axes), keepdims=True)
    return (x - mean) / (ops.sqrt(ops.mean(x * x, axis=tuple(axes), keepdims=True) - mean * mean) + 1e-9)


@since(6, family="norm", rank="first")
def InstanceNormalization(x, scale, b, *, epsilon=1e-5):
    return ops.instance_norm(x, weight=scale, bias=b, eps=epsilon)


@since(21, family="norm", rank="first")
def GroupNormalization(x, scale, b, *, num_groups, epsilon=1e-5, stash_type=1):
    return ops.group_norm(x, num_groups, scale, b, epsilon)


@since(18)
def GroupNormalization_18(x, scale, b, *, num_groups, epsilon=1e-5):
    """Before opset 21, scale and bias were given once a group."""
    repeats = x.shape[1] // num_groups
    return ops.group_norm(x, num_groups, ops.repeat_interleave(scale, repeats, 0),
                          ops.repeat_interleave(b, repeats, 0), epsilon)


@since(1, family="norm", rank="first")
def LRN(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Local response normalisation over `size` channels (Krizhevsky et al., 2012)."""
    if size % 2:
        return local_response_norm(x, size, alpha, beta, bias)
    flipped = local_response_norm(ops.flip(x, axis=1), size, alpha, beta, bias)      # ONNX's odd neighbour is the other one
    return ops.flip(flipped, axis=1)


@since(1, family="norm", rank="first")
def LpNormalization(x, *, axis=-1, p=2):
    length = ops.norm(x, p, axis, True)
    return x / ops.where(length == 0.0, 1.0, length)          # a zero stays a zero

# --- as layers ------------------------------------------------------------------------------------------------------------


@layer_of(BatchNormalization)
def _batch_norm_layer(node: NodeView) -> Layer | None:
    scale = node.weights[1]
    if scale is None or any(w is None for w in node.weights[2:5]) or node.outputs > 1:
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(node.rank or 4)
    if kind is None:
        return None
    affine = not is_neutral(node, 1, 2)
    module = kind(len(scale), node.attrs.get("epsilon", 1e-5),
                  round(1.0 - node.attrs.get("momentum", 0.9), 6), affine=affine)
    fills = {"weight": Fill(1), "bias": Fill(2)} if affine else {}
    return Layer(module, fills | {"running_mean": Fill(3), "running_var": Fill(4)},
                 call=_by_batch_statistics if node.attrs.get("training_mode") else None)


def _by_batch_statistics(module, x):
    """training_mode=1: normalised by the batch's own statistics in either mode; train() moves the running ones too."""
    if module.training:
        return module(x)
    return ops.batch_norm(x, None, None, module.weight, module.bias, training=True, eps=module.eps)


@layer_of(LayerNormalization)
def _layer_norm_layer(node: NodeView) -> Layer | None:
    weight, axis = node.weights[1], node.attrs.get("axis", -1)
    if weight is None or node.outputs > 1 or (axis >= 0 and node.rank is None):
        return None
    count = -axis if axis < 0 else node.rank - axis
    if weight.ndim != count:
        return None
    eps = node.attrs.get("epsilon", 1e-5)
    if is_neutral(node, 1, 2):
        return Layer(nn.LayerNorm(weight.shape, eps, elementwise_affine=False), {})
    return with_bias(node, nn.LayerNorm(weight.shape, eps, bias=len(node.inputs) > 2), {"weight": Fill(1)})


@layer_of(RMSNormalization)
def _rms_norm_layer(node: NodeView) -> Layer | None:
    weight, axis = node.weights[1], node.attrs.get("axis", -1)
    if weight is None or (axis >= 0 and node.rank is None) or weight.ndim != (-axis if axis < 0 else node.rank - axis):
        return None
    eps, affine = node.attrs.get("epsilon", 1e-5), not is_neutral(node, 1, 2)
    return Layer(nn.RMSNorm(weight.shape, eps, elementwise_affine=affine), {"weight": Fill(1)} if affine else {})


@layer_of(GroupNormalization)
def _group_norm_layer(node: NodeView) -> Layer | None:
    """Also PyTorch's five nodes before opset 21, which `joins` brings here with scale and bias (C, 1, 1)."""
    scale, bias, groups = node.weights[1], node.weights[2], node.attrs["num_groups"]
    if scale is None or bias is None or (scale.ndim == 1 and node.opset < 21):       # one number a group, not a channel
        return None
    module = nn.GroupNorm(groups, scale.size, node.attrs.get("epsilon", 1e-5), affine=not is_neutral(node, 1, 2))
    if not module.affine:
        return Layer(module, {})
    layout = "same" if scale.ndim == 1 else "flat"
    return Layer(module, {"weight": Fill(1, layout, np.ravel), "bias": Fill(2, layout, np.ravel)})


@layer_of(InstanceNormalization)
def _instance_norm_layer(node: NodeView) -> Layer | None:
    scale = node.weights[1]
    if scale is None or node.weights[2] is None or node.rank not in (3, 4, 5):
        return None
    affine = not is_neutral(node, 1, 2)
    module = getattr(nn, f"InstanceNorm{node.rank - 2}d")(len(scale), node.attrs.get("epsilon", 1e-5), affine=affine)
    return Layer(module, {"weight": Fill(1), "bias": Fill(2)} if affine else {})

# --- written --------------------------------------------------------------------------------------------------------------


def _affine(w, layer, size: int, dtype) -> tuple:
    """Weight and bias; ones and zeros where the layer has none."""
    return (w.floats((size,), 1, dtype) if layer.weight is None else layer.weight,
            w.floats((size,), 0, dtype) if layer.bias is None else layer.bias)


@writes("apply_batch_norm")
def _apply_batch_norm(w, x, mean, var, weight=None, bias=None, *, eps):
    scale = w.floats(mean.shape, 1, x.dtype) if weight is None else weight
    shift = w.floats(mean.shape, 0, x.dtype) if bias is None else bias
    return w.BatchNormalization(x, scale, shift, mean, var, epsilon=eps)


@writes("batch_norm")
def _batch_norm(w, x, weight=None, bias=None, *, eps):
    shape = w.shape(x)[1:2]
    scale, shift = (w.floats(shape, n, x.dtype) if p is None else p for p, n in ((weight, 1), (bias, 0)))
    running = [w.floats(shape, n, x.dtype) for n in (0, 1)]                 # of which momentum=0 keeps nothing
    return w.BatchNormalization(x, scale, shift, *running, epsilon=eps, momentum=0.0, training_mode=1, outputs=3)


@writes_layer(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def _batch_norm_by_layer(w, layer, x):
    n, name = layer.num_features, w.name(x)
    scale, shift = _affine(w, layer, n, x.dtype)
    momentum = 1 - (0.1 if layer.momentum is None else layer.momentum)
    training = w.training and layer.training
    if not training and layer.track_running_stats:
        return w.BatchNormalization(name, scale, shift, layer.running_mean, layer.running_var, epsilon=layer.eps,
                                    momentum=momentum)
    if layer.track_running_stats and layer.momentum is None:
        raise UnsupportedOnnxError("export: BatchNorm with momentum=None averages over all batches, which the operator "
                                   "BatchNormalization cannot; give it a momentum, or call model.eval()")
    if not layer.track_running_stats:
        return w.BatchNormalization(name, scale, shift, w.floats((n,), 0, x.dtype), w.floats((n,), 1, x.dtype),
                                    epsilon=layer.eps, training_mode=1, outputs=3)[0]
    # ONNX moves the running variance by the batch's own, PyTorch and we by n / (n - 1) of it: given (n - 1) / n of the
    # running variance, the operator returns (n - 1) / n of what we want.
    count = w.cast(w.Div(w.Size(name), w.constant(np.array(n))), x.dtype)
    share = w.Div(w.Sub(count, w.name(1.0, x.dtype)), count)
    y, mean, var = w.BatchNormalization(name, scale, shift, layer.running_mean, w.Mul(layer.running_var, share),
                                        epsilon=layer.eps, momentum=momentum, training_mode=1, outputs=3)
    w.updates |= {layer.running_mean: mean, layer.running_var: w.Div(var, share)}
    return y


@writes("layer_norm")
def _layer_norm(w, x, weight=None, bias=None, *, axes, eps):
    if w.opset >= 17:
        scale = w.floats(w.shape(x)[x.ndim - axes:], 1, x.dtype) if weight is None else weight
        return w.LayerNormalization(x, scale, bias, axis=-axes, epsilon=eps), "", ""
    y = _standardized(w, x, list(range(x.ndim - axes, x.ndim)), eps)[0]
    y = y if weight is None else w.Mul(y, weight)
    return y if bias is None else w.Add(y, bias), "", ""


@writes_layer(nn.LayerNorm)
def _layer_norm_by_layer(w, layer, x):
    return _layer_norm(w, x, layer.weight, layer.bias, axes=len(layer.normalized_shape), eps=layer.eps)[0]


@writes("standardize")
def _standardize(w, x, *, axes, eps):
    return _standardized(w, x, sorted(a % x.ndim for a in axes), eps)


def _standardized(w, x, axes: list[int], eps: float) -> tuple[str, str, str]:
    """(x - mean) / sqrt(var + eps) by its parts, mean, var."""
    mean = w.reduced(w.ReduceMean, x, axes)
    centered = w.Sub(x, mean)
    var = w.reduced(w.ReduceMean, w.Mul(centered, centered), axes)
    return w.Div(centered, w.Sqrt(w.Add(var, w.name(eps, x.dtype)))), mean, var


@writes_layer(nn.RMSNorm)
def _rms_norm(w, layer, x):
    count, eps = len(layer.normalized_shape), machine_epsilon(x.dtype) if layer.eps is None else layer.eps
    if w.opset >= 23:
        scale = w.floats(layer.normalized_shape, 1, x.dtype) if layer.weight is None else layer.weight
        return w.RMSNormalization(x, scale, axis=-count, epsilon=eps)
    mean = w.reduced(w.ReduceMean, w.Mul(x, x), list(range(x.ndim - count, x.ndim)))
    y = w.Div(x, w.Sqrt(w.Add(mean, w.name(eps, x.dtype))))
    return y if layer.weight is None else w.Mul(y, layer.weight)


@writes_layer(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def _instance_norm(w, layer, x):
    if layer.track_running_stats and not layer.training:
        return w.BatchNormalization(x, *_affine(w, layer, layer.num_features, x.dtype), layer.running_mean,
                                    layer.running_var, epsilon=layer.eps)
    return w.InstanceNormalization(x, *_affine(w, layer, layer.num_features, x.dtype), epsilon=layer.eps)


@writes_layer(nn.GroupNorm)
def _group_norm(w, layer, x):
    """Before opset 21, where GroupNormalization had one scale a group, the way in which PyTorch writes it."""
    groups, size = layer.num_groups, layer.num_channels
    if w.opset >= 21:
        return w.GroupNormalization(x, *_affine(w, layer, size, x.dtype), num_groups=groups, epsilon=layer.eps)
    grouped = w.Reshape(x, w.ints(0, groups, -1))
    unit = w.InstanceNormalization(grouped, w.floats((groups,), 1, x.dtype), w.floats((groups,), 0, x.dtype),
                                   epsilon=layer.eps)
    y = w.Reshape(unit, w.Shape(x))
    if layer.weight is None:
        return y
    shape = (size, *(1,) * (x.ndim - 2))
    for operator, p in ((w.Mul, layer.weight), (w.Add, layer.bias)):
        y = y if p is None else operator(y, w.weight(w.path(p), (p,), lambda a: a.reshape(shape), "by channel"))
    return y
