"""Datasets, loaders, transforms and text."""

from .dataset import ArrayDataset, Dataset, Subset, TensorDataset, random_split
from .handwriting import digits
from .idx import read_idx
from .images import cifar10, fashion_mnist, mnist
from .loader import DataLoader
from .synthetic import mnist1d, shapes, spirals
from .text import Corpus, Dictionary, alice, batchify, get_batch
from .transforms import Compose, Normalize, OneHot, RandomCrop, RandomFlipHorizontal, ToFloat, Transform

__all__ = ["ArrayDataset", "Compose", "Corpus", "DataLoader", "Dataset", "Dictionary", "Normalize", "OneHot",
           "RandomCrop", "RandomFlipHorizontal", "Subset", "TensorDataset", "ToFloat", "Transform", "alice", "batchify",
           "cifar10", "digits", "fashion_mnist", "get_batch", "mnist", "mnist1d", "random_split", "read_idx", "shapes",
           "spirals"]
