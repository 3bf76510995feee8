"""Derivatives of functions: jacobian, hessian, vjp, jvp; and vmap, a function of one example made one of a batch.

The names and answers of torch.autograd.functional and torch.vmap. `func` takes tensors and returns a tensor, or a tuple of
them; `inputs` is a tensor, or a tuple where func takes several, and the answer has the same structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import creation, ops
from .core.derivatives import grad
from .core.modes import enable_grad
from .core.tensor import Tensor
from .errors import ArgumentError, ShapeError


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """-> (func(inputs), v @ J): the gradient of the sum of v * func(inputs).  v: like the output; 1 for a single number.

    >>> x = ndl.tensor([1.0, 2.0])
    >>> ndl.vjp(lambda x: x * x, x, ndl.tensor([1.0, 10.0]))[1]
    tensor([ 2., 40.])
    """
    y, xs, outputs = _called(func, inputs, create_graph, "vjp")
    seeds = [None] * len(outputs) if v is None else list(v) if isinstance(v, tuple) else [v]
    found = _grad(outputs, xs, seeds, create_graph)
    return _plain(y, create_graph), _as(inputs, found)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False) -> tuple[Any, Any]:
    """-> (func(inputs), J @ v): how the output changes in the direction v.  v: like the inputs; 1 for a single number.

    v @ J is linear in v, so the gradient of u @ J by u, which may be 0, is J @ v: reverse mode, twice.

    >>> ndl.jvp(lambda x: x * x, ndl.tensor([1.0, 2.0]), ndl.tensor([1.0, 10.0]))[1]
    tensor([ 2., 40.])
    """
    y, xs, outputs = _called(func, inputs, create_graph, "jvp")
    directions = [creation.ones(x.shape, dtype=x.dtype, device=x.device) for x in xs] if v is None else _tuple(v)
    if len(directions) != len(xs) or any(d.shape != x.shape for d, x in zip(directions, xs, strict=True)):
        raise ShapeError(f"jvp: v must be like the inputs, {[x.shape for x in xs]}, got {[d.shape for d in directions]}")
    zeros = [ops.zeros_like(o).detach().requires_grad_() for o in outputs]
    products = _grad(outputs, xs, zeros, True)
    moved = [(p, d) for p, d in zip(products, directions, strict=True) if p.requires_grad]
    found = _grad([p for p, _ in moved], zeros, [d for _, d in moved], create_graph) if moved else map(ops.zeros_like, zeros)
    return _plain(y, create_graph), _as(y, [_plain(g, create_graph) for g in found])


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """All derivatives of the output by the inputs: of shape (*output.shape, *input.shape).

    A tuple with one for each input where inputs is a tuple, and a tuple of these where func returns one. One backward pass
    for each value of the output.

    >>> ndl.jacobian(lambda x: x * x, ndl.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    y, xs, outputs = _called(func, inputs, create_graph, "jacobian")
    found = []
    for output in outputs:
        flat = output.reshape(-1)
        rows = [_grad([flat[i]], xs, [None], create_graph, retain=True) for i in range(flat.shape[0])]
        found.append(_as(inputs, [
            ops.stack([row[k] for row in rows]).reshape(*output.shape, *x.shape) if rows
            else creation.zeros(*output.shape, *x.shape, dtype=x.dtype) for k, x in enumerate(xs)]))
    return _as(y, found)


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False) -> Any:
    """All second derivatives of a function with one number as its output: of shape (*input.shape, *input.shape).

    A tuple of tuples where inputs is a tuple.

    >>> ndl.hessian(lambda x: (x ** 3).sum(), ndl.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    def gradient(*xs: Any) -> Any:
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:
            raise ShapeError("hessian: func returns one number, got "
                             f"{y.shape if isinstance(y, Tensor) else type(y).__name__}")
        return _as(inputs, _grad([y.reshape(())], list(xs), [None], True))
    return jacobian(gradient, inputs, create_graph)


def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: int = 0) -> Callable[..., Any]:
    """func, written for one example, as a function of a batch of them.  torch.vmap.

    in_dims: the axis of examples of each argument, None for one that all share. out_dims: where the results are stacked.
    One call an example: the definition, as exact as func and no faster than the loop that it is.

    >>> dot = ndl.vmap(lambda a, b: (a * b).sum())
    >>> dot(ndl.ones(3, 2), ndl.ones(3, 2))
    tensor([2., 2., 2.])
    """
    def batched(*args: Any) -> Any:
        axes = list(in_dims) if isinstance(in_dims, (tuple, list)) else [in_dims] * len(args)
        if len(axes) != len(args):
            raise ArgumentError(f"vmap: in_dims has {len(axes)} entries for {len(args)} arguments")
        lengths = {x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None}
        if len(lengths) != 1:
            raise ShapeError("vmap: examples lie along one axis of each argument, of one length; "
                             f"got the lengths {sorted(lengths)} of {[getattr(x, 'shape', x) for x in args]}")
        if max(lengths) == 0:
            raise ArgumentError("vmap: there are no examples, so nobody knows what func returns")
        columns = [[x] * max(lengths) if axis is None else ops.unbind(x, axis) for x, axis in zip(args, axes, strict=True)]
        results = [func(*example) for example in zip(*columns, strict=True)]
        if isinstance(results[0], tuple):
            return tuple(ops.stack(column, axis=out_dims) for column in zip(*results, strict=True))
        return ops.stack(results, axis=out_dims)
    return batched


def _called(func: Callable[..., Any], inputs: Any, create_graph: bool, caller: str
            ) -> tuple[Any, list[Tensor], list[Tensor]]:
    """-> (the output, the inputs as ends of its graph, the outputs as a list)."""
    given = _tuple(inputs)
    if not given or not all(isinstance(x, Tensor) for x in given):
        raise ArgumentError(f"{caller}: inputs is a tensor or a tuple of tensors, got {type(inputs).__name__}")
    with enable_grad():
        xs = [ops.clone(x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in given]
        y = func(*xs)
    outputs = _tuple(y)
    if not outputs or not all(isinstance(o, Tensor) for o in outputs):
        raise ArgumentError(f"{caller}: func returns a tensor or a tuple of tensors, got {type(y).__name__}")
    return y, xs, outputs


def _grad(outputs: Sequence[Tensor], xs: Sequence[Tensor], seeds: Sequence[Any], create_graph: bool, retain: bool = False
          ) -> list[Tensor]:
    """Gradients, 0 where an output does not depend on an input."""
    pairs = [(y, g) for y, g in zip(outputs, seeds, strict=True) if y.requires_grad]
    if not pairs:
        return [ops.zeros_like(x).detach() for x in xs]
    found = grad([y for y, _ in pairs], xs, [g for _, g in pairs], create_graph, create_graph or retain, allow_unused=True)
    return [ops.zeros_like(x).detach() if g is None else g for g, x in zip(found, xs, strict=True)]


def _tuple(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (tuple, list)) else [values]


def _as(like: Any, values: Sequence[Any]) -> Any:
    """One value, or a tuple, as `like` is."""
    return tuple(values) if isinstance(like, (tuple, list)) else values[0]


def _plain(y: Any, create_graph: bool) -> Any:
    if create_graph:
        return y
    return tuple(map(Tensor.detach, y)) if isinstance(y, (tuple, list)) else y.detach()
