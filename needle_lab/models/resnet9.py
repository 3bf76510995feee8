"""The two small residual networks of the Needle report (CMU 10-714): ResNet9 and its slimmer variant.

    ConvBN 3 -> 16, 7x7, stride 4;  16 -> 32, 3x3, stride 2;  residual of two ConvBN 32 -> 32;
    ConvBN 32 -> 64 and 64 -> 128, 3x3, stride 2;  residual of two 128 -> 128;  flatten;  Linear 128, ReLU, Linear 10
"""

from __future__ import annotations

from ..core.tensor import Tensor
from ..nn import BatchNorm2d, Conv2d, Flatten, Linear, Module, ReLU


class ConvBN(Module):
    """Convolution, batch norm, ReLU.  (N, in, H, W) -> (N, out, H / stride, W / stride)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int):
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.bn = BatchNorm2d(out_channels)
        self.relu = ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Residual(Module):
    """x + f(x), f being two ConvBN of the same width."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = [ConvBN(channels, channels, 3, 1), ConvBN(channels, channels, 3, 1)]

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + y


class ResNet9(Module):
    """x (N, 3, 32, 32) -> logits (N, num_classes).  431,946 parameters."""

    width = 128          # channels from the fourth ConvBN on

    def __init__(self, num_classes: int = 10):
        super().__init__()
        w = self.width
        self.blocks = [ConvBN(3, 16, 7, 4), ConvBN(16, 32, 3, 2), Residual(32),
                       ConvBN(32, 64, 3, 2), ConvBN(64, w, 3, 2), Residual(w)]
        self.flatten = Flatten()
        self.linear1, self.relu, self.linear2 = Linear(w, w), ReLU(), Linear(w, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.linear2(self.relu(self.linear1(self.flatten(x))))


class ResNet9_2(ResNet9):
    """ResNet9 that keeps 64 channels from the fourth ConvBN on.  160,330 parameters."""

    width = 64
