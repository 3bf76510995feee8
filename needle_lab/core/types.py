"""Short names for what signatures say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike as DTypeLike

from .device import Device

if TYPE_CHECKING:
    from .graph import Op
    from .tensor import Tensor

Array: TypeAlias = np.ndarray[Any, Any] | Any            # numpy answers a question without axes with a scalar
Axis: TypeAlias = int | tuple[int, ...] | None           # one axis, some, or all
Shape: TypeAlias = Sequence[int]                         # a length for each axis
Sizes: TypeAlias = int | Sequence[int]                   # one number for every dimension, or one for each
Pads: TypeAlias = Sequence[tuple[int, int]]              # (before, after) for each dimension
Padding: TypeAlias = Any                                 # a number, one a dimension, pairs, or a word: see `pad_pairs`
DeviceLike: TypeAlias = Device | str | None              # None: the CPU
Decorator: TypeAlias = "Callable[[Callable[..., Any]], Op]"
Outputs: TypeAlias = Any                                 # of a rule: one tensor for each output of its op, or None
Gradients: TypeAlias = "tuple[Tensor | None, ...]"       # what a rule for all inputs answers: one for each
