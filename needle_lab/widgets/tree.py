"""`show`: the signature tree.  Name, type, shape in -> shape out, parameters, share of all parameters."""

from __future__ import annotations

import html
from typing import Any

from .families import ascii_legend, html_legend
from .outline import Outline, Row, outline
from .trace import Source, output_shapes, signature_of
from .view import View

BAR = 12                # characters of the share bar of a terminal
STATIC_ROWS = 500       # a page with more rows is slower to open than to query: print(view) has them all


def show(source: Source, x: Any = None) -> TreeView:
    """The signature tree of a Module, of a signature, of a saved file or of an ONNX file.

    x: an input (Tensor or array; a tuple for several) that is run once, in evaluation mode and without gradients, to
    learn the shape in -> shape out of every module; the model is left as it was. Only a Module (or an ONNX file) runs.
    Keys in the live view: arrows, `/` search, `e` expand all, `c` collapse all, Home, End.
    Raises ArgumentError for anything else, and whatever reading the file raises.
    """
    title, signature, module = signature_of(source)
    return TreeView(title, outline(signature, output_shapes(source, module, x) if x is not None else None))


class TreeView(View):
    """What `show` returns; `rows` are the lines of the tree (see `Row`)."""

    script = "tree"

    def __init__(self, title: str, content: Outline):
        self.title, self.outline, self.rows = title, content, content.rows

    @property
    def summary(self) -> str:
        """How many parameters stand in how many modules."""
        modules = sum(row.kind == "module" and row.type not in ("list", "tuple", "dict") for row in self.rows)
        return f"{self.outline.total:,} parameters in {modules:,} module{'s' * (modules != 1)}"

    def share(self, row: Row) -> float:
        """The part of all parameters that stands under this row, 0 to 1."""
        return row.params / self.outline.total if self.outline.total else 0.0

    def data(self) -> dict[str, Any]:
        """What the live widget draws, as JSON."""
        return {
            "title": self.title, "summary": self.summary, "open": sorted(self.outline.initially_open()),
            "names": self.name_width(),
            "rows": [[row.parent, row.depth, row.kind, row.path, row.name, row.type,
                      row.family.key if row.family else "", row.shape, row.params, self.share(row), row.note, row.count]
                     for row in self.rows],
        }

    def name_width(self) -> int:
        """Pixels that the longest name with its type takes."""
        return max(72 + 16 * row.depth + 8 * (len(row.label) + len(row.type)) for row in self.rows)

    # --- text ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The table, for a terminal."""
        rows = self.brief()
        flow = "in -> out" if any("->" in row.shape for row in self.rows) else "shape"
        cells = [("name", "type", flow, "parameters", "share")]
        for row, depth in rows:
            glyph = f"{row.family.ascii} " if row.family else ""
            counts = f"{row.params:,}" if row.params else ""
            cells.append(("  " * depth + glyph + row.label, row.type, row.shape, counts, self.bar(row)))
        width = [max(len(cell[i]) for cell in cells) for i in range(5)]
        lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c:<{width[2]}}  {d:>{width[3]}}  {e}".rstrip()
                 for a, b, c, d, e in cells]
        return "\n".join([f"{self.title}: {self.summary}", *lines, ascii_legend()])

    def brief(self) -> list[tuple[Row, int]]:
        """Rows of the text form, with their indent: modules, parameters that stand beside modules, one of each fold."""
        kept: list[tuple[Row, int]] = []
        depths: dict[int, int] = {-1: -1}
        hidden: set[int] = set()
        first: set[int] = set()
        for i, row in enumerate(self.rows):
            above = self.rows[row.parent] if row.parent >= 0 else row
            layers_own = row.kind in ("parameter", "buffer", "tied") and above.bare
            if row.parent in hidden or layers_own or (above.kind == "fold" and row.parent in first):
                hidden.add(i)
            elif above.kind == "fold":                # the first member: its inside stands for all of them
                first.add(row.parent)
                depths[i] = depths[row.parent]
            else:
                depths[i] = depths[row.parent] + 1
                kept.append((row, depths[i]))
        return kept

    def bar(self, row: Row) -> str:
        """The row's share of all parameters, drawn with signs."""
        share = self.share(row)
        return f"{share:4.0%} {'#' * round(share * BAR)}" if row.params else ""

    # --- page ----------------------------------------------------------------------------------------------------

    def page(self) -> str:
        """The static view's HTML."""
        below, opened = self.outline.children(), self.outline.initially_open(budget=80)
        shapes = max((len(row.shape) for row in self.rows), default=0)
        cut = max(0, len(self.rows) - STATIC_ROWS)
        more = f"<p class=ndl-more>{cut:,} more rows: print(view) shows them</p>" if cut else ""
        column = "in &rarr; out" if any("->" in row.shape for row in self.rows) else "shape"
        head = (f"<div class='ndl-row ndl-cols'><span>name, type</span><span>{column}</span>"
                "<span class=ndl-num>parameters</span><span>share</span></div>")
        return (f"<div class=ndl-head><b>{html.escape(self.title)}</b><span>{self.summary}</span></div>"
                f"<div class=ndl-box style='--shape:{max(shapes, 9)}ch;--names:{self.name_width()}px'>{head}"
                f"{self.block(0, below, opened)}</div>"
                f"{more}{html_legend()}")

    def block(self, i: int, below: dict[int, list[int]], opened: set[int]) -> str:
        """A row and what is in it, as HTML that folds."""
        line = self.line(self.rows[i], bool(below[i]))
        equal = self.rows[i].kind == "fold"           # one member stands for all of them
        inside = [child for child in below[i][:1 if equal else None] if child < STATIC_ROWS]
        if not inside:
            return f"<div class=ndl-row title='{_tip(self.rows[i])}'>{line}</div>"
        return (f"<details{' open' if i in opened else ''}><summary class=ndl-row title='{_tip(self.rows[i])}'>{line}"
                f"</summary>{''.join(self.block(child, below, opened) for child in inside)}</details>")

    def line(self, row: Row, has_children: bool) -> str:
        """A row as HTML."""
        glyph = (f"<b class='ndl-g {row.family.key}' style='color:{row.family.light}'>{row.family.glyph}</b>"
                 if row.family else "<b class=ndl-g></b>")
        times = f"<em>&times;{row.count}</em>" if row.count > 1 else ""
        kind = row.note if row.kind == "parameter" else row.type
        share = self.share(row)
        bar = (f"<span class=ndl-bar><u style='width:{share:.1%}'></u></span><span class=ndl-pct>{share:.1%}</span>"
               if row.params else "")
        return (f"<span class='ndl-name {row.kind}' style='padding-left:{row.depth * 16 + 4}px'>"
                f"<span class='ndl-tw{'' if has_children else ' none'}'></span>{glyph}"
                f"<span class=ndl-id>{html.escape(row.name)}</span>{times}<i> {html.escape(kind)}</i></span>"
                f"<span class=ndl-shape>{html.escape(row.shape).replace('-&gt;', '&rarr;')}</span>"
                f"<span class=ndl-num>{f'{row.params:,}' if row.params else ''}</span>"
                f"<span class=ndl-share>{bar}</span>")


def _tip(row: Row) -> str:
    return html.escape(f"{row.path or 'model'}: {row.type}({row.note})", quote=True)
