"""Pooling layers: windows over the last 1, 2 or 3 axes of (N, C, *size)."""

from __future__ import annotations

from .. import ops
from ..core.tensor import Tensor
from ..core.types import Padding, Sizes
from .module import Module


class MaxPool1d(Module):
    """The largest value of each window; stride is kernel_size by default.  ONNX MaxPool."""

    dims = 1

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, dilation: Sizes = 1,
                 ceil_mode: bool = False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return ops.max_pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.dims)


class MaxPool2d(MaxPool1d):
    """MaxPool1d over windows of x (N, C, H, W).  torch.nn.MaxPool2d."""

    dims = 2


class MaxPool3d(MaxPool1d):
    """MaxPool1d over windows of x (N, C, D, H, W).  torch.nn.MaxPool3d."""

    dims = 3


class AvgPool1d(Module):
    """The average of each window.  ONNX AveragePool."""

    dims = 1

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Padding = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return ops.avg_pool(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                            self.dims)


class AvgPool2d(AvgPool1d):
    """AvgPool1d over windows of x (N, C, H, W).  torch.nn.AvgPool2d."""

    dims = 2


class AvgPool3d(AvgPool1d):
    """AvgPool1d over windows of x (N, C, D, H, W).  torch.nn.AvgPool3d."""

    dims = 3


class AdaptiveAvgPool1d(Module):
    """Averages over windows chosen so that the result has output_size."""

    dims = 1

    def __init__(self, output_size: Sizes):
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool(x, self.output_size, self.dims)


class AdaptiveAvgPool2d(AdaptiveAvgPool1d):
    """AdaptiveAvgPool1d over windows of x (N, C, H, W).  torch.nn.AdaptiveAvgPool2d."""

    dims = 2


class AdaptiveAvgPool3d(AdaptiveAvgPool1d):
    """AdaptiveAvgPool1d over windows of x (N, C, D, H, W).  torch.nn.AdaptiveAvgPool3d."""

    dims = 3


class AdaptiveMaxPool1d(AdaptiveAvgPool1d):
    """Maxima over windows chosen so that the result has output_size."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool(x, self.output_size, self.dims)


class AdaptiveMaxPool2d(AdaptiveMaxPool1d):
    """AdaptiveMaxPool1d over windows of x (N, C, H, W).  torch.nn.AdaptiveMaxPool2d."""

    dims = 2


class AdaptiveMaxPool3d(AdaptiveMaxPool1d):
    """AdaptiveMaxPool1d over windows of x (N, C, D, H, W).  torch.nn.AdaptiveMaxPool3d."""

    dims = 3
