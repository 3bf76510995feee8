"""The five families of operations: one colour and one glyph each, everywhere in the package.

Blue, orange, green, purple and grey, with lightnesses chosen (by search, see the tests) so that people with any of the
three colour vision deficiencies can tell them apart on a light and on a dark page; the glyph says the same thing once
more, so that a black and white print loses nothing. The names are class names of layers and names of needle_lab ops,
compared without case, underscores and a trailing dimension (`Conv2d`, `ConvTranspose` and `conv_transpose2d` need no
separate entries); what else ONNX has, its rows in `onnx.operators` tell.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One family: `glyph` for pages, `ascii` for terminals, `light` and `dark` the colour on either background."""

    key: str
    title: str
    glyph: str
    ascii: str
    light: str
    dark: str
    members: frozenset[str]


def _family(key: str, title: str, glyph: str, ascii: str, light: str, dark: str, members: str) -> Family:
    return Family(key, title, glyph, ascii, light, dark, frozenset(members.lower().replace("_", "").split()))


FAMILIES: dict[str, Family] = {family.key: family for family in (
    _family("linear", "linear, convolution", "\N{BLACK SQUARE}", "*", "#1F77C8", "#3D9BFF", """
        Linear Bilinear MatMul Einsum Dot Outer Embedding EmbeddingBag Conv ConvTranspose ConvBN Convolution RNN LSTM
        GRU RNNCell LSTMCell GRUCell Attention MultiheadAttention CausalSelfAttention ScaledDotProductAttention
        RotaryEmbedding"""),
    _family("activation", "activation", "\N{BLACK UP-POINTING TRIANGLE}", "/", "#D9691A", "#FF8040", """
        ReLU ReLU6 LeakyReLU PReLU RReLU ELU SELU CELU GELU FastGelu QuickGelu SiLU Mish Sigmoid LogSigmoid
        HardSigmoid HardSwish Tanh HardTanh Softplus Softsign Softmax LogSoftmax Softmin Softmax2d GLU Threshold
        Softshrink Hardshrink Tanhshrink Erf"""),
    _family("norm", "normalisation", "\N{BLACK DIAMOND}", "%", "#00553A", "#62F0B6", """
        BatchNorm LayerNorm SkipLayerNormalization GroupNorm InstanceNorm RMSNorm LocalResponseNorm Normalize
        Standardize apply_batch_norm"""),
    _family("pool", "pooling, reduction", "\N{BLACK DOWN-POINTING TRIANGLE}", "v", "#85287B", "#A850A0", """
        MaxPool AvgPool LpPool GlobalMaxPool GlobalAvgPool AdaptiveAvgPool AdaptiveMaxPool MaxRoiPool max_windows
        sum_windows Sum Mean Max Min Prod Var Std Amax Amin Argmax Argmin CumSum CumProd LogSumExp Norm TopK All Any
        MaxUnpool CosineSimilarity PairwiseDistance CrossEntropy Loss"""),
    _family("other", "shape, other", "\N{BLACK CIRCLE}", ".", "#8A8A8A", "#909090", ""),
)}
OTHER = FAMILIES["other"]


def family_of(name: str) -> Family:
    """The family of a layer class, an ONNX operator or an op, by its name; an unknown name is `shape, other`."""
    return _of_ours(name) or _of_operator(name) or OTHER


@functools.lru_cache(maxsize=4096)
def _of_ours(name: str) -> Family | None:
    plain = name.rsplit(".", 1)[-1].lower().replace("_", "").removeprefix("lazy")
    plain = "loss" if plain.endswith("loss") else plain
    undimensioned = plain[:-2] if plain[-2:] in ("1d", "2d", "3d") else plain
    return next((f for f in FAMILIES.values() if plain in f.members or undimensioned in f.members), None)


def _of_operator(name: str) -> Family | None:
    """What the operator's row says; names of operators come from the ONNX room, so it is open then."""
    table = sys.modules.get("needle_lab.onnx.operators.table")
    row = table.TABLE.get(name) if table else None
    return FAMILIES.get(row.family) if row else None


def ascii_legend() -> str:
    """The five glyphs for a terminal, in one line."""
    return "   ".join(f"{family.ascii} {family.title}" for family in FAMILIES.values())


def html_legend() -> str:
    """The five glyphs for a page, in one line of HTML."""
    items = (f'<span><b class="ndl-g {f.key}" style="color:{f.light}">{f.glyph}</b> {f.title}</span>'
             for f in FAMILIES.values())
    return f'<div class="ndl-legend">{" &nbsp; ".join(items)}</div>'


def palette_css() -> str:
    """The colours as CSS, for both themes of JupyterLab: `var(--linear)`, `var(--linear-tint)`, and glyphs in them."""
    dark = "[data-jp-theme-light=false] .ndl"
    light_names = "".join(f"--{f.key}:{f.light};--{f.key}-tint:{tint(f.light, '#FFFFFF')};" for f in FAMILIES.values())
    dark_names = "".join(f"--{f.key}:{f.dark};--{f.key}-tint:{tint(f.dark, '#1A1D21')};" for f in FAMILIES.values())
    glyphs = "".join(f".ndl .ndl-g.{f.key}{{color:var(--{f.key})!important}}" for f in FAMILIES.values())
    return f".ndl{{{light_names}}}{dark}{{{dark_names}}}{glyphs}"


def tint(colour: str, paper: str) -> str:
    """A background for boxes of a family: a seventh of its colour on the paper."""
    mixed = (round(int(colour[i:i + 2], 16) / 7 + int(paper[i:i + 2], 16) * 6 / 7) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02X}" for part in mixed)
