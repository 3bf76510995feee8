"""Windows over a map: where they stand, how many fit, what they see. Convolution and pooling share this.

Along each dimension, window i sees the places  i * stride - before + p * dilation  for p in 0 .. kernel - 1.
"""


from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..core.types import Array, Padding, Pads, Shape, Sizes
from ..errors import ArgumentError


def spread(value: Sizes, dims: int, name: str) -> tuple[int, ...]:
    """3 or (3,) -> (3, 3); (3, 5) stays."""
    values = (value,) * dims if isinstance(value, int) else tuple(value) * (dims if len(value) == 1 else 1)
    if len(values) != dims:
        raise ArgumentError(f"{name}={value} needs one number, or {dims} numbers")
    return values


def pad_pairs(padding: Padding, dims: int, kernel: Shape, dilation: Shape, size: Shape = (),
              stride: Shape = ()) -> tuple[tuple[int, int], ...]:
    """Any way to name a padding -> ((before, after), ...) by dimension.

    A number, one number a dimension, pairs, "valid" (none), "same" (as PyTorch: stride 1, output size = input size),
    "same_upper" or "same_lower" (as ONNX: output size = ceil(size / stride); the odd one goes after or before).
    """
    if padding == "valid":
        return ((0, 0),) * dims
    if isinstance(padding, str):
        if padding not in ("same", "same_upper", "same_lower"):
            raise ArgumentError(f"padding {padding!r} is none of 'valid', 'same', 'same_upper', 'same_lower'")
        if padding == "same" and any(s != 1 for s in stride):
            raise ArgumentError(f"padding='same' needs stride 1, got {stride}")
        pairs = []
        for i in range(dims):
            reach = (kernel[i] - 1) * dilation[i]
            total = reach if padding == "same" else max((-(-size[i] // stride[i]) - 1) * stride[i] + reach + 1 - size[i], 0)
            small = total // 2
            pairs.append((total - small, small) if padding == "same_lower" else (small, total - small))
        return tuple(pairs)
    if not isinstance(padding, int) and padding and not isinstance(padding[0], int):
        return tuple((int(b), int(a)) for b, a in padding)
    return tuple((p, p) for p in spread(padding, dims, "padding"))


def output_size(size: Shape, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> tuple[int, ...]:
    """How many windows fit along each dimension."""
    return tuple((n + b + a - d * (k - 1) - 1) // s + 1
                 for n, k, s, (b, a), d in zip(size, kernel, stride, pads, dilation, strict=True))


def pad_map(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """Spatial padding of a numpy map (..., *size); negative pads crop."""
    if not any(b or a for b, a in pads):
        return x
    if any(b < 0 or a < 0 for b, a in pads):
        inside: Any = [slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape[-len(pads):], pads, strict=True)]
        x = x[(..., *inside)]
        pads = [(max(b, 0), max(a, 0)) for b, a in pads]
    lead = x.ndim - len(pads)
    y = np.full(x.shape[:lead] + tuple(b + n + a for n, (b, a) in zip(x.shape[lead:], pads, strict=True)), value, x.dtype)
    middle: Any = [slice(b, b + n) for n, (b, _) in zip(x.shape[lead:], pads, strict=True)]
    y[(..., *middle)] = x
    return y


def windows(x: Array, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape, fill: float = 0.0,
            writeable: bool = False) -> Array:
    """What each window sees of x (..., *size), padded with `fill`: (..., *out, *kernel), a view of the padded map."""
    padded = pad_map(x, pads, fill)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    lead, size = padded.shape[:padded.ndim - len(kernel)], padded.shape[padded.ndim - len(kernel):]
    if any(r > n for r, n in zip(reach, size, strict=True)):                         # no window fits, which numpy refuses
        out = tuple(max((n - r) // s + 1, 0) for n, r, s in zip(size, reach, stride, strict=True))
        return np.zeros(lead + out + tuple(kernel), padded.dtype)
    views = sliding_window_view(padded, reach, tuple(range(-len(kernel), 0)), writeable=writeable)
    steps: Any = [slice(None, None, step) for step in (*stride, *dilation)]
    return views[(..., *steps)]


def add_windows(values: Array, size: Shape, kernel: Shape, stride: Shape, pads: Pads, dilation: Shape) -> Array:
    """values (..., *out, *kernel) added up at the places that the windows see: (..., *size).  The adjoint of `windows`."""
    lead, dims = values.shape[:values.ndim - 2 * len(kernel)], len(kernel)
    whole = np.zeros(lead + tuple(max(b, 0) + n + max(a, 0) for n, (b, a) in zip(size, pads, strict=True)), values.dtype)
    cropped: Any = [slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(whole.shape[-dims:], pads, strict=True)]
    padded = whole[(..., *cropped)]
    seen = windows(padded, kernel, stride, [(0, 0)] * dims, dilation, writeable=True)
    for place in np.ndindex(*kernel):                     # at one place in the kernel, no two windows see the same
        seen[(..., *place)] += values[(..., *place)]
    middle: Any = [slice(max(b, 0), max(b, 0) + n) for n, (b, _) in zip(size, pads, strict=True)]
    return whole[(..., *middle)]
