"""The whole of autograd: an Op runs and leaves a Node behind, and backward walks the Nodes from newest to oldest.

    Op      a function of arrays with a name: its definition, its gradient, its ONNX name
    Node    one call of an Op, as data: (op, inputs, attrs); the drawn graph, Programs, ONNX export and backward read it
    order   a Node is made after the Nodes it reads, so "newest first" is a topological order; nothing recurses
    rule    gradient of the output -> gradient of an input, written in Ops itself: where it is recorded like any other
            call, the gradient can be differentiated again, and that is all there is to second derivatives

The gradient of a sum of paths is the sum of their gradients: `add` below is the one place where gradients are added.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar, overload

import numpy as np

from ..errors import ArgumentError, GraphError, NeedleError
from . import calls
from .device import BACKENDS, to_device
from .dtypes import float32, float64, promote
from .explain import RAW, explaining
from .modes import mode
from .rules import Gradient
from .storage import Storage, memory_of, serial
from .tensor import Tensor, key_of, wrap
from .tiers import Tiered

F = TypeVar("F", bound=Callable[..., Any])
OPS: dict[str, Op] = {}          # every op by its name: the registry that the tests walk


class Op:
    """A differentiable function of arrays.

    definition: positional parameters are the inputs (arrays, Python scalars, None for an absent one), keyword-only ones
    are attributes (plain values). A tuple returned makes an op with several outputs. The other arguments: see `op`.
    """

    def __init__(self, definition: Callable[..., Any], *, gradient: Any = None, onnx: str | None = None,
                 promote: str | None = "all", index_inputs: tuple[int, ...] = (), view: bool = False,
                 elementwise: bool = False, differentiable: bool = True):
        self.name = definition.__name__.rstrip("_")
        self.definition, self.onnx, self.promote = definition, onnx, promote
        self.index_inputs, self.view, self.elementwise = index_inputs, view, elementwise
        self.inputs, names, self.defaults, variadic = calls.parameters(definition)
        self.attributes = dict.fromkeys(names)                     # a set that keeps the order
        self.most_inputs = sys.maxsize if variadic else len(self.inputs)
        self.compute = Tiered(definition)                          # on numpy arrays: the quickest form that takes them
        self.attach = self.compute.attach
        self.differentiable, self.gradient = differentiable, Gradient(self)
        self.torch_call: Callable[..., Any] | None = None          # see `torch`
        functools.update_wrapper(self, definition)
        if gradient is not None:
            self.gradient.add_each(gradient)

    def __repr__(self) -> str:
        return f"<op {calls.signature(self)}>"

    def torch(self, function: F) -> F:
        """Decorator of PyTorch's call of this op, where it takes more, or means something else, than inputs and attributes
        by their names: `x.max(1)` and `x.max(dim=1)` come here, `max(x, axis=1)` does not."""
        self.torch_call = explaining(function, self.name)
        return function

    def runs_on(self, device: Any) -> bool:
        """Whether the device computes this op itself: on the CPU every op, elsewhere those with a kernel."""
        return device.backend == "numpy" or device.backend in self.compute.kernels

    def __call__(self, *inputs: Any, **attrs: Any) -> Tensor:
        if len(inputs) > self.most_inputs or (attrs and not self.attributes.keys() >= attrs.keys()):
            if self.torch_call is not None:
                return self.torch_call(*inputs, **attrs)                   # type: ignore[no-any-return]
            inputs, attrs = calls.sorted_out(self, inputs, attrs)          # x.sum(0), x.sum(dim=0), linear(x, weight=w)
        while inputs and inputs[-1] is None:                               # absent optional inputs: linear(x, weight, None)
            inputs = inputs[:-1]
        device: Any = None
        dtype, narrow, arrays, wants = None, None, [], []
        alike = True                                                       # all float32 or all float64, as nearly always
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor):
                arrays.append(x.data)
                wants.append(x.requires_grad)
                if x.device is not device:
                    device = x.device if device is None else calls.one_device(self, device, x.device)
                if x.data.dtype is not dtype and i not in self.index_inputs:
                    alike, dtype = alike and dtype is None, x.data.dtype
            else:
                if type(x) is not float and type(x) is not int and x is not None:
                    if (constant := calls.constant(self, i, x, inputs)) is not x:
                        inputs, x = (*inputs[:i], constant, *inputs[i + 1:]), constant
                    alike = alike and (isinstance(x, (int, float)) or i in self.index_inputs)
                arrays.append(x)
                wants.append(False)
        alike, host = alike and (dtype is float32 or dtype is float64), device is None or device.backend == "numpy"
        try:
            if not host:                                                   # a numpy array is a constant: it follows
                arrays = [to_device(a, device) if isinstance(a, np.ndarray) else a for a in arrays]
            if self.promote and not alike:
                arrays, narrow = promote(arrays, self.promote, self.index_inputs, host)
            if host:
                for form in self.compute.forms:                            # the quickest first, in the end the definition
                    if (result := form(*arrays, **attrs)) is not NotImplemented:
                        break
            else:
                result = BACKENDS[device.kind].run(self, device, arrays, attrs)
        except NeedleError:
            raise
        except RAW as error:
            raise calls.explained(self, error, inputs, attrs) from error
        results = result if type(result) is tuple else (result,)
        if narrow is not None:
            results = calls.rounded(results, narrow)
        node, tracing = None, mode.tracing
        if tracing is not None or (True in wants and self.differentiable and mode.enabled):
            node = Node(self, inputs, attrs, results, wants, arrays if alike else None, dtype)
        if type(result) is tuple:
            y: Any = tuple([None if r is None else wrap(r, node, i) for i, r in enumerate(results)])
        else:
            y = wrap(results[0], node, 0)
        if self.view and isinstance(inputs[0], Tensor):
            memory = memory_of(inputs[0].data)
            for part in y if type(y) is tuple else (y,):
                if memory_of(part.data) is memory:
                    part.storage = inputs[0].storage
        if tracing is not None:
            tracing.recorded(node, y)
        return y              # type: ignore[no-any-return]  # a tuple, from an op with several outputs


@overload
def op(definition: Callable[..., Any]) -> Op: ...
@overload
def op(**options: Any) -> Callable[[Callable[..., Any]], Op]: ...
def op(definition: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Turn a function of arrays into an Op and enter it into the registry: `@op(onnx="Relu")`.

    gradient: a rule, or a tuple with one for each input; see `rules.py`. differentiable=False: results never require a
    gradient; else a missing rule is an error in backward. onnx: the operator that does the same with the same inputs.
    promote: "all" brings the inputs to one dtype (float16 and bfloat16 compute in float32 and round once), "float" also
    turns integers into float32, None leaves dtypes alone (data movement). index_inputs: positions that take no part in
    promotion (indices, conditions). view: the output may share memory with the first input. elementwise: one value each.
    """
    if definition is None:
        return functools.partial(op, **options)
    made = Op(definition, **options)
    known = OPS.get(made.name)
    if known is not None and known.__module__.startswith("needle_lab."):
        raise ArgumentError(f"an op named {made.name!r} is built in; give the new one another name")
    OPS[made.name] = made                               # an op of the user's own may be defined again, as a cell runs again
    return made


