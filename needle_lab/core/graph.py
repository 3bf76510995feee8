"""The whole of autograd: an Op runs and leaves a Node behind, and backward walks the Nodes from newest to oldest.

    Op      a function of arrays, its gradient rule, its ONNX name and its kernels by device, as one value
    Node    one call of an Op, as data: (op, inputs, attrs); the drawn graph, ONNX export and backward all read it
    order   a Node is made after the Nodes it reads, so "newest first" is a topological order; nothing recurses
    number  of calls and in-place writes alike: a value written after the call that read it has the higher one
    rule    gradient of the outputs -> gradient of the inputs, written in Ops itself, so it can be differentiated again
    fused   the same gradient as one function of arrays, where that is faster: used when nobody will differentiate it

The gradient of a sum of paths is the sum of their gradients: that is the one place where gradients are added.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DeviceError, DTypeError, GraphError, NeedleError, ShapeError
from ..kernels.numba import use_fast
from ..kernels.numpy.threads import elementwise as shared
from .device import Device, cpu, host_fallback, to_device
from .dtypes import float32, float64, is_floating, promote

OPS: dict[str, Op] = {}          # every op by its name: the registry that the tests walk


class _GradMode(threading.local):
    enabled = True
    tracing: trace | None = None


_mode = _GradMode()
_serial = itertools.count(1)


class _Writes:
    last = 0                 # the number of the last write to any tensor


def written(x: Tensor) -> None:
    """Note that the values of x were changed in place, so that backward can tell."""
    x._written[0] = _Writes.last = next(_serial)
    leaving(x)


class grad_mode:
    """Switch recording on or off: `with grad_mode(False): ...`, or as a decorator of a function."""

    def __init__(self, enabled: bool):
        self.enabled = enabled

    def __enter__(self):
        self.before, _mode.enabled = _mode.enabled, self.enabled
        return self

    def __exit__(self, *exc) -> None:
        _mode.enabled = self.before

    def __call__(self, function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with grad_mode(self.enabled):
                return function(*args, **kwargs)
        return wrapped


def no_grad() -> grad_mode:
    """Compute without recording: results have no node.  torch.no_grad."""
    return grad_mode(False)


def enable_grad() -> grad_mode:
    """Record again inside `no_grad`.  torch.enable_grad."""
    return grad_mode(True)


class trace:
    """While active, every call is recorded, also where nothing requires a gradient: what a Program is made from.

    recorded(node, results): called after each call. leaving(x): called before the values of a tensor go to Python or
    numpy, where no trace follows them, and after they were changed in place; it may raise.
    """

    def __init__(self, recorded: Callable = lambda node, results: None, leaving: Callable = lambda x: None):
        self.recorded, self.leaving = recorded, leaving

    def __enter__(self):
        self.before, _mode.tracing = _mode.tracing, self
        return self

    def __exit__(self, *exc) -> None:
        _mode.tracing = self.before


class untraced(trace):
    """Inside of a trace: what is computed here is not recorded."""

    def __enter__(self):
        self.before, _mode.tracing = _mode.tracing, None
        return self


def leaving(x: Tensor) -> None:
    """Tell a trace that is on that the values of x are about to be read outside of ops, or were changed in place."""
    if _mode.tracing is not None:
        _mode.tracing.leaving(x)


def is_grad_enabled() -> bool:
    """Whether ops called now are recorded."""
    return _mode.enabled


def is_tracing() -> bool:
    """Whether a `trace` is active, so that ops should show the parts they are made of."""
    return _mode.tracing is not None


# --- ops ------------------------------------------------------------------------------------------------------------

class Op:
    """A differentiable function: forward on arrays, gradient rule on tensors, ONNX name, kernels by device.

    forward: positional parameters are the inputs (arrays, Python scalars, None for an absent one), keyword-only
    parameters are attributes (plain values). A tuple returned by forward makes an op with several outputs.
    """

    def __init__(self, forward: Callable, vjp: Callable | None, onnx: str | None, promote: str | None,
                 index_inputs: tuple[int, ...], view: bool, elementwise: bool):
        self.name = forward.__name__.rstrip("_")
        self.forward, self.onnx, self.promote = forward, onnx, promote
        self.index_inputs, self.view, self.elementwise = index_inputs, view, elementwise
        self.compute = functools.partial(shared, forward) if elementwise else forward        # on numpy arrays
        self.kernels: dict[str, Callable] = {}
        self.backward_kernels: dict[str, Callable] = {}
        parameters = inspect.signature(forward).parameters.values()
        self.attributes = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
        self.most_inputs = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            self.most_inputs = sys.maxsize
        self.vjp: Any = None
        self.reads_output = self.reads_all = True
        self.reads_inputs: tuple[bool, ...] = ()
        self.__doc__ = forward.__doc__
        self.__name__, self.__module__, self.__wrapped__ = forward.__name__, forward.__module__, forward
        if vjp:
            self.gradient(vjp)

    def __repr__(self) -> str:
        return f"<op {self.name}{inspect.signature(self.forward)}>"

    def gradient(self, rule: Callable) -> Callable:
        """Attach the rule `(g, y, *inputs, **attrs) -> gradient of each input`.

        A parameter whose name starts with an underscore is a promise that its value is not read: then an in-place
        change of it is harmless, and an output need not be kept.
        """
        names = [p.name for p in inspect.signature(rule).parameters.values()
                 if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.vjp, self.reads_output = rule, not names[1].startswith("_")
        self.reads_inputs = tuple(not name.startswith("_") for name in names[2:])
        self.reads_all = len(names) == 2           # the rule takes *inputs: any of them may be read
        return rule

    def reads(self, position: int) -> bool:
        return self.reads_all or (position < len(self.reads_inputs) and self.reads_inputs[position])

    def runs_on(self, device: Device) -> bool:
        """Whether the device computes this op itself: on the CPU every op, elsewhere those with a kernel."""
        return device.backend == "numpy" or device.backend in self.kernels

    def __call__(self, *inputs, **attrs):
        if len(inputs) > self.most_inputs:
            inputs, attrs = self._sorted_out(inputs, attrs)
        while inputs and inputs[-1] is None:         # absent optional inputs: linear(x, weight, None)
            inputs = inputs[:-1]
        device, dtype, arrays, wants = None, None, [], []
        alike = True                                     # all float32 or all float64, as nearly always
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor):
                arrays.append(x.data)
                wants.append(x.requires_grad)
                if x.device is not device:
                    device = x.device if device is None else self._one_device(device, x.device)
                if x.data.dtype is not dtype and i not in self.index_inputs:
                    alike, dtype = alike and dtype is None, x.data.dtype
            else:
                alike = alike and (x is None or isinstance(x, (int, float)) or i in self.index_inputs)
                arrays.append(np.asarray(x) if isinstance(x, (list, tuple)) else x)
                wants.append(False)
        alike = alike and (dtype is float32 or dtype is float64)
        device = device or cpu()
        host = device.backend == "numpy"
        if not host:                                 # a numpy array among the inputs is a constant: it follows the tensors
            arrays = [to_device(a, device) if isinstance(a, np.ndarray) else a for a in arrays]
        try:
            rounded = None
            if self.promote and not alike:
                arrays, rounded = promote(arrays, self.promote, self.index_inputs, host)
            if host and not (use_fast.enabled and "fast" in self.kernels):
                result = self.compute(*arrays, **attrs)
            else:
                result = self._run(device, arrays, attrs)
        except NeedleError:
            raise
        except (ValueError, IndexError) as error:
            raise ShapeError(f"{self.name}: {str(error).strip()}; inputs: {_describe(inputs)}") from error
        except TypeError as error:
            self._check_call(inputs, attrs)
            raise DTypeError(f"{self.name}: {error}; inputs: {_describe(inputs)}") from error
        results = result if type(result) is tuple else (result,)
        if rounded is not None:
            results = tuple(r.astype(rounded) if r is not None and r.dtype == np.float32 else r for r in results)
        node = None
        if (True in wants and self.vjp is not None and _mode.enabled) or _mode.tracing is not None:
            node = Node(self, inputs, attrs, results, wants, arrays if alike else None, dtype)
        if attrs:
            device = attrs.get("device", device)         # a transfer names where its result lives
        if type(result) is tuple:
            y: Any = tuple([None if r is None else _wrap(r, device, node, i) for i, r in enumerate(results)])
        else:
            y = _wrap(results[0], device, node, 0)
            if self.view and isinstance(inputs[0], Tensor):
                y._written = inputs[0]._written          # one memory
        if _mode.tracing is not None:
            _mode.tracing.recorded(node, y)
        return y

    def _sorted_out(self, inputs: tuple, attrs: dict) -> tuple[tuple, dict]:
        """x.sum(0): what follows the inputs are attributes."""
        if len(inputs) > self.most_inputs + len(self.attributes):
            raise ArgumentError(f"{self.name}{inspect.signature(self.forward)}: too many arguments, {_describe(inputs)}")
        named = zip(self.attributes, inputs[self.most_inputs:], strict=False)
        return inputs[:self.most_inputs], {**dict(named), **attrs}

    def _one_device(self, first: Device, other: Device) -> Device:
        if first != other:
            raise DeviceError(f"{self.name}: inputs are on {first} and {other}; "
                              f"move one with .to(ndl.{_constructor(first)})")
        return first

    def _check_call(self, inputs: tuple, attrs: dict) -> None:
        """ArgumentError for an attribute that the op does not have, or for one or an input that is missing."""
        takes = inspect.signature(self.forward)
        unknown = [name for name in attrs if name not in self.attributes]
        try:
            takes.bind(*inputs, **attrs)
        except TypeError as error:
            hint = "; NumPy's names are used: axis, keepdims" if {"dim", "keepdim"} & set(unknown) else ""
            raise ArgumentError(f"{self.name}{takes}: {error}{hint}") from error

    def _run(self, device: Device, arrays: list, attrs: dict):
        """The device's kernel; without one (or where it declines) the forward: on the host, which is reported."""
        if device.backend == "numpy":
            result = self.kernels["fast"](*arrays, **attrs)
            if result is not NotImplemented:
                return result
            return self.compute(*arrays, **attrs)
        kernel = self.kernels.get(device.backend)
        result = kernel(*arrays, **attrs) if kernel else NotImplemented
        return host_fallback(self.name, self._on_host, device, arrays, attrs) if result is NotImplemented else result

    def _on_host(self, *arrays, **attrs):
        """The forward for arrays that came from another device: there, kernels widen float16 and bfloat16; here, we do."""
        inputs, rounded = promote(list(arrays), self.promote, self.index_inputs, True) if self.promote else (arrays, None)
        result = self.forward(*inputs, **attrs)

        def narrow(r):
            return r.astype(rounded) if rounded is not None and r is not None and r.dtype == np.float32 else r
        return tuple(narrow(r) for r in result) if type(result) is tuple else narrow(result)


