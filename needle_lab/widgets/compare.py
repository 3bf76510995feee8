"""`compare`: two models on one input, side by side: the outputs, and the largest error of each layer."""

from __future__ import annotations

import base64
import html
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from .families import FAMILIES, ascii_legend, family_of, html_legend
from .layers import Layer, align, layers_of
from .outline import show_shape
from .trace import Source, name_of
from .view import View

FLOOR = 1e-8            # left end of the logarithmic bar: a tenth of float32's rounding
BAR = 16                # characters of the bar of a terminal
BARS = 32               # an output of at most so many values is drawn as bars, a longer one as a heat map
GRID = 20               # a heat map has at most so many rows and columns
BLUE, ORANGE = FAMILIES["linear"].light, FAMILIES["activation"].light


@dataclass(eq=False)
class Pair:
    """A layer of a and the layer of b that answers to it."""

    a: Layer
    b: Layer
    max_abs: float                  # max |a - b|
    max_rel: float                  # that, divided by max |b|

    @property
    def name(self) -> str:
        """The path of the layer, or both paths where they differ."""
        return self.a.path if self.a.path == self.b.path else f"{self.a.path} | {self.b.path}"

    @property
    def labels(self) -> tuple[str, str]:
        """How a and b are shown: an ONNX value behind the path of the layer that made it, "block.conv1 (getitem_3)"."""
        layers = self.a.layer or self.b.layer, self.b.layer or self.a.layer
        a, b = (f"{layer} ({each.path})" if layer and layer != each.path else each.path
                for layer, each in zip(layers, (self.a, self.b), strict=True))
        return a, b

    @property
    def label(self) -> str:
        """Both labels, or the one that they share."""
        return " | ".join(dict.fromkeys(self.labels))


def compare(model_a: Source, model_b: Source, x: Any, tolerance: float = 1e-4) -> CompareView:
    """Run two models on x and show where they part.

    model_a, model_b: Modules (also OnnxModules), or paths of .onnx files, which onnxruntime runs. x: a Tensor or array,
    a tuple for several inputs. b is the reference: an error is relative to the largest |value| of b's layer, and the
    first layer whose relative error exceeds `tolerance` is named. Layers are paired by path, kind and values.
    Keys in the live view: arrows, Home, End, `n`/`p` next and previous layer beyond the tolerance, `/` search.
    Raises ArgumentError, MissingFileError, MissingExtraError; ShapeError if the models have no layer in common.
    """
    layers_a, outputs_a = layers_of(model_a, x)
    layers_b, outputs_b = layers_of(model_b, x)
    pairs = [_pair(layers_a[i], layers_b[j]) for i, j in align(layers_a, layers_b)]
    outputs = [_output(pairs, i, a, b) for i, (a, b) in enumerate(zip(outputs_a, outputs_b, strict=False))
               if a.shape == b.shape]
    if not pairs and not outputs:
        raise ShapeError(f"compare: no layer of {name_of(model_a)} has the shape of one of {name_of(model_b)}")
    return CompareView((name_of(model_a), name_of(model_b)), pairs, outputs, tolerance,
                       (len(layers_a) - len(pairs), len(layers_b) - len(pairs)))


