"""One definition, and quicker forms of it: `Tiered` holds both, `kernel` attaches a form, `use_kernels` chooses.

    definition    what a student would write on a board; `needle_lab.ops` holds nothing else
    numpy         the same in fewer, larger steps of NumPy, shared among threads
    numba         compiled loops, where the extra [fast] is installed
    triton        the GPU's kernels, for tensors on a device of theirs

A form takes what the definition takes and answers the same to rounding, or `NotImplemented` for a case that it leaves to
the next tier, in the end to the definition. The whole contract stands in needle_lab/kernels/README.md.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ArgumentError, MissingExtraError

LEVELS = {"definition": (), "numpy": ("numpy",), "fast": ("numba", "numpy")}         # which tiers are asked, in this order


class Tiered:
    """A function (or method) and its quicker forms.  Calling it asks the tiers in turn; also a decorator: `@Tiered`."""

    living: weakref.WeakSet[Tiered] = weakref.WeakSet()

    def __init__(self, definition: Callable[..., Any]):
        self.definition, self.kernels = definition, dict[str, Callable[..., Any]]()
        self.quicker: list[Callable[..., Any]] = []                # the chosen forms alone
        self.forms: tuple[Callable[..., Any], ...] = (self.definition,) if _room.opened else (self._first_call,)
        functools.update_wrapper(self, definition)
        Tiered.living.add(self)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def _first_call(self, *arrays: Any, **attrs: Any) -> Any:
        open_kernels()                                   # which puts the forms in order
        return self(*arrays, **attrs)

    def arrange(self) -> None:
        """Put the forms of the chosen level in the order in which they are asked."""
        chosen = [self.kernels[tier] for tier in LEVELS[use_kernels.level] if tier in self.kernels]
        self.quicker = [form for form in chosen if name_of(form) not in use_kernels.without]
        self.forms = (*self.quicker, self.definition)

    def attach(self, form: Callable[..., Any], tier: str) -> None:
        """Add a quicker form, in place of one that the tier may have already."""
        self.kernels[tier] = form
        if _room.opened:
            self.arrange()

    def of_tier(self, tier: str) -> list[Callable[..., Any]]:
        """The tier's form, if it has one."""
        return [self.kernels[tier]] if tier in self.kernels else []

    def __call__(self, *arrays: Any, **attrs: Any) -> Any:
        for form in self.forms:
            answer = form(*arrays, **attrs)
            if answer is not NotImplemented:
                return answer
        return NotImplemented


class _Room:
    """Where the quicker forms attach themselves.  Nothing is computed without them, and nothing is imported before."""

    name, opened = "needle_lab.kernels", False


_room = _Room()


def open_kernels() -> None:
    """Import the room of the quicker forms, once: at the first call of anything that may have one."""
    if not _room.opened:
        importlib.import_module(_room.name)
        _room.opened = True
        for tiered in list(Tiered.living):
            tiered.arrange()


def name_of(form: Callable[..., Any]) -> str:
    """The name by which `use_kernels(..., without=...)` knows a form: that of its function."""
    return getattr(form, "__name__", type(form).__name__)


def kernel(target: Any, tier: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Attach a quicker form of an op, of an op's gradient, or of any `Tiered` function: `@kernel(ops.softmax, "numba")`."""
    if tier not in ("numpy", "numba", "triton"):
        raise ArgumentError(f"kernel: {tier!r} is no tier; there are 'numpy', 'numba' and 'triton'")

    def attach(form: Callable[..., Any]) -> Callable[..., Any]:
        target.attach(form, tier)
        return form
    return attach


def fast_available() -> bool:
    """Whether Numba, which compiles the forms of tier "numba", is installed."""
    return importlib.util.find_spec("numba") is not None


class use_kernels:
    """Compute with the definitions or with quicker forms: `ndl.use_kernels("definition")`, for the whole process; or for
    a while, `with ndl.use_kernels("numpy"): ...`.

    level: "definition" (the formulas of needle_lab.ops alone), "numpy", or "fast" (numba's compiled loops, then numpy's
    forms), the default where Numba is installed; MissingExtraError for "fast" where it is not. without: names of forms to
    leave out, such as "winograd": what is left for the case is used instead, so that the gain of one form can be measured.
    """

    level = "fast" if fast_available() else "numpy"
    without: frozenset[str] = frozenset()

    def __init__(self, level: str, without: Iterable[str] = ()):
        if level not in LEVELS:
            raise ArgumentError(f"use_kernels: {level!r} is none of {', '.join(map(repr, LEVELS))}")
        if level == "fast" and not fast_available():
            raise MissingExtraError("use_kernels('fast') needs Numba. Install it: pip install 'needle-lab[fast]'")
        self.before = use_kernels.level, use_kernels.without
        self._switch(level, frozenset([without] if isinstance(without, str) else without))

    @staticmethod
    def _switch(level: str, without: frozenset[str]) -> None:
        if _room.opened and (level, without) == (use_kernels.level, use_kernels.without):
            return
        use_kernels.level, use_kernels.without = level, without
        open_kernels()
        for tiered in list(Tiered.living):
            tiered.arrange()

    def __enter__(self) -> use_kernels:
        return self

    def __exit__(self, *exc: object) -> None:
        self._switch(*self.before)
