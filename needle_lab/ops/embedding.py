"""Embedding: rows of a table, picked by integers."""

from ..errors import DTypeError
from .elementwise import where
from .shape import index_select, unsqueeze


def embedding(index, weight, padding_idx=None):
    """weight[index]: index of any shape, weight (num_embeddings, dim) -> (*index.shape, dim).

    padding_idx: this row gets no gradient.  torch.nn.functional.embedding, ONNX Gather.
    """
    if index.dtype.kind not in "iu":
        raise DTypeError(f"embedding: indices must be integers, got {index.dtype}")
    rows = index_select(weight, index)
    if padding_idx is None or not rows.requires_grad:
        return rows
    padding = unsqueeze(index == padding_idx % weight.shape[0], -1)
    return where(padding, rows.detach(), rows)
