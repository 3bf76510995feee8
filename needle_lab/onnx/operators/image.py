"""ONNX operators on images: resizing, sampling, regions.

Resizing along an axis is a matrix: each output place is a weighted sum of input places. Written so, every mode is
differentiable and needs no code of its own for gradients.
"""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from ...errors import ArgumentError, UnsupportedOnnxError
from ...ops.convolutions import convolution_input
from ...ops.windows import output_size
from ..limits import limits
from .table import ints, since

# --- resize -----------------------------------------------------------------------------------------------------------


def _source(places: np.ndarray, scale: float, n_in: int, n_out: int, n_exact: float, mode: str, roi) -> np.ndarray:
    """Where in the input the output places lie (coordinate_transformation_mode)."""
    if mode == "asymmetric":
        return places / scale
    if mode == "align_corners":
        return places * (n_in - 1) / (n_exact - 1) if n_exact > 1 else np.zeros_like(places)
    if mode == "pytorch_half_pixel":
        return (places + 0.5) / scale - 0.5 if n_exact > 1 else np.zeros_like(places)
    if mode == "tf_crop_and_resize":
        start, end = roi
        if n_out > 1:
            return start * (n_in - 1) + places * (end - start) * (n_in - 1) / (n_out - 1)
        return np.full_like(places, 0.5 * (start + end) * (n_in - 1))
    if mode == "half_pixel_symmetric":
        adjustment = n_out / n_exact
        return n_in / 2 * (1 - adjustment) + (places + 0.5) / scale - 0.5
    if mode == "tf_half_pixel_for_nn":
        return (places + 0.5) / scale
    return (places + 0.5) / scale - 0.5                       # half_pixel


def _nearest(x: np.ndarray, rounding: str) -> np.ndarray:
    if rounding == "floor":
        return np.floor(x)
    if rounding == "ceil":
        return np.ceil(x)
    if rounding == "round_prefer_ceil":
        return np.floor(x + 0.5)
    return np.ceil(x - 0.5)                                   # round_prefer_floor


def _kernel(mode: str, a: float):
    """The weight of an input place at a distance, and how far it reaches."""
    def linear(d):
        return np.maximum(1 - np.abs(d), 0)

    def cubic(d):                                             # Keys, 1981
        d = np.abs(d)
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))
    return (linear, 1) if mode == "linear" else (cubic, 2)


def resize_matrix(n_in: int, n_out: int, scale: float, exact: float, *, mode: str, coordinates: str, rounding: str,
                  cubic_a: float, exclude_outside: bool, antialias: bool, roi) -> tuple[np.ndarray, np.ndarray]:
    """-> (n_out, n_in) weights, and which outputs lie outside of the input (tf_crop_and_resize)."""
    x = _source(np.arange(n_out, dtype=np.float64), scale, n_in, n_out, exact, coordinates, roi)
    matrix, rows = np.zeros((n_out, n_in)), np.arange(n_out)
    out = (x < 0) | (x > n_in - 1) if coordinates == "tf_crop_and_resize" else np.zeros(n_out, bool)
    if mode == "nearest":
        matrix[rows, np.clip(_nearest(x, rounding), 0, n_in - 1).astype(int)] = 1
        return matrix, out
    weight, reach = _kernel(mode, cubic_a)
    shrink = min(scale, 1.0) if antialias else 1.0            # a wider kernel when the image gets smaller
    reach = math.ceil(reach / shrink)
    for offset in range(-reach, reach + 1):
        place = np.floor(x) + offset
        w = weight((x - place) * shrink)
        inside = (place >= 0) & (place < n_in)
        w = np.where(inside, w, 0) if exclude_outside else w
        np.add.at(matrix, (rows, np.clip(place, 0, n_in - 1).astype(int)), w)
    if exclude_outside or antialias:
        matrix /= matrix.sum(1, keepdims=True)
    return matrix, out


