"""The difference between two architectures, aligned as trees, with the verdict whether weights can pass between them.

Children of two nodes are paired first by name (`conv1` with `conv1`). In lists, where names are only positions, and
among what is left over, they are paired in order by how much they have in common, so that one inserted block is one
added row and not a change of every block after it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..nn.module import Module
from ..nn.signature import canonical, check_signature, items, signature, tensor_entries
from ..untrusted import printable
from .alignment import pair_in_order
from .metadata import read_signature

MARKS = {"same": " ", "changed": "~", "removed": "-", "added": "+"}
ABSENT = "\0absent"           # no configuration value
LARGEST_TABLE = 40_000       # pairs compared by likeness at a time; beyond that, equal subtrees are found first


Source = Module | dict[str, Any] | str | os.PathLike[str]            # a module, its signature, or a file that holds it


@dataclass(frozen=True)
class DiffRow:
    """One aligned pair: a module or tensor of a, of b, or of both."""

    kind: str                        # "same", "changed", "removed" (only in a) or "added" (only in b)
    depth: int
    path_a: str | None
    path_b: str | None
    a: dict[str, Any] | None         # name, type, shape, dtype, config, numel; None where there is none
    b: dict[str, Any] | None
    reason: str                      # "stride: [1, 1] -> [2, 2]"; "" where nothing differs


@dataclass(frozen=True)
class SignatureDiff:
    """What differs between two signatures, in the order of the trees."""

    rows: list[DiffRow]
    name_a: str
    name_b: str
    verdict: str                     # "can load", "partly" or "cannot": weights of a into b
    fitting: int                     # entries with the same path, shape and dtype on both sides
    entries: int                     # entries of either side
    first_cause: str
    mismatches: list[tuple[str, str, str]] = field(repr=False)      # (path, in a, in b), as loading sees them

    @property
    def changes(self) -> list[DiffRow]:
        """The rows that are not "same"."""
        return [row for row in self.rows if row.kind != "same"]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON, for widgets and tools."""
        return {"name_a": self.name_a, "name_b": self.name_b, "verdict": self.verdict, "fitting": self.fitting,
                "entries": self.entries, "first_cause": self.first_cause,
                "rows": [dict(vars(row)) for row in self.rows]}

    def __str__(self) -> str:
        return printable("\n".join(_table(self)), lines=True)

    def __repr__(self) -> str:
        return str(self)


def signature_diff(a: Source, b: Source) -> SignatureDiff:
    """Compare two architectures: modules, signatures, or files written by `save_state_dict` or `save_checkpoint`.

    The verdict answers whether the weights of a can be loaded into b. Raises ArgumentError, MissingFileError or
    FileFormatError.
    """
    (name_a, sig_a), (name_b, sig_b) = _signature_of(a, "a"), _signature_of(b, "b")
    rows = list(_align(sig_a, sig_b))
    tensors_a, tensors_b = tensor_entries(sig_a), tensor_entries(sig_b)
    mismatches = compare_entries(tensors_a, tensors_b)
    entries = len({*tensors_a, *tensors_b})
    fitting = entries - len(mismatches)
    changes = [row for row in rows if row.kind != "same"]
    equal = canonical(sig_a) == canonical(sig_b)
    verdict = "can load" if equal else "partly" if fitting else "cannot"
    cause = "" if equal else _cause(changes)
    return SignatureDiff(rows, name_a, name_b, verdict, fitting, entries, cause, mismatches)


