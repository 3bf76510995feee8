"""needle_lab: deep learning that can be seen whole, from the gradient rule to the GPU kernel.  `import needle_lab as ndl`."""

from . import data, errors, graph, models, nn, ops, optim, random
from .backend.device import Device, cpu, cuda, device_report, strict_devices, triton_cpu
from .creation import arange, empty, eye, from_numpy, full, full_like, linspace, ones, tensor, zeros
from .dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .graph import enable_grad, grad, is_grad_enabled, no_grad
from .ops import *  # noqa: F403    every op is a public name: ndl.exp, ndl.matmul, ...
from .random import (
    Generator,
    bernoulli,
    get_rng_state,
    manual_seed,
    normal,
    rand,
    randint,
    randn,
    randperm,
    set_rng_state,
    uniform,
)
from .tensor import Tensor
