"""Where arrays live: `device` (what a device is, transfers, the fallback report) and `triton` (GPU kernels)."""

# Shows kernels without a GPU: ndl.backend.triton.source(op). Triton itself is imported when a device is asked for.
from . import triton
