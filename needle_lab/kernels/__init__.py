"""The one door for speed: quicker forms of what `needle_lab.ops` defines.  The contract: README.md.

    numpy/     fewer, larger steps of NumPy, shared among threads; always there
    numba/     loops compiled by Numba, where the extra [fast] is installed
    triton/    the kernels of a GPU, also in Triton's interpreter; attached when a device is first asked for

Importing this room attaches the forms of numpy/ and numba/ to their ops (Numba itself waits for the first call).
"""

from ..core.tiers import fast_available, use_kernels
from . import numba, numpy, triton

use_kernels("fast" if fast_available() else "numpy")
