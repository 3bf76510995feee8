"""Convolution layers in 1, 2 and 3 dimensions, and their transposes."""

from __future__ import annotations

import math

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike, Padding, Sizes
from ..errors import ArgumentError
from ..ops.windows import pad_pairs, spread
from . import init
from .module import Module
from .parameter import Parameter

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Module):
    """What all convolution layers share: arguments, weights, their initialisation."""

    dims: int
    transposed = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes, padding: Padding,
                 dilation: Sizes, groups: int, bias: bool, padding_mode: str, dtype: DTypeLike):
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(f"{type(self).__name__}: groups={groups} must divide in_channels={in_channels} and "
                                f"out_channels={out_channels}")
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(f"padding_mode {padding_mode!r} is none of {', '.join(_PADDING_MODES)}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = spread(kernel_size, self.dims, "kernel_size")
        self.stride = spread(stride, self.dims, "stride")
        self.padding: Padding = padding if isinstance(padding, str) else spread(padding, self.dims, "padding")
        self.dilation = spread(dilation, self.dims, "dilation")
        self.groups, self.padding_mode = groups, padding_mode
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = Parameter(creation.empty(first, second // groups, *self.kernel_size, dtype=dtype))
        self.bias = Parameter(creation.empty(out_channels, dtype=dtype)) if bias else None
        bound = 1 / math.sqrt(max(math.prod(self.weight.shape[1:]), 1))
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            size = x.shape[-self.dims:]
            pairs = pad_pairs(padding, self.dims, self.kernel_size, self.dilation, size, self.stride)
            x = ops.pad(x, ((0, 0),) * (x.ndim - self.dims) + pairs, mode=self.padding_mode)
            padding = 0
        return ops.conv(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """x (N, in_channels, L) -> (N, out_channels, L').  torch.nn.Conv1d, ONNX Conv.

    weight: (out_channels, in_channels / groups, kernel), bias: (out_channels,). padding: a number, "same" or "valid".
    """

    dims = 1

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Padding = 0,
                 dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
                 dtype: DTypeLike = "float32"):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
                         dtype)


class Conv2d(Conv1d):
    """x (N, in_channels, H, W) -> (N, out_channels, H', W').  torch.nn.Conv2d, ONNX Conv.

    weight: (out_channels, in_channels / groups, kH, kW), bias: (out_channels,).

    >>> layer = ndl.nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1)
    >>> layer(ndl.zeros(1, 3, 32, 32)).shape
    (1, 8, 16, 16)
    """

    dims = 2


class Conv3d(Conv1d):
    """x (N, in_channels, D, H, W) -> (N, out_channels, D', H', W').  torch.nn.Conv3d, ONNX Conv."""

    dims = 3


class ConvTranspose1d(_Conv):
    """The transpose of Conv1d: x (N, in_channels, L) -> (N, out_channels, L').  ONNX ConvTranspose.

    weight: (in_channels, out_channels / groups, kernel). output_padding adds to one side of the result.
    """

    dims, transposed = 1, True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Padding = 0,
                 output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1,
                 dtype: DTypeLike = "float32"):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, "zeros",
                         dtype)
        self.output_padding = spread(output_padding, self.dims, "output_padding")

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv_transpose(x, self.weight, self.bias, self.stride, self.padding, self.output_padding,
                                  self.groups, self.dilation)


class ConvTranspose2d(ConvTranspose1d):
    """The transpose of Conv2d."""

    dims = 2


class ConvTranspose3d(ConvTranspose1d):
    """The transpose of Conv3d."""

    dims = 3