def op(forward: Callable | None = None, *, vjp: Callable | None = None, onnx: str | None = None,
       promote: str | None = "all", index_inputs: tuple[int, ...] = (), view: bool = False,
       elementwise: bool = False):
    """Turn a function of arrays into an Op and enter it into the registry.

    promote: "all" brings the inputs to one dtype (float16 and bfloat16 compute in float32 and round once), "float"
    also turns integers into float32, None leaves dtypes alone (data movement). index_inputs: positions that take no
    part in promotion (indices, conditions). view: the output shares memory with the first input.
    """
    if forward is None:
        return functools.partial(op, vjp=vjp, onnx=onnx, promote=promote, index_inputs=index_inputs, view=view,
                                 elementwise=elementwise)
    made = Op(forward, vjp, onnx, promote, index_inputs, view, elementwise)
    if made.name in OPS:
        raise ArgumentError(f"an op named {made.name!r} exists already; give the new one another name")
    OPS[made.name] = made
    return made


def kernel(target: Op, backend: str):
    """Attach a backend's implementation of an op: `@kernel(ops.softmax, "triton")`.

    It takes the device's arrays and the attributes as forward does; `return NotImplemented` declines a case.
    """
    def attach(function: Callable) -> Callable:
        if backend == "numpy":                       # a quicker way to compute what forward says
            target.compute = functools.partial(shared, function) if target.elementwise else function
        else:
            target.kernels[backend] = function
        return function
    return attach


