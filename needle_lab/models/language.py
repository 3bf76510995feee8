"""Language models: a recurrent one, as in the Needle report, and a small GPT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import creation, ops
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import GRU, LSTM, RNN, Dropout, Embedding, LayerNorm, Linear, Module, init
from ..nn.modes import evaluating
from ..random import Generator, default_generator

_KINDS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


class LanguageModel(Module):
    """Embedding, a recurrent network, and a linear layer to scores for the next token.

    tokens (T, N) of integers, state or None -> (logits (T * N, vocabulary), state), as in Needle.
    """

    def __init__(self, embedding_size: int, vocabulary_size: int, hidden_size: int, num_layers: int = 1,
                 kind: str = "rnn"):
        super().__init__()
        if kind not in _KINDS:
            raise ArgumentError(f"LanguageModel: kind {kind!r} is none of {', '.join(_KINDS)}")
        self.kind = kind
        self.embedding = Embedding(vocabulary_size, embedding_size)
        self.recurrent = _KINDS[kind](embedding_size, hidden_size, num_layers)
        self.linear = Linear(hidden_size, vocabulary_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        outputs, state = self.recurrent(self.embedding(tokens), state)
        return self.linear(outputs.reshape(-1, outputs.shape[-1])), state

    def generate(self, start: Sequence[int], length: int, temperature: float = 1.0, generator: Generator | None = None, *,
                 top_k: int | None = None, top_p: float | None = None, stop: int | Sequence[int] = ()) -> list[int]:
        """Up to `length` more tokens after `start`; see `written`."""
        state: list[Any] = [None]

        def scores(tokens: list[int], new: int) -> Tensor:
            logits, state[0] = self(_column(tokens[-new:], self.embedding), state[0])
            return logits[-1]
        return written(self, scores, self.embedding, start, length, temperature, generator, top_k, top_p, stop)


def written(model: Module, scores: Callable[[list[int], int], Tensor], embedding: Embedding, start: Sequence[int],
            length: int, temperature: float, generator: Generator | None, top_k: int | None, top_p: float | None,
            stop: int | Sequence[int]) -> list[int]:
    """The tokens with which a model goes on after `start`, in evaluation mode: `length`, or fewer where one of `stop` comes,
    which is then the last.

    temperature: 0 takes the likeliest token, 1 draws from the model's distribution. top_k: only from the k likeliest; top_p:
    only from the likeliest that together have this probability (Holtzman et al., 2020). scores(tokens, new): the scores of
    what follows the tokens, of which the last `new` are new.
    """
    tokens, ends = [int(token) for token in start], {stop} if isinstance(stop, int) else set(stop)
    if not tokens or not 0 <= min(tokens) <= max(tokens) < embedding.num_embeddings:
        raise ArgumentError(f"generate: start is at least one token out of 0 to {embedding.num_embeddings - 1}, got "
                            f"{tokens[:8]}{'...' * (len(tokens) > 8)}")
    if length < 0:
        raise ArgumentError(f"generate: length is a number of 0 or more, got {length}")
    new = len(tokens)
    with evaluating(model):
        for _ in range(length):
            tokens.append(draw(scores(tokens, new).numpy(), temperature, generator, top_k, top_p))
            new = 1
            if tokens[-1] in ends:
                break
    return tokens[len(start):]


def draw(logits: np.ndarray, temperature: float = 1.0, generator: Generator | None = None, top_k: int | None = None,
         top_p: float | None = None) -> int:
    """One index, with probability softmax(logits / temperature), out of the likeliest; see `written`."""
    if not temperature >= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ArgumentError("temperature is at least 0, top_k at least 1, and top_p lies above 0 and at most at 1; got "
                            f"{temperature}, {top_k} and {top_p}")
    if not np.isfinite(logits.max()):
        raise ArgumentError("the model's scores are not finite, so that no token can be drawn")
    if temperature == 0:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    order = np.argsort(-p, kind="stable")
    if top_k is not None:
        p[order[top_k:]] = 0
    if top_p is not None:
        before = np.cumsum(p[order] / p.sum()) - p[order] / p.sum()
        p[order[before >= top_p]] = 0
    return int((generator or default_generator).numpy.choice(len(p), p=p / p.sum()))


def _column(tokens: list[int], embedding: Embedding) -> Tensor:
    return Tensor(np.array(tokens)[:, None], device=embedding.weight.device)


class CausalSelfAttention(Module):
    """Every place attends to itself and to what came before.  (N, T, E) -> (N, T, E)."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float):
        super().__init__()
        if embed_dim % num_heads:
            raise ArgumentError(f"embed_dim={embed_dim} is not divisible by num_heads={num_heads}")
        self.num_heads, self.dropout = num_heads, dropout
        self.c_attn = Linear(embed_dim, 3 * embed_dim)
        self.c_proj = Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, past: list[Tensor] | None = None) -> Tensor:
        q, k, v = (part.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
                   for part in ops.chunk(self.c_attn(x), 3, axis=-1))
        if past:                                         # keys and values of the places before these
            k, v = ops.concat([past[0], k], axis=2), ops.concat([past[1], v], axis=2)
        causal = q.shape[2] == k.shape[2]                # else one new place, which may see all
        if past is not None:
            past[:] = [k, v]
        y = ops.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=causal)
        return self.c_proj(y.transpose(1, 2).reshape(x.shape))


