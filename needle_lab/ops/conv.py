"""Convolution in any number of dimensions, and its two gradients, as three ops that are each other's derivatives.

    y  = convolution(x, w)             input and weight  -> output
    dx = convolution_input(g, w)       output and weight -> input    (the transposed convolution)
    dw = convolution_weight(x, g)      input and output  -> weight

One sum of products x * w * g stands behind all three, so the gradient of any of them is written with the other two,
and second derivatives need nothing new. Layouts are PyTorch's: x (N, C, *size), w (O, C / groups, *kernel).
"""

import math

import numpy as np

from ..core.graph import backward_kernel, op
from ..errors import ShapeError
from ..kernels.numpy.convolution.choose import choose
from ..kernels.numpy.convolution.strategies import batch_last
from .reduce import sum as sum_
from .windows import output_size, pad_pairs, spread

# --- the three ops --------------------------------------------------------------------------------------------------


@op(onnx="Conv")
def convolution(x, weight, bias=None, *, stride, pads, dilation, groups):
    """Sum over channels and kernel places of x * weight.  x (N, C, *size), weight (O, C / groups, *kernel), bias (O)."""
    _check(x.shape, weight.shape, groups, bias)
    kernel = weight.shape[2:]
    out = output_size(x.shape[2:], kernel, stride, pads, dilation)
    if min(out, default=1) < 0 or (min(out, default=1) < 1 and min(x.shape[2:], default=1) > 0):
        raise ShapeError(f"convolution: a kernel of {kernel} with dilation {dilation} does not fit into an input of "
                         f"{x.shape[2:]} padded by {pads}")
    way = choose(x.shape, weight.shape, stride, pads, dilation, groups, x.dtype)
    y = way.run(x, way.prepare(weight))
    if bias is not None:
        y += bias.reshape(-1, *(1,) * len(kernel))
    return y


@op(onnx=None)
def convolution_input(g, weight, *, size, stride, pads, dilation, groups):
    """The map of `size` whose convolution has gradient g: each output value spread over its window.

    g (N, O, *out), weight (O, C / groups, *kernel) -> (N, C, *size).
    """
    shape = (g.shape[0], weight.shape[1] * groups, *size)
    way = choose(shape, weight.shape, stride, pads, dilation, groups, g.dtype, what="input")
    return way.run(g, way.prepare(weight))


@op(onnx=None)
def convolution_weight(x, g, *, kernel, stride, pads, dilation, groups):
    """The gradient of the weight: x's windows times g, summed over samples and places.

    x (N, C, *size), g (N, O, *out) -> (O, C / groups, *kernel).
    """
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    return choose(x.shape, shape, stride, pads, dilation, groups, x.dtype, what="weight").run(x, g)


@convolution.gradient
def _(g, _y, x, weight, bias=None, **geometry):
    channels = (0, *range(2, g.ndim))
    return (lambda: convolution_input(g, weight, size=x.shape[2:], **geometry),
            lambda: convolution_weight(x, g, kernel=weight.shape[2:], **geometry),
            lambda: sum_(g, axis=channels))


@backward_kernel(convolution)
def _(needs, g, _y, x, weight, bias=None, **geometry):
    """The same three gradients, without a tensor and an op for each."""
    return (convolution_input.forward(g, weight, size=x.shape[2:], **geometry) if needs[0] else None,
            convolution_weight.forward(x, g, kernel=weight.shape[2:], **geometry) if needs[1] else None,
            _channel_sums(g) if bias is not None and needs[2] else None)


def _channel_sums(g):
    """The sum of each channel, along the memory order: runs of a map, or of a channel where the batch lies last."""
    channels, rest = g.shape[1], math.prod(g.shape[2:])
    if g.flags.c_contiguous:
        return np.add.reduce(np.add.reduce(g.reshape(len(g), channels, rest), 2), 0)
    return batch_last(g).reshape(channels, len(g) * rest).sum(1)


