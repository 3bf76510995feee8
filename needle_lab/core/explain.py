"""Errors where people call us: what Python or NumPy would say in its own words names the call, what was asked, what came.

Only what went wrong in our own code and in NumPy is translated; an error of a function that the caller handed in is his.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentError, DTypeError, NeedleError, ShapeError

RAW = (TypeError, ValueError, IndexError, KeyError, AttributeError, ZeroDivisionError, OverflowError)
OURS = {"needle_lab", "numpy", "ml_dtypes", *sys.stdlib_module_names} - {"__main__"}
WANTED: dict[str, tuple[Callable[[Any], bool], str]] = {        # what an annotation asks for
    "Tensor": (lambda x: hasattr(x, "shape"), "a tensor; ndl.tensor(...) makes one"),
    "int": (lambda x: isinstance(x, (int, np.integer)), "an integer"),
    "float": (lambda x: isinstance(x, (int, float, np.number)) or getattr(x, "shape", None) == (), "a number"),
    "bool": (lambda x: isinstance(x, (bool, np.bool_, int)), "True or False"),
    "str": (lambda x: isinstance(x, str), "a text"),
    "None": (lambda x: x is None, "None")}
F = TypeVar("F", bound=Callable[..., Any])


def explaining(function: F, name: str = "") -> F:
    """The function, with its errors in our words.  name: how people call it, where that is not its own name."""
    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        try:
            return function(*args, **given)
        except NeedleError:
            raise
        except RAW as error:
            if not is_ours(error):
                raise
            raise explained(function, name or function.__name__, error, args, given) from error
    call.explained = True                                           # type: ignore[attr-defined]
    return call                                                     # type: ignore[return-value]


def at_the_door(room: dict[str, Any], names: Iterable[str]) -> None:
    """`explaining` for the functions of a room that people call, and for the constructors of its classes.

    An Op, and a Module, say themselves what does not fit.
    """
    for name in names:
        thing = room.get(name)
        if inspect.isfunction(thing) and not hasattr(thing, "explained"):
            room[name] = explaining(thing)
        elif inspect.isclass(thing) and inspect.isfunction(init := vars(thing).get("__init__")) and not hasattr(
                init, "explained"):
            setattr(thing, "__init__", explaining(thing.__init__, thing.__name__))       # noqa: B010


def is_ours(error: BaseException) -> bool:
    """Whether an error arose in needle_lab or in what it computes with, and not in a function of the caller's."""
    trace = error.__traceback__ and error.__traceback__.tb_next
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in OURS:
            return False
        trace = trace.tb_next
    return True


def explained(function: Callable[..., Any], name: str, error: Exception, args: tuple[Any, ...], given: dict[str, Any]
              ) -> NeedleError:
    """Our error for one of Python's or NumPy's."""
    signature = inspect.signature(function)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    asked = f"{name}({', '.join(map(str, plain))})"
    try:
        came = signature.bind(*args, **given).arguments
    except TypeError as wrong:
        return ArgumentError(f"{asked}: {wrong}")
    for parameter, value in came.items():
        annotation = signature.parameters[parameter].annotation
        kinds = str(getattr(annotation, "__name__", annotation)).split(" | ")
        if all(kind in WANTED for kind in kinds) and not any(WANTED[kind][0](value) for kind in kinds):
            wanted = " or ".join(WANTED[kind][1] for kind in kinds)
            return DTypeError(f"{asked}: {parameter} is {wanted}; got {shown(value)}")
    kind = DTypeError if isinstance(error, (TypeError, AttributeError)) else \
        ShapeError if isinstance(error, IndexError) or "shape" in str(error) else ArgumentError
    words = ", ".join(f"{parameter} = {shown(value)}" for parameter, value in came.items() if parameter != "self")
    return kind(f"{asked}: {str(error).strip() or type(error).__name__}; given: {words}")


def shown(value: Any) -> str:
    """A value in a message: a tensor by its dtype and shape, others in short."""
    if isinstance(getattr(value, "shape", None), tuple):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    plain = value is None or isinstance(value, (int, float, str, tuple, list, dict))
    return text if plain else f"{type(value).__name__} {text}"
