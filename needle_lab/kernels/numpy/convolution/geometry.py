"""The geometry of one convolution: which windows see which part of the map, and what the kernel's edges never see."""

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ....ops.windows import output_size


def overlap(p: int, n: int, s: int, b: int, d: int, start: int, stop: int) -> tuple[int, int]:
    """Of windows start .. stop - 1 along one dimension: the first and one past the last whose place p is in the map.

    n: size of the map, s: stride, b: padding before, d: dilation.
    """
    return max(start, -((p * d - b) // s)), min(stop, (n - 1 + b - p * d) // s + 1)


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