class Block(Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float):
        super().__init__()
        self.ln_1 = LayerNorm(embed_dim)
        self.attn = CausalSelfAttention(embed_dim, num_heads, dropout)
        self.ln_2 = LayerNorm(embed_dim)
        self.c_fc, self.c_proj = Linear(embed_dim, 4 * embed_dim), Linear(4 * embed_dim, embed_dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, past: list[Tensor] | None = None) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), past))
        return x + self.dropout(self.c_proj(ops.gelu_tanh(self.c_fc(self.ln_2(x)))))


class GPT(Module):
    """A decoder-only transformer (Radford et al., 2019), output weights shared with the token embedding.

    tokens (N, T) of integers, T <= context -> logits (N, T, vocabulary). past: an empty list for each block, in which keys
    and values are kept: after a first call, further tokens are given one by one.
    """

    def __init__(self, vocabulary_size: int, context: int, embed_dim: int = 64, num_layers: int = 2, num_heads: int = 4,
                 dropout: float = 0.0):
        super().__init__()
        self.context = context
        self.wte, self.wpe = Embedding(vocabulary_size, embed_dim), Embedding(context, embed_dim)
        self.dropout = Dropout(dropout)
        self.h = [Block(embed_dim, num_heads, dropout) for _ in range(num_layers)]
        self.ln_f = LayerNorm(embed_dim)
        self.lm_head = Linear(embed_dim, vocabulary_size, bias=False)
        self.lm_head.weight = self.wte.weight
        for module in self.modules():
            if isinstance(module, (Linear, Embedding)):
                init.normal_(module.weight, 0.0, 0.02)
            if isinstance(module, Linear) and module.bias is not None:
                init.zeros_(module.bias)

    def forward(self, tokens: Tensor, past: list[list[Tensor]] | None = None) -> Tensor:
        seen = past[0][0].shape[2] if past and past[0] else 0
        if tokens.ndim != 2 or seen + tokens.shape[1] > self.context or (seen and tokens.shape[1] != 1):
            raise ShapeError(f"GPT: expected tokens (N, T) with T <= {self.context}{f' - {seen}, one by one' * bool(seen)}, "
                             f"got {tokens.shape}")
        places = creation.arange(seen, seen + tokens.shape[1], device=tokens.device)
        x = self.dropout(self.wte(tokens) + self.wpe(places))
        for i, block in enumerate(self.h):
            x = block(x, None if past is None else past[i])
        return self.lm_head(self.ln_f(x))

    def generate(self, start: Sequence[int], length: int, temperature: float = 1.0, generator: Generator | None = None, *,
                 top_k: int | None = None, top_p: float | None = None, stop: int | Sequence[int] = (), cache: bool = True
                 ) -> list[int]:
        """Up to `length` more tokens after `start`; see `written`.

        cache: keep the keys and values of what was written, as long as it fits into the context, so that each new token
        is computed alone; the text is the same.
        """
        past: list[list[Tensor]] = [[] for _ in self.h]

        def scores(tokens: list[int], new: int) -> Tensor:
            if not cache or len(tokens) > self.context:
                return self(_column(tokens[-self.context:], self.wte).transpose(0, 1))[0, -1]
            return self(_column(tokens[-new:], self.wte).transpose(0, 1), past)[0, -1]
        return written(self, scores, self.wte, start, length, temperature, generator, top_k, top_p, stop)
