"""Checks of ops, modules and kernels: the package's own, for assignments, and for whoever writes an op.

    check_op(op, samples, oracle)          values, gradients to second order, dtypes, layouts, devices
    check_module(module, inputs)           gradients of inputs and parameters, state, train and eval
    check_kernel(target, tier, samples)    a quicker form against its definition

Each returns without a word, or raises CheckError for the smallest sample that fails: what was expected, and what came.
"""

from .close import assert_close
from .kernels import check_kernel, kernels
from .modules import check_module
from .ops import check_op
from .samples import Sample, sample
