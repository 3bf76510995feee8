"""A signature as an outline: the flat rows, in reading order, that the tree shows as text, as a page and live.

Three or more neighbours of equal structure fold into one row: twelve equal transformer blocks read `0..11 x12`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from .families import Family, family_of

FOLD_FROM = 3       # two equal neighbours are quicker to read than to unfold

Shape = tuple[int, ...]
Shapes = dict[str, tuple[Any, Any]]      # path of a module -> (shape in, shape out)


@dataclass(slots=True)
class Row:
    """One line of the outline.  kind: module, fold, parameter, buffer, or tied (a shared parameter's second place)."""

    kind: str
    path: str
    name: str
    type: str
    depth: int
    parent: int                          # index of the row above it in the tree; -1 for the root
    params: int = 0                      # trained values, each counted once
    shape: str = ""                      # of a parameter, or "in -> out" of a module
    note: str = ""                       # the configuration of a module; dtype of a parameter
    count: int = 1                       # how many equal neighbours a fold holds
    family: Family | None = None         # None for containers, parameters and buffers
    bare: bool = True                    # has no modules inside

    @property
    def label(self) -> str:
        """The name, and how many stand behind it."""
        return f"{self.name} x{self.count}" if self.count > 1 else self.name


@dataclass
class Outline:
    """All rows of one architecture, and `open`: the rows whose children are in view at first."""

    rows: list[Row] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many parameters there are."""
        return self.rows[0].params

    def children(self) -> dict[int, list[int]]:
        """Index of a row -> indices of the rows directly below it."""
        below: dict[int, list[int]] = {i: [] for i in range(-1, len(self.rows))}
        for i, row in enumerate(self.rows):
            below[row.parent].append(i)
        return below

    def initially_open(self, budget: int = 24) -> set[int]:
        """Breadth first, as many containers as fit into `budget` lines; layers and folds stay closed."""
        below, opened, lines, level = self.children(), {0}, 1, [0]
        lines += len(below[0])
        while level:
            level = [child for i in level for child in below[i]]
            for i in level:
                if self.rows[i].kind == "module" and not self.rows[i].bare:
                    lines += len(below[i])
                    if lines > budget:
                        return opened
                    opened.add(i)
        return opened


def outline(signature: dict[str, Any], shapes: Shapes | None = None) -> Outline:
    """The rows of `signature` (see `Module.signature`), with `shapes` where a run has collected them."""
    return _Builder(signature, shapes or {}).result


class _Builder:
    def __init__(self, signature: dict[str, Any], shapes: Shapes):
        self.shapes, self.result = shapes, Outline()
        self.keys: dict[str, int] = {}                       # structure -> number
        self.structure: dict[int, int] = {}                  # id(node) -> number of its structure
        self.tied: dict[str, str] = {}                       # second path of a shared parameter -> its first
        self.survey(signature, "")
        self.module(signature, "", "model", 0, -1)

    def survey(self, node: dict[str, Any], path: str) -> int:
        """Number the structure of every node, children first; equal numbers mean equal structure and shapes."""
        for name, entry in node["parameters"].items():
            self.tied.update(dict.fromkeys(entry.get("aliases", ()), join(path, name)))
        children = [(name, self.survey(child, join(path, name))) for name, child in node["children"].items()]
        entries = [[(name, entry["shape"], entry["dtype"], "aliases" in entry) for name, entry in node[kind].items()]
                   for kind in ("parameters", "buffers")]
        key = json.dumps([node["class"], node["config"], entries, children, self.shapes.get(path), "alias_of" in node])
        return self.structure.setdefault(id(node), self.keys.setdefault(key, len(self.keys)))

    def add(self, row: Row) -> int:
        self.result.rows.append(row)
        return len(self.result.rows) - 1

    def module(self, node: dict[str, Any], path: str, name: str, depth: int, parent: int) -> int:
        if "alias_of" in node:
            return self.add(Row("tied", path, name, node["class"], depth, parent,
                                note=f"the same module as {node['alias_of']}, counted there"))
        children = node["children"]
        family = family_of(node["class"])
        me = self.add(Row("module", path, name, node["class"], depth, parent, shape=self.flow(path),
                          note=show_config(node["config"]), bare=not children,
                          family=None if children and family.key == "other" else family))
        row = self.result.rows[me]
        for kind in ("parameter", "buffer"):
            for key, entry in node[kind + "s"].items():
                size = math.prod(entry["shape"]) if kind == "parameter" else 0
                row.params += size
                note = entry["dtype"] + "".join(f", shared with {other}" for other in entry.get("aliases", ()))
                self.add(Row(kind, join(path, key), key, kind, depth + 1, me, size, show_shape(entry["shape"]), note))
        for second, first in self.tied.items():
            if second.rpartition(".")[0] == path:
                self.add(Row("tied", second, second.rpartition(".")[2], "shared parameter", depth + 1, me,
                             note=f"the same values as {first}, counted there"))
        for _, run in groupby(children.items(), key=lambda item: self.structure[id(item[1])]):
            row.params += self.siblings(list(run), path, depth + 1, me)
        return me

    def siblings(self, run: list[tuple[str, dict[str, Any]]], path: str, depth: int, parent: int) -> int:
        """Rows of neighbours with equal structure, folded where there are many; returns their parameters."""
        rows = self.result.rows
        if len(run) < FOLD_FROM:
            return sum(rows[self.module(node, join(path, name), name, depth, parent)].params for name, node in run)
        names, node = [name for name, _ in run], run[0][1]
        first, last = join(path, names[0]), join(path, names[-1])
        fold = self.add(Row("fold", f"{first}..{names[-1]}", f"{names[0]}..{names[-1]}", node["class"], depth, parent,
                            shape=_chain(self.shapes, first, last), note=show_config(node["config"]), count=len(run),
                            bare=False, family=None if node["children"] else family_of(node["class"])))
        rows[fold].params = sum(rows[self.module(node, join(path, name), name, depth + 1, fold)].params
                                for name, node in run)
        return rows[fold].params

    def flow(self, path: str) -> str:
        return _chain(self.shapes, path, path)


def _chain(shapes: Shapes, first: str, last: str) -> str:
    if first not in shapes or last not in shapes:
        return ""
    return f"{show_shapes(shapes[first][0])} -> {show_shapes(shapes[last][1])}"


def join(path: str, name: str) -> str:
    """`a.b` of `a` and `b`; the root's path is empty."""
    return f"{path}.{name}" if path else name


def show_shape(shape: Any) -> str:
    """A shape as Python writes a tuple: (64, 3, 7, 7), (10,), ()."""
    return str(tuple(shape))


def show_shapes(shapes: Any) -> str:
    """One shape, or several as `(1, 3) (1, 4)`."""
    several = [shape for shape in shapes if isinstance(shape, (tuple, list))]
    return " ".join(map(show_shape, several)) if several else show_shape(shapes)


def show_config(config: dict[str, Any]) -> str:
    """A configuration as arguments: stride=(1, 1), padding=0."""
    return ", ".join(f"{key}={show_value(value)}" for key, value in config.items())


def show_value(value: Any) -> str:
    """A configuration value, lists as tuples (JSON knows no tuples)."""
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(show_value, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)
