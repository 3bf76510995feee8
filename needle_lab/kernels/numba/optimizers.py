"""Attaches the compiled updates to the optimizers: one pass over parameter, gradient and moments."""

from __future__ import annotations

import math

import numpy as np

from ...core.tiers import kernel
from ...optim import SGD, Adam
from .attach import LEAST, loops


def _serves(p: np.ndarray, *others) -> bool:
    return isinstance(p, np.ndarray) and p.size >= LEAST and all(
        isinstance(a, np.ndarray) and a.shape == p.shape and a.dtype == np.float32 and a.flags.c_contiguous
        and a.flags.writeable for a in (p, *others))


def _flat(arrays) -> list[np.ndarray]:
    return [a.reshape(-1) for a in arrays]


@kernel(SGD._update, "numba")
def compiled_sgd(self, p, g, *moments, step, group):
    if not _serves(p, g, *moments):
        return NotImplemented
    lr, decay, momentum = (np.float32(group[name]) for name in ("lr", "weight_decay", "momentum"))
    if moments:
        of_g = np.float32(1 if step == 1 else 1 - group["dampening"])      # the first gradient counts whole
        return loops().sgd_momentum(*_flat((p, g, *moments)), lr, momentum, of_g, group["nesterov"], decay)
    return loops().sgd(*_flat((p, g)), lr, decay)


@kernel(Adam._update, "numba")
def compiled_adam(self, p, g, *moments, step, group):
    if group["amsgrad"] or not _serves(p, g, *moments):
        return NotImplemented
    lr, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
    keep, decay = (1 - lr * decay, 0) if self.decoupled else (1, decay)
    numbers = (lr / (1 - beta1**step), beta1, 1 - beta1, beta2, 1 - beta2, math.sqrt(1 - beta2**step), group["eps"], decay,
               keep)
    return loops().adam(*_flat((p, g, *moments)), *map(np.float32, numbers))
