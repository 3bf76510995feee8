"""Matrix products: matmul, einsum, outer, dot."""

import math
import string
from collections.abc import Sequence

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Gradients
from ..errors import ArgumentError, ShapeError
from .elementwise import clip
from .reduce import norm
from .reduce import sum as sum_
from .shape import diagonal, permute, unsqueeze


@op(onnx="MatMul")
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes, leading axes broadcast; vectors as in NumPy.  numpy.matmul."""
    return np.matmul(a, b)


@matmul.gradient("a")
def matmul_to_a(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if b.ndim == 1:                                   # (..., m, k) @ (k) -> (..., m), or two vectors
        return unsqueeze(g, -1) * b if a.ndim > 1 else g * b
    return g @ b.mT if a.ndim > 1 else (b @ unsqueeze(g, -1))[..., 0]


@matmul.gradient("b")
def matmul_to_b(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 1:                                   # (k) @ (..., k, n) -> (..., n), or two vectors
        return unsqueeze(a, -1) * unsqueeze(g, -2) if b.ndim > 1 else g * a
    if b.ndim == 1:
        return sum_(unsqueeze(g, -1) * a, axis=tuple(range(a.ndim - 1)))
    if b.ndim == 2 and a.ndim > 2:                    # one product over all leading axes, not a sum of many
        n = math.prod(a.shape[:-1])                   # which -1 cannot say of an empty tensor
        return a.reshape(n, a.shape[-1]).mT @ g.reshape(n, g.shape[-1])
    return a.mT @ g


@op(onnx="Gemm")
def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x W^T + b.  x (..., in), weight (out, in), bias (out) -> (..., out).  torch.nn.functional.linear, ONNX Gemm."""
    if x.shape[-1:] != weight.shape[-1:]:
        raise ShapeError(f"linear: input {x.shape} needs {weight.shape[-1]} as its last length for weight {weight.shape}")
    y = x @ weight.T
    return y if bias is None else y + bias


@linear.gradient("x")
def linear_to_x(g: Tensor, weight: Tensor) -> Tensor:
    return g @ weight


@linear.gradient("weight")
def linear_to_weight(g: Tensor, x: Tensor) -> Tensor:
    n = math.prod(x.shape[:-1])
    return g.reshape(n, g.shape[-1]).mT @ x.reshape(n, x.shape[-1])


@linear.gradient("bias")
def linear_to_bias(g: Tensor) -> Tensor:
    return g                                          # the engine sums over all other axes


def trace(x: Tensor) -> Tensor:
    """The sum of the diagonal of the last two axes.  torch.trace, of batches too."""
    return sum_(diagonal(x, 0, -2, -1), axis=-1)


