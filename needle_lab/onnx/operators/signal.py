"""ONNX operators of signal processing: Fourier transforms and the mel scale.  Complex numbers are a last axis of 2."""

# ruff: noqa: N802    functions are named after ONNX operators

import numpy as np

from ... import Tensor, ops
from ..limits import limits
from ..values import numpy_dtype
from .table import scalar, since, writes


def dft(x, length: int | None, axis: int, inverse: bool, onesided: bool):
    """The transform of real (..., 1) or complex (..., 2) signals along an axis, cut or padded to `length`."""
    axis %= x.ndim
    n = x.shape[axis] if length is None else length
    if onesided and inverse and length is None:
        n = 2 * (x.shape[axis] - 1)

    def part(t, start, end):
        return t[(slice(None),) * axis + (slice(start, end),)]
    limits.check_shape("DFT", [*x.shape[:axis], n, *x.shape[axis + 1:]], np.complex128)
    if onesided and inverse:                                   # the other half is the conjugate mirror image
        half = part(x, 0, n // 2 + 1)
        mirror = ops.flip(part(half, 1, (n + 1) // 2), axis=axis)
        x = ops.concat([half, mirror * np.array([1, -1], x.dtype)], axis)
    elif n < x.shape[axis]:
        x = part(x, 0, n)
    elif n > x.shape[axis]:
        x = ops.pad(x, [(0, n - x.shape[axis]) if i == axis else (0, 0) for i in range(x.ndim)])
    x = ops.concat([x, ops.zeros_like(x)], -1) if x.shape[-1] == 1 else x
    y = ops.fourier(x, axis=axis, inverse=inverse)
    if onesided:
        y = y[..., :1] if inverse else part(y, 0, n // 2 + 1)
    return y


@since(20)
def DFT(x, dft_length=None, axis=None, *, inverse=0, onesided=0):
    return dft(x, None if dft_length is None else int(scalar(dft_length)), -2 if axis is None else int(scalar(axis)),
               bool(inverse), bool(onesided))


@since(17)
def DFT_17(x, dft_length=None, *, axis=1, inverse=0, onesided=0):
    return dft(x, None if dft_length is None else int(scalar(dft_length)), axis, bool(inverse), bool(onesided))


@since(17)
def STFT(signal, frame_step, window=None, frame_length=None, *, onesided=1):
    """Transforms of overlapping, windowed frames: (N, L, 1 or 2) -> (N, frames, bins, 2)."""
    step = int(scalar(frame_step))
    length = int(scalar(frame_length)) if frame_length is not None else window.shape[0]
    starts = np.arange(0, signal.shape[1] - length + 1, step)
    frames = ops.index_select(signal, starts[:, None] + np.arange(length), axis=1)         # (N, frames, length, 1 or 2)
    frames = frames if window is None else frames * window.reshape(-1, 1)
    return dft(frames, None, 2, False, bool(onesided))


def _cosine_window(coefficients, size, output_datatype, periodic):
    """a0 - a1 cos(t) + a2 cos(2 t), t from 0 to 2 pi over the window; periodic leaves the last point out."""
    n, = limits.check_shape("window", [scalar(size)], np.float64)
    t = 2 * np.pi * np.arange(n) / (n if periodic else n - 1)
    values = sum((-1) ** k * a * np.cos(k * t) for k, a in enumerate(coefficients))
    return Tensor(values.astype(numpy_dtype(output_datatype)))


@since(17)
def HannWindow(size, *, output_datatype=1, periodic=1):
    return _cosine_window((0.5, 0.5), size, output_datatype, periodic)


@since(17)
def HammingWindow(size, *, output_datatype=1, periodic=1):
    return _cosine_window((25 / 46, 21 / 46), size, output_datatype, periodic)


@since(17)
def BlackmanWindow(size, *, output_datatype=1, periodic=1):
    return _cosine_window((0.42, 0.5, 0.08), size, output_datatype, periodic)


@since(17)
def MelWeightMatrix(num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz, *, output_datatype=1):
    """Triangles that are equally wide on the mel scale: (dft_length // 2 + 1, num_mel_bins)."""
    limits.check_shape("MelWeightMatrix", [scalar(dft_length), scalar(num_mel_bins)], np.float64)
    bins, length, rate = int(scalar(num_mel_bins)), int(scalar(dft_length)), int(scalar(sample_rate))

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)
    low, high = mel(float(scalar(lower_edge_hertz))), mel(float(scalar(upper_edge_hertz)))
    edges = 700 * (10 ** ((np.arange(bins + 2) * ((high - low) / (bins + 2)) + low) / 2595) - 1)
    places = ((length + 1) * edges // rate).astype(int)
    matrix = np.zeros((length // 2 + 1, bins))
    for i in range(bins):
        left, center, right = places[i:i + 3]
        if left == center:
            matrix[center, i] = 1
        else:
            matrix[left:center + 1, i] = (np.arange(left, center + 1) - left) / (center - left)
        if right > center:
            matrix[center:right, i] = (right - np.arange(center, right)) / (right - center)
    return Tensor(matrix.astype(numpy_dtype(output_datatype)))

# --- written --------------------------------------------------------------------------------------------------------------


@writes("fourier")
def _fourier(w, x, *, axis, inverse=False):
    axis = axis % x.ndim
    if w.opset < 20:
        return w.DFT(x, axis=axis, inverse=int(inverse))
    return w.DFT(x, "", w.constant(np.array(axis, np.int64)), inverse=int(inverse))
