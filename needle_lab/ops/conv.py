"""Convolution in any number of dimensions, and its two gradients, as three ops that are each other's derivatives.

    y  = convolution(x, w)             input and weight  -> output
    dx = convolution_input(g, w)       output and weight -> input    (the transposed convolution)
    dw = convolution_weight(x, g)      input and output  -> weight

One sum of products x * w * g stands behind all three, so the gradient of any of them is written with the other two,
and second derivatives need nothing new. Layouts are PyTorch's: x (N, C, *size), w (O, C / groups, *kernel).
"""

import itertools
import math
import threading

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import op
from .reduce import sum as sum_
from .winograd import pays, winograd_convolution

SMALL_MAP = 14 * 14          # maps with fewer windows are unrolled together, measured on AVX2 cores
SMALL_BLOCK = 512            # about so many windows at once
KEPT_BYTES = 1 << 24         # scratch memory up to four times this stays allocated between calls

# --- geometry -------------------------------------------------------------------------------------------------------


def spread(value, dims: int, name: str) -> tuple:
    """3 -> (3, 3); (3, 5) stays."""
    values = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(values) != dims:
        raise ArgumentError(f"{name}={value} needs one number, or {dims} numbers")
    return values


def pad_pairs(padding, dims: int, kernel, dilation, size=None, stride=None) -> tuple[tuple[int, int], ...]:
    """Any way to name a padding -> ((before, after), ...) by dimension.

    A number, one number a dimension, pairs, "valid" (none), "same" (as PyTorch: stride 1, output size = input size),
    "same_upper" or "same_lower" (as ONNX: output size = ceil(size / stride); the odd one goes after or before).
    """
    if padding == "valid":
        return ((0, 0),) * dims
    if isinstance(padding, str):
        if padding not in ("same", "same_upper", "same_lower"):
            raise ArgumentError(f"padding {padding!r} is none of 'valid', 'same', 'same_upper', 'same_lower'")
        if padding == "same" and any(s != 1 for s in stride or ()):
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


def output_size(size, kernel, stride, pads, dilation) -> tuple[int, ...]:
    """How many windows fit along each dimension."""
    return tuple((n + b + a - d * (k - 1) - 1) // s + 1
                 for n, k, s, (b, a), d in zip(size, kernel, stride, pads, dilation, strict=True))


def window_slices(kernel, stride, dilation, out):
    """For each place in the kernel: the index that picks, from a padded map, what all windows have at that place."""
    for place in itertools.product(*map(range, kernel)):
        yield (..., *(slice(p * d, p * d + s * (n - 1) + 1, s) if n else slice(0, 0)
                      for p, d, s, n in zip(place, dilation, stride, out, strict=True)))


def pad_map(x, pads, value=0.0):
    """Spatial padding of a numpy map (..., *size); negative pads crop."""
    if not any(b or a for b, a in pads):
        return x
    if any(b < 0 or a < 0 for b, a in pads):
        x = x[(..., *(slice(max(-b, 0), n - max(-a, 0))
                      for n, (b, a) in zip(x.shape[-len(pads):], pads, strict=True)))]
        pads = [(max(b, 0), max(a, 0)) for b, a in pads]
    lead = x.ndim - len(pads)
    y = np.full(x.shape[:lead] + tuple(b + n + a for n, (b, a) in zip(x.shape[lead:], pads, strict=True)), value, x.dtype)
    y[(..., *(slice(b, b + n) for n, (b, _) in zip(x.shape[lead:], pads, strict=True)))] = x
    return y


def crop_map(y, pads, size):
    """The inverse of `pad_map`: the part of y that was not padding (negative pads give zeros back)."""
    if any(b < 0 or a < 0 for b, a in pads):
        y = pad_map(y, [(max(-b, 0), max(-a, 0)) for b, a in pads])
    return y[(..., *(slice(max(b, 0), max(b, 0) + n) for n, (b, _) in zip(size, pads, strict=True)))]

# --- unrolling: each window becomes a column ------------------------------------------------------------------------
#
# The columns of a block of samples form one matrix (values of a window, samples * windows), so that a convolution is one
# matrix product a block. A block is one sample, whose columns stay in the cache, or several where a map has so few
# windows that a product over one of them would be too small to be fast.


