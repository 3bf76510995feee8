"""Linear layers and embedding, and the layers that only reshape."""

from __future__ import annotations

import math
from typing import Any

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike
from ..errors import ArgumentError, ShapeError
from ..ops.indexing import embedding_bag
from ..ops.margins import bilinear
from . import init
from .module import Module
from .parameter import Parameter


class Identity(Module):
    """x -> x, whatever it is made with.  torch.nn.Identity."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class Linear(Module):
    """y = x W^T + b.  x: (..., in_features) -> (..., out_features).  torch.nn.Linear, ONNX Gemm.

    weight: (out_features, in_features), bias: (out_features,).

    >>> layer = ndl.nn.Linear(3, 2)
    >>> layer(ndl.ones(4, 3)).shape
    (4, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: DTypeLike = "float32"):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(creation.empty(out_features, in_features, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, dtype=dtype)) if bias else None
        bound = 1 / math.sqrt(max(in_features, 1))
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.in_features,):
            raise ShapeError(f"Linear: expected (..., {self.in_features}), got {x.shape}")
        return ops.linear(x, self.weight, self.bias)


class Bilinear(Module):
    """y_o = x1^T W_o x2 + b_o.  x1 (..., in1_features), x2 (..., in2_features) -> (..., out_features).  torch.nn.Bilinear.

    weight: (out_features, in1_features, in2_features), bias: (out_features,).
    """

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True,
                 dtype: DTypeLike = "float32"):
        super().__init__()
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        bound = 1 / math.sqrt(max(in1_features, 1))
        self.weight = Parameter(creation.empty(out_features, in1_features, in2_features, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, dtype=dtype)) if bias else None
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return bilinear(input1, input2, self.weight, self.bias)


class Flatten(Module):
    """Axes start_dim..end_dim joined into one: (N, C, H, W) -> (N, C * H * W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Axis dim cut into the lengths unflattened_size."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        dim = self.dim % x.ndim
        return x.reshape(x.shape[:dim] + self.unflattened_size + x.shape[dim + 1:])


class Embedding(Module):
    """A table of vectors.  index: integers of any shape -> (*index.shape, embedding_dim).  torch.nn.Embedding.

    weight: (num_embeddings, embedding_dim); the row padding_idx is 0 and stays so. max_norm: rows that are looked up are
    shortened to it in the p-norm of norm_type. scale_grad_by_freq: gradients divided by how often a row is looked up.
    """

    max_norm, norm_type, scale_grad_by_freq, mode = None, 2.0, False, ""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
                 max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                 sparse: bool = False, dtype: DTypeLike = "float32"):
        super().__init__()
        self._make(num_embeddings, embedding_dim, padding_idx, dtype, max_norm=max_norm, norm_type=norm_type,
                   scale_grad_by_freq=scale_grad_by_freq)

    def _make(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, dtype: DTypeLike,
              **rare: Any) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ArgumentError(f"{type(self).__name__}: padding_idx={padding_idx} is none of {num_embeddings} rows")
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        for name, value in rare.items():                   # signatures name them where they are set
            if value != getattr(type(self), name):
                setattr(self, name, value)
        self.weight = Parameter(creation.empty(num_embeddings, embedding_dim, dtype=dtype))
        init.normal_(self.weight)
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, **settings: Any) -> Embedding:
        """A layer with these rows (n, dim), frozen or not."""
        made: Any = cls(embeddings.shape[0], embeddings.shape[1], **settings)
        made.weight = Parameter(embeddings.detach(), requires_grad=not freeze)
        return made                                          # type: ignore[no-any-return]

    def forward(self, index: Tensor) -> Tensor:
        return ops.embedding(index, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq)


class EmbeddingBag(Embedding):
    """The sum, mean or maximum of the rows of each bag.  index (B, n), or (n) cut at offsets (B) -> (B, embedding_dim).

    weight: (num_embeddings, embedding_dim).  torch.nn.EmbeddingBag.
    """

    include_last_offset = False

    def __init__(self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
                 scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                 include_last_offset: bool = False, padding_idx: int | None = None, dtype: DTypeLike = "float32"):
        Module.__init__(self)
        self._make(num_embeddings, embedding_dim, padding_idx, dtype, max_norm=max_norm, norm_type=norm_type,
                   scale_grad_by_freq=scale_grad_by_freq, mode=mode, include_last_offset=include_last_offset)

    def forward(self, index: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return embedding_bag(index, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode,
                             False, per_sample_weights, self.include_last_offset, self.padding_idx)
