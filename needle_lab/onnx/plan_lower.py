"""From an imported model to a flat list of calls: array functions on values whose shapes are all known.

Each ONNX step runs once, on example inputs, while the graph records which ops it calls. What stays of Softmax, of a
GroupNormalization layer or of an Unsqueeze are then the same few ops on arrays, and every number that depends on shapes
and weights alone is already there: nothing is left of a chain Shape -> Gather -> Concat -> Reshape but a reshape.

A record is only true for other inputs if the step did not look at the values of its inputs on the way: the number of
iterations of a Loop, the branch of an If, the places that NonZero found. `DATA_INPUTS` lists the operators that do not
look, and at which inputs; everything else stays an *ordinary* call, which runs the step of the model as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..core.graph import no_grad, topological_order, trace
from ..core.tensor import Tensor
from .importer import Scope
from .program import Program, Step

if TYPE_CHECKING:
    from .model import OnnxModule

MOST_OPS = 2000              # a step that unrolls into more (a recurrence over a long sequence) stays as it is

# Operator -> which of its inputs may be data; the others (shapes, axes, lengths of sequences) have to be known.
ALL = range(1_000_000)
DATA_INPUTS: Mapping[str, Sequence[int]] = dict.fromkeys("""
    Neg Abs Reciprocal Sign Floor Ceil Round Exp Log Sqrt Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf
    Relu Sigmoid Softplus Softsign IsNaN IsInf Not Sub Mul Add Div Pow Mod Less LessOrEqual Greater GreaterOrEqual Equal
    And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Where Sum Mean Max Min Identity Cast CastLike LeakyRelu PRelu
    Elu Selu Celu Gelu HardSigmoid HardSwish Mish ThresholdedRelu Shrink Swish Hardmax Softmax LogSoftmax
    MatMul Gemm Einsum Concat Gather GatherElements Flatten Transpose DepthToSpace SpaceToDepth Shape Size
    Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool LRN LpNormalization
    BatchNormalization LayerNormalization RMSNormalization GroupNormalization InstanceNormalization
    MeanVarianceNormalization
""".split(), ALL) | dict.fromkeys("""
    Reshape Squeeze Unsqueeze Expand Tile Split Slice Clip Pad Resize Upsample TopK CumSum ArgMax ArgMin Trilu Dropout
    ReduceSum ReduceMean ReduceProd ReduceMax ReduceMin ReduceLogSumExp ReduceL1 ReduceL2 ReduceLogSum ReduceSumSquare
