"""Elementwise ops on the device: one generated kernel for each, which also broadcasts, casts and takes scalars.

    inputs   any layouts; the kernel reads each through the strides that broadcast it to the common shape
    compute  in the inputs' common dtype; float16 and bfloat16 are widened to float32 in registers
    result   dense, of the dtype that numpy gives the same expression
"""

from __future__ import annotations

import functools
import linecache

import numpy as np
import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice

from ...core.dtypes import NARROW, float32
from ...core.graph import OPS, Op
from ...core.tiers import kernel
from . import functions
from .array import DTYPES, DeviceArray
from .layout import place
from .runtime import launch
from .strides import broadcast, merge
from .translate import Untranslatable, translate

BLOCK = 1024
TRITON_DTYPES = {np.dtype(name): getattr(tl, "int1" if name == "bool" else name) for name in DTYPES if name != "bfloat16"}


@functools.cache
def compiled(op: Op, scalars: tuple[int, ...]):
    """The kernel of an op as a Triton function, and the kinds of dtype for which it is right."""
    text, kinds = translate(op, scalars)
    file = f"<kernel of {op.name}{' with numbers at ' + str(scalars) if scalars else ''}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file       # Triton reads a kernel's text there
    names = {"triton": triton, "tl": tl, "libdevice": libdevice, "functions": functions, "place": place,
             "__name__": __name__}
    exec(compile(text, file, "exec"), names)
    return names[f"{op.name}_kernel"], kinds


def run(op: Op, *inputs, **attributes):
    """Run an elementwise op's kernel; NotImplemented where it has none for these dtypes."""
    some = next(x for x in inputs if isinstance(x, DeviceArray))
    inputs = tuple(some.from_host(np.asarray(x)) if isinstance(x, np.generic) else x for x in inputs)
    common: np.dtype | None = next((x.dtype for position, x in enumerate(inputs)
                                    if isinstance(x, DeviceArray) and position not in op.index_inputs), None)
    if common is None:                       # only numbers, as in where(condition, 1, 0)
        return NotImplemented
    compute: np.dtype = float32 if common in NARROW else common
    if np.result_type(compute, *(x for x in inputs if not isinstance(x, DeviceArray))) != compute:
        return NotImplemented                # numpy would compute in another dtype, as in bools * 2
    if compute == np.float64:                # Triton passes Python floats as float32; a float64 travels in memory
        inputs = tuple(some.from_host(np.asarray(x, compute)) if isinstance(x, float) else x for x in inputs)
    scalars = tuple(position for position, x in enumerate(inputs) if not isinstance(x, DeviceArray))
    try:
        function, kinds = compiled(op, scalars)
    except Untranslatable:
        return NotImplemented
    if compute.kind not in kinds:
        return NotImplemented

    # numpy says what dtype comes out, or why none does, by doing the same on arrays of no elements
    answer = op.definition(*(np.empty(0, x.dtype if position in op.index_inputs else compute)
                          if isinstance(x, DeviceArray) else x for position, x in enumerate(inputs)), **attributes).dtype
    arrays = [x for x in inputs if isinstance(x, DeviceArray)]
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    y = some.empty(shape, common if answer == float32 and common in NARROW else answer)
    merged, _, *strides = merge(shape, y.strides, *(broadcast(x.shape, x.strides, shape) for x in arrays))
    layouts = iter(strides)
    arguments = [part for x in inputs for part in ((x, next(layouts)) if isinstance(x, DeviceArray) else (x,))]
    launch(function, (triton.cdiv(y.size, BLOCK),), *arguments, y, merged, y.size,
           **{**(op.definition.__kwdefaults__ or {}), **attributes}, DTYPE=TRITON_DTYPES[compute], BLOCK=BLOCK)
    return y


for _op in list(OPS.values()):
    if _op.elementwise:
        kernel(_op, "triton")(functools.partial(run, _op))
