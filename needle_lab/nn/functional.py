"""PyTorch's place for the functions behind the layers, `import needle_lab.nn.functional as F`: they are `needle_lab.ops`.

Each takes its first input as `input=` too, and `dim=` for axis. `inplace=` is accepted where PyTorch has it and changes
nothing: the result is a new tensor, and the input stays as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .. import ops
from ..core.explain import at_the_door as _at_the_door
from ..core.tensor import Tensor
from ..core.types import DTypeLike, Sizes
from ..errors import ArgumentError
from ..ops import *  # noqa: F403
from ..ops import activations, image, indexing, margins, noise, normalization, pool
from ..ops.axes import torch_names as _torch_names
from ..ops.image import interpolate
from ..refused import missing as _missing

# What a file of ops holds and `ndl` does not show.
NAMES = {
    activations: "glu hardshrink softshrink tanhshrink threshold",
    image: "affine_grid channel_shuffle fold grid_sample pixel_shuffle pixel_unshuffle unfold",
    indexing: "embedding_bag",
    margins: """bilinear cosine_embedding_loss ctc_loss gaussian_nll_loss hinge_embedding_loss multi_margin_loss
                multilabel_margin_loss multilabel_soft_margin_loss pairwise_distance pdist poisson_nll_loss soft_margin_loss
                triplet_margin_loss triplet_margin_with_distance_loss""",
    noise: "alpha_dropout dropout1d dropout3d feature_alpha_dropout gumbel_softmax rrelu",
    normalization: "local_response_norm",
    pool: "lp_pool1d lp_pool2d lp_pool3d max_unpool1d max_unpool2d max_unpool3d",
}
INPLACE = """relu relu6 hardtanh elu selu celu leaky_relu rrelu hardsigmoid hardswish silu mish threshold dropout dropout1d
             dropout2d dropout3d alpha_dropout feature_alpha_dropout"""


def gelu(x: Tensor, approximate: str = "none") -> Tensor:  # type: ignore[no-redef]
    """x times the normal distribution function of x; approximate="tanh": as GPT-2 has it.  torch.nn.functional.gelu."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate={approximate!r} is neither 'none' nor 'tanh'")
    return ops.gelu(x) if approximate == "none" else ops.gelu_tanh(x)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:  # type: ignore[no-redef]
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold.  torch.nn.functional.softplus."""
    if beta == 1 and threshold == 20:
        return ops.softplus(x)                 # x, to rounding, beyond 20
    return ops.where(x * beta > threshold, x, ops.softplus(x * beta) / beta)


def _axis(x: Tensor, axis: int | None, name: str) -> int:
    """An axis; the last one, of a vector or a matrix, where none is named."""
    if axis is None and x.ndim > 2:
        raise ArgumentError(f"{name}: say which axis of {x.shape}: dim=...")
    return -1 if axis is None else axis


def softmax(x: Tensor, axis: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Tensor:  # type: ignore[no-redef]
    """exp(x) / sum(exp(x)) along axis, of x in dtype.  torch.nn.functional.softmax."""
    return ops.softmax(x if dtype is None else x.astype(dtype), axis=_axis(x, axis, "softmax"))


def log_softmax(x: Tensor, axis: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Tensor:  # type: ignore[no-redef]
    """The logarithm of softmax along axis, of x in dtype.  torch.nn.functional.log_softmax."""
    return ops.log_softmax(x if dtype is None else x.astype(dtype), axis=_axis(x, axis, "log_softmax"))


def softmin(x: Tensor, axis: int | None = None, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Tensor:
    """softmax(-x).  torch.nn.functional.softmin."""
    return softmax(-x, axis, _stacklevel, dtype)


def one_hot(index: Tensor, num_classes: int = -1) -> Tensor:  # type: ignore[no-redef]
    """1 at the place of each index, along a new last axis, int64; num_classes: one more than the largest index by default.

    torch.nn.functional.one_hot.
    """
    if num_classes < 0 and not index.numel():
        raise ArgumentError("one_hot: num_classes is needed where there are no indices")
    return ops.one_hot(index, int(index.max()) + 1 if num_classes < 0 else num_classes).astype("int64")


def upsample(x: Tensor, size: Sizes | None = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """`interpolate`.  torch.nn.functional.upsample."""
    return interpolate(x, size, scale_factor, mode, align_corners)


def upsample_nearest(x: Tensor, size: Sizes | None = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "nearest".  torch.nn.functional.upsample_nearest."""
    return interpolate(x, size, scale_factor, "nearest")


def upsample_bilinear(x: Tensor, size: Sizes | None = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` with mode "bilinear" and align_corners.  torch.nn.functional.upsample_bilinear."""
    return interpolate(x, size, scale_factor, "bilinear", align_corners=True)


def _with_inplace(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def given(*args: Any, inplace: bool = False, **options: Any) -> Any:
        return function(*args, **options)
    given.takes_inplace = True                             # type: ignore[attr-defined]
    return given


_found: dict[str, Any] = {name: value for name, value in globals().items() if inspect.isfunction(value) and name[0] != "_"}
_found |= {name: getattr(room, name) for room, names in NAMES.items() for name in names.split()}
_found |= {"logsigmoid": ops.log_sigmoid, "dropout2d": ops.feature_dropout}
globals().update({name: _torch_names(value) for name, value in _found.items()})
globals().update({name: _with_inplace(globals()[name]) for name in INPLACE.split()})
_at_the_door(globals(), _found)


def __getattr__(name: str) -> Any:
    raise _missing("nn.functional", name)
