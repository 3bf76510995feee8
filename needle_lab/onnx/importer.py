"""From a ModelProto to the steps and the tree of an OnnxModule."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner

from ..dtypes import is_floating
from ..errors import UnsupportedOnnxError
from ..nn import Module, Parameter
from . import convert, layers, reader
from .program import Program, Step

if TYPE_CHECKING:
    from .model import OnnxModule

Joined = tuple[onnx.NodeProto, list[str], list[str]]          # a node with the inputs and outputs of what joined it


class Scope(Module):
    """A branch of the tree: it holds what the model's names put under it, and computes nothing itself."""

    def __getitem__(self, name: int | str) -> Any:
        return getattr(self, str(name))


def is_supported(node: onnx.NodeProto, opsets: dict[str, int]) -> bool:
    """Whether a node has a function in the table, or could become a layer."""
    return bool(convert.find(node.op_type, node.domain, opsets) or layers.builder_of(node.op_type, node.domain))


def all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    """All nodes, those of inner graphs (If, Loop, Scan) included."""
    stack = [graph]
    while stack:
        for node in stack.pop().node:
            yield node
            stack.extend(a.g for a in node.attribute if a.type == a.GRAPH)


def with_functions_inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model's own functions, and operators that ONNX itself defines by others, replaced by their bodies."""
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto, convert_version=False)
    opsets = reader.opsets_of(proto)
    defined = {(node.domain, node.op_type) for node in all_nodes(proto.graph) if not is_supported(node, opsets)
               and onnx.defs.has(node.op_type, node.domain)}
    defined = {key for key in defined if _has_body(*key, opsets)}
    if defined:
        proto = onnx.inliner.inline_selected_functions(proto, sorted(defined), inline_schema_functions=True)
        if any((node.domain, node.op_type) not in defined and not is_supported(node, opsets)
               and _has_body(node.domain, node.op_type, opsets) for node in all_nodes(proto.graph)):
            return with_functions_inlined(proto)               # a body used another such operator
    return proto


