"""Hooks: functions of the user that run before a module, after it, and when backward has passed through it.

Forward hooks are a matter of calling order. A backward hook needs the gradients at the module's edges, all of them
together; so while one is registered, inputs and outputs pass through a *boundary*, an op that returns what it gets
and whose gradient rule tells the hook.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.graph import Op
from ..core.modes import is_grad_enabled
from ..core.tensor import HookHandle, Tensor
from ..errors import ArgumentError

if TYPE_CHECKING:
    from .module import Module

_serial = itertools.count()


def register(module: Module, moment: str, hook: Callable[..., Any]) -> HookHandle:
    """Add a hook at "before", "after" or "backward"; the handle removes it."""
    if not callable(hook):
        raise ArgumentError(f"a hook is a function, got {type(hook).__name__}")
    table = vars(module).setdefault("_hooks", {"before": {}, "after": {}, "backward": {}})
    key = next(_serial)
    table[moment][key] = hook
    return HookHandle(table[moment], key)


def call(module: Module, registered: dict[str, dict[int, Callable[..., Any]]], args: tuple[Any, ...],
         kwargs: dict[str, Any]) -> Any:
    """Run forward with its hooks, in the order in which they were registered."""
    for hook in list(registered["before"].values()):
        changed = hook(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    watched = list(registered["backward"].values())
    seam = _Seam(module, watched) if watched else None
    if seam:
        args = seam.enter(args)
    output = module.forward(*args, **kwargs)
    for hook in list(registered["after"].values()):
        changed = hook(module, args, output)
        output = output if changed is None else changed
    return seam.leave(output) if seam else output


class _Seam:
    """The two boundaries of one call, and the gradients that crossed them."""

    def __init__(self, module: Module, hooks: list[Callable[..., Any]]):
        self.module, self.hooks = module, hooks
        self.needed: list[bool] = []                   # which of the input tensors require a gradient
        self.grad_output: tuple[Any, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        tensors = [x for x in args if isinstance(x, Tensor)]
        self.needed = [x.requires_grad for x in tensors]
        passed = iter(_pass(tensors, self.at_inputs))
        return tuple(next(passed) if isinstance(x, Tensor) else x for x in args)

    def leave(self, output: Any) -> Any:
        found: list[Tensor] = []

        def collect(x: Tensor) -> Tensor:
            found.append(x)
            return x

        _replace(output, collect)
        passed = iter(_pass(found, self.at_outputs))
        return _replace(output, lambda _: next(passed))

    def at_outputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        self.grad_output = gradients
        if not any(self.needed):                       # nothing will cross the inputs: this is the moment
            self.run((None,) * len(self.needed))
        return gradients

    def at_inputs(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.run(gradients)

    def run(self, grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.hooks:
            changed = hook(self.module, grad_input, self.grad_output)
            if changed is None:
                continue
            changed = changed if isinstance(changed, tuple) else (changed,)
            if len(changed) != len(grad_input):
                raise ArgumentError(f"a backward hook of {type(self.module).__name__} returned {len(changed)} "
                                    f"gradients for {len(grad_input)} input tensors; return None or one for each")
            grad_input = changed
        return grad_input


def _boundary(*xs: Any, crossed: Callable[..., Any]) -> Any:
    return xs


# Not in the registry of ops: it computes nothing, and exists only while a backward hook is registered.
boundary = Op(_boundary, promote=None)
boundary.gradient(lambda g, *xs, crossed: crossed(g if isinstance(g, tuple) else (g,)))
boundary.attach(_boundary, "triton")


def _pass(tensors: list[Tensor], crossed: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> list[Tensor]:
    """The tensors, those that require a gradient behind a boundary; `crossed` sees a gradient or None for each."""
    places = [i for i, x in enumerate(tensors) if x.requires_grad]
    if not places or not is_grad_enabled():
        return tensors

    def at_all(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        at = dict(zip(places, gradients, strict=True))
        answer = crossed(tuple(at.get(i) for i in range(len(tensors))))
        return tuple(answer[i] for i in places)

    passed = list(tensors)
    for i, y in zip(places, boundary(*(tensors[i] for i in places), crossed=at_all), strict=True):
        y.storage = tensors[i].storage               # the same memory
        passed[i] = y
    return passed


def _replace(structure: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nest of tuples, lists and dicts with each tensor changed."""
    if isinstance(structure, Tensor):
        return change(structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_replace(x, change) for x in structure))
    if isinstance(structure, (tuple, list)):
        return type(structure)(_replace(x, change) for x in structure)
    if isinstance(structure, dict):
        return {name: _replace(x, change) for name, x in structure.items()}
    return structure
