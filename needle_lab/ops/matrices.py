"""Matrices: solving, inverses and determinants, factorizations, norms.  The last two axes are a matrix, the others a batch.

Under PyTorch's names they are the room `ndl.linalg`. The rules are those of Giles (2008), "Collected matrix derivative
results for forward and reverse mode algorithmic differentiation". A factorization's gradient is only defined where its
factors are: of eigenvectors, where no two eigenvalues are equal.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import creation
from ..core.graph import op
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..core.types import Array, DTypeLike, Gradients, Outputs, Shape
from ..errors import ArgumentError, GraphError, ShapeError
from . import products, reduce
from .axes import one_axis, torch_names
from .elementwise import abs, log, where
from .linalg import matmul
from .reduce import sum as sum_
from .reduce import vector_norm
from .shape import concat, diagonal, permute, stack, tril, triu, unsqueeze, zeros_like


class Slogdet(NamedTuple):
    """torch.return_types.linalg_slogdet."""

    sign: Tensor
    logabsdet: Tensor


class Factors(NamedTuple):
    """torch.return_types.linalg_qr."""

    Q: Tensor
    R: Tensor


class Singular(NamedTuple):
    """torch.return_types.linalg_svd."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class Eigen(NamedTuple):
    """torch.return_types.linalg_eigh."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class Checked(NamedTuple):
    """A result, and 0 for each matrix with which it went well.  torch.return_types.linalg_inv_ex, ..."""

    result: Tensor
    info: Tensor


class Least(NamedTuple):
    """torch.return_types.linalg_lstsq."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def _found(function: Callable[..., Any], *arrays: Array, **options: Any) -> Any:
    """NumPy's answer, or an error that says what to do."""
    try:
        return function(*arrays, **options)
    except np.linalg.LinAlgError as error:
        raise ArgumentError(f"{function.__name__}: {error}, of shape {arrays[0].shape}; pinv and lstsq take any matrix"
                            ) from error


def _eye(n: int) -> Array:
    return np.eye(n, dtype=bool)

# --- solving ------------------------------------------------------------------------------------------------------------


@op(promote="float")
def inv(x: Array) -> Array:
    """The inverse.  torch.linalg.inv; ArgumentError for a singular matrix."""
    return _found(np.linalg.inv, x)


@inv.gradient
def inv_gradient(g: Tensor, y: Tensor) -> Tensor:
    return -(y.mT @ g @ y.mT)


inverse = inv


@op(promote="float")
def solve_(a: Array, b: Array) -> Array:
    """The x with a @ x = b, of matrices."""
    return _found(np.linalg.solve, a, b)


@solve_.gradient
def solve_gradient(wants: Sequence[bool], g: Tensor, y: Tensor, a: Tensor) -> Gradients:
    to_b = solve_(a.mT, g)
    return -(to_b @ y.mT) if wants[0] else None, to_b


def solve(a: Tensor, b: Tensor, *, left: bool = True) -> Tensor:
    """The x with a @ x = b (x @ a = b with left=False); b holds matrices, or one vector for each a.  torch.linalg.solve."""
    if b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1]):
        return solve_(a, unsqueeze(b, -1))[..., 0]
    return solve_(a, b) if left else solve_(a.mT, b.mT).mT


