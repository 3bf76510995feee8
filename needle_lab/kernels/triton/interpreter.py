"""Triton's interpreter runs a kernel program by program with numpy. Here it is made to behave like a GPU.

Each repair says what the interpreter (3.6 to 3.9) does and what a GPU does. `checks()` goes further than a GPU: kernels
that read or write out of bounds, or write one place from two programs, raise. The tests run under it.
"""

from __future__ import annotations

import contextlib

import numpy as np
import triton.language as tl
from ml_dtypes import bfloat16
from triton.language.extra.cuda import libdevice
from triton.runtime import interpreter

from ...errors import DeviceError
from ..numpy.special import erf
from .array import HostMemory

Builder, Handle = interpreter.InterpreterBuilder, interpreter.TensorHandle


def repair() -> None:
    """Apply all repairs; once a process."""
    _arrays_stay_where_they_are()
    _patch_once()
    _overflow_wraps()
    _bfloat16_is_a_number()
    _libdevice_is_numpy()
    _masked_loads_are_undefined()
    _watch_addresses()


@contextlib.contextmanager
def launching(_arguments):
    """Around every launch: a GPU has no floating-point warnings."""
    with np.errstate(all="ignore"):
        yield


def _arrays_stay_where_they_are() -> None:
    """The interpreter copies every argument to the host and back; ours are there."""
    interpreter.GridExecutor._init_args_hst = lambda self, arguments, keywords: (arguments, keywords)
    interpreter.GridExecutor._restore_args_dev = lambda self, *copies: None


def _patch_once() -> None:
    """The interpreter exchanges the functions of triton.language at every launch, and again at every call of a helper
    (0.8 ms each); in a process that only interprets, once is enough. libdevice is included, which it forgets."""
    class Kernel:
        __globals__ = {"tl": tl, "core": tl.core}

    class Nothing:
        def restore(self):
            pass

    scope = interpreter._patch_lang(Kernel)
    interpreter._patch_builtin(libdevice, interpreter.interpreter_builder, scope)
    interpreter._patch_lang = lambda function: Nothing()
    tl.tensor.__index__ = lambda self: self.handle.data.item()       # range(n): 3.6 asks numpy 2.4 for int(array), in vain


def _overflow_wraps() -> None:
    """Integers wrap around on a GPU; the interpreter by default computes them twice and asserts that they do not."""
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)


# --- bfloat16 -------------------------------------------------------------------------------------------------------

def _values(handle):
    """A handle's numbers; the interpreter keeps bfloat16 as its bits, in uint16."""
    return handle.data.view(bfloat16).astype(np.float32) if handle.dtype.scalar == tl.bfloat16 else handle.data


def _narrow(values):
    """Numbers -> bfloat16, rounded to nearest even."""
    if values.dtype == np.bool_:
        return Handle(values, tl.int1)
    return Handle(values.astype(np.float32).astype(bfloat16).view(np.uint16), tl.bfloat16)


def _bfloat16_is_a_number() -> None:
    """The interpreter computes with the bits of a bfloat16 as if they were an integer, and cuts float32 off instead of
    rounding it."""
    cast, dot, binary, unary = Builder.cast_impl, Builder.create_dot, Builder.binary_op, Builder.unary_op

    def get_bf16(self, value):
        return _narrow(np.array([value], np.float32))

    def is_bfloat16(*handles) -> bool:
        return any(h.dtype.scalar == tl.bfloat16 for h in handles)

    def cast_impl(self, source, target):
        if is_bfloat16(source) and target.scalar != tl.bfloat16:
            return cast(self, Handle(_values(source), tl.float32), target)
        if target.scalar == tl.bfloat16 and not is_bfloat16(source):
            return _narrow(source.data.astype(np.float32))
        return cast(self, source, target)

    def create_dot(self, a, b, total, *options):
        if not is_bfloat16(a, b):
            return dot(self, a, b, total, *options)
        return Handle(np.matmul(_values(a), _values(b)) + total.data, total.dtype.scalar)

    def binary_op(self, a, b, function):
        return _narrow(function(_values(a), _values(b))) if is_bfloat16(a) else binary(self, a, b, function)

    def unary_op(self, a, function):
        return _narrow(function(_values(a))) if is_bfloat16(a) else unary(self, a, function)

    for repaired in (get_bf16, cast_impl, create_dot, binary_op, unary_op):
        setattr(Builder, repaired.__name__, repaired)


