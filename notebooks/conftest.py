"""Notebooks as tests: a kernel whose first answer does not come in time is started once more.

Jupyter looks for free ports, and the kernel takes them a moment later. Where several workers start kernels at the same time,
now and then two of them are given the same port, and one kernel never answers.
"""

import importlib.util
import warnings

if importlib.util.find_spec("nbval"):
    from nbval import kernel

    _start = kernel.start_new_kernel

    def start_new_kernel(startup_timeout=60, **options):
        try:
            return _start(startup_timeout=startup_timeout / 2, **options)
        except RuntimeError as error:
            warnings.warn(f"a kernel is started again: {error}", stacklevel=2)
            return _start(startup_timeout=startup_timeout, **options)

    kernel.start_new_kernel = start_new_kernel
