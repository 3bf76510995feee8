"""Datasets: a length, and an example for each index.

An example is usually a tuple (input, label) of arrays or numbers; it may be a dict, or one array. `batch(indices)` gives
several examples at once, stacked along a new first axis; a dataset that holds its examples in arrays answers that with
one indexing operation each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

    def batch(self, indices: Sequence[int] | np.ndarray) -> Any:
        """The examples at `indices`, stacked."""
        return collate([self[int(i)] for i in indices])

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Examples that come one after the other, such as the lines of a file: subclass it and write `__iter__`.

    torch.utils.data.IterableDataset.
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class ListDataset(Dataset):
    """The examples of any sequence, such as a list of (input, label)."""

    def __init__(self, examples: Sequence[Any]):
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        return self.examples[index]


def as_dataset(data: Any, caller: str) -> Dataset:
    """A dataset from itself, from arrays (x, y) of equal length, or from anything with a length and indices."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple) and data and all(hasattr(array, "shape") for array in data):
        return ArrayDataset(*data)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (str, bytes, dict)):
        return ListDataset(data)
    raise ArgumentError(f"{caller}: a Dataset is needed, arrays (x, y), or a list of examples; got {type(data).__name__}")


def collate(examples: Sequence[Any]) -> Any:
    """Examples -> a batch of the same structure: tuples and dicts of arrays stacked along a new first axis.

    Python floats become float32; texts stay a list.  torch.utils.data.default_collate.
    """
    first = examples[0]
    if isinstance(first, dict):
        return {key: collate([example[key] for example in examples]) for key in first}
    if isinstance(first, (tuple, list)):
        if len(lengths := {len(example) for example in examples}) > 1:
            raise ShapeError(f"examples of {sorted(lengths)} parts do not stack to a batch")
        return tuple(collate(column) for column in zip(*examples, strict=True))
    if isinstance(first, (str, bytes)):
        return list(examples)
    arrays = _arrays(examples)
    if len(shapes := {array.shape for array in arrays}) > 1:
        raise ShapeError("examples of different shapes do not stack to a batch: "
                         f"{', '.join(map(str, sorted(shapes)[:4]))}; pad them in a collate_fn, or use batch_size=1")
    if arrays[0].dtype == object:
        raise ArgumentError(f"an example holds numbers, arrays, texts, tuples or dicts, got {type(first).__name__}")
    return np.stack(arrays).astype(np.float32) if isinstance(first, float) else np.stack(arrays)


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


class ConcatDataset(Dataset):
    """The examples of several datasets, one after the other.  torch.utils.data.ConcatDataset."""

    def __init__(self, datasets: Iterable[Dataset]):
        self.datasets = [as_dataset(data, "ConcatDataset") for data in datasets]
        if not self.datasets:
            raise ArgumentError("ConcatDataset: at least one dataset is needed")
        self.ends = np.cumsum([len(data) for data in self.datasets])
        self.classes = self.datasets[0].classes

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: Any) -> Any:
        i = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= i < len(self):
            raise IndexError(f"index {index} lies outside {len(self)} examples")
        which = int(np.searchsorted(self.ends, i, side="right"))
        return self.datasets[which][i - int(self.ends[which]) + len(self.datasets[which])]


class Subset(Dataset):
    """Some of the examples of a dataset: those at `indices`, in their order, or where a mask of bools is true."""

    def __init__(self, dataset: Dataset, indices: Any):
        self.dataset, given = as_dataset(dataset, "Subset"), _arrays([indices])[0]
        if given.dtype == np.bool_:
            if given.shape != (len(dataset),):
                raise ShapeError(f"Subset: a mask has one bool for each of {len(dataset)} examples, got {given.shape}")
            given = np.flatnonzero(given)
        if given.size and given.dtype.kind not in "iu":
            raise ArgumentError(f"Subset: indices are integers or a mask of bools, got {given.dtype}")
        self.indices = given.astype(np.int64)
        self.classes = self.dataset.classes
        outside = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if len(outside):
            raise ArgumentError(f"Subset: index {outside[0]} lies outside a dataset of {len(dataset)} examples")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def batch(self, indices: Sequence[int] | np.ndarray) -> Any:
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
