"""Attention without its table: L x S weights for each head, never held whole.

A block of heads and queries at a time: it keeps one number a query (the logarithm of the sum of the exponentials), and the
gradient computes the block again from that number, as flash attention does on GPUs (Dao et al., 2022). Where later keys
must not be seen, a block leaves out the keys after its last query: up to half of the work.
"""

import math

import numpy as np

from ...core.tiers import kernel
from ...ops.dot_product import attention, check
from .sums import ones
from .threads import parallel, shares

QUERIES = 64                   # of a block where later keys are hidden; measured
SCORES = 1 << 16               # numbers in a block's table: 256 KiB of float32 stay in the cache


def blocks(heads: int, queries: int, keys: int, causal: bool):
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


def flat(x):
    """(..., L, E) -> (heads, L, E)."""
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _scores(q, k, at, keys: int, scale: float, causal: bool):
    """Q K^T * scale of a block; -inf for keys after the query."""
    _, rows = at
    scores = np.matmul(q[at] * q.dtype.type(scale), k[at[0], :keys].mT)
    if causal:                                              # only keys from the block's first query on can be too late
        first = rows.start
        late = ~np.tri(rows.stop - first, max(keys - first, 0), dtype=bool)
        np.copyto(scores[:, :, first:], -np.inf, where=late)
    return scores


@kernel(attention, "numpy")
def blockwise_attention(query, key, value, *, scale, causal):
    check(query, key, value)
    q, k, v = map(flat, (query, key, value))
    y, total = np.empty((*q.shape[:2], v.shape[2]), q.dtype), np.empty(q.shape[:2], q.dtype)

    def block(heads, rows, keys):
        at = heads, rows
        weights = _scores(q, k, at, keys, scale, causal)
        top = weights.max(axis=2, keepdims=True, initial=-np.inf)
        weights -= top
        np.exp(weights, out=weights)
        sums = (weights @ ones(keys, weights.dtype))[:, :, None]
        y[at] = np.matmul(weights, v[heads, :keys]) / sums
        total[at] = (np.log(sums) + top)[:, :, 0]
    parts = list(blocks(len(q), q.shape[1], k.shape[1], causal))
    parallel(lambda at: [block(*b) for b in parts[at]], shares(len(parts), _work(q, k)))
    return y.reshape(*query.shape[:-1], value.shape[-1]), total.reshape(query.shape[:-1])


@kernel(attention.gradient, "numpy")
def attention_gradient(wants, g, y, query, key, value, scale, causal):
    (g, gtotal), (y, total) = g, y
    if gtotal is not None:
        return NotImplemented
    q, k, v, g, y = map(flat, (query, key, value, g, y))
    total = total.reshape(q.shape[:2])
    dq, dk, dv = np.empty_like(q), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    by_heads: dict[int, list] = {}                           # blocks of the same heads add to the same keys and values
    for at in blocks(len(q), q.shape[1], k.shape[1], causal):
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
