"""The discrete Fourier transform.  Complex numbers are a last axis of length 2: real part, imaginary part."""

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array
from ..errors import ShapeError


@op(promote="float", onnx="DFT")
def fourier(x: Array, *, axis: int, inverse: bool = False) -> Array:
    """sum over n of x[n] exp(-2 pi i k n / N) along axis; inverse: exp(+...) / N.  x (..., 2).  torch.fft.fft, ifft."""
    if x.ndim < 2 or x.shape[-1] != 2:
        raise ShapeError(f"fourier: complex numbers as (..., 2) are needed, got {x.shape}")
    transform = np.fft.ifft if inverse else np.fft.fft
    z = transform(x[..., 0] + 1j * x[..., 1], axis=axis % x.ndim)
    return np.stack([z.real, z.imag], -1).astype(x.dtype, copy=False)


@fourier.gradient
def fourier_gradient(g: Tensor, x: Tensor, axis: int, inverse: bool) -> Tensor:
    # The matrix is symmetric, so its adjoint is its conjugate: the other direction, without (or with) the division by N.
    n = x.shape[axis % x.ndim]
    return fourier(g, axis=axis, inverse=not inverse) * (1.0 / n if inverse else float(n))
