"""Samplers: in which order a loader takes the examples.  The names of torch.utils.data.

A sampler is any iterable of indices. One of ours draws from the loader's seed and epoch, so that an interrupted pass can be
continued, unless it has a generator of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..random import Generator, default_generator


class Sampler:
    """Subclass it and write `__iter__`, or `draw(rng)`, which gives the indices of one pass."""

    generator: Generator | None = None

    def draw(self, rng: np.random.Generator) -> Sequence[int] | np.ndarray:
        """The indices of one pass, drawn from rng."""
        return list(self)

    def __iter__(self) -> Iterator[int]:
        return iter([int(i) for i in self.draw((self.generator or default_generator).numpy)])


class SequentialSampler(Sampler):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return np.arange(len(self))


class RandomSampler(Sampler):
    """Every example once, in random order; with replacement, num_samples of them."""

    def __init__(self, data_source: Sized, replacement: bool = False, num_samples: int | None = None,
                 generator: Generator | None = None):
        self.data_source, self.replacement = data_source, replacement
        self.num_samples, self.generator = num_samples, generator

    def __len__(self) -> int:
        return len(self.data_source) if self.num_samples is None else self.num_samples

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        n = len(self.data_source)
        if self.replacement:
            return rng.integers(0, n, len(self))
        rounds = [rng.permutation(n) for _ in range(-(-len(self) // max(n, 1)))]
        return np.concatenate([*rounds, np.zeros(0, np.int64)])[:len(self)]


class SubsetRandomSampler(Sampler):
    """The given indices, in random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None):
        self.indices, self.generator = np.asarray(indices, np.int64), generator

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.indices)


class WeightedRandomSampler(Sampler):
    """num_samples indices, each with a probability in proportion to its weight; weights need not sum to 1."""

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True, generator: Generator | None = None):
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1 or not np.all(self.weights >= 0) or not 0 < self.weights.sum() < np.inf:
            raise ArgumentError("WeightedRandomSampler: weights are numbers of at least 0, not all 0, one for each example")
        if num_samples < 1 or (not replacement and num_samples > np.count_nonzero(self.weights)):
            raise ArgumentError(f"WeightedRandomSampler: num_samples={num_samples} of {np.count_nonzero(self.weights)} "
                                f"examples {'with' if replacement else 'without'} replacement")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __len__(self) -> int:
        return self.num_samples

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        chances = self.weights / self.weights.sum()
        return rng.choice(len(chances), self.num_samples, replace=self.replacement, p=chances)


class BatchSampler(Sampler):
    """The indices of another sampler in lists of batch_size: what a loader takes as batch_sampler."""

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False):
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def draw(self, rng: np.random.Generator) -> list[Any]:
        order = list(drawn(self.sampler, rng))
        return [order[i * self.batch_size:(i + 1) * self.batch_size] for i in range(len(self))]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.draw((self.generator or default_generator).numpy))


def drawn(sampler: Any, rng: np.random.Generator) -> Any:
    """The indices of one pass of any sampler."""
    return sampler.draw(rng) if isinstance(sampler, Sampler) and sampler.generator is None else list(sampler)