""".split(), [0]) | {"Attention": [0, 1, 2], "RNN": [0, 5], "GRU": [0, 5], "LSTM": [0, 5, 6]}

OF_SHAPES = {"Shape", "Size", "Dropout"}                 # operators with results that depend on shapes alone
OPS_OF_SHAPES = {"zeros_like", "ones_like"}
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}


@dataclass(eq=False)
class Value:
    """A value of the plan.  shape is None where only the run tells it, or where it is no tensor (text, a sequence)."""

    name: str
    shape: Any = None                    # a tuple, or None
    dtype: Any = None
    known: bool = False                  # before the plan runs
    data: Any = None                     # of a known value: an array; text, a list or None where shape is None

    def empty(self) -> np.ndarray:
        """An uninitialised array for it."""
        return np.empty(self.shape, self.dtype)

    @property
    def bytes(self) -> int:
        return 0 if self.shape is None else math.prod(self.shape) * self.dtype.itemsize


HERE = Value("what the output is so far", known=True)       # input of a call that runs on another's output, in place


@dataclass(eq=False)
class Call:
    """An op on values, scalars and None; or an ordinary step of the model."""

    inputs: list
    outputs: list[Value]
    op: Any = None                                          # a graph.Op
    attrs: dict[str, Any] = field(default_factory=dict)
    step: Any = None                                        # a program.Step
    names: list[str] = field(default_factory=list)          # of the inputs, for an ordinary step
    after: list[Call] = field(default_factory=list)         # elementwise calls done at once, on the output in place
    origin: str = ""                                        # what it is a part of

    @property
    def name(self) -> str:
        return self.op.name if self.op else self.step.op

    def reads(self) -> Iterable[Value]:
        """The values that are not known before, those of the calls after it included."""
        for call in (self, *self.after):
            yield from (v for v in call.inputs if isinstance(v, Value) and not v.known)


@dataclass
class Graph:
    """Calls in the order in which they run."""

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]


def known_value(name: str, data: Any) -> Value:
    """A value that is there before the plan runs."""
    array = data.numpy() if isinstance(data, Tensor) else data
    if isinstance(array, np.ndarray) and array.dtype != object:
        return Value(name, array.shape, array.dtype, True, array)
    return Value(name, known=True, data=data)


def as_argument(value: Value) -> Any:
    """A known value as steps take it: arrays as tensors."""
    return Tensor(value.data) if value.shape is not None else value.data


def lower(module: OnnxModule, examples: dict[str, Any]) -> Graph:
    """The graph of a module, for inputs like the examples (by name)."""
    lowering = _Lowering(module, examples)
    with no_grad():
        for step in module.steps:
            lowering.add(step)
    program = module._program
    return Graph([lowering.values[name] for name in program.inputs], lowering.calls,
                 [lowering.values[name] if name else Value("", known=True) for name in program.outputs])


class _Lowering:
    def __init__(self, module: OnnxModule, examples: dict[str, Any]):
        self.module, program = module, module._program
        self.calls: list[Call] = []
        self.samples: dict[Value, np.ndarray] = {}                   # an example of each value that is not known
        self.weights: dict[int, tuple[Tensor, Value]] = {}           # of layers, by the identity of the tensor
        self.values: dict[str, Value] = {name: known_value(name, data) for name, data in program.constants.items()}
        self.values |= {name: self._weight(module.get(path)) for name, path in program.parameters.items()}
        for name in program.inputs:
            self.values[name] = self._data(name, examples[name])

    def add(self, step: Step) -> None:
        """Append the calls that a step becomes, or find its results right away."""
        reads = {name: self.values[name] for name in sorted(step.reads()) if name}
        if all(v.known for v in reads.values()) and not _is_random(step):
            results = Program._run(step, self.module, {name: as_argument(v) for name, v in reads.items()})
            self.values.update({name: known_value(name, result) for name, result in step.named(results).items()})
        elif not (self._can_be_traced(step) and self._traced(step)):
            outputs = [Value(name) for name in step.outputs if name]
            self.values.update({v.name: v for v in outputs})
            self.calls.append(Call(list(reads.values()), outputs, step=step, names=list(reads)))

    def _can_be_traced(self, step: Step) -> bool:
        inputs = [self.values[name] if name else None for name in step.inputs]
        if any(v is not None and v.shape is None for v in inputs) or step.graphs:
            return False
        if step.layer:
            return all(type(m).__module__.startswith(nn.__name__ + ".") or isinstance(m, Scope)
                       for m in self.module.get(step.layer).modules())
        data = [i for i, v in enumerate(inputs) if v is not None and not v.known]
        trains = step.op == "Dropout" and len(inputs) > 2 and inputs[2] is not None and bool(inputs[2].data)
        return bool(data) and all(i in DATA_INPUTS.get(step.op, ()) for i in data) and not trains

    def _traced(self, step: Step) -> bool:
        """Run a step on the samples and append the ops that it called; False if it computed outside of ops."""
        given = {name: self.values[name] for name in step.inputs if name}
        arguments = {name: Tensor(v.data if v.known else self.samples[v]) for name, v in given.items()}
        leaves = {id(tensor): given[name] for name, tensor in arguments.items()}
        if step.layer and isinstance(self.module.get(step.layer), nn.Embedding):
            step = replace(step, call=None)                          # its `call` looks at the indices
        with trace():
            results = Program._run(step, self.module, arguments)
        nodes = topological_order(r.node for r in results if r.node is not None)[::-1]
        if len(nodes) > MOST_OPS:
            return False
        tensors = {(x.node, x.output_index): x for x in results if x.node is not None}
        tensors |= {(x.node, x.output_index): x for n in nodes for x in n.inputs if isinstance(x, Tensor) and x.node}
        made: dict[tuple, Value] = {}

        def value_of(x: Any) -> Any:
            if isinstance(x, np.ndarray):
                return known_value("", x)
            if not isinstance(x, Tensor):
                return x
            if x.node is not None:
                return made[x.node, x.output_index]
            return leaves[id(x)] if id(x) in leaves else self._weight(x)

        if step.op not in OF_SHAPES and any(r.node is None and id(r) not in leaves for r in results):
            return False
        calls = []
        for node in nodes:
            inputs = [value_of(x) for x in node.inputs]
            known = node.op.name in OPS_OF_SHAPES or all(v.known for v in inputs if isinstance(v, Value))
            outputs = []
            for i in range(node.count):
                x = tensors.get((node, i))                   # None: nobody reads it
                value = Value("") if x is None else known_value("", x.data) if known else Value("", x.shape, x.dtype)
                made[node, i] = value
                outputs.append(value)
            if not known:
                calls.append(Call(inputs, outputs, node.op, dict(node.attrs)))
        self.calls += calls
        for name, result in step.named(results).items():
            self.values[name] = value = value_of(result)
            value.name = value.name or name
            if not value.known:
                self.samples[value] = result.data
        return True

    def _data(self, name: str, example: Any) -> Value:
        if not isinstance(example, Tensor):                              # text, a sequence, an absent optional
            return Value(name)
        value = Value(name, example.shape, example.dtype)
        self.samples[value] = example.numpy()
        return value

    def _weight(self, tensor: Tensor) -> Value:
        if id(tensor) not in self.weights:
            self.weights[id(tensor)] = tensor, known_value("", tensor.detach())
        return self.weights[id(tensor)][1]


def _is_random(step: Step) -> bool:
    return step.op in RANDOM or any(_is_random(s) for graph in step.graphs.values() for s in graph.steps)
