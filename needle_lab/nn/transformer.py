"""Attention and the transformer's layers (Vaswani et al., 2017).  torch.nn's names, arguments and weight layout."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike
from ..errors import ArgumentError, ShapeError
from ..ops.dot_product import check_mask, masked_softmax
from . import init
from .activation import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm
from .parameter import Parameter

Activation: TypeAlias = str | Callable[[Tensor], Tensor]
ACTIVATIONS: dict[Any, Callable[[Tensor], Tensor]] = {"relu": ops.relu, "gelu": ops.gelu}


class MultiheadAttention(Module):
    """softmax(Q K^T / sqrt(d)) V in num_heads subspaces of size embed_dim / num_heads.

    query (L, N, E), key (S, N, kdim), value (S, N, vdim), or batch first, or without N -> (output like query, weights
    (N, L, S) or None). in_proj_weight: (3 E, E) for query, key, value; q_proj_weight, k_proj_weight, v_proj_weight where
    kdim or vdim is not E; bias_k, bias_v: one learned key and value more, with add_bias_kv; out_proj: Linear(E, E).
    add_zero_attn: a key and a value of zeros more. A query that may see no key gets zeros.  torch.nn.MultiheadAttention.
    """

    kdim: int | None = None
    vdim: int | None = None
    add_zero_attn = False

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
                 add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
                 dtype: DTypeLike = "float32"):
        super().__init__()
        if embed_dim % num_heads:
            raise ArgumentError(f"MultiheadAttention: embed_dim={embed_dim} is not divisible by num_heads={num_heads}")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = embed_dim, num_heads, dropout, batch_first
        if add_zero_attn:                                  # what is as always, signatures do not name
            self.add_zero_attn = True

        def weight(*shape: int) -> Parameter:
            return init.xavier_uniform_(Parameter(creation.empty(*shape, dtype=dtype)))        # type: ignore[return-value]
        if {kdim, vdim} <= {None, embed_dim}:
            self.in_proj_weight = weight(3 * embed_dim, embed_dim)
        else:
            self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
            self.q_proj_weight = weight(embed_dim, embed_dim)
            self.k_proj_weight, self.v_proj_weight = weight(embed_dim, self.kdim), weight(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(creation.zeros(3 * embed_dim, dtype=dtype)) if bias else None
        self.bias_k, self.bias_v = (Parameter(init.xavier_normal_(creation.empty(1, 1, embed_dim, dtype=dtype)))
                                    if add_bias_kv else None for _ in range(2))
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,
                key_padding_mask: Tensor | None = None, need_weights: bool = True, attn_mask: Tensor | None = None,
                average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """attn_mask: (L, S) or (N * heads, L, S), bool (True is left out) or float (added); key_padding_mask (N, S).

        average_attn_weights=False: weights for each head, (N, heads, L, S). is_causal: place i sees 0..i, unless attn_mask
        says what it sees.
        """
        key = query if key is None else key
        value = key if value is None else value
        if query.shape[-1] != self.embed_dim:
            raise ShapeError(f"MultiheadAttention: expected (..., {self.embed_dim}), got {query.shape}")
        if query.ndim == 2:
            batch = 0 if self.batch_first else 1
            query, key, value = (ops.unsqueeze(t, batch) for t in (query, key, value))
            padding = None if key_padding_mask is None else ops.unsqueeze(key_padding_mask, 0)
            out, weights = self.forward(query, key, value, padding, need_weights, attn_mask, average_attn_weights, is_causal)
            return ops.squeeze(out, batch), weights if weights is None else ops.squeeze(weights, 0)
        if not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        q, k, v = self._project(query, key, value)
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        if is_causal and attn_mask is None and (need_weights or mask is not None or self.bias_k is not None
                                                or self.add_zero_attn):
            causal, is_causal = causal_mask(q.shape[-2], k.shape[-2], q), False
            mask = causal if mask is None else mask + causal
        k, v, mask = self._extended(k, v, mask)
        if need_weights:
            scores = (q * q.shape[-1] ** -0.5) @ k.mT
            weights = ops.softmax(scores, axis=-1) if mask is None else masked_softmax(scores, mask)
            weights = ops.dropout(weights, self.dropout, self.training)
            heads, averaged = weights @ v, ops.mean(weights, axis=1) if average_attn_weights else weights
        else:
            heads = ops.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0,
                                                     is_causal=is_causal and attn_mask is None)
            averaged = None
        out = self.out_proj(heads.transpose(1, 2).reshape(query.shape))
        return (out if self.batch_first else out.transpose(0, 1)), averaged

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Tensor]:
        """-> q, k, v of shape (N, heads, length, E / heads); one matrix product when all three are the same tensor."""
        e, bias = self.embed_dim, self.in_proj_bias
        if query is key and key is value and self.kdim is None:
            parts = ops.chunk(ops.linear(query, self.in_proj_weight, bias), 3, axis=-1)
        else:
            weights = [self.in_proj_weight[i * e:(i + 1) * e] for i in range(3)] if self.kdim is None else \
                [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
            parts = tuple(ops.linear(t, w, None if bias is None else bias[i * e:(i + 1) * e])
                          for i, (t, w) in enumerate(zip((query, key, value), weights, strict=True)))
        return (p.reshape(*p.shape[:2], self.num_heads, -1).transpose(1, 2) for p in parts)

    def _extended(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys, values (N, heads, S, E / heads) and mask with the learned and the zero key, which every query may see."""
        n, heads, _, size = k.shape
        more: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None and self.bias_v is not None:
            more.append((self.bias_k.reshape(1, heads, 1, size), self.bias_v.reshape(1, heads, 1, size)))
        if self.add_zero_attn:
            zeros = creation.zeros(1, heads, 1, size, dtype=k.dtype, device=k.device)
            more.append((zeros, zeros))
        for key, value in more:
            k, v = ops.concat([k, key.expand(n, -1, -1, -1)], 2), ops.concat([v, value.expand(n, -1, -1, -1)], 2)
            mask = mask if mask is None else ops.pad(mask, (0, 1))
        return k, v, mask

    def _mask(self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Both masks as one float tensor to add to the scores, or None."""
        total = None
        if attn_mask is not None:
            total = _additive(attn_mask, q.dtype)
            if attn_mask.ndim == 3:
                total = total.reshape(q.shape[0], self.num_heads, q.shape[2], k.shape[2])
        if key_padding_mask is not None:
            padding = _additive(key_padding_mask, q.dtype).reshape(q.shape[0], 1, 1, k.shape[2])
            total = padding if total is None else total + padding
        return total


def _additive(mask: Tensor, dtype: DTypeLike) -> Tensor:
    """A mask in which True means "left out" as numbers to add: 0 and -inf."""
    check_mask(mask)
    zero = creation.zeros(dtype=dtype, device=mask.device)
    return ops.where(mask, float("-inf"), zero) if mask.dtype == bool else mask


def causal_mask(length: int, source: int, like: Tensor) -> Tensor:
    """(length, source): 0 where place i may see place j <= i, else -inf."""
    seen = ops.tril(creation.ones(length, source, device=like.device)) > 0
    return ops.where(seen, creation.zeros(dtype=like.dtype, device=like.device), float("-inf"))


class _Layer(Module):
    """What encoder and decoder layers share: the feed-forward block and where the norm stands."""

    norm_first: bool

    def _feed_forward_block(self, d_model: int, dim_feedforward: int, dropout: float, activation: Activation, bias: bool,
                            dtype: DTypeLike) -> None:
        if activation not in ACTIVATIONS and not callable(activation):
            raise ArgumentError(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}, and no function")
        self.activation = activation
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)

    def _feed_forward(self, x: Tensor) -> Tensor:
        activation: Any = ACTIVATIONS.get(self.activation, self.activation)
        y: Tensor = self.linear2(self.dropout(activation(self.linear1(x))))
        return y

    def _residual(self, x: Tensor, block: Callable[[Any], Tensor], norm: Module, dropout: Module) -> Tensor:
        """x + block(norm(x)) when norm_first, norm(x + block(x)) otherwise."""
        y: Tensor = x + dropout(block(norm(x))) if self.norm_first else norm(x + dropout(block(x)))
        return y


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward network, each with a residual connection and layer norm.

    src (S, N, d_model), or (N, S, d_model) with batch_first -> same shape.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: Activation = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
                 norm_first: bool = False, bias: bool = True, dtype: DTypeLike = "float32"):
        super().__init__()
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._feed_forward_block(d_model, dim_feedforward, dropout, activation, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(self, src: Tensor, src_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        def attend(x: Tensor) -> Any:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]
        x = self._residual(src, attend, self.norm1, self.dropout1)
        return self._residual(x, self._feed_forward, self.norm2, self.dropout2)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's result, and a feed-forward network.

    tgt (T, N, d_model), memory (S, N, d_model), or batch first -> like tgt.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: Activation = "relu", layer_norm_eps: float = 1e-5, batch_first: bool = False,
                 norm_first: bool = False, bias: bool = True, dtype: DTypeLike = "float32"):
        super().__init__()
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._feed_forward_block(d_model, dim_feedforward, dropout, activation, bias, dtype)
        self.norm1, self.norm2, self.norm3 = (LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
                                              for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout) for _ in range(3))

    def forward(self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
                tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
                tgt_is_causal: bool = False, memory_is_causal: bool = False) -> Tensor:
        def attend(x: Tensor) -> Any:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def look_up(x: Tensor) -> Any:
            return self.multihead_attn(x, memory, memory, memory_key_padding_mask, False, memory_mask,
                                       is_causal=memory_is_causal)[0]
        x = self._residual(tgt, attend, self.norm1, self.dropout1)
        x = self._residual(x, look_up, self.norm2, self.dropout2)
        return self._residual(x, self._feed_forward, self.norm3, self.dropout3)


class _Stack(Module):
    """num_layers copies of a layer, one after another, and a last norm if given."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None = None):
        super().__init__()
        self.layers = [copy.deepcopy(layer) for _ in range(num_layers)]
        self.norm = norm

    def _through(self, x: Tensor, *args: Any) -> Tensor:
        for layer in self.layers:
            x = layer(x, *args)
        return x if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """num_layers copies of a TransformerEncoderLayer, one after another, and a last norm if given.

    enable_nested_tensor and mask_check change nothing: they are a matter of PyTorch's speed.  torch.nn.TransformerEncoder.
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None,
                 enable_nested_tensor: bool = True, mask_check: bool = True):
        super().__init__(encoder_layer, num_layers, norm)

    def forward(self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
                is_causal: bool = False) -> Tensor:
        return self._through(src, mask, src_key_padding_mask, is_causal)


class TransformerDecoder(_Stack):
    """num_layers copies of a TransformerDecoderLayer, one after another, and a last norm if given.

    torch.nn.TransformerDecoder.
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None):
        super().__init__(decoder_layer, num_layers, norm)

    def forward(self, tgt: Tensor, memory: Tensor, tgt_mask: Tensor | None = None, memory_mask: Tensor | None = None,
                tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
                tgt_is_causal: bool = False, memory_is_causal: bool = False) -> Tensor:
        return self._through(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                             tgt_is_causal, memory_is_causal)


