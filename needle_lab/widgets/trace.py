"""What a view learns about a model before it draws: its signature, and the values that pass through its modules."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..nn.modes import evaluating

Source = Any      # Module | signature dict | path of a saved file or of an ONNX file


def is_module(source: Any) -> bool:
    """Whether it is a Module, and no signature and no file."""
    from ..nn.module import Module

    return isinstance(source, Module)


def is_onnx_path(source: Any) -> bool:
    """Whether it is the name of an ONNX file."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".onnx"


def as_module(source: Source) -> Any:
    """The Module itself, or the one that an ONNX file becomes; None for anything that cannot run."""
    if is_onnx_path(source):
        from ..onnx import load

        return load(source)
    return source if is_module(source) else None


def name_of(source: Source) -> str:
    """How a view calls a model: its class, or the file's name."""
    if isinstance(source, (str, os.PathLike)):
        return Path(source).name
    return source["class"] if isinstance(source, dict) else type(source).__name__


def signature_of(source: Source) -> tuple[str, dict[str, Any], Any]:
    """(title, signature, Module or None) of a Module, a signature, a saved file or an ONNX file."""
    module = as_module(source)
    if module is not None:
        return name_of(source), module.signature(), module
    if isinstance(source, dict):
        from ..nn.signature import check_signature

        return name_of(check_signature(source, "show")), source, None
    if isinstance(source, (str, os.PathLike)):
        from ..serialize.metadata import read_signature

        return name_of(source), read_signature(source), None
    raise ArgumentError(f"expected a Module, a signature (from Module.signature()) or the path of a saved or ONNX "
                        f"file; got {type(source).__name__}")


def run(module: Any, x: Any, seen: Callable[[str, Any, list[Any], list[Any]], None] | None = None) -> Any:
    """Run `module` on x (a tuple for several inputs); `seen(path, module, inputs, outputs)` follows each inner call.

    inputs and outputs are flat lists of Tensors, in the order of the call.
    """
    from ..core.tensor import Tensor
    from ..creation import tensor

    inputs = [each if isinstance(each, Tensor) else tensor(each) for each in (x if isinstance(x, tuple) else (x,))]
    handles = []
    if seen is not None:
        for path, inner in module.named_modules():
            def hook(called: Any, args: Any, output: Any, path: str = path) -> None:
                seen(path, called, tensors(args), tensors(output))
            handles.append(inner.register_forward_hook(hook))
    try:
        with evaluating(module):
            return module(*inputs)
    finally:
        for handle in handles:
            handle.remove()


def tensors(value: Any) -> list[Any]:
    """The Tensors inside nested tuples, lists and dicts, in order."""
    from ..core.tensor import Tensor

    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [t for each in value for t in tensors(each)] if isinstance(value, (tuple, list)) else []


def output_shapes(source: Source, module: Any, x: Any) -> dict[str, tuple[list[Any], list[Any]]]:
    """Path of each module that ran -> (shapes in, shapes out) of its first call, from one run on x."""
    if module is None:
        raise ArgumentError(f"x was given, but {name_of(source)} holds no model that can run; "
                            "give the Module itself, or leave x out")
    shapes: dict[str, tuple[list[Any], list[Any]]] = {}

    def seen(path: str, called: Any, inputs: list[Any], outputs: list[Any]) -> None:
        shapes.setdefault(path, ([tuple(t.shape) for t in inputs], [tuple(t.shape) for t in outputs]))

    run(module, x, seen)
    return shapes


def host(value: Any) -> np.ndarray:
    """A Tensor or an array as a numpy array on the host."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
