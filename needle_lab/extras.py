"""Libraries that only some rooms need: opened when asked for, and named with their extra where they are missing."""

from __future__ import annotations

from typing import Any

from .errors import MissingExtraError


def pyplot() -> Any:
    """matplotlib.pyplot.  MissingExtraError without the extra [lab]."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib, which is not installed: "
                                "pip install 'needle-lab[lab]'") from error
    return plt
