"""Attention: each query takes a weighted mean of the values, softmax(Q K^T * scale) V  (Vaswani et al., 2017).

The weights of all queries on all keys are a table of L x S numbers for each head. The op never holds it whole: it goes
over blocks of heads and queries, keeps one number a query (the logarithm of the sum of the exponentials), and its
gradient computes the block again from that number, as flash attention does on GPUs (Dao et al., 2022). Where later keys
must not be seen, a block leaves out the keys after its last query: up to half of the work.
"""

import math

import numpy as np

from ..core.graph import backward_kernel, by_parts, is_tracing, op
from ..errors import ShapeError
from ..kernels.numpy.threads import parallel, shares
from .dropout import dropout
from .elementwise import where
from .linalg import _ones
from .reduce import logsumexp
from .softmax import softmax

QUERIES = 64                   # of a block where later keys are hidden; measured
SCORES = 1 << 16               # numbers in a block's table: 256 KiB of float32 stay in the cache


def _blocks(heads: int, queries: int, keys: int, causal: bool):
    """(slice of the heads, slice of the queries, how many keys they see)."""
    rows = max(1, min(queries, QUERIES if causal else max(SCORES // max(keys, 1), 1)))
    together = max(1, SCORES // max(rows * keys, 1))
    for head in range(0, heads, together):
        for row in range(0, queries, rows):
            end = min(row + rows, queries)
            yield slice(head, head + together), slice(row, end), min(end, keys) if causal else keys


def _work(q, k) -> int:
    """Weights of all heads, each of which takes some operations."""
    return len(q) * q.shape[1] * k.shape[1] * 4


def _flat(x):
    """(..., L, E) -> (heads, L, E)."""
    return x.reshape(-1, *x.shape[-2:])


def _scores(q, k, at, keys: int, scale: float, causal: bool):
    """Q K^T * scale of a block; -inf for keys after the query."""
    _, rows = at
    scores = np.matmul(q[at] * q.dtype.type(scale), k[at[0], :keys].mT)
    if causal:                                              # only keys from the block's first query on can be too late
        first = rows.start
        late = ~np.tri(rows.stop - first, max(keys - first, 0), dtype=bool)
        np.copyto(scores[:, :, first:], -np.inf, where=late)
    return scores


@op(promote="float", onnx=None)
def attention(query, key, value, *, scale, causal):
    """-> (softmax(Q K^T * scale) V, logarithm of each query's sum of exponentials).

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V) and (..., L). causal: query i sees keys 0..i.
    """
    if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(f"attention: query {query.shape}, key {key.shape} and value {value.shape} need the same leading "
                         "lengths, and key and value the same number of rows")
    q, k, v = map(_flat, (query, key, value))
    y, total = np.empty((*q.shape[:2], v.shape[2]), q.dtype), np.empty(q.shape[:2], q.dtype)

    def block(heads, rows, keys):
        at = heads, rows
        weights = _scores(q, k, at, keys, scale, causal)
        top = weights.max(axis=2, keepdims=True, initial=-np.inf)
        weights -= top
        np.exp(weights, out=weights)
        sums = (weights @ _ones(keys, weights.dtype))[:, :, None]
        y[at] = np.matmul(weights, v[heads, :keys]) / sums
        total[at] = (np.log(sums) + top)[:, :, 0]
    blocks = list(_blocks(len(q), q.shape[1], k.shape[1], causal))
    parallel(lambda at: [block(*b) for b in blocks[at]], shares(len(blocks), _work(q, k)))
    return y.reshape(*query.shape[:-1], value.shape[-1]), total.reshape(query.shape[:-1])


@attention.gradient
def _(g, _y, query, key, value, scale, causal):
    def parts(query, key, value):
        scores = _hidden((query * scale) @ key.mT, causal)
        return softmax(scores, axis=-1) @ value, logsumexp(scores, axis=-1)
    return by_parts(parts, (query, key, value), g)


@backward_kernel(attention)
def _(_needs, g, y, query, key, value, *, scale, causal):
    (g, gtotal), (y, total) = g, y
    if gtotal is not None:
        return NotImplemented
    q, k, v, g, y = map(_flat, (query, key, value, g, y))
    total = total.reshape(q.shape[:2])
    dq, dk, dv = np.empty_like(q), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    by_heads: dict[int, list] = {}                           # blocks of the same heads add to the same keys and values
    for at in _blocks(len(q), q.shape[1], k.shape[1], causal):
        by_heads.setdefault(at[0].start, []).append(at)

    def block(heads, rows, keys):
        at = heads, rows
        weights = _scores(q, k, at, keys, scale, causal)
        weights -= total[at][:, :, None]
        np.exp(weights, out=weights)
        dv[heads, :keys] += np.matmul(weights.mT, g[at])
        slope = np.matmul(g[at], v[heads, :keys].mT)         # of the weights; then of the scores
        slope -= np.vecdot(g[at], y[at])[:, :, None]
        slope *= weights
        slope *= q.dtype.type(scale)
        dq[at] = np.matmul(slope, k[heads, :keys])
        dk[heads, :keys] += np.matmul(slope.mT, q[at])
    groups = list(by_heads.values())
    parallel(lambda at: [block(*b) for some in groups[at] for b in some], shares(len(groups), _work(q, k)))
    return dq.reshape(query.shape), dk.reshape(key.shape), dv.reshape(value.shape)


def _hidden(scores, causal: bool):
    return where(np.tri(scores.shape[-2], scores.shape[-1], dtype=bool), scores, -math.inf) if causal else scores


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 generator=None):
    """softmax(Q K^T * scale + mask) V (Vaswani et al., 2017).

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V). scale: 1 / sqrt(E) by default.
    attn_mask, broadcast to (..., L, S): bool (True takes part) or float (added). is_causal: place i sees 0..i.
    torch.nn.functional.scaled_dot_product_attention, ONNX Attention.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2] and query.size and key.size
    if attn_mask is None and not dropout_p and alike and attention.runs_on(query.device) and not is_tracing():
        return attention(query, key, value, scale=float(scale), causal=is_causal)[0]
    scores = _hidden((query * scale) @ key.mT, is_causal)
    if attn_mask is not None:
        scores = where(attn_mask, scores, -math.inf) if attn_mask.dtype == np.bool_ else scores + attn_mask
    return dropout(softmax(scores, axis=-1), dropout_p, generator=generator) @ value
