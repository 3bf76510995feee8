"""Plain data to JSON and back, for answers that cross from an untrusted process to a trusted one. Never pickle.

None, booleans, numbers and strings stand for themselves; everything else is an object with one key:

    {"list": [...]}   {"tuple": [...]}   {"dict": [[key, value], ...]}
    {"array": base64, "dtype": "<f8", "shape": [2, 3]}
    {"foreign": "generator"}                                a value that is not data
"""

from __future__ import annotations

import base64
import math
import re
from typing import Any

import numpy as np

from needle_lab.grading.compare import Foreign
from needle_lab.untrusted import checked_shape

MAX_DEPTH = 20
MAX_BITS = 4096                 # of a whole number: 1,200 digits
NUMERIC = "biufc"               # numpy dtype kinds that an answer may have


def encode(value: Any, depth: int = MAX_DEPTH) -> Any:
    """value as JSON-able data. Lists, tuples and dicts of any subclass become plain; tensors become arrays."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) in (int, float):
        return value
    if isinstance(value, (np.integer, np.floating)):
        return int(value) if isinstance(value, np.integer) else float(value)
    if depth == 0:
        return {"foreign": "nesting deeper than 20 levels"}
    if isinstance(value, (list, tuple)):
        return {"list" if isinstance(value, list) else "tuple": [encode(v, depth - 1) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, depth - 1), encode(v, depth - 1)] for k, v in value.items()]}
    if hasattr(value, "__array__") and not isinstance(value, type):
        array = np.asarray(value)
        if array.dtype.kind == "V" and array.dtype.names is None:       # bfloat16 and its like: numbers all the same
            array = array.astype(np.float32)
        if array.dtype.kind in NUMERIC:
            text = base64.b64encode(array.tobytes()).decode("ascii")
            return {"array": text, "dtype": array.dtype.str, "shape": list(array.shape)}
    return {"foreign": type(value).__name__}


def plain(value: Any) -> Any:
    """What would arrive if value were sent: so that instant feedback and the autograder compare the same thing."""
    return decode(encode(value))


def decode(data: Any) -> Any:
    """The value that was encoded. data may come from anyone: what is not exactly the format above raises ValueError."""
    if type(data) is int and data.bit_length() > MAX_BITS:
        raise ValueError(f"a whole number of {data.bit_length():,} bits")
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    match data:
        case {"list": list(items), **rest} if not rest:
            return [decode(v) for v in items]
        case {"tuple": list(items), **rest} if not rest:
            return tuple(decode(v) for v in items)
        case {"dict": list(items), **rest} if not rest:
            return dict(_pair(item) for item in items)
        case {"array": str(text), "dtype": str(dtype), "shape": list(shape), **rest} if not rest:
            return _array(text, dtype, shape)
        case {"foreign": str(name), **rest} if not rest:
            return Foreign(name[:80])
    raise ValueError("this is not an encoded value")


def _pair(item: Any) -> tuple[Any, ...]:
    if not isinstance(item, list) or len(item) != 2:
        raise ValueError("an entry of a dict is a key and a value")
    key = decode(item[0])
    try:
        hash(key)
    except TypeError:
        raise ValueError("a key is text, a number or a tuple of those") from None
    return key, decode(item[1])


def _array(text: str, dtype: str, shape: list[Any]) -> np.ndarray:
    if not re.fullmatch(r"[<>|][biufc]\d{1,2}", dtype):
        raise ValueError("an array holds numbers")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise ValueError("no such dtype") from None
    data = base64.b64decode(text, validate=True)
    lengths = checked_shape(shape, kind.itemsize, len(data))
    if math.prod(lengths) * kind.itemsize != len(data):
        raise ValueError("the shape of an array does not fit its data")
    return np.frombuffer(data, kind).reshape(lengths)
