"""Gradients asked for by name: `grad`, and what rules that are compositions of ops are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import GraphError
from . import calls
from .graph import propagate
from .modes import enable_grad, is_grad_enabled
from .tensor import Tensor, key_of


def grad(outputs: Any, inputs: Any, gradients: Any = None, create_graph: bool = False, retain_graph: bool | None = None,
         allow_unused: bool = False, *, grad_outputs: Any = None, only_inputs: bool = True) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, without touching `.grad`.  torch.autograd.grad.

    inputs may be leaves or results. create_graph=True makes the gradients differentiable themselves. An input that
    the outputs do not depend on raises GraphError, or gives None with allow_unused=True. grad_outputs is PyTorch's name of
    gradients, those of the outputs; only_inputs changes nothing.
    """
    gradients = gradients if grad_outputs is None else grad_outputs
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if gradients is None:
        gradients = [None] * len(outputs)
    gradients = [gradients] if isinstance(gradients, Tensor) else list(gradients)
    seeds = [calls.seed(y, g) for y, g in zip(outputs, gradients, strict=True)]
    for x in inputs:
        if not x.requires_grad:
            raise GraphError(f"grad: the input of shape {x.shape} does not require a gradient; "
                             "create it with requires_grad=True")
    found = propagate(outputs, seeds, inputs, create_graph, create_graph if retain_graph is None else retain_graph)
    results = tuple(found.get(key_of(x)) for x in inputs)
    unused = [i for i, g in enumerate(results) if g is None]
    if unused and not allow_unused:
        raise GraphError(f"grad: the outputs do not depend on input {unused[0]}; "
                         "pass allow_unused=True to get None for it")
    return results


def by_parts(function: Callable[..., Any], inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The gradients of function(*inputs), a composition of ops: the rule of an op that computes the same in one go.

    gradients: of the function's outputs; None where none came. The answer can be differentiated again where gradients
    are recorded.
    """
    again = is_grad_enabled()
    with enable_grad():
        ends = [x.clone() if again and x.requires_grad else x.detach().requires_grad_() for x in inputs]
        found = [(y, g) for y, g in zip(function(*ends), gradients, strict=True) if g is not None and y.requires_grad]
    return gradients_between(found, ends, again)


def gradients_between(outputs: Sequence[tuple[Tensor, Tensor]], ends: Sequence[Tensor], create_graph: bool
                      ) -> tuple[Any, ...]:
    """Gradients of (output, its gradient) pairs for the tensors at which a piece of graph ends; None where unreached."""
    found = propagate([y for y, _ in outputs], [g for _, g in outputs], ends, create_graph, create_graph, only_between=True)
    return tuple(found.get(key_of(x)) for x in ends)
