"""Residual networks for images: ResNet-18, 34, 50 and 101 (He et al., 2015), in torchvision's layout and names."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..core.tensor import Tensor
from ..nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Module, Sequential, init


class BasicBlock(Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, in_planes: int, planes: int, stride: int, downsample: Module | None):
        super().__init__()
        self.conv1 = Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; the stride is in the 3x3 one, as in torchvision."""

    expansion = 4

    def __init__(self, in_planes: int, planes: int, stride: int, downsample: Module | None):
        super().__init__()
        self.conv1 = Conv2d(in_planes, planes, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.conv2 = Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.conv3 = Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm2d(planes * self.expansion)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = ops.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return ops.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Module):
    """x (N, in_channels, H, W) -> logits (N, num_classes).  layers: how many blocks in each of the four stages."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: tuple[int, ...], num_classes: int = 1000,
                 in_channels: int = 3):
        super().__init__()
        self.conv1 = Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.maxpool = MaxPool2d(3, 2, 1)
        wide = block.expansion
        self.layer1 = self._stage(block, 64, 64, layers[0], stride=1)
        self.layer2 = self._stage(block, 64 * wide, 128, layers[1], stride=2)
        self.layer3 = self._stage(block, 128 * wide, 256, layers[2], stride=2)
        self.layer4 = self._stage(block, 256 * wide, 512, layers[3], stride=2)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.fc = Linear(512 * wide, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(block: Any, in_planes: int, planes: int, count: int, stride: int) -> Sequential:
        out = planes * block.expansion
        shortcut = None
        if stride != 1 or in_planes != out:
            shortcut = Sequential(Conv2d(in_planes, out, 1, stride, bias=False), BatchNorm2d(out))
        return Sequential(block(in_planes, planes, stride, shortcut),
                          *(block(out, planes, 1, None) for _ in range(count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(ops.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(ops.flatten(self.avgpool(x), 1))


def ResNet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """11,689,512 parameters for 1,000 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


def ResNet34(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """21,797,672 parameters for 1,000 classes."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels)


def ResNet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """25,557,032 parameters for 1,000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)


def ResNet101(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """44,549,160 parameters for 1,000 classes."""
    return ResNet(Bottleneck, (3, 4, 23, 3), num_classes, in_channels)