@since(11, rank="first", numbers=1)
def Resize(x, roi=None, scales=None, sizes=None, *, antialias=0, axes=None, coordinate_transformation_mode="half_pixel",
           cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0, keep_aspect_ratio_policy="stretch",
           mode="nearest", nearest_mode="round_prefer_floor"):
    axes = [a % x.ndim for a in axes] if axes else list(range(x.ndim))
    lengths = [x.shape[a] for a in axes]
    if scales is not None and scales.numel():
        factors = [float(s) for s in scales.numpy()]
        outs = [math.floor(n * s) for n, s in zip(lengths, factors, strict=True)]
        exacts = [n * s for n, s in zip(lengths, factors, strict=True)]
    else:
        outs = list(ints(sizes))
        factors = [o / n for o, n in zip(outs, lengths, strict=True)]
        if keep_aspect_ratio_policy != "stretch":
            common = min(factors) if keep_aspect_ratio_policy == "not_larger" else max(factors)
            outs, factors = [math.floor(n * common + 0.5) for n in lengths], [common] * len(axes)
        exacts = list(map(float, outs))
    lengths_out = dict(zip(axes, outs, strict=True))
    limits.check_shape("Resize", [lengths_out.get(a, n) for a, n in enumerate(x.shape)], x.dtype)
    for n, out in zip(lengths, outs, strict=True):             # the matrix along an axis
        limits.check_shape("Resize", [n, out], np.float64)
    edges = [0.0] * len(axes) + [1.0] * len(axes) if roi is None or not roi.numel() else roi.numpy().tolist()
    y, outside = x, None
    for i, axis in enumerate(axes):
        if outs[i] == lengths[i] and factors[i] == 1 and coordinate_transformation_mode != "tf_crop_and_resize":
            continue
        matrix, out = resize_matrix(
            lengths[i], outs[i], factors[i], exacts[i], mode=mode, coordinates=coordinate_transformation_mode,
            rounding=nearest_mode, cubic_a=cubic_coeff_a, exclude_outside=bool(exclude_outside), antialias=bool(antialias),
            roi=(edges[i], edges[i + len(axes)]))
        if mode == "nearest":                                  # exact for every dtype: a selection
            y = ops.index_select(y, matrix.argmax(1), axis=axis)
        else:
            y = (y.transpose(axis, -1) @ matrix.T.astype(y.dtype)).transpose(axis, -1)
        place = out.reshape(-1, *(1,) * (x.ndim - 1 - axis))
        outside = place if outside is None else outside | place
    return y if outside is None or not outside.any() else ops.where(outside, extrapolation_value, y)


@since(10)
def Resize_10(x, scales, *, mode="nearest"):
    return Resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@since(7, rank="first", numbers=1)
def Upsample(x, scales=None, *, mode="nearest"):
    scales = scales if isinstance(scales, Tensor) else Tensor(np.asarray(scales, np.float32))
    return Resize_10(x, scales, mode=mode)

# --- sampling at places -----------------------------------------------------------------------------------------------


def _reflect(x, low, high):
    """x folded back into [low, high]."""
    span = high - low
    if span == 0:
        return x * 0.0 + low
    distance = ops.remainder(x - low, 2 * span)
    return low + ops.minimum(distance, 2 * span - distance)


def _pick(x, places, padding: str):
    """Values of x (N, C, *size) at integer places, one (N, P) array a dimension -> (N, C, P); 0 outside for "zeros"."""
    n, c, *size = x.shape
    inside = np.ones(places[0].shape, bool)
    flat = np.zeros(places[0].shape, np.int64)
    for place, length in zip(places, size, strict=True):
        inside &= (place >= 0) & (place < length)
        flat = flat * length + np.clip(place, 0, length - 1)
    index = np.broadcast_to(flat[:, None], (n, c, flat.shape[1]))
    values = ops.take_along_axis(x.reshape(n, c, -1), index, axis=2)
    return values * inside[:, None].astype(x.dtype) if padding == "zeros" else values


