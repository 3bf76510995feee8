"""Saving and loading: weights with the signature of their architecture, and checkpoints with everything to resume.

One safetensors file. Its metadata hold, as JSON: format version, kind ("weights" or "checkpoint"), versions, device,
signature, and for a checkpoint the nested structure of what is not the model. Loading refuses another architecture and,
unless `map_device` says otherwise, another device. It checks everything before it changes anything, and nothing in a
file is ever executed.
"""

from __future__ import annotations

import copy
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._version import __version__
from ..core.device import Device
from ..core.tensor import Tensor
from ..errors import ArgumentError, DeviceError, FileFormatError, SignatureMismatch
from ..nn.module import Module
from ..nn.signature import canonical, tensor_entries
from ..nn.state import LoadReport, match, write
from ..random import Generator, default_generator
from . import tensorfile
from .diff import DiffRow, compare_entries, signature_diff
from .metadata import FORMAT, KEY, about_of
from .pack import pack, unpack
from .tensorfile import TensorFile

MODEL = "model/"                   # prefix of the model's arrays in a checkpoint
SHOWN = 5                          # differing entries that an error lists

MapDevice = Device | str | Mapping[str, str | Device] | None


def save_state_dict(module: Module, path: str | os.PathLike[str]) -> None:
    """Save parameters and buffers, with signature, versions and device, in one file.

    The file is replaced as a whole: interrupted at any moment, `path` holds the old content or the new.
    Raises ArgumentError (a dtype that cannot be saved) or StorageError (full disk, no permission, no such folder).

    >>> model, other = ndl.nn.Linear(3, 2), ndl.nn.Linear(3, 2)
    >>> ndl.save_state_dict(model, "linear.safetensors")
    >>> _ = ndl.load_state_dict(other, "linear.safetensors")
    >>> ndl.allclose(model.weight, other.weight)
    True
    """
    _check_module(module, "save_state_dict")
    arrays, about = _describe_model(module)
    tensorfile.write(path, arrays, {KEY: json.dumps({**_versions("weights"), **about})})


