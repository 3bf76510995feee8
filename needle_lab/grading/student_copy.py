"""From the instructor's notebook to the student's: solutions become stubs, hidden tests go, nothing is overwritten.

The source is an ordinary notebook in nbgrader's cell metadata, so that courses that use nbgrader can take it as it is.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from needle_lab.errors import FileFormatError, MissingFileError, StorageError

BEGIN_SOLUTION, END_SOLUTION = "### BEGIN SOLUTION", "### END SOLUTION"
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
STUB = ("# your code here", 'raise NotImplementedError("write your solution here")')


def release(source: str | Path, destination: str | Path) -> Path:
    """Write the student copy of an assignment; returns its path.

    source: the name of an assignment ("a1", found in the folder assignments/ of the project) or the path of a notebook.
    destination: a folder (made when it is not there); the copy gets the name of the source.
    Raises StorageError when the file is already there: it may hold somebody's work, and is never touched.
    Raises FileFormatError when a marker is missing its partner, so that no solution slips out.
    """
    source = find_source(source)
    target = Path(destination) / source.name
    if target.exists() or target.is_symlink():
        raise StorageError(f"{target} is already there and may hold a student's work; nothing was written. "
                           "Move or rename it and release again, or name another folder")
    text = json.dumps(student_version(read_notebook(source)), indent=1, ensure_ascii=False) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    _write_new(target, text)
    return target


def find_source(source: str | Path) -> Path:
    """The notebook of an assignment: a path as it is, a name looked up in assignments/ here, above, or in the clone."""
    path = Path(source)
    if path.is_file():
        return path
    here = Path.cwd()
    clone = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, clone):
        found = folder / "assignments" / path.name / f"{path.name}.ipynb"
        if path.suffix == "" and found.is_file():
            return found
    raise MissingFileError(f"no notebook {source}, and no assignments/{path.name}/{path.name}.ipynb in {here}, "
                           f"above it, or in {clone}")


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as plain data; raises FileFormatError with the reason when it is not one."""
    try:
        notebook = json.loads(path.read_bytes() or b"null")
    except (ValueError, RecursionError) as error:           # UnicodeDecodeError is a ValueError
        raise FileFormatError(f"{path.name} is not JSON ({error})") from None
    if notebook is None:
        raise FileFormatError(f"{path.name} is empty")
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(c, dict) for c in cells):
        raise FileFormatError(f"{path.name} is not a notebook: it has no list of cells (notebook format 4 is expected)")
    return notebook


def source_of(cell: dict[str, Any]) -> str:
    """The text of a cell, stored as a string or as a list of lines."""
    source = cell.get("source", "")
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def grade_id(cell: dict[str, Any]) -> str:
    """nbgrader's name of a cell, "" when it has none."""
    value: Any = cell
    for key in ("metadata", "nbgrader", "grade_id"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def student_version(notebook: dict[str, Any]) -> dict[str, Any]:
    """A new notebook without solutions, hidden tests and outputs."""
    return {**notebook, "cells": [_student_cell(cell) for cell in notebook["cells"]]}


def _student_cell(cell: dict[str, Any]) -> dict[str, Any]:
    text = _replace(source_of(cell), BEGIN_SOLUTION, END_SOLUTION, STUB, grade_id(cell))
    text = _replace(text, BEGIN_HIDDEN, END_HIDDEN, (), grade_id(cell)).rstrip("\n")
    cell = {**cell, "source": text.splitlines(keepends=True)}
    return {**cell, "outputs": [], "execution_count": None} if cell.get("cell_type") == "code" else cell


def _replace(text: str, begin: str, end: str, instead: tuple[str, ...], where: str) -> str:
    """Every region from `begin` to `end` replaced by the lines `instead`, indented as the `begin` line is."""
    kept: list[str] = []
    inside = False
    for line in text.split("\n"):
        mark = line.strip()
        if mark == (end if inside else begin):
            if not inside:
                kept += [line[:len(line) - len(line.lstrip())] + new for new in instead]
            inside = not inside
        elif mark in (begin, end):
            raise FileFormatError(f"cell {where or '(no grade_id)'}: {mark!r} has no partner")
        elif not inside:
            kept.append(line)
    if inside:
        raise FileFormatError(f"cell {where or '(no grade_id)'}: {begin!r} has no {end!r}")
    return "\n".join(kept)


def _write_new(target: Path, text: str) -> None:
    """Write a file that must not exist yet, whole or not at all: a link refuses an existing name."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.link(name, target)
    except OSError as error:
        raise StorageError(f"could not write {target}: {error}") from error
    finally:
        os.unlink(name)
