"""Memory for intermediate values that is used again by the next call: fresh pages cost as much as the copy itself.

Each thread has its own, by name. A block is kept while it is at most four times KEPT_BYTES, or four times what is asked
for; what a large call needed is let go by the next small one.
"""

import math
import threading

import numpy as np

KEPT_BYTES = 1 << 24
LINE = 64                    # bytes of a cache line; blocks begin with one, so that their vectors do not span two

_memory = threading.local()


def scratch(name: str, shape, dtype) -> np.ndarray:
    """An uninitialised array of this shape, valid until this thread asks for the same name again."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    held = getattr(_memory, name, None)
    if held is None or held.size < size or held.size > 4 * max(size, KEPT_BYTES):
        memory = np.empty(size + LINE, np.uint8)
        held = memory[-memory.ctypes.data % LINE:][:size]
        setattr(_memory, name, held)
    return held[:size].view(dtype).reshape(shape)
