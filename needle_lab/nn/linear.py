"""Linear layers and embedding, and the layers that only reshape."""

from __future__ import annotations

import math

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike
from ..errors import ShapeError
from . import init
from .module import Module
from .parameter import Parameter


class Identity(Module):
    """x -> x."""

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

    weight: (num_embeddings, embedding_dim); the row padding_idx is 0 and stays so.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None,
                 dtype: DTypeLike = "float32"):
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = Parameter(creation.empty(num_embeddings, embedding_dim, dtype=dtype))
        init.normal_(self.weight)
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0

    def forward(self, index: Tensor) -> Tensor:
        return ops.embedding(index, self.weight, self.padding_idx)
