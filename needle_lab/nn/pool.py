"""Pooling layers: windows over the last 1, 2 or 3 axes of (N, C, *size) or (C, *size)."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .layer import Function, layer


class _Window(Function):
    """What windows share: the stride is as long as the kernel where none is named."""

    kernel_size: Any

    def __init__(self, *args: Any, **given: Any):
        super().__init__(*args, **given)
        if self.stride is None:
            self.stride = self.kernel_size


MaxPool1d = layer("MaxPool1d", F.max_pool1d, later="return_indices", base=_Window)
MaxPool2d = layer("MaxPool2d", F.max_pool2d, later="return_indices", base=_Window)
MaxPool3d = layer("MaxPool3d", F.max_pool3d, later="return_indices", base=_Window)
AvgPool1d = layer("AvgPool1d", F.avg_pool1d, base=_Window, divisor_override=None, dilation=1)
AvgPool2d = layer("AvgPool2d", F.avg_pool2d, later="divisor_override", base=_Window, dilation=1)
AvgPool3d = layer("AvgPool3d", F.avg_pool3d, later="divisor_override", base=_Window, dilation=1)
MaxUnpool1d = layer("MaxUnpool1d", F.max_unpool1d, 2, base=_Window, at_call="output_size")
MaxUnpool2d = layer("MaxUnpool2d", F.max_unpool2d, 2, base=_Window, at_call="output_size")
MaxUnpool3d = layer("MaxUnpool3d", F.max_unpool3d, 2, base=_Window, at_call="output_size")
LPPool1d = layer("LPPool1d", F.lp_pool1d, base=_Window)
LPPool2d = layer("LPPool2d", F.lp_pool2d, base=_Window)
LPPool3d = layer("LPPool3d", F.lp_pool3d, base=_Window)
AdaptiveAvgPool1d = layer("AdaptiveAvgPool1d", F.adaptive_avg_pool1d)
AdaptiveAvgPool2d = layer("AdaptiveAvgPool2d", F.adaptive_avg_pool2d)
AdaptiveAvgPool3d = layer("AdaptiveAvgPool3d", F.adaptive_avg_pool3d)
AdaptiveMaxPool1d = layer("AdaptiveMaxPool1d", F.adaptive_max_pool1d, later="return_indices")
AdaptiveMaxPool2d = layer("AdaptiveMaxPool2d", F.adaptive_max_pool2d, later="return_indices")
AdaptiveMaxPool3d = layer("AdaptiveMaxPool3d", F.adaptive_max_pool3d, later="return_indices")
