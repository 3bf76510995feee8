"""From a module or function to an ONNX file, by running it once on example inputs and writing down the graph.

`EMIT` says for each op which ONNX nodes mean the same; ops that are one ONNX operator without attributes need no
entry, their `onnx` name is enough. Weights are initialisers under their paths, so an exported file reads like the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .. import graph
from ..dtypes import result_type
from ..errors import ArgumentError, UnsupportedOnnxError
from ..nn import Module
from ..serialize.atomic import replacing
from ..tensor import Tensor
from .model import OnnxModule

OPSET = 20
EMIT: dict[str, Callable] = {}

_PLAIN = set("Neg Abs Reciprocal Sign Floor Ceil Round Exp Log Sqrt Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh "
             "Acosh Atanh Erf Relu Sigmoid Softplus Softsign IsNaN IsInf Not Identity Sub Mul Add Div Pow Equal Less "
             "LessOrEqual Greater GreaterOrEqual And Or Xor BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Where MatMul Max "
             "Min Gelu".split())


def export(model: Module | Callable, example_inputs: Sequence[Tensor | np.ndarray],
           path: str | os.PathLike | None = None, *, input_names: Sequence[str] | None = None,
           output_names: Sequence[str] | None = None,
           dynamic_axes: dict[str, dict[int, str]] | None = None) -> onnx.ModelProto:
    """Write a module or a function of tensors as an ONNX model (opset 20), checked by ONNX's own checker.

    Names are the model's own if it was imported, else "input" and "output", numbered where there are several.

    The model runs once, in evaluation mode, on example_inputs; control flow is written as it ran. dynamic_axes:
    {"input": {0: "batch"}} declares lengths that may vary. path=None only returns the model. An existing file is
    replaced at once or not at all.  Raises UnsupportedOnnxError for an op that has no ONNX form.
    """
    given = example_inputs if isinstance(example_inputs, (list, tuple)) else [example_inputs]
    inputs = [x.detach() if isinstance(x, Tensor) else Tensor(np.asarray(x)) for x in given]
    default = ["input"] if len(inputs) == 1 else [f"input_{i}" for i in range(len(inputs))]
    if isinstance(model, OnnxModule):                  # what came in by a name goes out by it
        default, output_names = model.input_names, output_names or model.output_names
    names = list(input_names or default)
    if len(names) != len(inputs):
        raise ArgumentError(f"export: {len(inputs)} inputs need as many names, got {names}")
    writer = _Writer(model if isinstance(model, Module) else None)
    for x, name in zip(inputs, names, strict=True):
        writer.names[graph.key_of(x)] = name
    outputs = _run(model, inputs)
    results = list(output_names or [])
    for i in range(len(results), len(outputs)):
        results.append("output" if len(outputs) == 1 else f"output_{i}")
    writer.reserved = {*names, *results}
    proto = writer.model(inputs, names, outputs, results, dynamic_axes or {})
    onnx.checker.check_model(proto, full_check=True)
    if path is not None:
        with replacing(path) as file:
            file.write(proto.SerializeToString())
    return proto


def _run(model, inputs) -> tuple[Tensor, ...]:
    modules = list(model.modules()) if isinstance(model, Module) else []
    modes = [m.training for m in modules]
    try:
        for m in modules:
            m.training = False
        with graph.trace():
            result = model(*inputs)
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode
    flat: list[Tensor] = []
    stack = [result]
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            flat.append(value)
        elif isinstance(value, (tuple, list)):
            stack.extend(reversed(value))
        elif value is not None:
            raise ArgumentError(f"export: the model returned a {type(value).__name__}; "
                                "tensors and tuples of them can be written")
    return tuple(flat)


class _Writer:
    """Names for values, and the nodes and initialisers written so far."""

    def __init__(self, module: Module | None):
        self.names: dict[Any, str] = {}
        self.reserved: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.paths: dict[Tensor, str] = {}
        if module is not None:
            self.paths |= {p: path for path, p in module.named_parameters()}
            self.paths |= {b: path for path, b in module.named_buffers()}
        self.memory = {id(p.data): path for p, path in self.paths.items()}     # detached twins share the array

    def model(self, inputs, names, outputs, output_names, dynamic_axes) -> onnx.ModelProto:
        for node in reversed(graph.topological_order([y.node for y in outputs if y.node is not None])):
            self._write(node)
        results = []
        for i, y in enumerate(outputs):
            self.emit("Identity", [self.name(y)], output=output_names[i])
            results.append(_value(output_names[i], y, dynamic_axes, free=bool(dynamic_axes)))
        self._drop_identities([v.name for v in results])
        self._join_affine()
        self._join_transposed_biases()
        self._drop_inverse_factors()
        shown = [_value(name, x, dynamic_axes) for name, x in zip(names, inputs, strict=True)]
        used = {name for node in self.nodes for name in node.input}
        unread = [name for name in names if name not in used]
        if unread:
            raise UnsupportedOnnxError(f"export: the result does not depend on {unread[0]!r} through recorded ops; "
                                       "was its value taken out as a number or a numpy array?")
        g = helper.make_graph(self.nodes, "needle_lab", shown, results,
                              [t for t in self.initializers.values() if t.name in used])
        return helper.make_model(g, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="needle_lab",
                                 ir_version=10)

    def _drop_identities(self, results: list[str]) -> None:
        """The last node writes the output's name itself, unless its value is read elsewhere too."""
        producers = {name: node for node in self.nodes for name in node.output}
        for result in results:
            source = producers[result].input[0]
            readers = sum(list(node.input).count(source) for node in self.nodes)
            if source in producers and readers == 1:
                self.nodes.remove(producers[result])
                outputs = producers[source].output
                outputs[list(outputs).index(source)] = result

    def _join_affine(self) -> None:
        """LayerNormalization, then times weight, then plus bias: ONNX's operator takes both itself."""
        for node in [n for n in self.nodes if n.op_type == "LayerNormalization"]:
            for op, at in (("Mul", 1), ("Add", 2)):
                readers = [n for n in self.nodes if node.output[0] in n.input]
                if len(readers) != 1 or readers[0].op_type != op:
                    break
                vector = next((name for name in readers[0].input if name != node.output[0]), "")
                scale = self.initializers[node.input[1]]
                if vector not in self.initializers or self.initializers[vector].dims != scale.dims:
                    break
                node.input[1:] = [*node.input[1:at], vector]
                node.output[0] = readers[0].output[0]
                self.nodes.remove(readers[0])

    def _drop_inverse_factors(self) -> None:
        """AveragePool, times the window's size (a sum), divided by it again (an average): only AveragePool is left."""
        for node in [n for n in self.nodes if n.op_type == "AveragePool"]:
            chain: list[onnx.NodeProto] = []
            value = node.output[0]
            while len(chain) < 2:
                readers = [n for n in self.nodes if value in n.input]
                if len(readers) != 1 or readers[0].op_type != "Mul" or self._factor(readers[0], value) is None:
                    break
                chain.append(readers[0])
                value = readers[0].output[0]
            if len(chain) == 2:
                first, second = self._factor(chain[0], node.output[0]), self._factor(chain[1], chain[0].output[0])
                if first is not None and second is not None and abs(first * second - 1) < 1e-6:
                    node.output[0] = value
                    for n in chain:
                        self.nodes.remove(n)

    def _factor(self, node: onnx.NodeProto, value: str) -> float | None:
        """The number by which a Mul multiplies `value`, if it is one."""
        other = self.initializers.get(next((name for name in node.input if name != value), ""))
        if other is None or list(other.dims) not in ([], [1]):
            return None
        return float(numpy_helper.to_array(other).reshape(-1)[0])

    def _join_transposed_biases(self) -> None:
        """ConvTranspose, then plus a bias reshaped to (C, 1, 1): ONNX's operator takes it itself."""
        producers = {name: node for node in self.nodes for name in node.output}
        for node in [n for n in self.nodes if n.op_type == "ConvTranspose"]:
            readers = [n for n in self.nodes if node.output[0] in n.input]
            if len(readers) != 1 or readers[0].op_type != "Add":
                continue
            reshape = producers.get(next((name for name in readers[0].input if name != node.output[0]), ""))
            if reshape is not None and reshape.op_type == "Reshape" and reshape.input[0] in self.initializers:
                node.input.append(reshape.input[0])
                node.output[0] = readers[0].output[0]
                self.nodes.remove(readers[0])
                self.nodes.remove(reshape)

    def _write(self, node: graph.Node) -> None:
        if node.op.name in EMIT:
            written = EMIT[node.op.name](self, *node.inputs, **node.attrs)
        elif node.op.onnx in _PLAIN and not node.attrs:
            written = self.emit(node.op.onnx, self.operands(node.inputs))
        else:
            raise UnsupportedOnnxError(f"export: the op {node.op.name!r} has no ONNX form yet; "
                                       "see EMIT in needle_lab/onnx/export.py")
        for i, name in enumerate(written if isinstance(written, tuple) else (written,)):
            self.names[node, i] = name

    def operands(self, inputs) -> list[str]:
        """Names of an elementwise op's inputs, brought to one dtype as the op does."""
        tensors = [x for x in inputs if hasattr(x, "dtype") and x.dtype != np.bool_]
        dtype = None
        for x in tensors:
            dtype = x.dtype if dtype is None else result_type(dtype, x.dtype)
        names = []
        for x in inputs:
            if isinstance(x, Tensor) and dtype is not None and x.dtype not in (dtype, np.bool_):
                names.append(self.emit("Cast", [self.name(x)], to=helper.np_dtype_to_tensor_dtype(dtype)))
            else:
                names.append(self.name(x, dtype))
        return names

    def name(self, x, dtype=None) -> str:
        """The name of a value; leaves and numbers become initialisers."""
        if x is None:
            return ""
        if not isinstance(x, Tensor):
            kind = dtype if not hasattr(x, "dtype") and dtype is not None else None
            array = np.asarray(x, kind)
            return self.constant(array.astype(np.float32) if array.dtype == np.float64 and kind is None else array)
        key = graph.key_of(x)
        if key not in self.names:
            if x.node is not None:
                raise UnsupportedOnnxError(f"export: a result of {x.node.op.name!r} was computed before the export began")
            path = self.paths.get(x) or self.memory.get(id(x.data))
            self.names[key] = self.constant(x.numpy(), path)
        return self.names[key]

    def constant(self, array, name: str | None = None) -> str:
        """An initialiser; equal small constants are written once."""
        array = np.asarray(array)
        if name is None:
            text = f"{array.dtype}{array.shape}{array.tobytes().hex()}" if array.size <= 16 else ""
            name = self.names.get(("constant", text)) if text else None
            if name is None:
                name = f"constant_{len(self.initializers)}"
                if text:
                    self.names["constant", text] = name
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def ints(self, *values) -> str:
        return self.constant(np.array(values, np.int64).reshape(-1))

    def _fresh(self, name: str) -> str:
        """A name that no input or output of the model has."""
        while name in self.reserved:
            name += "_"
        return name

    def emit(self, op: str, inputs: Sequence[str], output: str | None = None, outputs: int = 1, **attrs):
        """Write one node; -> the name of its output, or a tuple of names."""
        number = len(self.nodes)
        suffixes = [f"_{i}" for i in range(outputs)] if outputs > 1 else [""]
        made = [output] if output else [self._fresh(f"{op.lower()}_{number}{suffix}") for suffix in suffixes]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=f"{op}_{number}",
                                           **{k: v for k, v in attrs.items() if v is not None}))
        return made[0] if outputs == 1 else tuple(made)


