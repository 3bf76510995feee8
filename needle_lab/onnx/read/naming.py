"""Where a layer belongs in the tree: the author's names, found again in what exporters leave in a file.

PyTorch's exporter writes the module around each node ("transformer.h.0.attn.c_attn") and, in the graph's signature, the
names of all parameters the model had; a weight it stored transposed as `val_7` gets its name back from these two. Its
older exporter left folders in the node's name ("/h.0/attn/c_attn/MatMul"), TensorFlow slashes in the weight's.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Container, Iterable

import onnx

from ...errors import ArgumentError
from ..operators.layers import is_computed
from ..operators.table import TABLE

RECURRENT = {name for name, row in TABLE.items() if row.page == "recurrent"}
LAYERS = {name for name, row in TABLE.items() if row.weights} - RECURRENT
_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"

# the last part of a weight's name that says what it is to its layer: weight, in_proj_weight, bn_scale, w_0, ...
_ROLE = re.compile(r"(?:(.+?)_)??(?:weights?|bias|kernel|scale|offset|gamma|beta|mean|variance|running_mean|running_var"
                   r"|[wb](?:_\d+)?)|(?:weight|bias)_(.+)")


def clean(path: str) -> str:
    """Only letters, digits and underscores between the dots."""
    parts = [re.sub(r"\W", "_", part) for part in path.split(".")]
    return ".".join(part for part in parts if part) or "layer"


def stem(name: str) -> str | None:
    """The layer in a weight's name: "fc.weight" -> fc, "attn.in_proj_bias" -> attn.in_proj; None if it names no role."""
    parent, _, last = name.rpartition(".")
    found = _ROLE.fullmatch(last)
    return None if found is None else ".".join(p for p in (parent, found[1] or found[2]) if p)


class Names:
    """What one file says about names.  parameters: those of the PyTorch model, [] where the file does not list them.

    claimed: parameters of that list which a layer of the import holds.
    """

    def __init__(self, graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]):
        text = next((p.value for p in graph.metadata_props if p.key == _SIGNATURE), "")
        self.parameters: list[str] = re.findall(r"^\w+: PARAMETER target='([^']+)'", text, re.M)
        self.listed = bool(text)
        self.claimed: set[str] = set()
        self._known = set(self.parameters)
        self._stacks: dict[str, list[str]] = {}          # a recurrent module -> the weights of its layers, in order
        self._crowded: Counter[str] = Counter()          # folder -> its nodes that could be layers
        for node in nodes:
            if node.op_type in LAYERS:
                self._crowded[_folders(node)] += 1
            if node.op_type in RECURRENT:
                layers = self._stacks.setdefault(self._recurrent(node), [])
                layers.extend(name for name in node.input[1:2] if name not in layers)

    def layer_path(self, node: onnx.NodeProto, sources: list[str], kind: str, stored: Container[str]) -> str:
        """sources: the names of the layer's weights; kind: its class; stored: all weights that have their name."""
        if node.op_type in RECURRENT:
            base = self._recurrent(node)
            layers = self._stacks[base]
            return base if len(layers) == 1 else f"{base}.l{layers.index(node.input[1])}"
        scope, of = scope_of(node)
        if scope and of.rpartition(".")[2].lower() == kind:                 # the node was made in a layer of its class
            return clean(scope)
        folded = "BatchNorm" in of and not kind.startswith("batchnorm")      # into a convolution, which got its scope
        if scope is not None and self.listed and not folded:
            own = self._listed_name(scope, sources) or self._next_weight(scope, of.startswith("torch.nn."), stored)
            return clean((stem(own) if own else scope and f"{scope}.{kind}") or kind)
        folders = _folders(node)
        if scope is None and self._crowded[folders] < 2:                        # the folder of this layer alone
            return _from_weights(sources) or clean(folders or kind)
        return _from_weights(sources) or clean(f"{scope or folders}.{kind}")

    def claim(self, path: str, attribute: str) -> None:
        """The layer at `path` holds a parameter: whichever way its author spelled it is found."""
        parent, _, last = path.rpartition(".")
        spellings = [f"{path}.{attribute}", f"{parent}.{last}_{attribute}", f"{parent}.{attribute}_{last}"]
        if re.fullmatch(r"l\d+", last):                 # rnn.l1.weight_ih_l0 is rnn.weight_ih_l1
            spellings.append(f"{parent}.{attribute.replace('_l0', '_' + last)}")
        self.claimed.update(self._known.intersection(s.removeprefix(".") for s in (*spellings, path, attribute)))

    def missing(self) -> list[str]:
        """Parameters of the PyTorch model that no parameter of the import stands for."""
        return [name for name in self.parameters if name not in self.claimed]

    def _listed_name(self, scope: str, sources: list[str]) -> str | None:
        """A weight's name inside this scope; the exporter may have merged it with an equal one of another layer."""
        for source in sources:
            parts = source.split(".")
            for i in range(len(parts)):
                name = ".".join(p for p in (scope, *parts[i:]) if p)
                if name in self._known:
                    return name
        return None

    def _next_weight(self, scope: str, builtin: bool, stored: Container[str]) -> str | None:
        """The weight of this scope whose turn it is: the only one, or by order where PyTorch's own code uses them."""
        left = [name for name in self.parameters if name.rpartition(".")[0] == scope and "weight" in name
                and name not in stored and name not in self.claimed]
        return left[0] if left and (builtin or len(left) == 1) else None

    @staticmethod
    def _recurrent(node: onnx.NodeProto) -> str:
        scope, _ = scope_of(node)
        return clean(scope or _from_weights(list(node.input[1:4])) or _folders(node) or node.op_type.lower())


def scope_of(node: onnx.NodeProto) -> tuple[str | None, str]:
    """The module around a node as PyTorch's exporter recorded it ("" is the model), and its class."""
    around = modules_around(node)
    return (None, "") if around is None else around[-1] if around else ("", "")


def modules_around(node: onnx.NodeProto) -> tuple[tuple[str, str], ...] | None:
    """(path, class) of every module around a node, the outermost first; None where the file does not say."""
    found = {p.key: p.value for p in node.metadata_props if p.key in (_SCOPES, _CLASSES)}
    if _SCOPES not in found:
        return None
    modules = _strings(found[_SCOPES])[:-1]
    classes = [*_strings(found.get(_CLASSES, "[]"))[:len(modules)], *[""] * len(modules)]
    return tuple(zip(modules, classes, strict=False))


def _strings(text: str) -> list[str]:
    """A list of strings as Python writes it; ArgumentError for anything else."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ArgumentError(f"metadata of a node: a list of strings is expected, got {text[:80]!r}") from error
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ArgumentError(f"metadata of a node: a list of strings is expected, got {text[:80]!r}")
    return value


def _from_weights(sources: list[str]) -> str | None:
    """From the weights' own names: fc.weight, conv1_weights, sequential/dense_2/MatMul/ReadVariableOp:0."""
    for name in sources:
        layer = None if is_computed(name) or "/" in name else stem(name)
        if layer:
            return clean(layer)
    for name in sources:
        if name.count("/") >= 2:
            return clean(".".join(p for p in name.split("/")[:-2] if p))
    return None


def _folders(node: onnx.NodeProto) -> str:
    """"/layer1/layer1.0/conv1/Conv" -> layer1.0.conv1: a folder may repeat the one around it."""
    path: list[str] = []
    for folder in [p for p in node.name.split("/") if p][:-1]:
        if path and folder.startswith(path[-1] + "."):
            path.pop()
        path.append(folder)
    return ".".join(path)
