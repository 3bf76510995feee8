"""Running a model once while what it computes is written down: the nodes, and which module made each of them.

While a trace is on, `forward` of every module is wrapped: it notes whose turn it is. A layer that ONNX has as one
operator (`operators.py`) leaves a single node, which stands for all that happened inside.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import graph
from ..core.tensor import Tensor
from ..errors import ArgumentError, UnsupportedOnnxError
from ..nn import Module
from ..random import get_rng_state

Whole = Callable[[Module, list], bool]         # (layer, arguments) -> whether this call leaves one node
Scope = tuple[tuple[str, str], ...]            # (path, class) of each module around a node, the outermost first


def _layer(*inputs, layer):
    return inputs


# Not in the registry of ops: it computes nothing. Its node stands for a whole layer, `layer` being the module.
WHOLE = graph.Op(_layer, vjp=None, onnx=None, promote=None, index_inputs=(), view=False, elementwise=False)


def modules_of(model: Module | Callable) -> dict[str, Module]:
    return dict(model.named_modules()) if isinstance(model, Module) else {}


@dataclass
class Trace:
    """One run.  nodes: oldest first."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    nodes: list[graph.Node]
    scopes: list[tuple[int, Scope]]

    def scope_of(self, node: graph.Node) -> Scope:
        """The modules in whose forward a node was made."""
        at = bisect.bisect(self.scopes, node.number, key=lambda entry: entry[0])
        return self.scopes[at - 1][1] if at else ()

    def part(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Trace:
        """What lies between these values of the run."""
        given = {graph.key_of(x) for x in inputs}
        needed: set[graph.Node] = set()
        stack = [y for y in outputs if graph.key_of(y) not in given]
        while stack:
            node = stack.pop().node
            if node is not None and node not in needed:
                needed.add(node)
                stack.extend(x for x in node.inputs if isinstance(x, Tensor) and graph.key_of(x) not in given)
        return Trace(list(inputs), list(outputs), [n for n in self.nodes if n in needed], self.scopes)

    def unread(self) -> list[int]:
        """The inputs on which no output depends."""
        read = {id(x.data) for node in self.nodes for x in node.inputs if isinstance(x, Tensor)}
        read |= {id(y.data) for y in self.outputs}
        return [i for i, x in enumerate(self.inputs) if id(x.data) not in read]


def run(call: Callable, modules: dict[str, Module], inputs: Sequence[Tensor], whole: Whole, training: bool = False) -> Trace:
    """Call call(*inputs) and keep what it did.  modules: those it uses, by path; whole: which leave one node each.

    training=False switches modules to evaluation for the run, True lets each have its own mode.
    """
    scopes: list[tuple[int, Scope]] = []
    before = get_rng_state()
    with _modes(list(modules.values()), training), _wrapped(modules, whole, scopes), graph.trace():
        result = call(*inputs)
    if get_rng_state() != before:
        raise UnsupportedOnnxError("export: the model drew random numbers (dropout in training mode?), which a file would "
                                   "repeat for ever; call model.eval(), or draw them outside and pass them as an input")
    outputs = list(_tensors_in(result))
    nodes = graph.topological_order([y.node for y in outputs if y.node is not None])[::-1]
    return Trace(list(inputs), outputs, nodes, scopes)


def _tensors_in(result: Any) -> Iterator[Tensor]:
    stack = [result]
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            stack.extend(reversed(value))
        elif value is not None:
            raise ArgumentError(f"export: the model returned a {type(value).__name__}; "
                                "tensors and tuples of them can be written")


@contextlib.contextmanager
def _modes(modules: list[Module], training: bool) -> Iterator[None]:
    """Evaluation mode (or each module's own mode, if training) for a while."""
    modes = [m.training for m in modules]
    try:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode and training
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode


class _Noting(threading.local):
    scopes: list[tuple[int, Scope]] | None = None          # those of the trace that is on
    given: Scope = ()                                      # what `inside` says, in place of the modules that run


_noting = _Noting()


@contextlib.contextmanager
def inside(scope: Scope) -> Iterator[None]:
    """What is computed here came from these modules of the model that a file was written from."""
    if _noting.scopes is None:
        yield
        return
    around, given = _noting.scopes[-1][1] if _noting.scopes else (), _noting.given
    _noting.scopes.append((next(graph._serial), scope))
    _noting.given = scope
    try:
        yield
    finally:
        _noting.given = given
        _noting.scopes.append((next(graph._serial), around))


@contextlib.contextmanager
def _wrapped(modules: dict[str, Module], whole: Whole, scopes: list[tuple[int, Scope]]) -> Iterator[None]:
    """Every module's forward notes when it begins and ends."""
    own = {id(m): vars(m).get("forward") for m in modules.values()}
    stack: list[tuple[str, str]] = []

    def noting(path: str, module: Module, forward: Callable) -> Callable:
        def noted(*args, **kwargs):
            stack.append((path, f"{type(module).__module__}.{type(module).__qualname__}"))
            scopes.append((next(graph._serial), _noting.given or tuple(stack)))
            try:
                given = [*args, *kwargs.values()]
                if not whole(module, given):
                    return forward(*args, **kwargs)
                with graph.untraced(), graph.no_grad():
                    result = forward(*args, **kwargs)
                return _as_one(module, given, result)
            finally:
                stack.pop()
                scopes.append((next(graph._serial), _noting.given or tuple(stack)))
        return noted

    before, _noting.scopes = _noting.scopes, scopes
    try:
        for path, m in modules.items():
            vars(m)["forward"] = noting(path, m, m.forward)
        yield
    finally:
        _noting.scopes = before
        for m in modules.values():
            del vars(m)["forward"]
            if own[id(m)] is not None:
                vars(m)["forward"] = own[id(m)]


def _as_one(module: Module, arguments: list, result: Any) -> Any:
    """The result, as if one op had made it from the arguments."""
    found = list(_tensors_in(result))
    node = graph.Node(WHOLE, tuple(_tensors_in(arguments)), {"layer": module}, tuple(y.data for y in found))
    made = iter([graph._wrap(y.data, y.device, node, i) for i, y in enumerate(found)])

    def rebuilt(value: Any) -> Any:
        return next(made) if isinstance(value, Tensor) else type(value)(map(rebuilt, value)) if value is not None else None
    return rebuilt(result)
