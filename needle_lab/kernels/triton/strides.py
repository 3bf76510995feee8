"""Layouts: where element (i, j, ...) of an array lies, counted in elements, is offset + i * stride0 + j * stride1 + ...

Broadcasting is a stride of 0, a transpose exchanges two strides, a reversed axis has a negative one: none of these
moves a value. Kernels number the elements of an array 0, 1, 2, ... in row-major order; `layout.place` turns such a
number into a place in memory. The fewer axes, the fewer divisions that takes: `merge` joins axes that lie like one.
"""

from __future__ import annotations

import math

Sizes = tuple[int, ...]


def row_major(shape: Sizes) -> Sizes:
    """The strides of a dense array: the last axis is contiguous."""
    return tuple(math.prod(shape[axis + 1:]) for axis in range(len(shape)))


def is_dense(shape: Sizes, strides: Sizes) -> bool:
    """Whether the elements lie one after the other in row-major order (axes of length 1 may have any stride)."""
    return not math.prod(shape) or all(n == 1 or s == d for n, s, d in zip(shape, strides, row_major(shape), strict=True))


def broadcast(shape: Sizes, strides: Sizes, target: Sizes) -> Sizes:
    """The strides with which an array of `shape` is read as one of shape `target`."""
    new = len(target) - len(shape)
    return (0,) * new + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def merge(shape: Sizes, *strides: Sizes) -> tuple[Sizes, ...]:
    """Axes of length 1 dropped, neighbours that lie like one axis joined, in all given layouts of this shape at once.

    -> (shape, strides of each layout); at least one axis is left. Dense arrays of one shape become one long axis.
    """
    axes: list[tuple[int, ...]] = []                    # (length, stride in each layout)
    for axis in zip(shape, *strides, strict=True):
        n, *steps = axis
        if n == 1:
            continue
        if axes and all(before == step * n for before, step in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = (axes[-1][0] * n, *steps)
        else:
            axes.append(axis)
    return tuple(zip(*(axes or [(1,) + (0,) * len(strides)]), strict=True))


def split(shape: Sizes, strides: Sizes, target: Sizes) -> Sizes | None:
    """Strides that show the same elements in shape `target`, or None where that needs a copy."""
    if is_dense(shape, strides):
        return row_major(target)
    lengths, steps = merge(shape, strides)
    blocks = list(zip(lengths, steps, strict=True))
    result: list[int] = []
    for n in reversed(target):                          # cut each merged axis from its fast end
        length, step = blocks[-1] if blocks else (1, 0)
        if length % n:
            return None
        result.append(step)
        if n > 1:
            blocks[-1:] = [(length // n, step * n)] if length > n else []
    return tuple(reversed(result))
