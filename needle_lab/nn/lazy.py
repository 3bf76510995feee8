"""Layers that learn their input's length from their first input: nn.LazyLinear(10) becomes an nn.Linear(n, 10).

Until then their parameters are there, and empty: an optimizer may hold them. A state dict also says how long they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..core.storage import written
from ..core.tensor import Tensor
from ..errors import ArgumentError
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .linear import Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d


class Lazy(Module):
    """A layer without its first argument, which is an axis of its input.  Its classes are made by `lazy`."""

    becomes: type[Module]
    axis: int                                        # of the input
    length_of: Callable[[Any, tuple[int, ...]], int]         # from the shape of a weight, or of a running mean

    defaults: dict[str, Any] = {}                    # where they are not the layer's own

    def __init__(self, *args: Any, **settings: Any):
        start: Any = self.becomes.__init__
        names = list(inspect.signature(self.becomes).parameters)[1:]
        if len(args) > len(names):
            raise ArgumentError(f"{type(self).__name__}({', '.join(names)}): too many arguments, {len(args)}")
        settings = self.defaults | dict(zip(names, args, strict=False)) | settings
        start(self, 0, **settings)
        self._made_with = settings

    def forward(self, x: Tensor, *others: Any) -> Any:
        self.complete(x.shape[self.axis])
        return self.forward(x, *others)                      # by now that of the class it has become

    def complete(self, length: int) -> None:
        """Become the layer for inputs of this length; the parameters stay the same objects."""
        settings = self.__dict__.pop("_made_with")
        kind: Any = self.becomes
        whole = kind(length, **settings)
        for name, value in vars(whole).items():
            held = vars(self)[name]
            if isinstance(value, Tensor):
                moved = value.detach().to(device=held.device, dtype=held.dtype)
                held.data = moved.data
                written(held)
            else:
                vars(self)[name] = value
        vars(self)["training"] = self.training
        self.__class__ = self.becomes                        # type: ignore[assignment]

    def complete_for(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Become the layer whose state has these shapes."""
        known = shapes.get("weight", shapes.get("running_mean"))
        if known:
            length: Any = self.length_of
            self.complete(length(known))


def lazy(becomes: type[Module], axis: int, length_of: Callable[[Any, tuple[int, ...]], int], **defaults: Any) -> Any:
    """The lazy form of a layer."""
    name = f"Lazy{becomes.__name__}"
    doc = f"{becomes.__name__}, made for its first input.  torch.nn.{name}."
    return type(name, (Lazy, becomes), {"becomes": becomes, "axis": axis, "length_of": length_of, "defaults": defaults,
                                        "__module__": __name__, "__doc__": doc})


LazyLinear = lazy(Linear, -1, lambda self, shape: shape[1])
LazyConv1d, LazyConv2d, LazyConv3d = (lazy(kind, -1 - d, lambda self, shape: shape[1] * self.groups)
                                      for d, kind in ((1, Conv1d), (2, Conv2d), (3, Conv3d)))
LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d = (
    lazy(kind, -1 - d, lambda self, shape: shape[0])
    for d, kind in ((1, ConvTranspose1d), (2, ConvTranspose2d), (3, ConvTranspose3d)))
LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d = (lazy(kind, 1, lambda self, shape: shape[0])
                                                     for kind in (BatchNorm1d, BatchNorm2d, BatchNorm3d))
LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d = (
    lazy(kind, -1 - d, lambda self, shape: shape[0], affine=True, track_running_stats=True)
    for d, kind in ((1, InstanceNorm1d), (2, InstanceNorm2d), (3, InstanceNorm3d)))
