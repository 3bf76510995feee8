"""Evaluation mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..core.modes import no_grad

if TYPE_CHECKING:
    from .module import Module


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode and nothing recorded; afterwards every part of the model is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
