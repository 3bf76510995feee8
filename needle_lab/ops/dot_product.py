"""Attention: each query takes a weighted mean of the values, softmax(Q K^T * scale) V  (Vaswani et al., 2017)."""

import math

import numpy as np

from ..core.derivatives import by_parts
from ..core.dtypes import is_floating
from ..core.graph import op
from ..core.modes import is_tracing
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Outputs
from ..errors import DTypeError, ShapeError
from ..random import Generator
from .activations import softmax
from .elementwise import where
from .noise import dropout
from .reduce import any, logsumexp


@op(promote="float")
def attention(query: Array, key: Array, value: Array, *, scale: float, causal: bool) -> tuple[Array, ...]:
    """-> (softmax(Q K^T * scale) V, logarithm of each query's sum of exponentials).

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V) and (..., L). causal: query i sees keys 0..i.
    """
    check(query, key, value)
    scores = (query * scale) @ key.mT
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -np.inf).astype(scores.dtype)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - top)
    sums = weights.sum(-1, keepdims=True)
    return (weights / sums) @ value, (np.log(sums) + top)[..., 0]


def check(query: Array, key: Array, value: Array) -> None:
    """ShapeError where query, key and value do not fit together."""
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(f"attention: query {query.shape}, key {key.shape} and value {value.shape} need the same leading "
                         "lengths, and key and value the same number of rows")


@attention.gradient
def attention_gradient(g: Outputs, query: Tensor, key: Tensor, value: Tensor, scale: float,
                       causal: bool) -> Gradients:
    def parts(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        scores = _hidden((query * scale) @ key.mT, causal)
        return softmax(scores, axis=-1) @ value, logsumexp(scores, axis=-1)
    return by_parts(parts, (query, key, value), g)


def _hidden(scores: Tensor, causal: bool) -> Tensor:
    return where(np.tri(scores.shape[-2], scores.shape[-1], dtype=bool), scores, -math.inf) if causal else scores


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
                                 generator: Generator | None = None) -> Tensor:
    """softmax(Q K^T * scale + mask) V (Vaswani et al., 2017).

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V). scale: 1 / sqrt(E) by default.
    attn_mask, broadcast to (..., L, S): bool (True takes part) or float (added). is_causal: place i sees 0..i.
    torch.nn.functional.scaled_dot_product_attention, ONNX Attention.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and query.numel() and key.numel()
    if attn_mask is None and not dropout_p and alike and attention.runs_on(query.device) and not is_tracing():
        return attention(query, key, value, scale=float(scale), causal=is_causal)[0]
    scores = (query * scale) @ key.mT
    if attn_mask is not None and is_causal:
        early = np.tri(*scores.shape[-2:], dtype=np.bool_)
        attn_mask = where(early, attn_mask, False if attn_mask.dtype == np.bool_ else -math.inf)
    weights = softmax(_hidden(scores, is_causal), axis=-1) if attn_mask is None else masked_softmax(scores, attn_mask)
    return dropout(weights, dropout_p, generator=generator) @ value


def check_mask(mask: Tensor) -> None:
    """A mask of 0 and 1 in integers would be added to the scores without a word."""
    if mask.dtype != np.bool_ and not is_floating(mask.dtype):
        raise DTypeError(f"attention: a mask is bool, or floats that are added to the scores; got {mask.dtype}; use "
                         "mask.bool() for one of 0 and 1")


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """softmax over the last axis of what the mask lets through, bool (True takes part) or float (added to the scores).

    Where it lets nothing through, of a query that may see no key, the weights are 0, and so are their gradients.
    """
    check_mask(mask)
    seen = mask if mask.dtype == np.bool_ else mask > -math.inf
    scores = where(mask, scores, -math.inf) if mask.dtype == np.bool_ else scores + mask
    some = any(seen, axis=-1, keepdims=True)
    if not is_tracing() and some.numpy().all():
        return softmax(scores, axis=-1)
    return where(some, softmax(where(some, scores, 0.0), axis=-1), 0.0)
