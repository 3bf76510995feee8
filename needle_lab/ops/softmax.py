"""Softmax and its logarithm, and what is made of them: attention and the losses of classification."""

import math

import numpy as np

from ..graph import op
from .elementwise import exp, where
from .reduce import sum as sum_


@op(promote="float", onnx="Softmax")
def softmax(x, *, axis=-1):
    """exp(x) / sum(exp(x)) along axis, shifted by the maximum so that nothing overflows."""
    e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    e /= np.sum(e, axis=axis, keepdims=True)
    return e


@softmax.gradient
def _(g, y, _x, axis=-1):
    return y * (g - sum_(g * y, axis=axis, keepdims=True))


@op(promote="float", onnx="LogSoftmax")
def log_softmax(x, *, axis=-1):
    """log(softmax(x)), computed without the detour through small numbers."""
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


@log_softmax.gradient
def _(g, y, _x, axis=-1):
    return g - exp(y) * sum_(g, axis=axis, keepdims=True)


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 generator=None):
    """softmax(Q K^T * scale + mask) V (Vaswani et al., 2017).

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V). scale: 1 / sqrt(E) by default.
    attn_mask, broadcast to (..., L, S): bool (True takes part) or float (added). is_causal: place i sees 0..i.
    torch.nn.functional.scaled_dot_product_attention, ONNX Attention.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.mT
    if is_causal:
        scores = where(np.tri(query.shape[-2], key.shape[-2], dtype=bool), scores, -math.inf)
    if attn_mask is not None:
        scores = where(attn_mask, scores, -math.inf) if attn_mask.dtype == np.bool_ else scores + attn_mask
    return dropout(softmax(scores, axis=-1), dropout_p, generator=generator) @ value


from .dropout import dropout  # noqa: E402