class Node:
    """One recorded call: which op, on which inputs, with which attributes."""

    __slots__ = ("op", "inputs", "attrs", "outputs", "storages", "count", "wants", "arrays", "dtype", "number", "hooks",
                 "__weakref__")

    def __init__(self, op: Op, inputs: tuple[Any, ...], attrs: dict[str, Any], results: tuple[Any, ...],
                 wants: Sequence[bool] = (), arrays: list[Any] | None = None, dtype: np.dtype | None = None):
        self.op, self.attrs, self.wants = op, attrs, wants                        # wants: which inputs require a gradient
        self.inputs: Any = inputs                          # None once freed, like outputs and arrays
        self.arrays, self.dtype = arrays, dtype            # of the inputs, where all are float32 or all float64
        self.outputs: Any = results if op.gradient.reads_output else None         # arrays: tensors would point back here
        self.storages: list[Storage] = []                  # of the outputs, where they are kept
        self.count, self.number = len(results), next(serial)
        self.hooks: dict[int, tuple[int, Callable[..., Any]]] | None = None

    def __repr__(self) -> str:
        return f"Node({self.op.name}, {calls.described(self.inputs or ())})"


def topological_order(roots: Iterable[Node], ends: Collection[Any] = ()) -> list[Node]:
    """All nodes that `roots` depend on, each before the nodes it reads (newest first); not beyond tensors keyed in ends."""
    stack = list(roots)
    seen = set(stack)
    while stack:
        node = stack.pop()
        if node.inputs is None:
            raise GraphError(f"the graph through op {node.op.name!r} was freed by an earlier backward; "
                             "call the first one with retain_graph=True, or compute the forward again")
        for x in node.inputs:
            if (isinstance(x, Tensor) and (parent := x.node) is not None and parent not in seen
                    and (not ends or key_of(x) not in ends)):
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=operator.attrgetter("number"), reverse=True)


