"""What a thread does with the calls it makes: record them or not, for a gradient or for a trace."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


class _Mode(threading.local):
    enabled = True               # calls on tensors that require a gradient are recorded
    tracing: trace | None = None          # every call is recorded, and told


mode = _Mode()


class grad_mode:
    """Switch recording on or off: `with grad_mode(False): ...`, or as a decorator of a function."""

    def __init__(self, enabled: bool):
        self.enabled = enabled

    def __enter__(self) -> grad_mode:
        self.before, mode.enabled = mode.enabled, self.enabled
        return self

    def __exit__(self, *exc: object) -> None:
        mode.enabled = self.before

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with grad_mode(self.enabled):
                return function(*args, **kwargs)
        return wrapped


def no_grad() -> grad_mode:
    """Compute without recording: results have no node.  torch.no_grad."""
    return grad_mode(False)


def enable_grad() -> grad_mode:
    """Record again inside `no_grad`.  torch.enable_grad."""
    return grad_mode(True)


def is_grad_enabled() -> bool:
    """Whether ops called now are recorded."""
    return mode.enabled


class trace:
    """While active, every call is recorded, also where nothing requires a gradient: what a Program is made from.

    recorded(node, results): called after each call. leaving(x): called before the values of a tensor go to Python or
    numpy, where no trace follows them, and after they were changed in place; it may raise.
    """

    def __init__(self, recorded: Callable[..., Any] = lambda node, results: None,
                 leaving: Callable[..., Any] = lambda x: None):
        self.recorded, self.leaving = recorded, leaving

    def __enter__(self) -> trace:
        self.before, mode.tracing = mode.tracing, self
        return self

    def __exit__(self, *exc: object) -> None:
        mode.tracing = self.before


class untraced(trace):
    """Inside of a trace: what is computed here is not recorded."""

    def __enter__(self) -> trace:
        self.before, mode.tracing = mode.tracing, None
        return self


def leaving(x: Any) -> None:
    """Tell a trace that is on that the values of x are about to be read outside of ops, or were changed in place."""
    if mode.tracing is not None:
        mode.tracing.leaving(x)


def is_tracing() -> bool:
    """Whether a `trace` is active, so that ops should show the parts they are made of."""
    return mode.tracing is not None
