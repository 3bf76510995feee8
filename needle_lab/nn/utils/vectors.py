"""All parameters as one vector, and back.  torch.nn.utils."""

from __future__ import annotations

from collections.abc import Iterable

from ... import ops
from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import ShapeError


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The values of all parameters, one after another; differentiable.  torch.nn.utils.parameters_to_vector."""
    return ops.concat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the values of a vector into parameters, in place.  torch.nn.utils.vector_to_parameters."""
    targets = list(parameters)
    sizes = [p.numel() for p in targets]
    if vec.shape != (sum(sizes),):
        raise ShapeError(f"vector_to_parameters: a vector of {sum(sizes)} values is needed, got shape {vec.shape}")
    with no_grad():
        for p, part in zip(targets, ops.split(vec, sizes), strict=True):
            p.copy_(part.reshape(p.shape))
