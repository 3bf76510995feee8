"""Is this answer right? Each function returns what is wrong in one sentence, or "" when nothing is.

An answer may come from anywhere, so nothing here trusts its methods: it is first turned into plain data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

RTOL, ATOL = 1e-6, 1e-9         # answers are float64; a right formula written differently is within 1e-12


class Foreign:
    """Stands for a returned value that is not plain data: a generator, a class, a plot."""

    def __init__(self, type_name: str):
        self.type_name = type_name

    def __repr__(self) -> str:
        return f"<{self.type_name}>"


def close(args: tuple[Any, ...], yours: Any, expected: Any) -> str:
    """Nested tuples, lists, dicts, arrays and numbers, equal up to rounding; a list may stand for a tuple."""
    return _differs(yours, expected, "the result")


def valid_order(args: tuple[Any, ...], yours: Any, expected: Any) -> str:
    """A list of every node of the graph (args[0], node -> its inputs), once each, inputs before the nodes they feed."""
    graph: Mapping[str, Any] = args[0]
    if complaint := _wrong_kind(yours, "the result"):
        return complaint
    if not isinstance(yours, (list, tuple)):
        return f"the result is {_a(yours)}, expected a list of nodes"
    place: dict[Any, int] = {}
    for i, node in enumerate(yours):
        if not isinstance(node, (str, int)) or node not in graph:
            return f"{node!r} is not a node of the graph"
        if node in place:
            return f"node {node!r} stands in the list twice"
        place[node] = i
    for node, inputs in graph.items():
        if node not in place:
            return f"node {node!r} is missing from the list"
        for source in inputs:
            if place.get(source, -1) > place[node]:
                return f"node {node!r} comes before its input {source!r}"
    return ""


def _differs(yours: Any, expected: Any, where: str) -> str:
    if complaint := _wrong_kind(yours, where):
        return complaint
    if _same_scalar(yours, expected):
        return ""
    if isinstance(expected, dict):
        if not isinstance(yours, dict):
            return f"{where} is {_a(yours)}, expected a dict"
        for key in expected:
            if key not in yours:
                return f"{where} has no entry for {key!r}"
        for key in yours:
            if key not in expected:
                return f"{where} has an entry for {key!r} that should not be there"
        return _first(_differs(yours[key], expected[key], f"the entry for {key!r}") for key in expected)
    if isinstance(expected, (tuple, list)):
        if not isinstance(yours, (tuple, list)):
            return f"{where} is {_a(yours)}, expected {_a(expected)} of {len(expected)}"
        if len(yours) != len(expected):
            return f"{where} has {len(yours)} entries, expected {len(expected)}"
        return _first(_differs(y, e, f"entry {i} of {where}")
                      for i, (y, e) in enumerate(zip(yours, expected, strict=True)))
    if isinstance(expected, (str, bool)):
        return "" if type(yours) is type(expected) and yours == expected else f"{where} is not {expected!r}"
    return _numbers_differ(yours, np.asarray(expected), where)


def _same_scalar(yours: Any, expected: Any) -> bool:
    """Equal numbers or texts of one built-in type: the verdict that comes out below too, 50 times faster."""
    kind = type(expected)
    if type(yours) is not kind:
        return False
    if kind is float:
        return math.isclose(yours, expected, rel_tol=RTOL, abs_tol=ATOL)
    return kind in (int, str, bool) and yours == expected


def _numbers_differ(yours: Any, expected: np.ndarray, where: str) -> str:
    try:
        got = np.asarray(yours)
    except ValueError:                          # a ragged list
        return f"{where} is {_a(yours)} that does not form an array of shape {expected.shape}"
    if got.dtype.kind not in "biufc":
        return f"{where} is {_a(yours)}, expected numbers of shape {expected.shape}"
    if got.shape != expected.shape:
        return f"{where} has shape {got.shape}, expected {expected.shape}"
    with np.errstate(all="ignore"):
        wrong = ~np.isclose(got, expected, rtol=RTOL, atol=ATOL, equal_nan=True)
    if not wrong.any():
        return ""
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    at = f" at {list(index)}" if index else ""
    return f"{where} is {got[index].item():.6g}{at}, expected {expected[index].item():.6g}"


def _wrong_kind(yours: Any, where: str) -> str:
    if yours is None:
        return f"{where} is None: is a `return` missing?"
    if isinstance(yours, Foreign):
        return f"{where} is {_a(yours)}, which is not plain data"
    return ""


def _first(complaints: Iterable[str]) -> str:
    return next((c for c in complaints if c), "")


def _a(value: Any) -> str:
    name = value.type_name if isinstance(value, Foreign) else type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
