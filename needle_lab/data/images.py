"""MNIST, Fashion-MNIST and CIFAR-10: from a folder that you name, or fetched once into the cache.

Images are uint8, 0 to 255, as in the files: a quarter of the memory of float32. `DataLoader(..., transform=ToFloat())`
brings a batch to [0, 1].
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, FileFormatError, MissingFileError, StorageError
from ..serialize.legacy.plain_pickle import read_plain_pickle
from .dataset import ArrayDataset
from .download import cache_folder, fetch
from .idx import read_idx

Place = str | os.PathLike[str] | None


class Source(NamedTuple):
    """Where a dataset comes from.  files: name -> md5, as published."""

    name: str
    url: str
    files: dict[str, str]
    classes: tuple[str, ...]


MNIST = Source("mnist", "https://ossci-datasets.s3.amazonaws.com/mnist/", {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c"}, tuple("0123456789"))

FASHION_MNIST = Source(
    "fashion_mnist", "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/", {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310"},
    ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"))

CIFAR10 = Source("cifar10", "https://www.cs.toronto.edu/~kriz/",
                 {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
                 ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"))
CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
LARGEST_BATCH = 1 << 28          # bytes; a CIFAR batch has 31 million


def mnist(split: str = "train", folder: Place = None, download: bool = True, root: Place = None) -> ArrayDataset:
    """Handwritten digits: (1, 28, 28) uint8, label 0 to 9; 60,000 to train, 10,000 to test (LeCun et al., 1998).

    folder: where the IDX files lie (plain or .gz); then nothing is fetched. Without it they come from the cache
    (`root`, else the environment variable NEEDLE_LAB_DATA, else ~/.cache/needle_lab), and are fetched into it once
    unless download=False. Raises ArgumentError, DownloadError, MissingFileError, FileFormatError, StorageError.
    """
    return _idx_dataset(MNIST, split, folder, download, root)


def fashion_mnist(split: str = "train", folder: Place = None, download: bool = True,
                  root: Place = None) -> ArrayDataset:
    """Pictures of clothes, in MNIST's format: (1, 28, 28) uint8, ten classes (Xiao et al., 2017).  See `mnist`."""
    return _idx_dataset(FASHION_MNIST, split, folder, download, root)


def cifar10(split: str = "train", folder: Place = None, download: bool = True, root: Place = None) -> ArrayDataset:
    """Small photographs: (3, 32, 32) uint8, ten classes; 50,000 to train, 10,000 to test (Krizhevsky, 2009).

    folder: holds cifar-10-python.tar.gz, the folder cifar-10-batches-py, or the batches themselves. They are pickles;
    here they are read without executing them. Otherwise as `mnist`.
    """
    names = _of_split("cifar10", CIFAR10_BATCHES, split)
    read = _cifar_reader(folder, download, root)
    parts = [_cifar_batch(read(name), name) for name in names]
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ArrayDataset(images, labels, classes=CIFAR10.classes)


def _of_split(function: str, table: dict[str, Any], split: str) -> Any:
    if split not in table:
        raise ArgumentError(f"{function}: split is {' or '.join(map(repr, table))}, got {split!r}")
    return table[split]


def _fetched(source: Source, name: str, download: bool, root: Place) -> Path:
    """The path of a file in the cache, fetched if need be."""
    path = cache_folder(root) / source.name / name
    if not download and not path.exists():
        raise MissingFileError(f"{source.name}: there is no file {path}, and download=False; "
                               f"name the folder that has it: ndl.data.{source.name}(folder=...)")
    return fetch(source.url + name, path, source.files[name],
                 hint=f"If you have the files, name their folder: ndl.data.{source.name}(folder=...)")


# --- MNIST and Fashion-MNIST --------------------------------------------------------------------------------------

def _idx_dataset(source: Source, split: str, folder: Place, download: bool, root: Place) -> ArrayDataset:
    prefix = _of_split(source.name, {"train": "train", "test": "t10k"}, split)
    names = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    paths = [_fetched(source, name, download, root) if folder is None else
             _first_of(Path(folder), name, name.removesuffix(".gz")) for name in names]
    images, labels = map(read_idx, paths)
    if images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise FileFormatError(f"{paths[0]}: images of uint8 (N, 28, 28) are expected, found "
                              f"{images.dtype} {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8 or labels.max(initial=0) > 9:
        raise FileFormatError(f"{paths[1]}: {len(images):,} labels of uint8 from 0 to 9 are expected, found "
                              f"{labels.dtype} {labels.shape} up to {labels.max(initial=0)}")
    return ArrayDataset(images[:, None], labels.astype(np.int64), classes=source.classes)


def _first_of(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else None
    raise MissingFileError(f"{folder} has none of {', '.join(names)}; " + (
        "there is no such folder" if there is None else f"it holds {', '.join(there) or 'nothing'}"))


# --- CIFAR-10 -----------------------------------------------------------------------------------------------------

def _cifar_reader(folder: Place, download: bool, root: Place) -> Callable[[str], bytes]:
    """A function from the name of a batch to its bytes, from a folder or from within the archive."""
    if folder is None:
        return lambda name: _from_archive(_fetched(CIFAR10, "cifar-10-python.tar.gz", download, root), name)
    found = _first_of(Path(folder), "cifar-10-python.tar.gz", CIFAR10_FOLDER, "test_batch")
    if found.suffix == ".gz":
        return lambda name: _from_archive(found, name)
    inside = found if found.is_dir() else found.parent
    return lambda name: _bytes_of(_first_of(inside, name))


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} could not be read: {error.strerror or error}") from error


def _from_archive(path: Path, name: str) -> bytes:
    """A member of the archive, read in place: nothing is extracted to the disk."""
    import tarfile

    try:
        with tarfile.open(path, "r:gz") as archive:
            member = archive.getmember(f"{CIFAR10_FOLDER}/{name}")
            file = archive.extractfile(member) if member.isfile() and member.size <= LARGEST_BATCH else None
            if file is None:
                raise FileFormatError(f"{path}: {member.name} is no file of a plausible size ({member.size:,} bytes)")
            return file.read()
    except (KeyError, EOFError, tarfile.TarError) as error:
        raise FileFormatError(f"{path} is no archive with {CIFAR10_FOLDER}/{name}: {error}") from error
    except OSError as error:
        raise StorageError(f"{path} could not be read: {error}") from error


def _cifar_batch(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        value = read_plain_pickle(content)
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error}") from error
    found = {key.decode("latin1") if isinstance(key, bytes) else key: item for key, item in value.items()} \
        if isinstance(value, dict) else {}
    data, labels = found.get("data"), found.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * 32 * 32:
        what = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise FileFormatError(f"{name}: 'data' as uint8 (N, 3072) is expected, found {what}")
    if (not isinstance(labels, list) or len(labels) != len(data)
            or not all(type(label) is int and 0 <= label < 10 for label in labels)):
        raise FileFormatError(f"{name}: 'labels' as a list of {len(data):,} numbers from 0 to 9 is expected")
    return np.ascontiguousarray(data).reshape(-1, 3, 32, 32), np.array(labels, np.int64)
