"""Our part of a saved file's metadata: what was saved, by which version, from which architecture."""

from __future__ import annotations

import json
import os
from typing import Any

from ..errors import ArgumentError, FileFormatError
from ..nn.signature import check_signature
from . import tensorfile

FORMAT = 1                         # the layout of the metadata; raised when an older reader could misread it
KEY = "needle_lab"                 # where in the safetensors metadata it stands


def read_signature(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The signature in a saved file, read from its header alone."""
    about = about_of(os.fspath(path), tensorfile.read_metadata(path))
    if about is None or about["signature"] is None:
        why = "it was not written by needle_lab" if about is None else "it was saved without a model"
        raise FileFormatError(f"{os.fspath(path)} holds no signature: {why}")
    return about["signature"]


def about_of(path: str, metadata: dict[str, str]) -> dict[str, Any] | None:
    """Our part of the metadata, checked; None for a file of another program."""
    if KEY not in metadata:
        return None
    if tensorfile.DIGEST not in metadata:
        raise FileFormatError(f"{path} has lost its checksum; another program rewrote it, or it is damaged")
    try:
        about = json.loads(metadata[KEY])
        if not isinstance(about, dict) or type(about.get("format")) is not int:
            raise ArgumentError("no format version")
        if about["format"] > FORMAT:
            raise FileFormatError(f"{path} was written by a newer needle_lab (file format {about['format']}, this one "
                                  f"reads up to {FORMAT}); upgrade needle_lab")
        _check_fields(about, _FIELDS)
        if about["kind"] == "checkpoint":
            _check_fields(about, {"tree": dict})
            _check_fields(about["tree"], _TREE)
        if about["signature"] is not None:
            check_signature(about["signature"], "its metadata")
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path} has damaged needle_lab metadata: {str(error)[:200]}") from error
    return about


_FIELDS: dict[str, Any] = {"kind": str, "versions": dict, "device": (str, dict, type(None)),
                           "signature": (dict, type(None))}
_TREE: dict[str, Any] = {"optimizer": object, "history": object, "rng": dict, "aux": dict}


def _check_fields(found: dict[str, Any], fields: dict[str, Any]) -> None:
    for key, kind in fields.items():
        if key not in found or not isinstance(found[key], kind):
            raise ArgumentError(f"no {key} as it should be")
