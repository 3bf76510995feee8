"""Datasets: a length, and an example for each index.

An example is a tuple of numpy arrays, usually (input, label). `batch(indices)` gives several examples at once, stacked
along a new first axis; a dataset that holds its examples in arrays answers that with one indexing operation each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..random import Generator, default_generator


class Dataset:
    """Subclass it and write `__len__` and `__getitem__(i) -> tuple`.  torch.utils.data.Dataset."""

    classes: tuple[str, ...] = ()                # the names of the labels, where labels have names

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """The examples at `indices`, stacked."""
        examples = [self[int(i)] for i in indices]
        if not all(isinstance(example, tuple) for example in examples):
            raise ArgumentError(f"{type(self).__name__}: an example is a tuple such as (input, label), got "
                                f"{next(type(e).__name__ for e in examples if not isinstance(e, tuple))}")
        try:
            return tuple(np.stack(column) for column in zip(*map(_arrays, examples), strict=True))
        except ValueError as error:
            shapes = sorted({str([x.shape for x in _arrays(example)]) for example in examples})
            raise ShapeError(f"{type(self).__name__}: examples of different shapes do not stack to a batch: "
                             f"{', '.join(shapes[:4])}") from error


class ArrayDataset(Dataset):
    """Arrays of equal length; example i is (arrays[0][i], arrays[1][i], ...).  torch.utils.data.TensorDataset.

    arrays: numpy arrays or tensors, their first axis counts the examples. classes: the names of the labels.
    """

    def __init__(self, *arrays: np.ndarray | Tensor, classes: Sequence[str] = ()):
        self.arrays = tuple(_arrays(arrays))
        if not self.arrays or any(not array.ndim for array in self.arrays):
            raise ArgumentError("ArrayDataset: arrays are needed, each with a first axis that counts the examples")
        if len({len(array) for array in self.arrays}) > 1:
            raise ShapeError("ArrayDataset: arrays of equal length are needed, got lengths "
                             f"{', '.join(str(len(array)) for array in self.arrays)}")
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> Any:
        return tuple(array[index] for array in self.arrays)

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """The examples at `indices`: one array for each of `arrays`."""
        return tuple(array[np.asarray(indices, np.int64)] for array in self.arrays)

    def __repr__(self) -> str:
        parts = [f"{array.dtype} {array.shape[1:]}" for array in self.arrays]
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"{len(self):,} examples of ({', '.join(parts)}){classes}"


TensorDataset = ArrayDataset             # PyTorch's name


class Subset(Dataset):
    """Some of the examples of a dataset, in the order of `indices`."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray):
        self.dataset, self.indices = dataset, np.asarray(indices, np.int64)
        self.classes = dataset.classes
        outside = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if len(outside):
            raise ArgumentError(f"Subset: index {outside[0]} lies outside a dataset of {len(dataset)} examples")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def batch(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """The examples at `indices` of this subset, stacked."""
        return self.dataset.batch(self.indices[np.asarray(indices, np.int64)])


def random_split(dataset: Dataset, lengths: Sequence[int | float], seed: int | Generator | None = None) -> list[Subset]:
    """Deal the examples into disjoint subsets at random.  torch.utils.data.random_split.

    lengths: how many examples each gets (their sum is the dataset's length), or fractions whose sum is 1; what rounding
    leaves over goes to the first. seed: a number or a Generator (default: the default generator).
    """
    n = len(dataset)
    counts = list(lengths)
    if any(isinstance(k, float) for k in counts):
        if any(k < 0 for k in counts) or abs(sum(counts) - 1) > 1e-6:
            raise ArgumentError(f"random_split: fractions must be positive and sum to 1, got {counts}")
        counts = [int(k * n + 1e-6) for k in counts]
        counts[0] += n - sum(counts)
    if any(k < 0 for k in counts) or sum(counts) != n:
        raise ArgumentError(f"random_split: the lengths {counts} sum to {sum(counts)}, the dataset has {n} examples")
    order = generator_of(seed).numpy.permutation(n)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - k:end]) for k, end in zip(counts, ends, strict=True)]


def generator_of(seed: int | Generator | None) -> Generator:
    """A generator from a seed, the generator itself, or the default one for None."""
    if isinstance(seed, Generator):
        return seed
    return default_generator if seed is None else Generator(seed)


def _arrays(values: Iterable[Any]) -> list[np.ndarray]:
    return [value.numpy() if isinstance(value, Tensor) else np.asarray(value) for value in values]
