"""Loops compiled by Numba, for the CPU: the extra [fast].

    attach.py       which ops they serve, and when they decline: `@kernel(op, "numba")`, `@kernel(op.gradient, "numba")`
    convolution.py, winograd.py, optimizers.py
                    the same for strategies of convolution and the optimizers' updates
    compiled.py     the loops themselves, compiled at their first call; the results are kept on disk
    vectors.py, products.py, windows.py, tiles.py, depthwise.py
                    those of convolution: the inner kernel of a matrix product, im2col without columns, Winograd's transforms

Numba is imported when the first of them is called, never by `import needle_lab`.
"""

from . import attach, convolution, optimizers, winograd
