"""What a training run leaves behind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class History:
    """The curves of a training run.  `fit` appends to it; `to_dict()` is JSON-able, and `History(**d)` makes it again."""

    batch_loss: list[float] = field(default_factory=list)        # after each step
    loss: list[float] = field(default_factory=list)              # mean over each epoch
    test_loss: list[float] = field(default_factory=list)         # on the test set, after each epoch
    metrics: dict[str, list[float]] = field(default_factory=dict)        # likewise, by the metric's name
    seconds: list[float] = field(default_factory=list)           # of training, each epoch

    @property
    def accuracy(self) -> list[float]:
        """On the test set, after each epoch; empty where it was not measured."""
        return self.metrics.get("accuracy", [])

    def to_dict(self) -> dict[str, Any]:
        """The curves as lists, for a file or a plot."""
        return asdict(self)

    def __repr__(self) -> str:
        if not self.loss:
            return "History: no epochs"
        tested = {"test loss": self.test_loss, **{f"test {name}": values for name, values in self.metrics.items()}}
        shown = [f", {name} {in_words(name, values[-1])}" for name, values in tested.items() if values]
        return f"History: {len(self.loss)} epochs in {sum(self.seconds):.1f} s, loss {self.loss[-1]:.4f}{''.join(shown)}"


def in_words(name: str, value: float) -> str:
    """A share in percent, any other number as it is."""
    return f"{value:.2%}" if name.endswith(("accuracy", "precision", "recall")) else f"{value:.4f}"
