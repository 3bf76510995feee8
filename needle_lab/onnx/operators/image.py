"""ONNX operators on images: resizing, sampling, regions.

Resizing along an axis is a matrix: each output place is a weighted sum of input places. Written so, every mode is
differentiable and needs no code of its own for gradients.
"""

# ruff: noqa: N802    functions are named after ONNX operators

import math

import numpy as np

from ... import Tensor, ops
from ...errors import ArgumentError, UnsupportedOnnxError
from ...ops.image import fold, grid_sample, hat, resize_weights, values_at
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


def resize_matrix(n_in: int, n_out: int, scale: float, exact: float, *, mode: str, coordinates: str, rounding: str,
                  cubic_a: float, exclude_outside: bool, antialias: bool, roi) -> tuple[np.ndarray, np.ndarray]:
    """-> (n_out, n_in) weights, and which outputs lie outside of the input (tf_crop_and_resize)."""
    x = _source(np.arange(n_out, dtype=np.float64), scale, n_in, n_out, exact, coordinates, roi)
    matrix, rows = np.zeros((n_out, n_in)), np.arange(n_out)
    out = (x < 0) | (x > n_in - 1) if coordinates == "tf_crop_and_resize" else np.zeros(n_out, bool)
    if mode == "nearest":
        matrix[rows, np.clip(_nearest(x, rounding), 0, n_in - 1).astype(int)] = 1
        return matrix, out
    shrink = min(scale, 1.0) if antialias else 1.0            # a wider kernel when the image gets smaller
    return resize_weights(x, n_in, mode, cubic_a, shrink, exclude_outside), out


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


@since(16)
def GridSample(x, grid, *, align_corners=0, mode="linear", padding_mode="zeros"):
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return grid_sample(x, grid, mode, padding_mode, bool(align_corners))


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
    size, kernel = ints(image_shape), ints(block_shape)
    dims = len(size)
    limits.check_shape("Col2Im", [*columns.shape[:2], *size], columns.dtype)
    limits.check_shape("Col2Im", [math.prod(kernel), math.prod(kernel)], columns.dtype)
    pads = pads or [0] * 2 * dims
    pairs = tuple((pads[i], pads[i + dims]) for i in range(dims))
    return fold(columns, size, kernel, tuple(dilations or (1,) * dims), pairs, tuple(strides or (1,) * dims))


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
            factor = hat(ys - row.astype(x.dtype), i) * hat(xs - column.astype(x.dtype), j)
            part = values_at(x, [row.astype(np.int64), column.astype(np.int64)], "zeros") * ops.unsqueeze(factor, 1)
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
