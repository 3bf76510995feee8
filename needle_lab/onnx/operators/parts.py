"""Our ops that ONNX has no operator for: written by their parts."""

import math

import numpy as np

from ...core.dtypes import common_dtype
from .table import writes


@writes("trunc")
def _trunc(w, x):
    return w.Mul(w.Sign(x), w.Floor(w.Abs(x)))


@writes("isfinite")
def _isfinite(w, x):
    return w.Not(w.Or(w.IsNaN(x), w.IsInf(x)))


@writes("log2")
def _log2(w, x):
    return w.Mul(w.Log(x), w.name(1 / math.log(2), x.dtype))


@writes("silu")
def _silu(w, x):
    return w.Mul(x, w.Sigmoid(x))


@writes("square")
def _square(w, x):
    return w.Mul(x, x)


@writes("rsqrt")
def _rsqrt(w, x):
    return w.Reciprocal(w.Sqrt(x))


@writes("log1p")
def _log1p(w, x):
    return w.Log(w.Add(x, w.name(1.0, x.dtype)))


@writes("expm1")
def _expm1(w, x):
    return w.Sub(w.Exp(x), w.name(1.0, x.dtype))


@writes("ne")
def _ne(w, a, b):
    return w.Not(w.Equal(*w.operands((a, b))))


@writes("remainder")
def _remainder(w, a, b):
    a, b = w.operands((a, b))
    return w.Sub(a, w.Mul(b, w.Floor(w.Div(a, b))))


@writes("floor_divide")
def _floor_divide(w, a, b):
    """Div of integers cuts towards 0, so the remainder, which has the sign of b, goes first."""
    integers = common_dtype([x for x in (a, b) if hasattr(x, "dtype")]).kind in "iu"
    a, b = w.operands((a, b))
    return w.Div(w.Sub(a, w.Mod(a, b)), b) if integers else w.Floor(w.Div(a, b))


@writes("atan2")
def _atan2(w, a, b):
    """The angle of the half plane where b > 0, turned by pi where b < 0; on the axis between them a quarter turn."""
    dtype = common_dtype([x for x in (a, b) if hasattr(x, "dtype")])
    a, b = w.operands((a, b))
    zero, pi = w.name(0.0, dtype), w.name(math.pi, dtype)
    turned = w.Where(w.Less(b, zero), w.Where(w.Less(a, zero), w.Neg(pi), pi), zero)
    upright = w.Mul(w.Sign(a), w.name(math.pi / 2, dtype))
    return w.Where(w.Equal(b, zero), upright, w.Add(w.Atan(w.Div(a, b)), turned))


@writes("log10")
def _log10(w, x):
    return w.Mul(w.Log(x), w.name(1 / math.log(10), x.dtype))


@writes("erfc")
def _erfc(w, x):
    return w.Sub(w.name(1.0, x.dtype), w.Erf(x))


@writes("signbit")
def _signbit(w, x):
    return w.Less(x, w.name(0, x.dtype))


@writes("hypot")
def _hypot(w, a, b):
    a, b = w.operands((a, b), "float")
    return w.Sqrt(w.Add(w.Mul(a, a), w.Mul(b, b)))


@writes("logaddexp")
def _logaddexp(w, a, b):
    dtype = common_dtype([x for x in (a, b) if hasattr(x, "dtype")])
    a, b = w.operands((a, b), "float")
    return w.Add(w.Max(a, b), w.Log(w.Add(w.Exp(w.Neg(w.Abs(w.Sub(a, b)))), w.name(1.0, dtype))))


def _of_truths(operator: str):
    """ONNX's And, Or, Xor and Not take bools alone; ours take any number, of which 0 is false."""
    return lambda w, *xs: getattr(w, operator)(*(w.cast(w.name(x), np.bool_) if dtype_of(x) != np.bool_ else x for x in xs))


def _of_bits(operator: str):
    """Of bools the same is called And, Or, Xor and Not."""
    def rule(w, *xs):
        bools = all(dtype_of(x) == np.bool_ for x in xs)
        return _of_truths(operator)(w, *xs) if bools else getattr(w, f"Bitwise{operator}")(*w.operands(xs))
    return rule


def dtype_of(x):
    return x.dtype if hasattr(x, "dtype") else np.dtype(type(x))


for _name, _operator in (("and", "And"), ("or", "Or"), ("xor", "Xor"), ("not", "Not")):
    writes(f"logical_{_name}")(_of_truths(_operator))
    writes(f"bitwise_{_name}")(_of_bits(_operator))
