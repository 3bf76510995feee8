"""How axes are named: None for all, a number, or a tuple; negative ones count from the end, as in NumPy."""

from collections.abc import Sequence

from ..errors import ShapeError


def normalize_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """None, a number or a tuple of numbers -> sorted axes in 0..ndim-1."""
    axes = range(ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    for a in axes:
        if not -ndim <= a < max(ndim, 1):
            raise ShapeError(f"axis {a} is out of range for a tensor with {ndim} axes")
    found = sorted(a % ndim if ndim else 0 for a in axes) if ndim else []
    if len(set(found)) != len(found):
        raise ShapeError(f"axis {axis} names the same axis twice")
    return tuple(found)
