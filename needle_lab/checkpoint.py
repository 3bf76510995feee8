"""Gradient checkpointing: forget a segment's intermediate values, compute them again when backward needs them.

Training keeps every activation until backward has passed it. A network cut into k segments of checkpointed calls keeps
only what passes between them, and the activations of one segment at a time: memory falls from n to about k + n / k, for
one more forward pass (Griewank and Walther, 2000; Chen et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import ops
from .core.derivatives import gradients_between
from .core.graph import Node, Op
from .core.modes import enable_grad, is_grad_enabled
from .core.storage import serial
from .core.tensor import Tensor, key_of
from .errors import ArgumentError, GraphError
from .random import Generator


def checkpoint(function: Callable[..., Any], *inputs: Any) -> Any:
    """function(*inputs), with its intermediate values computed again in backward instead of kept.

    function: returns a tensor or a tuple of tensors, the same each time; random numbers (dropout) are drawn again as
    before, from whatever generators. GraphError if the second run calls other ops, as after a model.eval(). Gradients
    reach its inputs and every tensor that it uses besides (the parameters of its layers). Batch norm in training mode
    moves its running statistics at both runs.  torch.utils.checkpoint.checkpoint.

    >>> x = ndl.tensor([2.0], requires_grad=True)
    >>> ndl.checkpoint(lambda x: (x * x).exp().log(), x).backward()
    >>> x.grad
    tensor([4.])
    """
    if not is_grad_enabled():
        return function(*inputs)
    segment = _Segment(function, inputs)
    used = [inputs[i] for i in segment.places] + segment.captured
    answer = _recomputed(*used, segment=segment) if used else tuple(segment.outputs)
    del segment.outputs
    return answer[0] if segment.single else answer


class _Segment:
    """One checkpointed call: what it takes to run it again."""

    def __init__(self, function: Callable[..., Any], inputs: tuple[Any, ...]):
        self.function, self.inputs, self.streams = function, inputs, _streams()
        self.places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
        ends = [x.detach().requires_grad_() for x in (inputs[i] for i in self.places)]
        start = next(serial)
        outputs = self.run(ends)
        self.outputs = [y.detach() for y in outputs]
        self.captured, self.ops = _captured(outputs, ends, start)

    def run(self, ends: list[Tensor]) -> tuple[Tensor, ...]:
        """Call the function with `ends` in the places of the inputs that require a gradient."""
        given = list(self.inputs)
        for i, x in zip(self.places, ends, strict=True):
            given[i] = x
        result = self.function(*given)
        self.single = isinstance(result, Tensor)
        outputs = (result,) if self.single else result
        if not isinstance(outputs, (tuple, list)) or not all(isinstance(y, Tensor) for y in outputs):
            raise ArgumentError("checkpoint: the function must return a tensor or a tuple of tensors, "
                                f"it returned {type(result).__name__}")
        return tuple(outputs)

    def gradients(self, gradients: tuple[Any, ...], used: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """Of the inputs and of what the function captured, from a second run."""
        again, now = is_grad_enabled(), _streams()
        count = len(self.places)
        _rewind(self.streams)
        try:
            with enable_grad():
                ends = [ops.clone(x) if again else x.detach().requires_grad_() for x in used[:count]]
                start = next(serial)
                outputs = self.run(ends)
        finally:
            _rewind(now)
        _, called = _captured(outputs, ends, start)
        if called != self.ops:
            first = next((pair for pair in zip(self.ops, called, strict=False) if pair[0] != pair[1]),
                         (f"{len(self.ops)} ops", f"{len(called)} ops"))
            raise GraphError("checkpoint: computed again for backward, the function did something else "
                             f"({first[1]} in place of {first[0]}); was the model switched between train() and eval() in "
                             "between?")
        found = [(y, g) for y, g in zip(outputs, gradients, strict=True) if g is not None and y.requires_grad]
        return gradients_between(found, [*ends, *used[count:]], again)


def _captured(outputs: tuple[Tensor, ...], ends: list[Tensor], start: int) -> tuple[list[Tensor], list[str]]:
    """-> (the tensors that require a gradient, were made before the call, and are read by it without being its inputs;
    the names of the ops that it called, in order)."""
    own, found = {id(x) for x in ends}, {}
    seen: set[Node] = set()
    stack = [y for y in outputs if y.requires_grad]
    while stack:
        x = stack.pop()
        if x.node is not None and x.node.number > start:
            if x.node not in seen:
                seen.add(x.node)
                stack.extend(v for v in x.node.inputs if isinstance(v, Tensor) and v.requires_grad)
        elif id(x) not in own:
            found[key_of(x)] = x
    return list(found.values()), [node.op.name for node in sorted(seen, key=lambda node: node.number)]


def _streams() -> list[tuple[Generator, dict[str, Any]]]:
    """Where every generator stands."""
    return [(generator, generator.get_state()) for generator in list(Generator.living)]


def _rewind(streams: list[tuple[Generator, dict[str, Any]]]) -> None:
    for generator, state in streams:
        generator.set_state(state)


def _run_once(*_xs: Any, segment: _Segment) -> Any:
    return tuple(y.data for y in segment.outputs)


def _gradients(g: Any, *xs: Tensor, segment: _Segment) -> tuple[Any, ...]:
    return segment.gradients(g if isinstance(g, tuple) else (g,), xs)


# Not in the registry of ops: what it computes is the caller's.
_recomputed = Op(_run_once, promote=None)
_recomputed.name = "checkpoint"
_recomputed.gradient(_gradients)
_recomputed.attach(_run_once, "triton")
