"""Losses.  reduction: "mean", "sum" or "none", as in torch.nn.functional."""

from typing import Any

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Outputs
from ..errors import ArgumentError, DTypeError, ShapeError
from .activations import log_softmax, relu, softplus
from .elementwise import abs, clip, exp, log, log1p, real, where
from .indexing import index_select, take_along_axis
from .reduce import added, mean
from .reduce import sum as sum_
from .shape import squeeze, unsqueeze


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of losses, or each."""
    _check_reduction(reduction)
    return losses if reduction == "none" else mean(losses) if reduction == "mean" else sum_(losses)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f"reduction {reduction!r} is none of 'mean', 'sum', 'none'")


def _same_shape(name: str, x: Tensor, target: Tensor) -> None:
    if x.shape != target.shape:
        raise ShapeError(f"{name}: input {x.shape} and target {target.shape} need the same shape")


def mse_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(x - target)^2.  torch.nn.functional.mse_loss."""
    _same_shape("mse_loss", x, target)
    return reduced((x - target) * (x - target), reduction)


def l1_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|x - target|.  torch.nn.functional.l1_loss."""
    _same_shape("l1_loss", x, target)
    return reduced(abs(x - target), reduction)


def huber_loss(x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 for |d| <= delta, delta (|d| - delta / 2) beyond.  torch.nn.functional.huber_loss."""
    _same_shape("huber_loss", x, target)
    d = abs(x - target)
    return reduced(where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), reduction)


