"""Elementwise ops: large arrays are shared among the threads, and formulas of many steps go block by block."""

import functools

from ... import ops
from ...core.graph import OPS
from ...core.tiers import kernel
from . import special
from .threads import elementwise as shared

for _op in list(OPS.values()):
    if _op.elementwise:
        kernel(_op, "numpy")(functools.partial(shared, _op.definition))

for _op, _form in ((ops.erf, special.erf), (ops.gelu, special.gelu), (ops.gelu_tanh, special.gelu_tanh)):
    kernel(_op, "numpy")(functools.partial(shared, _form))


@kernel(ops.gelu.gradient, "numpy")
def gelu_gradient(wants, g, x):
    return shared(special.gelu_gradient, g, x)


@kernel(ops.gelu_tanh.gradient, "numpy")
def gelu_tanh_gradient(wants, g, x):
    return shared(special.gelu_tanh_gradient, g, x)


@kernel(ops.relu.gradient, "numpy")
def relu_gradient(wants, g, y):
    return shared(_passed, g, y)


def _passed(g, y):
    return g * (y > 0).astype(g.dtype)                # faster than a product with bools
