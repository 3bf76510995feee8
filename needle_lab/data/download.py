"""Fetching a file once: cached, checked, and continued after an interruption.

What arrives goes to `<name>.part`; when it is complete and its checksum is right, it is renamed. So a file under its
own name is whole, whatever happened before, and the next attempt asks the server only for what is missing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DownloadError, StorageError

BLOCK = 1 << 18
ATTEMPTS = 4          # a connection that breaks is taken up again so many times less one
SECONDS = 30          # of silence, after which a connection counts as broken


def cache_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Where datasets are kept: `root`, else the environment variable NEEDLE_LAB_DATA, else ~/.cache/needle_lab."""
    return Path(root or os.environ.get("NEEDLE_LAB_DATA") or Path.home() / ".cache" / "needle_lab").expanduser()


def fetch(url: str, path: Path, md5: str, hint: str = "", progress: bool = True) -> Path:
    """The file at `url`, kept at `path`; nothing is asked of the network if it is there already.

    md5: of the whole file (against damage, as published with the well-known datasets; it is no signature).
    hint: added to errors, what to do instead. Raises DownloadError or StorageError.
    """
    # Imported here, because `import needle_lab` needs no network.
    import http.client
    import urllib.error

    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    _on_disk(path, lambda: path.parent.mkdir(parents=True, exist_ok=True))
    for attempt in range(ATTEMPTS):
        try:
            _continue(url, part, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:                      # nothing is left to send: the checksum decides
                break
            raise DownloadError(f"{url}: the server answered {error.code} {error.reason}. {hint}".strip()) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, StorageError):
                raise
            if attempt == ATTEMPTS - 1:
                kept = part.stat().st_size if part.exists() else 0
                reason = getattr(error, "reason", error)
                raise DownloadError(f"{url} could not be fetched: {reason}. {kept:,} bytes are kept, the next call "
                                    f"continues from there. {hint}".strip()) from error
    found = _on_disk(path, lambda: _md5(part))
    if found != md5:
        part.unlink()
        raise DownloadError(f"{url}: the file that came has the checksum {found}, expected {md5}; it was thrown away. "
                            f"Try again; if it stays so, the server has another file. {hint}".strip())
    _on_disk(path, lambda: os.replace(part, path))
    return path


def _continue(url: str, part: Path, progress: bool) -> None:
    """Append what is missing of `url` to `part`."""
    import urllib.request

    from tqdm.auto import tqdm

    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "needle_lab"} | (
        {"Range": f"bytes={there}-"} if there else {}))
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        begins = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
        if answer.status != 206 or begins != str(there):
            there = 0                                  # the server sends the file from its beginning
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length and length.isdigit() else None
        file = _on_disk(part, lambda: open(part, "ab" if there else "wb"))    # noqa: SIM115    closed by `with`
        with file, tqdm(desc=part.stem, total=total, initial=there, unit="B", unit_scale=True,
                        disable=not progress, leave=False) as bar:
            while block := answer.read(BLOCK):
                _on_disk(part, lambda block=block: file.write(block))
                there += len(block)
                bar.update(len(block))
    if total is not None and there < total:
        raise ConnectionError(f"the connection ended after {there:,} of {total:,} bytes")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _on_disk(path: Path, action: Callable[..., Any]) -> Any:
    """action(), its errors told apart from those of the network."""
    try:
        return action()
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror or error}. Name another folder with "
                           "root=, or with the environment variable NEEDLE_LAB_DATA") from error
