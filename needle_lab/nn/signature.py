"""The signature of a module: its architecture as plain JSON, without its values.

    {"class": "Conv2d", "config": {"stride": [1, 1]},
     "parameters": {"weight": {"shape": [16, 3, 7, 7], "dtype": "float32"}},
     "buffers": {}, "children": {}}

Two modules with equal signatures can exchange their weights and compute the same function with them.
A shared parameter stands at its first path and lists the others under "aliases"; a shared module stands again at its
later paths, empty, with "alias_of".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError
from .parameter import Buffer, is_saved

if TYPE_CHECKING:
    from .module import Module

NO_CONFIGURATION = ("training", "device")      # a mode, and a place: neither changes what is computed
LONGEST = 64       # a list of more values than this is data (a vocabulary), not configuration


def signature(module: Module, signature_names: bool = False) -> dict[str, Any]:
    """`Module.signature`."""
    names = counter_names(module) if signature_names else {}
    nodes: dict[str, dict[str, Any]] = {}              # where what is held at a path is entered
    tensors: dict[str, dict[str, Any]] = {}
    shared: dict[str, str] = {}
    for path, value, first in module.walk():
        parent, _, name = path.rpartition(".")
        name = names.get(path, name).rpartition(".")[2]
        if path != first:
            shared[path] = first
        if isinstance(value, Tensor):
            if path == first and is_saved(value):
                tensors[path] = {"shape": list(value.shape), "dtype": value.dtype.name}
                nodes[parent]["buffers" if isinstance(value, Buffer) else "parameters"][name] = tensors[path]
        elif signature_names and not is_module(value):
            nodes[path] = nodes[parent]                # plain lists, tuples and dicts had no names of their own
        else:
            nodes[path] = _node(value, first if path != first else None)
            if path:
                nodes[parent]["children"][name] = nodes[path]
    for alias, first in shared.items():
        for path, entry in tensors.items():
            if path == first or path.startswith(first + "."):
                entry.setdefault("aliases", []).append(alias + path[len(first):])
    return nodes[""]


def is_module(value: Any) -> bool:
    """Whether a stop of the walk is a module, not a list, tuple or dict of some."""
    return hasattr(value, "walk")


def configuration(module: Module) -> dict[str, Any]:
    """Public attributes with plain values (numbers, texts, None, and short lists of those), as JSON values."""
    public = {name: value for name, value in vars(module).items() if name[0] != "_" and name not in NO_CONFIGURATION}
    return {name: _as_json(value) for name, value in public.items() if _is_plain(value)}


def counter_names(module: Module) -> dict[str, str]:
    """Attribute path -> the original Needle's: "blocks.0.bn.weight" -> "ConvBN-1.BatchNorm2d-1.weight".

    A module is called by its class and a counter among its siblings of that class; what stands in a plain list, tuple
    or dict counts as held by the module around it.
    """
    names, counts, containers = {"": ""}, Counter[tuple[str, str]](), set()
    for path, value, _ in module.walk():
        parent, _, name = path.rpartition(".")
        if not path:
            continue
        if not is_module(value) and not isinstance(value, Tensor):
            containers.add(path)
            names[path] = names[parent]
            continue
        if is_module(value) or parent in containers:
            kind = type(value).__name__
            counts[names[parent], kind] += 1
            name = f"{kind}-{counts[names[parent], kind]}"
        names[path] = f"{names[parent]}.{name}" if names[parent] else name
    return names


class Item(NamedTuple):
    """A node of a signature (a module or a container) or one of its tensors."""

    path: str
    kind: str                  # "module", "Parameter" or "Buffer"
    spec: dict[str, Any]       # the node, or {"shape": ..., "dtype": ...}


def items(node: dict[str, Any]) -> Iterator[Item]:
    """All nodes and tensors of a signature, parents first, each node's tensors before its children."""
    stack = [("", node)]
    while stack:
        path, node = stack.pop()
        prefix = path + "." if path else ""
        yield Item(path, "module", node)
        for kind, group in (("Parameter", "parameters"), ("Buffer", "buffers")):
            yield from (Item(prefix + name, kind, spec) for name, spec in node[group].items())
        stack.extend((prefix + name, child) for name, child in reversed(node["children"].items()))


def tensor_entries(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """path -> {"shape", "dtype"} of every parameter and buffer of a signature."""
    return {item.path: item.spec for item in items(node) if item.kind != "module"}


def canonical(value: Any) -> str:
    """One text for equal JSON values (NaN equals NaN, the order of names does not count)."""
    return json.dumps(value, sort_keys=True)


def check_signature(node: Any, where: str) -> Any:
    """Raise ArgumentError unless `node` has the form of a signature; a file or a caller may hand in anything."""
    stack = [("", node)]
    while stack:
        path, node_ = stack.pop()
        at = f"{where}: signature{' at ' + path if path else ''}"
        if not isinstance(node_, dict) or not isinstance(node_.get("class"), str):
            raise ArgumentError(f'{at}: a dict with "class" is needed')
        for group in ("config", "parameters", "buffers", "children"):
            if not isinstance(node_.get(group), dict):
                raise ArgumentError(f'{at}: a dict "{group}" is needed')
        for group in ("parameters", "buffers"):
            for name, spec in node_[group].items():
                if not (isinstance(spec, dict) and isinstance(spec.get("dtype"), str)
                        and isinstance(spec.get("shape"), list)
                        and all(type(n) is int and n >= 0 for n in spec["shape"])):
                    raise ArgumentError(f'{at}: {name} needs "shape" (whole numbers) and "dtype"')
        stack.extend((f"{path}.{name}" if path else name, child) for name, child in node_["children"].items())
    return node


def _node(value: Any, alias_of: str | None) -> dict[str, Any]:
    node = {"class": type(value).__name__, "config": configuration(value) if is_module(value) else {},
            "parameters": {}, "buffers": {}, "children": {}}
    return node if alias_of is None else {**node, "alias_of": alias_of}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= LONGEST and all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str, np.bool_, np.integer, np.floating))


def _as_json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    for kind in (bool, int, float, str):               # an IntEnum becomes its number
        if isinstance(value, kind):
            return kind(value)
    return None
