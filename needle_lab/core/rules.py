"""An op's gradient: a rule for each input, or one rule for all of them, and quicker forms of the same.

A rule's parameters name what it reads, and nothing else is kept or watched for it:

    g                   the gradient of the output (a tuple for an op with several outputs, None where none came)
    y                   the output (a tuple likewise)
    a, b, ...           inputs of the op, by the names that its definition gives them; `*inputs` for all of them
    axis, stride, ...   attributes of the op, which come with the definition's defaults
    wants               first, if at all: which inputs want a gradient

    @matmul.gradient("a")                     @exp.gradient                     @op(gradient=(lambda g, b: g * b,
    def matmul_to_a(g, b):                    def exp_gradient(g, y):                         lambda g, a: g * a))
        return g @ b.mT                           return g * y                  def mul(a, b): ...

Rules take and return tensors, so they are differentiable; of rules for single inputs, only those wanted run. A quicker
form, `@kernel(op.gradient, "numpy")`, names the same, takes and returns arrays (a tuple with one, or None, for each input),
and is used where nobody will differentiate the gradient.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..errors import ArgumentError, GraphError
from . import calls
from .calls import INPUTS
from .storage import Storage
from .tiers import Tiered

if TYPE_CHECKING:
    from .graph import Node, Op

F = TypeVar("F", bound=Callable[..., Any])
WANTS, G, Y = 0, 1, 2            # where a rule's parameters stand in (wants, g, y, *inputs)


class Rule:
    """A rule or a quicker form, with the places of what its parameters name."""

    def __init__(self, function: Callable[..., Any], op: Op):
        names, keywords, _, variadic = calls.parameters(function)
        places = {"wants": WANTS, "g": G, "y": Y, **{name: INPUTS + i for i, name in enumerate(op.inputs)}}
        self.function, self.op, self.all_inputs = function, op, variadic
        self.__name__ = function.__name__                                              # `use_kernels(..., without=...)`
        order = [places[name] for name in itertools.takewhile(places.__contains__, names)]
        asked = [*names[len(order):], *keywords]
        if G not in order:
            raise ArgumentError(f"the gradient rule of {op.name!r} must take g, the gradient of the output; it takes "
                                f"({', '.join(names)})")
        self.reads, self.last = set(order), max(order)
        self.pick = operator.itemgetter(*order) if len(order) > 1 else operator.itemgetter(slice(order[0], order[0] + 1))
        self.every_attribute = bool(function.__code__.co_flags & 8)                    # **geometry
        unknown = [name for name in asked if name not in op.attributes]
        if unknown:
            raise ArgumentError(f"the gradient rule of {op.name!r} reads {unknown[0]!r}: neither g nor y, nor an input "
                                f"({', '.join(op.inputs)}) nor an attribute ({', '.join(op.attributes) or 'none'})")
        self.attributes = op.attributes if self.every_attribute else tuple(asked)

    def __call__(self, full: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        """full: (wants, g, y, *inputs)."""
        if self.last < len(full):
            given = self.pick(full)
        else:
            given = self.pick((*full, *[None] * (self.last + 1 - len(full))))          # optional inputs that are absent
        if self.all_inputs:
            given = (*given, *full[INPUTS:])
        if not self.attributes:
            return self.function(*given)
        return self.function(*given, **{name: attrs[name] if name in attrs else self.op.defaults[name]
                                        for name in self.attributes})


class Gradient:
    """The rules of one op and their quicker forms.  `@op.gradient` or `@op.gradient("input")` adds a rule."""

    def __init__(self, op: Op):
        self.op = op
        self.of_all: Rule | None = None
        self.of_one: dict[int, Rule | None] = {}             # None: declared to have no gradient
        self.compute = Tiered(_declined)
        self.reads_output, self.read = False, set[int]()

    def __bool__(self) -> bool:
        return self.of_all is not None or bool(self.of_one)

    @overload
    def __call__(self, rule: str) -> Callable[[F], F]: ...
    @overload
    def __call__(self, rule: F) -> F: ...
    def __call__(self, rule: Any) -> Any:
        if isinstance(rule, str):
            if rule not in self.op.inputs:
                raise ArgumentError(f"{self.op.name}.gradient({rule!r}): the inputs are {', '.join(self.op.inputs)}")
            return lambda function: self.add(function, self.op.inputs.index(rule))
        return self.add(rule)

    def add(self, function: Callable[..., Any], position: int | None = None) -> Callable[..., Any]:
        """Set the rule of one input, or of all."""
        rule = self._noted(Rule(function, self.op))
        if position is None:
            self.of_all = rule
        else:
            self.of_one[position] = rule
        return function

    def add_each(self, rules: Any) -> None:
        """Set a rule for the only input, or the rules in a tuple, input by input (None: no gradient)."""
        for i, rule in enumerate(rules if isinstance(rules, tuple) else (rules,)):
            if rule is None:
                self.of_one[i] = None
            else:
                self.add(rule, i)

    def attach(self, form: Callable[..., Any], tier: str) -> None:
        """Add a quicker form; see `kernel`."""
        self.compute.attach(self._noted(Rule(form, self.op)), tier)

    def _noted(self, rule: Rule) -> Rule:
        self.reads_output |= Y in rule.reads
        self.read |= rule.reads
        if rule.all_inputs:
            self.read |= set(range(INPUTS, INPUTS + 1000))
        return rule

    def of(self, node: Node, slots: list[Any], wants: Any, create_graph: bool) -> Any:
        """The gradients of a node's inputs, None where none is wanted: arrays of a quicker form, or tensors of the rules.

        slots: the gradients of its outputs. create_graph: they will be differentiated, so that only rules will do.
        """
        if Storage.last > node.number:
            calls.check_unchanged(node)
        if self.compute.kernels and not create_graph and node.arrays is not None:
            backend, alike = "", True
            for g in slots:
                if g is not None:
                    backend, alike = g.device.backend, alike and g.data.dtype is node.dtype
            if alike:                                        # else the rule widens and rounds where it must
                if node.count == 1:
                    full = (wants, slots[0].data, node.outputs and node.outputs[0], *node.arrays)
                else:
                    full = (wants, tuple([g if g is None else g.data for g in slots]), node.outputs, *node.arrays)
                for form in self.compute.quicker if backend == "numpy" else self.compute.of_tier(backend):
                    if (answer := form(full, node.attrs)) is not NotImplemented:
                        return answer if type(answer) is tuple else (answer,)
        if self.of_all is None and not self.of_one:
            raise GraphError(f"backward through {self.op.name!r}: it has no gradient rule; write one with "
                             f"@{self.op.name}.gradient, or declare @op(differentiable=False)")
        outputs = calls.outputs_of(node) if self.reads_output else None
        g, y = (slots[0], outputs and outputs[0]) if node.count == 1 else (tuple(slots), outputs)
        full = (wants, g, y, *node.inputs)
        if node.arrays is None and self.op.promote:          # a rule is several ops: not each of them rounds to float16
            full = calls.widened(full)
        if self.of_all is None:
            found = []
            for i, asks in enumerate(wants):
                if asks and i not in self.of_one:            # its gradient would end without a word
                    raise GraphError(f"backward through {self.op.name!r}: its input {self.op.inputs[i]!r} wants a gradient "
                                     f"and has no rule; write @{self.op.name}.gradient({self.op.inputs[i]!r}), or pass the "
                                     "input without a gradient, .detach()")
                rule = self.of_one[i] if asks else None
                found.append(rule and rule(full, node.attrs))
            return found
        answer = self.of_all(full, node.attrs)
        answer = answer if isinstance(answer, tuple) else (answer,)
        if len(answer) == self.op.most_inputs:               # a rule answers for absent optional inputs too
            answer = answer[:len(node.inputs)]
        if len(answer) != len(node.inputs):
            raise GraphError(f"the gradient rule of {self.op.name!r} returned {len(answer)} gradients "
                             f"for {len(node.inputs)} inputs")
        return answer


def _declined(*_given: Any, **_attrs: Any) -> Any:
    """The end of the quicker forms: behind it comes the rule."""
    return NotImplemented
