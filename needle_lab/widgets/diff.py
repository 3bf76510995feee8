"""`diff`: two architectures side by side, what differs marked, and whether weights of one load into the other."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from ..core.tensor import Tensor
from ..ops.statistics import diff as tensor_diff
from .families import FAMILIES, family_of
from .outline import show_shape, show_value
from .trace import Source, name_of
from .view import View

GLYPH = {"same": "=", "changed": "~", "added": "+", "removed": "\N{MINUS SIGN}"}
VERDICT = {"can load": ("good", "\N{CHECK MARK}"), "partly": ("warn", "\N{CIRCLE WITH LEFT HALF BLACK}"),
           "cannot": ("bad", "\N{MULTIPLICATION X}")}
FOLD_INSIDE = 6        # rows inside an added module: fewer are read at a glance
STATIC_ROWS = 500

Piece = tuple[str, str]                # (how it is drawn: id, type, plain, old, new; text)


def diff(a: Source | Tensor, b: Any = 1, *rest: Any, **named: Any) -> Any:
    """The aligned difference of two architectures: Modules, signatures, saved files.

    Left is a, right is b; `~` changed (the part that differs is marked), `+` only in b, `-` only in a, and on top
    whether weights saved from a load into b: can load, partly, cannot, with the first cause. `view.difference` is the
    `SignatureDiff` that `print(view)` shows. Keys in the live view: arrows, `n`/`p` next and previous difference,
    `o` only changes, `e`/`c` unfold and fold equal rows, `/` search.

    Of a Tensor: the differences of neighbouring values, diff(x, n=1, dim=-1), a Tensor.  torch.diff, numpy.diff.
    """
    if isinstance(a, Tensor):
        return tensor_diff(a, named.pop("n", b), *rest, **named)
    from ..serialize.diff import signature_diff

    return DiffView((name_of(a), name_of(b)), signature_diff(a, b))


class DiffView(View):
    """What `diff` returns; `difference` is the SignatureDiff, whose rows, verdict and first cause are drawn."""

    script = "diff"

    def __init__(self, names: tuple[str, str], difference: Any):
        self.names, self.difference, self.rows = names, difference, difference.rows
        self.title = f"{names[0]} | {names[1]}"

    def text(self) -> str:
        """The difference as aligned lines, for a terminal."""
        return str(self.difference)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        cause = f" First cause: {self.difference.first_cause}" if self.difference.first_cause else ""
        return (f"Weights of A into B: {self.difference.fitting:,} of {self.difference.entries:,} entries fit by path, "
                f"shape and dtype.{cause}")

    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        return {kind: sum(row.kind == kind for row in self.rows) for kind in GLYPH}

    def titles(self) -> list[str]:
        """The names of a and b, with their numbers of parameters."""
        tops = (self.rows[0].a, self.rows[0].b)
        return [f"{name}: {top['numel']:,} parameters" for name, top in zip(self.names, tops, strict=True)]

    def data(self) -> dict[str, Any]:
        """What the live widget draws, as JSON."""
        tone, sign = VERDICT[self.difference.verdict]
        return {
            "title": "diff", "titles": self.titles(), "tone": tone, "sign": sign, "verdict": self.difference.verdict,
            "sentence": self.sentence, "counts": self.counts(), "glyph": GLYPH,
            "runs": [[start, stop, folded_label(self.rows, start, stop)] for start, stop in runs(self.rows)],
            "rows": [[row.kind, row.depth, row.path_a or "", row.path_b or "", row.reason,
                      half(row, "a"), half(row, "b")] for row in self.rows],
        }

    # --- page ----------------------------------------------------------------------------------------------------

    def page(self) -> str:
        """The static view's HTML."""
        tone, sign = VERDICT[self.difference.verdict]
        titles = [html.escape(title) for title in self.titles()]
        rows = self.rows[:STATIC_ROWS]
        body = "".join(self.folded(rows, start, stop) for start, stop in runs(rows))
        cut = len(self.rows) - len(rows)
        more = f"<p class=ndl-more>{cut:,} more rows: print(view) shows them</p>" if cut else ""
        counts = "".join(f"<span><b class='ndl-kind {kind}'>{GLYPH[kind]}</b> {count:,} {kind}</span>"
                         for kind, count in self.counts().items())
        return (f"<div class='ndl-verdict {tone}'><b>{sign} {self.difference.verdict}</b> "
                f"<span>{html.escape(self.sentence)}</span></div><div class=ndl-box>"
                f"<div class='ndl-row ndl-cols'><span></span><span class='ndl-half a'><b>A</b> {titles[0]}</span>"
                f"<span class='ndl-half b'><b>B</b> {titles[1]}</span></div>{body}</div>{more}"
                f"<div class=ndl-foot><div class=ndl-legend>{counts}</div></div>")

    def folded(self, rows: list[Any], start: int, stop: int) -> str:
        """Rows start..stop as HTML, behind one line if there are several."""
        lines = "".join(self.line(row) for row in rows[start:stop])
        if stop - start == 1:
            return lines
        return (f"<details><summary class='ndl-row ndl-fold'><span></span><span class=ndl-half>... "
                f"{folded_label(rows, start, stop)}</span></summary>{lines}</details>")

    def line(self, row: Any) -> str:
        """A row as HTML: a's side and b's."""
        cells = "".join(_cell(half(row, side), row.depth, side) for side in "ab")
        return (f"<div class='ndl-row {row.kind}' title='{html.escape(row.reason or '', quote=True)}'>"
                f"<span class=ndl-kind>{'' if row.kind == 'same' else GLYPH[row.kind]}</span>{cells}</div>")