@convolution_input.gradient
def _(dx, _y, g, weight, size, **geometry):
    return (lambda: convolution(dx, weight, **geometry),
            lambda: convolution_weight(dx, g, kernel=weight.shape[2:], **geometry))


@convolution_weight.gradient
def _(dw, _y, x, g, kernel, **geometry):
    return (lambda: convolution_input(g, dw, size=x.shape[2:], **geometry),
            lambda: convolution(x, dw, **geometry))


def _check(x, weight, groups, bias) -> None:
    if len(x) != len(weight):
        raise ShapeError(f"convolution: input {x} and weight {weight} need the same number of axes: "
                         "(N, C, *size) and (O, C / groups, *kernel)")
    if x[1] != weight[1] * groups or weight[0] % groups:
        raise ShapeError(f"convolution: input {x} has {x[1]} channels; weight {weight} with groups={groups} takes "
                         f"{weight[1] * groups} and needs outputs divisible by groups")
    if bias is not None and bias.shape != (weight[0],):
        raise ShapeError(f"convolution: bias has shape {bias.shape}, expected ({weight[0]},)")

# --- the functions that people call ---------------------------------------------------------------------------------


def conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution (cross-correlation, as everywhere in deep learning) in as many dimensions as weight has.

    x (N, C, *size) or (C, *size), weight (O, C / groups, *kernel), bias (O) -> (N, O, *out).
    padding: see `pad_pairs`.  torch.nn.functional.conv1d/2d/3d, ONNX Conv.
    """
    dims = weight.ndim - 2
    if x.ndim == dims + 1:
        return conv(x.reshape(1, *x.shape), weight, bias, stride, padding, dilation, groups)[0]
    if x.ndim != dims + 2:
        raise ShapeError(f"conv: input {x.shape} does not fit weight {weight.shape}; expected (N, C, "
                         f"{', '.join('DHW'[-dims:])})")
    stride, dilation = spread(stride, dims, "stride"), spread(dilation, dims, "dilation")
    pads = pad_pairs(padding, dims, weight.shape[2:], dilation, x.shape[2:], stride)
    return convolution(x, weight, bias, stride=stride, pads=pads, dilation=dilation, groups=groups)


conv1d = conv2d = conv3d = conv


def conv_transpose(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution: the input gradient of a convolution, used forward.

    x (N, C, *size), weight (C, O / groups, *kernel), bias (O) -> (N, O, *out), out = (size - 1) stride + reach + 1 -
    padding + output_padding.  torch.nn.functional.conv_transpose1d/2d/3d, ONNX ConvTranspose.
    """
    dims = weight.ndim - 2
    if x.ndim == dims + 1:
        return conv_transpose(x.reshape(1, *x.shape), weight, bias, stride, padding, output_padding, groups, dilation)[0]
    stride, dilation = spread(stride, dims, "stride"), spread(dilation, dims, "dilation")
    extra = spread(output_padding, dims, "output_padding")
    if x.ndim != dims + 2 or x.shape[1] != weight.shape[0]:
        raise ShapeError(f"conv_transpose: input {x.shape} does not fit weight {weight.shape}; expected "
                         f"(N, {weight.shape[0]}, {', '.join('DHW'[-dims:])})")
    pads = pad_pairs(padding, dims, weight.shape[2:], dilation)
    size = tuple((n - 1) * s + d * (k - 1) + 1 - b - a + e for n, s, d, k, (b, a), e
                 in zip(x.shape[2:], stride, dilation, weight.shape[2:], pads, extra, strict=True))
    pads = tuple((b, a - e) for (b, a), e in zip(pads, extra, strict=True))
    y = convolution_input(x, weight, size=size, stride=stride, pads=pads, dilation=dilation, groups=groups)
    return y if bias is None else y + bias.reshape(-1, *(1,) * dims)


conv_transpose1d = conv_transpose2d = conv_transpose3d = conv_transpose
