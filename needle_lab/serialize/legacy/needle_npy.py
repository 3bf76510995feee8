"""Reading `.npy` checkpoints of the original Needle without running them.

The original wrote `np.save(path, {"state_dict": {...}, "signature": ..., "device": ...})`: a pickle, that is, a small
program which by design can call any function. `plain_pickle` reads that program without running it.
"""

from __future__ import annotations

import ast
import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import FileFormatError
from ..tensorfile import opened
from .plain_pickle import read_plain_pickle

MOST_ENTRIES = 100_000
LONGEST_HEADER = 1_000


@dataclass
class NeedleCheckpoint:
    """What an original `.npy` checkpoint held.  state_dict: path -> array; signature, device: as they were written."""

    state_dict: dict[str, np.ndarray]
    signature: Any = None
    device: Any = None
    other: dict[str, Any] = field(default_factory=dict)


def load_needle_npy(path: str | os.PathLike[str]) -> NeedleCheckpoint:
    """Read a checkpoint of the original Needle; nothing in it is executed.

    Nested dicts and lists become dotted paths ("layers.0.weight"). To use it: `model.load_state_dict(c.state_dict)`,
    after renaming and transposing where the original's names and layouts differ.
    Raises FileFormatError (naming what it refused), MissingFileError or StorageError.
    """
    where = os.fspath(path)
    with opened(where) as (file, _):
        content = file.read()
    try:
        value = read_plain_pickle(_pickle_inside(content))
        if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
            value = value.reshape(-1)[0]
        return _checkpoint(value)
    except FileFormatError as error:
        raise FileFormatError(f"{where}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, SyntaxError) as error:
        raise FileFormatError(f"{where} is damaged or made up: {str(error)[:200]}") from error


def _pickle_inside(content: bytes) -> bytes:
    """The pickle in an .npy file of one Python object."""
    if not content.startswith(b"\x93NUMPY"):
        raise FileFormatError("no .npy file; the original Needle's checkpoints begin with \\x93NUMPY")
    wide = 2 if content[6:7] == b"\x01" else 4                          # bytes that give the header's length
    start = 8 + wide
    length = int.from_bytes(content[8:start], "little")
    if length > LONGEST_HEADER:
        raise FileFormatError(f"an .npy header of {length:,} bytes; a checkpoint's has fewer than {LONGEST_HEADER}")
    header = ast.literal_eval(content[start:start + length].decode("latin1").strip())
    if header["descr"] != "|O" or math.prod(header["shape"]) != 1:
        raise FileFormatError(f"a numpy array of {header['descr']} {header['shape']}, not a checkpoint; "
                              "read it with np.load(path)")
    return content[start + length:]


def _checkpoint(value: Any) -> NeedleCheckpoint:
    if not isinstance(value, dict):
        raise FileFormatError(f"a checkpoint is a dict, found {type(value).__name__}")
    if "state_dict" in value:
        other = {key: item for key, item in value.items() if key not in ("state_dict", "signature", "device")}
        state, about = value["state_dict"], {"signature": value.get("signature"), "device": value.get("device")}
    else:
        state, other, about = value, {}, {}
    return NeedleCheckpoint(_flat(state), **about, other=other)


def _flat(state: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    stack, visits = [("", state)], 0
    while stack:
        path, value = stack.pop()
        visits += 1
        if visits > MOST_ENTRIES:
            raise FileFormatError(f"more than {MOST_ENTRIES:,} entries")
        if isinstance(value, (dict, list, tuple)):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            stack.extend((f"{path}.{key}" if path else str(key), item) for key, item in reversed(list(pairs)))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            arrays[path] = value.astype(value.dtype.newbyteorder("="))
        elif isinstance(value, (bool, int, float, np.generic)):
            arrays[path] = np.asarray(value)
        else:
            raise FileFormatError(f"entry {path or 'state_dict'} is a {type(value).__name__}, not an array")
    return arrays
