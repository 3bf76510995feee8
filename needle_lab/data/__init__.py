"""Datasets, loaders, transforms and text."""

from ..core.explain import at_the_door as _at_the_door
from .dataset import (
    ArrayDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    ListDataset,
    Subset,
    TensorDataset,
    as_dataset,
    collate,
    random_split,
)
from .dataset import collate as default_collate
from .handwriting import digits
from .idx import read_idx
from .images import cifar10, fashion_mnist, mnist
from .loader import DataLoader
from .samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from .synthetic import mnist1d, shapes, spirals
from .text import Corpus, Dictionary, alice, batchify, get_batch
from .transforms import Compose, Normalize, OneHot, RandomCrop, RandomFlipHorizontal, ToFloat, Transform

__all__ = ["ArrayDataset", "BatchSampler", "Compose", "ConcatDataset", "Corpus", "DataLoader", "Dataset", "Dictionary",
           "IterableDataset", "ListDataset", "Normalize", "OneHot", "RandomCrop", "RandomFlipHorizontal", "RandomSampler",
           "Sampler", "SequentialSampler", "Subset", "SubsetRandomSampler", "TensorDataset", "ToFloat", "Transform",
           "WeightedRandomSampler", "alice", "batchify", "cifar10", "collate", "default_collate", "digits", "fashion_mnist",
           "get_batch", "mnist", "mnist1d", "random_split", "read_idx", "shapes", "spirals"]

_at_the_door(globals(), __all__)