def normalize(x: Tensor, p: float = 2, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along axis (at least eps), by default along the channels.  torch.nn.functional.normalize."""
    return x / clip(norm(x, p, axis, True), min=eps)


def cosine_similarity(a: Tensor, b: Tensor, axis: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along axis, after broadcasting.  torch.nn.functional.cosine_similarity."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = a.expand(shape), b.expand(shape)
    lengths = clip(norm(a, 2, axis, True), min=eps) * clip(norm(b, 2, axis, True), min=eps)
    return sum_(a * b / lengths, axis=axis)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """All products of two vectors: (n), (m) -> (n, m).  torch.outer."""
    return unsqueeze(a, -1) * unsqueeze(b, -2)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two vectors.  torch.dot; ShapeError for anything else."""
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(f"dot: two vectors are needed, got shapes {a.shape} and {b.shape}; use @ for matrices")
    return matmul(a, b)


def einsum(equation: str, *tensors: Tensor) -> Tensor:
    """Sums of products named by letters: einsum("bij,bjk->bik", a, b).  numpy.einsum, ONNX Einsum.

    Supports "..." and a missing "->" (letters met once, in alphabetical order). A letter twice in one term means the
    diagonal. Raises ArgumentError or ShapeError where equation and tensors do not fit.

    >>> ndl.einsum("ij,kj->ik", ndl.ones(2, 3), ndl.eye(3))
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """
    terms, _, result = _spell_out(equation, tensors).partition("->")
    parts = terms.split(",")
    for i, term in enumerate(parts):                       # what one tensor alone sums over is a sum, which keeps its digits
        others = result + "".join(parts[:i] + parts[i + 1:])
        if alone := tuple(k for k, c in enumerate(term) if c not in others and term.count(c) == 1):
            tensors = (*tensors[:i], sum_(tensors[i], axis=alone), *tensors[i + 1:])
            parts[i] = "".join(c for k, c in enumerate(term) if k not in alone)
    return einsum_(*tensors, equation=",".join(parts) + "->" + result)


@op(onnx="Einsum", view=True)
def einsum_(*tensors: Array, equation: str) -> Array:
    """`einsum` with the equation spelled out: every axis a letter, the result's after "->"."""
    return np.einsum(equation, *tensors, optimize=len(tensors) > 1)


@einsum_.gradient
def einsum_gradient(wants: Sequence[bool], g: Tensor, *tensors: Tensor, equation: str) -> Gradients:
    joined, _, result = equation.partition("->")
    terms = joined.split(",")

    def gradient(i: int) -> Tensor:
        term, x = terms[i], tensors[i]
        once = "".join(dict.fromkeys(term))            # a repeated letter: first the gradient of the diagonal
        others = [t for j, t in enumerate(terms) if j != i]
        known = set(result).union(*others)
        reachable = "".join(c for c in once if c in known)
        part = einsum_(g, *[t for j, t in enumerate(tensors) if j != i],
                       equation=",".join([result, *others]) + "->" + reachable)
        sizes = {c: n for c, n in zip(term, x.shape, strict=True)}
        found = dict(zip(reachable, part.shape, strict=True))      # letters that nobody else has were summed: stretch
        part = part.reshape(tuple(found.get(c, 1) for c in once))
        part = part.expand(*(-1 if c in known else sizes[c] for c in once))
        return part if once == term else _onto_diagonal(part, once, term, sizes)
    return tuple(gradient(i) if asks else None for i, asks in enumerate(wants))


def _onto_diagonal(g: Tensor, once: str, term: str, sizes: dict[str, int]) -> Tensor:
    """Values of letters `once` placed where the repeated letters of `term` agree, zeros elsewhere."""
    for position, letter in enumerate(term):
        if letter in term[:position]:
            fresh = next(c for c in string.ascii_letters if c not in term and c not in once)
            first = once.index(letter)
            eye = np.eye(sizes[letter], dtype=g.dtype)
            shape = [sizes[letter] if k == first else 1 for k in range(len(once))]
            g = unsqueeze(g, -1) * eye.reshape(*shape, sizes[letter])
            once, term = once + fresh, term[:position] + fresh + term[position + 1:]
            sizes = {**sizes, fresh: sizes[letter]}
    return permute(g, axes=tuple(once.index(c) for c in term))


def _spell_out(equation: str, tensors: Sequence[Tensor]) -> str:
    """The equation with explicit letters for "..." and an explicit result; checked against the shapes."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ArgumentError(f"einsum: {equation!r} names {len(terms)} tensors, {len(tensors)} came")
    free = [c for c in string.ascii_letters[::-1] if c not in equation]
    dots = max([0] + [x.ndim - len(t.replace("...", "")) for t, x in zip(terms, tensors, strict=True) if "..." in t])
    letters = "".join(free[:dots])
    terms = [t.replace("...", letters[dots - (x.ndim - len(t) + 3):]) if "..." in t else t
             for t, x in zip(terms, tensors, strict=True)]
    for t, x in zip(terms, tensors, strict=True):
        if len(t) != x.ndim:
            raise ShapeError(f"einsum: {t!r} of {equation!r} names {len(t)} axes, the tensor has shape {x.shape}")
    if arrow:
        result = result.replace("...", letters)
    else:
        joined = "".join(terms)
        result = letters + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in letters))
    return ",".join(terms) + "->" + result
