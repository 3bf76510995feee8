"""DataLoader: a dataset as batches of tensors.

The order of an epoch and every random number of its transforms follow from (seed, epoch, batch number) alone. So they
do not depend on the number of workers, and a pass that was interrupted can be continued exactly where it stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.device import Device
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..random import Generator
from .dataset import Dataset, generator_of
from .transforms import apply


class DataLoader:
    """Iterate over batches: `for x, y in DataLoader(dataset, 32, shuffle=True, seed=0): ...`.

    Yields tuples of tensors, one for each array of the dataset, on `device`. Each pass is an epoch; with shuffle, each
    has its own order.

    batch_size: examples in a batch; the last one may be smaller, and is left out with drop_last.
    seed: of order and transforms; a number, or a Generator to draw it from (default: the default generator).
    workers: threads that prepare the next batches meanwhile (0: none). numpy works outside Python's lock, so threads
    help where batches are large or examples come from files; the order of batches stays the same.
    transform, target_transform: applied to the first and the second array of a batch (see `transforms`).
    progress: show a progress bar; a text becomes its label.

    >>> dataset = ndl.data.ArrayDataset(np.arange(10), np.arange(10) % 2)
    >>> for x, y in ndl.data.DataLoader(dataset, batch_size=4):
    ...     print(x.tolist(), y.tolist())
    [0, 1, 2, 3] [0, 1, 0, 1]
    [4, 5, 6, 7] [0, 1, 0, 1]
    [8, 9] [0, 1]
    """

    def __init__(self, dataset: Dataset, batch_size: int = 32, shuffle: bool = False,
                 seed: int | Generator | None = None, drop_last: bool = False, workers: int = 0,
                 transform: Callable[..., Any] | None = None, target_transform: Callable[..., Any] | None = None,
                 progress: bool | str = False, device: Device | str | None = None):
        for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
            if not isinstance(value, (int, np.integer)) or value < least:
                raise ArgumentError(f"DataLoader: {name} is an integer of {least} or more, got {value!r}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.seed = seed if isinstance(seed, int) else int(generator_of(seed).numpy.integers(2**31))
        self.workers, self.progress, self.device = workers, progress, device
        self.transforms = (transform, target_transform)
        self.epoch = 0                     # passes begun
        self._handed_out = 0               # batches of the newest pass
        self._continue_at = 0              # set by load_state_dict

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        first, self._continue_at = self._continue_at, 0
        if not first:
            self.epoch += 1
        self._handed_out = first
        for arrays in self._shown(self._prepared(self.epoch, first), first):
            self._handed_out += 1
            yield tuple(Tensor(array, device=self.device) for array in arrays)

    def indices(self, epoch: int) -> list[np.ndarray]:
        """Which examples make up each batch of an epoch."""
        n = len(self.dataset)
        order = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
        return [order[i * self.batch_size:(i + 1) * self.batch_size] for i in range(len(self))]

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, as JSON values: seed, epoch, batches of it handed out (0: it is complete)."""
        return {"seed": self.seed, "epoch": self.epoch, "batch": self._handed_out % max(len(self), 1)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called: the next pass gives the batches that were still to come."""
        try:
            seed, epoch, batch = (int(state[key]) for key in ("seed", "epoch", "batch"))
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"this is not what DataLoader.state_dict() returned: {state!r}") from error
        if batch >= max(len(self), 1) or min(seed, epoch, batch) < 0:
            raise ArgumentError(f"DataLoader: the state stands at batch {batch}, this loader has {len(self)} batches")
        self.seed, self.epoch, self._continue_at = seed, epoch, batch

    # --- one pass ---------------------------------------------------------------------------------------------------

    def _prepared(self, epoch: int, first: int) -> Iterator[tuple[np.ndarray, ...]]:
        """Batches number `first` and up, in order; workers stay at most two batches each ahead."""
        jobs = list(enumerate(self.indices(epoch)))[first:]
        if not self.workers:
            yield from (self._prepare(epoch, number, indices) for number, indices in jobs)
            return
        from concurrent.futures import ThreadPoolExecutor

        pool, waiting = ThreadPoolExecutor(self.workers), deque[Any]()
        try:
            for number, indices in jobs:
                waiting.append(pool.submit(self._prepare, epoch, number, indices))
                if len(waiting) > 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:                           # also when the caller breaks out of its loop
            pool.shutdown(cancel_futures=True)

    def _prepare(self, epoch: int, number: int, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        arrays = self.dataset.batch(indices)
        rng = np.random.default_rng([self.seed, epoch, number])
        return tuple(apply(transform, array, rng) for transform, array in
                     zip(self.transforms, arrays[:2], strict=False)) + arrays[2:]

    def _shown(self, batches: Iterator[Any], first: int) -> Iterator[Any]:
        if not self.progress:
            return batches
        from tqdm.auto import tqdm

        label = self.progress if isinstance(self.progress, str) else f"epoch {self.epoch}"
        return iter(tqdm(batches, label, total=len(self), initial=first, unit="batch", leave=False))
