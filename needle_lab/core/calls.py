"""What surrounds a call of an op and a step of backward: arguments, devices, messages, shapes.  `graph.py` is the idea."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DeviceError, DTypeError, GraphError, NeedleError, ShapeError
from .device import Device, to_device
from .dtypes import NARROW, float32, is_floating
from .explain import shown
from .storage import memory_of
from .tensor import Tensor, holds_numpy, key_of, wrap

if TYPE_CHECKING:
    from .graph import Node, Op

INPUTS = 3                       # a rule's parameters stand in (wants, g, y, *inputs)

# --- calling an op --------------------------------------------------------------------------------------------------


def parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any], bool]:
    """-> (positional names, keyword-only names, the latter's defaults, whether it takes *inputs) of a Python function."""
    code = getattr(function, "__code__", None)           # inspect.signature takes ten times as long, and there are 130 ops
    if code is None:
        raise ArgumentError(f"a function written in Python is needed, got {function!r}")
    count, names = code.co_argcount, code.co_varnames
    return (names[:count], names[count:count + code.co_kwonlyargcount], function.__kwdefaults__ or {},
            bool(code.co_flags & inspect.CO_VARARGS))


def signature(op: Op) -> str:
    typed = inspect.signature(op.definition)
    names = [p.replace(annotation=p.empty) for p in typed.parameters.values()]
    return f"{op.name}{typed.replace(parameters=names, return_annotation=typed.empty)}"


def described(inputs: Iterable[Any]) -> str:
    return ", ".join(map(shown, inputs))


def sorted_out(op: Op, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Each argument in its place: x.sum(0), as what follows inputs are attributes; sum(x, dim=0); linear(x, weight=w)."""
    if len(inputs) > op.most_inputs + len(op.attributes):
        raise ArgumentError(f"{signature(op)}: too many arguments, {described(inputs)}")
    named, placed = renamed(attrs, op.inputs, op.attributes), list(inputs[:op.most_inputs])
    given = dict(zip(op.attributes, inputs[op.most_inputs:], strict=False))
    if twice := [name for name in named if name in given or name in op.inputs[:len(placed)]]:
        raise ArgumentError(f"{signature(op)}: {twice[0]} is given twice")
    required = len(op.inputs) - len(op.definition.__defaults__ or ())
    for i in range(len(placed), max((i + 1 for i, name in enumerate(op.inputs) if name in named), default=0)):
        if op.inputs[i] not in named and i < required:
            raise ArgumentError(f"{signature(op)}: {op.inputs[i]} is missing")
        placed.append(named.pop(op.inputs[i], None))
    return tuple(placed), {**given, **named}


def renamed(given: dict[str, Any], inputs: Sequence[str], others: Collection[str]) -> dict[str, Any]:
    """Keyword arguments under the names that a function has for them: PyTorch's dim is NumPy's axis, and so on."""
    known = {*inputs, *others}
    names = {} if "axis" not in known else {"dim": "axis", "dims": "axis"}
    names |= {theirs: ours for theirs, ours in zip(("input", "other"), inputs, strict=False)}
    names |= {"keepdim": "keepdims"} if "keepdims" in known else {}
    if twice := [name for name in given if name not in known and names.get(name, name) in given and name in names]:
        raise ArgumentError(f"{twice[0]} and {names[twice[0]]} are two names of one argument; give one of them")
    return {name if name in known else names.get(name, name): value for name, value in given.items()}


def constant(op: Op, position: int, x: Any, inputs: tuple[Any, ...]) -> Any:
    """An input that is no tensor: one value of NumPy is as weak as a Python number, and so are the numbers of a list."""
    if isinstance(x, (list, tuple)):
        try:
            weak, x = not holds_numpy(x), np.asarray(x)
        except ValueError as error:
            raise ShapeError(f"{op.name}: {op.inputs[position]} is a list whose lists have different lengths") from error
        if weak and x.dtype == np.float64 and op.promote:
            floats = [t.dtype for t in inputs if isinstance(t, Tensor) and is_floating(t.dtype)]
            return x.astype(floats[0] if floats else np.float32)
    elif op.promote and position not in op.index_inputs and isinstance(x, (np.generic, np.ndarray)) and not x.ndim:
        return x.item()
    if not isinstance(x, (np.ndarray, np.generic, bool)):
        raise DTypeError(f"{signature(op)}: {op.inputs[min(position, len(op.inputs) - 1)]} is a tensor or a number, got "
                         f"{shown(x)}")
    return x


def one_device(op: Op, first: Device, other: Device) -> Device:
    if first != other:
        raise DeviceError(f"{op.name}: inputs are on {first} and {other}; move one with .to({str(first)!r})")
    return first


def explained(op: Op, error: Exception, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> NeedleError:
    """Our error for one of numpy's or Python's: what was called, with what."""
    if not isinstance(error, (TypeError, AttributeError)):
        return ShapeError(f"{op.name}: {str(error).strip()}; inputs: {described(inputs)}")
    try:
        inspect.signature(op.definition).bind(*inputs, **attrs)
    except TypeError as wrong:                           # an attribute that it does not have, or one that is missing
        return ArgumentError(f"{signature(op)}: {wrong}")
    return DTypeError(f"{op.name}: {error}; inputs: {described(inputs)}")


def rounded(results: tuple[Any, ...], narrow: np.dtype) -> tuple[Any, ...]:
    """float32 results as float16 or bfloat16."""
    return tuple(r.astype(narrow) if r is not None and r.dtype == np.float32 else r for r in results)

# --- a step of backward ---------------------------------------------------------------------------------------------


def seed(y: Tensor, gradient: Any) -> Tensor:
    """The gradient that backward starts with: the given one, or 1 for a single value."""
    if not y.requires_grad:
        raise GraphError("backward: this tensor does not depend on any tensor with requires_grad=True")
    if gradient is None:
        if y.data.size != 1:
            raise GraphError(f"backward: a gradient is needed for a result of shape {y.shape}; reduce it with "
                             ".sum() or .mean() first, or pass gradient= of that shape")
        return wrap(to_device(np.ones(y.shape, y.dtype), y.device), None, 0)
    if not isinstance(gradient, Tensor):
        gradient = Tensor(np.asarray(gradient, y.dtype), device=y.device)
    seeded: Tensor = gradient
    if seeded.shape != y.shape:
        raise ShapeError(f"backward: gradient has shape {gradient.shape}, the result has {y.shape}")
    return seeded


def on_paths(order: list[Node], keys: set[Any]) -> set[Node]:
    """The nodes on a path to a tensor with one of these keys, found oldest first."""
    needs: set[Node] = set()
    for node in reversed(order):
        if any(leading(node, needs, keys)):
            needs.add(node)
    return needs


def leading(node: Node, needs: set[Node], keys: set[Any] | None) -> list[bool]:
    """Which inputs of a node lead to a wanted tensor, or are one."""
    return [isinstance(x, Tensor) and (x.node in needs or (keys is not None and key_of(x) in keys)) for x in node.inputs]


def check_unchanged(node: Node) -> None:
    """GraphError if a value that the gradient reads was written to after the call."""
    reads = node.op.gradient.read
    for i, x in enumerate(node.inputs):
        if isinstance(x, Tensor) and x.storage.written > node.number and i + INPUTS in reads:
            raise GraphError(f"backward through {node.op.name!r}: its input {i} of shape {x.shape} was changed in place "
                             "after it was used; change a .clone(), or change it after backward")
    for storage in node.storages:
        if storage.written > node.number:
            raise GraphError(f"backward through {node.op.name!r}: its result was changed in place, and its gradient reads "
                             "that; change a .clone(), or change it after backward")


def widened(values: Any) -> Any:
    """float16 and bfloat16 tensors (of a tuple, or a tuple in it) as float32; the engine rounds the gradient at the end."""
    if isinstance(values, tuple):
        return tuple([widened(x) for x in values])
    return values.astype(float32) if isinstance(values, Tensor) and values.dtype in NARROW else values


def outputs_of(node: Node) -> tuple[Any, ...]:
    """A node's results as tensors again."""
    return tuple(None if r is None else wrap(r, node, i) for i, r in enumerate(node.outputs))


def fitted(g: Tensor, x: Tensor, source: Op | None) -> Tensor:
    """Undo broadcasting: sum over the axes along which x was stretched, and round to x's dtype."""
    if g.data.shape != x.data.shape:
        extra = g.ndim - x.ndim
        stretched = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(x.shape) if n == 1 != g.shape[i + extra])
        summed = g.sum(axis=stretched, keepdims=True) if stretched else g
        if extra < 0 or summed.shape[extra:] != x.shape:
            raise GraphError(f"the gradient rule of {source and source.name!r} returned shape {g.shape} "
                             f"for an input of shape {x.shape}")
        g = summed.reshape(x.shape)
    return g if g.data.dtype is x.data.dtype or g.dtype == x.dtype else g.astype(x.dtype)


def keep(found: dict[Tensor, Tensor], seeded: Tensor) -> None:
    """Add gradients to the `.grad` of their leaves, each in memory of its own: `.grad` may be changed."""
    given = {id(memory_of(seeded.data))}
    for leaf, g in found.items():
        if leaf.grad is not None:
            leaf.grad = leaf.grad + g
            continue
        memory = id(memory_of(g.data))
        if memory in given or (isinstance(g.data, np.ndarray) and not g.data.flags.writeable):
            leaf.grad = g.clone()                   # y = a + b hands one array to both
        else:
            leaf.grad = g
            given.add(memory)


def run_hooks(hooks: dict[int, tuple[int, Callable[..., Any]]], slots: list[Any]) -> None:
    for index, hook in list(hooks.values()):
        if slots[index] is not None:
            slots[index] = replaced(slots[index], hook)


def replaced(gradient: Tensor, hook: Callable[..., Any]) -> Tensor:
    """What a hook returns takes the gradient's place, unless it is None."""
    changed = hook(gradient)
    return gradient if changed is None else changed