class CompareView(View):
    """What `compare` returns: `pairs` of layers and `outputs`, each with max_abs and max_rel; `first`, or None."""

    script = "compare"

    def __init__(self, names: tuple[str, str], pairs: list[Pair], outputs: list[Pair], tolerance: float,
                 alone: tuple[int, int]):
        self.names, self.pairs, self.outputs, self.tolerance, self.alone = names, pairs, outputs, tolerance, alone
        self.rows = pairs + [pair for pair in outputs if pair not in pairs]
        self.title = f"{names[0]} | {names[1]}"

    @property
    def first(self) -> Pair | None:
        """The first layer (or output) whose relative error exceeds the tolerance."""
        return next((pair for pair in self.rows if not pair.max_rel <= self.tolerance), None)

    @property
    def sentence(self) -> str:
        """The result in words."""
        first, outputs = self.first, " and the outputs" if self.outputs else ""
        if first is None:
            rest = "" if outputs else " The outputs have different shapes."
            worst = max(self.rows, key=lambda pair: pair.max_rel)
            if worst.max_abs == 0:
                return f"All {len(self.pairs):,} paired layers{outputs} are equal, bit for bit.{rest}"
            return (f"All {len(self.pairs):,} paired layers{outputs} agree: the largest error is {_number(worst.max_rel)} "
                    f"of max |B|, at {worst.label}; tolerance {self.tolerance:g}.{rest}")
        before = next(i for i, pair in enumerate(self.rows) if pair is first)
        rest = f"; the {before:,} before it agree" if before else ""
        return (f"{first.label} ({first.a.type}) is the first layer that deviates: its largest error is "
                f"{_number(first.max_rel)} of max |B|, tolerance {self.tolerance:g}{rest}.")

    @property
    def summary(self) -> str:
        """How much was paired, and how much was not."""
        a, b = self.alone
        rest = f"; {a:,} of A and {b:,} of B have no counterpart" if a or b else ""
        return f"{len(self.pairs):,} layers paired{rest}"

    def data(self) -> dict[str, Any]:
        """What the live widget draws, as JSON."""
        return {
            "title": "compare", "names": list(self.names), "summary": self.summary, "sentence": self.sentence,
            "output": self.rows.index(self.outputs[0]) if self.outputs else -1,
            "tone": "good" if self.first is None else "bad", "tolerance": self.tolerance,
            "tick": _place(self.tolerance),
            "rows": [[*pair.labels, pair.a.type, pair.b.type, family_of(pair.a.type).key,
                      show_shape(pair.a.values.shape), _number(pair.max_abs), _number(pair.max_rel),
                      _place(pair.max_rel), not pair.max_rel <= self.tolerance, picture(pair)] for pair in self.rows],
        }

    # --- text ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The table, for a terminal."""
        cells = [("layer", "type", "shape", "max |A-B|", "/ max |B|", f"{FLOOR:g} .. 1 (log)")]
        for pair in self.rows:
            kind = pair.a.type if pair.a.type == pair.b.type else f"{pair.a.type} | {pair.b.type}"
            mark = " <-- first beyond the tolerance" if pair is self.first else ""
            cells.append((f"{family_of(pair.a.type).ascii} {pair.label}", kind, show_shape(pair.a.values.shape),
                          _number(pair.max_abs), _number(pair.max_rel), "#" * round(_place(pair.max_rel) * BAR) + mark))
        width = [max(len(row[i]) for row in cells) for i in range(6)]
        lines = [f"{a:<{width[0]}}  {b:<{width[1]}}  {c:<{width[2]}}  {d:>{width[3]}}  {e:>{width[4]}}  {f}".rstrip()
                 for a, b, c, d, e, f in cells]
        title = f"A {self.names[0]}, B {self.names[1]}: {self.summary}"
        return "\n".join([title, self.sentence, *lines, ascii_legend()])

    # --- page ----------------------------------------------------------------------------------------------------

    def page(self) -> str:
        """The static view's HTML."""
        tone, sign = ("good", "\N{CHECK MARK}") if self.first is None else ("bad", "\N{MULTIPLICATION X}")
        head = ("<div class='ndl-row ndl-cols'><span>layer</span><span>shape</span><span class=ndl-num>max |A&minus;B|"
                f"</span><span class=ndl-num>&divide; max |B|</span><span>{FLOOR:g} &hellip; 1 (log), &#x250A; "
                f"{self.tolerance:g}</span></div>")
        pictures = "".join(f"<figure class=ndl-figure><figcaption>{html.escape(pair.label)} "
                           f"{show_shape(pair.a.values.shape)}</figcaption>{_svg(picture(pair))}</figure>"
                           for pair in self.outputs)
        return (f"<div class='ndl-verdict {tone}'><b>{sign}</b> <span>{html.escape(self.sentence)}</span></div>"
                f"<div class=ndl-head><b>A</b> {html.escape(self.names[0])} <b>B</b> {html.escape(self.names[1])}"
                f"<span>{self.summary}</span></div>"
                f"<div class=ndl-box style='{self.widths()}'>{head}{''.join(map(self.line, self.rows))}</div>"
                f"<div class=ndl-pictures>{pictures}</div>{html_legend()}")

    def line(self, pair: Pair) -> str:
        """A pair as a row of HTML."""
        family = family_of(pair.a.type)
        beyond = not pair.max_rel <= self.tolerance
        a, b = map(html.escape, pair.labels)
        other = "" if a == b else f" | {b}"
        return (f"<div class='ndl-row{' beyond' if beyond else ''}'><span class=ndl-name><b class='ndl-g {family.key}' "
                f"style='color:{family.light}'>{family.glyph}</b> <span class=ndl-id>{a}</span>"
                f"<i>{other} {html.escape(pair.a.type)}</i></span><span>{show_shape(pair.a.values.shape)}</span>"
                f"<span class=ndl-num>{_number(pair.max_abs)}</span><span class=ndl-num>{_number(pair.max_rel)}</span>"
                f"<span class=ndl-log><u style='width:{_place(pair.max_rel):.1%}'></u>"
                f"<s style='left:{_place(self.tolerance):.1%}'></s></span></div>")

    def widths(self) -> str:
        """The width of the column of shapes, as a style."""
        return f"--shape:{max(len(show_shape(pair.a.values.shape)) for pair in self.rows)}ch"


