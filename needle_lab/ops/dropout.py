"""Dropout: training with some values left out (Srivastava et al., 2014)."""

import numpy as np

from ..errors import ArgumentError


def dropout(x, p=0.5, training=True, generator=None):
    """Each value is 0 with probability p, else divided by 1 - p, so that the mean stays.

    generator: an ndl.Generator; the default one, seeded by `ndl.manual_seed`, otherwise.
    """
    return _drop(x, x.shape, p, training, generator)


def feature_dropout(x, p=0.5, training=True, generator=None):
    """Whole channels of x (N, C, *size) are dropped together.  torch.nn.functional.dropout2d."""
    return _drop(x, x.shape[:2] + (1,) * (x.ndim - 2), p, training, generator)


def _drop(x, shape, p, training, generator):
    from ..random import default_generator  # tensors exist by the time this is called
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p={p} is not a probability")
    if not training or p == 0:
        return x
    keep = (generator or default_generator).numpy.random(shape, np.float32) >= p
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return x * (keep * np.float32(scale)).astype(x.dtype)
