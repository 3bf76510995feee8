"""What tensors can do: `x + y`, `x.exp()`, `x.sum(0)` are ops with the tensor first.  Attached to Tensor here."""

from __future__ import annotations

import numbers
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.device import Device, as_device
from ..core.dtypes import as_dtype, kind_rank
from ..core.explain import explaining
from ..core.graph import Op
from ..core.modes import is_grad_enabled, is_tracing
from ..core.tensor import Tensor, flat, plain_index, steps_of
from ..errors import ArgumentError, DTypeError, ShapeError
from ..random import bernoulli, multinomial, normal, randint, uniform
from ..refused import missing
from . import (
    activations,
    arrange,
    elementwise,
    formulas,
    indexing,
    linalg,
    matrices,
    order,
    places,
    products,
    reduce,
    special,
    statistics,
)
from . import shape as shapes

OPERATORS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
             "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
             "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
             "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
REFLECTED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")

# Functions of needle_lab.ops with the tensor first that also have an in-place form, x.exp_().
CHANGES = """
    abs acos acosh add addbmm addcdiv addcmul addmm addmv addr asin asinh atan atan2 atanh baddbmm bitwise_and
    bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip copysign
    cos cosh cumprod cumsum deg2rad digamma div eq erf erfc erfinv exp exp2 expm1 float_power floor floor_divide fmod
    frac gcd ge gt heaviside hypot index_add index_copy index_fill index_put lcm ldexp le lerp lgamma log log10 log1p log2
    logical_and logical_not logical_or logical_xor logit lt masked_fill masked_scatter mul mvlgamma nan_to_num ne neg pow put
    rad2deg reciprocal relu remainder renorm round rsqrt scatter scatter_add scatter_reduce sigmoid sign sin sinc sinh sqrt
    square sub tan tanh tril triu trunc xlogy
""".split()

# Functions with the tensor first that make something of another shape, or that nobody changes in place.
METHODS = """
    all allclose amax amin aminmax any argmax argmin argsort argwhere bincount bmm broadcast_to bucketize cdist
    cholesky chunk clone corrcoef count_nonzero cov cross cummax cummin det diag diag_embed diagflat diagonal diff dist
    dot dsplit entr equal expand_as fill flatten flip fliplr flipud fmax fmin gather gelu ger hardshrink histc
    histogram hsplit index_select inner inverse is_floating_point isclose isfinite isin isinf isnan isneginf isposinf
    kron kthvalue log_softmax logaddexp logaddexp2 logcumsumexp logdet logsumexp masked_select matmul matrix_power max
    maximum mean median min minimum mm mode moveaxis movedim msort mv nanmean nanmedian nanquantile nansum narrow
    nonzero norm outer pad pinverse positive prelu prod quantile ravel repeat repeat_interleave reshape_as roll rot90
    rsub select signbit silu slogdet softmax sort split split_with_sizes squeeze std std_mean sum sum_to_size swapaxes
    swapdims t take take_along_axis take_along_dim tensor_split topk trace transpose trapezoid unbind unflatten unfold
    unique unique_consecutive unsqueeze var var_mean vdot vsplit
""".split()
OTHER_NAMES = {"absolute": "abs", "divide": "div", "true_divide": "div", "multiply": "mul", "subtract": "sub",
               "negative": "neg", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
               "not_equal": "ne", "fix": "trunc", "view_as": "reshape_as", "nelement": "numel", "ndimension": "dim",
               "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
               "arctan2": "atan2", "arctanh": "atanh"}

CASTS = {"float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16", "long": "int64", "int": "int32",
         "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool"}


def _function(name: str) -> Any:
    """The op, or function of ops, with this name: the public one where two files have it, as `order` has `max`."""
    rooms = (matrices, order, statistics, places, arrange, products, special, formulas, elementwise, activations, shapes,
             indexing, reduce, linalg)
    found: Any = [getattr(room, name) for room in rooms if hasattr(room, name)]
    return next((f for f in found if isinstance(f, Op)), found[0])


def _method(name: str, function: Callable[..., Any], doc: str) -> None:
    function.__name__, function.__qualname__, function.__doc__ = name, f"Tensor.{name}", doc
    setattr(Tensor, name, function)