def _pair(a: Layer, b: Layer) -> Pair:
    """The largest error, absolute and relative to b's scale; a nan or inf on one side alone is an infinite error."""
    x, y = a.values.astype(np.float64), b.values.astype(np.float64)
    if not x.size:
        return Pair(a, b, 0.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    worst = float(np.nan_to_num(error, nan=math.inf, posinf=math.inf).max())
    scale = float(np.abs(y[np.isfinite(y)]).max(initial=0.0))
    return Pair(a, b, worst, worst / scale if scale else (0.0 if worst == 0 else math.inf))


def _output(pairs: list[Pair], i: int, a: np.ndarray, b: np.ndarray) -> Pair:
    """The pair of layers that produced output i of both models, or a pair of its own."""
    for pair in reversed(pairs):
        if np.array_equal(pair.a.values, a, equal_nan=a.dtype.kind == "f") and np.array_equal(
                pair.b.values, b, equal_nan=b.dtype.kind == "f"):
            return pair
    return _pair(Layer(f"output {i}", "output", a), Layer(f"output {i}", "output", b))


def _place(error: float) -> float:
    """Where an error stands on the logarithmic scale from FLOOR to 1: 0 to 1."""
    return 0.0 if error <= FLOOR else min(1.0, 1 - math.log10(min(error, 1.0)) / math.log10(FLOOR))


def _number(value: float) -> str:
    return f"{value:.3g}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.1e}"


# --- pictures -----------------------------------------------------------------------------------------------------

def picture(pair: Pair) -> dict[str, Any]:
    """The part of a layer in which the worst error stands, small enough to draw: bars, or three heat maps.

    Bars for a row of at most BARS values; otherwise A, B (one colour scale for both) and |A - B| as bytes, 0 to 255.
    """
    x, y = pair.a.values.astype(np.float64), pair.b.values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.nan_to_num(np.abs(x - y), nan=math.inf)
    at = np.unravel_index(int(error.argmax()), error.shape) if error.size else (0,) * error.ndim
    rest = 1 if x.ndim <= 2 else 2
    index: tuple[Any, ...] = tuple(int(i) for i in at[: max(0, x.ndim - rest)]) if error.size else ()
    where = f"[{', '.join([*map(str, index), *':' * (x.ndim - len(index))])}]" if index else ""
    a, b = (np.asarray(part[index] if part.size else [0.0]) for part in (x, y))
    if a.ndim < 2 and a.size <= BARS:
        values = [[_plain(value) for value in np.atleast_1d(part)] for part in (a, b)]
        return {"kind": "bars", "where": where, "a": values[0], "b": values[1]}
    if a.ndim < 2:
        a, b = (_fold(part) for part in (a, b))
    a, b = (part[:: -(-part.shape[0] // GRID), :: -(-part.shape[1] // GRID)] for part in (a, b))
    both = np.concatenate([a.ravel(), b.ravel()])
    both = both[np.isfinite(both)]
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 0.0)
    off = np.abs(np.nan_to_num(a) - np.nan_to_num(b))
    return {"kind": "heat", "where": where, "rows": a.shape[0], "columns": a.shape[1],
            "a": _bytes(a, low, high), "b": _bytes(b, low, high), "d": _bytes(off, 0.0, float(off.max())),
            "low": _number(low), "high": _number(high), "worst": _number(float(off.max()))}


def _plain(value: float) -> float:
    return float(f"{value:.6g}") if math.isfinite(value) else 0.0


def _fold(row: np.ndarray) -> np.ndarray:
    """A long row as lines of a picture; what is left over at the end is not drawn."""
    width = math.isqrt(row.size)
    return row[: row.size // width * width].reshape(-1, width)


def _bytes(values: np.ndarray, low: float, high: float) -> str:
    scaled = (np.nan_to_num(values) - low) / (high - low) if high > low else np.zeros_like(values)
    return base64.b64encode((scaled.clip(0, 1) * 255).round().astype(np.uint8).tobytes()).decode()


def _svg(drawn: dict[str, Any]) -> str:
    """The picture as one SVG element, in the colours of the light theme."""
    if drawn["kind"] == "bars":
        return _bars_svg(drawn["a"], drawn["b"])
    size = 8
    width, height = drawn["columns"] * size, drawn["rows"] * size
    parts = []
    for k, (name, title) in enumerate((("a", "A"), ("b", "B"), ("d", "|A-B|"))):
        cells = base64.b64decode(drawn[name])
        left = k * (width + 24)
        parts.append(f'<text x="{left}" y="12">{title}</text>')
        parts += [f'<rect x="{left + i % drawn["columns"] * size}" y="{18 + i // drawn["columns"] * size}" '
                  f'width="{size}" height="{size}" fill="{_heat(v, name == "d")}"/>' for i, v in enumerate(cells)]
    note = f"A, B: {drawn['low']} .. {drawn['high']}; |A-B|: 0 .. {drawn['worst']}"
    return (f'<svg viewBox="0 0 {3 * width + 60} {height + 38}" width="{3 * width + 60}" role="img" '
            f'aria-label="heat maps">{"".join(parts)}<text x="0" y="{height + 34}">{note}</text></svg>')


def _heat(value: int, is_error: bool) -> str:
    """White to orange for errors; a path from dark blue over grey to yellow (as cividis) for values."""
    stops = ((255, 255, 255), (213, 94, 0)) if is_error else ((0, 32, 76), (124, 123, 120), (255, 234, 70))
    place = value / 255 * (len(stops) - 1)
    k = min(int(place), len(stops) - 2)
    return "#" + "".join(f"{round(p + (place - k) * (q - p)):02x}" for p, q in zip(stops[k], stops[k + 1], strict=True))


def _bars_svg(a: list[float], b: list[float]) -> str:
    """Pairs of bars about zero, A filled, B striped."""
    high, low = max(0.0, *a, *b), min(0.0, *a, *b)
    unit, height, wide = 120 / ((high - low) or 1), 150, 22
    zero = 14 + high * unit
    parts = ['<defs><pattern id="ndl-b" width="4" height="4" patternUnits="userSpaceOnUse" '
             'patternTransform="rotate(45)">'
             f'<rect width="4" height="4" fill="#fff"/><rect width="2.4" height="4" fill="{ORANGE}"/></pattern></defs>']
    for i, pair in enumerate(zip(a, b, strict=True)):
        for k, value in enumerate(pair):
            top = zero - max(value, 0) * unit
            fill = "url(#ndl-b)" if k else BLUE
            parts.append(f'<rect x="{4 + i * wide + 9 * k}" y="{top:.1f}" width="8" height="{abs(value) * unit:.1f}" '
                         f'fill="{fill}" stroke="{(BLUE, ORANGE)[k]}" stroke-width="0.5">'
                         f'<title>{"AB"[k]}[{i}] = {value:g}</title></rect>')
        parts.append(f'<text x="{4 + i * wide + 8}" y="{height}" text-anchor="middle">{i}</text>')
    width = max(len(a) * wide + 8, 160)
    return (f'<svg viewBox="0 0 {width} {height + 20}" width="{width}" role="img" aria-label="outputs as bars">'
            f'<line x1="0" x2="{width}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="#999"/>{"".join(parts)}'
            f'<rect x="4" y="{height + 7}" width="9" height="9" fill="{BLUE}"/><text x="18" y="{height + 16}">A</text>'
            f'<rect x="44" y="{height + 7}" width="9" height="9" fill="url(#ndl-b)" stroke="{ORANGE}"/>'
            f'<text x="58" y="{height + 16}">B</text></svg>')
