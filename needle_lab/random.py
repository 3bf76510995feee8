"""Random numbers from seeded generators whose state can be saved.

`manual_seed(n)` seeds the default generator; every function takes `generator=` to use another one. Numbers are drawn
on the host, so a seed gives the same numbers on every device.
"""

from __future__ import annotations

import operator
import os
import threading
import weakref
from typing import Any

import numpy as np

from .core.dtypes import as_dtype, float32, int64
from .core.tensor import Tensor, flat
from .core.types import DeviceLike, DTypeLike, Sizes
from .errors import ArgumentError


class Generator:
    """A stream of random numbers (PCG64).  torch.Generator."""

    living: weakref.WeakSet[Generator] = weakref.WeakSet()

    def __init__(self, seed: int | None = None):
        self._seed = None if seed is None else _checked(seed)
        self._numpy: np.random.Generator | None = None
        Generator.living.add(self)

    @property
    def numpy(self) -> np.random.Generator:
        """NumPy's generator, made when the first number is drawn."""
        if self._numpy is None:
            self._numpy = np.random.default_rng(self._seed)
        return self._numpy

    def manual_seed(self, seed: int) -> Generator:
        """Start again at this seed."""
        self._seed = _checked(seed)
        self._numpy = np.random.default_rng(self._seed)
        return self

    def get_state(self) -> dict[str, Any]:
        """The state as JSON values."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called; ArgumentError (and no change) for anything else."""
        fresh: Any = np.random.PCG64()
        try:
            fresh.state = state
        except (TypeError, ValueError, KeyError) as error:
            raise ArgumentError(f"this is not a state that Generator.get_state() returned: {error}") from error
        self._numpy = np.random.Generator(fresh)


def _checked(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise ArgumentError(f"a seed is an integer of 0 or more, got {seed!r}")
    return number


default_generator = Generator()

# A process that is forked while another thread draws would inherit that thread's lock, which nobody in it gives back: so all
# locks are held at the moment of the fork, and given back on both sides.
_held = threading.local()


def _hold() -> None:
    _held.locks = [g._numpy.bit_generator.lock for g in list(Generator.living) if g._numpy is not None]
    for lock in _held.locks:
        lock.acquire()


def _give_back() -> None:
    for lock in _held.locks:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_give_back, after_in_child=_give_back)


def manual_seed(seed: int) -> Generator:
    """Seed the default generator: the same program then draws the same numbers.  torch.manual_seed.

    >>> _ = ndl.manual_seed(0)
    >>> first = ndl.rand(3)
    >>> _ = ndl.manual_seed(0)
    >>> ndl.allclose(first, ndl.rand(3))
    True
    """
    return default_generator.manual_seed(seed)


def get_rng_state() -> dict[str, Any]:
    """State of the default generator, as JSON values."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `get_rng_state` returned."""
    default_generator.set_state(state)


def _draw(generator: Generator | None) -> np.random.Generator:
    return (generator or default_generator).numpy


def rand(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, generator: Generator | None = None,
         requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1): ndl.rand(2, 3) or ndl.rand((2, 3)).  torch.rand."""
    return uniform(0.0, 1.0, flat(shape), dtype, device, generator, requires_grad)


def randn(*shape: Any, dtype: DTypeLike = float32, device: DeviceLike = None, generator: Generator | None = None,
          requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and standard deviation 1: ndl.randn(2, 3) or ndl.randn((2, 3)).  torch.randn."""
    return normal(0.0, 1.0, flat(shape), dtype, device, generator, requires_grad)


def uniform(low: float, high: float, shape: Sizes, dtype: DTypeLike = float32, device: DeviceLike = None,
            generator: Generator | None = None, requires_grad: bool = False) -> Tensor:
    """Uniform in [low, high)."""
    dtype = as_dtype(dtype)
    drawn = _draw(generator).random(shape, np.float64 if dtype == np.float64 else np.float32)
    return Tensor(np.asarray(drawn * (high - low) + low).astype(dtype), requires_grad, device)