def _value(name: str, x: Tensor, dynamic_axes, free: bool = False) -> onnx.ValueInfoProto:
    """The declaration of an input or output; free leaves undeclared lengths of an output open."""
    dynamic = dynamic_axes.get(name, {})
    shape = [dynamic.get(i, None if free and not dynamic else n) for i, n in enumerate(x.shape)]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), shape)


# --- what each op is in ONNX --------------------------------------------------------------------------------------------

def emits(*names: str):
    def enter(function: Callable) -> Callable:
        EMIT.update(dict.fromkeys(names, function))
        return function
    return enter


def _pads(pads) -> list[int]:
    return [b for b, _ in pads] + [a for _, a in pads]


@emits("linear")
def _linear(w, x, weight, bias=None):
    if x.ndim == 2:
        return w.emit("Gemm", [w.name(x), w.name(weight), w.name(bias)], transB=1)
    path = w.paths.get(weight)
    turned = w.constant(weight.numpy().T, path) if path and path not in w.initializers else None
    turned = turned or w.emit("Transpose", [w.name(weight)], perm=[1, 0])
    y = w.emit("MatMul", [w.name(x), turned])
    return y if bias is None else w.emit("Add", [y, w.name(bias)])


@emits("convolution")
def _convolution(w, x, weight, bias=None, *, stride, pads, dilation, groups):
    return w.emit("Conv", [w.name(x), w.name(weight), w.name(bias)], kernel_shape=list(weight.shape[2:]),
                  strides=list(stride), pads=_pads(pads), dilations=list(dilation), group=groups)


