"""The extra [fast]: Numba kernels for the CPU, attached to ops like a device's kernels, under the name "fast".

    __init__.py     the switch, and `compilable`, for functions that are not ops
    kernels.py      which op they serve, and when they decline: `@kernel(op, "fast")`, `@backward_kernel(op, "fast")`
    convolution.py, winograd.py, optimizers.py
                    the same for strategies of convolution and the optimizers' updates
    compiled.py     the loops themselves, compiled at their first call; the results are kept on disk
    vectors.py, products.py, windows.py, tiles.py, depthwise.py
                    those of convolution: the inner kernel of a matrix product, im2col without columns, Winograd's transforms

They are on where Numba is installed. Numba is imported when the first of them is called, never by `import needle_lab`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

from ...errors import MissingExtraError


@functools.cache
def fast_available() -> bool:
    """Whether Numba, which the [fast] kernels need, is installed."""
    return importlib.util.find_spec("numba") is not None


class use_fast:
    """Compute with the [fast] kernels or without: `ndl.use_fast(False)`, or `with ndl.use_fast(False): ...` for a while.

    The setting holds for the whole process.  MissingExtraError for True where Numba is not installed.
    """

    enabled = fast_available()

    def __init__(self, enabled: bool = True):
        if enabled and not fast_available():
            raise MissingExtraError("the [fast] kernels need Numba. Install it: pip install 'needle-lab[fast]'")
        self.before, use_fast.enabled = use_fast.enabled, bool(enabled)

    def __enter__(self) -> use_fast:
        return self

    def __exit__(self, *exc) -> None:
        use_fast.enabled = self.before


def compilable(function: Callable) -> Any:
    """A function of arrays that is no op, but may have a compiled form: attach it with `@function.compiled`.

    The form takes the same arguments; `return NotImplemented` declines a case.
    """
    forms: list[Callable] = []

    @functools.wraps(function)
    def call(*args, **kwargs):
        result = forms[0](*args, **kwargs) if forms and use_fast.enabled else NotImplemented
        return function(*args, **kwargs) if result is NotImplemented else result

    def attach(form: Callable) -> Callable:
        forms[:] = [form]
        return form
    call.compiled = attach                               # type: ignore[attr-defined]
    return call
