"""Where arrays live: `device` (what a device is, transfers, the fallback report) and `triton` (GPU kernels)."""

from . import triton      # ndl.backend.triton.source(op) shows a kernel; Triton itself is imported when a device is asked for
