"""What tensors can do: `x + y`, `x.exp()`, `x.sum(0)` are ops with the tensor first.  Attached to Tensor here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.device import Device, as_device
from ..core.dtypes import as_dtype
from ..core.explain import explaining
from ..core.graph import Op
from ..core.modes import is_grad_enabled, no_grad
from ..core.tensor import Tensor, flat, plain_index
from ..errors import ShapeError
from ..refused import missing
from . import activations, elementwise, indexing, linalg, reduce
from . import shape as shapes

OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
             "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
             "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")           # also number + tensor
IN_PLACE = ("add", "sub", "mul", "truediv")                                                # also tensor += number

# Functions of needle_lab.ops with the tensor first.
METHODS = ("abs exp log log1p expm1 sqrt rsqrt square reciprocal sin cos tan tanh erf sigmoid relu gelu silu floor ceil "
           "round sign clip neg isnan isinf isfinite where maximum minimum pow add sub mul div clone "
           "sum mean prod max min amax amin argmax argmin var std logsumexp cumsum cumprod all any norm sort argsort "
           "topk transpose squeeze unsqueeze flatten swapaxes split chunk flip roll pad gather scatter scatter_add "
           "index_select take_along_axis masked_fill tril triu repeat_interleave diagonal "
           "matmul dot outer softmax log_softmax clamp movedim unbind nonzero trace allclose").split()


def _function(name: str) -> Any:
    """The op, or function of ops, with this name."""
    rooms = elementwise, activations, shapes, indexing, reduce, linalg
    return next(getattr(room, name) for room in rooms if hasattr(room, name))


def _method(name: str, function: Callable[..., Any], doc: str) -> None:
    function.__name__, function.__qualname__, function.__doc__ = name, f"Tensor.{name}", doc
    setattr(Tensor, name, function)


def _attach_operator(sign: str, name: str) -> None:
    function = _function(name)
    _method(f"__{sign}__", lambda self, other: function(self, other), f"ndl.{name}(self, other)")
    if sign in REFLECTED:
        _method(f"__r{sign}__", lambda self, other: function(other, self), f"ndl.{name}(other, self)")
    if sign in IN_PLACE:
        _method(f"__i{sign}__", lambda self, other: _in_place(self, function, other), f"In place: ndl.{name}(self, other)")


def _in_place(x: Tensor, function: Callable[..., Tensor], other: Any) -> Tensor:
    """x += y: in place where nothing is recorded, else a new result bound to the same name."""
    if is_grad_enabled():
        if x.node is None and x.requires_grad:
            x._writable()
        if x.requires_grad or (isinstance(other, Tensor) and other.requires_grad):
            return function(x, other)
    with no_grad():
        result = function(x, other)
        if result.shape != x.shape:
            raise ShapeError(f"in-place change: the result has shape {result.shape}, the tensor {x.shape}")
        return x._write(result)


def _attach_method(name: str) -> None:
    function = _function(name)
    function = function if isinstance(function, Op) else explaining(function)
    _method(name, lambda self, *args, **kwargs: function(self, *args, **kwargs), f"ndl.{name}(self, ...)")


for _sign, _name in OPERATORS.items():
    _attach_operator(_sign, _name)
for _name in METHODS:
    _attach_method(_name)

# --- methods with an argument list of their own ---------------------------------------------------------------------


def _astype(x: Tensor, dtype: Any) -> Tensor:
    dtype = as_dtype(dtype)
    return x if dtype == x.dtype else shapes.cast(x, dtype=dtype)


def _to(x: Tensor, target: Any = None, *, device: Device | str | None = None, dtype: Any = None) -> Tensor:
    if isinstance(target, Device) or (isinstance(target, str) and target.partition(":")[0] in ("cpu", "cuda", "triton_cpu")):
        device = target
    elif target is not None:
        dtype = target
    x = x if dtype is None else _astype(x, dtype)
    return x if device is None or as_device(device) == x.device else shapes.transfer(x, device=as_device(device))


def _absent(_x: Tensor, name: str) -> None:
    raise missing("Tensor", name)


def _iterated(x: Tensor) -> Any:
    if not x.shape:
        raise TypeError("a tensor without axes cannot be iterated")
    return (x[i] for i in range(x.shape[0]))


_method("__getitem__", lambda self, index: indexing.getitem(self, index=plain_index(index)), "self[index], as in NumPy.")
_method("__getattr__", _absent, "An error that says why, for what PyTorch has and needle_lab has not.")
_method("__iter__", _iterated, "The slices along the first axis.")
_method("__neg__", lambda self: elementwise.neg(self), "ndl.neg(self)")
_method("__abs__", lambda self: elementwise.abs(self), "ndl.abs(self)")
_method("__pos__", lambda self: self, "The tensor itself.")
_method("__invert__", lambda self: _function("logical_not" if self.dtype == np.bool_ else "bitwise_not")(self),
        "Not, of bools; all bits turned, of integers.")
_method("reshape", lambda self, *shape: shapes.reshape(self, shape=flat(shape)), "ndl.reshape(self, shape)")
_method("view", lambda self, *shape: shapes.reshape(self, shape=flat(shape)), "ndl.reshape(self, shape)")
_method("permute", lambda self, *axes: shapes.permute(self, axes=flat(axes)), "ndl.permute(self, axes)")
_method("expand", lambda self, *shape: shapes.expand(self, shape=flat(shape)), "ndl.expand(self, shape)")
_method("tile", lambda self, *repeats: shapes.tile(self, repeats=flat(repeats)), "ndl.tile(self, repeats)")
_method("astype", explaining(_astype, "astype"),
        "The values in another dtype; the tensor itself if it has that dtype already.")
_method("float", lambda self: _astype(self, "float32"), "The values as float32.")
_method("to", explaining(_to, "to"), 'To a device (`x.to("cpu")`), to a dtype (`x.to(ndl.float64)`), or to both.')
_method("cpu", lambda self: _to(self, device="cpu"), "On the host.")
_method("contiguous", lambda self: self if self.device.backend != "numpy" or self.data.flags.c_contiguous
        else shapes.clone(self), "The same values in one piece of memory, row by row; the tensor itself if they are.")
Tensor.T = property(lambda self: self.permute(*reversed(range(self.ndim))), doc="All axes in reverse.")  # type: ignore
Tensor.mT = property(lambda self: self.transpose(-1, -2), doc="The last two axes swapped.")              # type: ignore
for _name in ("size", "requires_grad_", "register_hook", "copy_", "fill_"):
    setattr(Tensor, _name, explaining(getattr(Tensor, _name)))
