"""From a ModelProto to the steps and the tree of an OnnxModule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner

from ...core.dtypes import is_floating
from ...core.tensor import Tensor
from ...errors import UnsupportedOnnxError
from ...nn import Module, Parameter
from .. import operators
from ..operators import layers
from ..operators.training import Gradient
from ..values import numpy_dtype, value_of
from . import check, joins, naming, reader
from .ranks import ranks_of
from .steps import Graph, Step

if TYPE_CHECKING:
    from .model import OnnxModule

Key = tuple[int, str]                                  # identity of an initialiser, layout

class Scope(Module):
    """A branch of the tree: it holds what the model's names put under it, and computes nothing itself."""

    def __getitem__(self, name: int | str) -> Any:
        return getattr(self, str(name))


def is_supported(node: onnx.NodeProto, opsets: dict[str, int]) -> bool:
    """Whether a node has a function in the table for its opset, or could become a layer."""
    row = operators.row_of(node.op_type, node.domain)
    return row is not None and (row.layer is not None or operators.find(node.op_type, node.domain, opsets) is not None)


def all_graphs(graph: onnx.GraphProto) -> Iterable[onnx.GraphProto]:
    """The graph and those inside it (If, Loop, Scan)."""
    stack = [graph]
    while stack:
        yield (inner := stack.pop())
        stack.extend(a.g for node in inner.node for a in node.attribute if a.type == a.GRAPH)


def all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    """All nodes, those of inner graphs included."""
    return (node for inner in all_graphs(graph) for node in inner.node)


