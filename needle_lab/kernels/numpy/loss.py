"""Softmax and cross entropy, in few passes over the logits, whose samples are shared among the threads."""

import numpy as np

from ...core.tiers import kernel
from ...ops.activations import softmax
from ...ops.loss import class_losses
from ...ops.reduce import added
from .threads import VALUES, parallel, shares


@kernel(softmax.gradient, "numpy")
def softmax_gradient(wants, g, y, axis):
    """The product with y in place.  The rule allocates three arrays of x's size, this two."""
    dx = g * y
    dx -= y * added(dx, axis, True)
    return dx


@kernel(class_losses, "numpy")
def quick_class_losses(x, target, *, reduction):
    """Softmax and its logarithm are never written down."""
    total = np.empty(target.shape, x.dtype)
    _share(lambda at: _log_sums(x[at], total[at]), x)
    losses = total - x[_at_classes(target)]
    if reduction == "none":
        return losses, total
    loss = np.add.reduce(losses, axis=None)
    return loss / losses.size if reduction == "mean" else loss, total


def _share(work, x) -> None:
    """work(slice of the samples) for all samples of x, by threads where there are enough values."""
    if x.size < VALUES:
        work(slice(None))
    else:
        parallel(work, shares(len(x), x.size))


def _log_sums(x, total) -> None:
    """total = logarithm of the sum of exp(x) over the classes, axis 1."""
    top = np.maximum.reduce(x, axis=1, keepdims=True, initial=-np.inf)
    e = x - top
    np.log(added(np.exp(e, out=e), 1), out=total)
    total += top[:, 0]


def _at_classes(target):
    """The index that picks from (N, C, *size) the value at each target (N, *size)."""
    if target.ndim == 1:
        return np.arange(len(target)), target
    places = [np.arange(n).reshape(-1, *(1,) * (target.ndim - i - 1)) for i, n in enumerate(target.shape)]
    return (places[0], target, *places[1:])


@kernel(class_losses.gradient, "numpy")
def class_losses_gradient(wants, g, y, x, target, reduction):
    (g, gtotal), (_, total) = g, y
    if g is None or gtotal is not None:
        return NotImplemented
    g = g / target.size if reduction == "mean" else g
    dx = np.empty_like(x)

    def some(at):
        part = np.subtract(x[at], total[at, None], out=dx[at])
        np.exp(part, out=part)
        part *= g[at, None] if reduction == "none" else g
    _share(some, x)
    dx[_at_classes(target)] -= g                    # each place has one class: none is met twice
    return dx, None
