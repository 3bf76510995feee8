"""PyTorch's place for derivatives, torch.autograd and torch.autograd.functional; they stand at the top of ndl too."""

from __future__ import annotations

import sys

from .calculus import hessian, jacobian, jvp, vjp
from .core.derivatives import grad
from .core.modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from .refused import missing as _missing

__all__ = ["enable_grad", "grad", "hessian", "inference_mode", "jacobian", "jvp", "no_grad", "set_grad_enabled", "vjp"]
functional = sys.modules[__name__]


def __getattr__(name: str) -> None:
    raise _missing("autograd", name)
