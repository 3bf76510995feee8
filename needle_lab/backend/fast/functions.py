"""exp, tanh and erf of one float32, by additions and multiplications alone, so that loops over them become vector loops.

A call into the C library computes one value at a time. The errors of exp and tanh are below 2e-7 of the value (float32
itself rounds by up to 0.6e-7), of erf below 5e-7; nan stays nan, and infinities give the limits. Terms are added in the
written order: `exact` leaves out the licence to reorder that the other loops give to the compiler.
"""

from __future__ import annotations

import numba
import numpy as np

f32, i32 = np.float32, np.int32
FUSED = {"contract"}                                    # a * b + c may be rounded once
ANY_ORDER = {"contract", "reassoc", "nsz", "arcp"}      # sums in any order, as vectors need; nan and inf keep their meaning

exact = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FUSED, forceinline=True)
loop = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=ANY_ORDER)
part = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=ANY_ORDER, forceinline=True)    # of a loop


@exact
def exp(x):
    """2^k exp(r), k being whole.  2^k is multiplied in two halves: a result may be smaller than the smallest 2^k."""
    x = f32(-105) if x < f32(-105) else x               # exp is 0 from -104 on, and inf from 89 on
    x = f32(89) if x > f32(89) else x
    whole, p = _whole_and_rest(x)
    half = i32(whole >> i32(1))
    return (p + f32(1)) * _power_of_two(half) * _power_of_two(i32(whole - half))


@exact
def tanh(x):
    """-e / (e + 2) with e = exp(-2 |x|) - 1, which keeps all its digits near 0."""
    a = f32(-2) * abs(x)
    a = f32(-20) if a < f32(-20) else a                 # beyond, the nearest float32 is 1
    whole, p = _whole_and_rest(a)
    scale = _power_of_two(whole)
    e = p * scale + (scale - f32(1))
    y = -e / (e + f32(2))
    return y if x > f32(0) else -y


@exact
def _whole_and_rest(x):
    """k and exp(r) - 1, where x = k log(2) + r, k is whole and |r| <= log(2) / 2, so that a polynomial of degree 7 will do.

    Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
    """
    shifted = x * f32(1.44269504) + f32(12582912)
    k = shifted - f32(12582912)
    r = x - k * f32(0.693145751953125)                  # log(2) in two parts: the first times k is exact
    r = r - k * f32(1.42860682e-6)
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(0.5)
    return i32(f32(shifted).view(np.int32) - i32(0x4B400000)), p * (r * r) + r


@exact
def _power_of_two(k):
    return i32((k + i32(127)) << i32(23)).view(np.float32)


@exact
def sigmoid(x):
    return f32(0.5) * tanh(f32(0.5) * x) + f32(0.5)


@exact
def erf(x):
    """2 / sqrt(pi) x P(x^2) / Q(x^2), both beginning with 1; fitted to a relative error of 3e-8."""
    x = f32(-4) if x < f32(-4) else x
    x = f32(4) if x > f32(4) else x
    q = x * x
    p = f32(1.763425188983092e-06) * q + f32(0.00025153064052574337)
    p = p * q + f32(0.003417722648009658)
    p = p * q + f32(0.04698746278882027)
    p = p * q + f32(0.1709863543510437)
    x = x * f32(1.1283791671)
    p = p * q * x + x
    d = f32(3.7412235542433336e-05) * q + f32(0.0011787692783400416)
    d = d * q + f32(0.01515407394617796)
    d = d * q + f32(0.1150970607995987)
    d = d * q + f32(0.5043191909790039)
    d = d * q + f32(1)
    return p / d
