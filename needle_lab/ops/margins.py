"""Distances between vectors, and the losses that ask for a margin: between classes, between distances, between cosines."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from .activations import log_sigmoid, softplus
from .elementwise import clip, log, sqrt, where
from .indexing import index_select, take_along_axis
from .linalg import einsum
from .loss import reduced
from .reduce import mean, norm
from .reduce import sum as sum_
from .shape import squeeze, stack, unsqueeze

# --- distances --------------------------------------------------------------------------------------------------------


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis, after broadcasting.  torch.nn.functional.pairwise_distance."""
    return norm(x1 - x2 + eps, p, axis=-1, keepdims=keepdim)


def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """The p-norms between all pairs of rows of x (N, M): (N (N - 1) / 2,), row 0's first.  torch.nn.functional.pdist."""
    if x.ndim != 2:
        raise ShapeError(f"pdist: a matrix of rows is needed, got {x.shape}")
    first, second = np.triu_indices(x.shape[0], 1)
    return norm(x[first] - x[second], p, axis=-1)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = input1^T weight_o input2 + bias_o.  input1 (..., I), input2 (..., J), weight (O, I, J), bias (O) -> (..., O).

    torch.nn.functional.bilinear.
    """
    y = einsum("...i,oij,...j->...o", input1, weight, input2)
    return y if bias is None else y + bias

# --- losses -----------------------------------------------------------------------------------------------------------


def hinge_embedding_loss(x: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """x where the target is 1, max(0, margin - x) where it is -1.  torch.nn.functional.hinge_embedding_loss."""
    return reduced(where(target != 1, clip(margin - x, min=0.0), 0.0) + where(target != -1, x, 0.0), reduction)


def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0,
                        reduction: str = "mean") -> Tensor:
    """max(0, margin - target (input1 - input2)), target being -1 or 1.  torch.nn.functional.margin_ranking_loss."""
    return reduced(clip(margin - target * (input1 - input2), min=0.0), reduction)


def soft_margin_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target x)), target being -1 or 1.  torch.nn.functional.soft_margin_loss."""
    return reduced(softplus(-target * x), reduction)


def multi_margin_loss(x: Tensor, target: Tensor, p: int = 1, margin: float = 1.0, weight: Tensor | None = None,
                      reduction: str = "mean") -> Tensor:
    """The sum of max(0, margin - x[y] + x[i])^p over the classes i other than the target y, divided by their number.

    x (N, C) or (C), target (N) or () of class numbers, weight (C): of the target's class.
    torch.nn.functional.multi_margin_loss.
    """
    if p not in (1, 2):
        raise ArgumentError(f"multi_margin_loss: p={p} is neither 1 nor 2")
    rows, classes = (x, target) if x.ndim == 2 else (x.reshape(1, -1), target.reshape(1))
    of_target = take_along_axis(rows, unsqueeze(classes, 1), axis=1)
    slack = clip(margin - of_target + rows, min=0.0)
    slack = slack if p == 1 else slack * slack
    slack = slack if weight is None else slack * unsqueeze(index_select(weight, classes), 1)
    losses = sum_(where(unsqueeze(classes, 1) != np.arange(rows.shape[1]), slack, 0.0), axis=1) / rows.shape[1]
    return reduced(losses if x.ndim == 2 else losses[0], reduction)


def multilabel_margin_loss(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The sum of max(0, 1 - x[j] + x[i]) over the target classes j and the other classes i, divided by the classes' number.

    x, target (N, C) or (C): class numbers, up to the first -1.  torch.nn.functional.multilabel_margin_loss.
    """
    if x.ndim < 2:
        x, target = x.reshape(1, -1), target.reshape(1, -1)
        return reduced(multilabel_margin_loss(x, target, "none")[0], reduction)
    numbers = target.numpy()
    named = np.cumsum(numbers < 0, 1) == 0                             # before the first -1
    is_target = np.zeros(numbers.shape, bool)
    rows, places = np.nonzero(named)
    is_target[rows, numbers[rows, places]] = True
    chosen = take_along_axis(x, np.where(named, numbers, 0), axis=1)
    slack = clip(1.0 - unsqueeze(chosen, 2) + unsqueeze(x, 1), min=0.0)       # (N, targets, classes)
    losses = sum_(where(named[:, :, None] & ~is_target[:, None], slack, 0.0), axis=(1, 2)) / max(x.shape[1], 1)
    return reduced(losses, reduction)


def multilabel_soft_margin_loss(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """The mean over classes of binary cross entropies of logits.  torch.nn.functional.multilabel_soft_margin_loss."""
    losses = -(target * log_sigmoid(x) + (1.0 - target) * log_sigmoid(-x))
    return reduced(mean(losses if weight is None else losses * weight, axis=-1), reduction)


def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0,
                          reduction: str = "mean") -> Tensor:
    """1 - cos(input1, input2) where the target is 1, max(0, cos - margin) where it is -1.

    input1, input2 (N, D) or (D), target (N) or ().  torch.nn.functional.cosine_embedding_loss.
    """
    squares = (sum_(input1 * input1, axis=-1) + 1e-12) * (sum_(input2 * input2, axis=-1) + 1e-12)
    cosine = sum_(input1 * input2, axis=-1) / sqrt(squares)
    apart = where(target == -1, clip(cosine - margin, min=0.0), 0.0)
    return reduced(where(target == 1, 1.0 - cosine, 0.0) + apart, reduction)


def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0, p: float = 2.0,
                        eps: float = 1e-6, swap: bool = False, reduction: str = "mean") -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the difference.

    swap: d(positive, negative) counts where it is smaller (Balntas et al., 2016).  torch.nn.functional.triplet_margin_loss.
    """
    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)
    return triplet_margin_with_distance_loss(anchor, positive, negative, distance_function=distance, margin=margin,
                                             swap=swap, reduction=reduction)