@emits("convolution_input")
def _convolution_input(w, g, weight, *, size, stride, pads, dilation, groups):
    extra = [s - ((n - 1) * t + d * (k - 1) + 1 - b - a) for s, n, t, d, k, (b, a)
             in zip(size, g.shape[2:], stride, dilation, weight.shape[2:], pads, strict=True)]
    return w.emit("ConvTranspose", [w.name(g), w.name(weight)], kernel_shape=list(weight.shape[2:]), strides=list(stride),
                  pads=_pads(pads), dilations=list(dilation), group=groups, output_padding=extra)


@emits("max_windows")
def _max_windows(w, x, *, kernel, stride, pads, dilation):
    return w.emit("MaxPool", [w.name(x)], kernel_shape=list(kernel), strides=list(stride), pads=_pads(pads),
                  dilations=list(dilation))


@emits("sum_windows")
def _sum_windows(w, x, *, kernel, stride, pads, dilation):
    mean = w.emit("AveragePool", [w.name(x)], kernel_shape=list(kernel), strides=list(stride), pads=_pads(pads),
                  dilations=list(dilation), count_include_pad=1)
    return w.emit("Mul", [mean, w.name(float(np.prod(kernel)), x.dtype)])


@emits("apply_batch_norm")
def _batch_norm(w, x, mean, var, weight=None, bias=None, *, eps):
    scale = w.name(weight) if weight is not None else w.constant(np.ones(mean.shape, x.dtype))
    shift = w.name(bias) if bias is not None else w.constant(np.zeros(mean.shape, x.dtype))
    return w.emit("BatchNormalization", [w.name(x), scale, shift, w.name(mean), w.name(var)], epsilon=eps)


