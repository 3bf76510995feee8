"""How many threads a computation may use, and how work is split over them.

numpy's functions run outside Python's lock, so Python threads that call them run at the same time. A convolution is split
over samples or rows, one part a thread, while BLAS (numpy's matrix products) is held at one thread: two such threads are
faster than one with a BLAS of two, which waits for itself after every product. A single product is left to BLAS.

The parts of a result do not depend on one another, but a product of another size may be summed in another order: results
with different numbers of threads agree to rounding, and with the same number they are equal bit by bit.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import ArgumentError


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
    """What all threads share.  threads: how many may work; busy: calls of `parallel` that hold BLAS at one thread."""

    def __init__(self, threads: int):
        self.threads, self.busy, self.blas_threads = threads, 0, 1
        self.lock, self.pool = threading.Lock(), None


_state: Any = _State(_usable_cores())
_worker = threading.local()              # .inside: this thread is working on a part


def get_num_threads() -> int:
    """How many threads a computation may use.  torch.get_num_threads."""
    return _state.threads


def set_num_threads(n: int) -> None:
    """Use up to n threads for a computation, here and in BLAS.  torch.set_num_threads.

    Without it: OMP_NUM_THREADS, or else one thread for each core that the process may use.
    """
    if not isinstance(n, int) or n < 1:
        raise ArgumentError(f"set_num_threads: a whole number of at least 1 is needed, got {n!r}")
    with _state.lock:
        _state.threads = _state.blas_threads = n
        if not _state.busy:
            _blas().put(n)
        pool, _state.pool = _state.pool, None
    if pool is not None:
        pool.shutdown(wait=False)


def parallel(function: Callable[[Any], Any], items: Sequence, most: int | None = None) -> list:
    """[function(item) for item in items], the items shared out among (at most so many) threads, in any order.

    A part that calls `parallel` itself runs its own parts one after another. An error of a part is raised here.
    """
    threads = min(_state.threads, len(items), len(items) if most is None else most)
    if threads < 2 or getattr(_worker, "inside", False) or not _blas().known:
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
    with one_blas_thread():
        others = [_pool().submit(work) for _ in range(threads - 1)]
        try:
            work()
        finally:
            for other in others:
                other.exception()                        # all parts have ended, also after an error
    for other in others:
        other.result()
    return results


def _pool() -> ThreadPoolExecutor:
    with _state.lock:
        if _state.pool is None:
            _state.pool = ThreadPoolExecutor(_state.threads, "needle_lab")
        return _state.pool


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS at one thread while any call of `parallel` is at work, at its former number afterwards.

    Also for a product just before `parallel`: BLAS's own threads go on spinning for a while and would be in the way.
    """
    if _state.threads == 1:
        yield
        return
    blas = _blas()
    with _state.lock:
        if _state.busy == 0:
            _state.blas_threads = blas.get()
            blas.put(1)
        _state.busy += 1
    try:
        yield
    finally:
        with _state.lock:
            _state.busy -= 1
            if _state.busy == 0:
                blas.put(_state.blas_threads)


class _Blas(NamedTuple):
    """The functions that read and set the number of threads of numpy's BLAS; known: whether it has any that we know."""

    get: Callable[[], int]
    put: Callable[[int], None]
    known: bool


_BLAS_NAMES = [(f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
               for prefix in ("scipy_", "") for suffix in ("64_", "")]
_BLAS_NAMES += [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"), ("bli_thread_get_num_threads", "bli_thread_set_num_threads")]


@functools.cache
def _blas() -> _Blas:
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]  # it calls BLAS
    bundled = Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*")
    for path in (_multiarray_umath.__file__, *map(str, bundled)):             # a library also answers for those it needs
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path)
            for getter, setter in _BLAS_NAMES:
                get, put = getattr(library, getter, None), getattr(library, setter, None)
                if get is not None and put is not None:
                    put.argtypes, put.restype, get.restype = [ctypes.c_int], None, ctypes.c_int
                    return _Blas(get, put, True)
    return _Blas(lambda: 1, lambda n: None, False)


def _after_fork() -> None:
    """A child process has none of its parent's threads: it starts its own."""
    global _state, _worker
    _state, _worker = _State(_state.threads), threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
