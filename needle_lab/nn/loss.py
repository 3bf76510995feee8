"""Losses as layers: each is the function of `needle_lab.ops.loss` with its options as configuration."""

from __future__ import annotations

from .. import ops
from ..core.tensor import Tensor
from .module import Module
from .parameter import Buffer


class _Loss(Module):
    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction


class MSELoss(_Loss):
    """(x - target)^2.  torch.nn.MSELoss."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.mse_loss(x, target, self.reduction)


class L1Loss(_Loss):
    """|x - target|.  torch.nn.L1Loss."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.l1_loss(x, target, self.reduction)


class SmoothL1Loss(_Loss):
    """Quadratic within beta, linear beyond.  torch.nn.SmoothL1Loss."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.smooth_l1_loss(x, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """Quadratic within delta, linear beyond, not divided by delta.  torch.nn.HuberLoss."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.huber_loss(x, target, self.reduction, self.delta)


class BCELoss(_Loss):
    """Binary cross entropy of probabilities.  torch.nn.BCELoss."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.binary_cross_entropy(x, target, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross entropy of logits.  torch.nn.BCEWithLogitsLoss."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.binary_cross_entropy_with_logits(x, target, reduction=self.reduction)


class NLLLoss(_Loss):
    """Minus the log-probability of the target class.  weight: (C,) or None.  torch.nn.NLLLoss."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = None if weight is None else Buffer(weight)
        self.ignore_index = ignore_index

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class CrossEntropyLoss(NLLLoss):
    """Minus the log of the softmax at the target class.  weight: (C,) or None.  torch.nn.CrossEntropyLoss."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.cross_entropy(x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class KLDivLoss(_Loss):
    """target (log target - x).  torch.nn.KLDivLoss."""

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        return ops.kl_div(x, target, self.reduction, self.log_target)