def normal(mean: Any, std: Any = 1.0, shape: Sizes | None = None, dtype: DTypeLike = float32, device: DeviceLike = None,
           generator: Generator | None = None, requires_grad: bool = False, *, size: Sizes | None = None) -> Tensor:
    """Normal with the given mean and standard deviation, numbers or tensors.  torch.normal, which says size for shape."""
    shape = size if shape is None else shape
    mean, std = (np.asarray(v) for v in (mean, std))
    shape = np.broadcast_shapes(mean.shape, std.shape) if shape is None else shape
    dtype = as_dtype(dtype)
    drawn = _draw(generator).standard_normal(shape, np.float64 if dtype == np.float64 else np.float32)
    return Tensor(np.asarray(drawn * std + mean).astype(dtype), requires_grad, device)


def randint(low: int = 0, high: Any = None, shape: Sizes | None = None, dtype: DTypeLike = int64, device: DeviceLike = None,
            generator: Generator | None = None, *, size: Sizes | None = None) -> Tensor:
    """Integers in [low, high): randint(2, 9, (3,)); in [0, n): randint(n, (3,)).  torch.randint (size=)."""
    if high is None or not isinstance(high, int):
        low, high, shape = 0, low, high if shape is None else shape
    shape = size if shape is None else shape
    if shape is None:
        raise ArgumentError("randint: a shape is needed, randint(low, high, (2, 3))")
    return Tensor(np.asarray(_draw(generator).integers(low, high, shape)).astype(as_dtype(dtype)), device=device)


def randperm(n: int, device: DeviceLike = None, generator: Generator | None = None) -> Tensor:
    """0..n-1 in random order, int64.  torch.randperm."""
    return Tensor(_draw(generator).permutation(n), device=device)


def bernoulli(p: Any, shape: Sizes | None = None, dtype: DTypeLike = float32, device: DeviceLike = None,
              generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0; of a tensor of probabilities, one for each.  torch.bernoulli."""
    if isinstance(p, Tensor):
        shape, dtype, device, p = p.shape if shape is None else shape, p.dtype, device or p.device, p.numpy()
    if shape is None or not np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)):
        raise ArgumentError(f"bernoulli: a probability and a shape, or a tensor of probabilities, are needed, got {p!r}")
    return Tensor(np.asarray(_draw(generator).random(shape, np.float32) < p).astype(as_dtype(dtype)), device=device)


def multinomial(weights: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:
    """num_samples indices, drawn with these weights (n,) or (rows, n), int64.  torch.multinomial."""
    p = weights.numpy().astype(np.float64)
    if p.ndim not in (1, 2) or not (p >= 0).all() or not np.isfinite(p).all() or not (p.sum(-1) > 0).all():
        raise ArgumentError(f"multinomial: weights of 0 or more in a vector or matrix are needed, got {weights.shape}")
    if not replacement and (np.count_nonzero(p, -1) < num_samples).any():
        raise ArgumentError(f"multinomial: {num_samples} different indices are asked for, fewer have a weight; "
                            "replacement=True allows repeats")
    random, rows = _draw(generator), p.reshape(-1, p.shape[-1])
    if replacement:
        found = np.array([np.searchsorted(ends, random.random(num_samples) * ends[-1], "right") for ends in rows.cumsum(-1)])
    else:                                # the smallest of exponential times with these rates (Efraimidis and Spirakis, 2006)
        with np.errstate(divide="ignore"):
            found = np.argsort(random.exponential(size=rows.shape) / rows, -1)[:, :num_samples]
    return Tensor(found.reshape(*p.shape[:-1], num_samples), device=weights.device)


def rand_like(x: Tensor, dtype: DTypeLike | None = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Uniform in [0, 1), with x's shape and, by default, dtype and device.  torch.rand_like."""
    return rand(x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device, requires_grad=requires_grad)


def randn_like(x: Tensor, dtype: DTypeLike | None = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """Normal with mean 0 and standard deviation 1, with x's shape and, by default, dtype and device.  torch.randn_like."""
    return randn(x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device, requires_grad=requires_grad)


def randint_like(x: Tensor, low: int, high: int | None = None, dtype: DTypeLike | None = None,
                 device: DeviceLike = None) -> Tensor:
    """Integers in [low, high), or [0, low), with x's shape and, by default, dtype and device.  torch.randint_like."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device)
