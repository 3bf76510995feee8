"""torch.linalg's names for matrices: ndl.linalg.solve, svd, norm, ...; what they are stands in `needle_lab.ops.matrices`."""

from typing import Any

import numpy as np

from .core.explain import at_the_door as _at_the_door
from .core.tensor import Tensor
from .ops import matmul
from .ops.matrices import (
    Checked,
    cholesky,
    cond,
    det,
    eigh,
    eigvalsh,
    inv,
    lstsq,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
    tensorinv,
    tensorsolve,
    vander,
    vecdot,
)
from .ops.matrices import cross_of_last as cross
from .ops.matrices import diagonal_of_last as diagonal
from .ops.matrices import matrix_or_vector_norm as norm
from .ops.reduce import vector_norm
from .refused import missing as _missing

__all__ = [
    "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "inv_ex", "lstsq", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_ex",
    "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]


def inv_ex(x: Tensor, *, check_errors: bool = False) -> Checked:
    """-> (inverse, 0 for each matrix).  torch.linalg.inv_ex, but a singular matrix is an error, checked or not."""
    return _checked(inv(x), x)


def solve_ex(a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False) -> Checked:
    """-> (solution, 0 for each matrix).  torch.linalg.solve_ex, but a singular matrix is an error, checked or not."""
    return _checked(solve(a, b, left=left), a)


def cholesky_ex(x: Tensor, *, upper: bool = False, check_errors: bool = False) -> Checked:
    """-> (factor, 0 for each matrix).  torch.linalg.cholesky_ex, but what has none is an error, checked or not."""
    return _checked(cholesky(x, upper), x)


def _checked(result: Tensor, x: Tensor) -> Checked:
    return Checked(result, Tensor(np.zeros(x.shape[:-2], np.int32)))


_at_the_door(globals(), __all__)


def __getattr__(name: str) -> Any:
    raise _missing("linalg", name)
