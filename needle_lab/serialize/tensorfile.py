"""The safetensors format, read with suspicion: named arrays and text metadata in one file, and nothing to execute.

    8 bytes     length of the header, little endian
    header      JSON: {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}, ...}
    data        the arrays' bytes, in the order of their offsets, without holes

The `safetensors` package reads the header and checks it against itself and against the file's size. What it does not
look at stands here: names that occur twice, booleans other than 0 and 1, and hints in errors. Files written here also
hold a SHA-256 of the whole file, computed with its own 64 digits as zeros, so that one flipped bit anywhere is noticed.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ArgumentError, FileFormatError, MissingFileError, StorageError
from .atomic import replacing

DTYPES = {name: np.dtype(dtype) for name, dtype in {
    "BOOL": "bool", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ENTRY = {"dtype", "shape", "data_offsets"}

LONGEST_HEADER = 100_000_000       # bytes; the limit of the safetensors package
MOST_TENSORS = 100_000             # a header of millions of empty tensors would keep the reader busy for nothing
DIGEST = "needle_lab.sha256"
CHUNK = 1 << 20
BLANK = "0" * 64                   # what stands in the digest's place while it is computed

# What a file is instead, by its first bytes, and what to do about it.
FOREIGN = (
    (b"PK\x03\x04", "a zip archive, as torch.save (.pt, .pth) and np.savez write; it may hold pickles, which can run "
     "code, and is not opened. In PyTorch: safetensors.torch.save_file(torch.load(path, weights_only=True), new_path)"),
    (b"\x93NUMPY", "a numpy .npy file. If the original Needle wrote it: ndl.load_needle_npy(path)"),
    (b"\x80\x02", "a pickle"), (b"\x80\x03", "a pickle"), (b"\x80\x04", "a pickle"), (b"\x80\x05", "a pickle"),
    (b"(dp", "a pickle"), (b"(lp", "a pickle"), (b"cos\n", "a pickle"), (b"c__builtin__", "a pickle"),
    (b"\x89HDF", "an HDF5 file; open it with h5py and save its arrays with safetensors.numpy.save_file"),
    (b"GGUF", "a GGUF file; convert it to safetensors first"),
    (b"\x08", "perhaps an ONNX model: ndl.onnx.load(path)"),
)
PICKLE_ADVICE = ("; it can run any code when loaded and is not opened. Load it where you trust it, and save the arrays "
                 "with safetensors.numpy.save_file")


@dataclass
class TensorFile:
    """What a file holds.  arrays: name -> read-only array (views of one block of memory)."""

    path: str
    metadata: dict[str, str]
    arrays: dict[str, np.ndarray]


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write named arrays and metadata as one file, atomically.  Raises ArgumentError or StorageError.

    The arrays go from their memory to the disk and stay in their order; the package would hold two further copies of
    all of them meanwhile (1.7x the time for 100 MB) and sort them by name.
    """
    if len(arrays) > MOST_TENSORS:
        raise ArgumentError(f"{len(arrays):,} arrays are more than a file may hold ({MOST_TENSORS:,}); numbers kept as "
                            "tensors (a history of losses) belong in .item()")
    layout: dict[str, Any] = {"__metadata__": {DIGEST: BLANK, **metadata}}
    blocks, end = [], 0
    for name in sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize):      # wide first: all stay aligned
        array = np.asarray(arrays[name])
        kind = NAMES.get(array.dtype.newbyteorder("<"))
        if kind is None or name == "__metadata__":
            raise ArgumentError(f"{name}: arrays of {array.dtype} cannot be saved; there are "
                                f"{', '.join(str(dtype) for dtype in NAMES)}")
        begin, end = end, end + array.nbytes
        layout[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
        blocks.append(array.astype(DTYPES[kind], copy=False))
    header = json.dumps(layout, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    if len(header) > LONGEST_HEADER:
        raise ArgumentError(f"names and metadata take {len(header):,} bytes, a file may hold {LONGEST_HEADER:,}; "
                            "keep long lists as arrays")
    with replacing(path) as file:
        digest = hashlib.sha256()
        parts = [memoryview(len(header).to_bytes(8, "little") + header), *map(_bytes_of, blocks)]
        for flat in parts:
            for start in range(0, len(flat), CHUNK):
                digest.update(flat[start:start + CHUNK])
                file.write(flat[start:start + CHUNK])
        file.seek(8 + _digest_at(header))
        file.write(digest.hexdigest().encode("ascii"))


def _bytes_of(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def read(path: str | os.PathLike[str]) -> TensorFile:
    """Read and check a whole file.  Raises MissingFileError, StorageError or FileFormatError."""
    where = os.fspath(path)
    with opened(where) as (file, size):
        raw, metadata, layout = _read_header(where, file, size)
        data = np.empty(size - 8 - len(raw), np.uint8)
        found = file.readinto(data)                        # type: ignore[attr-defined]
    if found != data.size:
        raise FileFormatError(f"{where} changed while it was read: {found:,} of {data.size:,} bytes of data were there")
    if DIGEST in metadata:
        _verify(where, raw, data, metadata)
    arrays, end = {}, 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        if dtype.kind == "b" and data[begin:end].max(initial=0) > 1:
            raise FileFormatError(f"{where}: {name} holds bytes other than 0 and 1 as booleans; the file is damaged")
        array = data[begin:end].view(dtype) if begin % dtype.itemsize == 0 else \
            np.frombuffer(data[begin:end].tobytes(), dtype)
        try:
            array = array.reshape(shape)
        except ValueError as error:                        # numpy's limits
            raise FileFormatError(f"{where}: {name[:200]!r} has a shape that no array can have: "
                                  f"{str(list(shape))[:80]}") from error
        array.flags.writeable = False
        arrays[name] = array
    return TensorFile(where, metadata, arrays)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata alone, without reading (and so without verifying) the data."""
    where = os.fspath(path)
    with opened(where) as (file, size):
        return _read_header(where, file, size)[1]


# --- opening ------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file, open for reading, and its size; StorageError or MissingFileError otherwise."""
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            raise StorageError(f"{path} is a folder; give the name of a file in it")
        if not stat.S_ISREG(info.st_mode):
            raise StorageError(f"{path} is no regular file (a pipe or a device)")
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {path}{_neighbours(path)}") from error
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{path} could not be read: {error.strerror or error}") from error


def _neighbours(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        return f"; there is no folder {folder} either"
    close = difflib.get_close_matches(name, os.listdir(folder or "."), n=3)
    return f"; similar names there: {', '.join(close)}" if close else ""


# --- the header ---------------------------------------------------------------------------------------------------

def _read_header(path: str, file: BinaryIO, size: int) -> tuple[bytes, dict[str, str], dict[str, tuple[Any, ...]]]:
    """-> (header bytes, metadata, name -> (dtype, shape) in the order of the data); `file` is left at the data."""
    if size == 0:
        raise FileFormatError(f"{path} is empty (0 bytes): what made it was cut short, or it is no weight file")
    start = file.read(16)
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{":
        raise FileFormatError(f"{path} is no safetensors file: {_what_it_is(start, size)}")
    if length > LONGEST_HEADER:
        raise FileFormatError(f"{path}: the header claims {length:,} bytes, the limit is {LONGEST_HEADER:,}")
    if 8 + length > size:
        raise FileFormatError(f"{path} is truncated or damaged: the header claims {length:,} bytes, "
                              f"the file has {size:,} in all")
    file.seek(8)
    raw = file.read(length)
    header = _parse(path, raw)
    try:
        with safe_open(path, "np") as checked:
            metadata = checked.metadata() or {}
            slices = {name: checked.get_slice(name) for name in checked.offset_keys()}
            layout = {name: (_dtype(path, name, part.get_dtype()), tuple(part.get_shape()))
                      for name, part in slices.items()}
    except SafetensorError as error:
        raise FileFormatError(_in_words(path, error, header, size - 8 - length)) from error
    if not os.path.samestat(os.stat(path), os.fstat(file.fileno())):           # it was opened twice, by name
        raise StorageError(f"{path} was replaced while it was opened; load it again")
    return raw, metadata, layout


def _parse(path: str, raw: bytes) -> dict[str, Any]:
    """The header, for what the package lets pass: names that occur twice, unknown fields, any number of tensors."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise FileFormatError(f"{path}: the header names {twice[:200]!r} twice; which one counts is undefined")
        return result

    if raw.count(b'"data_offsets"') > MOST_TENSORS:        # before the work of parsing it
        raise FileFormatError(f"{path} claims {raw.count(b'data_offsets'):,} tensors, the limit is {MOST_TENSORS:,}")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path}: the header is no JSON ({str(error)[:200]}); the file is damaged") from error
    if len(header) > MOST_TENSORS:
        raise FileFormatError(f"{path} holds {len(header):,} tensors, the limit is {MOST_TENSORS:,}")
    for name, entry in header.items():
        if name != "__metadata__" and (not isinstance(entry, dict) or entry.keys() != ENTRY):
            raise FileFormatError(f"{path}: the header's entry {name[:200]!r} must have dtype, shape and data_offsets; "
                                  "the file is damaged or made up")
    return header


def _dtype(path: str, name: str, kind: str) -> np.dtype:
    if kind not in DTYPES:
        raise FileFormatError(f"{path}: {name[:200]!r} has the dtype {kind}; known are {', '.join(DTYPES)}")
    return DTYPES[kind]


def _in_words(path: str, error: SafetensorError, header: dict[str, Any], size: int) -> str:
    """What the package refused, and where it names only a rule, the figures."""
    if "not fully covered" in str(error):
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        return (f"{path} {'is truncated' if end > size else 'has bytes at its end that nothing names'}: "
                f"the header describes {end:,} bytes of data, the file has {size:,}")
    return f"{path}: the header contradicts itself or the data ({str(error)[:300]}); the file is damaged or made up"


def _what_it_is(start: bytes, size: int) -> str:
    for magic, what in FOREIGN:
        if start.startswith(magic):
            return what + (PICKLE_ADVICE if what == "a pickle" else "")
    if size < 16:
        return f"it has {size} bytes; truncated, or no weight file"
    return f"it begins with {start[:8]!r}; a truncated or damaged file, or another format"


# --- the checksum -------------------------------------------------------------------------------------------------

def _digest_at(header: bytes) -> int:
    """Where the 64 digits stand in the header, or -1.  Quotes in JSON texts are escaped: this matches only a key."""
    marker = f'"{DIGEST}":"'.encode("ascii")
    at = header.find(marker)
    return -1 if at < 0 else at + len(marker)


def _verify(path: str, raw: bytes, data: np.ndarray, metadata: dict[str, str]) -> None:
    at = _digest_at(raw)
    blank = raw[:at] + BLANK.encode("ascii") + raw[at + len(BLANK):]
    digest = hashlib.sha256(len(raw).to_bytes(8, "little") + blank)
    digest.update(data.data)
    if at < 0 or digest.hexdigest() != metadata[DIGEST]:
        raise FileFormatError(f"{path} is damaged: its content does not match its SHA-256 checksum. Copy it again from "
                              "where it came, or load an earlier file")