@emits("standardize")
def _standardize(w, x, *, axes, eps):
    axes = sorted(a % x.ndim for a in axes)
    if axes == list(range(axes[0], x.ndim)):
        ones = w.constant(np.ones(x.shape[axes[0]:], x.dtype))
        return w.emit("LayerNormalization", [w.name(x), ones], axis=axes[0] - x.ndim, epsilon=eps), "", ""
    over = w.ints(*axes)
    mean = w.emit("ReduceMean", [w.name(x), over])
    centered = w.emit("Sub", [w.name(x), mean])
    var = w.emit("ReduceMean", [w.emit("Mul", [centered, centered]), over])
    length = w.emit("Sqrt", [w.emit("Add", [var, w.name(eps, x.dtype)])])
    return w.emit("Div", [centered, length]), mean, var


EMIT["softmax"] = lambda w, x, *, axis=-1: w.emit("Softmax", [w.name(x)], axis=axis)
EMIT["log_softmax"] = lambda w, x, *, axis=-1: w.emit("LogSoftmax", [w.name(x)], axis=axis)


def _reduction(op: str):
    def emit(w, x, *, axis=None, keepdims=False):
        axes = "" if axis is None else w.ints(*((axis,) if isinstance(axis, int) else axis))
        return w.emit(op, [w.name(x), axes], keepdims=int(keepdims))
    return emit


