"""The GPU backend: arrays in device memory and Triton kernels, without torch.  Read in this order:

    translate.py    an op's numpy expression -> the text of its kernel
    elementwise.py  the generated kernels at work: broadcasting, scalars, dtypes
    layout.py       views, and the one kernel that moves values from layout to layout
    reduce.py       one result per row: sum, max, ...; and rows that fit into registers: softmax, ...
    matmul.py       products of tiles
    gather.py       values picked by an index, and added back

    array.py        what the kernels work on: memory and a layout
    strides.py      layouts: how shapes and strides broadcast, merge and split
    runtime.py      starting a tier, launching a kernel
    interpreter.py  Triton's interpreter, made to behave like a GPU
    gpu.py          memory, stream and launches by NVIDIA's driver

Triton is imported when a device is first asked for (`ndl.triton_cpu()`, `ndl.cuda()`), never before.
"""

from .translate import source

__all__ = ["source"]
