"""The pages of the reference: one for each room, in the order of its files, from the docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from types import ModuleType
from typing import Any

import needle_lab
from needle_lab.refused import REFUSED

# Rooms in the order in which one meets them; a room that is not named here comes behind them.
ORDER = ("needle_lab", "nn", "ops", "optim", "training", "data", "models", "program", "serialize", "onnx", "analysis",
         "widgets", "plots", "testing", "grading", "errors")
INSIDE = ("cli", "doctor", "core", "kernels", "creation", "random", "checkpoint", "calculus",
          "refused")                                    # what they offer is a name of `ndl`


def pages() -> dict[str, str]:
    """File name -> content."""
    rooms = {"needle_lab": needle_lab}
    for found in pkgutil.iter_modules(needle_lab.__path__):
        if not found.name.startswith("_") and found.name not in INSIDE:
            rooms[found.name] = importlib.import_module(f"needle_lab.{found.name}")
    offered = {name: names_of(room, rooms) for name, room in rooms.items() if inspect.ismodule(room)}
    order = [name for name in (*ORDER, *sorted(set(offered) - set(ORDER))) if offered.get(name)]
    made = {f"{name}.rst": page(rooms[name], offered[name]) for name in order}
    entries = "".join(f":doc:`{call(name)} <{name}>`\n    {first_sentence(rooms[name])}\n\n" for name in order)
    made["index.rst"] = (heading("Reference", "=") + "``import needle_lab as ndl``. A room, and what is in it:\n\n" + entries
                         + ":doc:`What PyTorch has and needle_lab has not <refused>`\n    And what to use instead.\n\n"
                         + ".. toctree::\n    :hidden:\n\n" + "".join(f"    {call(name)} <{name}>\n" for name in order)
                         + "    refused\n")
    made["refused.rst"] = refused()
    return made


def refused() -> str:
    """The table of what is refused by name."""
    text = heading("What PyTorch has and needle_lab has not", "=")
    text += ("On purpose; the error for such a name says the same. A dot at the end stands for all of a room, a star for "
             "any letters.\n\n.. list-table::\n    :header-rows: 1\n\n    * - torch.\n      - instead\n")
    return text + "".join(f"    * - ``{name}``\n      - {escaped(why)}\n" for name, why in sorted(REFUSED.items()))


def call(name: str) -> str:
    """How a user writes the room."""
    return "ndl" if name == "needle_lab" else f"ndl.{name}"


def names_of(room: ModuleType, rooms: dict[str, ModuleType]) -> list[str]:
    """What a room offers of its own: what its list names, or what is defined in it; `ndl`, what no room has."""
    if room is needle_lab:
        elsewhere = {name for other in rooms.values() if other is not room for name in names_of(other, rooms)}
        return [name for name in room.__all__ if name not in elsewhere and ours(getattr(room, name))]
    names = getattr(room, "__all__", [name for name in vars(room) if name[0] != "_"])
    return [name for name in names if ours(getattr(room, name)) and within(getattr(room, name), room)]


def within(value: Any, room: ModuleType) -> bool:
    return f"{value.__module__}.".startswith(f"{room.__name__}.")


def ours(value: Any) -> bool:
    """Whether it is a function, an op or a class of this package."""
    return callable(value) and str(getattr(value, "__module__", "")).startswith("needle_lab.")


def page(room: ModuleType, names: list[str]) -> str:
    """The docstring of the room, then its names, file by file, in the order in which they stand there."""
    chapters: dict[str, list[str]] = {}
    for public in names:
        chapters.setdefault(getattr(room, public).__module__, []).append(public)
    text = heading(call(room.__name__.removeprefix("needle_lab.")), "=")
    text += f".. automodule:: {room.__name__}\n    :no-members:\n\n"
    for chapter, members in sorted(chapters.items()):
        if len(chapters) > 1:
            text += heading(chapter.removeprefix(f"{room.__name__}."), "-") + first_sentence(sys.modules[chapter]) + "\n\n"
        members = sorted(members, key=lambda member: line_of(getattr(room, member)))
        text += ".. autosummary::\n    :nosignatures:\n\n"
        text += "".join(f"    {member}\n" for member in members) + "\n"
        for member in members:
            form = "autoclass:: {}\n    :members:\n" if inspect.isclass(getattr(room, member)) else "autofunction:: {}\n"
            text += ".. " + form.format(f"{room.__name__}.{member}") + "\n"
    return text


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def line_of(value: Any) -> int:
    """Where it stands in its file, so that the reference reads as the file does."""
    try:
        return inspect.getsourcelines(inspect.unwrap(value))[1]
    except (OSError, TypeError):                 # made by a call, as elementwise ops may be
        return sys.maxsize


def first_sentence(module: ModuleType) -> str:
    """What the module says that it is, as RST."""
    text = " ".join(inspect.cleandoc(module.__doc__ or "").split("\n\n")[0].split())
    return escaped(text.rstrip(":"))


def escaped(line: str) -> str:
    """A line of plain text as RST: `code` becomes ``code``, all else means what it shows."""
    parts = re.split(r"(`+[^`]+`+)", line)
    return "".join(f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([\\*|_`])", r"\\\1", part)
                   for part in parts)
