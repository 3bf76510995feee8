"""Elementwise ops: large arrays are shared among the threads, and formulas of many steps go block by block."""

import functools
from collections.abc import Callable
from typing import Any

from ... import ops
from ...core.graph import OPS, Op
from ...core.tiers import kernel
from . import special
from .threads import elementwise as shared


def _attach(op: Op, form: Callable, name: str) -> None:
    quick: Any = functools.partial(shared, form)
    quick.__name__ = name                              # by which use_kernels can leave it out
    kernel(op, "numpy")(quick)


for _op in list(OPS.values()):
    if _op.elementwise:
        _attach(_op, _op.definition, "shared")

for _op, _form in ((ops.erf, special.erf), (ops.gelu, special.gelu), (ops.gelu_tanh, special.gelu_tanh),
                   (ops.sigmoid, special.sigmoid), (ops.silu, special.silu)):
    _attach(_op, _form, f"quick_{_op.name}")


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
