"""Maps as images: made larger and smaller, sampled at places, taken apart into patches and put together again.

Resizing along an axis is a matrix: each output place is a weighted sum of input places. Written so, every mode is
differentiable and needs no rule of its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..core.types import Array, Shape, Sizes
from ..errors import ArgumentError, ShapeError
from .convolutions import convolution, convolution_input
from .elementwise import abs, clip, minimum, remainder, where
from .indexing import index_select, take_along_axis
from .linalg import matmul
from .pool import adaptive_avg_pool
from .shape import permute, reshape, unsqueeze
from .windows import output_size as windows_that_fit
from .windows import pad_pairs, spread

# --- resize -----------------------------------------------------------------------------------------------------------

MODES = {"nearest": None, "nearest-exact": None, "area": None, "linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}


def interpolate(x: Tensor, size: Sizes | None = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """x (N, C, *size) at another size, or scale_factor times as large.  torch.nn.functional.interpolate, ONNX Resize.

    mode: "nearest", "nearest-exact", "area" (means), "linear" (1 dimension), "bilinear", "bicubic" (2), "trilinear" (3).
    align_corners: the first and last values stay where they are. antialias: wider kernels where the image shrinks.
    """
    dims = x.ndim - 2
    if mode not in MODES or MODES[mode] not in (None, dims):
        raise ArgumentError(f"interpolate: mode {mode!r} of an input {x.shape} with {dims} spatial axes; there are "
                            f"{', '.join(m for m, d in MODES.items() if d in (None, dims))}")
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: give size or scale_factor, one of them")
    if align_corners is not None and MODES[mode] is None:
        raise ArgumentError(f"interpolate: align_corners has a meaning in linear and cubic modes, not in {mode!r}")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(f"interpolate: antialias is for 'bilinear' and 'bicubic', not for {mode!r}")
    lengths, scales = x.shape[2:], [None] * dims
    if size is not None:
        outs = spread(size, dims, "size")
    else:
        factors = [float(f) for f in (scale_factor if isinstance(scale_factor, (list, tuple)) else [scale_factor] * dims)]
        if len(factors) != dims:
            raise ArgumentError(f"interpolate: scale_factor={scale_factor} needs one number, or {dims} numbers")
        outs = tuple(math.floor(n * f) for n, f in zip(lengths, factors, strict=True))
        scales = scales if recompute_scale_factor else factors                       # type: ignore[assignment]
    if min(outs, default=1) < 1 or min(lengths, default=1) < 1:
        raise ShapeError(f"interpolate: from {lengths} to {outs}: every length must be above 0")
    if mode == "area":
        return adaptive_avg_pool(x, outs, dims)
    for axis, (n, m, scale) in enumerate(zip(lengths, outs, scales, strict=True), 2):
        step = 1 / scale if scale else n / m                 # of the input, from one place of the output to the next
        if "nearest" in mode:
            single = x.dtype == np.float32                   # computed in x's precision, as in PyTorch
            places = np.arange(m) + (0.5 if mode == "nearest-exact" else 0.0)
            places = np.floor(places.astype(np.float32) * np.float32(step) if single else places * step)
            x = index_select(x, np.minimum(places.astype(np.int64), n - 1), axis=axis)
        elif n != m or (scale and not align_corners):
            at = np.arange(m) * ((n - 1) / (m - 1) if m > 1 else 0) if align_corners else (np.arange(m) + 0.5) * step - 0.5
            at = np.maximum(at, 0.0) if "linear" in mode and not antialias else at
            kind = ("cubic", -0.5 if antialias else -0.75) if mode == "bicubic" else ("linear", 0.0)
            weights = resize_weights(at, n, *kind, shrink=min(1 / step, 1.0) if antialias else 1.0, inside_only=antialias)
            x = matmul(x.transpose(axis, -1), weights.T.astype(x.dtype)).transpose(axis, -1)
    return x


def resize_weights(places: Array, n: int, kind: str, cubic_a: float, shrink: float = 1.0,
                   inside_only: bool = False) -> Array:
    """(places, n): by how much each of n input values counts at each place.  kind: "linear" or "cubic" (Keys, 1981).

    shrink: below 1, a kernel as much wider, whose weights are brought to the sum 1. inside_only: what lies outside counts
    nothing; else the values at the edges stand for it.
    """
    def linear(d: Array) -> Array:
        return np.maximum(1 - np.abs(d), 0)

    def cubic(d: Array) -> Array:
        d, a = np.abs(d), cubic_a
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))
    weight, reach = (linear, 1) if kind == "linear" else (cubic, 2)
    matrix = np.zeros((len(places), n))
    for offset in range(-math.ceil(reach / shrink), math.ceil(reach / shrink) + 1):
        place = np.floor(places) + offset
        w = weight((places - place) * shrink)
        w = np.where((place >= 0) & (place < n), w, 0) if inside_only else w
        np.add.at(matrix, (np.arange(len(places)), np.clip(place, 0, n - 1).astype(int)), w)
    return matrix / matrix.sum(1, keepdims=True) if inside_only or shrink < 1 else matrix

# --- sampling at places -----------------------------------------------------------------------------------------------


def grid_sample(x: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """x (N, C, *size) at the places of grid (N, *out, dims), from -1 to 1, last dimension first -> (N, C, *out).

    mode: "bilinear" (of any number of dimensions), "nearest", "bicubic". padding_mode, what lies outside: "zeros", "border",
    "reflection". align_corners: -1 and 1 are the centers of the outermost values, not their edges.
    torch.nn.functional.grid_sample, ONNX GridSample.
    """
    if mode not in ("bilinear", "nearest", "bicubic") or padding_mode not in ("zeros", "border", "reflection"):
        raise ArgumentError(f"grid_sample: mode {mode!r} or padding_mode {padding_mode!r} is not known")
    dims, out = x.ndim - 2, grid.shape[1:-1]
    if grid.ndim != x.ndim or grid.shape[-1] != dims or grid.shape[0] != x.shape[0] or min(x.shape[2:], default=1) < 1:
        raise ShapeError(f"grid_sample: input {x.shape} needs a grid ({x.shape[0]}, *out, {dims}) of as many axes, "
                         f"got {grid.shape}")
    flat = grid.reshape(x.shape[0], math.prod(out), dims)
    coordinates = []
    for d, length in enumerate(x.shape[2:]):
        g = flat[:, :, dims - 1 - d]
        coordinates.append((g + 1.0) * ((length - 1) / 2) if align_corners else ((g + 1.0) * length - 1.0) * 0.5)

    def bordered(place: Tensor, length: int) -> Tensor:
        if padding_mode == "reflection":
            low, high = (0.0, float(length - 1)) if align_corners else (-0.5, length - 0.5)
            place = _reflect(place, low, high)
        return place if padding_mode == "zeros" else clip(place, 0.0, float(length - 1))
    if mode == "nearest":
        places = [np.rint(bordered(p, m).numpy()).astype(np.int64) for p, m in zip(coordinates, x.shape[2:], strict=True)]
        return values_at(x, places, padding_mode).reshape(*x.shape[:2], *out)
    if mode == "bilinear":
        coordinates = [bordered(p, m) for p, m in zip(coordinates, x.shape[2:], strict=True)]
    weight, reach = (hat, (0, 1)) if mode == "bilinear" else (_cubic, (-1, 0, 1, 2))
    total: Any = 0.0
    for offsets in np.ndindex(*(len(reach),) * dims):
        places, factor = [], None
        for k, place, length in zip(offsets, coordinates, x.shape[2:], strict=True):
            at = np.floor(place.numpy()) + reach[k]
            w = weight(place - at, reach[k])
            factor = w if factor is None else factor * w
            whole = bordered(Tensor(at), length).numpy() if mode == "bicubic" else at
            places.append(np.rint(whole).astype(np.int64))
        total = total + values_at(x, places, padding_mode) * unsqueeze(factor, 1)       # type: ignore[arg-type]
    y: Tensor = total.reshape(*x.shape[:2], *out)
    return y


def _reflect(x: Tensor, low: float, high: float) -> Tensor:
    """x folded back into [low, high]."""
    span = high - low
    if span == 0:
        return x * 0.0 + low
    distance = remainder(x - low, 2 * span)
    return low + minimum(distance, 2 * span - distance)


def values_at(x: Tensor, places: Sequence[Array], padding: str) -> Tensor:
    """Values of x (N, C, *size) at integer places, one (N, P) array a dimension -> (N, C, P); 0 outside for "zeros"."""
    n, c, *size = x.shape
    inside = np.ones(places[0].shape, bool)
    flat = np.zeros(places[0].shape, np.int64)
    for place, length in zip(places, size, strict=True):
        inside &= (place >= 0) & (place < length)
        flat = flat * length + np.clip(place, 0, length - 1)
    index = np.broadcast_to(np.expand_dims(flat, 1), (n, c, flat.size // max(n, 1)))
    values = take_along_axis(x.reshape(n, c, math.prod(size)), index, axis=2)
    return values * inside[:, None].astype(x.dtype) if padding == "zeros" else values


def hat(distance: Tensor, offset: int) -> Tensor:
    """1 - |distance| from the place below (offset 0) or above (1); on a place, its slope is that of the cell above it."""
    return 1.0 + distance if offset else 1.0 - distance


def _cubic(distance: Tensor, _offset: int) -> Tensor:
    a, d = -0.75, abs(distance)
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1.0, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return where(d <= 1.0, near, far)


def affine_grid(theta: Tensor, size: Shape, align_corners: bool | None = None) -> Tensor:
    """The places that theta (N, dims, dims + 1) takes a regular grid of size (N, C, *size) to: (N, *size, dims).

    torch.nn.functional.affine_grid, ONNX AffineGrid.
    """
    dims = len(size) - 2
    if theta.shape[1:] != (dims, dims + 1) or theta.shape[0] != size[0]:
        raise ShapeError(f"affine_grid: size {tuple(size)} needs theta ({size[0]}, {dims}, {dims + 1}), got {theta.shape}")
    lines = [np.linspace(-1, 1, n) * (1.0 if align_corners else (n - 1) / n) if n > 1 else np.zeros(n) for n in size[2:]]
    points = np.stack([*np.meshgrid(*lines, indexing="ij")[::-1], np.ones(size[2:])], -1).astype(theta.dtype)
    return matmul(points.reshape(1, -1, dims + 1), theta.mT).reshape(len(theta), *size[2:], dims)

# --- patches ----------------------------------------------------------------------------------------------------------


def _block(kernel: Shape, dtype: Any) -> Tensor:
    """A convolution's weight that picks each place of the kernel: (places, 1, *kernel)."""
    return Tensor(np.eye(math.prod(kernel), dtype=dtype).reshape(-1, 1, *kernel))


