"""The one door for speed: quicker forms of what `needle_lab.ops` defines.  The contract: README.md.

    numpy/     fewer, larger steps of NumPy, shared among threads; always there
    numba/     loops compiled by Numba, where the extra [fast] is installed
    triton/    the kernels of a GPU, also in Triton's interpreter; attached when a device is first asked for

Importing this room attaches the forms of numpy/ and numba/ to their ops; the first computation does it. Numba itself waits
for the first call that it serves.
"""

from . import numba, numpy, triton
from .devices import device_report, strict_devices
from .numpy.convolution.choose import explain_conv
from .numpy.threads import get_num_threads, set_blas_threads, set_num_threads
