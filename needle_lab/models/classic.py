"""Convolutional networks that made history: LeNet, AlexNet, VGG16, GoogLeNet.  Layouts as in torchvision."""

from __future__ import annotations

from .. import ops
from ..core.tensor import Tensor
from ..nn import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    Tanh,
)


class LeNet(Module):
    """LeNet-5 (LeCun et al., 1998).  x (N, in_channels, 28, 28) -> logits.  61,706 parameters for 1 channel, 10 classes."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1):
        super().__init__()
        self.features = Sequential(Conv2d(in_channels, 6, 5, padding=2), Tanh(), AvgPool2d(2),
                                   Conv2d(6, 16, 5), Tanh(), AvgPool2d(2))
        self.classifier = Sequential(Flatten(), Linear(400, 120), Tanh(), Linear(120, 84), Tanh(), Linear(84, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class AlexNet(Module):
    """AlexNet (Krizhevsky et al., 2012; 2014).  x (N, 3, 224, 224) -> logits.  61,100,840 parameters for 1,000 classes."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5):
        super().__init__()
        self.features = Sequential(
            Conv2d(3, 64, 11, 4, 2), ReLU(), MaxPool2d(3, 2), Conv2d(64, 192, 5, padding=2), ReLU(), MaxPool2d(3, 2),
            Conv2d(192, 384, 3, padding=1), ReLU(), Conv2d(384, 256, 3, padding=1), ReLU(),
            Conv2d(256, 256, 3, padding=1), ReLU(), MaxPool2d(3, 2))
        self.avgpool = AdaptiveAvgPool2d((6, 6))
        self.classifier = Sequential(Dropout(dropout), Linear(256 * 36, 4096), ReLU(), Dropout(dropout),
                                     Linear(4096, 4096), ReLU(), Linear(4096, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(ops.flatten(self.avgpool(self.features(x)), 1))


class VGG16(Module):
    """VGG with 16 weight layers (Simonyan and Zisserman, 2014).  x (N, 3, 224, 224) -> logits.

    138,357,544 parameters for 1,000 classes. batch_norm adds a BatchNorm2d after each convolution.
    """

    plan = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")

    def __init__(self, num_classes: int = 1000, batch_norm: bool = False, dropout: float = 0.5):
        super().__init__()
        layers: list[Module] = []
        channels = 3
        for step in self.plan:
            if isinstance(step, str):
                layers.append(MaxPool2d(2))
            else:
                layers += [Conv2d(channels, step, 3, padding=1), *([BatchNorm2d(step)] if batch_norm else []), ReLU()]
                channels = step
        self.features = Sequential(*layers)
        self.avgpool = AdaptiveAvgPool2d((7, 7))
        self.classifier = Sequential(Linear(512 * 49, 4096), ReLU(), Dropout(dropout), Linear(4096, 4096), ReLU(),
                                     Dropout(dropout), Linear(4096, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(ops.flatten(self.avgpool(self.features(x)), 1))


class _BasicConv2d(Module):
    """Convolution without bias, batch norm, ReLU: GoogLeNet's brick."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(self.bn(self.conv(x)))


class Inception(Module):
    """Four branches side by side, joined along the channels; as in torchvision, the "5x5" branch convolves 3x3."""

    def __init__(self, in_channels: int, ch1x1: int, ch3x3red: int, ch3x3: int, ch5x5red: int, ch5x5: int, pool_proj: int):
        super().__init__()
        conv = _BasicConv2d
        self.branch1 = conv(in_channels, ch1x1, 1)
        self.branch2 = Sequential(conv(in_channels, ch3x3red, 1), conv(ch3x3red, ch3x3, 3, padding=1))
        self.branch3 = Sequential(conv(in_channels, ch5x5red, 1), conv(ch5x5red, ch5x5, 3, padding=1))
        self.branch4 = Sequential(MaxPool2d(3, 1, 1, ceil_mode=True), conv(in_channels, pool_proj, 1))

    def forward(self, x: Tensor) -> Tensor:
        return ops.concat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], axis=1)


class GoogLeNet(Module):
    """Inception v1 with batch norm (Szegedy et al., 2014), without its training-only side exits.

    x (N, 3, 224, 224) -> logits.  6,624,904 parameters for 1,000 classes.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        self.conv1 = _BasicConv2d(3, 64, 7, 2, 3)
        self.conv2 = _BasicConv2d(64, 64, 1)
        self.conv3 = _BasicConv2d(64, 192, 3, padding=1)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.dropout = Dropout(dropout)
        self.fc = Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        def pool(x: Tensor, size: int = 3) -> Tensor:
            return ops.max_pool(x, size, 2, ceil_mode=True)
        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        x = pool(self.inception3b(self.inception3a(x)))
        for block in (self.inception4a, self.inception4b, self.inception4c, self.inception4d, self.inception4e):
            x = block(x)
        x = self.inception5b(self.inception5a(pool(x, 2)))
        return self.fc(self.dropout(ops.flatten(ops.global_avg_pool(x), 1)))
