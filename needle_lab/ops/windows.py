"""Windows over a map: where they stand, how many fit, what padding adds. Convolution and pooling share this arithmetic.

Along each dimension, window i sees the places  i * stride - before + p * dilation  for p in 0 .. kernel - 1.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import ArgumentError


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


def overlap(p: int, n: int, s: int, b: int, d: int, start: int, stop: int) -> tuple[int, int]:
    """Of windows start .. stop - 1 along one dimension: the first and one past the last whose place p is in the map.

    n: size of the map, s: stride, b: padding before, d: dilation.
    """
    return max(start, -((p * d - b) // s)), min(stop, (n - 1 + b - p * d) // s + 1)


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


@dataclass(frozen=True)
class Geometry:
    """The shapes of one convolution.  x: (N, C, *size), weight: (O, C / groups, *kernel); the rest by dimension."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    dtype: np.dtype

    @cached_property
    def out(self) -> tuple[int, ...]:
        return output_size(self.x[2:], self.weight[2:], self.stride, self.pads, self.dilation)

    @cached_property
    def size(self) -> tuple[int, ...]:
        return self.x[2:]

    @cached_property
    def kernel(self) -> tuple[int, ...]:
        return self.weight[2:]

    @cached_property
    def places(self) -> int:
        return math.prod(self.kernel)

    @cached_property
    def windows(self) -> int:
        """Windows of one sample."""
        return math.prod(self.out)

    @cached_property
    def y(self) -> tuple[int, ...]:
        return (self.x[0], self.weight[0], *self.out)

    def trimmed(self) -> tuple["Geometry", tuple[slice, ...]]:
        """The same sum without the kernel's places that see nothing but padding -> (geometry, the kernel that is left).

        A 3x3 kernel padded by 1 over a map of 1x1 is a 1x1 kernel; deep layers of a ResNet on small images are like that.
        """
        kept: list[slice] = []
        pads: list[tuple[int, int]] = []
        stride: list[int] = []
        dilation: list[int] = []
        for n, k, s, (b, _), d, m in zip(self.size, self.kernel, self.stride, self.pads, self.dilation, self.out,
                                         strict=True):
            ranges = [overlap(p, n, s, b, d, 0, m) for p in range(k)]
            seen = [p for p, (first, last) in enumerate(ranges) if first < last]
            first, last = (seen[0], seen[-1]) if seen else (0, -1)               # nothing is left where nothing is seen
            kept.append(slice(first, last + 1))
            s, d = 1 if m == 1 else s, 1 if first == last else d
            before = b - first * self.dilation[len(pads)]
            pads.append((before, (m - 1) * s + (last - first) * d + 1 - n - before))
            stride.append(s)
            dilation.append(d)
        weight = (*self.weight[:2], *(at.stop - at.start for at in kept))
        small = replace(self, weight=weight, pads=tuple(pads), stride=tuple(stride), dilation=tuple(dilation))
        return small, tuple(kept)

    @cached_property
    def _inside(self) -> dict[tuple[int, int], list]:
        return {}

    def inside(self, start: int, stop: int) -> list:
        """What the kernel's places see of the map, for the windows whose first coordinate is in start .. stop - 1.

        A list of (number of the place, index of these windows, index of the map, whether it sees no padding); both indices
        are for arrays (C, *size) or (C, *size, N).
        """
        known = self._inside.get((start, stop))
        if known is not None:
            return known
        places, ranges = [], [(start, stop), *((0, m) for m in self.out[1:])]
        for number, place in enumerate(itertools.product(*map(range, self.kernel))):
            windows, seen, whole = [slice(None)], [slice(None)], True
            for p, n, s, (b, _), d, (lo, hi) in zip(place, self.size, self.stride, self.pads, self.dilation, ranges,
                                                    strict=True):
                first, last = overlap(p, n, s, b, d, lo, hi)
                last = max(first, last)
                at = first * s - b + p * d
                windows.append(slice(first - lo, last - lo))
                seen.append(slice(at, at + (last - first - 1) * s + 1, s) if last > first else slice(0, 0))
                whole = whole and (first, last) == (lo, hi)
            places.append((number, tuple(windows), tuple(seen), whole))
        return self._inside.setdefault((start, stop), places)