for _name, _op in {"sum": "ReduceSum", "mean": "ReduceMean", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin",
                   "logsumexp": "ReduceLogSumExp"}.items():
    EMIT[_name] = _reduction(_op)


def _arg(op: str):
    def emit(w, x, *, axis=None, keepdims=False):
        source = w.name(x) if axis is not None else w.emit("Reshape", [w.name(x), w.ints(-1)])
        return w.emit(op, [source], axis=axis or 0, keepdims=int(keepdims))
    return emit


EMIT |= {"argmax": _arg("ArgMax"), "argmin": _arg("ArgMin")}


@emits("reshape")
def _reshape(w, x, *, shape):
    # 0 copies the input's length: leading lengths that stay are not fixed, so a batch may vary
    sizes, same = list(shape), True
    for i, n in enumerate(shape):
        same = same and i < x.ndim and n == x.shape[i] and n != 0
        sizes[i] = 0 if same else n
    return w.emit("Reshape", [w.name(x), w.ints(*sizes)])


@emits("permute")
def _permute(w, x, *, axes):
    return w.emit("Transpose", [w.name(x)], perm=[a % x.ndim for a in axes])


@emits("expand")
def _expand(w, x, *, shape):
    missing = len(shape) - x.ndim
    return w.emit("Expand", [w.name(x), w.ints(*(x.shape[i - missing] if n == -1 else n for i, n in enumerate(shape)))])


@emits("concatenate")
def _concatenate(w, *tensors, axis=0):
    return w.emit("Concat", w.operands(tensors), axis=axis)


@emits("tile")
def _tile(w, x, *, repeats):
    missing = len(repeats) - x.ndim
    source = w.name(x) if missing <= 0 else w.emit("Unsqueeze", [w.name(x), w.ints(*range(missing))])
    return w.emit("Tile", [source, w.ints(*(1,) * max(-missing, 0), *repeats)])


@emits("flip")
def _flip(w, x, *, axis):
    axes = (axis,) if isinstance(axis, int) else axis
    return w.emit("Slice", [w.name(x), w.ints(*[-1] * len(axes)), w.ints(*[np.iinfo(np.int64).min] * len(axes)),
                            w.ints(*axes), w.ints(*[-1] * len(axes))])


@emits("pad_constant")
def _pad(w, x, *, widths, value=0.0):
    return w.emit("Pad", [w.name(x), w.ints(*_pads(widths)), w.name(value, x.dtype)])


