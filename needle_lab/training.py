"""The training loop, once: batches in, steps of the optimizer, numbers out.

    history = fit(model, loader, optimizer, epochs=10, test=test, after_epoch=LiveLoss())
    result = evaluate(model, test)                  accuracy, predictions, which examples are wrong

Nothing here is special: a loop of one's own with the same five lines does the same.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import ops
from .core.modes import no_grad
from .core.tensor import Tensor
from .data import DataLoader, Dataset, get_batch
from .errors import ArgumentError, ShapeError
from .nn import Module
from .optim import Optimizer, Schedule, clip_grad_norm_


@dataclass
class History:
    """What a training run leaves behind.  `fit` appends to it; `to_dict()` is JSON-able, for a checkpoint."""

    batch_loss: list[float] = field(default_factory=list)        # after each step
    loss: list[float] = field(default_factory=list)              # mean over each epoch
    accuracy: list[float] = field(default_factory=list)          # on the test set, after each epoch
    seconds: list[float] = field(default_factory=list)           # of training, each epoch

    def to_dict(self) -> dict[str, list[float]]:
        """The curves as lists, for a file or a plot."""
        return asdict(self)

    def __repr__(self) -> str:
        if not self.loss:
            return "History: no epochs"
        tested = f", test accuracy {self.accuracy[-1]:.2%}" if self.accuracy else ""
        return f"History: {len(self.loss)} epochs in {sum(self.seconds):.1f} s, loss {self.loss[-1]:.4f}{tested}"


class Evaluation(NamedTuple):
    """How a classifier did.  predictions, labels: (N,) integers; probabilities: (N, classes)."""

    accuracy: float
    predictions: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """Indices of the examples that were misjudged, those the model was surest of first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(1, initial=0), kind="stable")]

    def __repr__(self) -> str:
        return f"Evaluation: {self.accuracy:.2%} of {len(self.labels):,} right, {len(self.wrong):,} wrong"


def fit(model: Module, loader: DataLoader, optimizer: Optimizer, loss: Callable[..., Tensor] = ops.cross_entropy,
        epochs: int = 1, test: DataLoader | Dataset | None = None, schedule: Schedule | None = None,
        max_norm: float | None = None, after_epoch: Callable[[History], Any] | None = None,
        history: History | None = None, progress: bool = True) -> History:
    """Train `model` on the batches (x, y) of `loader`: minimise loss(model(x), y).

    test: measure the accuracy on it after each epoch. schedule: stepped after every batch. max_norm: shorten longer
    gradients to it. after_epoch: called with the history, to draw or to save. history: one to continue. progress: show
    a bar. Raises ArgumentError when the loss is no longer finite: no later step could repair that.

    >>> _ = ndl.manual_seed(0)
    >>> x = ndl.randn(64, 2)
    >>> loader = ndl.data.DataLoader(ndl.data.ArrayDataset(x, (x[:, 0] > x[:, 1]).astype("int64")), batch_size=16)
    >>> model = ndl.nn.Linear(2, 2)
    >>> history = ndl.training.fit(model, loader, ndl.optim.Adam(model.parameters(), lr=0.1), epochs=3, progress=False)
    >>> history.loss[0] > history.loss[-1]
    True
    """
    def losses() -> Iterator[Tensor]:
        for x, y in loader:
            yield loss(model(x), y)

    def measure(history: History) -> dict[str, str]:
        if test is None:
            return {"loss": f"{history.loss[-1]:.4f}"}
        history.accuracy.append(evaluate(model, test).accuracy)
        return {"loss": f"{history.loss[-1]:.4f}", "accuracy": f"{history.accuracy[-1]:.2%}"}

    return _train(model, losses, len(loader), optimizer, epochs, schedule, max_norm, measure, after_epoch, history,
                  progress)


def _train(model: Module, losses: Callable[[], Iterator[Tensor]], steps: int, optimizer: Optimizer, epochs: int,
           schedule: Schedule | None, max_norm: float | None, measure: Callable[[History], dict[str, str]],
           after_epoch: Callable[[History], Any] | None, history: History | None, progress: bool) -> History:
    """The loop itself.  losses(): one pass over the data, a loss at a time."""
    from tqdm.auto import tqdm

    history = history or History()
    model.train()
    with tqdm(total=epochs * steps, unit="batch", desc="training", disable=not progress) as bar:
        for _ in range(epochs):
            begun, first = time.perf_counter(), len(history.batch_loss)
            for value in losses():
                optimizer.zero_grad()
                value.backward()
                if max_norm is not None:
                    clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                if schedule is not None:
                    schedule.step()
                history.batch_loss.append(_finite(value.item(), len(history.batch_loss), optimizer))
                bar.update()
            history.loss.append(float(np.mean(history.batch_loss[first:])))
            history.seconds.append(time.perf_counter() - begun)
            bar.set_postfix(measure(history))
            if after_epoch is not None:
                after_epoch(history)
    return history