def backward_kernel(target: Op, backend: str = "numpy"):
    """Attach an op's gradient as one function of arrays: `(needs, g, y, *inputs, **attrs) -> gradients`.

    needs: which inputs want a gradient; None may stand for the others. g and y are as for the rule, as arrays. It is
    used where the gradient itself will not be differentiated; the rule, written in ops, stays the definition, and is
    what tests compare this with. A name with an underscore promises, as in the rule, that the value is not read.
    `return NotImplemented` declines a case.
    """
    def attach(function: Callable) -> Callable:
        target.backward_kernels[backend] = function
        names = list(inspect.signature(function).parameters)
        target.reads_output |= not names[2].startswith("_")
        target.reads_inputs = tuple(before or not name.startswith("_")
                                    for before, name in zip(target.reads_inputs, names[3:], strict=False))
        return function
    return attach


class Node:
    """One recorded call: which op, on which inputs, with which attributes."""

    __slots__ = ("op", "inputs", "attrs", "outputs", "count", "wants", "arrays", "dtype", "number", "hooks", "__weakref__")

    inputs: Any              # None once freed, like outputs and arrays

    def __init__(self, op: Op, inputs: tuple, attrs: dict, results: tuple, wants: Sequence[bool] = (),
                 arrays: list | None = None, dtype: np.dtype | None = None):
        self.op, self.inputs, self.attrs = op, inputs, attrs
        self.wants = wants                                 # which inputs require a gradient
        self.arrays, self.dtype = arrays, dtype            # of the inputs, where all are float32 or all float64
        # Arrays, not tensors: a tensor would point back at this node, and the cycle would keep memory alive.
        self.outputs: Any = results if op.reads_output else None
        self.count = len(results)
        self.number = next(_serial)
        self.hooks: dict[int, tuple[int, Callable]] | None = None

    def __repr__(self) -> str:
        return f"Node({self.op.name}, {_describe(self.inputs or ())})"

    def free(self) -> None:
        """Let go of activations once their gradients are known."""
        self.inputs = self.outputs = self.arrays = None


