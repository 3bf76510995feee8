"""Dropout: training with some values left out (Srivastava et al., 2014)."""

import numpy as np

from ..core.dtypes import is_floating
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Shape
from ..errors import ArgumentError, DTypeError
from ..random import Generator, default_generator
from .elementwise import elementwise


def dropout(x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Each value is 0 with probability p, else divided by 1 - p, so that the mean stays.  torch.nn.functional.dropout.

    generator: an ndl.Generator; the default one, seeded by `ndl.manual_seed`, otherwise.
    """
    return _drop(x, x.shape, p, training, generator)


def feature_dropout(x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Whole channels of x (N, C, *size) are dropped together.  torch.nn.functional.dropout2d."""
    return _drop(x, x.shape[:2] + (1,) * (x.ndim - 2), p, training, generator)


def _drop(x: Tensor, shape: Shape, p: float, training: bool, generator: Generator | None) -> Tensor:
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p={p} is not a probability")
    if not training or p == 0:
        return x
    if not is_floating(x.dtype):
        raise DTypeError(f"dropout: floats are needed, which are divided by 1 - p; got {x.dtype}")
    limit = round(p * LEVELS)                                # so many of the numbers 0..LEVELS-1 mean "drop"
    keep = (generator or default_generator).numpy.integers(0, LEVELS, shape, np.uint16) >= limit
    return keep_some(x, keep, scale=0.0 if limit == LEVELS else LEVELS / (LEVELS - limit))


LEVELS = 1 << 16               # p is met to 1 / 65,536; such small random numbers cost half of float32 ones


@elementwise(index_inputs=(1,))
def keep_some(x: Array, keep: Array, *, scale: float) -> Array:
    """x * scale where keep (bool, broadcast), else 0.  The mask takes one byte a value until backward."""
    return x * keep * scale


@keep_some.gradient
def keep_some_gradient(g: Tensor, keep: Tensor, scale: float) -> Gradients:
    return keep_some(g, keep, scale=scale), None