def _finite(loss: float, step: int, optimizer: Optimizer) -> float:
    if not math.isfinite(loss):
        raise ArgumentError(f"the loss became {loss} at step {step}; a smaller learning rate than {optimizer.lr:g}, or "
                            "max_norm=1, may help")
    return loss


def evaluate(model: Module, data: DataLoader | Dataset) -> Evaluation:
    """Classify every example, without recording and in eval mode (the model's mode is put back)."""
    loader = DataLoader(data, batch_size=256) if isinstance(data, Dataset) else data
    logits, labels = [], []
    with _evaluating(model):
        for x, y in loader:
            logits.append(model(x).numpy())
            labels.append(y.numpy())
    if not logits:
        raise ArgumentError("evaluate: there are no examples")
    scores, truth = np.concatenate(logits), np.concatenate(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ShapeError("evaluate: a classifier gives (N, classes) for labels (N,), got "
                         f"{scores.shape} for {truth.shape}")
    predictions, probabilities = scores.argmax(1), ops.softmax(Tensor(scores), axis=-1).numpy()
    return Evaluation(float((predictions == truth).mean()), predictions, truth, probabilities)


def confusion_matrix(labels: Any, predictions: Any, num_classes: int | None = None) -> np.ndarray:
    """(classes, classes) counts: entry [i, j] says how many examples of class i were taken for class j."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ShapeError(f"confusion_matrix: labels {labels.shape} and predictions {predictions.shape} must both be "
                         "(N,)")
    highest = int(max(labels.max(initial=-1), predictions.max(initial=-1)))
    n = highest + 1 if num_classes is None else num_classes
    if highest >= n or min(labels.min(initial=0), predictions.min(initial=0)) < 0:
        raise ArgumentError(f"confusion_matrix: classes are 0 to {n - 1}, found {highest}")
    return np.bincount(labels * n + predictions, minlength=n * n).reshape(n, n)


# --- language models ----------------------------------------------------------------------------------------------

def fit_language_model(model: Module, batches: Tensor, optimizer: Optimizer, bptt: int = 32, epochs: int = 1,
                       schedule: Schedule | None = None, max_norm: float | None = 1.0,
                       after_epoch: Callable[[History], Any] | None = None, history: History | None = None,
                       progress: bool = True) -> History:
    """Train a `LanguageModel` on the columns of `batchify`, bptt rows at a time; otherwise as `fit`.

    The state flows from one piece of text to the next, gradients do not. max_norm: over many steps gradients can
    explode, so longer ones are shortened (Pascanu et al., 2013).
    """
    starts = range(0, len(batches) - 1, bptt)

    def losses() -> Iterator[Tensor]:
        state = None
        for i in starts:
            data, target = get_batch(batches, i, bptt)
            logits, state = model(data, state)
            yield ops.cross_entropy(logits, target)
            state = detached(state)

    def measure(history: History) -> dict[str, str]:
        return {"perplexity": f"{math.exp(history.loss[-1]):.2f}"}

    return _train(model, losses, len(starts), optimizer, epochs, schedule, max_norm, measure, after_epoch, history,
                  progress)


def perplexity(model: Module, batches: Tensor, bptt: int = 32) -> float:
    """exp(mean loss per token): among how many equally likely tokens the model is undecided.  1 is certainty."""
    total, count, state = 0.0, 0, None
    with _evaluating(model):
        for i in range(0, len(batches) - 1, bptt):
            data, target = get_batch(batches, i, bptt)
            logits, state = model(data, state)
            total += ops.cross_entropy(logits, target).item() * target.numel()
            count += target.numel()
    return math.exp(total / count)


def detached(state: Any) -> Any:
    """A recurrent state without its history: a tensor, or a tuple of them."""
    return tuple(map(detached, state)) if isinstance(state, tuple) else state.detach()


@contextlib.contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Eval mode and nothing recorded; afterwards every part of the model is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
