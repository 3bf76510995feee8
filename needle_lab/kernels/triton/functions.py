"""numpy's functions that neither Triton nor libdevice has, with numpy's answers for signs, zeros, inf and nan."""

import triton
import triton.language as tl
from triton.language.extra.cuda import libdevice


@triton.jit
def maximum(a, b):
    """The larger; nan if either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    """The smaller; nan if either is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def sign(x):
    """-1, 0 or 1; nan stays nan."""
    return tl.where(x != x, x, (x > 0).to(x.dtype) - (x < 0).to(x.dtype))


@triton.jit
def fmod(a, b):
    """The remainder of a / b with the sign of a; integers: 0 where b is 0."""
    if a.dtype.is_floating():
        return libdevice.fmod(a, b)
    else:
        return tl.where(b == 0, 0, a % tl.where(b == 0, 1, b)).to(a.dtype)     # Triton's % of integers is C's


@triton.jit
def remainder(a, b):
    """The remainder of a / b with the sign of b; integers: 0 where b is 0."""
    r = fmod(a, b)
    r = tl.where((r != 0) & ((r < 0) != (b < 0)), r + b, r)
    if a.dtype.is_floating():
        return tl.where(r == 0, libdevice.copysign(r, b), r)
    else:
        return r.to(a.dtype)


@triton.jit
def floor_divide(a, b):
    """The largest integer below a / b, exact also where a / b rounds up to one; integers: 0 where b is 0."""
    r = fmod(a, b)
    below = (r != 0) & ((r < 0) != (b < 0))               # a / b was rounded towards 0, and that is up
    if a.dtype.is_floating():
        quotient = libdevice.div_rn(a, b)
        whole = libdevice.rint(libdevice.div_rn(a - r, b))
        whole = tl.where(below, whole - 1, whole)
        whole = tl.where(whole == 0, libdevice.copysign(whole, quotient), whole)
        return tl.where(b == 0, quotient, whole)
    else:
        whole = (a - r) // tl.where(b == 0, 1, b)
        return tl.where(b == 0, 0, tl.where(below, whole - 1, whole)).to(a.dtype)
