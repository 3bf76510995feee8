"""ONNX operators that draw random numbers: from the attribute `seed` if there is one, else from ndl's generator."""

# ruff: noqa: N802    functions are named after ONNX operators

import numpy as np

from ... import Tensor
from ...random import default_generator
from ..limits import limits
from ..values import numpy_dtype
from .table import since


def _generator(seed) -> np.random.Generator:
    return default_generator.numpy if seed is None else np.random.default_rng(int(np.float32(seed).view(np.uint32)))


def _drawn(operator: str, shape, dtype: np.dtype, draw: str, a: float, b: float, seed) -> Tensor:
    shape = limits.check_shape(operator, shape, np.float64)
    return Tensor(getattr(_generator(seed), draw)(a, b, shape).astype(dtype))


@since(1)
def RandomNormal(*, shape, dtype=1, mean=0.0, scale=1.0, seed=None):
    return _drawn("RandomNormal", shape, numpy_dtype(dtype), "normal", mean, scale, seed)


@since(1)
def RandomNormalLike(x, *, dtype=None, mean=0.0, scale=1.0, seed=None):
    kind = x.dtype if dtype is None else numpy_dtype(dtype)
    return _drawn("RandomNormalLike", x.shape, kind, "normal", mean, scale, seed)


@since(1)
def RandomUniform(*, shape, dtype=1, low=0.0, high=1.0, seed=None):
    return _drawn("RandomUniform", shape, numpy_dtype(dtype), "uniform", low, high, seed)


@since(1)
def RandomUniformLike(x, *, dtype=None, low=0.0, high=1.0, seed=None):
    kind = x.dtype if dtype is None else numpy_dtype(dtype)
    return _drawn("RandomUniformLike", x.shape, kind, "uniform", low, high, seed)


@since(15, rank="first")
def Bernoulli(x, *, dtype=None, seed=None):
    drawn = _generator(seed).random(x.shape) < x.numpy()
    return Tensor(drawn.astype(x.dtype if dtype is None else numpy_dtype(dtype)))


@since(7)
def Multinomial(x, *, dtype=6, sample_size=1, seed=None):
    """x (N, C) of log-probabilities, not normalised -> (N, sample_size) classes."""
    limits.check_shape("Multinomial", [x.shape[0], sample_size, x.shape[1]], np.float64)
    noise = _generator(seed).gumbel(size=(x.shape[0], sample_size, x.shape[1]))
    return Tensor((x.numpy()[:, None] + noise).argmax(-1).astype(numpy_dtype(dtype)))