@emits("cast")
def _cast(w, x, *, dtype):
    return w.emit("Cast", [w.name(x)], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


@emits("index_select")
def _index_select(w, x, index, *, axis=0):
    return w.emit("Gather", [w.name(x), w.name(index)], axis=axis)


@emits("take_along_axis")
def _take_along_axis(w, x, index, *, axis):
    return w.emit("GatherElements", [w.name(x), w.name(index)], axis=axis)


@emits("getitem")
def _getitem(w, x, *, index):
    parts = list(index) if isinstance(index, tuple) else [index]
    rest = x.ndim - sum(p is not None and p is not ... for p in parts)
    if ... in [p if p is ... else None for p in parts]:
        at = next(i for i, p in enumerate(parts) if p is ...)
        parts[at:at + 1] = [slice(None)] * rest
    arrays = [p for p in parts if isinstance(p, np.ndarray)]
    if len(arrays) > 1 or any(a.dtype == np.bool_ for a in arrays):
        raise UnsupportedOnnxError("export: an index with several arrays or a mask has no simple ONNX form")
    y, axis, starts, ends, axes, steps, gone, new, gather = w.name(x), 0, [], [], [], [], [], [], None
    for p in parts:
        if p is None:
            new.append(p)
        elif isinstance(p, np.ndarray):
            gather, axis = (axis, p), axis + 1
        else:
            if not isinstance(p, slice):
                gone.append(axis)
                p = slice(int(p), int(p) + 1 if p != -1 else np.iinfo(np.int64).max)
            if p != slice(None):
                starts.append(0 if p.start is None and (p.step or 1) > 0 else -1 if p.start is None else p.start)
                ends.append(p.stop if p.stop is not None else np.iinfo(np.int64).max if (p.step or 1) > 0
                            else np.iinfo(np.int64).min)
                axes.append(axis), steps.append(p.step or 1)
            axis += 1
    if axes:
        y = w.emit("Slice", [y, w.ints(*starts), w.ints(*ends), w.ints(*axes), w.ints(*steps)])
    if gather:
        y = w.emit("Gather", [y, w.constant(gather[1].astype(np.int64))], axis=gather[0])
    if gone:
        y = w.emit("Squeeze", [y, w.ints(*gone)])
    if new:
        kept = [p for p in parts if p is None or isinstance(p, (slice, np.ndarray))]
        y = w.emit("Unsqueeze", [y, w.ints(*(i for i, p in enumerate(kept) if p is None))])
    return y


@emits("einsum")
def _einsum(w, *tensors, equation):
    return w.emit("Einsum", w.operands(tensors), equation=equation)


@emits("cumsum")
def _cumsum(w, x, *, axis):
    return w.emit("CumSum", [w.name(x), w.constant(np.array(axis, np.int64))])


@emits("leaky_relu")
def _leaky_relu(w, x, *, negative_slope=0.01):
    return w.emit("LeakyRelu", [w.name(x)], alpha=negative_slope)


@emits("elu")
def _elu(w, x, *, alpha=1.0):
    return w.emit("Elu", [w.name(x)], alpha=alpha)


@emits("celu")
def _celu(w, x, *, alpha=1.0):
    return w.emit("Celu", [w.name(x)], alpha=alpha)


@emits("selu")
def _selu(w, x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return w.emit("Selu", [w.name(x)], alpha=alpha, gamma=gamma)


@emits("silu")
def _silu(w, x):
    return w.emit("Mul", [w.name(x), w.emit("Sigmoid", [w.name(x)])])


@emits("square")
def _square(w, x):
    return w.emit("Mul", [w.name(x), w.name(x)])


@emits("rsqrt")
def _rsqrt(w, x):
    return w.emit("Reciprocal", [w.emit("Sqrt", [w.name(x)])])


@emits("log1p")
def _log1p(w, x):
    return w.emit("Log", [w.emit("Add", [w.name(x), w.name(1.0, x.dtype)])])


@emits("expm1")
def _expm1(w, x):
    return w.emit("Sub", [w.emit("Exp", [w.name(x)]), w.name(1.0, x.dtype)])


@emits("ne")
def _ne(w, a, b):
    return w.emit("Not", [w.emit("Equal", w.operands((a, b)))])


@emits("clip_low")
def _clip_low(w, x, low):
    return w.emit("Max", w.operands((x, low)))


@emits("clip_high")
def _clip_high(w, x, high):
    return w.emit("Min", w.operands((x, high)))


@emits("remainder")
def _remainder(w, a, b):
    a, b = w.operands((a, b))
    return w.emit("Sub", [a, w.emit("Mul", [b, w.emit("Floor", [w.emit("Div", [a, b])])])])


@emits("lstm_cell")
def _lstm_cell(w, gates, c):
    i, f, g, o = w.emit("Split", [w.name(gates)], outputs=4, axis=-1, num_outputs=4)
    i, f, o = (w.emit("Sigmoid", [gate]) for gate in (i, f, o))
    g = w.emit("Tanh", [g])
    new_c = w.emit("Add", [w.emit("Mul", [f, w.name(c)]), w.emit("Mul", [i, g])])
    return w.emit("Mul", [o, w.emit("Tanh", [new_c])]), new_c, ""


@emits("zeros_like")
def _zeros_like(w, x):
    return w.emit("Mul", [w.name(x), w.name(0, x.dtype)])
