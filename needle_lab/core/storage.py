"""What tensors share: the memory that values lie in, and the note of when they were last changed in place."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .modes import leaving

serial = itertools.count(1)      # numbers calls and in-place writes alike: what was written after a call has a higher one


class Storage:
    """What a tensor shares with its views: the number of the last change in place of their values (0: none)."""

    written = 0
    last = 0                     # of the last change of any tensor


def written(x: Any) -> None:
    """Note that the values of tensor x were changed in place, so that backward can tell."""
    x.storage.written = Storage.last = next(serial)
    leaving(x)


def memory_of(data: Any) -> Any:
    """The array (or the device's memory) that values lie in, which views share."""
    if not isinstance(data, np.ndarray):
        return data.memory
    while isinstance(base := data.base, np.ndarray):
        data = base
    return data
