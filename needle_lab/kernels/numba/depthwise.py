"""Depthwise convolution in two dimensions, compiled: a map, its padding around it, stays in the cache for all places.

In a padded map of `pitch` columns, what a place of the kernel sees is the map itself, moved: one long loop a place over
all rows. Between two rows of windows this computes a few numbers that nobody reads.
"""

from __future__ import annotations

from .compiled import f32, loop, part


@part
def _pad(x, top, left, pitch, plane):
    """x (H, W) into zeros, (top, left) from the corner; what lies outside of the plane is left out."""
    for t in range(plane.size):
        plane[t] = f32(0)
    rows, count = plane.size // pitch, min(x.shape[1], pitch - left)
    for h in range(x.shape[0]):
        if h + top < rows:
            source, target = x[h], plane[(h + top) * pitch + left:]
            for k in range(count):
                target[k] = source[k]


@part
def _windows(plane, weight, pitch, dilation, count, sums):
    """sums[t], t < count: the window that begins at place t of the plane, times the weight."""
    for a in range(weight.shape[0]):
        row, w = plane[a * dilation[0] * pitch:], weight[a]
        if w.size == 3:                              # the usual width: one pass over the sums a row
            w0, w1, w2, right, further = w[0], w[1], w[2], row[dilation[1]:], row[2 * dilation[1]:]
            if a == 0:
                for t in range(count):
                    sums[t] = w0 * row[t] + w1 * right[t] + w2 * further[t]
            else:
                for t in range(count):
                    sums[t] += w0 * row[t] + w1 * right[t] + w2 * further[t]
        else:
            if a == 0:
                for t in range(count):
                    sums[t] = f32(0)
            for b in range(w.size):
                wb, seen = w[b], row[b * dilation[1]:]
                for t in range(count):
                    sums[t] += wb * seen[t]


@loop
def forward(x, weight, stride, pad, dilation, pitch, plane, sums, y, start, stop):
    """Maps start .. stop - 1 of y (N * C, *out): x (N * C, H, W), weight (C, *kernel); plane and sums are scratch."""
    rows, columns = y.shape[1], y.shape[2]
    reach = (columns - 1) * stride[1] + 1
    for i in range(start, stop):
        w, out = weight[i % len(weight)], y[i]
        _pad(x[i], pad[0], pad[1], pitch, plane)
        if stride[0] == 1:
            _windows(plane, w, pitch, dilation, (rows - 1) * pitch + reach, sums)
        for h in range(rows):
            found = sums[h * pitch:]
            if stride[0] > 1:                        # one row of windows at a time
                found = sums
                _windows(plane[h * stride[0] * pitch:], w, pitch, dilation, reach, sums)
            row = out[h]
            if stride[1] == 1:
                for k in range(columns):
                    row[k] = found[k]
            else:
                for k in range(columns):
                    row[k] = found[k * stride[1]]
