"""What a thread does with the calls it makes: record them or not, for a gradient or for a trace."""

from __future__ import annotations

import functools
import inspect
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
        if inspect.isgeneratorfunction(function):
            return self._stepwise(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with grad_mode(self.enabled):
                return function(*args, **kwargs)
        return wrapped

    def _stepwise(self, function: Any) -> Any:
        """A generator function whose body runs in this mode, and what happens between its values in the caller's."""
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            running = function(*args, **kwargs)
            step = functools.partial(running.send, None)
            while True:
                try:
                    with grad_mode(self.enabled):
                        value = step()
                except StopIteration as end:
                    return end.value
                try:
                    step = functools.partial(running.send, (yield value))
                except BaseException as error:               # thrown in, or closed: the generator's own business
                    step = functools.partial(running.throw, error)
        return wrapped


def no_grad(function: Any = None) -> Any:
    """Compute without recording: results have no node.  `with ndl.no_grad(): ...`, or `@ndl.no_grad`.  torch.no_grad."""
    return grad_mode(False) if function is None else grad_mode(False)(function)


def inference_mode(function: Any = None) -> Any:
    """`no_grad`, or what was, for False.  torch.inference_mode."""
    if isinstance(function, bool):
        return grad_mode(mode.enabled and not function)
    return no_grad(function)


def enable_grad(function: Any = None) -> Any:
    """Record again inside `no_grad`.  torch.enable_grad."""
    return grad_mode(True) if function is None else grad_mode(True)(function)


class set_grad_enabled(grad_mode):
    """Switch recording on or off from now on, or, as a context manager, until its end.  torch.set_grad_enabled."""

    def __init__(self, enabled: bool):
        super().__init__(bool(enabled))
        self.before, mode.enabled = mode.enabled, self.enabled

    def __enter__(self) -> set_grad_enabled:
        return self

    def __call__(self, function: Any) -> Any:
        mode.enabled = self.before
        return super().__call__(function)


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
