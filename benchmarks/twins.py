"""The models of needle_lab.models in PyTorch, with the same parameter names, so that weights go over by name."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def with_weights_of(model, twin: nn.Module) -> nn.Module:
    """The twin with the values of our model's parameters and buffers."""
    state = {path: torch.tensor(value.numpy()) for path, value in model.state_dict().items()}
    missing, unexpected = twin.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"the twin has other names: missing {missing}, unexpected {unexpected}")
    return twin.train(model.training)


def dawnbench_resnet9(nn):
    """The ResNet-9 of DAWNBench's CIFAR-10 entry (Page, 2018, "How to train your ResNet"): 6.6 million parameters.

    nn: torch.nn, or needle_lab.nn, which has the same names; so this one is written once.
    """
    def block(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    class Residual(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.layers = nn.Sequential(block(channels, channels), block(channels, channels))

        def forward(self, x):
            return x + self.layers(x)
    return nn.Sequential(block(3, 64), block(64, 128), nn.MaxPool2d(2), Residual(128), block(128, 256), nn.MaxPool2d(2),
                         block(256, 512), nn.MaxPool2d(2), Residual(512), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(512, 10))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, planes, stride, downsample):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False), nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, planes, stride, downsample):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        self.downsample = downsample

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """ResNet(BasicBlock, (2, 2, 2, 2)) is ResNet-18, ResNet(Bottleneck, (3, 4, 23, 3)) is ResNet-101."""

    def __init__(self, block, layers, num_classes=1000, in_channels=3):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for i, (count, planes) in enumerate(zip(layers, (64, 128, 256, 512), strict=True), start=1):
            stride, outputs = 1 if i == 1 else 2, planes * block.expansion
            shortcut = None
            if stride != 1 or inputs != outputs:
                shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            blocks = [block(inputs, planes, stride, shortcut)]
            blocks += [block(outputs, planes, 1, None) for _ in range(count - 1)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
            inputs = outputs
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, num_classes)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class ConvBN(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.ModuleList([ConvBN(channels, channels, 3, 1) for _ in range(2)])

    def forward(self, x):
        return x + self.layers[1](self.layers[0](x))


class ResNet9(nn.Module):
    def __init__(self, num_classes=10, w=128):
        super().__init__()
        self.blocks = nn.ModuleList([ConvBN(3, 16, 7, 4), ConvBN(16, 32, 3, 2), Residual(32), ConvBN(32, 64, 3, 2),
                                     ConvBN(64, w, 3, 2), Residual(w)])
        self.linear1, self.linear2 = nn.Linear(w, w), nn.Linear(w, num_classes)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.linear2(F.relu(self.linear1(torch.flatten(x, 1))))


class LanguageModel(nn.Module):
    """tokens (T, N) -> logits (T * N, vocabulary)."""

    def __init__(self, embedding_size, vocabulary_size, hidden_size, kind=nn.LSTM):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.recurrent = kind(embedding_size, hidden_size)
        self.linear = nn.Linear(hidden_size, vocabulary_size)

    def forward(self, tokens):
        y, _ = self.recurrent(self.embedding(tokens))
        return self.linear(y.reshape(-1, y.shape[-1]))


class CausalSelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = (t.reshape(n, length, self.heads, -1).transpose(1, 2) for t in self.c_attn(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(n, length, width))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), CausalSelfAttention(width, heads), nn.LayerNorm(width)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """tokens (N, T) -> logits (N, T, vocabulary)."""

    def __init__(self, vocabulary, context, width, layers, heads):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)