def unfold(x: Tensor, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> Tensor:
    """The patches of x (N, C, H, W) that a kernel sees, as columns (N, C * kH * kW, patches); x may lack N.

    torch.nn.functional.unfold.
    """
    if x.ndim == 3:
        return unfold(unsqueeze(x, 0), kernel_size, dilation, padding, stride)[0]
    if x.ndim != 4:
        raise ShapeError(f"unfold: images (N, C, H, W) or (C, H, W) are needed, got {x.shape}")
    (n, c), (kernel, steps, apart) = x.shape[:2], (spread(s, 2, "size") for s in (kernel_size, stride, dilation))
    seen = convolution(reshape(x, shape=(n * c, 1, *x.shape[2:])), _block(kernel, x.dtype), stride=steps,
                       pads=pad_pairs(padding, 2, kernel, apart), dilation=apart, groups=1)
    return seen.reshape(n, c * math.prod(kernel), math.prod(seen.shape[2:]))


def fold(columns: Tensor, output_size: Sizes, kernel_size: Sizes, dilation: Sizes = 1, padding: Any = 0,
         stride: Sizes = 1) -> Tensor:
    """Columns (N, C * places of the kernel, patches) added up into images (N, C, *output_size); the adjoint of `unfold`.

    torch.nn.functional.fold, ONNX Col2Im.
    """
    if columns.ndim == 2:
        return fold(unsqueeze(columns, 0), output_size, kernel_size, dilation, padding, stride)[0]
    dims = 2 if isinstance(output_size, int) else len(output_size)
    size, kernel, steps, apart = (spread(s, dims, "size") for s in (output_size, kernel_size, stride, dilation))
    n, rows = columns.shape[:2]
    pads = pad_pairs(padding, dims, kernel, apart)
    out = windows_that_fit(size, kernel, steps, pads, apart)
    if rows % math.prod(kernel) or columns.shape[2] != math.prod(out):
        raise ShapeError(f"fold: columns {columns.shape} are not (N, C * {math.prod(kernel)}, {math.prod(out)}), which "
                         f"{size} and a kernel of {kernel} need")
    channels = rows // math.prod(kernel)
    maps = columns.reshape(n * channels, math.prod(kernel), *out)
    image = convolution_input(maps, _block(kernel, columns.dtype), size=size, stride=steps, pads=pads, dilation=apart,
                              groups=1)
    return image.reshape(n, channels, *size)


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Channels become pixels: (..., C r r, H, W) -> (..., C, H r, W r).  torch.nn.functional.pixel_shuffle."""
    r, (*lead, c, h, w) = upscale_factor, x.shape
    if r < 1 or c % (r * r):
        raise ShapeError(f"pixel_shuffle: {c} channels of {x.shape} are not divisible by {r} * {r}")
    k = len(lead)
    apart = x.reshape(*lead, c // (r * r), r, r, h, w)
    return permute(apart, axes=(*range(k + 1), k + 3, k + 1, k + 4, k + 2)).reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Pixels become channels: (..., C, H r, W r) -> (..., C r r, H, W).  torch.nn.functional.pixel_unshuffle."""
    r, (*lead, c, h, w) = downscale_factor, x.shape
    if r < 1 or h % r or w % r:
        raise ShapeError(f"pixel_unshuffle: the map of {x.shape} is not divisible by {r}")
    k = len(lead)
    apart = x.reshape(*lead, c, h // r, r, w // r, r)
    return permute(apart, axes=(*range(k + 1), k + 2, k + 4, k + 1, k + 3)).reshape(*lead, c * r * r, h // r, w // r)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """The channels of `groups` groups dealt out in turn (Zhang et al., 2018).  torch.nn.functional.channel_shuffle."""
    if groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"channel_shuffle: {groups} groups do not divide the channels of {x.shape}")
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)