def compare_entries(a: dict[str, dict[str, Any]], b: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(path, in a, in b) of the tensors that cannot pass from a to b under their paths; "-" where there is none."""
    paths = list(dict.fromkeys([*b, *a]))
    found = []
    for path in paths:
        left, right = a.get(path), b.get(path)
        if left is None or right is None or left["shape"] != right["shape"]:
            found.append((path, _shape(left), _shape(right)))
        elif left["dtype"] != right["dtype"]:
            found.append((path, left["dtype"], right["dtype"]))
    return found


# --- alignment ----------------------------------------------------------------------------------------------------

@dataclass
class _Side:
    """A child (a node or a tensor) with what alignment asks about it."""

    name: str
    kind: str                        # "module", "Parameter" or "Buffer"
    spec: dict[str, Any]
    text: str                        # canonical form: equal texts are equal subtrees

    @cached_property
    def features(self) -> Counter[str]:
        """What can be in common: classes (they count twice), configuration, tensor names and shapes."""
        found: Counter[str] = Counter()
        if self.kind != "module":
            found.update([self.kind, self.name, *(f"axis {i}: {n}" for i, n in enumerate(self.spec["shape"]))])
            return found
        for item in items(self.spec):
            if item.kind == "module":
                found[item.spec["class"]] += 2
                found.update(f"{name}={value}" for name, value in item.spec["config"].items())
            else:
                found.update([item.path, f"{item.path}{item.spec['shape']}"])
        return found


def _align(a: dict[str, Any], b: dict[str, Any]) -> Iterator[DiffRow]:
    """Rows in pre-order; iterative, so that depth is no limit."""
    stack: list[tuple[int, str, str, _Side | None, _Side | None, bool]] = [
        (0, "", "", _side("", "module", a), _side("", "module", b), False)]
    while stack:
        depth, path_a, path_b, left, right, positional = stack.pop()
        kind, reason = _judge(left, right, positional)
        yield DiffRow(kind, depth, path_a if left else None, path_b if right else None,
                      _describe(left), _describe(right), reason)
        if (left or right).kind != "module":           # type: ignore[union-attr]
            continue
        inside_a, inside_b = _children(left), _children(right)
        ordered = all(child.name.isdigit() for child in [*inside_a, *inside_b])
        pairs = _pair(inside_a, inside_b, ordered)
        stack.extend((depth + 1, _join(path_a, x), _join(path_b, y), x, y, ordered) for x, y in reversed(pairs))


def _pair(a: list[_Side], b: list[_Side], ordered: bool) -> list[tuple[_Side | None, _Side | None]]:
    """Partners of the children of two nodes, in one order that respects both as far as they agree."""
    partner: dict[int, int] = {}
    if ordered:
        partner = _by_likeness(a, b)
    else:
        places = {(y.kind, y.name): j for j, y in enumerate(b)}
        partner = {i: places[x.kind, x.name] for i, x in enumerate(a) if (x.kind, x.name) in places}
        free_a = [i for i in range(len(a)) if i not in partner]
        free_b = [j for j in range(len(b)) if j not in partner.values()]
        renamed = _by_likeness([a[i] for i in free_a], [b[j] for j in free_b], least=0.5)
        partner |= {free_a[i]: free_b[j] for i, j in renamed.items()}
    taken, at = set(partner.values()), 0
    pairs: list[tuple[_Side | None, _Side | None]] = []
    for i, x in enumerate(a):
        if i in partner:
            pairs += [(None, b[j]) for j in range(at, partner[i]) if j not in taken]
            at = max(at, partner[i] + 1)
            pairs.append((x, b[partner[i]]))
        else:
            pairs.append((x, None))
    return pairs + [(None, b[j]) for j in range(at, len(b)) if j not in taken]


def _by_likeness(a: list[_Side], b: list[_Side], least: float = 0.0) -> dict[int, int]:
    """Pair in order so that the paired have the most in common; equal ends need no search."""
    start, end = 0, 0
    while start < min(len(a), len(b)) and a[start].text == b[start].text:
        start += 1
    while end < min(len(a), len(b)) - start and a[-1 - end].text == b[-1 - end].text:
        end += 1
    partner = {i: i for i in range(start)} | {len(a) - i: len(b) - i for i in range(1, end + 1)}
    for i0, i1, j0, j1 in _stretches(a, b, start, len(a) - end, start, len(b) - end):
        partner |= {i0 + i: j0 + j for i, j in _best_in_order(a[i0:i1], b[j0:j1], least)}
    return partner


def _stretches(a: list[_Side], b: list[_Side], i0: int, i1: int, j0: int, j1: int) -> list[tuple[int, int, int, int]]:
    """The ranges to compare by likeness: the whole, or, where that is too large, between runs of equal subtrees."""
    if (i1 - i0) * (j1 - j0) <= LARGEST_TABLE:
        return [(i0, i1, j0, j1)]
    texts_a, texts_b = [x.text for x in a[i0:i1]], [y.text for y in b[j0:j1]]
    pieces = []
    for what, p, q, r, s in SequenceMatcher(None, texts_a, texts_b, autojunk=False).get_opcodes():
        if what == "equal" or (q - p) * (s - r) > LARGEST_TABLE:           # one by one, by position
            pieces += [(i0 + p + k, i0 + p + k + 1, j0 + r + k, j0 + r + k + 1) for k in range(min(q - p, s - r))]
        else:
            pieces.append((i0 + p, i0 + q, j0 + r, j0 + s))
    return pieces


def _best_in_order(a: list[_Side], b: list[_Side], least: float) -> list[tuple[int, int]]:
    """Pairs that are more alike than `least`, in the order of both."""
    alike = np.array([[_alike(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    return pair_in_order(np.where(alike > least, alike, 0))


def _alike(x: _Side, y: _Side) -> float:
    """0 to 1: the share of features in common (Dice), with a little for a shared position's name."""
    if x.kind != y.kind or x.text == y.text:
        return float(x.kind == y.kind)
    common = sum((x.features & y.features).values())
    share = 2 * common / (sum(x.features.values()) + sum(y.features.values()))
    return 0.9 * share + 0.05 * (x.name == y.name) + 0.01 * (x.kind == "module")


def _children(side: _Side | None) -> list[_Side]:
    if side is None:
        return []
    node = side.spec
    return [*(_side(name, "Parameter", spec) for name, spec in node["parameters"].items()),
            *(_side(name, "Buffer", spec) for name, spec in node["buffers"].items()),
            *(_side(name, "module", spec) for name, spec in node["children"].items())]


def _side(name: str, kind: str, spec: dict[str, Any]) -> _Side:
    text = canonical(spec) if kind == "module" else kind + name + canonical([spec["shape"], spec["dtype"]])
    return _Side(name, kind, spec, text)


def _join(path: str, side: _Side | None) -> str:
    return path if side is None else f"{path}.{side.name}" if path else side.name


# --- words --------------------------------------------------------------------------------------------------------

def _judge(left: _Side | None, right: _Side | None, positional: bool) -> tuple[str, str]:
    """(kind, reason) of one row, by its own name, class, configuration, shape and dtype; not by what is below it."""
    if left is None or right is None:
        return ("added", "only in b") if left is None else ("removed", "only in a")
    reasons = [] if left.name == right.name or positional else [f"renamed {left.name} -> {right.name}"]
    if left.kind == "module":
        if left.spec["class"] != right.spec["class"]:
            reasons.append(f"class {left.spec['class']} -> {right.spec['class']}")
        x, y = left.spec["config"], right.spec["config"]
        reasons += [f"{name}: {_value(x, name)} -> {_value(y, name)}" for name in dict.fromkeys([*x, *y])
                    if canonical(x.get(name, ABSENT)) != canonical(y.get(name, ABSENT))]
        shared = [side.spec.get("alias_of") for side in (left, right)]
        if shared[0] != shared[1]:
            reasons.append(" -> ".join("its own" if path is None else f"shared with {path}" for path in shared))
    else:
        if left.spec["shape"] != right.spec["shape"]:
            reasons.append(f"shape {_shape(left.spec)} -> {_shape(right.spec)}")
        if left.spec["dtype"] != right.spec["dtype"]:
            reasons.append(f"dtype {left.spec['dtype']} -> {right.spec['dtype']}")
        names = [side.spec.get("aliases", []) for side in (left, right)]
        if names[0] != names[1]:
            reasons.append(" -> ".join("shared with " + ", ".join(n) if n else "not shared" for n in names))
    return ("changed", "; ".join(reasons)) if reasons else ("same", "")


def _value(config: dict[str, Any], name: str) -> str:
    return repr(config[name]) if name in config else "absent"


def _cause(changes: list[DiffRow]) -> str:
    """One sentence: the first change that is more than the name of the outermost class."""
    if not changes:
        return "the same modules in the same order, but shared or numbered differently"
    row = next((row for row in changes if row.depth or not row.reason.startswith("class")), changes[0])
    if row.kind == "changed":
        return f"{row.path_b or 'the whole'}: {row.reason}"
    entry, path = (row.a, row.path_a) if row.kind == "removed" else (row.b, row.path_b)
    return f"{path} ({entry['type']}) is {row.reason}"              # type: ignore[index]


def _shape(spec: dict[str, Any] | None) -> str:
    return "-" if spec is None else str(tuple(spec["shape"]))


def _describe(side: _Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    if side.kind == "module":
        own = [item.spec["shape"] for item in items(side.spec) if item.kind == "Parameter"]
        return {"name": side.name, "type": side.spec["class"], "shape": None, "dtype": None,
                "config": side.spec["config"], "numel": sum(_count(shape) for shape in own)}
    return {"name": side.name, "type": side.kind, "shape": side.spec["shape"], "dtype": side.spec["dtype"],
            "config": {}, "numel": _count(side.spec["shape"])}


def _count(shape: list[int]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _table(diff: SignatureDiff) -> Iterator[str]:
    """The header, the verdict, and the changed rows under their parents; stretches of equal rows are counted."""
    top_a, top_b = diff.rows[0].a, diff.rows[0].b
    yield f"a: {diff.name_a}   {top_a['type']}, {top_a['numel']:,} parameters"             # type: ignore[index]
    yield f"b: {diff.name_b}   {top_b['type']}, {top_b['numel']:,} parameters"             # type: ignore[index]
    yield f"a into b: {diff.verdict}; {diff.fitting} of {diff.entries} entries fit by path, shape and dtype"
    if diff.first_cause:
        yield f"first cause: {diff.first_cause}"
    shown = _with_parents(diff.rows)
    left = [_cell(row, row.a) for row in diff.rows]
    right = [_cell(row, row.b) for row in diff.rows]
    wide_a = max((len(left[i]) for i in shown), default=0)
    wide_b = max((len(right[i]) for i in shown), default=0)
    if shown:
        yield ""
    skipped = 0
    for i, row in enumerate(diff.rows):
        if i not in shown:
            skipped += 1
            continue
        if skipped:
            yield _skipped(skipped)
            skipped = 0
        yield f"  {MARKS[row.kind]} {left[i]:<{wide_a}}   {right[i]:<{wide_b}}   {row.reason}".rstrip()
    if skipped and shown:
        yield _skipped(skipped)


def _skipped(rows: int) -> str:
    return f"    ... {rows} row{'s' * (rows > 1)} the same"


def _with_parents(rows: list[DiffRow]) -> set[int]:
    shown: set[int] = set()
    parents: list[int] = []
    for i, row in enumerate(rows):
        parents[row.depth:] = [i]
        if row.kind != "same":
            shown.update(parents)
    return shown


def _cell(row: DiffRow, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    what = entry["type"] if entry["shape"] is None else str(tuple(entry["shape"]))
    return "  " * row.depth + (f"{entry['name']} {what}" if entry["name"] else what)


def _signature_of(x: Any, side: str) -> tuple[str, dict[str, Any]]:
    if isinstance(x, Module):
        return "model", signature(x)
    if isinstance(x, dict):
        return "signature", check_signature(x, side)
    if isinstance(x, (str, os.PathLike)):
        return os.path.basename(os.fspath(x)), read_signature(x)
    raise ArgumentError(f"signature_diff: a module, a signature or the path of a saved file is needed for {side}, "
                        f"got {type(x).__name__}")