@since(16)
def GridSample(x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    """x (N, C, *size) at the places of grid (N, *out, dims), from -1 to 1, last dimension first.  torch grid_sample."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    n, dims, out = x.shape[0], grid.shape[-1], grid.shape[1:-1]
    flat = grid.reshape(n, -1, dims)
    coordinates = []
    for d, length in enumerate(x.shape[2:]):
        g = flat[:, :, dims - 1 - d]
        place = (g + 1.0) * ((length - 1) / 2) if align_corners else ((g + 1.0) * length - 1.0) * 0.5
        coordinates.append(place)

    def bordered(place, length):
        if padding_mode == "border":
            return ops.clip(place, 0.0, float(length - 1))
        if padding_mode == "reflection":
            low, high = (0.0, float(length - 1)) if align_corners else (-0.5, length - 0.5)
            return ops.clip(_reflect(place, low, high), 0.0, float(length - 1))
        return place
    if mode == "nearest":
        places = [np.rint(bordered(p, m).numpy()).astype(np.int64) for p, m in zip(coordinates, x.shape[2:], strict=True)]
        return _pick(x, places, padding_mode).reshape(n, x.shape[1], *out)
    if mode == "linear":
        coordinates = [bordered(p, m) for p, m in zip(coordinates, x.shape[2:], strict=True)]
    weight, reach = _offsets(mode)
    total = None
    for offsets in np.ndindex(*(len(reach),) * dims):
        places, factor = [], None
        for k, place, length in zip(offsets, coordinates, x.shape[2:], strict=True):
            at = np.floor(place.numpy()) + reach[k]
            w = weight(place - at, reach[k])
            factor = w if factor is None else factor * w
            whole = bordered(Tensor(at), length).numpy() if mode == "cubic" else at
            places.append(np.rint(whole).astype(np.int64))
        part = _pick(x, places, padding_mode) * ops.unsqueeze(factor, 1)
        total = part if total is None else total + part
    return total.reshape(n, x.shape[1], *out)


def _offsets(mode: str):
    """-> (weight as a function of the distance and the offset, offsets from the floor of the places that take part)."""
    if mode == "linear":
        return _hat, (0, 1)
    a = -0.75

    def cubic(d, _offset):
        d = ops.abs(d)
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1.0, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return ops.where(d <= 1.0, near, far)
    return cubic, (-1, 0, 1, 2)


def _hat(distance, offset: int):
    """1 - |distance| from the place below (offset 0) or above (1); on a place, its slope is that of the cell above it."""
    return 1.0 + distance if offset else 1.0 - distance


@since(10, family="pool")
def RoiAlign(x, rois, batch_indices, *, mode="avg", output_height=1, output_width=1, sampling_ratio=0, spatial_scale=1.0,
             coordinate_transformation_mode="half_pixel"):
    """Each region of x, cut into output_height by output_width cells, each the mean (or maximum) of bilinear samples."""
    shift = 0.5 if coordinate_transformation_mode == "half_pixel" else 0.0
    limits.check_shape("RoiAlign", [len(rois), x.shape[1], output_height, output_width], x.dtype)
    results = []
    for i, sample in enumerate(batch_indices.numpy().tolist()):
        x1, y1, x2, y2 = ops.unbind(rois[i] * spatial_scale - shift)
        width, height = x2 - x1, y2 - y1
        if not shift:
            width, height = ops.maximum(width, 1.0), ops.maximum(height, 1.0)
        per_h = sampling_ratio or max(math.ceil(height.item() / output_height), 0)
        per_w = sampling_ratio or max(math.ceil(width.item() / output_width), 0)
        limits.check_shape("RoiAlign", [output_height * per_h, max(x.shape[2], output_width * per_w)], np.float64)
        limits.check_shape("RoiAlign", [output_width * per_w, x.shape[3]], np.float64)
        ys = y1 + height * _centers(output_height * per_h, x.dtype)
        xs = x1 + width * _centers(output_width * per_w, x.dtype)
        rows, columns = _bilinear_rows(ys, x.shape[2]), _bilinear_rows(xs, x.shape[3])
        if mode == "avg":
            part = rows @ x[sample] @ columns.T
            cells = part.reshape(x.shape[1], output_height, per_h, output_width, per_w)
            results.append(ops.mean(cells, axis=(2, 4)))
        else:                                                  # ONNX takes the maximum of the four weighted corners too
            results.append(_corner_maximum(x[sample], rows, columns, output_height, per_h, output_width, per_w))
    return ops.stack(results)


def _centers(count: int, dtype) -> np.ndarray:
    """The centers of count cells of equal width in [0, 1]."""
    return ((np.arange(count) + 0.5) / max(count, 1)).astype(dtype)


def _bilinear_rows(places, n: int):
    """(places, n) weights of linear interpolation; places more than 1 outside weigh nothing."""
    inside = (places.numpy() >= -1) & (places.numpy() <= n)
    near = ops.clip(places, 0.0, float(n - 1))
    low = np.floor(near.numpy())
    share = ops.unsqueeze(near - low, 1)                       # of the place above
    below, above = ((np.minimum(p, n - 1)[:, None] == np.arange(n)) & inside[:, None] for p in (low, low + 1))
    return below.astype(places.dtype) * (1.0 - share) + above.astype(places.dtype) * share


def _corner_maximum(x, rows, columns, out_h, per_h, out_w, per_w):
    weighted = ops.unsqueeze(ops.unsqueeze(x, 1), 1) * (rows[:, None, :, None] * columns[None, :, None, :])
    best = ops.max(weighted, axis=(3, 4))
    return ops.max(best.reshape(x.shape[0], out_h, per_h, out_w, per_w), axis=(2, 4))


@since(10)
def NonMaxSuppression(boxes, scores, max_output_boxes_per_class=None, iou_threshold=None, score_threshold=None, *,
                      center_point_box=0):
    """Rows (batch, class, box) of the boxes that stay when the best one suppresses those that overlap it."""
    most = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.item())
    overlap = 0.0 if iou_threshold is None else float(iou_threshold.item())
    least = -np.inf if score_threshold is None else float(score_threshold.item())
    corners, values = boxes.numpy().astype(np.float64), scores.numpy()
    if center_point_box:
        center, size = corners[..., :2], corners[..., 2:]
        corners = np.concatenate([center - size / 2, center + size / 2], -1)
    low = np.minimum(corners[..., :2], corners[..., 2:])
    high = np.maximum(corners[..., :2], corners[..., 2:])
    area = (high - low).prod(-1)
    chosen = []
    for b in range(values.shape[0]):
        for c in range(values.shape[1]):
            kept: list[int] = []
            for i in np.argsort(-values[b, c], kind="stable"):
                if len(kept) >= most or values[b, c, i] <= least:
                    break
                common = np.maximum(np.minimum(high[b, i], high[b, kept]) - np.maximum(low[b, i], low[b, kept]), 0).prod(-1)
                if not (common / (area[b, i] + area[b, kept] - common) > overlap).any():
                    kept.append(int(i))
            chosen += [(b, c, i) for i in kept]
    return Tensor(np.array(chosen, np.int64).reshape(-1, 3))


@since(18)
def Col2Im(columns, image_shape, block_shape, *, dilations=None, pads=None, strides=None):
    """Columns (N, C * block, L) added back into images (N, C, *image_shape).  torch.nn.functional.fold."""
    size, kernel = ints(image_shape), ints(block_shape)
    dims = len(size)
    limits.check_shape("Col2Im", [*columns.shape[:2], *size], columns.dtype)
    limits.check_shape("Col2Im", [math.prod(kernel), math.prod(kernel)], columns.dtype)
    pads = pads or [0] * 2 * dims
    n, rows, _ = columns.shape
    channels = rows // math.prod(kernel)
    # A transposed convolution whose weight picks one place of the block from each row of a channel.
    weight = np.eye(math.prod(kernel), dtype=columns.dtype).reshape(-1, 1, *kernel)
    stride, dilation = tuple(strides or (1,) * dims), tuple(dilations or (1,) * dims)
    pairs = tuple((pads[i], pads[i + dims]) for i in range(dims))
    out = output_size(size, kernel, stride, pairs, dilation)
    maps = columns.reshape(n * channels, math.prod(kernel), *out)
    image = convolution_input(maps, Tensor(weight), size=size, stride=stride, pads=pairs, dilation=dilation, groups=1)
    return image.reshape(n, channels, *size)


@since(19, family="linear")
def DeformConv(x, weight, offset, bias=None, mask=None, *, dilations=None, group=1, kernel_shape=None, offset_group=1,
               pads=None, strides=None):
    """Convolution that reads each kernel place shifted by a learned offset (Dai et al., 2017)."""
    if x.ndim != 4:
        raise UnsupportedOnnxError("DeformConv: images (N, C, H, W) are supported")
    n, c, h, w = x.shape
    kh, kw = weight.shape[2:]
    (sh, sw), (dh, dw), (top, left) = strides or (1, 1), dilations or (1, 1), (pads or [0, 0, 0, 0])[:2]
    oh, ow = offset.shape[2:]
    shifts = offset.reshape(n, offset_group, kh * kw, 2, oh * ow)
    columns = []
    for g in range(offset_group):
        part = x[:, g * c // offset_group:(g + 1) * c // offset_group]
        rows = []
        for k, (i, j) in enumerate(np.ndindex(kh, kw)):
            ys = np.repeat(np.arange(oh) * sh - top + i * dh, ow).astype(x.dtype)
            xs = np.tile(np.arange(ow) * sw - left + j * dw, oh).astype(x.dtype)
            values = _bilinear_at(part, shifts[:, g, k, 0] + ys, shifts[:, g, k, 1] + xs)
            if mask is not None:
                values = values * mask.reshape(n, offset_group, kh * kw, 1, oh * ow)[:, g, k]
            rows.append(values)
        columns.append(ops.stack(rows, 2))                     # (n, channels of the group, kernel places, oh * ow)
    unrolled = ops.concat(columns, 1).reshape(n, group, -1, oh * ow)
    y = weight.reshape(group, weight.shape[0] // group, -1) @ unrolled
    y = y.reshape(n, weight.shape[0], oh, ow)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _bilinear_at(x, ys, xs):
    """x (N, C, H, W) at places (N, P), zeros outside; differentiable in x and in the places."""
    total = None
    for i in (0, 1):
        for j in (0, 1):
            row, column = np.floor(ys.numpy()) + i, np.floor(xs.numpy()) + j
            factor = _hat(ys - row.astype(x.dtype), i) * _hat(xs - column.astype(x.dtype), j)
            part = _pick(x, [row.astype(np.int64), column.astype(np.int64)], "zeros") * ops.unsqueeze(factor, 1)
            total = part if total is None else total + part
    return total


@since(20)
def ImageDecoder(encoded, *, pixel_format="RGB"):
    """The pixels (H, W, C) of a file in memory, uint8; needs the package Pillow."""
    import io

    from ...errors import MissingExtraError
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("ImageDecoder needs Pillow: pip install pillow") from error
    try:
        image = Image.open(io.BytesIO(encoded.numpy().tobytes()))
        limits.check_shape("ImageDecoder", [*image.size, 3], np.uint8)
        pixels = np.array(image.convert("L" if pixel_format == "Grayscale" else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:       # what Pillow says of a damaged file
        raise ArgumentError(f"ImageDecoder: the bytes are no image: {error}") from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return Tensor(np.ascontiguousarray(pixels[..., ::-1] if pixel_format == "BGR" else pixels))