# --- backward -------------------------------------------------------------------------------------------------------

def topological_order(roots: Iterable[Node], ends: Collection = ()) -> list[Node]:
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
    return sorted(seen, key=_number, reverse=True)


_number = operator.attrgetter("number")


def propagate(outputs: Sequence[Tensor], gradients: Sequence[Tensor], wanted: Sequence[Tensor] | None = None,
              create_graph: bool = False, retain_graph: bool = False, only_between: bool = False) -> dict[Any, Tensor]:
    """Reverse-mode differentiation from `outputs`, seeded with `gradients`.

    Returns the gradients of `wanted` tensors, or of all leaves that require one, keyed by `key_of(tensor)`.
    only_between: what wanted tensors were made of is not looked at, as if they were leaves.
    """
    keys = None if wanted is None else {key_of(x) for x in wanted}
    ends = keys if keys and only_between else ()
    order = topological_order([y.node for y in outputs if y.node is not None], ends)
    needs = _needs(order, wanted)
    found: dict[Any, Tensor] = {}                       # leaves and wanted tensors
    pending: dict[Node, list[Tensor | None]] = {}       # gradients of the outputs of nodes not yet reached

    def add(x: Tensor, g: Tensor, source: Op | None = None) -> None:
        if g.data.shape != x.data.shape or g.data.dtype is not x.data.dtype:
            g = _fit(g, x, source)
        parent = x.node
        if parent is None or (ends and key_of(x) in ends):
            key = key_of(x)
            found[key] = found[key] + g if key in found else g
        elif parent in pending:
            slots, i = pending[parent], x.output_index
            slots[i] = g if slots[i] is None else slots[i] + g
        else:
            slots = pending[parent] = [None] * parent.count
            slots[x.output_index] = g

    with grad_mode(create_graph):
        for y, g in zip(outputs, gradients, strict=True):
            add(y, g)
        for node in order:
            slots = pending.pop(node, None)
            if slots is not None:
                if node.hooks:
                    _call_hooks(node, slots)
                if keys:
                    found.update({(node, i): g for i, g in enumerate(slots) if g is not None and (node, i) in keys})
                if needs is None or node in needs:
                    if _Writes.last > node.number:
                        _check_unchanged(node)
                    wants = node.wants if needs is None else _leading(node, needs, keys)
                    answer = NotImplemented if create_graph else _from_kernel(node, slots, wants)
                    if answer is NotImplemented:
                        answer = _from_rule(node, slots, wants)
                    for x, asks, g in zip(node.inputs, wants, answer, strict=False):
                        if asks and g is not None:
                            add(x, g if isinstance(g, Tensor) else _wrap(g, x.device, None, 0), node.op)
            if not retain_graph:
                node.free()
        for x in [x for x in found if isinstance(x, Tensor) and x._hooks]:
            for hook in list((x._hooks or {}).values()):
                found[x] = _replaced(found[x], hook)
    return found


