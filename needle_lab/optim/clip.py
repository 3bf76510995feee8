"""Limits on gradients, in place.  torch.nn.utils has the same functions."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .. import ops
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError


def _gradients(params: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in ([params] if isinstance(params, Tensor) else params) if p.grad is not None]


def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> float:
    """The norm of all values together, summed in float64 whatever their dtype.  torch.nn.utils.get_total_norm."""
    with no_grad():
        norms = [float(ops.norm(x if x.dtype == "float64" else x.astype("float32"), norm_type).item())
                 for x in ([tensors] if isinstance(tensors, Tensor) else tensors) if x.numel()]
    if math.isinf(norm_type):
        total = max(norms, default=0.0) if norm_type > 0 else min(norms, default=0.0)
    elif norm_type == 0:
        total = float(sum(n != 0 for n in norms))             # a norm of norms, as in PyTorch
    else:
        total = sum(n**norm_type for n in norms) ** (1 / norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise ArgumentError(f"the norm of the gradients is {total}; error_if_nonfinite=False scales them all the same")
    return total


def clip_grads_with_norm_(params: Tensor | Iterable[Tensor], max_norm: float, total_norm: float) -> None:
    """Scale gradients whose norm is total_norm to at most max_norm.  torch.nn.utils.clip_grads_with_norm_."""
    scale = max_norm / (total_norm + 1e-6)
    with no_grad():
        for g in _gradients(params) if not scale >= 1 else ():         # also where the norm is not a number
            g.copy_(g * scale)


def clip_grad_norm_(params: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> float:
    """Scale all gradients, of one tensor or of many, to a common norm of at most max_norm; -> the norm before.

    norm_type: p of the p-norm, may be inf. error_if_nonfinite: ArgumentError where the norm is infinite or not a number.
    torch.nn.utils.clip_grad_norm_.
    """
    params = [params] if isinstance(params, Tensor) else list(params)
    total = get_total_norm(_gradients(params), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(params, max_norm, total)
    return total


def clip_grad_value_(params: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every gradient value to [-clip_value, clip_value].  torch.nn.utils.clip_grad_value_."""
    with no_grad():
        for g in _gradients(params):
            g.copy_(ops.clip(g, -clip_value, clip_value))
