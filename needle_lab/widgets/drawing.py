"""A graph to be drawn: boxes and arrows as data, as DOT, as SVG (drawn by graphviz where there is one)."""

from __future__ import annotations

import functools
import html
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..untrusted import printable
from .families import FAMILIES, tint

INSTALL = ("No graphviz was found, so this is the DOT text of the graph. To see it drawn: "
           "pip install graphviz-pure, or install graphviz with the system's package manager.")
EDGE = "#8A929C"
TINY = 8               # values of a tensor that are written out; more are only a shape


@dataclass
class Box:
    """A node: an op (with its family), or an input, output or leaf (family ""), with a title and small lines."""

    id: str
    title: str
    family: str = ""
    lines: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)      # what a click shows: name, attributes, shapes


@dataclass
class Arrow:
    """A value that flows from box to box; the label is its shape."""

    source: str
    target: str
    label: str = ""


@dataclass
class Drawing:
    """Boxes in reading order, and arrows.  right: draw from left to right, not from top to bottom."""

    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    right: bool = False

    def dot(self) -> str:
        """The graph in graphviz's language."""
        lines = ["digraph {",
                 f'  graph [rankdir={"LR" if self.right else "TB"}, bgcolor=transparent, nodesep=0.25, ranksep=0.35, '
                 "pad=0.1];",
                 '  node [shape=plain, fontname="Helvetica,Arial,sans-serif", fontsize=11];',
                 f'  edge [color="{EDGE}", arrowsize=0.6, fontname="Courier,monospace", fontsize=9, '
                 'fontcolor="#5C6470"];']
        lines += [f'  {box.id} [class="box {box.family or "value"}", id="{box.id}", label=<{_label(box)}>];'
                  for box in self.boxes]
        lines += [f'  {arrow.source} -> {arrow.target} [id="e{i}", label=" {_quote(arrow.label)}"];'
                  for i, arrow in enumerate(self.arrows)]
        return printable("\n".join([*lines, "}"]), lines=True)

    def svg(self) -> str | None:
        """The drawn graph as one SVG element, or None where no graphviz is installed."""
        program = dot_program()
        if program is None:
            return None
        done = subprocess.run([program, "-Tsvg"], input=self.dot().encode(), capture_output=True, check=True)
        svg = done.stdout.decode("utf-8")
        svg = re.sub(r"<!--.*?-->\n?", "", svg[svg.index("<svg"):], flags=re.DOTALL)
        return re.sub(r"<title>.*?</title>\n?", "", svg, flags=re.DOTALL)      # a tooltip of "n0->n3" helps nobody


@functools.cache
def dot_program() -> str | None:
    """The system's dot, else the program of the graphviz-pure wheel, else None."""
    beside = os.path.join(os.path.dirname(sys.executable), "graphviz-pure")     # an environment that is not activated
    found = shutil.which("dot") or shutil.which("graphviz-pure") or shutil.which(beside)
    return found and os.path.abspath(found)


def short(array: np.ndarray) -> str:
    """A few values as text, floats to four digits."""
    def number(x: Any) -> str:
        return f"{x:.4g}" if isinstance(x, float) else str(x)

    values = array.tolist()
    return f"[{', '.join(map(number, values))}]" if isinstance(values, list) else number(values)


def _label(box: Box) -> str:
    """A table, which graphviz lays out like HTML: a coloured frame, the title, the small lines."""
    family = FAMILIES.get(box.family)
    glyph = f'<FONT COLOR="{family.light}">{family.glyph}</FONT> ' if family else ""
    frame, fill = (family.light, tint(family.light, "#FFFFFF")) if family else (EDGE, "#FFFFFF")
    small = "".join(f'<TR><TD ALIGN="LEFT"><FONT FACE="Courier,monospace" POINT-SIZE="9" COLOR="#454C56">'
                    f"{html.escape(line)}&#160;</FONT></TD></TR>" for line in box.lines)
    head = f'<TR><TD ALIGN="LEFT">{glyph}<B>{html.escape(box.title)}&#160;</B></TD></TR>'
    return (f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" CELLPADDING="4" STYLE="ROUNDED" COLOR="{frame}" '
            f'BGCOLOR="{fill}">{head}{small}</TABLE>')


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
