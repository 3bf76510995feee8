"""ONNX operators of transformers: attention with all its masks, caches and head layouts."""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import ops
from ...errors import ArgumentError
from ..values import numpy_dtype
from .table import since


def _heads(x, count: int):
    """(N, T, heads * E) -> (N, heads, T, E)."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _allowed(queries: int, keys: int, before, is_causal: bool, left: int, right: int) -> np.ndarray | None:
    """Which key each query may see: its own place is `before` keys behind the first query's; None: every key.

    before: a number, or one a sample (then the result has shape (N, 1, queries, keys)).
    """
    if not is_causal and left < 0 and right < 0:
        return None
    place = np.arange(queries)[:, None] + np.reshape(before, (-1, 1, 1, 1) if np.ndim(before) else ())
    key = np.arange(keys)
    allowed = np.ones(np.broadcast_shapes(place.shape, key.shape), bool)
    if is_causal:
        allowed &= key <= place
    if left >= 0:
        allowed &= key >= place - left
    if right >= 0:
        allowed &= key <= place + right
    return allowed


@since(23, family="linear")
def Attention(query, key, value, attn_mask=None, past_key=None, past_value=None, nonpad_kv_seqlen=None, *, is_causal=0,
              kv_num_heads=None, q_num_heads=None, qk_matmul_output_mode=0, scale=None, softcap=0.0, softmax_precision=None,
              left_window_size=-1, right_window_size=-1, outputs=1):
    """softmax(Q K^T scale + masks) V -> (Y, keys and values with the cache before them, scores).

    Inputs (N, heads, T, E), or (N, T, heads * E) with the numbers of heads as attributes. Fewer key than query heads:
    each serves several. A query that may see no key gives 0.
    """
    flat = query.ndim == 3
    if flat:
        query, key, value = _heads(query, q_num_heads), _heads(key, kv_num_heads), _heads(value, kv_num_heads)
    cached = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        key, value = ops.concat([past_key, key], 2), ops.concat([past_value, value], 2)
    present_key, present_value = key, value
    if key.shape[1] != query.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        key, value = ops.repeat_interleave(key, repeats, 1), ops.repeat_interleave(value, repeats, 1)

    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)      # half of the scale on each side
    scores = (query * root) @ (key * root).mT
    scores = softcap * ops.tanh(scores / softcap) if softcap else scores
    shown = {0: scores, 1: scores}

    queries, keys = query.shape[2], key.shape[2]
    before = cached if past_key is not None or nonpad_kv_seqlen is None else nonpad_kv_seqlen.numpy().reshape(-1) - queries
    allowed = _allowed(queries, keys, before, bool(is_causal), left_window_size, right_window_size)
    if nonpad_kv_seqlen is not None:
        real = np.arange(keys) < nonpad_kv_seqlen.numpy().reshape(-1, 1, 1, 1)
        allowed = real if allowed is None else allowed & real
    if attn_mask is not None:
        is_bool = attn_mask.dtype == np.bool_
        if attn_mask.shape[-1] < keys:                       # what the mask does not mention is left out
            widths = [(0, 0)] * (attn_mask.ndim - 1) + [(0, keys - attn_mask.shape[-1])]
            attn_mask = ops.pad(attn_mask, widths, value=False if is_bool else -math.inf)
        open_ = attn_mask.numpy() if is_bool else attn_mask.numpy() > -math.inf
        allowed = open_ if allowed is None else allowed & open_
        scores = scores if is_bool else scores + attn_mask
    scores = scores if allowed is None else ops.where(allowed, scores, -math.inf)
    shown[2] = scores
    sees = True if allowed is None else np.broadcast_to(allowed, scores.shape).any(-1, keepdims=True)
    weights = ops.where(sees, scores, 0.0) if allowed is not None else scores         # no softmax of nothing but -inf
    weights = weights if softmax_precision is None else weights.astype(numpy_dtype(softmax_precision))
    weights = ops.softmax(weights, axis=-1).astype(query.dtype)
    weights = weights if allowed is None else ops.where(sees, weights, 0.0)
    shown[3] = weights
    y = weights @ value
    y = y.transpose(1, 2).reshape(y.shape[0], queries, -1) if flat else y
    return (y, present_key, present_value, shown[qk_matmul_output_mode])[:max(outputs, 1)]


@since(27)
def LinearAttention(query, key, value, past_state=None, decay=None, beta=None, *, q_num_heads, kv_num_heads, chunk_size=64,
                    scale=0.0, update_rule="gated_delta", outputs=1):
    """Attention as a recurrence over a matrix state S of each head: linear in the length (Katharopoulos et al., 2020).

    gated: S is first scaled by exp(decay). delta: value is replaced by beta (value - S^T key), so that S learns what it
    does not know yet (Yang et al., 2024). Then S += key value^T and y = scale S^T query. Inputs (N, T, heads * E).
    """
    if update_rule not in ("linear", "gated", "delta", "gated_delta"):
        raise ArgumentError(f"LinearAttention: update_rule {update_rule!r} is unknown")
    dtype, repeats = query.dtype, q_num_heads // kv_num_heads
    wide = np.result_type(np.float32, dtype) if dtype.kind == "f" else np.dtype(np.float32)     # float16 is too narrow
    q = _heads(query.astype(wide), q_num_heads)
    k, v = (_heads(x.astype(wide), kv_num_heads) for x in (key, value))
    n, _, steps, size = q.shape
    if past_state is None:
        state, state_dtype = k[:, :, 0, :, None] * v[:, :, 0, None, :] * 0.0, dtype
    else:
        state, state_dtype = past_state.astype(wide), past_state.dtype
    decay = None if decay is None else _heads(decay.astype(wide), kv_num_heads)
    beta = None if beta is None else _heads(beta.astype(wide), beta.shape[-1])
    scale = scale or 1 / math.sqrt(size)
    rows = []
    for t in range(steps):
        k_t, v_t = k[:, :, t], v[:, :, t]
        if "gated" in update_rule:
            state = state * ops.unsqueeze(ops.exp(decay[:, :, t]), -1)
        if "delta" in update_rule:
            v_t = beta[:, :, t] * (v_t - ops.squeeze(ops.unsqueeze(k_t, -2) @ state, -2))
        state = state + ops.unsqueeze(k_t, -1) * ops.unsqueeze(v_t, -2)
        read = state if repeats == 1 else ops.repeat_interleave(state, repeats, 1)
        rows.append(scale * ops.squeeze(ops.unsqueeze(q[:, :, t], -2) @ read, -2))
    y = ops.stack(rows, 1).reshape(n, steps, -1).astype(dtype)
    return (y, state.astype(state_dtype))[:max(outputs, 1)]


@since(27)
def CausalConvWithState(x, weight, bias=None, past_state=None, *, activation="none", outputs=1):
    """Depthwise convolution over (N, C, T) that sees only the past; the state is the last kernel - 1 inputs."""
    before = weight.shape[-1] - 1
    padded = ops.pad(x, [(0, 0), (0, 0), (before, 0)]) if past_state is None else ops.concat([past_state, x], 2)
    y = ops.conv(padded, weight, bias, groups=x.shape[1])
    y = ops.silu(y) if activation in ("silu", "swish") else y
    return (y, padded[:, :, padded.shape[2] - before:])[:max(outputs, 1)]
