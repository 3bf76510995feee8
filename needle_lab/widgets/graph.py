"""`onnx_graph`, `program_graph` and `autograd_graph`: a computation as boxes and arrows, coloured by op family, shapes on
the arrows."""

from __future__ import annotations

import html
import math
from typing import Any

from ..errors import ArgumentError
from .drawing import INSTALL, TINY, Arrow, Box, Drawing, short
from .families import FAMILIES, ascii_legend, family_of, html_legend
from .onnx_parts import assemble, parts_of_module, parts_of_program, parts_of_proto
from .outline import show_shape
from .trace import host, is_module
from .view import View

WIDE = 1100            # points; a wider picture keeps its size on a static page and is scrolled, else it shrinks to fit
MAX_NODES = 400        # drawing time and the reader's patience both end about here


def onnx_graph(model: Any, x: Any = None, max_nodes: int = MAX_NODES, right: bool = False) -> GraphView:
    """Draw an ONNX graph: the path of a file, an onnx.ModelProto, or an OnnxModule.

    Shapes on the arrows come from the file and from ONNX shape inference; of an OnnxModule from one run on x (a tuple
    for several inputs), and without x there are none. Weights and small constants stand inside the node that reads
    them, as `W (64, 3, 7, 7)`. max_nodes: a larger graph is drawn up to there, and says so. right: draw from left to
    right. Keys in the live view: arrows follow the values, `n`/`p` next and previous node, `+` `-` `0` zoom, `/`
    search; a click shows attributes; drag to pan.
    Raises MissingExtraError without the onnx package, MissingFileError, FileFormatError, ArgumentError.
    """
    title, summary, parts = parts_of_module(model, x) if hasattr(model, "value_names") else parts_of_proto(model)
    drawing, cut = assemble(parts, max_nodes)
    drawing.right = right
    note = f"the first {max_nodes:,} of {max_nodes + cut:,} nodes; for more: max_nodes=" if cut else ""
    return GraphView(title, summary, drawing, note)


def program_graph(model: Any, *examples: Any, max_nodes: int = MAX_NODES, right: bool = False) -> GraphView:
    """Draw what a module computes, op by op: a Program, or a Module with an example of each input.

    A box shows the parameters that its op reads, under their paths; its details name the module in which it was made.
    max_nodes, right and the keys: as for `onnx_graph`. Raises what `program.trace` raises.
    """
    from ..program import Program, trace

    program = model if isinstance(model, Program) else trace(model, *examples)
    drawing, cut = assemble(parts_of_program(program), max_nodes)
    drawing.right = right
    note = f"the first {max_nodes:,} of {max_nodes + cut:,} ops; for more: max_nodes=" if cut else ""
    title = "program" if program is model else type(model).__name__
    return GraphView(title, f"{len(program.calls):,} ops", drawing, note)


