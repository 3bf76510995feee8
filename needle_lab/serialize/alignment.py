"""Pairing two sequences without crossing: what the architecture diff and the layer comparison both need."""

from __future__ import annotations

import numpy as np


def pair_in_order(score: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (i, j), both rising, with the highest sum of score[i, j]; entries of 0 or less never pair.

    score: (n, m). This is the table of the longest common subsequence, with likeness in place of equality.
    """
    rows, columns = score.shape
    best = np.zeros((rows + 1, columns + 1))
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            best[i, j] = max(best[i + 1, j], best[i, j + 1], best[i + 1, j + 1] + score[i, j])
    pairs, i, j = [], 0, 0
    while i < rows and j < columns:
        if score[i, j] > 0 and best[i, j] == best[i + 1, j + 1] + score[i, j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return pairs