def _has_body(domain: str, op_type: str, opsets: dict[str, int]) -> bool:
    if not onnx.defs.has(op_type, domain):
        return False
    try:
        schema: Any = onnx.defs.get_schema(op_type, opsets.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return False
    return schema.has_function or schema.has_context_dependent_function


class Importer:
    """Builds one module; `parameters` and `made` remember what is shared, `taken` which paths are in use."""

    def __init__(self, module: OnnxModule, proto: onnx.ModelProto):
        self.module, self.proto = module, proto
        self.opsets = reader.opsets_of(proto)
        self.rank = _ranks(proto)
        self.parameters: dict[tuple[str, str], Parameter] = {}     # (initialiser, layout): shared where both are equal
        self.made: dict[str, str] = {}                  # description of a layer -> its path: a layer called twice
        self.taken: Counter[str] = Counter()

    def build(self) -> Program:
        self._refuse_unknown()
        return self._program(self.proto.graph, {}, set())

    def _program(self, graph: onnx.GraphProto, outer: dict[str, np.ndarray], outer_names: set[str]) -> Program:
        """outer: initialisers of the surrounding graphs; outer_names: all values they have."""
        arrays = {t.name: reader.array_of(t) for t in graph.initializer}
        arrays |= {t.values.name: reader.dense_array_of(t) for t in graph.sparse_initializer}
        weights = {**outer, **arrays}
        program = Program([i.name for i in graph.input if i.name not in arrays], [o.name for o in graph.output])
        nodes = self._join_biases(reader.sorted_nodes(graph, outer_names), weights, [o.name for o in graph.output])
        layouts = self._layouts(nodes, weights)
        names = outer_names | set(weights) | set(program.inputs) | {n for *_, outputs in nodes for n in outputs}
        for node, inputs, outputs in nodes:
            attrs, inner = reader.attributes_of(node)
            if node.op_type == "Constant" and node.domain in convert.registry.DOMAINS:
                program.constants[outputs[0]] = convert.call(convert.shape.Constant, [], attrs, 1, "Constant")
                continue
            step = Step(node.op_type, node.name or next((o for o in outputs if o), ""), inputs, outputs)
            step.graphs = {name: self._program(g, weights, names) for name, g in inner.items()}
            if node.op_type == "Gradient":                 # it reads the result it differentiates by name
                step.inputs = [*inputs, attrs["y"]]
                program.differentiated.update(attrs["xs"])
            layer = self._layer(node, attrs, inputs, outputs, weights, layouts)
            if layer is None:
                step.function, step.attrs = convert.find(node.op_type, node.domain, self.opsets), attrs
            else:
                step.layer, step.call = self._place(node, layer, inputs, attrs, weights), layer.call
                step.inputs = [inputs[i] for i in layer.inputs]
            program.steps.append(step)
        self._place_rest(program, arrays)
        program.plan_releases()
        return program

    def _refuse_unknown(self) -> None:
        """All unknown operators at once, each with its version and where it stands."""
        unknown: dict[str, list[str]] = {}
        for node in all_nodes(self.proto.graph):
            if not is_supported(node, self.opsets):
                domain = f"{node.domain}::" if node.domain else ""
                label = f"{domain}{node.op_type} (opset {self.opsets.get(node.domain, '?')})"
                unknown.setdefault(label, []).append(node.name or next(iter(node.output), ""))
        if unknown:
            rows = [f"  {label}, {len(names)} nodes, first {names[0]!r}" for label, names in sorted(unknown.items())]
            raise UnsupportedOnnxError(
                "these operators are not supported:\n" + "\n".join(rows)
                + f"\n{len(convert.TABLE)} operators are: ndl.onnx.convert.supported() lists them. "
                "To add one, write a function of its name under @ndl.onnx.convert.since(version)")

    def _join_biases(self, nodes: list[onnx.NodeProto], weights: dict, outputs: list[str]) -> list[Joined]:
        """MatMul by a matrix and Add of a vector of its width, read by nobody else: one node with three inputs."""
        readers = Counter(name for node in nodes for name in node.input)
        readers.update(outputs)
        products = {node.output[0]: node for node in nodes if node.op_type == "MatMul" and readers[node.output[0]] == 1
                    and _weight(weights, node.input[1], 2) is not None}
        joined, absorbed = [], set()
        for node in nodes:
            inputs, results = list(node.input), list(node.output)
            if node.op_type == "Add" and len(inputs) == 2:
                for product, bias in (inputs, inputs[::-1]):
                    vector = _weight(weights, bias, 1)
                    if product in products and vector is not None \
                            and vector.shape[0] == weights[products[product].input[1]].shape[1]:
                        node, inputs = products[product], [*products[product].input, bias]
                        absorbed.add(product)
                        break
            joined.append((node, inputs, results))
        return [(n, i, o) for n, i, o in joined if not (n.op_type == "MatMul" and o[0] in absorbed)]

    def _view(self, node, attrs, inputs, outputs, weights) -> layers.NodeView:
        return layers.NodeView(node.op_type, attrs, inputs, [_weight(weights, name) for name in inputs],
                               self.rank.get(inputs[0]) if inputs else None, len([o for o in outputs if o]))

    def _built(self, node, attrs, inputs, outputs, weights) -> layers.Layer | None:
        builder = layers.builder_of(node.op_type, node.domain)
        return builder(self._view(node, attrs, inputs, outputs, weights)) if builder else None

    def _layouts(self, nodes: list[Joined], weights: dict) -> dict[str, set[frozenset[str]]]:
        """In which layouts each initialiser is wanted; a layer that turns a weight needs all its users to agree."""
        layouts: dict[str, set[frozenset[str]]] = {}
        for node, inputs, outputs in nodes:
            layer = self._built(node, reader.attributes_of(node)[0], inputs, outputs, weights)
            for i, name in enumerate(inputs):
                if name in weights:
                    own = [fill.layout for fill in layer.fills.values() if fill.source == i] if layer else []
                    layouts.setdefault(name, set()).add(frozenset(own or ["same"]))
        return layouts

    def _layer(self, node, attrs, inputs, outputs, weights, layouts) -> layers.Layer | None:
        layer = self._built(node, attrs, inputs, outputs, weights)
        operator = convert.find(node.op_type, node.domain, self.opsets)
        if layer is None and operator is None:
            raise UnsupportedOnnxError(f"{node.op_type} {node.name!r}: this form of the operator is not supported "
                                       f"(attributes {attrs})")
        if layer is None or operator is None:
            return layer
        agreed = all(fill.layout == "same" or len(layouts[inputs[fill.source]]) == 1 for fill in layer.fills.values())
        return layer if agreed else None

    def _place(self, node, layer: layers.Layer, inputs: list[str], attrs: dict, weights: dict) -> str:
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
                    self.parameters[key] = Parameter(np.ascontiguousarray(fill.convert(weights[source])).copy())
                setattr(layer.module, name, self.parameters[key])
            else:
                held.copy_(weights[source])
        path = self._unique(layers.path_for(node, sources, _scopes(node), type(layer.module).__name__))
        self._hang(path, layer.module)
        self.made[description] = path
        return path

    def _place_rest(self, program: Program, arrays: dict[str, np.ndarray]) -> None:
        """Initialisers that plain operators read: float weights become parameters, everything else constants."""
        used = set(program.outputs).union(*(step.reads() for step in program.steps))
        for name, array in arrays.items():
            if name not in used:
                continue
            if (name, "same") in self.parameters:          # a layer holds it: found again through the layer's path
                program.parameters[name] = self._path_of(self.parameters[name, "same"])
            elif is_floating(array.dtype) and array.size > 1 and not _is_folded(name):
                path = self._unique(layers.clean(name.replace("/", ".")))
                self._hang(path, Parameter(array.copy()))
                program.parameters[name] = path
            else:
                program.constants[name] = reader.value_of(array)

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


def _weight(weights: dict[str, np.ndarray], name: str, ndim: int | None = None) -> np.ndarray | None:
    """The value of a float initialiser (with ndim axes) that is a weight, not a number in a formula."""
    array = None if name.startswith("constant_") else weights.get(name)
    return array if array is not None and is_floating(array.dtype) and ndim in (None, array.ndim) else None


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
