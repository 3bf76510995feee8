"""needle_lab: deep learning that can be seen whole, from the gradient rule to the GPU kernel.

    import needle_lab as ndl

A tensor is an array that remembers how it was computed, so that gradients can be asked for:

>>> x = ndl.tensor([1.0, 2.0], requires_grad=True)
>>> ndl.grad((x ** 3).sum(), x)
(tensor([ 3., 12.]),)
>>> with ndl.no_grad():
...     (x * 2).requires_grad
False

An op is a formula in NumPy and its gradient rule, which is written in ops itself; a kernel is the same, quicker:

>>> @ndl.op
... def cube(x):
...     return x * x * x
>>> @cube.gradient
... def cube_gradient(g, x):
...     return g * 3.0 * x * x
>>> @ndl.kernel(cube, "numpy")
... def power(x):
...     return np.power(x, 3)
>>> with ndl.use_kernels("definition"):
...     cube(x)
tensor([1., 8.], node=cube)
>>> ndl.grad(cube(x).sum(), x)
(tensor([ 3., 12.]),)
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from . import errors, nn, ops, optim, random
from ._version import __version__
from .calculus import hessian, jacobian, jvp, vjp, vmap
from .checkpoint import checkpoint
from .core import graph
from .core.derivatives import grad
from .core.device import Device, cpu, cuda, device, triton_cpu
from .core.dtypes import (
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
from .core.explain import at_the_door as _at_the_door
from .core.graph import op
from .core.modes import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .core.tensor import Tensor
from .core.tiers import fast_available, kernel, use_kernels
from .creation import (
    arange,
    as_tensor,
    asarray,
    can_cast,
    empty,
    empty_like,
    eye,
    finfo,
    from_numpy,
    full,
    full_like,
    get_default_dtype,
    iinfo,
    linspace,
    logspace,
    ones,
    promote_types,
    scalar_tensor,
    tensor,
    tril_indices,
    triu_indices,
    zeros,
)
from .ops import *  # noqa: F403    every op is a public name: ndl.exp, ndl.matmul, ...
from .random import (
    Generator,
    bernoulli,
    get_rng_state,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    set_rng_state,
    uniform,
)
from .refused import missing as _missing

if TYPE_CHECKING:
    from . import (
        analysis,
        autograd,
        data,
        grading,
        kernels,
        linalg,
        models,
        onnx,
        plots,
        program,
        serialize,
        testing,
        training,
        widgets,
    )
    from .grading import check
    from .kernels import (
        device_report,
        explain_conv,
        get_num_threads,
        set_blas_threads,
        set_num_threads,
        strict_devices,
    )
    from .program import plan  # type: ignore[no-redef]
    from .serialize import (
        load_checkpoint,
        load_needle_npy,
        load_state_dict,
        load_tensors,
        save_checkpoint,
        save_state_dict,
        signature_diff,
    )
    from .widgets import autograd_graph, compare, diff, onnx_graph, program_graph, show  # type: ignore[no-redef]

# Rooms that computing does not need open when they are first asked for; some bring libraries of their own.
_ROOMS = ("analysis", "autograd", "data", "grading", "kernels", "linalg", "models", "onnx", "plots", "program", "serialize",
          "testing", "training", "widgets")
_LATER = {
    "check": "grading",
    "plan": "program",
    **dict.fromkeys(("device_report", "explain_conv", "get_num_threads", "set_blas_threads", "set_num_threads",
                     "strict_devices"), "kernels"),
    **dict.fromkeys(("load_checkpoint", "load_needle_npy", "load_state_dict", "load_tensors", "save_checkpoint",
                     "save_state_dict", "signature_diff"), "serialize"),
    **dict.fromkeys(("autograd_graph", "compare", "diff", "onnx_graph", "program_graph", "show"), "widgets"),
}
Size = tuple                                                        # what x.shape is; torch.Size
_HERE = """
    Device Generator Size Tensor arange as_tensor asarray bernoulli bfloat16 bool_ can_cast checkpoint cpu cuda device
    empty empty_like enable_grad errors eye fast_available finfo float16 float32 float64 from_numpy full full_like
    get_default_dtype get_rng_state grad graph hessian iinfo inference_mode int16 int32 int64 int8 is_grad_enabled
    jacobian jvp kernel linspace logspace manual_seed multinomial nn no_grad normal ones op ops optim promote_types rand
    rand_like randint randint_like randn randn_like random randperm scalar_tensor set_grad_enabled set_rng_state tensor
    tril_indices triton_cpu triu_indices uint16 uint32 uint64 uint8 uniform use_kernels vjp vmap zeros
""".split()
_AS_THEY_ARE = {"Tensor", "use_kernels", "kernel"}                 # they say themselves what does not fit
__all__ = sorted({*ops.__all__, *_HERE, *_ROOMS, *_LATER})          # the public names, which dir(ndl) and Tab show
_at_the_door(globals(), [name for name in _HERE if name not in _AS_THEY_ARE])


# Other names that PyTorch has for the same, which dir(ndl) leaves out.
_ALSO = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "divide": "div", "true_divide": "div", "multiply": "mul", "subtract": "sub",
    "negative": "neg", "fix": "trunc", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "not_equal": "ne", "long": "int64", "int": "int32", "short": "int16", "double": "float64", "float": "float32",
    "half": "float16", "bool": "bool_",
}
_NUMBERS = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None, "dtype": np.dtype}


def __getattr__(name: str) -> Any:
    if name in _NUMBERS:
        return _NUMBERS[name]
    if name in _ALSO:
        return globals()[_ALSO[name]]
    if name in ("adjoint", "detach") or (name[-1] == "_" != name[0] and name in vars(Tensor)):
        return getattr(Tensor, name)                                      # torch.relu_(x) is x.relu_()
    if name in vars(nn.functional):
        return vars(nn.functional)[name]
    if name not in _LATER and name not in _ROOMS:
        raise _missing("", name)
    import importlib
    room = importlib.import_module(f"{__name__}.{_LATER.get(name, name)}")
    value = globals()[name] = getattr(room, name) if name in _LATER else room
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