@check.refusing("the model's functions")
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
    """Builds one module.  Initialisers are known by identity: names repeat in the branches of an If."""

    def __init__(self, module: OnnxModule, proto: onnx.ModelProto):
        self.module, self.proto = module, proto
        self.opsets = reader.opsets_of(proto)
        self.rank = ranks_of(proto.graph)
        nodes = list(all_nodes(proto.graph))
        self.names = naming.Names(proto.graph, nodes)
        self.reads = Counter(name for node in nodes for name in node.input)      # how often each value is read
        self.reads.update(o.name for g in all_graphs(proto.graph) for o in g.output)
        self.kept: list[np.ndarray] = []                # all initialisers, so that an identity stays taken
        self.original: dict[int, tuple[str, np.ndarray]] = {}     # a transposed copy -> the weight that it copies
        self.parameters: dict[Key, tuple[Parameter, str]] = {}    # with the path; shared where the key is the same
        self.made: dict[str, str] = {}                  # description of a layer -> its path: a layer called twice
        self.stored: set[str] = set()                   # names of all weights that the author named
        self.initializers = {t.name for g in all_graphs(proto.graph) for t in g.initializer
                             if is_floating(numpy_dtype(t.data_type)) and math.prod(t.dims) > 1}
        self.all_in_nodes = not self.initializers       # a file may keep all its weights in Constant nodes
        self.taken: Counter[str] = Counter()            # paths in use

    def build(self) -> Graph:
        """Hang layers and parameters into the module, and note what became of the author's parameters."""
        self._refuse_unknown()
        graph = self._steps_of(self.proto.graph, {}, set())
        self.module._import_notes = self._notes()
        return graph

    def _steps_of(self, proto: onnx.GraphProto, outer: dict[str, np.ndarray], outer_names: set[str]) -> Graph:
        """outer: initialisers of the surrounding graphs; outer_names: all values they have."""
        arrays = {t.name: reader.array_of(t) for t in proto.initializer}
        arrays |= {t.values.name: reader.dense_array_of(t) for t in proto.sparse_initializer}
        outputs = [o.name for o in proto.output]
        graph = Graph([i.name for i in proto.input if i.name not in arrays], outputs)
        nodes = self._without_constants(reader.sorted_nodes(proto, outer_names), graph, arrays, outer)
        weights = {**outer, **arrays}
        self._remember(arrays, weights)
        numbers = weights | {name: v.numpy() for name, v in graph.constants.items() if isinstance(v, Tensor)}
        whole = joins.joined(nodes, weights, numbers, outputs)
        layouts = self._layouts(whole, weights)
        names = outer_names | set(weights) | set(graph.inputs) | set(graph.constants) \
            | {n for *_, results in whole for n in results}
        for node, inputs, results in whole:
            attrs, inner = reader.attributes_of(node)
            if node.op_type == "BatchNormalization" and not any(self.reads[r] for r in results[1:]):
                results = results[:1]                      # a training export's new statistics: the layer keeps them
            step = Step(node.op_type, node.name or next((o for o in results if o), ""), inputs, results,
                        scope=naming.modules_around(node) or ())
            step.graphs = {name: self._steps_of(g, weights, names) for name, g in inner.items()}
            if node.op_type == Gradient.__name__:              # it reads the result it differentiates by name
                step.inputs = [*inputs, attrs["y"]]
                graph.differentiated.update(attrs["xs"])
            layer = self._layer(node, attrs, inputs, results, weights, layouts)
            if layer is None:
                step.function, step.attrs = self._operator(node, inputs), attrs
                self._place_computed(node, inputs, weights)
            else:
                step.layer, step.call = self._place(node, layer, inputs, attrs, weights), layer.call
                step.inputs = [inputs[i] for i in layer.inputs]
            graph.steps.append(step)
        self._place_rest(graph, arrays)
        graph.plan_releases()
        return graph

    def _without_constants(self, nodes: list[onnx.NodeProto], graph: Graph, arrays: dict[str, np.ndarray],
                           outer: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
        """What is known before the model runs.

        Constant nodes become constants or, where they hold several floats, initialisers. Identity of an initialiser is
        that initialiser; a matrix turned for matrix products alone is a copy of it.
        """
        left = []
        factors = Counter(name for node in nodes if node.op_type == "MatMul" for name in node.input[1:])
        for node in nodes:
            own = node.domain in operators.table.DOMAINS
            source = node.input[0] if own and node.op_type in ("Identity", "Transpose") else ""
            array = arrays.get(source, outer.get(source))
            if own and node.op_type == "Constant":
                value = operators.call(operators.shape.Constant, [], reader.attributes_of(node)[0], 1, "Constant")
                if isinstance(value, Tensor) and is_floating(value.dtype) and value.numel() > 1:
                    arrays[node.output[0]] = value.numpy()
                else:
                    graph.constants[node.output[0]] = value
            elif array is None or node.output[0] in graph.outputs:
                left.append(node)
            elif node.op_type == "Identity":
                arrays[node.output[0]] = array
            elif array.ndim == 2 and is_floating(array.dtype) and _turns(node) \
                    and self.reads[node.output[0]] == factors[node.output[0]]:
                arrays[node.output[0]] = array.T
                self.original[id(arrays[node.output[0]])] = source, array
            else:
                left.append(node)
        return left

    def _remember(self, arrays: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> None:
        """Keep the initialisers, and find those that exporters stored a second time, transposed (tied weights)."""
        self.kept.extend(arrays.values())
        matrices = {n: a for n, a in weights.items() if a.ndim == 2 and is_floating(a.dtype)}
        named = {n: a for n, a in matrices.items() if not naming.is_computed(n) and id(a) not in self.original}
        self.stored.update(n for n in arrays if not naming.is_computed(n))
        for name, copy in matrices.items():
            if naming.is_computed(name) and id(copy) not in self.original:
                for other, array in named.items():
                    if array.shape == copy.shape[::-1] and np.array_equal(array, copy.T):
                        self.original[id(copy)] = other, array
                        break

    def _notes(self) -> list[str]:
        """What a user should know about the parameters: which are shared, and which the file no longer has."""
        notes = [f"{entry.first} is also {entry.path}: one Parameter, tied in the model or equal when it was exported"
                 for entry in self.module.walk() if isinstance(entry.value, Parameter) and entry.first != entry.path]
        missing = self.names.missing()
        if missing:
            notes.append(f"{len(missing)} of {len(self.names.parameters)} parameters of the PyTorch model are not in the "
                         "file by themselves (the exporter folded them into other weights or constants, or merged equal "
                         f"ones): {', '.join(missing)}")
        return notes

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
                + f"\n{len(operators.TABLE)} operators are: ndl.onnx.operators.supported() lists them. "
                "To add one, write a function of its name under @ndl.onnx.operators.since(version)")

    def _view(self, node, attrs, inputs, outputs, weights) -> layers.NodeView:
        return layers.NodeView(node.op_type, attrs, inputs, [joins.weight(weights, name) for name in inputs],
                               self.rank.get(inputs[0]) if inputs else None, len([o for o in outputs if o]),
                               self.opsets.get("", 1))

    def _built(self, node, attrs, inputs, outputs, weights) -> layers.Layer | None:
        row = operators.row_of(node.op_type, node.domain)
        if row is None or row.layer is None:
            return None
        with check.refusing(f"{node.op_type} {node.name!r}"):
            return row.layer(self._view(node, attrs, inputs, outputs, weights))

    def _layouts(self, nodes: list[joins.Joined], weights: dict) -> dict[int, set[frozenset[str]]]:
        """In which layouts each initialiser is wanted; a layer that turns a weight needs all its users to agree."""
        layouts: dict[int, set[frozenset[str]]] = {}
        for node, inputs, outputs in nodes:
            layer = self._built(node, reader.attributes_of(node)[0], inputs, outputs, weights)
            for i, name in enumerate(inputs):
                if name in weights:
                    own = [fill.layout for fill in layer.fills.values() if fill.source == i] if layer else []
                    layouts.setdefault(id(weights[name]), set()).add(frozenset(own or ["same"]))
        return layouts

    def _layer(self, node, attrs, inputs, outputs, weights, layouts) -> layers.Layer | None:
        layer = self._built(node, attrs, inputs, outputs, weights)
        if layer is None or self._operator(node, inputs) is None:
            return layer
        agreed = all(fill.layout == "same" or len(layouts[id(weights[inputs[fill.source]])]) == 1
                     for fill in layer.fills.values())
        return layer if agreed else None

    def _operator(self, node: onnx.NodeProto, inputs: list[str]):
        """The function of a node that is no layer."""
        if (node.op_type, len(inputs)) in joins.FUNCTIONS and len(inputs) > len(node.input):
            return joins.FUNCTIONS[node.op_type, len(inputs)]
        return operators.find(node.op_type, node.domain, self.opsets)

    def _key(self, array: np.ndarray, layout: str) -> Key:
        """What two layers must have in common to share a parameter."""
        if layout == "transposed" and id(array) in self.original:
            array, layout = self.original[id(array)][1], "same"
        return id(array), layout

    def _place(self, node, layer: layers.Layer, inputs: list[str], attrs: dict, weights: dict) -> str:
        """Fill the layer from the initialisers and hang it into the tree; -> its path."""
        sources = {name: inputs[fill.source] for name, fill in layer.fills.items()}
        keys = {name: self._key(weights[sources[name]], fill.layout) for name, fill in layer.fills.items()}
        scope = naming.scope_of(node)
        place = scope if scope[0] is not None and keys else sources or node.name
        description = repr((place, node.op_type, sorted((k, str(v)) for k, v in attrs.items()), keys))
        if description in self.made:
            return self.made[description]
        for name, fill in layer.fills.items():
            held, array = getattr(layer.module, name), weights[sources[name]]
            if not isinstance(held, Parameter):
                held.copy_(array)
            elif keys[name] in self.parameters:
                setattr(layer.module, name, self.parameters[keys[name]][0])
            else:
                setattr(layer.module, name, Parameter(np.ascontiguousarray(fill.convert(array)).copy()))
        written = list(sources.values())                     # a tied weight is known by the name of what it copies, too
        written += [self.original[id(weights[n])][0] for n in written if id(weights[n]) in self.original]
        path = self.names.layer_path(node, written, type(layer.module).__name__.lower(), self.stored)
        path = self.made[description] = self._hang(self._unique(path), layer.module)
        for name in layer.fills:
            if isinstance(value := getattr(layer.module, name), Parameter):
                self.parameters.setdefault(keys[name], (value, f"{path}.{name}"))
                self.names.claim(path, name)
        return path

    def _place_computed(self, node, inputs: list[str], weights: dict) -> None:
        """The weights of an operator that is no layer are parameters, even if the exporter turned or stacked them."""
        row = operators.row_of(node.op_type, node.domain)
        for i in row.weights if row else ():
            name = inputs[i] if i < len(inputs) else ""
            if name and naming.is_computed(name) and (array := joins.weight(weights, name)) is not None and array.ndim > 1:
                self._place_plain(array, self.names.layer_path(node, [name], node.op_type.lower(), self.stored))

    def _place_plain(self, array: np.ndarray, path: str) -> None:
        """A parameter that no layer holds."""
        if (id(array), "same") not in self.parameters:
            value = Parameter(array.copy())
            self.parameters[id(array), "same"] = value, self._hang(self._unique(path), value)

    def _place_rest(self, graph: Graph, arrays: dict[str, np.ndarray]) -> None:
        """Initialisers that plain operators read: float weights become parameters, everything else constants."""
        used = set(graph.outputs).union(*(step.reads() for step in graph.steps))
        for name, array in arrays.items():
            if name not in used:
                continue
            if is_floating(array.dtype) and array.size > 1 and self._is_weight(name, graph):
                self._place_plain(array, naming.clean(name.replace("/", ".")))
                self.names.claimed.add(name)
            if (id(array), "same") in self.parameters:       # perhaps a layer holds it: found through the layer's path
                graph.parameters[name] = self.parameters[id(array), "same"][1]
            else:
                graph.constants[name] = value_of(array)

    def _is_weight(self, name: str, graph: Graph) -> bool:
        """Whether the author called it a parameter: PyTorch's list says so, else the name and how it is read."""
        if self.names.listed:
            return name in self.names.parameters
        rows = [(step, operators.TABLE.get(step.op)) for step in graph.steps]
        numbers = {name for step, row in rows if row and row.numbers is not None for name in step.inputs[row.numbers:]}
        return not naming.is_computed(name) and name not in numbers and (name in self.initializers or self.all_in_nodes)

    def _unique(self, path: str) -> str:
        taken = self.taken[path]
        self.taken[path] += 1
        return path if not taken else self._unique(f"{path}_{taken}")

    def _hang(self, path: str, value: Module | Parameter) -> str:
        """-> the path where it hangs, which differs where the name has another meaning there."""
        *scopes, last = path.split(".")
        holder: Module = self.module
        at: list[str] = []
        for name in scopes:
            while not isinstance(vars(holder).get(name), Module) and hasattr(holder, name):
                name += "_"
            if name not in vars(holder):
                setattr(holder, name, Scope())
            holder, at = getattr(holder, name), [*at, name]
        if isinstance(vars(holder).get(last), Module):      # a scope stands there already: the layer becomes its child
            holder, at, last = getattr(holder, last), [*at, last], type(value).__name__.lower()
        while hasattr(holder, last):                        # the holder's own attribute or method keeps its meaning
            last += "_"
        setattr(holder, last, value)
        return ".".join([*at, last])


def _turns(node: onnx.NodeProto) -> bool:
    """Whether a Transpose of a matrix exchanges its axes."""
    return all(list(a.ints) == [1, 0] for a in node.attribute)
