"""Normalisation layers.  The mathematics is in `needle_lab.ops.norm`; here are their parameters and buffers."""

from __future__ import annotations

from .. import creation, ops
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..core.types import DTypeLike, Sizes
from ..errors import ArgumentError, ShapeError
from .module import Module
from .parameter import Buffer, Parameter


class _Statistics(Module):
    """What batch norm and instance norm share: a scale and a shift for each channel, and running statistics.

    weight, bias: (num_features,) parameters, present when affine. running_mean, running_var: (num_features,) and
    num_batches_tracked: () buffers, present when track_running_stats; momentum=None averages over all batches.
    """

    axes: tuple[int, ...]          # how many axes an input may have

    def _make(self, num_features: int, affine: bool, bias: bool, tracked: bool, dtype: DTypeLike) -> None:
        self.weight = Parameter(creation.ones(num_features, dtype=dtype)) if affine else None
        self.bias = Parameter(creation.zeros(num_features, dtype=dtype)) if affine and bias else None
        self.running_mean = Buffer(creation.zeros(num_features, dtype=dtype)) if tracked else None
        self.running_var = Buffer(creation.ones(num_features, dtype=dtype)) if tracked else None
        self.num_batches_tracked = Buffer(creation.zeros(dtype="int64")) if tracked else None


class _BatchNorm(_Statistics):
    """What batch norm in all dimensions shares."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, dtype: DTypeLike = "float32", *, bias: bool = True):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make(num_features, affine, bias, track_running_stats, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            raise ShapeError(f"{type(self).__name__}: expected (N, {self.num_features}, ...) with "
                             f"{' or '.join(map(str, self.axes))} axes, got {x.shape}")
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked.copy_(self.num_batches_tracked + 1)
            momentum = 1 / self.num_batches_tracked.item() if momentum is None else momentum
        return ops.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                              self.training or not self.track_running_stats, momentum or 0.0, self.eps)


class BatchNorm1d(_BatchNorm):
    """Normalise each feature of (N, C) or (N, C, L) over the batch.  torch.nn.BatchNorm1d."""

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of (N, C, H, W) over the batch.  torch.nn.BatchNorm2d, ONNX BatchNormalization."""

    axes = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise each channel of (N, C, D, H, W) over the batch."""

    axes = (5,)


class LayerNorm(Module):
    """Normalise over the last axes (Ba et al., 2016).  weight, bias: normalized_shape.  ONNX LayerNormalization."""

    def __init__(self, normalized_shape: Sizes, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
                 dtype: DTypeLike = "float32"):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = Parameter(creation.ones(*shape, dtype=dtype)) if elementwise_affine else None
        self.bias = Parameter(creation.zeros(*shape, dtype=dtype)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) over the last axes (Zhang and Sennrich, 2019).  weight: normalized_shape.

    eps: the machine epsilon of x's dtype by default, as in torch.nn.RMSNorm.
    """

    def __init__(self, normalized_shape: Sizes, eps: float | None = None, elementwise_affine: bool = True,
                 dtype: DTypeLike = "float32"):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = Parameter(creation.ones(*shape, dtype=dtype)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class GroupNorm(Module):
    """Normalise each group of channels of each sample (Wu and He, 2018).

    x: (N, C, *size) -> same shape.  num_groups divides C.  weight, bias: (C,), present when affine.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
                 dtype: DTypeLike = "float32", *, bias: bool = True):
        super().__init__()
        if num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: num_channels={num_channels} is not divisible by num_groups={num_groups}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(creation.ones(num_channels, dtype=dtype)) if affine else None
        self.bias = Parameter(creation.zeros(num_channels, dtype=dtype)) if affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm: expected (N, {self.num_channels}, ...), got {x.shape}")
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm1d(_Statistics):
    """Normalise each channel of each sample of (N, C, *size) or (C, *size) (Ulyanov et al., 2016).  torch.nn.InstanceNorm1d.

    weight, bias: (C,) if affine. track_running_stats: in evaluation mode the running statistics take the samples' place.
    """

    axes = (3,)

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
                 track_running_stats: bool = False, dtype: DTypeLike = "float32", *, bias: bool = True):
        super().__init__()
        self.num_features, self.eps, self.affine = num_features, eps, affine
        if track_running_stats:                            # which matter to nothing else
            self.momentum, self.track_running_stats = momentum, True
        self._make(num_features, affine, bias, track_running_stats, dtype)

    track_running_stats, momentum = False, 0.1

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim + 1 in self.axes:
            return self.forward(ops.unsqueeze(x, 0))[0]
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            raise ShapeError(f"{type(self).__name__}: expected (N, {self.num_features}, ...) with {self.axes[0]} axes, "
                             f"got {x.shape}")
        return ops.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                                 self.training or not self.track_running_stats, self.momentum, self.eps)


class InstanceNorm2d(InstanceNorm1d):
    """InstanceNorm1d for x (N, C, H, W).  torch.nn.InstanceNorm2d."""

    axes = (4,)


class InstanceNorm3d(InstanceNorm1d):
    """InstanceNorm1d for x (N, C, D, H, W).  torch.nn.InstanceNorm3d."""

    axes = (5,)
