"""Datasets that are computed: nothing to download, any number of examples, always the same for a seed."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError
from ..random import Generator
from .dataset import ArrayDataset, generator_of


def spirals(n: int = 300, classes: int = 3, noise: float = 0.05, turns: float = 0.75,
            seed: int | Generator | None = 0) -> ArrayDataset:
    """Points on `classes` spiral arms around the origin: (2,) float32 in about [-1, 1], and the arm as the label.

    No straight line separates the arms, so a linear model must fail. noise: standard deviation of the places.
    """
    _positive("spirals", n=n, classes=classes)
    rng = generator_of(seed).numpy
    labels = np.arange(n) % classes
    radius = rng.uniform(0.1, 1.0, n)
    angle = 2 * np.pi * (labels / classes + turns * radius)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + noise * rng.normal(size=(n, 2))
    return ArrayDataset(points.astype(np.float32), labels, classes=[f"arm {i}" for i in range(classes)])


def shapes(n: int = 600, size: int = 16, noise: float = 0.1, seed: int | Generator | None = 0) -> ArrayDataset:
    """Grey images of a square, a circle or a triangle at a random place: (1, size, size) float32, label 0, 1 or 2.

    The figure is 1 on a background of 0, plus noise of the given standard deviation.
    """
    _positive("shapes", n=n, size=size)
    if size < 8:
        raise ArgumentError(f"shapes: size must be 8 or more for the figures to differ, got {size}")
    rng = generator_of(seed).numpy
    labels = np.arange(n) % 3
    radius = rng.uniform(0.18, 0.32, n) * size
    x0, y0 = rng.uniform(radius, size - 1 - radius, (2, n))
    y, x = np.mgrid[:size, :size]
    across, down = ((grid - place[:, None, None]) / radius[:, None, None] for grid, place in ((x, x0), (y, y0)))
    square = np.maximum(abs(across), abs(down)) <= 0.9
    circle = across**2 + down**2 <= 1
    triangle = (down <= 0.8) & (abs(across) <= (down + 1) / 1.8)
    images = np.choose(labels[:, None, None], [square, circle, triangle]) + noise * rng.normal(size=(n, size, size))
    return ArrayDataset(images[:, None].astype(np.float32), labels, classes=["square", "circle", "triangle"])


# Heights of ten "handwritten" digits at twelve places, after Greydanus, "Scaling down deep learning" (2020).
_STROKES = np.array([
    [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5], [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
    [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5], [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
    [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5], [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
    [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5], [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
    [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5], [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5]])


def mnist1d(n: int = 4000, length: int = 40, noise: float = 0.05, seed: int | Generator | None = 0) -> ArrayDataset:
    """Ten digits as curves in one dimension: (length,) float32 signals, label 0 to 9.  In the manner of MNIST-1D.

    Each stroke is stretched, tilted, scaled, put at a random place, and noise is added: a linear model stops at three
    quarters, a convolution goes on, at a small part of MNIST's cost. For Conv1d add a channel axis.
    """
    _positive("mnist1d", n=n, length=length)
    rng = generator_of(seed).numpy
    labels = np.arange(n) % 10
    strokes = (_STROKES[labels] - 5) / 2.4
    wide = rng.uniform(0.4, 0.6, n)[:, None]                        # how much of the signal the digit takes
    start = rng.uniform(0, 1 - wide)
    place = (np.linspace(0, 1, length) - start) / wide * 11         # 0 to 11 inside the digit
    left = np.clip(place.astype(int), 0, 10)
    part, rows = np.clip(place - left, 0, 1), np.arange(n)[:, None]
    curve = strokes[rows, left] * (1 - part) + strokes[rows, left + 1] * part
    tilt = rng.uniform(-0.3, 0.3, n)[:, None] * np.linspace(-1, 1, length)
    signal = curve * rng.uniform(0.75, 1.25, n)[:, None] + tilt + noise * rng.normal(size=(n, length))
    return ArrayDataset(signal.astype(np.float32), labels, classes=[str(i) for i in range(10)])


def _positive(function: str, **sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ArgumentError(f"{function}: {name} is a positive integer, got {value!r}")