def smooth_l1_loss(x: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """huber_loss(delta=beta) / beta, and l1_loss for beta 0.  torch.nn.functional.smooth_l1_loss."""
    return huber_loss(x, target, reduction, beta) / beta if beta else l1_loss(x, target, reduction)


@real()
def probability_losses(x: Array, target: Array) -> Array:
    """-(t log x + (1 - t) log(1 - x)), logarithms being at least -100."""
    return -(target * np.maximum(np.log(x), -100.0) + (1.0 - target) * np.maximum(np.log1p(-x), -100.0))


@probability_losses.gradient("x")
def probability_losses_to_x(g: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """(x - t) / (x (1 - x)), the divisor being at least 1e-12: finite at 0 and 1, as in PyTorch."""
    return g * (x - target) / clip((1.0 - x) * x, 1e-12)


@probability_losses.gradient("target")
def probability_losses_to_target(g: Tensor, x: Tensor) -> Tensor:
    return g * (clip(log1p(-x), -100.0) - clip(log(x), -100.0))


def binary_cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """-(t log x + (1 - t) log(1 - x)) of probabilities x; logarithms are at least -100, as in PyTorch."""
    _same_shape("binary_cross_entropy", x, target)
    losses = probability_losses(x, target)
    return reduced(losses if weight is None else losses * weight, reduction)


def binary_cross_entropy_with_logits(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """binary_cross_entropy(sigmoid(x), target), without overflow.  torch.nn.functional.binary_cross_entropy_with_logits."""
    _same_shape("binary_cross_entropy_with_logits", x, target)
    positive = softplus(-x) if pos_weight is None else softplus(-x) * pos_weight
    losses = target * positive + (1.0 - target) * softplus(x)
    return reduced(losses if weight is None else losses * weight, reduction)


def nll_loss(log_probs: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """-log_probs at the target class.  log_probs (N, C, *size), target (N, *size) of integers, weight (C).

    "mean" divides by the sum of the weights of the targets; targets equal to ignore_index count nowhere.
    """
    target = _beside(target, log_probs)
    if log_probs.ndim == 1:                              # (C) and a class
        return nll_loss(unsqueeze(log_probs, 0), target.reshape(1), weight, ignore_index, reduction).reshape(())
    return _pick(_without_ignored(log_probs, target, ignore_index), target, weight, ignore_index, reduction)


def _beside(target: Any, x: Tensor) -> Tensor:
    """Targets as a tensor; an array of NumPy's follows the scores to their device."""
    return target if isinstance(target, Tensor) else Tensor(target, device=x.device)


def _without_ignored(x: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """x with zeros where the target is to be ignored: what stands there, be it inf or nan, reaches no loss, no gradient."""
    if target.dtype.kind not in "iu" or target.shape != x.shape[:1] + x.shape[2:]:
        return x
    ignored = target.numpy() == ignore_index
    return where(np.expand_dims(ignored, 1), 0.0, x) if ignored.any() else x


@op(promote="float", index_inputs=(1,), onnx="SoftmaxCrossEntropyLoss")
def class_losses(x: Array, target: Array, *, reduction: str) -> tuple[Array, ...]:
    """-> (-log softmax(x) at the target class, reduced; log of the sum of exp(x), one for every target).

    x (N, C, *size) of logits, target (N, *size) of classes 0..C-1.
    """
    top = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    total = np.log(added(np.exp(x - top), 1)) + top[:, 0]
    losses = total - np.take_along_axis(x, target[:, None], axis=1)[:, 0]
    if reduction == "none":
        return losses, total
    return added(losses) / losses.dtype.type(losses.size if reduction == "mean" else 1), total


@class_losses.gradient
def class_losses_gradient(g: Outputs, y: Outputs, x: Tensor, target: Tensor, reduction: str) -> Gradients:
    (g, gtotal), (_, total) = g, y
    probabilities = exp(x - unsqueeze(total, 1))
    dx: Any = 0.0
    if g is not None:
        g = g / target.numel() if reduction == "mean" else g
        hit = unsqueeze(target, 1) == np.arange(x.shape[1]).reshape(-1, *(1,) * (x.ndim - 2))
        dx = (probabilities - hit) * (unsqueeze(g, 1) if reduction == "none" else g)
    if gtotal is not None:
        dx = dx + probabilities * unsqueeze(gtotal, 1)
    return dx, None


def cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(x) at the target class.  x (N, C, *size) of logits.

    target: (N, *size) of class numbers, or probabilities of x's shape. label_smoothing moves that much of the
    target's mass to all classes equally.  torch.nn.functional.cross_entropy, ONNX SoftmaxCrossEntropyLoss.
    Raises ShapeError for targets that are no classes of x, DTypeError for class numbers that are no integers.

    >>> loss = ndl.cross_entropy(ndl.zeros(2, 4), ndl.tensor([0, 3]))
    >>> f"{loss:.4f}"                   # four equally likely classes: log 4
    '1.3863'
    """
    target = _beside(target, x)
    if x.ndim == 1:
        return cross_entropy(unsqueeze(x, 0), unsqueeze(target, 0), weight, ignore_index, reduction,
                             label_smoothing).reshape(())
    if (weight is None and not label_smoothing and target.dtype.kind in "iu" and class_losses.runs_on(x.device)
            and _all_count(x, target, ignore_index)):
        _check_reduction(reduction)
        return class_losses(x, target, reduction=reduction)[0]
    x = _without_ignored(x, target, ignore_index)
    log_probs = log_softmax(x, axis=1)
    if target.dtype.kind not in "iu":
        _same_shape("cross_entropy with probabilities as target", x, target)
        target = target * (1.0 - label_smoothing) + label_smoothing / x.shape[1]
        weighted = log_probs if weight is None else log_probs * weight.reshape(-1, *(1,) * (x.ndim - 2))
        losses = -sum_(weighted * target, axis=1)
        return sum_(losses) / (losses.numel() or 1) if reduction == "mean" else reduced(losses, reduction)
    loss = _pick(log_probs, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    each = log_probs if weight is None else log_probs * weight.reshape(-1, *(1,) * (x.ndim - 2))
    spread = where(target != ignore_index, -sum_(each, axis=1), 0.0)
    if reduction == "mean":
        spread = sum_(spread) / sum_(_weights(log_probs, target, weight, ignore_index))
    elif reduction == "sum":
        spread = sum_(spread)
    return (1.0 - label_smoothing) * loss + (label_smoothing / x.shape[1]) * spread


def _all_count(x: Tensor, target: Tensor, ignore_index: int) -> bool:
    """Whether every target is a class of x: none is to be ignored, and none is wrong."""
    values = target.numpy()
    return (values.size > 0 and values.shape == x.shape[:1] + x.shape[2:]
            and values.item(values.argmin()) >= 0 and values.item(values.argmax()) < x.shape[1]    # begins faster than min
            and (ignore_index < 0 or ignore_index not in values))


def _weights(log_probs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """The weight of each target: 1 or its class's, and 0 where it is ignored."""
    valid = (target != ignore_index).astype(log_probs.dtype)
    return valid if weight is None else index_select(weight, where(valid > 0, target, 0)) * valid


def _pick(log_probs: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    if target.dtype.kind not in "iu":
        raise DTypeError(f"class targets must be integers, got {target.dtype}")
    if log_probs.ndim < 2 or target.shape != log_probs.shape[:1] + log_probs.shape[2:]:
        raise ShapeError(f"input {log_probs.shape} is (N, C, *size); the target must be (N, *size), got {target.shape}")
    values = target.numpy()
    wrong = (values != ignore_index) & ((values < 0) | (values >= log_probs.shape[1]))
    if wrong.any():
        raise ShapeError(f"target class {values[wrong].flat[0]} is not in 0..{log_probs.shape[1] - 1}")
    classes = np.where(values == ignore_index, 0, values)
    picked = squeeze(take_along_axis(log_probs, np.expand_dims(classes, 1), axis=1), 1)
    plain = weight is None and not (values == ignore_index).any()
    if plain:
        return reduced(-picked, reduction)
    weights = _weights(log_probs, target, weight, ignore_index)
    losses = -picked * weights
    return sum_(losses) / sum_(weights) if reduction == "mean" else reduced(losses, reduction)


def kl_div(x: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target - x), for log-probabilities x.  reduction="batchmean" divides by the batch size."""
    _same_shape("kl_div", x, target)
    losses = exp(target) * (target - x) if log_target else where(target == 0, 0.0, target * log(target)) - target * x
    return sum_(losses) / (x.shape[0] if x.ndim else 1) if reduction == "batchmean" else reduced(losses, reduction)


def hinge_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """max(0, 1 - target x), target being -1 or 1.  Of support vector machines."""
    _same_shape("hinge_loss", x, target)
    return reduced(relu(1.0 - target * x), reduction)
