"""Matrix products: large ones shared among the threads, small ones with the least ado."""

import math

from ... import ops
from ...core.tiers import kernel
from ...errors import ShapeError
from .sums import of_rows
from .threads import PRODUCTS
from .threads import matmul as product

kernel(ops.matmul, "numpy")(product)


@kernel(ops.linear, "numpy")
def linear(x, weight, bias=None):
    """One product of matrices over all leading axes, the bias added in place."""
    shape, width = x.shape, weight.shape[-1]
    if shape[-1:] != (width,):
        raise ShapeError(f"linear: input {shape} needs {width} as its last length for weight {weight.shape}")
    y = _times(x if len(shape) == 2 else x.reshape(math.prod(shape[:-1]), width), weight.T)
    if bias is not None:
        y += bias
    return y if len(shape) == 2 else y.reshape(*shape[:-1], len(weight))


@kernel(ops.linear.gradient, "numpy")
def linear_gradient(wants, g, x, weight):
    shape = x.shape
    if len(shape) != 2:
        rows = math.prod(shape[:-1])
        g, x = g.reshape(rows, g.shape[-1]), x.reshape(rows, shape[-1])
    return (_times(g, weight).reshape(shape) if wants[0] else None,
            _times(g.T, x) if wants[1] else None,
            of_rows(g) if len(wants) > 2 and wants[2] else None)


def _times(a, b):
    """The product of two matrices: `dot` begins in half the time of np.matmul, which is for those worth sharing."""
    return a.dot(b) if a.size * b.shape[1] < PRODUCTS else product(a, b)

