"""How well a model does: numbers made of its outputs and the right answers.

A classifier's outputs are scores (N, classes), or (N, classes, ...) for a class at each place; its targets are integers
(N, ...), of which those below 0 do not count, or probabilities in the shape of the scores. Integer outputs in the shape of
the targets are taken for classes as they are. precision, recall and f1 are macro averages: the mean over the classes, as in
scikit-learn, 0 for a class that was never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..core.tensor import Tensor
from ..data import DataLoader, as_dataset
from ..errors import ArgumentError, ShapeError
from ..nn import Module
from ..nn.modes import evaluating


def accuracy(outputs: Any, targets: Any) -> float:
    """The share of right answers."""
    guesses, truth = classes_of(outputs, targets)
    return float((guesses == truth).mean()) if truth.size else float("nan")


def precision(outputs: Any, targets: Any) -> float:
    """Of what was taken for a class, the share that is of it; the mean over the classes."""
    right, guessed, _ = _counts(outputs, targets)
    return float((right / np.maximum(guessed, 1)).mean())


def recall(outputs: Any, targets: Any) -> float:
    """Of what is of a class, the share that was found; the mean over the classes."""
    right, _, there = _counts(outputs, targets)
    return float((right / np.maximum(there, 1)).mean())


def f1(outputs: Any, targets: Any) -> float:
    """The harmonic mean of precision and recall of a class; the mean over the classes."""
    right, guessed, there = _counts(outputs, targets)
    return float((2 * right / np.maximum(guessed + there, 1)).mean())


def r2(outputs: Any, targets: Any) -> float:
    """1 - (squared error) / (squared distance of the targets from their mean): 1 is perfect, 0 is the mean itself."""
    y, t = (_host(a).astype(np.float64) for a in (outputs, targets))
    if y.shape != t.shape:
        raise ShapeError(f"r2: outputs and targets of one shape are needed, got {y.shape} and {t.shape}")
    spread = ((t - t.mean(axis=0)) ** 2).sum()
    return float(1 - ((y - t) ** 2).sum() / spread) if spread else float("nan")


METRICS: dict[str, Callable[[Any, Any], float]] = {"accuracy": accuracy, "precision": precision, "recall": recall,
                                                   "f1": f1, "r2": r2}


def classes_of(outputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray]:
    """-> (guessed classes, true classes) of all that counts."""
    scores, truth = _host(outputs), _host(targets)
    whole = truth.dtype.kind in "iub"
    if not whole and scores.shape == truth.shape and scores.ndim > 1 and scores.shape[1] > 1:
        return scores.argmax(1), truth.argmax(1)
    if not (whole and scores.dtype.kind in "iub" and scores.shape == truth.shape):
        if not whole or scores.ndim != truth.ndim + 1 or scores.shape[:1] + scores.shape[2:] != truth.shape:
            raise ShapeError("a classifier gives scores (N, classes) for integer labels (N,), got "
                             f"{scores.dtype} {scores.shape} for {truth.dtype} {truth.shape}; for another task name another "
                             "metric, such as 'r2', or give a function of (outputs, targets)")
        scores = scores.argmax(1)
    counts = truth >= 0
    return scores[counts], truth[counts]


def confusion_matrix(labels: Any, predictions: Any, num_classes: int | None = None) -> np.ndarray:
    """(classes, classes) counts: entry [i, j] says how many examples of class i were taken for class j."""
    labels, predictions = _host(labels), _host(predictions)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ShapeError(f"confusion_matrix: labels {labels.shape} and predictions {predictions.shape} must both be "
                         "(N,)")
    highest = int(max(labels.max(initial=-1), predictions.max(initial=-1)))
    n = highest + 1 if num_classes is None else num_classes
    if highest >= n or min(labels.min(initial=0), predictions.min(initial=0)) < 0:
        raise ArgumentError(f"confusion_matrix: classes are 0 to {n - 1}, found {highest}")
    return np.bincount(labels * n + predictions, minlength=n * n).reshape(n, n)


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


def evaluate(model: Module, data: Any) -> Evaluation:
    """Classify every example, without recording and in eval mode (the model's mode is put back).

    data: a DataLoader, a Dataset, arrays (x, y), or a list of examples. For other tasks see `measure`.
    """
    logits, labels = outputs_and_targets(model, as_loader(data, "evaluate", model))
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ShapeError("evaluate: a classifier gives (N, classes) for labels (N,), got "
                         f"{logits.shape} for {labels.shape}; for another task: measure(model, data, loss)")
    predictions, probabilities = logits.argmax(1), ops.softmax(Tensor(logits), axis=-1).numpy()
    return Evaluation(float((predictions == labels).mean()), predictions, labels, probabilities)


def outputs_and_targets(model: Module, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the model answers for all examples, and the right answers."""
    outputs, targets = [], []
    with evaluating(model):
        for batch in loader:
            inputs, y = parts_of(batch, "evaluate")
            outputs.append(model(*inputs).numpy())
            targets.append(y.numpy())
    if not outputs:
        raise ArgumentError("evaluate: there are no examples")
    return np.concatenate(outputs), np.concatenate(targets)


def parts_of(batch: Any, caller: str) -> tuple[tuple[Any, ...], Any]:
    """A batch (x, y), or (x1, x2, ..., y), as the model's inputs and the target."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ArgumentError(f"{caller}: a batch is (x, y), got {type(batch).__name__}"
                            + (f" of {len(batch)}" if isinstance(batch, (tuple, list, dict)) else f" {np.shape(batch)}")
                            + "; let the dataset or a collate_fn give (input, target)")
    return tuple(batch[:-1]), batch[-1]


def as_loader(data: Any, caller: str, model: Module, batch_size: int = 256, shuffle: bool = False) -> Any:
    """Batches from a loader (or anything else that gives batches), a Dataset, arrays (x, y), or a list of examples."""
    if isinstance(data, DataLoader) or (hasattr(data, "__iter__") and not hasattr(data, "__getitem__")):
        if isinstance(data, Iterator):
            raise ArgumentError(f"{caller}: an iterator gives its batches once; give what can be iterated anew, such as a "
                                "DataLoader")
        return data
    device = next((p.device for p in model.parameters()), None)
    return DataLoader(as_dataset(data, caller), batch_size, shuffle=shuffle, device=device)


def _counts(outputs: Any, targets: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class: how many were rightly found, how many guessed, how many there are."""
    guesses, truth = (a.reshape(-1).astype(np.int64) for a in classes_of(outputs, targets))
    seen, numbers = np.unique(np.concatenate([guesses, truth]), return_inverse=True)
    guesses, truth = numbers[:len(guesses)], numbers[len(guesses):]
    right, guessed, there = (np.bincount(a, minlength=max(len(seen), 1)) for a in (truth[guesses == truth], guesses, truth))
    return right, guessed, there


def _host(a: Any) -> np.ndarray:
    return a.numpy() if isinstance(a, Tensor) else np.asarray(a)
