"""How axes are named: None for all, a number, or a tuple; negative ones count from the end, as in NumPy.

Ops say axis and keepdims, as NumPy; every op also takes PyTorch's dim and keepdim, and `torch_names` does the same for a
function that is made of ops.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..core.calls import parameters, renamed
from ..errors import ShapeError

F = TypeVar("F", bound=Callable[..., Any])


def torch_names(function: F) -> F:
    """A function that also takes its arguments under PyTorch's names: dim, keepdim, input (the first), other (the second).

    >>> from needle_lab.ops.axes import torch_names
    >>> @torch_names
    ... def count(x, axis=None):
    ...     return x.shape[axis]
    >>> count(input=ndl.zeros(2, 3), dim=1)
    3
    """
    names, keywords, _, _ = parameters(inspect.unwrap(function))
    known = {*names, *keywords}

    @functools.wraps(function)
    def renaming(*args: Any, **given: Any) -> Any:
        if given and not known >= given.keys():
            given = renamed(given, names, keywords)
        return function(*args, **given)
    return renaming                                                 # type: ignore[return-value]


def one_axis(axis: int, ndim: int) -> int:
    """A number that names one axis -> 0..ndim-1; of a tensor without axes 0 and -1 both are 0, as in PyTorch."""
    return normalize_axes(axis, max(ndim, 1))[0]


def normalize_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """None, a number or a tuple of numbers -> sorted axes in 0..ndim-1."""
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, (int, np.integer)) else axis
    for a in axes:
        if not -max(ndim, 1) <= a < max(ndim, 1):             # a tensor without axes has one, of length 1, as in PyTorch
            raise ShapeError(f"axis {a} is out of range for a tensor with {ndim} axes")
    found = sorted(a % ndim if ndim else 0 for a in axes) if ndim else []
    if len(set(found)) != len(found):
        raise ShapeError(f"axis {axis} names the same axis twice")
    return tuple(found)
