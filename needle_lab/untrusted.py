"""What comes from strangers: text is made printable before it leaves, shapes are checked before they are multiplied."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MOST_AXES = 64                  # as NumPy has
# Control characters (a terminal obeys them), marks that turn the direction of text or join without being seen, line ends of
# other kinds, and halves of a pair, which no file and no terminal takes.
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


def printable(text: Any, lines: bool = False, most: int | None = None) -> str:
    """Text in which nothing is hidden: what cannot be seen stands there as its escape, such as \\x1b or \\u202e.

    lines: line ends stay. most: longer text is cut, with three dots.
    """
    text = str(text)
    text = text if most is None or len(text) <= most else text[:most] + "..."
    return HIDDEN.sub(lambda found: found[0] if lines and found[0] == "\n" else ascii(found[0])[1:-1], text)


def printable_data(value: Any) -> Any:
    """JSON values with every text in them printable."""
    if isinstance(value, str):
        return printable(value, lines=True)
    if isinstance(value, dict):
        return {printable_data(key): printable_data(part) for key, part in value.items()}
    return [printable_data(part) for part in value] if isinstance(value, (list, tuple)) else value


def checked_shape(shape: Iterable[Any], itemsize: int, available: int) -> tuple[int, ...]:
    """A shape out of a file or a pipe, whose values take at most `available` bytes; ValueError for any other.

    At most 64 axes, each a whole number from 0 up to 2^63: checked before anything is multiplied, since a product of long
    numbers takes minutes.
    """
    lengths = tuple(shape) if isinstance(shape, (list, tuple)) else (shape,)
    if len(lengths) > MOST_AXES:
        raise ValueError(f"a shape has at most {MOST_AXES} axes, this one {len(lengths)}")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in lengths):
        raise ValueError("a shape is made of whole numbers from 0 to 2^63 - 1")
    size = 0 if 0 in lengths else itemsize
    for n in lengths:
        size *= n
        if size > available:
            raise ValueError(f"its values would take more than the {available:,} bytes that there are")
    return lengths