def backward(y: Tensor, gradient: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add d(sum of y * gradient)/d(leaf) to `.grad` of every leaf that requires a gradient."""
    gradient = _seed(y, gradient)
    found = propagate([y], [gradient], None, create_graph, retain_graph or create_graph)
    given = {_memory_of(gradient.data)}
    for leaf, g in found.items():
        if not leaf.requires_grad:
            continue                        # frozen since the forward
        if leaf.grad is not None:
            leaf.grad = leaf.grad + g
        elif (memory := _memory_of(g.data)) in given or (isinstance(g.data, np.ndarray) and not g.data.flags.writeable):
            leaf.grad = g.clone()           # y = a + b hands one array to both: each gets its own, as .grad may be changed
        else:
            leaf.grad = g
            given.add(memory)


def _memory_of(data: Any) -> int:
    """Identifies the array that values lie in, which views share."""
    while (base := getattr(data, "base", None)) is not None:
        data = base
    return id(data)


def grad(outputs, inputs, gradients=None, create_graph: bool = False, retain_graph: bool | None = None,
         allow_unused: bool = False) -> tuple:
    """Gradients of `outputs` with respect to `inputs`, without touching `.grad`.  torch.autograd.grad.

    inputs may be leaves or results. create_graph=True makes the gradients differentiable themselves. An input that
    the outputs do not depend on raises GraphError, or gives None with allow_unused=True.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if gradients is None:
        gradients = [None] * len(outputs)
    gradients = [gradients] if isinstance(gradients, Tensor) else list(gradients)
    seeds = [_seed(y, g) for y, g in zip(outputs, gradients, strict=True)]
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


def by_parts(function: Callable, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> tuple:
    """The gradients of function(*inputs), a composition of ops: the rule of an op that computes the same in one go.

    gradients: of the function's outputs; None where none came. The answer can be differentiated again where gradients
    are recorded.
    """
    again = is_grad_enabled()
    with enable_grad():
        ends = [ops.clone(x) if again and x.requires_grad else x.detach().requires_grad_() for x in inputs]
        found = [(y, g) for y, g in zip(function(*ends), gradients, strict=True) if g is not None and y.requires_grad]
    return gradients_between(found, ends, again)


def gradients_between(outputs: Sequence[tuple[Tensor, Tensor]], ends: Sequence[Tensor], create_graph: bool) -> tuple:
    """Gradients of (output, its gradient) pairs for the tensors at which a piece of graph ends; None where unreached."""
    found = propagate([y for y, _ in outputs], [g for _, g in outputs], ends, create_graph, create_graph, only_between=True)
    return tuple(found.get(key_of(x)) for x in ends)


def key_of(x: Tensor):
    """What identifies a tensor in a graph: itself if it is a leaf, else (its node, which output)."""
    return x if x.node is None else (x.node, x.output_index)


def _seed(y: Tensor, gradient: Tensor | None) -> Tensor:
    if not y.requires_grad:
        raise GraphError("backward: this tensor does not depend on any tensor with requires_grad=True")
    if gradient is None:
        if y.size != 1:
            raise GraphError(f"backward: a gradient is needed for a result of shape {y.shape}; reduce it with "
                             ".sum() or .mean() first, or pass gradient= of that shape")
        return _wrap(to_device(np.array(1, y.dtype).reshape(y.shape), y.device), y.device, None, 0)
    if not isinstance(gradient, Tensor):
        gradient = Tensor(np.asarray(gradient, y.dtype), device=y.device)
    if gradient.shape != y.shape:
        raise ShapeError(f"backward: gradient has shape {gradient.shape}, the result has {y.shape}")
    return gradient


def _needs(order: list[Node], wanted: Sequence[Tensor] | None) -> set[Node] | None:
    """The nodes on a path to a wanted tensor (None: all of them), found oldest first."""
    if wanted is None:
        return None
    keys, needs = {key_of(x) for x in wanted}, set()
    for node in reversed(order):
        if any(isinstance(x, Tensor) and (key_of(x) in keys or x.node in needs) for x in node.inputs):
            needs.add(node)
    return needs


def _leading(node: Node, needs: set[Node], keys: set | None) -> list[bool]:
    """Which inputs of a node lead to a wanted tensor, or are one."""
    return [isinstance(x, Tensor) and (x.node in needs or (keys is not None and key_of(x) in keys)) for x in node.inputs]


def _check_unchanged(node: Node) -> None:
    """GraphError if an input that the gradient reads was written to after the call."""
    for i, x in enumerate(node.inputs):
        if isinstance(x, Tensor) and x._written[0] > node.number and node.op.reads(i):
            raise GraphError(f"backward through {node.op.name!r}: its input {i} of shape {x.shape} was changed in place "
                             "after it was used; change a .clone(), or change it after backward")


def _from_kernel(node: Node, slots: list, wants: Sequence[bool]) -> Any:
    """The arrays that the op's backward kernel answers; NotImplemented where there is none, or not for these dtypes."""
    kernels = node.op.backward_kernels
    if not kernels or node.arrays is None:
        return NotImplemented                              # narrow floats: the rule widens and rounds where it must
    for g in slots:
        if g is not None:
            if g.data.dtype is not node.dtype:
                return NotImplemented
            backend = g.device.backend
    if node.count == 1:
        g, y = slots[0].data, node.outputs and node.outputs[0]
    else:
        g, y = tuple([g if g is None else g.data for g in slots]), node.outputs
    answer = NotImplemented
    if use_fast.enabled and backend == "numpy" and "fast" in kernels:
        answer = kernels["fast"](wants, g, y, *node.arrays, **node.attrs)
    if answer is NotImplemented and backend in kernels:
        answer = kernels[backend](wants, g, y, *node.arrays, **node.attrs)
    return answer if type(answer) is tuple or answer is NotImplemented else (answer,)


def _from_rule(node: Node, slots: list, wants: Sequence[bool]) -> list[Tensor | None]:
    """What the op's rule answers: once per input, or it is an error in the rule."""
    rule_op, y = node.op, None
    if node.outputs is not None:
        device = next(x.device for x in node.inputs if isinstance(x, Tensor))
        device = node.attrs.get("device", device)
        y = tuple(None if r is None else _wrap(r, device, node, i) for i, r in enumerate(node.outputs))
    single = node.count == 1
    answer = rule_op.vjp(slots[0] if single else tuple(slots), y[0] if single and y else y, *node.inputs, **node.attrs)
    answer = answer if isinstance(answer, tuple) else (answer,)
    if len(answer) == rule_op.most_inputs:               # a rule answers for absent optional inputs too
        answer = answer[:len(node.inputs)]
    if len(answer) != len(node.inputs):
        raise GraphError(f"the gradient rule of {rule_op.name!r} returned {len(answer)} gradients "
                         f"for {len(node.inputs)} inputs")
    return [g() if asks and callable(g) else g for g, asks in zip(answer, wants, strict=True)]


def _fit(g: Tensor, x: Tensor, source: Op | None) -> Tensor:
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


def _call_hooks(node: Node, slots: list) -> None:
    for index, hook in list((node.hooks or {}).values()):
        if slots[index] is not None:
            slots[index] = _replaced(slots[index], hook)


def _replaced(gradient: Tensor, hook: Callable) -> Tensor:
    """What a hook returns takes the gradient's place, unless it is None."""
    changed = hook(gradient)
    return gradient if changed is None else changed


def _wrap(result, device: Device, node: Node | None, index: int) -> Tensor:
    if device.backend == "numpy" and not isinstance(result, np.ndarray):
        result = np.asarray(result)                     # numpy answers 0-d questions with scalars
    y = Tensor.__new__(Tensor)
    y.data, y.device, y.grad, y._hooks = result, device, None, None
    y.node, y.output_index, y._written = node, index, [0]
    y.requires_grad = node is not None and is_floating(result.dtype)
    return y


def _describe(inputs: Iterable) -> str:
    return ", ".join(f"{x.dtype}{list(x.shape)}" if hasattr(x, "shape") else repr(x) for x in inputs)


def _constructor(device: Device) -> str:
    return f"{device.kind}({device.index if device.kind == 'cuda' else ''})"


from .. import ops  # noqa: E402    ops and tensors are written with the names above; here only their names are needed
from .tensor import Tensor  # noqa: E402
