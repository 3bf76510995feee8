"""The error function for numpy, which has none, GELU, exact and with tanh, and sigmoid: many steps for each value.

In float64: rational approximations of W. J. Cody, "Rational Chebyshev approximations for the error function" (1969), in
three ranges of |x|; accurate to the last bits. In float32: erf(x) = tanh(x P(x^2)) with one polynomial of our own, because
numpy's tanh is quick. A block of values that fits the cache at a time, each step in place.
"""

import numpy as np

# |x| <= 0.46875: erf(x) = x P(x^2)/Q(x^2)
_P0 = (1.85777706184603153e-1, 3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02,
       3.20937758913846947e03)
_Q0 = (1.0, 2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
# 0.46875 <= |x| <= 4: erfc(x) = exp(-x^2) P(x)/Q(x)
_P1 = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e00, 6.61191906371416295e01,
       2.98635138197400131e02, 8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03,
       1.23033935479799725e03)
_Q1 = (1.0, 1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
       3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03)
# |x| > 4: erfc(x) = exp(-x^2)/x (1/sqrt(pi) - P(1/x^2)/(x^2 Q(1/x^2)))
_P2 = (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
       1.60837851487422766e-2, 6.58749161529837803e-4)
_Q2 = (1.0, 2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
       2.33520497626869185e-3)
# artanh(erf(x)) = x P(x^2) for |x| <= 5, beyond which erf is 1 in float32; least squares, weighted again and again until the
# relative error of erf was even: 1e-7. Computed in float32, erf is within 1.8e-7 of math.erf, and 2.6e-7 of its value.
_P = (1.418514467e-07, -5.668461675e-06, 8.763723953e-05, -6.197844176e-04, -1.918310925e-04, 1.027690559e-01,
      1.128379274e+00)
BLOCK = 1 << 17              # values: with fewer, numpy's calls take as long as the work; more leave the cache (measured)


def erf(x):
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, elementwise, in x's dtype.  scipy.special.erf."""
    return _in_blocks(_erf, x)


def sigmoid(x):
    """1 / (1 + exp(-x)), with all digits of the small ones."""
    return _in_blocks(_sigmoid, x)


def silu(x):
    """x * sigmoid(x)."""
    return _in_blocks(lambda x: x * _sigmoid(x), x)


def gelu(x):
    """x times the normal distribution function of x; in float32 within 2e-7 of max(1, |x|)."""
    return _in_blocks(_gelu, x)


def gelu_gradient(g, x):
    """g times gelu's derivative, which is the distribution function plus x times the density."""
    return _in_blocks(_gelu_gradient, g, x)


def gelu_tanh(x):
    """The tanh approximation of gelu."""
    return _in_blocks(_gelu_tanh, x)


def gelu_tanh_gradient(g, x):
    """g times the derivative of gelu_tanh."""
    return _in_blocks(_gelu_tanh_gradient, g, x)


def _in_blocks(function, *arrays):
    """function of the arrays, flat, a block at a time; narrower dtypes than float32 are computed in it."""
    arrays = tuple(map(np.asarray, arrays))
    if arrays[0].ndim > 0 and arrays[0].size <= BLOCK and arrays[0].dtype in (np.float32, np.float64):
        return function(*arrays)
    y, flat = np.empty(arrays[0].shape, arrays[0].dtype), [a.reshape(-1) for a in arrays]
    out, dtype = y.reshape(-1), np.float64 if y.dtype == np.float64 else np.float32
    for start in range(0, out.size, BLOCK):
        out[start:start + BLOCK] = function(*[a[start:start + BLOCK].astype(dtype, copy=False) for a in flat])
    return y


def _erf(x):
    return _tanh_of_polynomial(x) if x.dtype == np.float32 else _three_ranges(x)


def _three_ranges(x):
    a = np.abs(x)
    small = np.minimum(a, 0.46875)
    near = small * np.polyval(_P0, small**2) / np.polyval(_Q0, small**2)
    with np.errstate(invalid="ignore"):                       # nan stays nan
        middle = np.clip(a, 0.46875, 4.0)
        tail = np.exp(-middle**2) * np.polyval(_P1, middle) / np.polyval(_Q1, middle)
        large = np.clip(a, 4.0, 6.0)                          # beyond 6, 1 - erfc rounds to 1
        z = 1 / large**2
        far = np.exp(-large**2) / large * (1 / np.sqrt(np.pi) - z * np.polyval(_P2, z) / np.polyval(_Q2, z))
    result = np.where(a <= 0.46875, near, 1 - np.where(a <= 4.0, tail, far))
    return np.sign(x) * np.where(np.isnan(a), np.nan, result)


def _tanh_of_polynomial(x):
    x = np.clip(x, -5, 5)
    square = x * x
    y = square * _P[0]
    for c in _P[1:-1]:
        y += c
        y *= square
    y += _P[-1]
    y *= x
    return np.tanh(y, out=y)


def _sigmoid(x):
    y = np.negative(x)
    with np.errstate(over="ignore"):                        # 1 / inf is 0, as it should be
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


def _cdf(x):
    y = _erf(x * 0.7071067811865476)
    y += 1
    y *= 0.5
    return y


def _gelu(x):
    y = _cdf(x)
    y *= x
    return y


def _gelu_gradient(g, x):
    slope = np.clip(x, -40, 40)                             # there, exp(-x^2 / 2) is 0
    slope *= slope
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= 0.3989422804014327                             # 1 / sqrt(2 pi)
    slope *= x
    slope += _cdf(x)
    slope *= g
    return slope


def _gelu_tanh(x):
    y = _tanh_of_cube(x)
    y += 1
    y *= 0.5
    y *= x
    return y


def _gelu_tanh_gradient(g, x):
    """(1 + t + (1 - t^2) x u') / 2 with t = tanh(u)."""
    t = _tanh_of_cube(x)
    slope = x * x
    slope *= 3 * 0.044715 * 0.7978845608028654
    slope += 0.7978845608028654
    slope *= x
    rest = t * t
    np.subtract(1, rest, out=rest)
    slope *= rest
    slope += t
    slope += 1
    slope *= 0.5
    slope *= g
    return slope


def _tanh_of_cube(x):
    """tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""
    u = x * x
    u *= 0.044715 * 0.7978845608028654
    u += 0.7978845608028654
    u *= x
    return np.tanh(u, out=u)
