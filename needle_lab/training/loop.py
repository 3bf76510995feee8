"""The training loop, once: batches in, steps of the optimizer, numbers out.

    history = fit(model, loader, optimizer, epochs=10, test=test, after_epoch=LiveLoss())
    result = evaluate(model, test)                  accuracy, predictions, which examples are wrong

Nothing here is special: a loop of one's own with the same five lines does the same.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..nn import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, Module, NLLLoss
from ..nn.modes import evaluating
from ..optim import Optimizer, clip_grad_norm_
from .history import History, in_words
from .metrics import METRICS, as_loader, parts_of

Metric = str | Callable[[Any, Any], Any]


def fit(model: Module, loader: Any, optimizer: Optimizer, loss: Callable[..., Tensor] = ops.cross_entropy, epochs: int = 1,
        test: Any = None, schedule: Any = None, max_norm: float | None = None,
        after_epoch: Callable[[History], Any] | None = None, history: History | None = None, progress: bool = True, *,
        metrics: Metric | Sequence[Metric] | None = None, patience: int | None = None, keep_best: bool = False,
        monitor: str = "loss", batch_size: int = 32) -> History:
    """Train `model` on the batches (x, y) of `loader`: minimise loss(model(x), y).

    loader: a DataLoader; or a Dataset, arrays (x, y), or a list of examples, which are shuffled into batches of batch_size.
    test: the same; after each epoch the loss on it is measured, and the metrics: names out of accuracy, precision, recall,
    f1, r2, or functions of (outputs, targets). Without metrics the accuracy, where the loss is one of classes.
    schedule: stepped after every batch. max_norm: shorten longer gradients to it. history: one to continue. progress: show
    a bar. after_epoch: called with the history, to draw or to save; the training ends when it returns True.
    patience: end after so many epochs without a better test loss; keep_best: afterwards the model has the weights of its
    best epoch. monitor: "loss", or the name of a metric, of which more is better, to go by instead.
    Raises ArgumentError when the loss is no longer finite: no later step could repair that.

    >>> _ = ndl.manual_seed(0)
    >>> x = ndl.randn(64, 2)
    >>> loader = ndl.data.DataLoader(ndl.data.ArrayDataset(x, (x[:, 0] > x[:, 1]).astype("int64")), batch_size=16)
    >>> model = ndl.nn.Linear(2, 2)
    >>> history = ndl.training.fit(model, loader, ndl.optim.Adam(model.parameters(), lr=0.1), epochs=3, progress=False)
    >>> history.loss[0] > history.loss[-1]
    True
    """
    batches = as_loader(loader, "fit", model, batch_size, shuffle=True)
    watching = Watch(model, monitor, patience, keep_best) if patience is not None or keep_best else None
    chosen = _named(_default(loss) if metrics is None and test is not None else metrics)
    chosen |= {name: metric for name, metric in _named(_default(loss)).items() if name in chosen}       # of two classes, too
    if test is None and (chosen or watching):
        raise ArgumentError("fit: metrics, patience and keep_best need test=, the examples to measure on")
    if watching and monitor not in ("loss", *chosen):
        raise ArgumentError(f"fit: monitor={monitor!r} is none of {', '.join(['loss', *chosen])}")
    test = None if test is None else as_loader(test, "fit", model)
    if test is not None:
        measure(model, test, loss, chosen, most=1)             # what does not fit shows before the first epoch

    def losses() -> Iterator[Tensor]:
        for batch in batches:
            inputs, y = parts_of(batch, "fit")
            yield loss(model(*inputs), y)

    def tested(history: History) -> dict[str, str]:
        shown = {"loss": f"{history.loss[-1]:.4f}"}
        if test is not None:
            found = measure(model, test, loss, chosen)
            history.test_loss.append(found["loss"])
            for name in chosen:
                history.metrics.setdefault(name, []).append(found[name])
                shown[name] = in_words(name, found[name])
            shown["test loss"] = f"{found['loss']:.4f}"
        return shown

    def ends(history: History) -> bool:
        stop = after_epoch(history) if after_epoch is not None else None
        return bool(watching and watching.ends(history)) or (isinstance(stop, (bool, np.bool_)) and bool(stop))

    try:
        return run(model, losses, _length(batches), optimizer, epochs, schedule, max_norm, tested, ends, history, progress)
    finally:
        if watching:
            watching.restore()


def measure(model: Module, data: Any, loss: Callable[..., Tensor], metrics: Any = (), most: int | None = None
            ) -> dict[str, float]:
    """The mean loss over all examples, under "loss", and each metric under its name; see `fit`.

    In eval mode, and nothing is recorded. most: stop after so many batches.
    """
    chosen, total, count = metrics if isinstance(metrics, dict) else _named(metrics), 0.0, 0
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    with evaluating(model):
        for batch in itertools.islice(as_loader(data, "measure", model), most):
            inputs, y = parts_of(batch, "measure")
            found, n = model(*inputs), y.shape[0] if y.ndim else 1
            total, count = total + _number(loss(found, y)) * n, count + n
            if chosen:
                outputs.append(found.detach())
                targets.append(y)
    if not count:
        raise ArgumentError("measure: there are no examples")
    if not chosen:
        return {"loss": total / count}
    joined = ops.concat(outputs), ops.concat(targets)
    return {"loss": total / count, **{name: float(metric(*joined)) for name, metric in chosen.items()}}


class Watch:
    """Whether a model still gets better, and what its best weights were."""

    def __init__(self, model: Module, monitor: str, patience: int | None, keep_best: bool):
        if patience is not None and patience < 1:
            raise ArgumentError(f"fit: patience is a number of epochs, at least 1, got {patience}")
        self.model, self.monitor, self.patience, self.keep_best = model, monitor, patience, keep_best
        self.best: dict[str, np.ndarray] | None = None

    def ends(self, history: History) -> bool:
        """After an epoch: keep the weights if they are the best so far; whether patience is at its end."""
        values = np.array(history.test_loss if self.monitor == "loss" else history.metrics[self.monitor])
        better = np.nan_to_num(-values if self.monitor == "loss" else values, nan=-np.inf)
        best = int(better.argmax())
        if self.keep_best and best == len(values) - 1:
            self.best = {path: np.array(value.numpy()) for path, value in self.model.state_dict().items()}
        return self.patience is not None and len(values) - 1 - best >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        if self.best is not None:
            self.model.load_state_dict(self.best)


def run(model: Module, losses: Callable[[], Iterator[Tensor]], steps: int | None, optimizer: Optimizer, epochs: int,
        schedule: Any, max_norm: float | None, measure: Callable[[History], dict[str, str]],
        ends: Callable[[History], bool], history: History | None, progress: bool) -> History:
    """The loop itself.  losses(): one pass over the data, a loss at a time."""
    from tqdm.auto import tqdm

    if not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ArgumentError(f"fit: epochs is an integer of 0 or more, got {epochs!r}")
    history = History() if history is None else History(**history) if isinstance(history, dict) else history
    model.train()
    with tqdm(total=steps and epochs * steps, unit="batch", desc="training", disable=not progress) as bar:
        for _ in range(epochs):
            begun, first = time.perf_counter(), len(history.batch_loss)
            for value in losses():
                optimizer.zero_grad()
                _number(value)
                value.backward()
                if max_norm is not None:
                    clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                if schedule is not None:
                    schedule.step()
                history.batch_loss.append(_finite(value.item(), len(history.batch_loss), optimizer))
                bar.update()
            if len(history.batch_loss) == first:
                raise ArgumentError("fit: there are no batches to train on")
            history.loss.append(float(np.mean(history.batch_loss[first:])))
            history.seconds.append(time.perf_counter() - begun)
            bar.set_postfix(measure(history))
            if ends(history):
                break
    return history


def _named(metrics: Metric | Sequence[Metric] | None) -> dict[str, Callable[[Any, Any], Any]]:
    """Metrics by name."""
    given: Sequence[Any] = () if metrics is None else [metrics] if isinstance(metrics, str) or callable(metrics) else metrics
    found = {}
    for metric in given:
        name = metric.lower() if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
        if isinstance(metric, str) and name not in METRICS:
            raise ArgumentError(f"{metric!r} is no metric; there are {', '.join(METRICS)}, or give a function of "
                                "(outputs, targets)")
        found[name] = METRICS[name] if isinstance(metric, str) else metric
    return found


def _default(loss: Callable[..., Any]) -> Sequence[Metric]:
    """The accuracy, for losses of classes."""
    if loss in (ops.cross_entropy, ops.nll_loss) or isinstance(loss, (CrossEntropyLoss, NLLLoss)):
        return ("accuracy",)
    cut = {ops.binary_cross_entropy: 0.5, ops.binary_cross_entropy_with_logits: 0.0, BCELoss: 0.5, BCEWithLogitsLoss: 0.0}
    threshold = next((at for kind, at in cut.items() if loss is kind or (isinstance(kind, type) and isinstance(loss, kind))),
                     None)
    if threshold is None:
        return ()

    def accuracy(outputs: Tensor, targets: Tensor) -> float:
        return float(((outputs.numpy() > threshold) == (targets.numpy() > 0.5)).mean())
    return (accuracy,)


def _number(loss: Any) -> float:
    if not isinstance(loss, Tensor) or loss.shape not in ((), (1,)):
        came = f"a tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ArgumentError(f"the loss of a batch is one number, a tensor of shape (), got {came}; reduce it with .mean()")
    return float(loss.item())


def _length(batches: Any) -> int | None:
    with contextlib.suppress(TypeError):
        return len(batches)
    return None


def _finite(loss: float, step: int, optimizer: Optimizer) -> float:
    if not math.isfinite(loss):
        raise ArgumentError(f"the loss became {loss} at step {step}; a smaller learning rate than {optimizer.lr:g}, or "
                            "max_norm=1, may help")
    return loss
