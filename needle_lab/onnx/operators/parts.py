"""Our ops that ONNX has no operator for: written by their parts."""

import math

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
