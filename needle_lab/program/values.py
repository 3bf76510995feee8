"""Values of a program, alone and in structures of lists, tuples and dicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.device import to_host
from ..core.tensor import Tensor


@dataclass(eq=False)
class Value:
    """A value of a program.  shape is None where only the run tells it, or where it is no tensor (text, a sequence)."""

    name: str = ""
    shape: Any = None                    # a tuple, or None; a length that may vary is a `Length`
    dtype: Any = None
    known: bool = False                  # before the program runs: a parameter, a buffer or a constant
    data: Any = None                     # what it is then: a tensor, an array; text, a list or None where shape is None
    path: str = ""                       # of a parameter or buffer, in the module
    varies: bool = False                 # follows from the inputs, so no number taken from it stays true

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return 0 if self.shape is None else math.prod(self.shape) * self.dtype.itemsize

    def array(self) -> np.ndarray:
        """The numbers of a known value, on the host."""
        return to_host(self.data.data) if isinstance(self.data, Tensor) else self.data

    def empty(self) -> np.ndarray:
        """An uninitialised array for it."""
        return np.empty(self.shape, self.dtype)

    def __str__(self) -> str:
        if self.known and (self.shape is None or (not self.path and self.shape == ())):
            return str(self.data if self.shape is None else self.array())
        return self.path or self.name


def known_value(name: str, data: Any) -> Value:
    """A value that is there before the program runs."""
    array = to_host(data.data) if isinstance(data, Tensor) else data
    if isinstance(array, np.ndarray) and array.dtype != object:
        return Value(name, array.shape, array.dtype, True, array)
    return Value(name, known=True, data=data)


def leaves_of(tree: Any) -> Iterator[Value]:
    """The values inside of nested lists, tuples and dicts."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from leaves_of(part)
    elif isinstance(tree, dict):
        yield from leaves_of(list(tree.values()))


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """The same structure, with function(leaf) for each leaf."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):           # a named tuple
        return type(tree)(*(mapped(part, function) for part in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(part, function) for part in tree)
    if isinstance(tree, dict):
        return {name: mapped(part, function) for name, part in tree.items()}
    return function(tree)
