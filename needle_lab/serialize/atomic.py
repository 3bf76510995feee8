"""Replace a file as a whole: at any moment, whatever happens, the path holds the old file or the new one.

The new content goes to a temporary file in the same folder, is forced to the disk, and takes the name in one step.
A process that is killed leaves at most its temporary file, `.weights.safetensors.k3x9.needle-tmp`; the next save to
the same path removes it. A file that another process is still writing is locked and left alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import StorageError

try:
    import fcntl
except ImportError:        # Windows has no fcntl; there a file that is open cannot be removed, which serves as the lock
    fcntl = None           # type: ignore[assignment]

SUFFIX = ".needle-tmp"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file to write; on leaving it becomes `path`, on an error it is removed and `path` is as it was.

    Raises StorageError for whatever the file system refuses.
    """
    target = os.path.realpath(os.fspath(path))             # a link keeps pointing where it pointed
    folder, name = os.path.split(target)
    temporary = None
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, "it is a folder; give the name of a file")
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        _remove_abandoned(folder, name)
        handle, temporary = _create(folder, name)
        with os.fdopen(handle, "wb") as file:
            if os.path.exists(target):
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()                               # Windows gives an open file no new name
            os.replace(temporary, target)                  # elsewhere while still locked
            temporary = None
        _sync_folder(folder)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{os.fspath(path)} could not be written: {error.strerror or error}. What was there before "
                           "is unchanged. Free some space, or choose a folder that exists and is yours") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _create(folder: str, name: str) -> tuple[int, str]:
    """A new, locked file.  -> (descriptor, path)"""
    while True:
        path = os.path.join(folder, f"{_prefix(name)}{secrets.token_hex(4)}{SUFFIX}")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:                      # else another save took it for abandoned: once more
            return handle, path
        os.close(handle)


def _prefix(name: str) -> str:
    begin = os.fsencode(name)[:200].decode(errors="ignore")          # file systems allow 255 bytes, of UTF-8 nearly always
    return f".{begin}."


def _remove_abandoned(folder: str, name: str) -> None:
    for entry in os.scandir(folder):
        if entry.name.startswith(_prefix(name)) and entry.name.endswith(SUFFIX):
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)       # an OSError while its writer lives
                os.unlink(entry.path)


def _sync_folder(folder: str) -> None:
    """Force the new name to the disk; where folders cannot be opened (Windows) the system does it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