def half(row: Any, side: str) -> dict[str, Any] | None:
    """One side of a row: its family, and the pieces of its name and of its shape; None where there is nothing.

    The left side marks what differs, the right side writes it as old -> new.
    """
    entry = getattr(row, side)
    if entry is None:
        return None
    other = row.b if side == "a" else row.a
    a, b = (entry, other or entry) if side == "a" else (other or entry, entry)
    is_module = entry["shape"] is None
    bold = " module" if is_module else ""
    name: list[Piece] = [(f"id{bold}" if a["name"] == b["name"] else f"id new{bold}", entry["name"] or "model")]
    changes = [(key, before, after) for key in (dict.fromkeys([*a["config"], *b["config"]]) if is_module else ())
               for before, after in [[show_value(x["config"][key]) if key in x["config"] else "none" for x in (a, b)]]
               if before != after]
    if a["type"] != b["type"] or (is_module and not (changes and side == "b")):      # room for the changes on the right
        name += [("type", " "), *_change(a["type"], b["type"], side, "type")]
    elif entry["type"] == "Buffer":
        name += [("type", " buffer")]
    for key, before, after in changes:
        name += [("type", f" {key}="), *_change(before, after, side, "plain")]
    shape: list[Piece] = _shape(a["shape"], b["shape"], side) if not is_module else []
    if not is_module and a["dtype"] != b["dtype"]:
        shape += [("plain", " "), *_change(a["dtype"], b["dtype"], side, "plain")]
    family = family_of(entry["type"]).key if is_module else ""
    return {"family": "" if family == "other" and is_module else family, "name": name, "shape": shape}


def _change(before: str, after: str, side: str, unchanged: str) -> list[Piece]:
    if before == after:
        return [(unchanged, before)]
    return [("old", before)] if side == "a" else [("old", before), ("plain", "\N{RIGHTWARDS ARROW}"), ("new", after)]


def _shape(a: list[int] | None, b: list[int] | None, side: str) -> list[Piece]:
    """(128, 64, 3, 3) against (64, 64, 3, 3) reads `(128->64, 64, 3, 3)`; other ranks are marked whole."""
    if a is None or b is None or len(a) != len(b):
        old, new = ("none" if shape is None else show_shape(shape) for shape in (a, b))
        return _change(old, new, side, "plain")
    pieces: list[Piece] = [("plain", "(")]
    for i, sizes in enumerate(zip(a, b, strict=True)):
        pieces += [("plain", ", ")] if i else []
        pieces += _change(str(sizes[0]), str(sizes[1]), side, "plain")
    return [*pieces, ("plain", ",)" if len(a) == 1 else ")")]


def runs(rows: list[Any]) -> Iterator[tuple[int, int]]:
    """Stretches (start, stop) of rows, in order; one longer than a row is drawn folded.

    Rows with a difference, and their ancestors, stand alone. Folded are the equal rows between them, and what is
    inside a module that is wholly added or removed, from FOLD_INSIDE rows on.
    """
    line: list[int] = []                          # the rows above the current one, root first
    state = [row.kind if row.kind == "same" else "" for row in rows]
    for i, row in enumerate(rows):
        line[row.depth:] = [i]
        if row.kind in ("added", "removed") and row.depth and rows[line[-2]].kind == row.kind:
            state[i] = row.kind
        elif row.kind != "same":
            for k in line:
                state[k] = ""                     # stands alone
    i = 0
    while i < len(rows):
        stop = i + 1
        while state[i] and stop < len(rows) and state[stop] == state[i]:
            stop += 1
        if state[i] == "same" or stop - i >= FOLD_INSIDE:
            yield i, stop
        else:
            yield from ((k, k + 1) for k in range(i, stop))
        i = stop


def folded_label(rows: list[Any], start: int, stop: int) -> str:
    """What a folded stretch says."""
    kind = rows[start].kind
    return f"{stop - start:,} equal rows" if kind == "same" else f"{stop - start:,} rows inside, all {kind}"


def _cell(half: dict[str, Any] | None, depth: int, side: str) -> str:
    if half is None:
        return f"<span class='ndl-half {side} none'></span>"
    glyph = f"<b class='ndl-g {half['family']}'>{FAMILIES[half['family']].glyph if half['family'] else ''}</b>"
    name, shape = ("".join(f"<span class='ndl-{kind}'>{html.escape(text)}</span>" for kind, text in half[part])
                   for part in ("name", "shape"))
    return (f"<span class='ndl-half {side}' style='padding-left:{depth * 16 + 6}px'><span class=ndl-name>{glyph}{name}"
            f"</span><span class=ndl-shape>{shape}</span></span>")