class Transformer(Module):
    """An encoder and a decoder (Vaswani et al., 2017), each ending in a norm.  torch.nn.Transformer.

    src (S, N, d_model), tgt (T, N, d_model), or batch first, or without N -> like tgt. custom_encoder, custom_decoder: in
    place of the encoder or decoder that is made here.
    """

    def __init__(self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
                 dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = "relu",
                 custom_encoder: Module | None = None, custom_decoder: Module | None = None, layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True, dtype: DTypeLike = "float32"):
        super().__init__()
        settings: Any = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
                         dtype)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.encoder = custom_encoder or TransformerEncoder(TransformerEncoderLayer(*settings), num_encoder_layers, norm())
        self.decoder = custom_decoder or TransformerDecoder(TransformerDecoderLayer(*settings), num_decoder_layers, norm())
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(self, src: Tensor, tgt: Tensor, src_mask: Tensor | None = None, tgt_mask: Tensor | None = None,
                memory_mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
                tgt_key_padding_mask: Tensor | None = None, memory_key_padding_mask: Tensor | None = None,
                src_is_causal: bool = False, tgt_is_causal: bool = False, memory_is_causal: bool = False) -> Any:
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model or src.ndim != tgt.ndim:
            raise ShapeError(f"Transformer: src and tgt (..., {self.d_model}) are needed, got {src.shape} and {tgt.shape}")
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
                            memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: DTypeLike = "float32") -> Tensor:
        """(sz, sz): 0 where place i may see place j <= i, else -inf."""
        return causal_mask(sz, sz, creation.zeros(dtype=dtype))
