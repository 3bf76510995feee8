"""Nested Python values <-> JSON plus named arrays: how optimizer state, history and extras go into a checkpoint.

JSON has no tuples, no numbers as keys, and no arrays; each is written as an object with one key that starts with "$".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError, FileFormatError

DEEPEST = 100      # levels of nesting; something that contains itself has no end


def pack(value: Any, name: str, arrays: dict[str, np.ndarray], depth: int = 0) -> Any:
    """Turn `value` into JSON values; arrays and tensors go into `arrays` under names that begin with `name`.

    Raises ArgumentError, naming the place, for anything but None, bool, int, float, str, list, tuple, dict, numpy
    arrays and numbers, and tensors.
    """
    if depth > DEEPEST:
        raise ArgumentError(f"{name[:80]}... is nested more than {DEEPEST} levels deep; does it contain itself?")
    if isinstance(value, np.generic) and value.dtype.kind in "biufV":
        return value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Tensor):
        return {"$tensor": _store(value.numpy(), name, arrays), "device": str(value.device)}
    if isinstance(value, np.ndarray):
        return {"$array": _store(value, name, arrays)}
    if isinstance(value, (list, tuple)):
        packed = [pack(item, f"{name}/{i}", arrays, depth + 1) for i, item in enumerate(value)]
        return packed if isinstance(value, list) else {"$tuple": packed}
    if isinstance(value, dict):
        pairs = [[key, pack(item, f"{name}/{key}", arrays, depth + 1)] for key, item in value.items()]
        if all(type(key) is str and not key.startswith("$") for key in value):
            return dict(pairs)
        keys = [pack(key, f"{name}/key", arrays, depth + 1) for key in value]
        return {"$dict": [[key, item] for key, (_, item) in zip(keys, pairs, strict=True)]}
    raise ArgumentError(f"{name[:200]} is a {type(value).__name__}; a checkpoint holds plain values, lists, dicts, "
                        "arrays and tensors. Save what it is made of, and make it again after loading")


def unpack(value: Any, arrays: dict[str, np.ndarray], place: Callable[[str], str], depth: int = 0) -> Any:
    """What `pack` was given.  `place` maps a saved device name to the device on which tensors are made."""
    if depth > 3 * DEEPEST:            # each level of a value takes up to three of JSON
        raise FileFormatError("the checkpoint is nested deeper than any that is written; it is damaged or made up")
    depth += 1
    if isinstance(value, list):
        return [unpack(item, arrays, place, depth) for item in value]
    if not isinstance(value, dict):
        return value
    kind = next((key for key in value if key.startswith("$")), None)
    if kind is None:
        return {key: unpack(item, arrays, place, depth) for key, item in value.items()}
    content = value[kind]
    try:
        if kind == "$array":
            return arrays[content].copy()
        if kind == "$tensor":
            return Tensor(arrays[content].copy(), device=place(value["device"]))
        if kind == "$tuple":
            return tuple(unpack(item, arrays, place, depth) for item in content)
        if kind == "$dict":
            return {unpack(key, arrays, place, depth): unpack(item, arrays, place, depth) for key, item in content}
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"the checkpoint's {kind} entry {str(content)[:80]} is not in the file") from error
    raise FileFormatError(f"the checkpoint holds an entry of unknown kind {kind!r}; a newer needle_lab wrote it")


def _store(array: np.ndarray, name: str, arrays: dict[str, np.ndarray]) -> str:
    while name in arrays:                              # {1: x, "1": y} would meet
        name += "'"
    arrays[name] = array
    return name