def triplet_margin_with_distance_loss(anchor: Tensor, positive: Tensor, negative: Tensor, *,
                                      distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean") -> Tensor:
    """`triplet_margin_loss` with a distance of one's own.  torch.nn.functional.triplet_margin_with_distance_loss."""
    if margin <= 0:
        raise ArgumentError(f"triplet_margin_loss: margin={margin} must be above 0")
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        other = distance(positive, negative)
        far = where(other < far, other, far)
    return reduced(clip(near - far + margin, min=0.0), reduction)

# --- of distributions -------------------------------------------------------------------------------------------------


def gaussian_nll_loss(x: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Tensor:
    """(log var + (x - target)^2 / var) / 2, var at least eps; full: with the constant log(2 pi) / 2.

    torch.nn.functional.gaussian_nll_loss.
    """
    log_var: Tensor | float
    if isinstance(var, Tensor):
        if (var.numpy() < 0).any():
            raise ArgumentError("gaussian_nll_loss: a variance is negative")
        var = unsqueeze(var, -1) if var.ndim == x.ndim - 1 and var.shape == x.shape[:-1] else var
        var = var + (clip(var.detach(), min=eps) - var.detach())       # the bound passes gradients on, as in PyTorch
        log_var = log(var)
    else:
        var = max(var, eps)
        log_var = math.log(var)
    losses = 0.5 * (log_var + (x - target) ** 2 / var)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def poisson_nll_loss(x: Tensor, target: Tensor, log_input: bool = True, full: bool = False, eps: float = 1e-8,
                     reduction: str = "mean") -> Tensor:
    """exp(x) - target x, of the logarithm x of the expected count; log_input=False: x - target log(x + eps).

    full: with Stirling's approximation of log target!.  torch.nn.functional.poisson_nll_loss.
    """
    losses = x.exp() - target * x if log_input else x - target * log(x + eps)
    if full:
        many = where(target > 1, target, 1.0)
        losses = losses + where(target > 1, many * log(many) - many + 0.5 * log(2 * math.pi * many), 0.0)
    return reduced(losses, reduction)


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
             reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """Minus the log of the probability of a text, summed over all ways to spread it over the times (Graves et al., 2006).

    log_probs (T, N, C) or (T, C); targets (N, S), or all texts one after another; lengths (N). A way takes the text with a
    blank before, after and optionally between its letters, each held for some times. "mean" divides each loss by its
    text's length first. zero_infinity: 0 for a text that is too long for its times.  torch.nn.functional.ctc_loss.
    """
    if log_probs.ndim == 2:
        loss = ctc_loss(unsqueeze(log_probs, 1), targets.reshape(1, -1), input_lengths, target_lengths, blank, reduction,
                        zero_infinity)
        return loss.reshape(())
    times, n, _ = log_probs.shape
    spans, lengths = np.asarray(input_lengths).reshape(-1), np.asarray(target_lengths).reshape(-1)
    texts = np.asarray(targets)
    if texts.ndim == 1:
        rows = np.split(texts, np.cumsum(lengths)[:-1])
        texts = np.array([np.pad(row, (0, int(lengths.max(initial=0)) - len(row))) for row in rows]).reshape(n, -1)
    if spans.shape != (n,) or lengths.shape != (n,) or texts.shape[0] != n or spans.max(initial=0) > times:
        raise ShapeError(f"ctc_loss: log_probs {log_probs.shape} needs {n} texts with lengths, and at most {times} times; "
                         f"got targets {np.shape(targets)} and lengths {spans.tolist()} and {lengths.tolist()}")
    states = np.full((n, 2 * texts.shape[1] + 1), blank)
    number = np.arange(states.shape[1])
    states[:, 1::2] = np.where(np.arange(texts.shape[1]) < lengths[:, None], texts, blank)
    jump = np.zeros(states.shape, bool)                    # from the letter before, past a blank, to another letter
    jump[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    norms = log_probs.logsumexp(axis=-1, keepdims=True)    # 0 for log-probabilities; with it, gradients are PyTorch's
    scores = take_along_axis(log_probs - norms + norms.detach(), np.broadcast_to(states, (times, *states.shape)), axis=2)
    never = -1e30                                          # the logarithm of 0, of which nothing becomes NaN
    alpha = where(number < 2, scores[0], never)
    for t in range(1, times):
        ways = [alpha, *(where(allowed, alpha[:, np.maximum(number - back, 0)], never)
                         for back, allowed in ((1, number >= 1), (2, jump)))]
        alpha = where((t < spans)[:, None], scores[t] + stack(ways).logsumexp(axis=0), alpha)
    ends = np.stack([2 * lengths, np.maximum(2 * lengths - 1, 0)], 1)
    last = take_along_axis(alpha, ends, axis=1)
    last = where((lengths > 0)[:, None] | (np.arange(2) == 0), last, never)
    losses = -squeeze(last.logsumexp(axis=1, keepdims=True), 1)
    impossible = losses.numpy() > 1e29
    losses = where(impossible, 0.0 if zero_infinity else math.inf, losses)
    return mean(losses / np.maximum(lengths, 1).astype(losses.dtype)) if reduction == "mean" else reduced(losses, reduction)
