"""Layers that rearrange maps: borders, sizes, patches, pixels and channels."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..core.types import Sizes
from ..ops.image import interpolate
from ..ops.windows import spread
from . import functional as F
from .layer import layer
from .module import Module

Upsample = layer("Upsample", interpolate, antialias=False)
UpsamplingNearest2d = layer("UpsamplingNearest2d", F.upsample_nearest)
UpsamplingBilinear2d = layer("UpsamplingBilinear2d", F.upsample_bilinear)
PixelShuffle = layer("PixelShuffle", F.pixel_shuffle)
PixelUnshuffle = layer("PixelUnshuffle", F.pixel_unshuffle)
ChannelShuffle = layer("ChannelShuffle", F.channel_shuffle)
Unfold = layer("Unfold", F.unfold)
Fold = layer("Fold", F.fold)
LocalResponseNorm = layer("LocalResponseNorm", F.local_response_norm)


class _Pad(Module):
    """A border of padding places on each side of the last axes, or (before, after) for each, the last axis first."""

    dims: int
    mode: str

    def __init__(self, padding: Sizes):
        super().__init__()
        self.padding = spread(padding, 2 * self.dims, "padding")

    def forward(self, x: Tensor) -> Any:
        return F.pad(x, self.padding, self.mode)


class _ConstantPad(_Pad):
    """A border of one value, as wide as padding says."""

    def __init__(self, padding: Sizes, value: float = 0.0):
        super().__init__(padding)
        self.value = value

    def forward(self, x: Tensor) -> Any:
        return F.pad(x, self.padding, self.mode, self.value)


def _pads(name: str, base: type[_Pad], mode: str) -> list[type[_Pad]]:
    """The layer of one mode for 1, 2 and 3 dimensions."""
    return [type(f"{name}{d}d", (base,), {"dims": d, "mode": mode, "__module__": __name__,
                                          "__doc__": f"{base.__doc__ or _Pad.__doc__}  torch.nn.{name}{d}d."})
            for d in (1, 2, 3)]


ConstantPad1d, ConstantPad2d, ConstantPad3d = _pads("ConstantPad", _ConstantPad, "constant")
ZeroPad1d, ZeroPad2d, ZeroPad3d = _pads("ZeroPad", _Pad, "constant")
ReflectionPad1d, ReflectionPad2d, ReflectionPad3d = _pads("ReflectionPad", _Pad, "reflect")
ReplicationPad1d, ReplicationPad2d, ReplicationPad3d = _pads("ReplicationPad", _Pad, "replicate")
CircularPad1d, CircularPad2d, CircularPad3d = _pads("CircularPad", _Pad, "circular")