def load_state_dict(module: Module, path: str | os.PathLike[str], map_device: MapDevice = None,
                    strict: bool = True) -> LoadReport:
    """Load what `save_state_dict` (or `save_checkpoint`) saved into a model of the same signature.

    map_device: accept weights that were saved on another device; the device the model is on, or a dict
    {saved device: model's device}. strict=False: load the entries whose path, shape and dtype fit, also from
    safetensors files of other programs; the report says which were loaded.
    All or nothing: on any error the model is unchanged. Raises SignatureMismatch, DeviceError, FileFormatError,
    MissingFileError or StorageError.
    """
    _check_module(module, "load_state_dict")
    file = tensorfile.read(path)
    about = about_of(file.path, file.metadata)
    if about is None and strict:
        raise FileFormatError(f"{file.path} was not written by needle_lab: it has no signature to check. To load the "
                              "entries that fit: ndl.load_state_dict(model, path, strict=False); to look at it: "
                              "ndl.load_tensors(path)")
    values, report = _match_model(module, file, about, map_device, strict)
    write(values)
    return report


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of any safetensors file, by name, on the CPU.  Raises as `load_state_dict`."""
    return {name: Tensor(array.copy()) for name, array in tensorfile.read(path).arrays.items()}


# --- checkpoints --------------------------------------------------------------------------------------------------

@dataclass
class Checkpoint:
    """What `load_checkpoint` found besides the model: `checkpoint["epoch"]` is an extra saved as epoch=..."""

    history: Any
    aux: dict[str, Any]
    restored: tuple[str, ...]          # which of "model", "optimizer", "schedule", "loader", "rng" were put back
    versions: dict[str, str]

    def __getitem__(self, name: str) -> Any:
        if name not in self.aux:
            raise KeyError(f"{name!r}; this checkpoint has {', '.join(map(repr, self.aux)) or 'no extras'}")
        return self.aux[name]


def save_checkpoint(path: str | os.PathLike[str], *, model: Module | None = None, optimizer: Any = None,
                    schedule: Any = None, loader: Any = None, history: Any = None,
                    rng: Generator | Mapping[str, Generator] | None = None, **aux: Any) -> None:
    """Save everything needed to resume: continuing after `load_checkpoint` gives the same bits as never stopping.

    optimizer, schedule, loader: anything with state_dict() and load_state_dict(). history: a History, or like aux: plain
    values, arrays and tensors, nested. rng: further generators; the default generator is always saved. Atomic as
    `save_state_dict`; same errors.

    >>> model = ndl.nn.Linear(3, 2)
    >>> ndl.save_checkpoint("run.safetensors", model=model, epoch=7)
    >>> ndl.load_checkpoint("run.safetensors", model=model)["epoch"]
    7
    """
    arrays: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {"device": None, "signature": None}
    if model is not None:
        _check_module(model, "save_checkpoint")
        weights, about = _describe_model(model)
        arrays.update({MODEL + name: array for name, array in weights.items()})
    parts = {"optimizer": optimizer, "schedule": schedule, "loader": loader}
    history = history.to_dict() if hasattr(history, "to_dict") else history
    tree = {**{name: part if part is None else _state_of(name, part) for name, part in parts.items()}, "history": history,
            "rng": {name: g.get_state() for name, g in _generators(rng).items()}, "aux": aux}
    packed = {part: pack(value, part, arrays) for part, value in tree.items()}
    tensorfile.write(path, arrays, {KEY: json.dumps({**_versions("checkpoint"), **about, "tree": packed})})


def load_checkpoint(path: str | os.PathLike[str], *, model: Module | None = None, optimizer: Any = None,
                    schedule: Any = None, loader: Any = None, rng: Generator | Mapping[str, Generator] | None = None,
                    map_device: MapDevice = None) -> Checkpoint:
    """Restore model, optimizer, schedule, loader and random generators from `save_checkpoint`; -> history and extras.

    Give the same kind of each as was saved; leave out what is not to be restored (the
    default generator always is). All or nothing, with the errors of `load_state_dict`.
    """
    file = tensorfile.read(path)
    about = about_of(file.path, file.metadata)
    if about is None or about["kind"] != "checkpoint":
        raise FileFormatError(f"{file.path} is no checkpoint but "
                              + ("a safetensors file of another program: ndl.load_tensors(path)" if about is None
                                 else "saved weights: ndl.load_state_dict(model, path)"))
    mapping = _mapping(map_device)
    tree = {part: unpack(value, file.arrays, lambda device: mapping.get(device, mapping.get("*", device)))
            for part, value in about["tree"].items()}
    values: list[Any] = []
    if model is not None:
        _check_module(model, "load_checkpoint")
        values, _ = _match_model(model, file, about, map_device, strict=True)
    parts = {name: part for name, part in (("optimizer", optimizer), ("schedule", schedule), ("loader", loader))
             if part is not None}
    if absent := [name for name in parts if tree.get(name) is None]:
        a = "an" if absent[0] == "optimizer" else "a"
        raise ArgumentError(f"{file.path} was saved without {a} {absent[0]}; leave out {absent[0]}=")
    generators = _generators(rng)
    absent = [name for name in generators if name not in tree["rng"]]
    if absent:
        raise ArgumentError(f"{file.path} was saved without the generator {absent[0]!r}; it has "
                            f"{', '.join(map(repr, tree['rng']))}")

    def restore_the_rest() -> None:
        before = {name: copy.deepcopy(_state_of(name, part)) for name, part in parts.items()}
        streams = [(g, g.get_state()) for g in generators.values()]
        try:
            for name, part in parts.items():
                part.load_state_dict(tree[name])
            for name, g in generators.items():
                g.set_state(tree["rng"][name])
        except BaseException:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            for g, stood in streams:
                g.set_state(stood)
            raise

    write(values, then=restore_the_rest)
    restored = (*(["model"] if model is not None else []), *parts, "rng")
    return Checkpoint(tree["history"], tree["aux"], restored, about["versions"])


def _state_of(name: str, part: Any) -> Any:
    if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
        raise ArgumentError(f"save_checkpoint: {name}= is an object with state_dict() and load_state_dict(), got "
                            f"{type(part).__name__}; a plain value goes under another name")
    return part.state_dict()


# --- what is in the metadata --------------------------------------------------------------------------------------

def _versions(kind: str) -> dict[str, Any]:
    return {"format": FORMAT, "kind": kind,
            "versions": {"needle_lab": __version__, "numpy": np.__version__, "python": platform.python_version()}}


def _describe_model(module: Module) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    state = module.state_dict()
    devices = {path: str(value.device) for path, value in state.items()}
    one = next(iter(devices.values()), "cpu")
    device = one if all(name == one for name in devices.values()) else devices
    return {path: value.numpy() for path, value in state.items()}, {"device": device, "signature": module.signature()}


# --- matching a file with a model ---------------------------------------------------------------------------------

def _match_model(module: Module, file: TensorFile, about: dict[str, Any] | None, map_device: MapDevice,
                 strict: bool) -> tuple[list[tuple[Tensor, np.ndarray]], LoadReport]:
    arrays = file.arrays
    if about is not None:
        if about["signature"] is None:
            raise ArgumentError(f"{file.path} was saved without a model; leave out model=")
        if about["kind"] == "checkpoint":
            arrays = {name[len(MODEL):]: array for name, array in arrays.items() if name.startswith(MODEL)}
        _check_promise(file.path, about["signature"], arrays)
        if strict and canonical(about["signature"]) != canonical(module.signature()):
            raise SignatureMismatch(_explain(file.path, about["signature"], module))
    values, report, _ = match(module, arrays, exact_dtype=strict)
    if about is not None:
        paths = {id(value): path for path, value in _state(module)}
        _check_device(file.path, about["device"], [(paths[id(tensor)], tensor) for tensor, _ in values], map_device)
    return values, report


def _check_promise(path: str, signature: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """The arrays must be those that the file's own signature lists."""
    found = {name: {"shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()}
    wrong = compare_entries(tensor_entries(signature), found)
    if wrong:
        name, promised, there = wrong[0]
        raise FileFormatError(f"{path} contradicts itself: its signature says {name} {promised}, its data {there}; "
                              "the file was altered or put together wrongly")


def _check_device(path: str, saved: str | dict[str, Any] | None, tensors: Iterable[tuple[str, Tensor]],
                  map_device: MapDevice) -> None:
    mapping = _mapping(map_device)
    for name, tensor in tensors:
        was = str(saved.get(name, "cpu") if isinstance(saved, dict) else saved)
        wanted, here = mapping.get(was, mapping.get("*", was)), str(tensor.device)
        if wanted != here:
            said = "" if wanted == was else f", map_device says {wanted}"
            raise DeviceError(f"{path} was saved on {was}{said}, but the model is on {here} ({name}).\n"
                              f"To load it there: map_device={here!r}; or move the model first: model.to({wanted!r})")


def _mapping(map_device: MapDevice) -> dict[str, str]:
    """{saved device: wanted device}, "*" for any."""
    pairs = map_device.items() if isinstance(map_device, Mapping) else [] if map_device is None else [("*", map_device)]
    return {_full_name(was): _full_name(wanted) for was, wanted in pairs}


def _full_name(device: str | Device) -> str:
    return "cuda:0" if str(device) == "cuda" else str(device)


def _explain(path: str, saved: dict[str, Any], module: Module) -> str:
    """The message of SignatureMismatch: which entries differ, and what to do."""
    name, diff = os.path.basename(path), signature_diff(saved, module)
    classes = saved["class"], type(module).__name__
    head = f"{name} was saved from {classes[0]}, this model is {classes[1]}"
    if diff.mismatches:
        head += f"; {len(diff.mismatches)} of {diff.entries} entries differ:"
        lines = [(path, f"file {left}", f"model {right}") for path, left, right in diff.mismatches]
    else:
        head += f"; all {diff.entries} entries fit, but the modules differ:"
        lines = [_in_words(row) for row in diff.changes] or [("modules", "", diff.first_cause)]
    shown = lines[:SHOWN]
    widths = [max(len(line[i]) for line in shown) for i in range(2)]
    table = [f"  {a:<{widths[0]}}   {b:<{widths[1]}}   {c}" for a, b, c in shown]
    more = len(lines) - len(shown)
    if more:
        table.append(f'  ... {more} more: ndl.diff(model, "{path}") shows all')
    return "\n".join([head, *table, "To load the entries that fit: ndl.load_state_dict(model, path, strict=False)"])


def _in_words(row: DiffRow) -> tuple[str, str, str]:
    if row.a and row.b:
        return row.path_b or "the whole", "file -> model", row.reason
    file, model = (entry["type"] if entry else "-" for entry in (row.a, row.b))
    return row.path_a or row.path_b or "", f"file {file}", f"model {model}"


def _state(module: Module) -> Iterable[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _generators(rng: Generator | Mapping[str, Generator] | None) -> dict[str, Generator]:
    given = {} if rng is None else {"generator": rng} if isinstance(rng, Generator) else dict(rng)
    return {"default": default_generator, **given}


def _check_module(module: Any, caller: str) -> None:
    if not isinstance(module, Module):
        order = f"; the order is {caller}(module, path)" if isinstance(module, (str, os.PathLike)) else ""
        raise ArgumentError(f"{caller}: a Module is needed, got {type(module).__name__}{order}")
