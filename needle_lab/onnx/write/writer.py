"""What is written of a model so far: names of values, nodes, initialisers, and lengths that follow from the inputs.

Each operator is a method that writes a node and returns the name of its result: `w.Conv(x, weight, strides=[1, 1])`. The
rules under `@writes` (in `operators`) call them; they read shapes from the writer, where a length may be a `Length`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ... import nn
from ...core.dtypes import common_dtype
from ...core.graph import OPS
from ...core.tensor import Tensor
from ...errors import UnsupportedOnnxError
from ...nn import Module
from ...program.lengths import Length, Various
from ...program.program import Program, Scope
from ...program.values import Value, leaves_of
from ..operators.table import TABLE, WRITES, WRITES_LAYER, kind_of

Origin = tuple[tuple[Tensor, ...], Callable[..., np.ndarray]]      # parameters, and how their arrays were arranged

_LOSSES = (nn.NLLLoss, nn.CrossEntropyLoss)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def is_one_operator(module: Any, arguments: list) -> bool:
    """Whether a call of this layer is written as one operator."""
    kind = kind_of(module)
    if kind in _LOSSES:                        # of class numbers; probabilities as target are ordinary arithmetic
        return len(arguments) == 2 and isinstance(arguments[1], Tensor) and arguments[1].dtype.kind in "iu"
    if kind in _TRANSPOSED:                    # one sample without a batch axis gets one in the parts
        return arguments[0].ndim == module.weight.ndim
    return kind in WRITES_LAYER


class Writer:
    """Names for values, and the nodes and initialisers written so far."""

    def __init__(self, module: Module | Callable, opset: int, reserved: set[str] | None = None, prefix: str = "",
                 training: bool = False):
        self.opset, self.prefix, self.training = opset, prefix, training
        self.names: dict[Any, str] = {}                        # of values of the program; of weights and lengths
        self.reserved = reserved if reserved is not None else set()      # names of inputs and outputs
        self.nodes: list[onnx.NodeProto] = []
        self.made_in: list[tuple[onnx.NodeProto, Scope]] = []  # every node ever written, and the modules around it
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.origins: dict[str, Origin] = {}                   # an initialiser -> what it was made of
        self.updates: dict[Tensor, str] = {}                   # a buffer -> its new value
        self.reshaped: dict[str, tuple[str, tuple[int, ...]]] = {}       # a value -> what it was before, and its shape
        self.permuted: dict[str, tuple[str, list[int]]] = {}   # a value -> what it was before, and the permutation
        self.paths: dict[Tensor, str] = {}
        if isinstance(module, Module):
            self.paths = {x: path for path, x in (*module.named_parameters(), *module.named_buffers())}
        self.program: Program
        self._scope: Scope = ()

    def write(self, program: Program) -> None:
        """All calls of a program; the names of its inputs are known already."""
        self.program = program
        for call in program.calls:
            self._scope = call.scope
            if isinstance(call.function, Module):
                written = WRITES_LAYER[kind_of(call.function)](self, call.function, *leaves_of((call.inputs, call.attrs)))
            elif call.name in WRITES:
                written = WRITES[call.name](self, *call.inputs, **call.attrs)
            elif call.op and call.op.onnx and not call.attrs:
                written = self.emit(call.op.onnx, self.operands(call.inputs, OPS[call.name].promote))
            elif call.op:
                raise UnsupportedOnnxError(f"export: the op {call.name!r} has no ONNX form yet; "
                                           "give it one with @ndl.onnx.writes")
            else:
                raise UnsupportedOnnxError(f"export: {call.name!r} of an imported graph depends on values of the inputs, "
                                           "which cannot be written back yet")
            for value, name in zip(call.outputs, written if isinstance(written, tuple) else (written,), strict=False):
                if name:
                    self.names[value] = name
        self._scope = ()

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        """w.Relu(x) writes a node: inputs are values or names, keywords attributes (and `outputs`, how many)."""
        if operator not in TABLE:
            raise AttributeError(f"the writer has no {operator!r}, and no operator is called so")
        return functools.partial(self._operator, operator)

    def _operator(self, operator: str, *inputs: Any, **attrs: Any) -> Any:
        return self.emit(operator, [x if isinstance(x, str) else self.name(x) for x in inputs], **attrs)

    def reduced(self, operator: Callable, x: Any, axes: Any, keepdims: bool = True) -> str:
        """A reduction; its axes moved from an attribute to an input, in different opsets."""
        if axes is None:
            return operator(x, keepdims=int(keepdims))
        axes = [axes] if isinstance(axes, int) else list(axes)
        known = [s for s in _schemas(operator.args[0]) if s.since_version <= self.opset]       # type: ignore[attr-defined]
        if len(known[-1].inputs) > 1:
            return operator(x, self.ints(*axes), keepdims=int(keepdims))
        return operator(x, axes=axes, keepdims=int(keepdims))

    def transposed(self, x: str, axes: list[int]) -> str:
        """A Transpose; of a Transpose, one that does both."""
        source, before = self.permuted.get(x, (x, list(range(len(axes)))))
        axes = [before[a] for a in axes]
        if axes == sorted(axes):
            return source
        key = "transposed", source, tuple(axes)
        if key not in self.names:
            self.names[key] = y = self.Transpose(source, perm=axes)
            self.permuted[y] = source, axes
        return self.names[key]

    # --- nodes --------------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], output: str | None = None, outputs: int = 1, domain: str = "",
             **attrs) -> Any:
        """Write one node; -> the name of its output, or a tuple of names.  An attribute that is None is left out."""
        attrs = {name: value for name, value in attrs.items() if value is not None}
        if not domain:
            self._check(op, attrs)
        number = len(self.nodes)
        suffixes = [f"_{i}" for i in range(outputs)] if outputs > 1 else [""]
        made = [output] if output else [self.fresh(f"{op.lower()}_{number}{suffix}") for suffix in suffixes]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        node = helper.make_node(op, list(inputs), made, domain=domain, **attrs)
        self.nodes.append(node)
        self.made_in.append((node, self._scope))
        return made[0] if outputs == 1 else tuple(made)

    def _check(self, op: str, attrs: dict[str, Any]) -> None:
        """Whether the opset has this operator with these attributes; what is the least that has."""
        schema = _schemas(op)
        now = [s for s in schema if s.since_version <= self.opset]
        if not now or set(attrs) - set(now[-1].attributes):
            least = min(s.since_version for s in schema if not set(attrs) - set(s.attributes))
            absent = sorted(set(attrs) - set(now[-1].attributes))[0] if now else ""
            what = f"{op} with {absent}={attrs[absent]!r}" if now else op
            raise UnsupportedOnnxError(f"export: opset {self.opset} has no {what}, which this model needs; "
                                       f"export with opset={least} or more")
        for name, value in attrs.items():
            if any(isinstance(v, Length) for v in (value if isinstance(value, (list, tuple)) else [value])):
                raise UnsupportedOnnxError(f"export: {op} fixes {name}={value!r}, which follows from a dynamic axis; "
                                           "leave that axis out of dynamic_axes")

    def has(self, op: str) -> bool:
        """Whether the opset that is written has an operator."""
        return any(schema.since_version <= self.opset for schema in _schemas(op))

    def fresh(self, name: str) -> str:
        """A name that no input, output or initialiser has."""
        name = self.prefix + name
        while name in self.reserved or name in self.initializers:
            name += "_"
        return name

    # --- values -------------------------------------------------------------------------------------------------------

    def shape(self, x: Any) -> tuple[int, ...]:
        """The shape of an input of a rule; lengths that vary are of type Length."""
        return x.shape if isinstance(x, (Value, Tensor)) else tuple(np.shape(x))

    def operands(self, inputs: Sequence, promote: str | None = "all") -> list[str]:
        """Names of an elementwise op's inputs, brought to one dtype as the op does."""
        dtype = common_dtype([x for x in inputs if getattr(x, "dtype", np.bool_) != np.bool_])
        if promote == "float" and dtype is not None and dtype.kind in "iu":
            dtype = np.dtype(np.float32)
        names = []
        for x in inputs:
            if isinstance(x, (Value, Tensor)) and dtype is not None and x.dtype not in (dtype, np.bool_):
                names.append(self.cast(self.name(x), dtype))
            else:
                names.append(self.name(x, dtype))
        return names

    def cast(self, name: str, dtype: Any) -> str:
        return self.Cast(name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def name(self, x: Any, dtype: Any = None) -> str:
        """The name of a value; constants and numbers (of this dtype) become initialisers."""
        if x is None:
            return ""
        if isinstance(x, Length):
            return self.cast(self._scalar(x), dtype or np.int64)
        if isinstance(x, Various):
            return self._various(x, dtype or np.float32)
        if isinstance(x, Value):
            if not x.known:
                return self.names[x]
            x = x.data
        if isinstance(x, Various):
            return self._various(x, x.dtype)
        if isinstance(x, Tensor):
            return self.weight(self.paths[x], (x,)) if x in self.paths else self.constant(x.numpy())
        kind = dtype if not hasattr(x, "dtype") and dtype is not None else None
        array = np.asarray(x, kind)
        return self.constant(array.astype(np.float32) if array.dtype == np.float64 and kind is None else array)

    def path(self, x: Tensor | None) -> str:
        """Where a parameter stands in the model; "" if it is none of the model's."""
        return self.paths.get(x, "") if x is not None else ""

    def weight(self, name: str, parameters: tuple[Tensor, ...], arranged: Callable[..., np.ndarray] = np.asarray,
               layout: str = "") -> str:
        """An initialiser made of parameters of the model, under a name of the model's.

        arranged: (array of each parameter) -> the initialiser; layout: what tells this arrangement from others.
        """
        key = "weight", layout, parameters
        if key not in self.names:
            while not name or name in self.initializers or name in self.reserved:
                name = f"{name}_" if name else f"constant_{len(self.initializers)}"
            self.names[key], self.origins[name] = name, (parameters, arranged)
            self._store(name, arranged(*(p.numpy() for p in parameters)))
        return self.names[key]

    def constant(self, array: Any) -> str:
        """An initialiser without a name of its own; equal small ones are written once."""
        array = np.asarray(array)
        text = f"{array.dtype}{array.shape}{array.tobytes().hex()}" if array.size <= 16 else ""
        name = self.names.get(("constant", text)) if text else None
        if name is None:
            name = self.fresh(f"constant_{len(self.initializers)}")
            self._store(name, array)
            if text:
                self.names["constant", text] = name
        return name

    def _store(self, name: str, array: np.ndarray) -> None:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)

    def floats(self, shape: tuple[int, ...], value: float, dtype: Any) -> str:
        """A constant tensor of one number."""
        if any(isinstance(n, Length) for n in shape):
            return self.Expand(self.constant(np.array(value, dtype)), self.ints(*shape))
        return self.constant(np.full(shape, value, dtype))

    # --- lengths ------------------------------------------------------------------------------------------------------

    def ints(self, *values: int) -> str:
        """An int64 vector; a Length in it is measured when the file runs."""
        if not any(isinstance(v, Length) for v in values):
            return self.constant(np.array(values, np.int64).reshape(-1))
        parts = [self.length(v) if isinstance(v, Length) else self.ints(v) for v in values]
        return parts[0] if len(parts) == 1 else self.Concat(*parts, axis=0)

    def length(self, wanted: Length) -> str:
        """An int64 vector of one number: a length of an input, that plus or times a number, a product of two of them, or
        the length of another value."""
        key = "length", wanted.values
        if key not in self.names:
            self.names[key] = self._measured(wanted)
        return self.names[key]

    def _measured(self, wanted: Length) -> str:
        sizes = self.program.sizes
        formula = sizes.formula(wanted)
        if formula:
            found = [self._axis(self.names[v], i) for name in formula.names for v, i in [self._input_with(name)]]
            product = found[0]
            for other in found[1:]:
                product = self.Mul(product, other)
            product = product if formula.factor == 1 else self.Mul(product, self.ints(formula.factor))
            return self.Add(product, self.ints(formula.offset)) if formula.offset else product
        for value, name in self.names.items():
            if isinstance(value, Value) and value.shape is not None and wanted in value.shape:
                return self._axis(name, value.shape.index(wanted))
        raise UnsupportedOnnxError(f"export: the model uses a length that is {' or '.join(map(str, wanted.values))} at "
                                   "different sizes, which is no length of any of its values; leave that axis out of "
                                   "dynamic_axes")

    def _input_with(self, symbol: str) -> tuple[Value, int]:
        """An input, and its axis, that has a named length."""
        values = self.program.sizes.names[symbol]
        return next((v, i) for v in self.program.inputs for i, n in enumerate(v.shape)
                    if isinstance(n, Length) and n.values == values)

    def _axis(self, name: str, axis: int) -> str:
        shape = self.names.get(("shape", name))
        if shape is None:
            shape = self.names["shape", name] = self.Shape(name)
        return self.Gather(shape, self.ints(axis), axis=0)

    def _scalar(self, n: int) -> str:
        """A length as an int64 without axes."""
        return self.Squeeze(self.length(n), self.ints(0)) if isinstance(n, Length) \
            else self.constant(np.array(n, np.int64))

    def _range(self, n: int) -> str:
        """0, 1, ..., n - 1"""
        return self.Range(self._scalar(0), self._scalar(n), self._scalar(1))

    def _various(self, x: Various, dtype: Any) -> str:
        """A constant that depends on lengths: a number, one number everywhere, a range, or a triangle."""
        form = x.form()
        if form is None:
            raise UnsupportedOnnxError("export: a constant was made while the model ran and depends on a dynamic axis; "
                                       "leave that axis out of dynamic_axes, or make it an input")
        if form.kind == "number":
            return self.name(form.number, dtype)
        if form.kind == "reciprocal":                                # a mean's 1 / n
            return self.Reciprocal(self.name(form.number, dtype))
        if form.kind == "filled":
            return self.floats(form.shape, form.value, x.dtype)
        if form.kind == "range":
            y = self._range(form.shape[form.value])
            y = y if x.dtype == np.int64 else self.cast(y, x.dtype)
            rest = [i for i in range(len(form.shape)) if i != form.value]
            return self.Unsqueeze(y, self.ints(*rest)) if rest else y
        rows = self.Unsqueeze(self._range(form.shape[0]), self.ints(1))
        rows = self.Add(rows, self.constant(np.array(form.value))) if form.value else rows
        triangle = (self.Greater if form.above else self.LessOrEqual)(self._range(form.shape[1]), rows)
        return triangle if x.dtype == np.bool_ else self.cast(triangle, x.dtype)


@functools.cache
def _schemas(op: str) -> list[Any]:
    """All versions of one of ONNX's own operators, the oldest first."""
    found = [s for s in onnx.defs.get_all_schemas_with_history() if s.name == op and s.domain == ""]
    return sorted(found, key=lambda s: s.since_version)