def solve_triangular(a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """`solve`, reading one triangle of a, its diagonal taken as ones if unitriangular.  torch.linalg.solve_triangular."""
    a = triu(a) if upper else tril(a)
    return solve(where(_eye(a.shape[-1]), 1.0, a) if unitriangular else a, b, left=left)


def tensorsolve(a: Tensor, b: Tensor, dims: Shape | None = None) -> Tensor:
    """The x with tensordot(a, x, x.ndim) = b, dims of a moved to its end first.  torch.linalg.tensorsolve."""
    last = [one_axis(axis, a.ndim) for axis in dims or ()]
    a = permute(a, axes=(*(axis for axis in range(a.ndim) if axis not in last), *last))
    shape = a.shape[b.ndim:]
    return solve(a.reshape(b.numel(), math.prod(shape)), b.reshape(-1)).reshape(shape)


def tensorinv(a: Tensor, ind: int = 2) -> Tensor:
    """The inverse for tensordot over ind axes.  torch.linalg.tensorinv."""
    rows = math.prod(a.shape[:ind])
    return inv(a.reshape(rows, -1)).reshape(a.shape[ind:] + a.shape[:ind])


def matrix_power(x: Tensor, n: int) -> Tensor:
    """The matrix times itself n times; of its inverse for n < 0.  torch.linalg.matrix_power."""
    x, n = (inv(x), -n) if n < 0 else (x, n)
    if n == 0:
        return where(np.ones(x.shape, bool), np.eye(x.shape[-1], dtype=x.dtype), x)       # of which x changes nothing
    half = matrix_power(x, n // 2) if n > 1 else x
    return x if n == 1 else half @ half @ x if n % 2 else half @ half

# --- determinants ---------------------------------------------------------------------------------------------------------


@op(promote="float")
def det(x: Array) -> Array:
    """The determinant.  torch.linalg.det."""
    return np.linalg.det(x)


@det.gradient
def det_gradient(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The cofactors: y times the inverse, or, of singular matrices, from the singular values without dividing."""
    g, y = unsqueeze(g, (-2, -1)), unsqueeze(y, (-2, -1))
    if (y.numpy() != 0).all():
        return g * y * inv(x).mT
    u, s, vh = svd_(x, full=False)
    others = reduce.prod(where(_eye(x.shape[-1]), 1.0, unsqueeze(s, -2)), axis=-1)
    return g * unsqueeze((det(u) * det(vh)).detach(), (-2, -1)) * ((u * unsqueeze(others, -2)) @ vh)


@op(promote="float")
def slogdet_(x: Array) -> tuple[Array, ...]:
    """-> (sign, logarithm of the absolute value) of the determinant."""
    return tuple(np.linalg.slogdet(x))


@slogdet_.gradient
def slogdet_gradient(g: Outputs, x: Tensor) -> Tensor:
    return zeros_like(x) if g[1] is None else unsqueeze(g[1], (-2, -1)) * inv(x).mT


def slogdet(x: Tensor) -> Slogdet:
    """-> (sign, logarithm of the absolute value) of the determinant, which may overflow itself.  torch.linalg.slogdet."""
    return Slogdet(*slogdet_(x))


def logdet(x: Tensor) -> Tensor:
    """log(det(x)); nan where the determinant is negative.  torch.logdet."""
    sign, size = slogdet_(x)
    return size + log(where(sign == 0, 1.0, sign.detach()))

# --- factorizations -------------------------------------------------------------------------------------------------------


@op(promote="float")
def cholesky_(x: Array) -> Array:
    """The lower triangular L with L @ L.mT = (x + x.mT) / 2."""
    return _found(np.linalg.cholesky, 0.5 * (x + x.mT))


@cholesky_.gradient
def cholesky_gradient(g: Tensor, y: Tensor) -> Tensor:
    half = tril(y.mT @ g) * (1.0 - 0.5 * np.eye(y.shape[-1], dtype=y.dtype))
    to_x = solve_(y.mT, solve_(y.mT, half.mT).mT)                     # L^-T half L^-1
    return 0.5 * (to_x + to_x.mT)


def _symmetric(x: Tensor, upper: bool = False) -> Tensor:
    """The symmetric matrix with this triangle of x; its gradient is symmetric, as of an x that is."""
    with no_grad():
        whole = triu(x) + triu(x, 1).mT if upper else tril(x) + tril(x, -1).mT
    half = 0.5 * (x + x.mT)
    return half + (whole - half.detach())


def cholesky(x: Tensor, upper: bool = False) -> Tensor:
    """The lower triangular L with L @ L.mT = x, symmetric and positive definite; upper: L.mT.  torch.linalg.cholesky."""
    lower = cholesky_(_symmetric(x, upper))
    return lower.mT if upper else lower


@op(promote="float")
def qr_(x: Array, *, mode: str) -> tuple[Array, ...]:
    """-> (Q with orthonormal columns, upper triangular R), Q @ R = x; mode: "reduced" or "complete"."""
    return tuple(_found(np.linalg.qr, x, mode=mode))


@qr_.gradient
def qr_gradient(g: Outputs, y: Outputs, x: Tensor, mode: str) -> Tensor:
    q, r = y
    if not x.numel():
        return zeros_like(x)
    if q.shape[-1] != x.shape[-1]:
        raise GraphError(f"backward through qr: of {x.shape}, with mode={mode!r}, x does not determine Q; use 'reduced'")
    to_q, to_r = (zeros_like(b) if a is None else a for a, b in zip(g, y, strict=True))
    m = r @ to_r.mT - to_q.mT @ q
    return solve_(r, (to_q + q @ (tril(m) + tril(m, -1).mT)).mT).mT


def qr(x: Tensor, mode: str = "reduced") -> Factors:
    """-> (Q with orthonormal columns, upper triangular R), Q @ R = x.  torch.linalg.qr.

    mode: "reduced", "complete" (Q square, without a gradient for tall x), "r" (R alone, Q empty).
    """
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(f"qr: mode={mode!r} is none of 'reduced', 'complete', 'r'")
    rows, columns = x.shape[-2:]
    if rows < columns:                                                # of a wide matrix the first columns decide
        q, r = qr_(x[..., :rows], mode="reduced")
        r = concat([r, q.mT @ x[..., rows:]], axis=-1)
    else:
        q, r = qr_(x, mode="complete" if mode == "complete" else "reduced")
    return Factors(q.detach().reshape(-1)[:0] if mode == "r" else q, r)


@op(promote="float")
def svd_(x: Array, *, full: bool) -> tuple[Array, ...]:
    """-> (U, S, Vh) with x = U diag(S) Vh, S falling; full: U and Vh square."""
    return tuple(_found(np.linalg.svd, x, full_matrices=full))


@svd_.gradient
def svd_gradient(g: Outputs, y: Outputs, x: Tensor) -> Tensor:
    k = min(x.shape[-2:])
    to_u, to_s, to_vh = g
    u, s, vh = y[0][..., :k], y[1], y[2][..., :k, :]
    inner = zeros_like(u.mT @ u) if to_s is None else _on_diagonal(to_s)
    gaps, column = unsqueeze(s * s, -2) - unsqueeze(s * s, -1), unsqueeze(s, -2)
    gaps = where(_eye(k), 1.0, gaps)
    result: Any = 0.0
    if to_u is not None:
        to_u = to_u[..., :k]
        m = u.mT @ to_u
        inner = inner + (m - m.mT) / gaps * column
        if x.shape[-2] > k:
            result = result + ((to_u - u @ m) / column) @ vh
    if to_vh is not None:
        to_v = to_vh[..., :k, :].mT
        m = vh @ to_v
        inner = inner + unsqueeze(s, -1) * ((m - m.mT) / gaps)
        if x.shape[-1] > k:
            result = result + u @ ((to_v - vh.mT @ m) / column).mT
    slope: Tensor = result + u @ inner @ vh
    return slope


def _on_diagonal(x: Tensor) -> Tensor:
    return where(_eye(x.shape[-1]), unsqueeze(x, -2), 0.0)


def svd(x: Tensor, full_matrices: bool = True) -> Singular:
    """-> (U, S, Vh) with x = U diag(S) Vh: orthonormal columns, falling values, orthonormal rows.  torch.linalg.svd."""
    return Singular(*svd_(x, full=full_matrices))


def svdvals(x: Tensor) -> Tensor:
    """The singular values, falling.  torch.linalg.svdvals."""
    return svd_(x, full=False)[1]


@op(promote="float")
def eigh_(x: Array) -> tuple[Array, ...]:
    """-> (rising eigenvalues, eigenvectors as columns) of (x + x.mT) / 2."""
    return tuple(_found(np.linalg.eigh, 0.5 * (x + x.mT)))


@eigh_.gradient
def eigh_gradient(g: Outputs, y: Outputs) -> Tensor:
    (to_values, to_vectors), (values, vectors) = g, y
    inner: Any = 0.0 if to_values is None else _on_diagonal(to_values)
    if to_vectors is not None:
        gaps = where(_eye(values.shape[-1]), 1.0, unsqueeze(values, -2) - unsqueeze(values, -1))
        inner = inner + where(_eye(values.shape[-1]), 0.0, vectors.mT @ to_vectors / gaps)
    slope: Tensor = vectors @ inner @ vectors.mT
    return 0.5 * (slope + slope.mT)


def eigh(x: Tensor, UPLO: str = "L") -> Eigen:  # noqa: N803
    """-> (rising eigenvalues, eigenvectors as columns) of a symmetric x; one triangle is read.  torch.linalg.eigh."""
    if UPLO.upper() not in ("L", "U"):
        raise ArgumentError(f"eigh: UPLO={UPLO!r} is neither 'L' nor 'U'")
    return Eigen(*eigh_(_symmetric(x, UPLO.upper() == "U")))


def eigvalsh(x: Tensor, UPLO: str = "L") -> Tensor:  # noqa: N803
    """The rising eigenvalues of a symmetric matrix.  torch.linalg.eigvalsh."""
    return eigh(x, UPLO)[0]

# --- of any matrix --------------------------------------------------------------------------------------------------------


@op(promote="float")
def pinv_(x: Array, *, atol: float, rtol: float, hermitian: bool = False) -> Array:
    """The pseudo-inverse, singular values up to max(atol, rtol * the largest) being 0; hermitian: of x's lower triangle."""
    x = np.tril(x) + np.tril(x, -1).mT if hermitian else x
    u, s, vh = _found(np.linalg.svd, x, full_matrices=False)
    kept = s > np.maximum(atol, rtol * s.max(-1, keepdims=True, initial=0.0))
    inverse = np.divide(1.0, s, where=kept, out=np.zeros_like(s))
    return (vh.mT * inverse[..., None, :]) @ u.mT


@pinv_.gradient
def pinv_gradient(g: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Golub and Pereyra (1973), "The differentiation of pseudo-inverses"."""
    k = g.mT @ y
    ky = k @ y.mT
    return -(y @ k).mT + ky - (x @ y) @ ky + (y.mT @ y) @ (g.mT - k @ x)


def _limits(x: Tensor, atol: float | None, rtol: float | None) -> tuple[float, float]:
    """What counts as 0: by default rtol is the rounding of the longer side."""
    loose = max(x.shape[-2:]) * float(np.finfo(np.result_type(x.dtype, np.float32)).eps)
    return float(atol or 0.0), float(rtol if rtol is not None else 0.0 if atol else loose)


def pinv(x: Tensor, *, atol: float | None = None, rtol: float | None = None, rcond: float | None = None,
         hermitian: bool = False) -> Tensor:
    """The pseudo-inverse (Moore and Penrose) of any matrix.  torch.linalg.pinv; rcond is rtol."""
    atol, rtol = _limits(x, atol, rtol if rcond is None else rcond)
    return pinv_(x, atol=atol, rtol=rtol, hermitian=hermitian)


def pinverse(x: Tensor, rcond: float = 1e-15) -> Tensor:
    """`pinv` with rcond times the largest singular value as the limit of 0.  torch.pinverse."""
    return pinv(x, rtol=rcond)


def matrix_rank(x: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values exceed max(atol, rtol * the largest).  torch.linalg.matrix_rank."""
    s = np.linalg.svd((_symmetric(x) if hermitian else x).detach().numpy(), compute_uv=False)
    atol, rtol = (np.asarray(t)[..., None] if t is not None else None for t in (atol if tol is None else tol, rtol))
    loose = _limits(x, None, None)[1]
    rtol = rtol if rtol is not None else loose if atol is None else np.where(atol > 0, 0.0, loose)
    return Tensor((s > np.maximum(0.0 if atol is None else atol, rtol * s.max(-1, keepdims=True, initial=0.0))).sum(-1))


def lstsq(a: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Least:
    """The x with the least |a @ x - b|, and of those the shortest.  torch.linalg.lstsq.

    The driver changes nothing but what is told: by all but "gels" the ranks, by "gelsd" and "gelss" the singular values,
    by all but "gelsy" (the default) the sums of squares that are left, of tall matrices of full rank; else these are empty.
    """
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    columns = unsqueeze(b, -1) if vector else b
    x = pinv(a, rcond=rcond) @ columns
    rank, (rows, width) = matrix_rank(a, rtol=rcond), a.shape[-2:]
    tall = driver not in (None, "gelsy") and rows > width and bool((rank == width).numpy().all())
    rest = sum_((a @ x - columns) ** 2, axis=-2)
    rest = rest if tall else rest.reshape(-1)[:0]
    values = svdvals(a.detach()) if driver in ("gelsd", "gelss") else creation.empty(0, dtype=x.dtype)
    return Least(x[..., 0] if vector else x, rest, creation.empty(0, dtype="int64") if driver == "gels" else rank, values)

# --- norms ----------------------------------------------------------------------------------------------------------------


@torch_names
def matrix_norm(x: Tensor, ord: float | str = "fro", axis: Any = (-2, -1), keepdims: bool = False,
                dtype: DTypeLike | None = None) -> Tensor:
    """ "fro", "nuc" (sum of the singular values), 2, -2 (the largest, the smallest), 1, -1, inf, -inf (the largest, the
    smallest sum of absolute values of a column, of a row).  torch.linalg.matrix_norm."""
    x = x if dtype is None else x.astype(dtype)
    if len(axis) != 2 or ord not in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise ArgumentError(f"matrix_norm: ord={ord!r} over axes {axis} is not supported")
    first, second = (one_axis(a, x.ndim) for a in axis)
    if ord == "fro":
        return vector_norm(x, axis=(first, second), keepdims=keepdims)
    rest = [a for a in range(x.ndim) if a not in (first, second)]
    m = permute(x, axes=(*rest, first, second))
    if ord in ("nuc", 2, -2):
        s = svdvals(m)
        y = sum_(s, axis=-1) if ord == "nuc" else (reduce.max if ord == 2 else reduce.min)(s, axis=-1)
    else:
        sums = sum_(abs(m), axis=-2 if ord in (1, -1) else -1)
        y = (reduce.max if ord > 0 else reduce.min)(sums, axis=-1)                  # type: ignore[operator]
    return y.reshape(tuple(1 if a in (first, second) else n for a, n in enumerate(x.shape))) if keepdims else y


@torch_names
def matrix_or_vector_norm(x: Tensor, ord: Any = None, axis: Any = None, keepdims: bool = False,
                          dtype: DTypeLike | None = None) -> Tensor:
    """`matrix_norm` over two axes (or of a matrix, where ord is given and axis is not), else `norm`.  torch.linalg.norm."""
    if ord is not None and ((axis is None and x.ndim == 2) or (isinstance(axis, Sequence) and len(axis) == 2)):
        return matrix_norm(x, ord, (-2, -1) if axis is None else axis, keepdims, dtype)
    return reduce.norm(x, 2 if ord is None else ord, axis, keepdims, dtype)


@torch_names
def norm(x: Tensor, p: float | str = 2, axis: Any = None, keepdims: bool = False, dtype: DTypeLike | None = None) -> Tensor:
    """The p-norm of the values along axis; "fro" is 2, "nuc" the sum of a matrix's singular values.  torch.norm."""
    if p == "nuc":
        return matrix_norm(x, "nuc", (-2, -1) if axis is None else axis, keepdims, dtype)
    return reduce.norm(x, p, tuple(axis) if isinstance(axis, list) else axis, keepdims, dtype)


def cond(x: Tensor, p: float | str | None = None) -> Tensor:
    """How much solving with x multiplies an error: norm(x) * norm(inv(x)); inf if singular.  torch.linalg.cond."""
    if p in (None, 2, -2):
        s = svdvals(x)
        return s[..., 0] / s[..., -1] if p != -2 else s[..., -1] / s[..., 0]
    if (np.linalg.det(x.detach().numpy()) == 0).any():
        return Tensor(np.full(x.shape[:-2], np.inf, x.dtype))
    return matrix_norm(x, p or "fro") * matrix_norm(inv(x), p or "fro")

# --- products of vectors and matrices -------------------------------------------------------------------------------------


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of matrices, the first and the last of which may be vectors.  torch.linalg.multi_dot."""
    if len(tensors) < 2 or any(t.ndim != 2 for t in tensors[1:-1]) or any(t.ndim not in (1, 2) for t in tensors):
        raise ShapeError(f"multi_dot: two matrices or more are needed, got {[t.shape for t in tensors]}")
    return functools.reduce(matmul, tensors)


@torch_names
def vecdot(a: Tensor, b: Tensor, *, axis: int = -1) -> Tensor:
    """The inner products of vectors along axis.  torch.linalg.vecdot."""
    return sum_(a * b, axis=axis)


@torch_names
def cross_of_last(a: Tensor, b: Tensor, *, axis: int = -1) -> Tensor:
    """The cross product of vectors of length 3 along axis.  torch.linalg.cross."""
    return products.cross(a, b, axis)


def diagonal_of_last(x: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of the last two axes, as a last axis.  torch.linalg.diagonal."""
    return diagonal(x, offset, dim1, dim2)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:  # noqa: N803
    """The powers 0 .. N - 1 of each value along a new last axis.  torch.linalg.vander."""
    x = x if x.ndim else x.reshape(1)
    return stack([x ** i for i in range(x.shape[-1] if N is None else N)], -1)