def propagate(outputs: Sequence[Tensor], gradients: Sequence[Tensor], wanted: Sequence[Tensor] | None = None,
              create_graph: bool = False, retain_graph: bool = False, only_between: bool = False) -> dict[Any, Tensor]:
    """Reverse-mode differentiation from `outputs`, seeded with `gradients`.

    Returns the gradients of `wanted` tensors, or of all leaves that require one, keyed by `key_of(tensor)`.
    only_between: what wanted tensors were made of is not looked at, as if they were leaves.
    """
    keys = None if wanted is None else {key_of(x) for x in wanted}
    ends = keys if keys and only_between else ()
    order = topological_order([y.node for y in outputs if y.node is not None], ends)
    needs = None if keys is None else calls.on_paths(order, keys)
    found: dict[Any, Tensor] = {}                       # leaves and wanted tensors
    pending: dict[Node, list[Tensor | None]] = {}       # gradients of the outputs of nodes not yet reached

    def add(x: Tensor, g: Tensor, source: Op | None = None) -> None:
        if g.data.shape != x.data.shape or g.data.dtype is not x.data.dtype:
            g = calls.fitted(g, x, source)
        parent = x.node
        if parent is None or (ends and key_of(x) in ends):
            key = x if parent is None else key_of(x)
            found[key] = found[key] + g if key in found else g
        else:
            slots, i = pending.get(parent) or pending.setdefault(parent, [None] * parent.count), x.output_index
            slots[i] = g if slots[i] is None else slots[i] + g

    before, mode.enabled = mode.enabled, create_graph
    try:
        for y, g in zip(outputs, gradients, strict=True):
            add(y, g)
        for node in order:
            slots = pending.pop(node, None)
            if slots is not None:
                if node.hooks:
                    calls.run_hooks(node.hooks, slots)
                if keys:
                    found.update({(node, i): g for i, g in enumerate(slots) if g is not None and (node, i) in keys})
                if needs is None or node in needs:
                    wants = node.wants if needs is None else calls.leading(node, needs, keys)
                    for x, asks, g in zip(node.inputs, wants, node.op.gradient.of(node, slots, wants, create_graph),
                                          strict=False):
                        if asks and g is not None:
                            add(x, g if isinstance(g, Tensor) else wrap(g, None, 0), node.op)
            if not retain_graph:                                          # let go of what its gradient has read
                node.inputs = node.outputs = node.arrays = None
        for x in [x for x in found if isinstance(x, Tensor) and x._hooks]:
            for hook in list((x._hooks or {}).values()):
                found[x] = calls.replaced(found[x], hook)
    finally:
        mode.enabled = before
    return found


def backward(y: Tensor, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False,
             inputs: Sequence[Tensor] | None = None) -> None:
    """Add d(sum of y * gradient)/d(leaf) to `.grad` of every leaf that requires a gradient, or of those in `inputs`."""
    gradient = calls.seed(y, gradient)
    if inputs is not None and not all(x.node is None for x in inputs):
        raise GraphError("backward: inputs are leaves; ndl.grad(y, x) gives the gradients of results")
    found = propagate([y], [gradient], inputs, create_graph, retain_graph or create_graph)
    calls.keep({leaf: g for leaf, g in found.items() if leaf.requires_grad}, gradient)      # else frozen since the forward


setattr(Tensor, "backward", backward)     # noqa: B010    tensors are made below this file, and know nothing of it
