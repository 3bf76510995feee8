"""Samples: inputs and attributes of a call, in any dtype, and laid out in memory in several ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.device import Device
from ..core.dtypes import is_floating
from ..core.tensor import Tensor
from ..errors import ArgumentError

LAYOUTS = ("contiguous", "first axis last in memory", "every second value, backwards", "one row, expanded")


@dataclass
class Sample:
    """Inputs of one call (arrays, numbers, None for an absent one) and its attributes."""

    inputs: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join([*map(_described, self.inputs), *(f"{name}={_described(v)}" for name, v in self.attrs.items())])

    def arrays(self, dtype: Any) -> list[Any]:
        """Copies of the inputs, the floating arrays among them in this dtype."""
        return [np.array(x, dtype if is_real(x) else None) if isinstance(x, np.ndarray) else x for x in self.inputs]


def sample(*inputs: Any, **attrs: Any) -> Sample:
    """A sample: arrays, tensors, lists and numbers, as the op is called with them."""
    return Sample(tuple(x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x) if isinstance(x, (list, np.generic))
                        else x for x in inputs), attrs)


def in_order(samples: Iterable[Any]) -> list[Sample]:
    """The smallest first, so that it is the smallest which is named where something fails.

    Each is a Sample, a tuple of inputs, or a single input.
    """
    found = [x if isinstance(x, Sample) else sample(*x) if isinstance(x, tuple) else sample(x) for x in samples]
    if not found:
        raise ArgumentError("a check needs at least one sample: samples=[x, (x, y), ndl.testing.sample(x, axis=0), ...]")
    return sorted(found, key=lambda one: sum(getattr(x, "size", 0) for x in one.inputs))


def is_real(x: Any) -> bool:
    """Whether x is an array of a floating dtype."""
    return isinstance(x, np.ndarray) and is_floating(x.dtype)


def _described(x: Any) -> str:
    """Small vectors whole, so that a reader can compute along; of others the shape."""
    if not isinstance(x, np.ndarray):
        return repr(x) if len(repr(x)) < 60 else f"{type(x).__name__}(...)"
    return np.array2string(x, precision=3, separator=", ") if x.size < 4 and x.ndim == 1 else f"{x.dtype}{list(x.shape)}"


def laid_out(x: Any, layout: str, device: Device | None = None) -> Any:
    """x's values (those of its first row, expanded) in this layout, on a device if one is given."""
    if not isinstance(x, np.ndarray):
        return x
    if layout == LAYOUTS[0] or not x.ndim:
        return Tensor(np.array(x, order="C"), device=device).data
    if layout == LAYOUTS[1]:
        return Tensor(np.moveaxis(x, 0, -1).copy(), device=device).permute((x.ndim - 1, *range(x.ndim - 1))).data
    if layout == LAYOUTS[2]:
        return Tensor(np.repeat(x[..., ::-1], 2, axis=-1), device=device)[..., ::-2].data
    return Tensor(x[:1].copy(), device=device).expand(x.shape).data


def cut(arrays: Sequence[Any]) -> Iterator[list[Any]]:
    """The inputs with one of them too short along its last axis, each in turn: most ops must refuse that."""
    for i, x in enumerate(arrays):
        if isinstance(x, np.ndarray) and x.ndim and x.shape[-1] > 1:
            yield [*arrays[:i], x[..., :-1].copy(), *arrays[i + 1:]]
