"""Dropout: training with some values left out (Srivastava et al., 2014)."""

import math
from typing import Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Shape
from ..errors import ArgumentError, DTypeError
from ..random import Generator, default_generator
from .activations import softmax
from .elementwise import elementwise, where
from .reduce import argmax
from .shape import ones_like


def dropout(x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Each value is 0 with probability p, else divided by 1 - p, so that the mean stays.  torch.nn.functional.dropout.

    generator: an ndl.Generator; the default one, seeded by `ndl.manual_seed`, otherwise.
    """
    return _drop(x, x.shape, p, training, generator)


def feature_dropout(x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Whole channels of x (N, C, *size) are dropped together.  torch.nn.functional.feature_dropout, dropout2d."""
    return _drop(x, _by_channel(x, 0), p, training, generator)


def _by_channel(x: Tensor, dims: int) -> tuple[int, ...]:
    """One value a channel of x (N, C, *size), or of x (C, *size) where there are so many dimensions."""
    lead = 1 if dims and x.ndim == dims + 1 else 2
    return x.shape[:lead] + (1,) * (x.ndim - lead)


def dropout1d(x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Whole channels of x (N, C, L) or (C, L) are dropped.  torch.nn.functional.dropout1d."""
    return _drop(x, _by_channel(x, 1), p, training, generator)


def dropout3d(x: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Whole channels of x (N, C, D, H, W) or (C, D, H, W) are dropped.  torch.nn.functional.dropout3d."""
    return _drop(x, _by_channel(x, 3), p, training, generator)


def alpha_dropout(x: Tensor, p: float = 0.5, training: bool = False, generator: Generator | None = None) -> Tensor:
    """Dropout for SELU: mean and variance stay (Klambauer et al., 2017).  torch.nn.functional.alpha_dropout."""
    return _to_alpha(x, x.shape, p, training, generator)


def feature_alpha_dropout(x: Tensor, p: float = 0.5, training: bool = False, generator: Generator | None = None) -> Tensor:
    """`alpha_dropout` of whole channels of x (N, C, *size).  torch.nn.functional.feature_alpha_dropout."""
    return _to_alpha(x, _by_channel(x, 0), p, training, generator)


def _to_alpha(x: Tensor, shape: Shape, p: float, training: bool, generator: Generator | None) -> Tensor:
    """Values become SELU's least, -1.758..., then all are scaled and shifted so that mean 0 and variance 1 stay."""
    if not training or p == 0:
        return x
    least, kept = -1.7580993408473766, (_drop(ones_like(x), shape, p, True, generator) != 0).astype(x.dtype)
    scale = 1 / math.sqrt((1 - p) * (1 + p * least * least)) if p < 1 else 0.0
    return (x * kept + least * (1.0 - kept)) * scale - least * p * scale


def rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          generator: Generator | None = None) -> Tensor:
    """Leaky ReLU, its slopes drawn in training, their mean otherwise (Xu et al., 2015).  torch.nn.functional.rrelu."""
    slope: Any = (lower + upper) / 2
    if training:
        slope = (generator or default_generator).numpy.uniform(lower, upper, x.shape).astype(x.dtype)
    return where(x > 0, x, slope * x)


def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, axis: int = -1,
                   generator: Generator | None = None) -> Tensor:
    """Nearly one-hot, drawn by softmax(logits) (Jang et al., 2017).  hard: one-hot, its gradient that of the soft one.

    tau: the smaller, the nearer.  torch.nn.functional.gumbel_softmax.
    """
    noise = (generator or default_generator).numpy.gumbel(size=logits.shape).astype(logits.dtype)
    soft = softmax((logits + noise) / tau, axis=axis)
    if not hard:
        return soft
    best = argmax(soft, axis=axis, keepdims=True)
    places = np.arange(soft.shape[axis]).reshape(-1, *(1,) * (soft.ndim - 1 - axis % soft.ndim))
    return (best == places).astype(soft.dtype) - soft.detach() + soft


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
