"""Language models: trained on pieces of text in order, and measured by perplexity."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

from .. import ops
from ..core.tensor import Tensor
from ..data import get_batch
from ..nn import Module
from ..nn.modes import evaluating
from ..optim import Optimizer
from .history import History
from .loop import run


def fit_language_model(model: Module, batches: Tensor, optimizer: Optimizer, bptt: int = 32, epochs: int = 1,
                       schedule: Any = None, max_norm: float | None = 1.0,
                       after_epoch: Callable[[History], Any] | None = None, history: History | None = None,
                       progress: bool = True) -> History:
    """Train a language model on the columns of `batchify`, bptt rows at a time; otherwise as `fit`.

    A recurrent one, forward(tokens (T, N), state), hands its state from one piece of text to the next, without gradients;
    any other, such as GPT, takes tokens (N, T) and sees each piece alone. max_norm: over many steps gradients can explode,
    so longer ones are shortened (Pascanu et al., 2013).
    """
    def measure(history: History) -> dict[str, str]:
        return {"perplexity": f"{math.exp(history.loss[-1]):.2f}"}

    def ends(history: History) -> bool:
        return after_epoch is not None and after_epoch(history) is True

    return run(model, lambda: (loss for loss, _ in _losses(model, batches, bptt)), len(range(0, len(batches) - 1, bptt)),
               optimizer, epochs, schedule, max_norm, measure, ends, history, progress)


def perplexity(model: Module, batches: Tensor, bptt: int = 32) -> float:
    """exp(mean loss per token): among how many equally likely tokens the model is undecided.  1 is certainty."""
    with evaluating(model):
        found = [(loss.item(), count) for loss, count in _losses(model, batches, bptt)]
    return math.exp(sum(loss * count for loss, count in found) / sum(count for _, count in found))


def _losses(model: Module, batches: Tensor, bptt: int) -> Iterator[tuple[Tensor, int]]:
    """-> (mean loss, number of tokens), piece by piece."""
    recurrent, state = "state" in inspect.signature(model.forward).parameters, None
    for i in range(0, len(batches) - 1, bptt):
        data, target = get_batch(batches, i, bptt)
        if recurrent:
            logits, state = model(data, state)
            state = detached(state)
        else:
            logits = model(data.transpose(0, 1))
            logits, target = logits.reshape(-1, logits.shape[-1]), target.reshape(data.shape).transpose(0, 1).reshape(-1)
        yield ops.cross_entropy(logits, target), target.numel()


def detached(state: Any) -> Any:
    """A recurrent state without its history: a tensor, or a tuple of them."""
    return tuple(map(detached, state)) if isinstance(state, tuple) else state.detach()
