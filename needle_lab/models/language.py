"""Language models: a recurrent one, as in the Needle report, and a small GPT."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import creation, ops
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from ..nn import GRU, LSTM, RNN, Dropout, Embedding, LayerNorm, Linear, Module, init
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

    def generate(self, start: list[int], length: int, temperature: float = 1.0,
                 generator: Generator | None = None) -> list[int]:
        """`length` more tokens after `start`, drawn from the model's distribution (temperature 0: the likeliest)."""
        with no_grad():
            logits, state = self(Tensor(np.asarray(start)[:, None]))
            tokens = []
            for _ in range(length):
                tokens.append(draw(logits.numpy()[-1], temperature, generator))
                logits, state = self(Tensor(np.array([[tokens[-1]]])), state)
        return tokens


def draw(logits: np.ndarray, temperature: float = 1.0, generator: Generator | None = None) -> int:
    """One index, with probability softmax(logits / temperature)."""
    if temperature == 0:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()).astype(np.float64) / temperature)
    return int((generator or default_generator).numpy.choice(len(p), p=p / p.sum()))


class CausalSelfAttention(Module):
    """Every place attends to itself and to what came before.  (N, T, E) -> (N, T, E)."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float):
        super().__init__()
        if embed_dim % num_heads:
            raise ArgumentError(f"embed_dim={embed_dim} is not divisible by num_heads={num_heads}")
        self.num_heads, self.dropout = num_heads, dropout
        self.c_attn = Linear(embed_dim, 3 * embed_dim)
        self.c_proj = Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)
                   for part in ops.chunk(self.c_attn(x), 3, axis=-1))
        y = ops.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
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

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.c_proj(ops.gelu_tanh(self.c_fc(self.ln_2(x)))))


class GPT(Module):
    """A decoder-only transformer (Radford et al., 2019), output weights shared with the token embedding.

    tokens (N, T) of integers, T <= context -> logits (N, T, vocabulary).
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

    def forward(self, tokens: Tensor) -> Tensor:
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise ShapeError(f"GPT: expected tokens (N, T) with T <= {self.context}, got {tokens.shape}")
        places = creation.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.wte(tokens) + self.wpe(places))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))

    def generate(self, start: list[int], length: int, temperature: float = 1.0,
                 generator: Generator | None = None) -> list[int]:
        """`length` more tokens after `start`, drawn from the model's distribution (temperature 0: the likeliest)."""
        tokens = list(start)
        with no_grad():
            for _ in range(length):
                logits = self(Tensor(np.array([tokens[-self.context:]])))
                tokens.append(draw(logits.numpy()[0, -1], temperature, generator))
        return tokens[len(start):]
