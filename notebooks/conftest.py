"""Notebooks as tests: their kernels talk through sockets in a folder of their own.

Otherwise Jupyter looks for free ports, and the kernel takes them a moment later. Where several workers start kernels at the
same time, now and then two of them are given the same port, and one kernel never answers.
"""

import importlib.util
import itertools
import os
import tempfile

if importlib.util.find_spec("nbval") and os.name == "posix":
    from nbval import kernel

    _manager, _folder, _number = kernel.KernelManager, tempfile.TemporaryDirectory(prefix="kernels-"), itertools.count()

    def with_a_socket(**options):
        return _manager(transport="ipc", ip=f"{_folder.name}/{next(_number)}", **options)

    kernel.KernelManager = with_a_socket
