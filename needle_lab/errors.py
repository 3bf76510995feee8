"""Every error that needle_lab raises on purpose.

Each is a subclass of the built-in that a Python programmer would expect, so `except ValueError` keeps working,
and of `NeedleError`, so that a tool can catch all of them at once. Messages say what was expected, what came,
and what to do.
"""

from __future__ import annotations

from .untrusted import printable


class NeedleError(Exception):
    """The common ancestor of all errors that needle_lab raises on purpose."""

    def __str__(self) -> str:          # names out of files stand in messages, and messages go to terminals
        return printable(super().__str__(), lines=True)


class ShapeError(NeedleError, ValueError):
    """Shapes that do not fit together, or do not fit the operation."""


class DTypeError(NeedleError, TypeError):
    """A dtype that the operation cannot take."""


class ArgumentError(NeedleError, ValueError):
    """Any other argument outside what the function accepts."""


class NotPartError(NeedleError, AttributeError):
    """A name that PyTorch has and needle_lab does not, on purpose; the message says what to use instead."""


class GraphError(NeedleError, RuntimeError):
    """A gradient that cannot be computed: freed graph, value changed in place, nothing to differentiate."""


class DeviceError(NeedleError, RuntimeError):
    """Tensors on different devices, a device that is not there, or an op that a strict device cannot run."""


class SignatureMismatch(NeedleError, ValueError):
    """Saved weights that belong to another architecture."""


class FileFormatError(NeedleError, ValueError):
    """A file that is empty, truncated, damaged, foreign, or that lies about its contents."""


class MissingFileError(NeedleError, FileNotFoundError):
    """A path at which there is nothing to read."""


class StorageError(NeedleError, OSError):
    """The file system refused: disk full, no permission, not a folder."""


class StateKeyError(NeedleError, KeyError):
    """Names in a state dict that the model does not have, or the other way round."""

    def __str__(self) -> str:          # KeyError would show the repr of the message
        return printable(self.args[0], lines=True) if self.args else ""


class UnsupportedOnnxError(NeedleError, ValueError):
    """An ONNX operator, version or feature that the importer does not know."""


class MissingExtraError(NeedleError, ImportError):
    """A library that an optional room needs and that is not installed; the message names the extra."""


class DownloadError(NeedleError, OSError):
    """A dataset that could not be fetched, or whose checksum differs."""


class CheckError(NeedleError, AssertionError):
    """A check of `needle_lab.testing` that failed: the sample, what was expected, what came."""
