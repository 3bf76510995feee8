"""Trained models that come with the package, as ONNX files: small, offline, for lectures and first experiments.

    digits_convnet    (N, 1, 8, 8) pixels in [0, 1] -> (N, 10) logits; trained in PyTorch on the 1,198 digits of
                      `ndl.data.digits("train")`, 99.7 % right on the 599 of "test" (tools/train_digits_convnet.py)
"""

from __future__ import annotations

from pathlib import Path

from ...errors import MissingFileError

FOLDER = Path(__file__).parent


def pretrained_names() -> tuple[str, ...]:
    """The names of all models that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.onnx")))


def pretrained_path(name: str) -> Path:
    """Where the ONNX file of a trained model is: `ndl.onnx.load(pretrained_path("digits_convnet"))`.

    Raises MissingFileError, listing what there is.
    """
    if name not in pretrained_names():
        raise MissingFileError(f"there is no pretrained model {name!r}; there are {', '.join(pretrained_names())}")
    return FOLDER / f"{name}.onnx"
