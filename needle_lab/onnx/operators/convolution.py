"""Convolution and its transpose."""

# ruff: noqa: N802    functions are named after ONNX operators

from __future__ import annotations

from ... import nn, ops
from ...errors import UnsupportedOnnxError
from ...ops.windows import pad_pairs, spread
from .layers import Fill, Layer, NodeView, with_bias
from .table import layer_of, since, writes, writes_layer


def padding_of(pads, auto_pad: str, dims: int):
    """ONNX's pads (all before, all after) and auto_pad -> what `ops.conv` and the pools take."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return auto_pad.lower()
    if auto_pad == "VALID" or not pads:
        return 0
    before, after = tuple(pads[:dims]), tuple(pads[dims:])
    return before if before == after else tuple(zip(before, after, strict=True))


def pads_of(pairs) -> list[int]:
    """Pairs (before, after) -> ONNX's pads: all before, all after."""
    return [b for b, _ in pairs] + [a for _, a in pairs]


@since(1, family="linear", rank="first", weights=(1,))
def Conv(x, w, b=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"):
    dims = w.ndim - 2
    return ops.conv(x, w, b, tuple(strides or (1,) * dims), padding_of(pads, auto_pad, dims),
                    tuple(dilations or (1,) * dims), group)


def _dims(node: NodeView) -> int:
    """Spatial dimensions of a convolution; 0 where its weight is computed."""
    return 0 if node.weights[1] is None else node.weights[1].ndim - 2


@layer_of(Conv)
def _layer(node: NodeView) -> Layer | None:
    weight, dims = node.weights[1], _dims(node)
    if weight is None or dims not in (1, 2, 3):
        return None
    a, group = node.attrs, node.attrs.get("group", 1)
    module = getattr(nn, f"Conv{dims}d")(
        weight.shape[1] * group, weight.shape[0], weight.shape[2:], tuple(a.get("strides") or (1,) * dims),
        padding_of(a.get("pads"), a.get("auto_pad", "NOTSET"), dims), tuple(a.get("dilations") or (1,) * dims), group,
        bias=len(node.inputs) > 2)
    return with_bias(node, module, {"weight": Fill(1)})


@writes("convolution")
def _conv(w, x, weight, bias=None, *, stride, pads, dilation, groups):
    if any(p < 0 for pair in pads for p in pair):                    # cropped first: ONNX's Conv only pads
        x = w.Pad(x, w.ints(*pads_of([(0, 0), (0, 0), *((min(b, 0), min(a, 0)) for b, a in pads)])))
        pads = [(max(b, 0), max(a, 0)) for b, a in pads]
    return w.Conv(x, weight, bias, kernel_shape=list(weight.shape[2:]), strides=list(stride), pads=pads_of(pads),
                  dilations=list(dilation), group=groups)


@since(1, family="linear", rank="first", weights=(1,))
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


@layer_of(ConvTranspose)
def _transposed_layer(node: NodeView) -> Layer | None:
    weight, a = node.weights[1], node.attrs
    if weight is None or _dims(node) not in (1, 2, 3) or a.get("output_shape") or a.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    dims, group = _dims(node), a.get("group", 1)
    module = getattr(nn, f"ConvTranspose{dims}d")(
        weight.shape[0], weight.shape[1] * group, weight.shape[2:], tuple(a.get("strides") or (1,) * dims),
        padding_of(a.get("pads"), "NOTSET", dims), tuple(a.get("output_padding") or (0,) * dims), group,
        bias=len(node.inputs) > 2, dilation=tuple(a.get("dilations") or (1,) * dims))
    return with_bias(node, module, {"weight": Fill(1)})


@writes("convolution_input")
def _conv_transpose(w, g, weight, *, size, stride, pads, dilation, groups):
    if any(p < 0 for pair in pads for p in pair):
        raise UnsupportedOnnxError("export: a transposed convolution that adds to its result has no simple ONNX form")
    extra = [s - ((n - 1) * t + d * (k - 1) + 1 - b - a) for s, n, t, d, k, (b, a)
             in zip(size, w.shape(g)[2:], stride, dilation, weight.shape[2:], pads, strict=True)]
    return w.ConvTranspose(g, weight, kernel_shape=list(weight.shape[2:]), strides=list(stride), pads=pads_of(pads),
                           dilations=list(dilation), group=groups, output_padding=extra)


@writes_layer(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _conv_transpose_layer(w, layer, x):
    shape, dims = layer.weight.shape, layer.weight.ndim - 2
    stride, dilation = spread(layer.stride, dims, "stride"), spread(layer.dilation, dims, "dilation")
    pads = pad_pairs(layer.padding, dims, shape[2:], dilation)
    return w.ConvTranspose(x, layer.weight, layer.bias, kernel_shape=list(shape[2:]), strides=list(stride),
                           pads=pads_of(pads), dilations=list(dilation), group=layer.groups,
                           output_padding=list(layer.output_padding))
