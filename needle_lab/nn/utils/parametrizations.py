"""Weights that are computed from others before each call: weight norm and spectral norm.  torch.nn.utils.

The layer's own weight gives way to what it is computed from, under PyTorch's names; a hook puts it back at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ... import ops
from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import ArgumentError
from ..module import Module
from ..parameter import Buffer, Parameter

M = TypeVar("M", bound=Module)


def _weight_of(module: Module, name: str) -> Parameter:
    weight = vars(module).get(name)
    if not isinstance(weight, Parameter):
        raise ArgumentError(f"{type(module).__name__} has no parameter {name!r} of its own")
    return weight


def _replace(module: Module, name: str, parts: dict[str, Tensor], compute: Callable[[Module], Tensor]) -> None:
    """Hold `parts` in the place of a parameter, which `compute` makes from them before each call."""
    delattr(module, name)
    for part, value in parts.items():
        setattr(module, part, value)

    def put(module: Module, args: Any) -> None:
        vars(module)[name] = compute(module)
    put(module, ())
    handle = module.register_forward_pre_hook(put)
    vars(module).setdefault("_computed", {})[name] = handle, list(parts), compute


def _restore(module: Module, name: str, kind: str) -> Any:
    handle, parts, compute = vars(module).get("_computed", {}).get(name, (None, [], None))
    if handle is None or f"{name}_{kind}" not in parts:
        raise ArgumentError(f"{type(module).__name__}: {name!r} is not normalised so")
    handle.remove()
    del vars(module)["_computed"][name]
    with no_grad():
        value = compute(module).detach().clone()
    for part in (name, *parts):
        delattr(module, part)
    setattr(module, name, Parameter(value))
    return module


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """weight = g v / |v|, the norms over all axes but dim, or over all: length and direction apart (Salimans, Kingma, 2016).

    The parameters are weight_g and weight_v.  torch.nn.utils.weight_norm.
    """
    weight = _weight_of(module, name)

    def lengths(v: Tensor) -> Tensor:
        axes = tuple(a for a in range(v.ndim) if dim is None or a != dim % v.ndim)
        return ops.sqrt(ops.sum(v * v, axis=axes, keepdims=dim is not None))

    def compute(module: Module) -> Tensor:
        v: Tensor = vars(module)[name + "_v"]
        weight: Tensor = v * (vars(module)[name + "_g"] / lengths(v))
        return weight
    with no_grad():
        parts: dict[str, Tensor] = {name + "_g": Parameter(lengths(weight)), name + "_v": Parameter(weight.detach())}
    _replace(module, name, parts, compute)
    return module


def spectral_norm(module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> M:
    """weight / sigma, sigma its largest singular value, found by power iteration in training (Miyato et al., 2018).

    The weight is a matrix whose rows run along dim: 0, or 1 for transposed convolutions. The parameter is weight_orig; the
    buffers weight_u and weight_v are the singular vectors.  torch.nn.utils.spectral_norm.
    """
    weight = _weight_of(module, name)
    rows = dim if dim is not None else int(type(module).__name__.startswith("ConvTranspose"))
    if n_power_iterations < 1:
        raise ArgumentError(f"spectral_norm: n_power_iterations={n_power_iterations} must be above 0")

    def matrix(w: Tensor) -> Tensor:
        return ops.movedim(w, rows, 0).reshape(w.shape[rows], -1)

    def unit(x: Any) -> Any:
        return x / max(float(np.sqrt((x * x).sum())), eps)

    def compute(module: Module) -> Tensor:
        held = vars(module)
        m, u, v = matrix(held[name + "_orig"]), held[name + "_u"], held[name + "_v"]
        if module.training:
            values, left = m.numpy(), u.numpy()
            for _ in range(n_power_iterations):
                right = unit(values.T @ left)
                left = unit(values @ right)
            with no_grad():
                u.copy_(left), v.copy_(right)
        result: Tensor = held[name + "_orig"] / ops.dot(u.clone(), m @ v.clone())
        return result
    rng = np.random.default_rng(0)                         # where the iteration starts hardly matters
    sizes = matrix(weight.detach()).shape
    start = {f"{name}_{k}": Buffer(unit(rng.standard_normal(n)).astype(weight.dtype))
             for k, n in zip("uv", sizes, strict=True)}
    _replace(module, name, {name + "_orig": Parameter(weight.detach()), **start}, compute)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """The weight as a parameter again.  torch.nn.utils.remove_weight_norm."""
    return _restore(module, name, "g")                     # type: ignore[no-any-return]


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """The weight as a parameter again.  torch.nn.utils.remove_spectral_norm."""
    return _restore(module, name, "orig")                  # type: ignore[no-any-return]
