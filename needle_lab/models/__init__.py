"""Models to learn from, train and compare with, built from `needle_lab.nn` alone."""

from .classic import VGG16, AlexNet, GoogLeNet, Inception, LeNet
from .language import GPT, LanguageModel
from .pretrained import pretrained_names, pretrained_path
from .resnet import BasicBlock, Bottleneck, ResNet, ResNet18, ResNet34, ResNet50, ResNet101
from .resnet9 import ConvBN, Residual, ResNet9, ResNet9_2

__all__ = ["GPT", "VGG16", "AlexNet", "BasicBlock", "Bottleneck", "ConvBN", "GoogLeNet", "Inception", "LanguageModel",
           "LeNet", "ResNet", "ResNet9", "ResNet9_2", "ResNet18", "ResNet34", "ResNet50", "ResNet101", "Residual",
           "pretrained_names", "pretrained_path"]
