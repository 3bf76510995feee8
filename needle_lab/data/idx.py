"""The IDX format of MNIST: two zero bytes, a dtype, the number of axes, their lengths, the values (big endian)."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import BinaryIO

import numpy as np

from ..errors import FileFormatError, MissingFileError, StorageError

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_BYTES = 1 << 32          # a header that asks for more is taken for a lie


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, plain or compressed by gzip, in native byte order.

    Raises FileFormatError (wrong beginning, truncated, a header that lies), MissingFileError or StorageError.
    """
    where = os.fspath(path)
    try:
        with open(where, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                return _read(file, where)
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {where}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(f"{where} is damaged or truncated: {error}") from error
    except OSError as error:
        raise StorageError(f"{where} could not be read: {error.strerror or error}") from error


def _read(file: BinaryIO | gzip.GzipFile, where: str) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in DTYPES:
        raise FileFormatError(f"{where} is no IDX file: it begins with {head.hex(' ') or 'nothing'}, expected 00 00, a "
                              f"dtype ({', '.join(f'{code:02x}' for code in DTYPES)}) and the number of axes")
    dtype, axes = np.dtype(DTYPES[head[2]]), head[3]
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise FileFormatError(f"{where} is truncated: it ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
    needed = math.prod(shape) * dtype.itemsize
    if needed > MOST_BYTES or axes > 32:
        raise FileFormatError(f"{where}: its header asks for {needed:,} bytes ({dtype} {shape}); that is no dataset")
    values = file.read(needed + 1)
    if len(values) != needed:
        raise FileFormatError(f"{where}: its header promises {dtype} {shape}, {needed:,} bytes; the file has "
                              f"{f'only {len(values):,}' if len(values) < needed else 'more'}")
    return np.frombuffer(values, dtype).astype(dtype.newbyteorder("=")).reshape(shape)