def autograd_graph(tensor: Any, max_nodes: int = MAX_NODES, **names: Any) -> GraphView:
    """Draw what backward will walk: the ops that made `tensor`, from its leaves, left to right.

    names: tensors to be named in the picture, `autograd_graph(c, a=a, b=b, c=c)`, or a Module, `model=model`, whose
    parameters then stand under their paths. Leaves show their value where it is tiny, and their gradient once it is
    known. An arrow for each use: `a + a` has two. max_nodes: of a larger graph the newest ops are drawn, and the view
    says so.
    Raises ArgumentError for a result of no recorded op, GraphError for a graph that an earlier backward has freed.
    """
    from ..core.graph import topological_order
    from ..core.tensor import key_of

    if getattr(tensor, "node", None) is None:
        raise ArgumentError("autograd_graph: a tensor that was computed from one with requires_grad=True is needed; "
                            "this one has no recorded op")
    named: dict[Any, str] = {}
    for name, value in names.items():
        named |= {p: path for path, p in value.named_parameters()} if is_module(value) else {key_of(value): name}
    newest = topological_order([tensor.node])
    order = newest[:max_nodes][::-1]
    made = {key_of(x): x for node in order for x in node.inputs if hasattr(x, "node")} | {key_of(tensor): tensor}
    drawing, places = Drawing(right=True), {node: f"n{i}" for i, node in enumerate(order)}
    for key, leaf in made.items():
        if leaf.node is None:
            places[key] = f"leaf{len(drawing.boxes)}"
            kind = "leaf" if leaf.requires_grad else "constant"
            lines = [_value(leaf)] + ([f"grad {_value(leaf.grad)}"] if leaf.grad is not None else [])
            drawing.boxes.append(Box(places[key], named.get(key, kind), "", lines, {
                "kind": kind, "shape": show_shape(leaf.shape), "dtype": str(leaf.dtype), "device": str(leaf.device)}))
    for node in order:
        outputs = [made.get((node, i)) for i in range(node.count)]
        lines = [f"{named[key_of(x)]} = {_value(x)}" if key_of(x) in named else _value(x)
                 for x in outputs if x is not None]
        details = {"shape": " ".join(show_shape(x.shape) for x in outputs if x is not None)}
        details |= {key: str(value) for key, value in node.attrs.items()}
        details |= {f"input {i}": repr(x) for i, x in enumerate(node.inputs) if not hasattr(x, "node")}
        drawing.boxes.append(Box(places[node], node.op.name, family_of(node.op.name).key, lines, details))
        read = [(places.get(x if x.node is None else x.node), x) for x in node.inputs if hasattr(x, "node")]
        drawing.arrows += [Arrow(source, places[node], show_shape(x.shape) if x.ndim else "")
                           for source, x in read if source]
    note = f"the newest {len(order):,} of {len(newest):,} ops; for more: max_nodes=" if len(order) < len(newest) else ""
    return GraphView("autograd graph", f"{len(newest):,} op{'s' * (len(newest) != 1)}", drawing, note)


class GraphView(View):
    """What the functions above return; `drawing` holds the boxes and arrows, `svg` the picture."""

    script = "graph"

    def __init__(self, title: str, summary: str, drawing: Drawing, note: str = ""):
        self.title, self.summary, self.drawing, self.note = title, summary, drawing, note
        self.dot, self.svg = drawing.dot(), drawing.svg()

    def text(self) -> str:
        """One line for each box, in order: what it is, what it reads, which shape flows in."""
        into: dict[str, list[str]] = {}
        for arrow in self.drawing.arrows:
            into.setdefault(arrow.target, []).append(f"{arrow.source} {arrow.label}".strip())
        rows = [(box.id, f"{FAMILIES[box.family].ascii if box.family else ' '} {box.title}", " ".join(box.lines),
                 f"<- {', '.join(into[box.id])}" if box.id in into else "") for box in self.drawing.boxes]
        width = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c:<{width[2]}}  {d}".rstrip() for a, b, c, d in rows]
        return "\n".join([f"{self.title}: {self.summary}", *([self.note] if self.note else []), *lines, ascii_legend()])

    def page(self) -> str:
        """The static view's HTML."""
        note = f"<p class=ndl-more>{html.escape(self.note)}</p>" if self.note else ""
        wide = " wide" if self.svg and float(self.svg.partition('width="')[2].partition("pt")[0]) > WIDE else ""
        picture = (f"<div class='ndl-canvas ndl-box{wide}'>{self.svg}</div>" if self.svg else
                   f"<p class=ndl-more>{INSTALL}</p><pre class=ndl-dot>{html.escape(self.dot)}</pre>")
        return (f"<div class=ndl-head><b>{html.escape(self.title)}</b><span>{html.escape(self.summary)}; shapes on the "
                f"arrows</span></div>{note}{picture}{html_legend()}")

    def data(self) -> dict[str, Any]:
        """What the live widget draws, as JSON."""
        return {"title": self.title, "summary": f"{self.summary}; shapes on the arrows", "note": self.note,
                "svg": self.svg or "", "dot": "" if self.svg else self.dot, "install": INSTALL,
                "right": self.drawing.right,
                "boxes": [[box.id, box.title, box.family, box.lines, list(box.details.items())]
                          for box in self.drawing.boxes],
                "arrows": [[arrow.source, arrow.target] for arrow in self.drawing.arrows]}


def _value(x: Any) -> str:
    """A tiny tensor's values, any other's shape."""
    return short(host(x)) if math.prod(x.shape) <= TINY and x.ndim <= 1 else f"{show_shape(x.shape)} {x.dtype}"