def blocks(n: int, windows: int):
    """Slices of the batch: single samples, or about SMALL_BLOCK windows together where the maps are small."""
    step = 1 if windows >= SMALL_MAP else max(1, SMALL_BLOCK // max(windows, 1))
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def _is_pointwise(kernel, stride) -> bool:
    """Whether every window is one value: a 1x1 convolution, whose columns are the map itself."""
    return math.prod(kernel) == 1 and all(s == 1 for s in stride)


def to_columns(x, kernel, stride, pads, dilation, out):
    """A block (n, C, *size) -> (C * values of a window, n * windows)."""
    n, channels = x.shape[:2]
    x = pad_map(x, pads)
    if _is_pointwise(kernel, stride):
        return x.swapaxes(0, 1).reshape(channels, -1)
    columns = _scratch("columns", (channels, math.prod(kernel), n, *out), x.dtype)
    for place, at in enumerate(window_slices(kernel, stride, dilation, out)):
        columns[:, place] = x[at].swapaxes(0, 1)
    return columns.reshape(channels * math.prod(kernel), -1)


def from_columns(columns, n, kernel, stride, pads, dilation, out, size):
    """The adjoint of `to_columns`: each column's values added back to where they came from -> (n, C, *size)."""
    columns = columns.reshape(-1, math.prod(kernel), n, *out)
    if _is_pointwise(kernel, stride):
        return crop_map(columns[:, 0].swapaxes(0, 1), pads, size)
    padded = np.zeros((n, len(columns), *(b + s + a for s, (b, a) in zip(size, pads, strict=True))), columns.dtype)
    for place, at in enumerate(window_slices(kernel, stride, dilation, out)):
        padded[at] += columns[:, place].swapaxes(0, 1)
    return crop_map(padded, pads, size)


def _side_by_side(maps, groups: int):
    """A block of maps (n, C, *out) -> (groups, C / groups, n * windows)."""
    return maps.swapaxes(0, 1).reshape(groups, maps.shape[1] // groups, -1)


_memory = threading.local()


def _scratch(name: str, shape, dtype):
    """Memory for intermediate values that is used again in the next call: fresh pages cost as much as the copy itself."""
    size = math.prod(shape) * dtype.itemsize
    held = getattr(_memory, name, None)
    if held is None or held.size < size or held.size > 4 * max(size, KEPT_BYTES):
        held = np.empty(size, np.uint8)
        setattr(_memory, name, held)
    return held[:size].view(dtype).reshape(shape)

# --- the three ops --------------------------------------------------------------------------------------------------


@op(onnx="Conv")
def convolution(x, weight, bias=None, *, stride, pads, dilation, groups):
    """Sum over channels and kernel places of x * weight.  x (N, C, *size), weight (O, C / groups, *kernel), bias (O)."""
    _check(x.shape, weight.shape, groups, bias)
    n, outputs, kernel = x.shape[0], weight.shape[0], weight.shape[2:]
    out = output_size(x.shape[2:], kernel, stride, pads, dilation)
    if min(out, default=1) < 0 or (min(out, default=1) < 1 and min(x.shape[2:], default=1) > 0):
        raise ShapeError(f"convolution: a kernel of {kernel} with dilation {dilation} does not fit into an input of "
                         f"{x.shape[2:]} padded by {pads}")
    if pays(x, weight, stride, pads, dilation, groups, out):
        y = winograd_convolution(x, weight, pads, out)
    else:
        rows = weight.reshape(groups, outputs // groups, -1)
        y = np.empty((n, outputs, *out), x.dtype)
        for block in blocks(n, math.prod(out)):
            columns = to_columns(x[block], kernel, stride, pads, dilation, out).reshape(groups, rows.shape[2], -1)
            if block.stop - block.start == 1:                  # the product lies in y as it is
                np.matmul(rows, columns, out=y[block].reshape(groups, rows.shape[1], -1))
            else:
                product = np.matmul(rows, columns)
                y[block] = product.reshape(outputs, block.stop - block.start, *out).swapaxes(0, 1)
    if bias is not None:
        y += bias.reshape(-1, *(1,) * len(kernel))
    return y


@op(onnx=None)
def convolution_input(g, weight, *, size, stride, pads, dilation, groups):
    """The map of `size` whose convolution has gradient g: each output value spread over its window.

    g (N, O, *out), weight (O, C / groups, *kernel) -> (N, C, *size).
    """
    n, outputs, kernel, out = g.shape[0], weight.shape[0], weight.shape[2:], g.shape[2:]
    rows = weight.reshape(groups, outputs // groups, -1).swapaxes(1, 2)
    x = np.empty((n, weight.shape[1] * groups, *size), g.dtype)
    for block in blocks(n, math.prod(out)):
        part = _side_by_side(g[block], groups)
        columns = _scratch("columns", (groups, rows.shape[1], part.shape[2]), g.dtype)
        np.matmul(rows, part, out=columns)
        x[block] = from_columns(columns, block.stop - block.start, kernel, stride, pads, dilation, out, size)
    return x


@op(onnx=None)
def convolution_weight(x, g, *, kernel, stride, pads, dilation, groups):
    """The gradient of the weight: x's windows times g, summed over samples and places.

    x (N, C, *size), g (N, O, *out) -> (O, C / groups, *kernel).
    """
    channels, outputs, out = x.shape[1], g.shape[1], g.shape[2:]
    total = np.zeros((groups, outputs // groups, channels // groups * math.prod(kernel)), x.dtype)
    for block in blocks(x.shape[0], math.prod(out)):
        columns = to_columns(x[block], kernel, stride, pads, dilation, out).reshape(groups, total.shape[2], -1)
        total += np.matmul(_side_by_side(g[block], groups), columns.swapaxes(1, 2))
    return total.reshape(outputs, channels // groups, *kernel)


@convolution.gradient
def _(g, _y, x, weight, bias=None, **geometry):
    channels = (0, *range(2, g.ndim))
    return (lambda: convolution_input(g, weight, size=x.shape[2:], **geometry),
            lambda: convolution_weight(x, g, kernel=weight.shape[2:], **geometry),
            lambda: sum_(g, axis=channels))


@convolution_input.gradient
def _(dx, _y, g, weight, size, **geometry):
    return (lambda: convolution(dx, weight, **geometry),
            lambda: convolution_weight(dx, g, kernel=weight.shape[2:], **geometry))


@convolution_weight.gradient
def _(dw, _y, x, g, kernel, **geometry):
    return (lambda: convolution_input(g, dw, size=x.shape[2:], **geometry),
            lambda: convolution(x, dw, **geometry))


def _check(x, weight, groups, bias) -> None:
    if len(x) != len(weight):
        raise ShapeError(f"convolution: input {x} and weight {weight} need the same number of axes: "
                         "(N, C, *size) and (O, C / groups, *kernel)")
    if x[1] != weight[1] * groups or weight[0] % groups:
        raise ShapeError(f"convolution: input {x} has {x[1]} channels; weight {weight} with groups={groups} takes "
                         f"{weight[1] * groups} and needs outputs divisible by groups")
    if bias is not None and bias.shape != (weight[0],):
        raise ShapeError(f"convolution: bias has shape {bias.shape}, expected ({weight[0]},)")

# --- the functions that people call ---------------------------------------------------------------------------------


def conv(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolution (cross-correlation, as everywhere in deep learning) in as many dimensions as weight has.

    x (N, C, *size) or (C, *size), weight (O, C / groups, *kernel), bias (O) -> (N, O, *out).
    padding: see `pad_pairs`.  torch.nn.functional.conv1d/2d/3d, ONNX Conv.
    """
    dims = weight.ndim - 2
    if x.ndim == dims + 1:
        return conv(x.reshape(1, *x.shape), weight, bias, stride, padding, dilation, groups)[0]
    if x.ndim != dims + 2:
        raise ShapeError(f"conv: input {x.shape} does not fit weight {weight.shape}; expected (N, C, "
                         f"{', '.join('DHW'[-dims:])})")
    stride, dilation = spread(stride, dims, "stride"), spread(dilation, dims, "dilation")
    pads = pad_pairs(padding, dims, weight.shape[2:], dilation, x.shape[2:], stride)
    return convolution(x, weight, bias, stride=stride, pads=pads, dilation=dilation, groups=groups)


conv1d = conv2d = conv3d = conv


def conv_transpose(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution: the input gradient of a convolution, used forward.

    x (N, C, *size), weight (C, O / groups, *kernel), bias (O) -> (N, O, *out), out = (size - 1) stride + reach + 1 -
    padding + output_padding.  torch.nn.functional.conv_transpose1d/2d/3d, ONNX ConvTranspose.
    """
    dims = weight.ndim - 2
    if x.ndim == dims + 1:
        return conv_transpose(x.reshape(1, *x.shape), weight, bias, stride, padding, output_padding, groups, dilation)[0]
    stride, dilation = spread(stride, dims, "stride"), spread(dilation, dims, "dilation")
    extra = spread(output_padding, dims, "output_padding")
    if x.ndim != dims + 2 or x.shape[1] != weight.shape[0]:
        raise ShapeError(f"conv_transpose: input {x.shape} does not fit weight {weight.shape}; expected "
                         f"(N, {weight.shape[0]}, {', '.join('DHW'[-dims:])})")
    pads = pad_pairs(padding, dims, weight.shape[2:], dilation)
    size = tuple((n - 1) * s + d * (k - 1) + 1 - b - a + e for n, s, d, k, (b, a), e
                 in zip(x.shape[2:], stride, dilation, weight.shape[2:], pads, extra, strict=True))
    pads = tuple((b, a - e) for (b, a), e in zip(pads, extra, strict=True))
    y = convolution_input(x, weight, size=size, stride=stride, pads=pads, dilation=dilation, groups=groups)
    return y if bias is None else y + bias.reshape(-1, *(1,) * dims)


conv_transpose1d = conv_transpose2d = conv_transpose3d = conv_transpose