def _attach_operator(sign: str, name: str) -> None:
    function = _function(name)
    _method(f"__{sign}__", lambda self, other: function(self, other), f"ndl.{name}(self, other)")
    if sign in REFLECTED:
        _method(f"__r{sign}__", lambda self, other: function(other, self), f"ndl.{name}(other, self)")
    if sign in IN_PLACE:
        _method(f"__i{sign}__", lambda self, other: _operator_in_place(self, function, other),
                f"In place: ndl.{name}(self, other)")


def _attach_comparison(sign: str, name: str) -> None:
    """Of what is no number the other side is asked, and in the end nothing equals it, as everywhere in Python."""
    function, known = _function(name), (Tensor, np.ndarray, np.generic, numbers.Number, list, tuple)
    _method(f"__{sign}__", lambda self, other: function(self, other) if isinstance(other, known) else NotImplemented,
            f"ndl.{name}(self, other)")


def _operator_in_place(x: Tensor, function: Callable[..., Tensor], other: Any) -> Tensor:
    """x += y: in place where nothing is recorded, else a new result bound to the same name."""
    if is_grad_enabled():
        if x.node is None and x.requires_grad:
            x._writable()
        if x.requires_grad or (isinstance(other, Tensor) and other.requires_grad):
            return _castable(x, function(x, other))
    return _in_place(x, function, other)


def _in_place(x: Tensor, function: Callable[..., Tensor], *given: Any, **named: Any) -> Tensor:
    """x.add_(y): x holds the result, in its own dtype and memory."""
    x._writable()
    result = function(x, *given, **named)
    if result.shape != x.shape:
        raise ShapeError(f"in-place change: the result has shape {result.shape}, the tensor {x.shape}")
    return x._write(_castable(x, result))


def _castable(x: Tensor, result: Tensor) -> Tensor:
    """A result that x's dtype can hold: fractions do not go into integers, nor numbers into bools."""
    if kind_rank(result.dtype) > kind_rank(x.dtype):
        raise DTypeError(f"in-place change: the result is {result.dtype}, which a tensor of {x.dtype} cannot hold; compute "
                         f"a new tensor, or cast first: x = x.astype({str(result.dtype)!r})")
    return result


def _explained(function: Any) -> Any:
    return function if isinstance(function, Op) else explaining(function)


def _attach_method(name: str, public: str = "") -> None:
    function = _explained(_function(name)) if not hasattr(Tensor, name) else getattr(Tensor, name)
    _method(public or name, lambda self, *args, **kwargs: function(self, *args, **kwargs), f"ndl.{name}(self, ...)")


def _attach_change(name: str) -> None:
    function = _explained(_function(name))
    _method(f"{name}_", lambda self, *args, **kwargs: _in_place(self, function, *args, **kwargs),
            f"In place: ndl.{name}(self, ...)")


for _sign, _name in OPERATORS.items():
    _attach_operator(_sign, _name) if _sign not in ("eq", "ne") else _attach_comparison(_sign, _name)
for _name in (*METHODS, *CHANGES):
    _attach_method(_name)
for _name in CHANGES:
    _attach_change(_name)
for _name, _ours in OTHER_NAMES.items():
    _attach_method(_ours, _name)
    if _ours in CHANGES:
        _attach_method(f"{_ours}_", f"{_name}_")

# --- methods with an argument list of their own ---------------------------------------------------------------------


def _astype(x: Tensor, dtype: Any) -> Tensor:
    dtype = as_dtype(dtype)
    return x if dtype == x.dtype else shapes.cast(x, dtype=dtype)


KINDS = ("cpu", "cuda", "triton_cpu")


def _to(x: Tensor, *targets: Any, device: Device | str | None = None, dtype: Any = None, non_blocking: bool = False,
        copy: bool = False) -> Tensor:
    for target in targets:
        if isinstance(target, Tensor):
            device, dtype = target.device, target.dtype
        elif isinstance(target, Device) or (isinstance(target, str) and target.partition(":")[0] in KINDS):
            device = target
        elif not isinstance(target, bool):                        # x.to(device, True): non_blocking, which changes nothing
            dtype = target
    y = x if dtype is None else _astype(x, dtype)
    y = y if device is None or as_device(device) == y.device else shapes.transfer(y, device=as_device(device))
    return shapes.clone(y) if copy and y is x else y


