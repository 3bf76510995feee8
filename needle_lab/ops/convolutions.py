"""Convolution in any number of dimensions, and its two gradients, as three ops that are each other's derivatives.

    y  = convolution(x, w)             input and weight  -> output
    dx = convolution_input(dy, w)      output and weight -> input    (the transposed convolution)
    dw = convolution_weight(x, dy)     input and output  -> weight

One sum of products x * w * dy stands behind all three, so the gradient of any of them is written with the other two,
and second derivatives need nothing new. Layouts are PyTorch's: x (N, C, *size), w (O, C / groups, *kernel).
"""

import math
from typing import Any

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Padding, Pads, Shape, Sizes
from ..errors import ShapeError
from .reduce import sum as sum_
from .windows import add_windows, pad_pairs, spread, windows

# --- the three ops --------------------------------------------------------------------------------------------------


@op(onnx="Conv")
def convolution(x: Array, weight: Array, bias: Array | None = None, *, stride: Shape, pads: Pads, dilation: Shape,
                groups: int) -> Array:
    """y[n, o, p] = sum over c, k of x[n, c, stride * p + dilation * k - padding] * weight[o, c, k]  (+ bias[o]).

    x (N, C, *size), weight (O, C / groups, *kernel), bias (O) -> (N, O, *out). p and k run over places.
    """
    check(x.shape, weight.shape, bias, groups)
    seen = windows(x, weight.shape[2:], stride, pads, dilation)
    out = seen.shape[2:x.ndim]
    if 0 in out and 0 not in x.shape[2:]:
        raise no_window(x.shape, weight.shape, pads, dilation)
    columns = seen.reshape(len(x), groups, weight.shape[1], math.prod(out), math.prod(weight.shape[2:]))
    rows = weight.reshape(groups, len(weight) // groups, *columns.shape[2::2])
    y = np.einsum("ngcpk,gock->ngop", columns, rows, optimize=True)
    y = y.reshape(len(x), len(weight), *out)
    return y if bias is None else y + bias.reshape(-1, *(1,) * len(out))


@op()
def convolution_input(grad: Array, weight: Array, *, size: Shape, stride: Shape, pads: Pads, dilation: Shape,
                      groups: int) -> Array:
    """The map of `size` whose convolution has gradient `grad`: each output value spread over its window.

    grad (N, O, *out), weight (O, C / groups, *kernel) -> (N, C, *size).
    """
    n, (_, channels, *kernel), out = len(grad), weight.shape, grad.shape[2:]
    g = grad.reshape(n, groups, len(weight) // groups, math.prod(out))
    rows = weight.reshape(groups, len(weight) // groups, channels, math.prod(kernel))
    columns = np.einsum("ngop,gock->ngcpk", g, rows, optimize=True)
    return add_windows(columns.reshape(n, groups * channels, *out, *kernel), size, kernel, stride, pads, dilation)


@op()
def convolution_weight(x: Array, grad: Array, *, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape,
                       groups: int) -> Array:
    """The gradient of the weight: x's windows times `grad`, summed over samples and places.

    x (N, C, *size), grad (N, O, *out) -> (O, C / groups, *kernel).
    """
    n, channels, outputs, places = len(x), x.shape[1] // groups, grad.shape[1], math.prod(grad.shape[2:])
    columns = windows(x, kernel, stride, pads, dilation).reshape(n, groups, channels, places, math.prod(kernel))
    g = grad.reshape(n, groups, outputs // groups, places)
    return np.einsum("ngcpk,ngop->gock", columns, g, optimize=True).reshape(outputs, channels, *kernel)


@convolution.gradient("x")
def convolution_to_x(g: Tensor, x: Tensor, weight: Tensor, **geometry: Any) -> Tensor:
    return convolution_input(g, weight, size=x.shape[2:], **geometry)


@convolution.gradient("weight")
def convolution_to_weight(g: Tensor, x: Tensor, weight: Tensor, **geometry: Any) -> Tensor:
    return convolution_weight(x, g, kernel=weight.shape[2:], **geometry)


@convolution.gradient("bias")
def convolution_to_bias(g: Tensor) -> Tensor:
    return sum_(g, axis=(0, *range(2, g.ndim)))


@convolution_input.gradient("grad")
def convolution_input_to_grad(g: Tensor, weight: Tensor, stride: Shape, pads: Pads, dilation: Shape, groups: int) -> Tensor:
    return convolution(g, weight, stride=stride, pads=pads, dilation=dilation, groups=groups)


@convolution_input.gradient("weight")
def convolution_input_to_weight(g: Tensor, grad: Tensor, weight: Tensor, stride: Shape, pads: Pads, dilation: Shape,
                                groups: int) -> Tensor:
    return convolution_weight(g, grad, kernel=weight.shape[2:], stride=stride, pads=pads, dilation=dilation, groups=groups)


@convolution_weight.gradient("x")
def convolution_weight_to_x(g: Tensor, x: Tensor, grad: Tensor, stride: Shape, pads: Pads, dilation: Shape,
                            groups: int) -> Tensor:
    return convolution_input(grad, g, size=x.shape[2:], stride=stride, pads=pads, dilation=dilation, groups=groups)


@convolution_weight.gradient("grad")
def convolution_weight_to_grad(g: Tensor, x: Tensor, stride: Shape, pads: Pads, dilation: Shape, groups: int) -> Tensor:
    return convolution(x, g, stride=stride, pads=pads, dilation=dilation, groups=groups)


def check(x: Shape, weight: Shape, bias: Array | None, groups: int) -> None:
    """ShapeError where input, weight and bias do not fit together."""
    if len(x) != len(weight):
        raise ShapeError(f"convolution: input {x} and weight {weight} need the same number of axes: "
                         "(N, C, *size) and (O, C / groups, *kernel)")
    if x[1] != weight[1] * groups or weight[0] % groups:
        raise ShapeError(f"convolution: input {x} has {x[1]} channels; weight {weight} with groups={groups} takes "
                         f"{weight[1] * groups} and needs outputs divisible by groups")
    if bias is not None and bias.shape != (weight[0],):
        raise ShapeError(f"convolution: bias has shape {bias.shape}, expected ({weight[0]},)")


def no_window(x: Shape, weight: Shape, pads: Pads, dilation: Shape) -> ShapeError:
    """The error for a kernel that fits nowhere."""
    return ShapeError(f"convolution: a kernel of {weight[2:]} with dilation {dilation} does not fit into an input of "
                      f"{x[2:]} padded by {pads}")

# --- the functions that people call ---------------------------------------------------------------------------------


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Padding = 0, dilation: Sizes = 1,
         groups: int = 1) -> Tensor:
    """Convolution (cross-correlation, as everywhere in deep learning) in as many dimensions as weight has.

    x (N, C, *size) or (C, *size), weight (O, C / groups, *kernel), bias (O) -> (N, O, *out).
    padding: see `pad_pairs`.  torch.nn.functional.conv1d/2d/3d, ONNX Conv.  ShapeError where the shapes do not fit.

    >>> corners = ndl.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    >>> ndl.conv2d(ndl.eye(3).reshape(1, 1, 3, 3), corners)[0, 0]
    tensor([[ 2., -1.],
            [-1.,  2.]])
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


def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sizes = 1, padding: Padding = 0,
                   output_padding: Sizes = 0, groups: int = 1, dilation: Sizes = 1) -> Tensor:
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
