"""Winograd's convolution F(4x4, 3x3): 4x4 outputs of a 3x3 kernel from 36 multiplications instead of 144.

A tile of 6x6 inputs, a kernel of 3x3 and a tile of 4x4 outputs are each brought into a space of 36 numbers, where the
convolution is a plain product (Winograd, 1980; Lavin and Gray, 2015):

    Y = A^T [ (G g G^T) * (B^T d B) ] A

Summed over channels, the products become 36 matrix products; the transforms are matrix products too, with the Kronecker
squares of B, G and A. The price is accuracy: adding and subtracting multiples up to 8 costs a digit against the direct
sum (errors of 1e-5 of the largest output, not 6e-7), so it is off unless asked for: `with ndl.winograd(): ...`.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.lib.stride_tricks import as_strided

TILE, PATCH = 4, 6                       # outputs and inputs of a tile along one side: 4 + 3 - 1

_B = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
               [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
               [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]])
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
INPUT, KERNEL, OUTPUT = (np.kron(m, m).astype(np.float32) for m in (_B, _G, _A))       # (36, 36), (36, 9), (16, 36)

LEAST_CHANNELS = 32                      # below, the transforms cost more than the products save (measured)
LEAST_TILES = 48                         # tiles of a batch that pay for transforming the weights (measured)
BLOCK_VALUES = 1_500_000                 # numbers in the 36 matrices of a block of samples: 6 MB


class _Switch(threading.local):
    enabled = False


_switch = _Switch()


class winograd:
    """Allow Winograd's convolution: `with ndl.winograd(): ...`; or for good: `ndl.winograd()`, `ndl.winograd(False)`."""

    def __init__(self, enabled: bool = True):
        self.before, _switch.enabled = _switch.enabled, bool(enabled)

    def __enter__(self) -> winograd:
        return self

    def __exit__(self, *exc) -> None:
        _switch.enabled = self.before


def pays(x, weight, stride, pads, dilation, groups, out) -> bool:
    """Whether a convolution can be and should be computed this way."""
    return (_switch.enabled and x.dtype == np.float32 == weight.dtype and weight.shape[2:] == (3, 3)
            and stride == (1, 1) == dilation and groups == 1 and min(weight.shape[:2]) >= LEAST_CHANNELS
            and all(p >= 0 for pair in pads for p in pair)
            and x.shape[0] * -(-out[0] // TILE) * -(-out[1] // TILE) >= LEAST_TILES)


def winograd_convolution(x: np.ndarray, weight: np.ndarray, pads, out) -> np.ndarray:
    """The convolution of x (N, C, H, W) with weight (O, C, 3, 3), stride 1, padded by pads -> (N, O, *out)."""
    n, channels, height, width = x.shape
    outputs, (down, across) = weight.shape[0], (-(-size // TILE) for size in out)
    (top, _), (left, _) = pads
    kernels = (KERNEL @ np.ascontiguousarray(weight.reshape(outputs * channels, 9).T)).reshape(36, outputs, channels)
    y = np.empty((n, outputs, *out), np.float32)
    step = max(1, BLOCK_VALUES // (36 * (channels + outputs) * down * across))
    for start in range(0, n, step):
        block = x[start:start + step]
        m = len(block)
        padded = np.zeros((m, channels, TILE * down + 2, TILE * across + 2), np.float32)
        padded[:, :, top:top + height, left:left + width] = block
        s0, s1, s2, s3 = padded.strides
        patches = as_strided(padded, (PATCH, PATCH, channels, m, down, across), (s2, s3, s1, s0, TILE * s2, TILE * s3))
        spread = INPUT @ patches.reshape(36, -1)                                       # 36 numbers for each patch
        products = np.matmul(kernels, spread.reshape(36, channels, -1))                # sums over the channels
        tiles = (OUTPUT @ products.reshape(36, -1)).reshape(TILE, TILE, outputs, m, down, across)
        whole = tiles.transpose(3, 2, 4, 0, 5, 1).reshape(m, outputs, TILE * down, TILE * across)
        y[start:start + m] = whole[:, :, :out[0], :out[1]]
    return y
