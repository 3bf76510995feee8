"""After writing: nodes that together are one operator are joined, those that nobody reads go, the rest is numbered."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import numpy_helper

from .writer import Writer


def tidy(w: Writer, results: list[str]) -> None:
    """All joins.  results: names of the graph's outputs, each written by an Identity."""
    _drop_identities(w, results)
    _join_transposed_biases(w)
    _drop_inverse_factors(w)
    drop_unread(w, results)
    _number(w)
    _annotate(w)


def drop_unread(w: Writer, results: list[str]) -> None:
    """Nodes and initialisers that no result needs go."""
    needed, kept = set(results), []
    for node in reversed(w.nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    w.nodes = kept[::-1]
    w.initializers = {name: t for name, t in w.initializers.items() if name in needed}


def _number(w: Writer) -> None:
    """Nodes, their results and unnamed constants are numbered in the order of use: a model always gets the same names."""
    made = {name for node in w.nodes for name in node.output} - w.reserved
    read = dict.fromkeys(name for node in w.nodes for name in node.input if name in w.initializers)
    w.initializers = {name: w.initializers[name] for name in {**read, **w.initializers}}
    unnamed = [name for name in w.initializers if name not in w.origins]
    taken = w.reserved | (set(w.initializers) - set(unnamed))
    new: dict[str, str] = {}

    def enter(old: str, name: str) -> None:
        while name in taken:
            name += "_"
        taken.add(name)
        new[old] = name

    for i, name in enumerate(unnamed):
        enter(name, f"{w.prefix}constant_{i}")
    for i, node in enumerate(w.nodes):
        node.name = f"{w.prefix}{node.op_type}_{i}"
        for k, name in enumerate(node.output):
            if name in made:
                enter(name, f"{w.prefix}{node.op_type.lower()}_{i}" + (f"_{k}" if len(node.output) > 1 else ""))
    for node in w.nodes:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    w.initializers = {new.get(name, name): t for name, t in w.initializers.items()}
    for name, tensor in w.initializers.items():
        tensor.name = name
    w.updates = {x: new.get(name, name) for x, name in w.updates.items()}


def _annotate(w: Writer) -> None:
    """Where each node came from, as PyTorch's exporter notes it."""
    scopes = {id(node): scope for node, scope in w.made_in}
    for node in w.nodes:
        if scope := scopes[id(node)]:
            paths, classes = ([part[i] for part in scope] for i in (0, 1))
            label = f"needle_lab.{node.op_type}"
            around = "/".join(f"{path}: {of}" for path, of in scope)
            for key, value in (("namespace", f"{around}/{node.name}: {label}"),
                               ("pkg.torch.onnx.name_scopes", repr([*paths, node.name])),
                               ("pkg.torch.onnx.class_hierarchy", repr([*classes, label]))):
                node.metadata_props.add(key=key, value=value)


def _drop_identities(w: Writer, results: list[str]) -> None:
    """The last node writes the output's name itself, unless its value is read elsewhere too."""
    drop_unread(w, results)
    producers = {name: node for node in w.nodes for name in node.output}
    reads = Counter(name for node in w.nodes for name in node.input)
    for result in results:
        source = producers[result].input[0]
        if source in producers and reads[source] == 1:
            w.nodes.remove(producers[result])
            outputs = producers[source].output
            outputs[list(outputs).index(source)] = result


def _readers(w: Writer, value: str) -> list[onnx.NodeProto]:
    return [n for n in w.nodes if value in n.input]


def _drop_inverse_factors(w: Writer) -> None:
    """AveragePool, times the window's size (a sum), divided by it again (an average): only AveragePool is left."""
    for node in [n for n in w.nodes if n.op_type == "AveragePool"]:
        chain: list[onnx.NodeProto] = []
        value = node.output[0]
        while len(chain) < 2:
            readers = _readers(w, value)
            if len(readers) != 1 or readers[0].op_type != "Mul" or _factor(w, readers[0], value) is None:
                break
            chain.append(readers[0])
            value = readers[0].output[0]
        if len(chain) == 2:
            first, second = _factor(w, chain[0], node.output[0]), _factor(w, chain[1], chain[0].output[0])
            if first is not None and second is not None and abs(first * second - 1) < 1e-6:
                node.output[0] = value
                for n in chain:
                    w.nodes.remove(n)


def _factor(w: Writer, node: onnx.NodeProto, value: str) -> float | None:
    """The number by which a Mul multiplies `value`, if it is one."""
    other = w.initializers.get(next((name for name in node.input if name != value), ""))
    if other is None or list(other.dims) not in ([], [1]):
        return None
    return float(numpy_helper.to_array(other).reshape(-1)[0])


def _join_transposed_biases(w: Writer) -> None:
    """ConvTranspose, then plus a bias with axes behind, (C, 1, 1): ONNX's operator takes it itself."""
    producers = {name: node for node in w.nodes for name in node.output}
    for node in [n for n in w.nodes if n.op_type == "ConvTranspose"]:
        readers = _readers(w, node.output[0])
        if len(readers) != 1 or readers[0].op_type != "Add":
            continue
        reshape = producers.get(next((name for name in readers[0].input if name != node.output[0]), ""))
        if reshape is not None and reshape.op_type == "Unsqueeze" and reshape.input[0] in w.initializers:
            node.input.append(reshape.input[0])
            node.output[0] = readers[0].output[0]
            w.nodes.remove(readers[0])