def _getitem(x: Tensor, index: Any) -> Tensor:
    for step in steps_of(plain_index(index)):
        x = indexing.getitem(x, index=step)
    return x


def _absent(_x: Tensor, name: str) -> None:
    raise missing("Tensor", name)


def _iterated(x: Tensor) -> Any:
    if not x.shape:
        raise TypeError("a tensor without axes cannot be iterated")
    return (x[i] for i in range(x.shape[0])) if is_tracing() else iter(shapes.unbind(x))


def _retain_grad(x: Tensor) -> None:
    """Keep the gradient of a result in its .grad, as leaves do."""
    if x.node is not None:
        me = weakref.ref(x)

        def keep(g: Tensor) -> None:
            if (result := me()) is not None:
                result.grad = g if result.grad is None else result.grad + g
        x.register_hook(keep)


def _detach_(x: Tensor) -> Tensor:
    x.node, x.requires_grad = None, False
    return x


def _fill_diagonal(x: Tensor, value: float) -> Tensor:
    if x.ndim != 2:
        raise ShapeError(f"fill_diagonal_: a matrix is needed, got shape {x.shape}")
    shapes.diagonal(x.detach() if not is_grad_enabled() else x).fill_(value)
    return x


def _filled(x: Tensor, size: Any, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    return Tensor(np.full(size, value, x.dtype if dtype is None else as_dtype(dtype)), requires_grad, device or x.device)


def _new(name: str, value: float, doc: str) -> None:
    _method(name, lambda self, *size, dtype=None, device=None, requires_grad=False:
            _filled(self, flat(size), value, dtype, device, requires_grad), doc)


def _drawn(name: str, draw: Callable[..., Any], doc: str) -> None:
    """An in-place form that fills x with random numbers."""
    _method(name, lambda self, *given, generator=None, **named: self._write(draw(self, generator, *given, **named)), doc)


def _random_integers(x: Tensor, generator: Any, low: int = 0, high: int | None = None) -> Tensor:
    low, high = (0, low or (2 if x.dtype.kind == "b" else 1 << 24)) if high is None else (low, high)
    return randint(low, high, x.shape, generator=generator)


def _exponential(x: Tensor, generator: Any, lambd: float = 1.0) -> Tensor:
    return -(1.0 - uniform(0.0, 1.0, x.shape, np.float64, generator=generator)).log() / lambd


def _uniform(x: Tensor, generator: Any, low: float = 0.0, high: float = 1.0, **ends: float) -> Tensor:
    """PyTorch calls the ends `from`, which Python reserves, and `to`."""
    low, high = ends.pop("from", low), ends.pop("to", high)
    if ends or low > high:
        raise ArgumentError(f"uniform_: from={low}, to={high} {ends or ''}")
    return uniform(low, high, x.shape, generator=generator)


_method("__getitem__", _getitem, "self[index]: numbers, slices, None, ..., lists, arrays, masks, as in PyTorch.")
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
for _name, _dtype in CASTS.items():
    _method(_name, lambda self, _dtype=_dtype: _astype(self, _dtype), f"The values as {_dtype}.")
_method("type_as", lambda self, other: _astype(self, other.dtype), "The values in the dtype of another tensor.")
_method("type", lambda self, dtype=None: str(self.dtype) if dtype is None else _astype(self, dtype),
        "The name of the dtype; or the values in another one.")
_method("__rdiv__", lambda self, other: elementwise.div(other, self), "ndl.div(other, self)")
_method("where", lambda self, condition, other: elementwise.where(condition, self, other),
        "ndl.where(condition, self, other)")
_method("polygamma", lambda self, n: special.polygamma(n, self), "ndl.polygamma(n, self)")
_method("polygamma_", lambda self, n: _in_place(self, _function("polygamma"), n), "In place: ndl.polygamma(n, self)")
_method("multinomial", multinomial, "ndl.multinomial(self, num_samples)")
_method("bernoulli", lambda self, generator=None: bernoulli(self, generator=generator),
        "1 with these probabilities, else 0.")
_method("index", lambda self, indices: self[tuple(indices)], "self[indices]")
_method("cuda", lambda self, device=None, non_blocking=False: _to(self, "cuda" if device is None else device), "On the GPU.")
_method("element_size", lambda self: self.dtype.itemsize, "Bytes of one value.")
_method("is_nonzero", lambda self: bool(self), "Whether the only value is not 0.")
_method("is_same_size", lambda self, other: self.shape == other.shape, "Whether the shapes are the same.")
_method("is_signed", lambda self: self.dtype.kind not in "ub", "Whether the dtype has negative numbers.")
_method("adjoint", lambda self: shapes.transpose(self), "The last two axes swapped: numbers are real here.")
_method("is_contiguous", lambda self: self.device.backend != "numpy" or self.data.flags.c_contiguous,
        "Whether the values lie in memory row by row.")
_method("__contains__", lambda self, value: (self == value).any().item(), "Whether a value is one of the tensor's.")
_method("retain_grad", _retain_grad, "Keep the gradient of this result in its .grad, as leaves do.")
_method("detach_", _detach_, "Leave the graph: the tensor becomes a leaf without a gradient.")
_method("fill_diagonal_", _fill_diagonal, "In place: value on the diagonal of a matrix.")
_new("new_zeros", 0, "Zeros of this shape, and by default of this tensor's dtype and device.")
_new("new_ones", 1, "Ones of this shape, and by default of this tensor's dtype and device.")
_new("new_empty", 0, "A tensor of this shape, to be filled, and by default of this tensor's dtype and device.")
_method("new_full", lambda self, size, fill_value, dtype=None, device=None, requires_grad=False:
        _filled(self, tuple(size), fill_value, dtype, device, requires_grad), "fill_value in this shape.")
_method("new_tensor", lambda self, data, dtype=None, device=None, requires_grad=False:
        Tensor(np.array(data), requires_grad, device or self.device, self.dtype if dtype is None else dtype),
        "A copy of data, by default of this tensor's dtype and device.")
_drawn("normal_", lambda x, generator, mean=0.0, std=1.0: normal(mean, std, x.shape, generator=generator),
       "In place: normal with this mean and standard deviation.")
_drawn("uniform_", _uniform, "In place: uniform between two ends, 0 and 1 by default.")
_drawn("bernoulli_", lambda x, generator, p=0.5: bernoulli(p, x.shape, generator=generator),
       "In place: 1 with probability p.")
_drawn("random_", _random_integers, "In place: whole numbers in [low, high), or [0, low).")
_drawn("exponential_", _exponential, "In place: exponential with this rate.")
_method("to", explaining(_to, "to"), 'To a device (`x.to("cpu")`), to a dtype (`x.to(ndl.float64)`), or to both.')
_method("cpu", lambda self: _to(self, device="cpu"), "On the host.")
_method("contiguous", lambda self: self if self.device.backend != "numpy" or self.data.flags.c_contiguous
        else shapes.clone(self), "The same values in one piece of memory, row by row; the tensor itself if they are.")
Tensor.T = property(lambda self: self.permute(*reversed(range(self.ndim))), doc="All axes in reverse.")  # type: ignore
Tensor.H = Tensor.mH = property(lambda self: shapes.transpose(self), doc="The last two axes swapped: numbers are real here.")  # type: ignore
Tensor.grad_fn = property(lambda self: self.node, doc="The call that made it, its node; None for a leaf.")   # type: ignore
Tensor.itemsize = property(lambda self: self.dtype.itemsize, doc="Bytes of one value.")                # type: ignore
Tensor.is_cpu = property(lambda self: self.device.kind == "cpu", doc="Whether it is on the host.")      # type: ignore
Tensor.is_cuda = property(lambda self: self.device.kind == "cuda", doc="Whether it is on a GPU.")      # type: ignore
Tensor.mT = property(lambda self: self.transpose(-1, -2), doc="The last two axes swapped.")              # type: ignore
for _name in """
    bernoulli bernoulli_ copy_ exponential_ fill_ fill_diagonal_ index is_same_size multinomial new_empty new_full
    new_ones new_tensor new_zeros normal_ polygamma polygamma_ random_ register_hook requires_grad_ size type type_as
    uniform_ where
""".split():
    setattr(Tensor, _name, explaining(getattr(Tensor, _name)))
