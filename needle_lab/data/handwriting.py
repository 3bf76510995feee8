"""`digits`: 1,797 real handwritten digits of 8 x 8 pixels, without a download."""

from __future__ import annotations

import numpy as np

from ..errors import ArgumentError, MissingExtraError
from .dataset import ArrayDataset


def digits(split: str = "train", seed: int = 0) -> ArrayDataset:
    """Digits handwritten by 13 people: (1, 8, 8) float32 in [0, 1], label 0 to 9.  scikit-learn's load_digits.

    split: "train" (1,198), "test" (599: a held-out third, the same share of every digit) or "all" (1,797, in the
    order of the original). seed: which images are held out.
    Source: Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI (1998).
    """
    if split not in ("train", "test", "all"):
        raise ArgumentError(f"digits: split is 'train', 'test' or 'all', got {split!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("digits come with scikit-learn, which is not installed: "
                                "pip install 'needle-lab[lab]'") from error
    loaded = load_digits()
    images = (loaded.images[:, None] / 16).astype(np.float32)       # 16 grey levels
    labels = loaded.target.astype(np.int64)
    held_out = _a_third_of_each(labels, seed)
    chosen = {"train": ~held_out, "test": held_out, "all": np.full(len(labels), True)}[split]
    return ArrayDataset(images[chosen], labels[chosen], classes=[str(i) for i in range(10)])


def _a_third_of_each(labels: np.ndarray, seed: int) -> np.ndarray:
    """A mask that holds a third of all places, and of each label's to within one."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]         # label by label, at random within each
    mask = np.zeros(len(labels), bool)
    mask[order[::3]] = True
    return mask
