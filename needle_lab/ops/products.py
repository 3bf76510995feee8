"""Products of matrices and vectors under PyTorch's names: `@` and einsum with the shapes that each name promises."""

import math
from string import ascii_letters
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, ShapeError
from .axes import one_axis, torch_names
from .linalg import dot, einsum, matmul, outer
from .reduce import norm
from .reduce import sum as sum_
from .shape import concat, pad_constant, permute, stack


def _of_axes(name: str, a: Tensor, b: Tensor, *axes: int) -> None:
    if (a.ndim, b.ndim) != axes:
        raise ShapeError(f"{name}: tensors with {axes[0]} and {axes[1]} axes are needed, got {a.shape} and {b.shape}; "
                         "matmul (@) takes others")


@torch_names
def mm(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices, (n, k) and (k, m).  torch.mm; ShapeError for anything else."""
    _of_axes("mm", a, b, 2, 2)
    return matmul(a, b)


@torch_names
def bmm(a: Tensor, b: Tensor) -> Tensor:
    """The products of pairs of matrices, (N, n, k) and (N, k, m).  torch.bmm; ShapeError for anything else."""
    _of_axes("bmm", a, b, 3, 3)
    if a.shape[0] != b.shape[0]:
        raise ShapeError(f"bmm: {a.shape[0]} matrices and {b.shape[0]}; batches do not broadcast, use @ for that")
    return matmul(a, b)


@torch_names
def mv(a: Tensor, b: Tensor) -> Tensor:
    """Matrix times vector, (n, k) and (k).  torch.mv; ShapeError for anything else."""
    _of_axes("mv", a, b, 2, 1)
    return matmul(a, b)


def _added(x: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta x + alpha product; with beta = 0 x does not count, whatever it holds."""
    product = product if alpha == 1 else product * alpha
    return product + (x if beta == 1 else x * beta) if beta != 0 else product


def addmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha a @ b, of matrices.  torch.addmm."""
    return _added(x, mm(a, b), beta, alpha)


def addmv(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha a @ b, of a matrix and a vector.  torch.addmv."""
    return _added(x, mv(a, b), beta, alpha)


def addr(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha times the outer product of two vectors.  torch.addr."""
    return _added(x, outer(a, b), beta, alpha)


def baddbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha a @ b, of batches of matrices.  torch.baddbmm."""
    return _added(x, bmm(a, b), beta, alpha)


def addbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha times the sum of a @ b over the batch.  torch.addbmm."""
    return _added(x, sum_(bmm(a, b), axis=0), beta, alpha)


ger, vdot = outer, dot


@torch_names
def inner(a: Tensor, b: Tensor) -> Tensor:
    """Sums of products along the last axes: all pairs of rows.  torch.inner, numpy.inner."""
    if not a.ndim or not b.ndim:
        return a * b
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"inner: the last axes of {a.shape} and {b.shape} differ")
    return tensordot(a, b, ([-1], [-1]))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over the last `dims` axes of a and the first of b, or over the axes in two lists.

    torch.tensordot, numpy.tensordot.
    """
    if isinstance(dims, int):
        dims = range(a.ndim - dims, a.ndim), range(dims)
    mine, theirs = ([one_axis(d, x.ndim) for d in part] for x, part in zip((a, b), dims, strict=True))
    for d, e in zip(mine, theirs, strict=True):                # a length of 1 goes with all, as in PyTorch
        a, b = (sum_(a, axis=d, keepdims=True), b) if b.shape[e] == 1 else (a, sum_(b, axis=e, keepdims=True)) \
            if a.shape[d] == 1 else (a, b)
    if [a.shape[d] for d in mine] != [b.shape[d] for d in theirs]:
        raise ShapeError(f"tensordot: axes {mine} of {a.shape} and {theirs} of {b.shape} have other lengths")
    kept, others = ([d for d in range(x.ndim) if d not in part] for x, part in ((a, mine), (b, theirs)))
    n = math.prod(a.shape[d] for d in mine)
    shape = [a.shape[d] for d in kept], [b.shape[d] for d in others]
    left = permute(a, axes=(*kept, *mine)).reshape(math.prod(shape[0]), n)
    return (left @ permute(b, axes=(*theirs, *others)).reshape(n, math.prod(shape[1]))).reshape(*shape[0], *shape[1])


@torch_names
def kron(a: Tensor, b: Tensor) -> Tensor:
    """Kronecker's product: b in place of each value of a, times it.  torch.kron, numpy.kron."""
    n = max(a.ndim, b.ndim)
    first, second = ((1,) * (n - x.ndim) + x.shape for x in (a, b))
    pairs = a.reshape(tuple(k for m in first for k in (m, 1))) * b.reshape(tuple(k for m in second for k in (1, m)))
    return pairs.reshape(tuple(m * k for m, k in zip(first, second, strict=True)))


def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal, zeros elsewhere; vectors count as rows.  torch.block_diag."""
    blocks = [x.reshape(1, -1) if x.ndim < 2 else x for x in tensors]
    if any(x.ndim != 2 for x in blocks):
        raise ShapeError(f"block_diag: matrices are needed, got {[x.shape for x in tensors]}")
    width, at, rows = sum(x.shape[1] for x in blocks), 0, []
    for x in blocks:
        rows.append(pad_constant(x, widths=((0, 0), (at, width - at - x.shape[1]))))
        at += x.shape[1]
    return concat(rows)


@torch_names
def cross(a: Tensor, b: Tensor, axis: int | None = None) -> Tensor:
    """The cross product of vectors of length 3 along axis (the first of length 3 by default).  torch.cross."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    axis = next((i for i, n in enumerate(shape) if n == 3), -1) if axis is None else axis
    axis = one_axis(axis, len(shape))
    if not shape or shape[axis] != 3:
        raise ShapeError(f"cross: vectors of length 3 are needed along axis {axis} of {shape}")
    p, q = ([x.expand(shape).select(axis, i) for i in range(3)] for x in (a, b))
    return stack([p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]], axis)


def cdist(a: Tensor, b: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norms of all differences of rows: (..., n, d), (..., m, d) -> (..., n, m).  torch.cdist.

    compute_mode changes nothing: the differences are taken, which is the accurate way.
    """
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"cdist: rows of one length are needed, got {a.shape} and {b.shape}")
    return norm(a.unsqueeze(-2) - b.unsqueeze(-3), p, -1)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, in the order that takes fewest multiplications.  torch.linalg.multi_dot."""
    if not matrices:
        raise ArgumentError("chain_matmul: at least one matrix is needed")
    terms = [ascii_letters[i:i + 2] for i in range(len(matrices))]
    return einsum(f"{','.join(terms)}->{terms[0][0]}{terms[-1][1]}", *matrices)
