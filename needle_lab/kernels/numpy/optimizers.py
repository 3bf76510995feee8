"""A step over many parameters: small ones side by side in flat arrays, large ones by blocks that stay in the cache.

So a step reads and writes each number once, and its calls do not cost more than the values of a small layer. Threads share
each large parameter, and the others among them.
"""

from typing import Any

import numpy as np

from ...core.dtypes import float32, float64
from ...core.modes import no_grad
from ...core.storage import written
from ...core.tensor import Tensor
from ...core.tiers import kernel
from ...optim import Optimizer
from .threads import VALUES, get_num_threads, parallel, shares

BLOCK = 1 << 17              # values that are updated at a time: with all moments within the last cache; measured
JOINED = 1 << 12             # values: parameters up to this size are updated together


@kernel(Optimizer._change, "numpy")
def change_in_blocks(optimizer: Optimizer, many: list[list[Tensor]], *, step: int, group: dict[str, Any]) -> None:
    small: dict[Any, list[list[Tensor]]] = {}
    large, rest = [], []
    for tensors in many:
        dtype = _plain_dtype(tensors)
        if dtype is None:                                        # another device, another layout, mixed or narrow dtypes
            rest.append(tensors)
        elif tensors[0].data.size <= JOINED:
            small.setdefault(dtype, []).append(tensors)
        else:
            large.append(tensors)
    for alike in small.values():
        _change_together(optimizer, alike, step, group)
    if get_num_threads() > 1 and sum(tensors[0].data.size for tensors in large) >= VALUES:
        parallel(lambda tensors: _change_one(optimizer, tensors, step, group), [t for t in large if t[0].data.size < VALUES])
        large = [t for t in large if t[0].data.size >= VALUES]
    for tensors in large:
        _change_one(optimizer, tensors, step, group)
    if rest:
        Optimizer._change.definition(optimizer, rest, step=step, group=group)


def _plain_dtype(tensors: list[Tensor]) -> Any:
    """float32 or float64, if all are contiguous numpy arrays of it; else None."""
    dtype = tensors[0].data.dtype
    if dtype is not float32 and dtype is not float64:
        return None
    for t in tensors:
        data = t.data
        if type(data) is not np.ndarray or data.dtype is not dtype or not data.flags.c_contiguous:
            return None
    return dtype


def _change_together(optimizer: Optimizer, many: list[list[Tensor]], step: int, group: dict[str, Any]) -> None:
    """One update for all, as each call costs more than its values."""
    if len(many) == 1:
        optimizer._update(*[t.data for t in many[0]], step=step, group=group)
    else:
        columns = list(zip(*many, strict=True))                   # all parameters, all gradients, all first moments, ...
        flat = [np.concatenate([t.data for t in column], axis=None) for column in columns]
        optimizer._update(*flat, step=step, group=group)
        for column, values in [(columns[0], flat[0]), *zip(columns[2:], flat[2:], strict=True)]:
            start = 0
            for t in column:
                data = t.data
                stop = start + data.size
                data[...] = values[start:stop].reshape(data.shape)
                start = stop
    for tensors in many:
        written(tensors[0])


@no_grad()
def _change_one(optimizer: Optimizer, tensors: list[Tensor], step: int, group: dict[str, Any]) -> None:
    flat = [x.data.reshape(-1) for x in tensors]

    def some(at: slice) -> None:
        for start in range(at.start, at.stop, BLOCK):
            optimizer._update(*[x[start:min(start + BLOCK, at.stop)] for x in flat], step=step, group=group)
    parallel(some, shares(flat[0].size, flat[0].size))
    written(tensors[0])
