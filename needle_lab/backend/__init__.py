"""Where arrays live: `device` (what a device is, transfers, the fallback report) and `triton` (GPU kernels)."""
