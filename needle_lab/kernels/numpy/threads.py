"""How many threads a computation may use, and how work is shared among them.

numpy's functions run outside Python's lock, so Python threads that call them run at the same time. Work is split over
samples, rows or blocks of values, one part after another for each thread. BLAS, which computes numpy's matrix products,
has threads of its own, and after a product they go on spinning for a while on the cores that we want; so when needle_lab
first shares work it sets numpy's BLAS to one thread, for the whole process, and shares large products among its own
threads. `ndl.set_blas_threads(n)` sets it back. Importing needle_lab, and computing with one thread, change nothing.

The parts of a result do not depend on one another, but a product of another size may be summed in another order: results
with different numbers of threads agree to rounding, and with the same number they are equal bit by bit.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ArgumentError


def _usable_cores() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may use: its affinity, and its cgroup's share."""
    wished = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wished.isdigit() and int(wished) > 0:
        return int(wished)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = Path("/sys/fs/cgroup/cpu.max")
    if share.is_file():
        quota, _, period = share.read_text(encoding="utf-8").partition(" ")
        if quota.isdigit():
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


class _State:
    """What all threads share: how many may work, and the pool that they come from."""

    def __init__(self, threads: int, blas_alone: bool = False):
        self.threads, self.lock, self.pool, self.blas_alone = threads, threading.Lock(), None, blas_alone


_state: Any = _State(_usable_cores())
_worker = threading.local()              # .inside: this thread is working on a part


def _in_a_forked_process() -> None:
    """Of the pool only the object is left: its threads stayed behind, as may have who held the lock."""
    _state.pool, _state.lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_process)


def get_num_threads() -> int:
    """How many threads a computation may use.  torch.get_num_threads."""
    return _state.threads


def set_num_threads(n: int) -> None:
    """Use up to n threads for a computation.  torch.set_num_threads.

    Without it: OMP_NUM_THREADS, or else one thread for each core that the process may use.
    """
    _check_threads("set_num_threads", n)
    with _state.lock:
        _state.threads = n
        pool, _state.pool = _state.pool, None
    if pool is not None:
        pool.shutdown(wait=False)


def _check_threads(name: str, n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise ArgumentError(f"{name}: a whole number of at least 1 is needed, got {n!r}")


def parallel(function: Callable[[Any], Any], items: Sequence, most: int | None = None) -> list:
    """[function(item) for item in items], the items shared out among (at most so many) threads, in any order.

    A part that calls `parallel` itself runs its own parts one after another. An error of a part is raised here.
    """
    threads = min(_state.threads, len(items), len(items) if most is None else most)
    if threads < 2 or getattr(_worker, "inside", False):
        return [function(item) for item in items]
    results: list[Any] = [None] * len(items)
    turn = itertools.count()                             # next() is atomic: each number is given to one thread

    def work() -> None:
        _worker.inside = True
        try:
            while (i := next(turn)) < len(items):
                results[i] = function(items[i])
        finally:
            _worker.inside = False
    others = [_pool().submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for other in others:
            other.exception()                            # all parts have ended, also after an error
    for other in others:
        other.result()
    return results


# To wake a thread takes 50 us. Worth it are (measured):
PRODUCTS = 1 << 24           # multiplications in a matrix product
VALUES = 1 << 20             # values of which each takes a few operations
PART = 1 << 18               # values of an elementwise formula in one turn of a thread


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """np.matmul; a large product is shared among the threads, by rows, by columns, or by the first of leading axes."""
    if (_state.threads == 1 or a.size * b.shape[-1] < PRODUCTS or min(a.ndim, b.ndim) < 2 or a.dtype != b.dtype
            or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2] or getattr(_worker, "inside", False)):
        return np.matmul(a, b, out=out)
    y = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype) if out is None else out
    if math.prod(a.shape[:-2]) > 1:
        parallel(lambda at: np.matmul(a[at], b[at], out=y[at]), shares(len(a)))
    elif a.shape[-2] >= b.shape[-1]:
        parallel(lambda at: np.matmul(a[..., at, :], b, out=y[..., at, :]), shares(a.shape[-2]))
    else:
        parallel(lambda at: np.matmul(a, b[..., at], out=y[..., at]), shares(b.shape[-1]))
    return y


def elementwise(function: Callable, *arrays, **attrs) -> Any:
    """function(*arrays, **attrs), which has one value for each place: large arrays are shared among the threads.

    A part's result is moved while it is in the cache. Arrays of different shapes or memory orders go in one piece.
    """
    if _state.threads == 1:
        return function(*arrays, **attrs)
    large = [a for a in arrays if isinstance(a, np.ndarray) and a.ndim]
    if not large or large[0].size < VALUES or getattr(_worker, "inside", False):
        return function(*arrays, **attrs)
    first = large[0]
    order = sorted(range(first.ndim), key=lambda i: -first.strides[i])           # the axes, the fastest in memory last
    if (not first.transpose(order).flags.c_contiguous
            or any(a.shape != first.shape or a.strides != first.strides for a in large)):
        return function(*arrays, **attrs)
    flat = [a.transpose(order).reshape(-1) if isinstance(a, np.ndarray) and a.ndim else a for a in arrays]

    def part(start: int) -> np.ndarray:
        return function(*[a[start:start + PART] if isinstance(a, np.ndarray) and a.ndim else a for a in flat], **attrs)
    begin = part(0)
    y = np.empty(first.size, begin.dtype)
    y[:PART] = begin

    def write(start: int) -> None:
        y[start:start + PART] = part(start)
    parallel(write, range(PART, first.size, PART))
    return y.reshape([first.shape[i] for i in order]).transpose(np.argsort(order))


def shares(n: int, values: int = VALUES) -> list[slice]:
    """0..n-1 as one slice for each thread, or as one slice where so few values are not worth it."""
    return cut(n, max(1, min(_state.threads, n)) if values >= VALUES else 1)


def cut(n: int, count: int) -> list[slice]:
    """0..n-1 as so many slices of nearly equal size."""
    return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]


def _pool() -> ThreadPoolExecutor:
    with _state.lock:
        if _state.pool is None:
            if not _state.blas_alone:
                _state.blas_alone = True
                set_blas_threads(1)
            _state.pool = ThreadPoolExecutor(_state.threads, "needle_lab")
        return _state.pool


@functools.cache
def _blas() -> Any:
    """What reads and sets the number of threads of numpy's BLAS."""
    from threadpoolctl import ThreadpoolController  # here: it looks at every library of the process, which takes time
    return ThreadpoolController().select(user_api="blas")


def get_blas_threads() -> int:
    """How many threads of its own a matrix product of numpy uses (1 where numpy's BLAS is none that can be asked)."""
    return max((library.num_threads for library in _blas().lib_controllers), default=1)


def set_blas_threads(n: int) -> None:
    """Let a matrix product of numpy use n threads of its own, for the whole process.

    needle_lab sets 1 when it first shares work among threads, and leaves it alone afterwards.
    """
    _check_threads("set_blas_threads", n)
    for library in _blas().lib_controllers:
        library.set_num_threads(n)


def _after_fork() -> None:
    """A child process has none of its parent's threads: it starts its own."""
    global _state, _worker
    _state, _worker = _State(_state.threads, _state.blas_alone), threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
