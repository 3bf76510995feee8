"""DataLoader: a dataset as batches of tensors.

The order of an epoch and every random number of its transforms follow from (seed, epoch, batch number) alone. So they
do not depend on the number of workers, and a pass that was interrupted can be continued exactly where it stopped.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.device import Device
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..random import Generator
from .dataset import IterableDataset, as_dataset, collate, generator_of
from .samplers import drawn
from .transforms import apply


class DataLoader:
    """Iterate over batches: `for x, y in DataLoader(dataset, 32, shuffle=True, seed=0): ...`.  torch.utils.data.DataLoader.

    Yields what an example is made of (a tuple, a dict, or one array), each array as a tensor on `device` with a new first
    axis. Each pass is an epoch; with shuffle, each has its own order.

    dataset: a Dataset, arrays (x, y), a list of examples, or an IterableDataset.
    batch_size: examples in a batch; the last one may be smaller, and is left out with drop_last. None: single examples.
    seed: of order and transforms; a number, or a Generator to draw it from (default: the default generator). generator:
    PyTorch's name for the latter.
    sampler, batch_sampler: indices of examples, or lists of them, in place of shuffle (see `samplers`).
    collate_fn: makes a batch of a list of examples; what it returns is yielded as it is.
    workers: threads that prepare the next batches meanwhile (0: none). numpy works outside Python's lock, so threads
    help where batches are large or examples come from files. num_workers: processes instead, as in PyTorch, for examples
    that Python computes. The order of batches stays the same.
    transform, target_transform: applied to the first and the second array of a batch (see `transforms`).
    progress: show a progress bar; a text becomes its label. pin_memory, persistent_workers: taken, without effect.

    >>> dataset = ndl.data.ArrayDataset(np.arange(10), np.arange(10) % 2)
    >>> for x, y in ndl.data.DataLoader(dataset, batch_size=4):
    ...     print(x.tolist(), y.tolist())
    [0, 1, 2, 3] [0, 1, 0, 1]
    [4, 5, 6, 7] [0, 1, 0, 1]
    [8, 9] [0, 1]
    """

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool = False,
                 seed: int | Generator | None = None, drop_last: bool = False, workers: int = 0,
                 transform: Callable[..., Any] | None = None, target_transform: Callable[..., Any] | None = None,
                 progress: bool | str = False, device: Device | str | None = None, *, sampler: Any = None,
                 batch_sampler: Any = None, num_workers: int = 0, collate_fn: Callable[..., Any] | None = None,
                 generator: Generator | None = None, pin_memory: bool = False, persistent_workers: bool = False):
        seed = generator if seed is None else seed
        for name, value, least in (("batch_size", 1 if batch_size is None else batch_size, 1), ("workers", workers, 0),
                                   ("num_workers", num_workers, 0), ("seed", 0 if not isinstance(seed, int) else seed, 0)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise ArgumentError(f"DataLoader: {name} is an integer of {least} or more, got {value!r}")
        if not isinstance(shuffle, (bool, np.bool_)):
            raise ArgumentError(f"DataLoader: shuffle is True or False, got {shuffle!r}; a sampler is sampler=...")
        self.dataset = as_dataset(dataset, "DataLoader")
        chosen = [name for name, given in (("shuffle", shuffle), ("sampler", sampler is not None),
                                           ("batch_sampler", batch_sampler is not None)) if given]
        if isinstance(dataset, IterableDataset) and (chosen or workers or num_workers):
            raise ArgumentError("DataLoader: an IterableDataset gives its examples in its own order, in this process; leave "
                                f"out {', '.join([*chosen, 'workers'][:1])}")
        if len(chosen) > 1:
            raise ArgumentError(f"DataLoader: the order comes from {' or from '.join(chosen)}; give one of them")
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.sampler, self.batch_sampler, self.collate_fn = sampler, batch_sampler, collate_fn
        self.seed = seed if isinstance(seed, int) else int(generator_of(seed).numpy.integers(2**31))
        self.workers, self.num_workers, self.progress, self.device = workers, num_workers, progress, device
        self.transforms = (transform, target_transform)
        self.epoch = 0                     # passes begun
        self._handed_out = 0               # batches of the newest pass
        self._continue_at = 0              # set by load_state_dict

    def __len__(self) -> int:
        """Batches in an epoch."""
        if isinstance(self.dataset, IterableDataset):
            raise TypeError(f"a loader of {type(self.dataset).__name__} has no length: nobody knows how many examples come")
        if self.batch_sampler is not None:
            return len(self.batch_sampler)
        whole, rest = divmod(len(self.dataset if self.sampler is None else self.sampler), self.batch_size or 1)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        first, self._continue_at = self._continue_at, 0
        if not first:
            self.epoch += 1
        self._handed_out = first
        for batch in self._shown(self._prepared(self.epoch, first), first):
            self._handed_out += 1
            yield batch if self.collate_fn else _tensors(batch, self.device)

    def indices(self, epoch: int) -> list[Any]:
        """Which examples make up each batch of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        if self.batch_sampler is not None:
            return list(drawn(self.batch_sampler, rng))
        n = len(self.dataset)
        order = (np.asarray(list(drawn(self.sampler, rng)), np.int64) if self.sampler is not None
                 else rng.permutation(n) if self.shuffle else np.arange(n))
        if self.batch_size is None:
            return [int(i) for i in order]
        ends = range(0, len(order) - (self.batch_size - 1 if self.drop_last else 0), self.batch_size)
        return [order[i:i + self.batch_size] for i in ends]

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, as JSON values: seed, epoch, batches of it handed out (0: it is complete)."""
        length = None if isinstance(self.dataset, IterableDataset) else len(self)
        return {"seed": self.seed, "epoch": self.epoch, "batch": self._handed_out % max(length or self._handed_out + 1, 1)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called: the next pass gives the batches that were still to come."""
        try:
            seed, epoch, batch = (int(state[key]) for key in ("seed", "epoch", "batch"))
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"this is not what DataLoader.state_dict() returned: {state!r}") from error
        length = np.inf if isinstance(self.dataset, IterableDataset) else len(self)
        if batch >= max(length, 1) or min(seed, epoch, batch) < 0:
            raise ArgumentError(f"DataLoader: the state stands at batch {batch}, this loader has {length} batches")
        self.seed, self.epoch, self._continue_at = seed, epoch, batch

    # --- one pass ---------------------------------------------------------------------------------------------------

    def _prepared(self, epoch: int, first: int) -> Iterator[Any]:
        """Batches number `first` and up, in order; workers stay at most two batches each ahead."""
        if isinstance(self.dataset, IterableDataset):
            yield from itertools.islice(self._streamed(epoch), first, None)
            return
        jobs = list(enumerate(self.indices(epoch)))[first:]
        if not self.workers and not self.num_workers:
            yield from (self._prepare(epoch, number, indices) for number, indices in jobs)
            return
        pool, prepare = self._pool()
        waiting = deque[Any]()
        try:
            for number, indices in jobs:
                waiting.append(pool.submit(prepare, epoch, number, indices))
                if len(waiting) > 2 * (self.workers or self.num_workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:                           # also when the caller breaks out of its loop
            pool.shutdown(cancel_futures=True)

    def _pool(self) -> tuple[Any, Callable[..., Any]]:
        """Threads, or processes that each hold a copy of this loader; and what they are to call."""
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        if not self.num_workers:
            return ThreadPoolExecutor(self.workers), self._prepare
        return ProcessPoolExecutor(self.num_workers, initializer=_begin, initargs=(self,)), _prepare_there

    def _prepare(self, epoch: int, number: int, indices: Any) -> Any:
        if self.batch_size is None and self.batch_sampler is None:
            example = self.dataset[indices]
            batch = self.collate_fn(example) if self.collate_fn else example
        elif self.collate_fn is not None:
            batch = self.collate_fn([self.dataset[int(i)] for i in indices])
        else:
            batch = self.dataset.batch(indices)
        return self._transformed(batch, epoch, number)

    def _streamed(self, epoch: int) -> Iterator[Any]:
        """The batches of an IterableDataset."""
        examples = iter(self.dataset)          # type: ignore[call-overload]
        make = self.collate_fn or collate
        for number in itertools.count():
            taken = list(itertools.islice(examples, self.batch_size or 1))
            if not taken or (self.drop_last and len(taken) < (self.batch_size or 1)):
                return
            batch = make(taken) if self.batch_size else self.collate_fn(taken[0]) if self.collate_fn else taken[0]
            yield self._transformed(batch, epoch, number)

    def _transformed(self, batch: Any, epoch: int, number: int) -> Any:
        if self.transforms == (None, None):
            return batch
        if not isinstance(batch, (tuple, list)):
            raise ArgumentError("DataLoader: transform works on a batch (input, label, ...); this one is a "
                                f"{type(batch).__name__}, so transform it in the dataset or in collate_fn")
        rng = np.random.default_rng([self.seed, epoch, number])
        return (*(apply(transform, array, rng) for transform, array in zip(self.transforms, batch[:2], strict=False)),
                *batch[2:])

    def _shown(self, batches: Iterator[Any], first: int) -> Iterator[Any]:
        if not self.progress:
            return batches
        from tqdm.auto import tqdm

        label = self.progress if isinstance(self.progress, str) else f"epoch {self.epoch}"
        total = None if isinstance(self.dataset, IterableDataset) else len(self)
        return iter(tqdm(batches, label, total=total, initial=first, unit="batch", leave=False))


def _tensors(batch: Any, device: Device | str | None) -> Any:
    """A batch with its arrays as tensors."""
    if isinstance(batch, dict):
        return {key: _tensors(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(_tensors(value, device) for value in batch)
    if isinstance(batch, (np.ndarray, np.generic, Tensor, int, float)):
        return Tensor(batch, device=device)
    return batch


_loader: Any = None                          # in a process of num_workers: its copy of the loader


def _begin(loader: DataLoader) -> None:
    global _loader
    _loader = loader


def _prepare_there(epoch: int, number: int, indices: Any) -> Any:
    return _loader._prepare(epoch, number, indices)