# --- libdevice ------------------------------------------------------------------------------------------------------

LIBDEVICE = {name: getattr(np, name) for name in
             "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh floor ceil rint trunc fmod copysign".split()}
LIBDEVICE |= {f"a{name}": getattr(np, f"arc{name}") for name in "sin cos tan sinh cosh tanh".split()}
LIBDEVICE |= {"pow": np.power, "atan2": np.arctan2, "erf": erf}
LIBDEVICE |= {f"{letter}{name}_rn": function for letter in "fd"
              for name, function in {"div": np.divide, "sqrt": np.sqrt}.items()}


def _libdevice_is_numpy() -> None:
    """The interpreter has no libdevice; numpy's functions compute the same ("__nv_expf" is exp of a float32)."""
    def create_extern_elementwise(self, library, path, symbol, arguments, result_type, is_pure):
        name = symbol.removeprefix("__nv_")
        function = LIBDEVICE.get(name) or LIBDEVICE[name.removesuffix("f")]
        return Handle(function(*(x.data for x in arguments)), result_type.scalar)

    Builder.create_extern_elementwise = create_extern_elementwise


# --- loads and stores -------------------------------------------------------------------------------------------------

def _masked_loads_are_undefined() -> None:
    """What a masked load gives without `other` is undefined on a GPU; the interpreter gives 0, which hides mistakes.
    Here it is nan, or a large integer."""
    load = Builder.create_masked_load

    def create_masked_load(self, pointers, mask, other, *options):
        if other is None:
            dtype = interpreter._get_np_dtype(pointers.get_element_ty())
            poison = np.nan if dtype.kind == "f" else True if dtype.kind == "b" else 0x7F
            other = Handle(np.full(pointers.data.shape, poison, dtype), pointers.get_element_ty())
        return load(self, pointers, mask, other, *options)

    Builder.create_masked_load = create_masked_load


class _Watch:
    active = False
    written: dict[int, tuple] = {}           # by address: the program that wrote there in this launch


@contextlib.contextmanager
def checks():
    """While active, a kernel that leaves its arrays, or writes one place from two programs, raises DeviceError."""
    before, _Watch.active = _Watch.active, True
    try:
        yield
    finally:
        _Watch.active = before


def _watch_addresses() -> None:
    load, store, start = Builder.create_masked_load, Builder.create_masked_store, Builder.set_grid_dim

    def touched(pointers, mask, what):
        places = np.broadcast_to(pointers.data, np.shape(mask.data))[mask.data].astype(np.int64)
        blocks = sorted((m.address, m.address + m.bytes.size) for m in HostMemory.living)
        starts, ends = np.array(blocks, np.int64).reshape(-1, 2).T
        block = np.searchsorted(starts, places, side="right") - 1
        size = max(pointers.get_element_ty().primitive_bitwidth // 8, 1)
        outside = (block < 0) | (places + size > ends[np.maximum(block, 0)]) if len(blocks) else np.ones(places.shape, bool)
        if outside.any():
            raise DeviceError(f"{what}: {outside.sum()} of {places.size} addresses lie outside every array; "
                              "is a mask missing?")
        return places

    def create_masked_load(self, pointers, mask, other, *options):
        if _Watch.active:
            touched(pointers, mask, "tl.load")
        return load(self, pointers, mask, other, *options)

    def create_masked_store(self, pointers, values, mask, *options):
        if _Watch.active:
            for address in touched(pointers, mask, "tl.store").tolist():
                if _Watch.written.setdefault(address, self.grid_idx) != self.grid_idx:
                    raise DeviceError(f"tl.store: programs {_Watch.written[address]} and {self.grid_idx} write one place")
        return store(self, pointers, values, mask, *options)

    def set_grid_dim(self, *sizes):
        _Watch.written.clear()
        start(self, *sizes)

    Builder.create_masked_load, Builder.create_masked_store = create_masked_load, create_masked_store
    Builder.set_grid_dim = set_grid_dim
