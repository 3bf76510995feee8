"""Transforms: what happens to a batch of arrays on its way from the dataset to the model.

A transform is a function of a numpy array; any function of one array will do. The random ones here also take the
generator to draw from: the loader passes one that depends on the seed, the epoch and the batch only. Images are
(N, C, H, W), and each image of a batch draws its own numbers; a single (C, H, W) works too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..random import default_generator


class Transform:
    """Subclass it and write `forward(x, rng)`; rng draws this batch's random numbers."""

    def __call__(self, x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        return self.forward(np.asarray(x), rng or default_generator.numpy)

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} must define forward")


def apply(transform: Callable[..., Any] | None, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """transform(x), with rng for those that take one; x for None."""
    if transform is None:
        return x
    return transform(x, rng) if isinstance(transform, Transform) else np.asarray(transform(x))


class Compose(Transform):
    """One transform after the other.  Takes a list, or the transforms themselves."""

    def __init__(self, *transforms: Any):
        one_list = len(transforms) == 1 and isinstance(transforms[0], (list, tuple))
        self.transforms: Sequence[Callable[..., Any]] = transforms[0] if one_list else transforms

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            x = apply(transform, x, rng)
        return x


class ToFloat(Transform):
    """Integers to float32, divided by `scale` (255: bytes of an image to [0, 1]); floats only change their dtype."""

    def __init__(self, scale: float = 255.0):
        self.scale = scale

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return x.astype(np.float32) / np.float32(self.scale) if x.dtype.kind in "iub" else x.astype(np.float32)


class Normalize(Transform):
    """(x - mean) / std; mean and std are numbers, or one number for each channel.  torchvision.transforms.Normalize."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        if (self.std <= 0).any():
            raise ArgumentError(f"Normalize: std must be positive, got {std}")

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if x.dtype.kind != "f":
            raise ArgumentError(f"Normalize: floats are needed, got {x.dtype}; put ToFloat() before it")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value.ndim and (x.ndim < 3 or value.shape != (x.shape[-3],)):
                raise ShapeError(f"Normalize: {name} has {value.size} values, the images have shape {x.shape}")
        return (x - _per_channel(self.mean)) / _per_channel(self.std)


class RandomFlipHorizontal(Transform):
    """Mirror an image left to right with probability p.  torchvision.transforms.RandomHorizontalFlip."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ArgumentError(f"RandomFlipHorizontal: p is a probability, got {p}")
        self.p = p

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        images = _images(x, "RandomFlipHorizontal")
        flip = rng.random(len(images)) < self.p
        return np.where(flip[:, None, None, None], images[..., ::-1], images).reshape(x.shape)


class RandomCrop(Transform):
    """Shift an image by up to `padding` pixels each way; what comes in is zero.  As in CMU 10-714.

    The same as padding with zeros and cutting out the original size at a random place.
    """

    def __init__(self, padding: int):
        if padding < 0:
            raise ArgumentError(f"RandomCrop: padding must not be negative, got {padding}")
        self.padding = padding

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        images, p = _images(x, "RandomCrop"), self.padding
        n, _, height, width = images.shape
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        down, right = rng.integers(0, 2 * p + 1, (2, n))
        return windows[np.arange(n), :, down, right].reshape(x.shape)


class OneHot(Transform):
    """Labels (N,) -> (N, num_classes) float32: 1 at the label, 0 elsewhere."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes

    def forward(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if x.dtype.kind not in "iu" or (x.size and (x.min() < 0 or x.max() >= self.num_classes)):
            raise ArgumentError(f"OneHot: integer labels from 0 to {self.num_classes - 1} are needed, got {x.dtype}"
                                + (f" from {x.min()} to {x.max()}" if x.size else ""))
        return (x[..., None] == np.arange(self.num_classes)).astype(np.float32)


def _per_channel(value: np.ndarray) -> np.ndarray:
    return value[:, None, None] if value.ndim else value


def _images(x: np.ndarray, name: str) -> np.ndarray:
    if x.ndim not in (3, 4):
        raise ShapeError(f"{name}: images (N, C, H, W) or one image (C, H, W) are needed, got shape {x.shape}")
    return x if x.ndim == 4 else x[None]
