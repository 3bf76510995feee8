"""How many threads numpy's work is split over."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def parallel(function: Callable, items: Iterable) -> None:
    """function(item) for each item."""
    for item in items:
        function(item)
