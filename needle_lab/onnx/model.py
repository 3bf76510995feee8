"""OnnxModule: an ONNX graph as a Module that trains, saves, prints, diffs and can be extended.

Nodes with weights are layers in a tree built from the model's own names; all others are functions of
`needle_lab.onnx.convert`. `forward` runs the steps in topological order and lets go of a value after its last use.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from ..dtypes import is_floating
from ..errors import ArgumentError, DTypeError, NeedleError, ShapeError, UnsupportedOnnxError
from ..nn import Module, Parameter
from ..tensor import Tensor
from . import convert, layers, reader


class Scope(Module):
    """A branch of the tree: it holds what the model's names put under it, and computes nothing itself."""

    def __getitem__(self, name: int | str) -> Any:
        return getattr(self, str(name))


@dataclass
class Step:
    """One node, ready to run."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    function: Any = None                        # of needle_lab.onnx.convert; None for a layer
    attrs: dict[str, Any] = field(default_factory=dict)
    layer: str = ""                             # path of the layer
    call: Callable | None = None
    release: list[str] = field(default_factory=list)


class OnnxModule(Module):
    """An ONNX model as a module.  It starts in evaluation mode; `train()` makes dropout and batch norm train.

    model(x): inputs by position or by name -> a tensor, or a tuple for several outputs.
    model(x, outputs=["name"]): any values of the graph, by their ONNX names.
    input_names, output_names: as in the file.
    """

    def __init__(self, source: str | os.PathLike | bytes | onnx.ModelProto):
        super().__init__()
        proto = reader.read_model(source)
        graph = proto.graph
        initializers = {t.name for t in graph.initializer}
        self.input_names = [i.name for i in graph.input if i.name not in initializers]
        self.output_names = [o.name for o in graph.output]
        self.opset = reader.opset_of(proto)
        self._input_types = {i.name: i.type.tensor_type for i in graph.input}
        self._constants: dict[str, Tensor] = {}
        self._parameter_paths: dict[str, str] = {}        # value name -> path of a parameter that no layer holds
        self._steps: list[Step] = []
        _Importer(self, proto).build()
        self.graph_digest = hashlib.sha256(json.dumps(
            [[s.op, s.layer, s.inputs, s.outputs] for s in self._steps]).encode()).hexdigest()[:16]
        self.eval()

    def forward(self, *args: Tensor | np.ndarray, outputs: Sequence[str] | None = None, **named: Tensor | np.ndarray):
        values = self._bind(args, named)
        wanted = list(self.output_names if outputs is None else outputs)
        self._check_wanted(wanted, values)
        values |= self._constants
        values |= {name: self.get(path) for name, path in self._parameter_paths.items()}
        missing = set(wanted) - set(values)
        for step in self._steps:
            if outputs is not None and not missing:
                break                                     # everything asked for is there
            results = self._run(step, [values[name] if name else None for name in step.inputs])
            for name, value in zip(step.outputs, results, strict=False):
                if name:
                    values[name] = value
                    missing.discard(name)
            for name in step.release:
                if name not in wanted:
                    del values[name]
        found = tuple(values[name] for name in wanted)
        return found[0] if len(found) == 1 and outputs is None else found

    @property
    def steps(self) -> tuple[Step, ...]:
        """The nodes in the order in which they run."""
        return tuple(self._steps)

    def get(self, path: str) -> Any:
        """The module or parameter at a path such as "layer1.0.conv1"."""
        value: Any = self
        for name in path.split("."):
            value = value[int(name)] if isinstance(value, (list, tuple)) else \
                value[name] if isinstance(value, dict) else getattr(value, name)
        return value

    @property
    def value_names(self) -> list[str]:
        """Names of all values that `outputs=` can ask for, in order of computation."""
        return self.input_names + [name for step in self._steps for name in step.outputs if name]

    def _run(self, step: Step, inputs: list) -> tuple:
        try:
            if step.layer:
                module = self.get(step.layer)
                result = step.call(module, *inputs) if step.call else module(*inputs)
            else:
                result = convert.call(step.function, inputs, step.attrs, len(step.outputs), step.name)
        except NeedleError as error:
            error.add_note(f"in node {step.name!r} ({step.op}) of the ONNX graph")
            raise
        return result if isinstance(result, tuple) else (result,)

    def _bind(self, args: tuple, named: dict[str, Any]) -> dict[str, Tensor]:
        if len(args) > len(self.input_names):
            raise ArgumentError(f"the model takes {len(self.input_names)} inputs ({', '.join(self.input_names)}), "
                                f"got {len(args)}")
        given = dict(zip(self.input_names, args, strict=False))
        for name, value in named.items():
            if name not in self.input_names or name in given:
                raise ArgumentError(f"input {name!r} is {'given twice' if name in given else 'unknown'}; the model takes "
                                    f"{', '.join(self.input_names)}")
            given[name] = value
        absent = [name for name in self.input_names if name not in given]
        if absent:
            raise ArgumentError(f"the model needs the input {absent[0]!r}; it takes {', '.join(self.input_names)}")
        return {name: self._checked(name, value) for name, value in given.items()}

    def _checked(self, name: str, value) -> Tensor:
        x = value if isinstance(value, Tensor) else Tensor(value)
        kind = self._input_types[name]
        expected = reader.numpy_dtype(kind.elem_type)
        if x.dtype != expected and not (is_floating(x.dtype) and is_floating(expected)):
            raise DTypeError(f"input {name!r}: the model takes {expected}, got {x.dtype}; "
                             f"convert with .astype({str(expected)!r})")
        if kind.HasField("shape") and len(kind.shape.dim) != x.ndim:
            shape = ", ".join(str(d.dim_param or d.dim_value) for d in kind.shape.dim)
            raise ShapeError(f"input {name!r}: the model takes ({shape}), got {x.shape}")
        return x

    def _check_wanted(self, wanted: list[str], values: dict) -> None:
        known = {*self.value_names, *self._constants, *self._parameter_paths}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ArgumentError(f"the graph has no value named {unknown[0]!r}; `model.value_names` lists them")

    def extra_repr(self) -> str:
        names = f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"
        return f"{names}, opset {self.opset}, {len(self._steps)} nodes"


class _Importer:
    """Builds the steps and the tree of an OnnxModule, and is then forgotten."""

    def __init__(self, module: OnnxModule, proto: onnx.ModelProto):
        self.module, self.proto, self.graph = module, proto, proto.graph
        self.opset = reader.opset_of(proto)
        self.arrays = {t.name: reader.array_of(t) for t in self.graph.initializer}
        self.rank = _ranks(proto)
        self.parameters: dict[tuple[str, str], Parameter] = {}     # (initialiser, layout): shared where both are equal
        self.made: dict[str, str] = {}                  # description of a layer -> its path: a layer called twice
        self.taken: Counter[str] = Counter()

    def build(self) -> None:
        nodes = self._join_biases(reader.sorted_nodes(self.graph))
        self._refuse_unknown([node for node, *_ in nodes])
        layouts = self._layouts(nodes)
        for node, inputs, outputs in nodes:
            attrs = reader.attributes_of(node)
            if node.op_type == "Constant" and node.domain in convert.registry.DOMAINS:
                value = convert.call(convert.shape.Constant, [], attrs, 1, node.name)
                self.module._constants[outputs[0]] = value
                continue
            step = Step(node.op_type, node.name or outputs[0], inputs, outputs)
            layer = self._layer(node, attrs, inputs, outputs, layouts)
            if layer is None:
                step.function, step.attrs = convert.find(node.op_type, node.domain, self.opset), attrs
            else:
                step.layer, step.call = self._place(node, layer, inputs, attrs), layer.call
                step.inputs = [inputs[i] for i in layer.inputs]
            self.module._steps.append(step)
        self._place_rest()
        self._plan_releases()

    def _refuse_unknown(self, nodes: list[onnx.NodeProto]) -> None:
        """All unknown operators at once, each with its version and where it stands."""
        unknown: dict[str, list[str]] = {}
        for node in nodes:
            if not (convert.find(node.op_type, node.domain, self.opset) or layers.builder_of(node.op_type, node.domain)):
                label = f"{node.domain + '::' if node.domain else ''}{node.op_type}"
                unknown.setdefault(label, []).append(node.name or node.output[0])
        if unknown:
            rows = [f"  {label} (opset {self.opset}), {len(names)} nodes, first {names[0]!r}"
                    for label, names in sorted(unknown.items())]
            raise UnsupportedOnnxError("these operators are not supported:\n" + "\n".join(rows)
                                       + f"\nsupported are: {convert.supported()}")

    def _join_biases(self, nodes: list[onnx.NodeProto]) -> list[tuple[onnx.NodeProto, list[str], list[str]]]:
        """MatMul by a matrix and Add of a vector of its width, read by nobody else: one node with three inputs."""
        readers = Counter(name for node in nodes for name in node.input)
        readers.update(o.name for o in self.graph.output)
        products = {node.output[0]: node for node in nodes if node.op_type == "MatMul" and readers[node.output[0]] == 1
                    and self._weight(node.input[1], 2) is not None}
        joined, absorbed = [], set()
        for node in nodes:
            inputs, outputs = list(node.input), list(node.output)
            if node.op_type == "Add":
                for product, bias in (inputs, inputs[::-1]):
                    vector = self._weight(bias, 1)
                    if product in products and vector is not None \
                            and vector.shape[0] == self.arrays[products[product].input[1]].shape[1]:
                        node, inputs = products[product], [*products[product].input, bias]
                        absorbed.add(product)
                        break
            joined.append((node, inputs, outputs))
        return [(n, i, o) for n, i, o in joined if not (n.op_type == "MatMul" and o[0] in absorbed)]

    def _weight(self, name: str, ndim: int | None = None) -> np.ndarray | None:
        """The value of a float initialiser (with ndim axes) that is a weight, not a number in a formula."""
        array = None if name.startswith("constant_") else self.arrays.get(name)
        return array if array is not None and is_floating(array.dtype) and ndim in (None, array.ndim) else None

    def _view(self, node, attrs, inputs, outputs) -> layers.NodeView:
        weights = [self._weight(name) for name in inputs]
        return layers.NodeView(node.op_type, attrs, inputs, weights, self.rank.get(inputs[0]) if inputs else None,
                               len([o for o in outputs if o]))

    def _layouts(self, nodes) -> dict[str, set[str]]:
        """In which layouts each initialiser is wanted; a layer that turns a weight needs all its users to agree."""
        layouts: dict[str, set[str]] = {}
        for node, inputs, outputs in nodes:
            builder = layers.builder_of(node.op_type, node.domain)
            attrs = {} if node.op_type == "Constant" else reader.attributes_of(node)
            layer = builder(self._view(node, attrs, inputs, outputs)) if builder else None
            for i, name in enumerate(inputs):
                if name in self.arrays:
                    own = {fill.layout.split()[0] for fill in layer.fills.values() if fill.source == i} if layer else set()
                    layouts.setdefault(name, set()).update(own or {"same"})
        return layouts

    def _layer(self, node, attrs, inputs, outputs, layouts) -> layers.Layer | None:
        builder = layers.builder_of(node.op_type, node.domain)
        layer = builder(self._view(node, attrs, inputs, outputs)) if builder else None
        if layer is None:
            if convert.find(node.op_type, node.domain, self.opset) is None:
                raise UnsupportedOnnxError(f"{node.op_type} {node.name!r}: this form of the operator is not supported "
                                           f"(attributes {attrs}, weights given at run time or unusual activations)")
            return None
        agreed = all(fill.layout == "same" or len(layouts[inputs[fill.source]]) == 1 for fill in layer.fills.values())
        return layer if agreed or convert.find(node.op_type, node.domain, self.opset) is None else None

    def _place(self, node, layer: layers.Layer, inputs: list[str], attrs: dict) -> str:
        """Fill the layer from the initialisers and hang it into the tree; -> its path."""
        sources = [inputs[fill.source] for fill in layer.fills.values()]
        description = repr((node.op_type, sorted((k, str(v)) for k, v in attrs.items()), sources))
        if description in self.made:
            return self.made[description]
        for name, fill in layer.fills.items():
            source = inputs[fill.source]
            held = getattr(layer.module, name)
            if isinstance(held, Parameter):
                key = (source, fill.layout)
                if key not in self.parameters:
                    self.parameters[key] = Parameter(np.ascontiguousarray(fill.convert(self.arrays[source])).copy())
                setattr(layer.module, name, self.parameters[key])
            else:
                held.copy_(self.arrays[source])
        path = layers.path_for(node, [inputs[f.source] for f in layer.fills.values()], _scopes(node),
                               type(layer.module).__name__)
        path = self._unique(path)
        self._hang(path, layer.module)
        self.made[description] = path
        return path

    def _place_rest(self) -> None:
        """Initialisers that plain operators read: float weights become parameters, everything else constants."""
        used = {name for step in self.module._steps for name in step.inputs} | set(self.module.output_names)
        for name, array in self.arrays.items():
            if name not in used:
                continue
            if (name, "same") in self.parameters:          # a layer holds it: found again through the layer's path
                self.module._parameter_paths[name] = self._path_of(self.parameters[name, "same"])
            elif is_floating(array.dtype) and array.size > 1 and not _is_folded(name):
                path = self._unique(layers.clean(name.replace("/", ".")))
                self._hang(path, Parameter(array.copy()))
                self.module._parameter_paths[name] = path
            else:
                self.module._constants[name] = Tensor(array.copy())

    def _path_of(self, parameter: Parameter) -> str:
        return next(path for path, p in self.module.named_parameters() if p is parameter)

    def _unique(self, path: str) -> str:
        taken = self.taken[path]
        self.taken[path] += 1
        return path if not taken else self._unique(f"{path}_{taken}")

    def _hang(self, path: str, value: Module | Parameter) -> None:
        *scopes, last = path.split(".")
        holder: Module = self.module
        for name in scopes:
            if name not in vars(holder):
                setattr(holder, name, Scope())
            holder = getattr(holder, name)
        if isinstance(vars(holder).get(last), Module):      # a scope stands there already: the layer becomes its child
            holder, last = getattr(holder, last), type(value).__name__.lower()
        while last in vars(holder):                         # the layer's own attribute: what it means must not change
            last += "_"
        setattr(holder, last, value)

    def _plan_releases(self) -> None:
        kept = {*self.module.output_names, *self.module._constants, *self.module._parameter_paths, ""}
        last: dict[str, int] = {}
        for i, step in enumerate(self.module._steps):
            for name in (*step.outputs, *step.inputs):
                last[name] = i
        for name, i in last.items():
            if name not in kept:
                self.module._steps[i].release.append(name)


def _is_folded(name: str) -> bool:
    """Names under which exporters store what they computed themselves, not what the model's author called a weight."""
    return name.startswith(("val_", "onnx::", "const_fold", "constant_"))


def _scopes(node: onnx.NodeProto) -> list[str]:
    """The modules around a node, outermost first, as PyTorch's exporter recorded them."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return [name for name in ast.literal_eval(entry.value)[:-1] if name]
    return []


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    """How many axes each value has, as far as ONNX's shape inference knows."""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto)
    except (onnx.shape_inference.InferenceError, ValueError):       # too large, or operators it does not know
        inferred = proto
    graph = inferred.graph
    return {v.name: len(v.type.tensor_type.shape.dim) for v in (*graph.input, *graph.value_info, *graph.output)
            if v.type.tensor_type.HasField("shape")}
