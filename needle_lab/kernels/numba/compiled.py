"""Loops over rows and values, compiled by Numba: each reads its input once where numpy's functions make several passes.

Arrays are float32 and C-contiguous. `start, stop` is the range of rows or channels that a call computes, so that callers can
give threads a range each. Sums run over at most `RUN` values in float32, and over runs in float64.
"""

from __future__ import annotations

import math

import numba
import numpy as np

f32, i32 = np.float32, np.int32
FUSED = {"contract"}                                    # a * b + c may be rounded once
ANY_ORDER = {"contract", "reassoc", "nsz", "arcp"}      # sums in any order, as vectors need; nan and inf keep their meaning

exact = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FUSED, forceinline=True)
loop = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=ANY_ORDER)
part = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=ANY_ORDER, forceinline=True)    # of a loop
RUN, ROWS = 4096, 128
LOWEST = i32(-0x7F800001)                 # -inf, as `_largest` counts

# --- exp, tanh and erf of one float32 ---------------------------------------------------------------------------------
#
# By additions and multiplications alone, so that loops over them become vector loops; a call into the C library computes
# one value at a time. The errors of exp and tanh are below 2e-7 of the value (float32 itself rounds by up to 0.6e-7), of
# erf below 5e-7; nan stays nan, and infinities give the limits. Terms are added in the written order: `exact` leaves out
# the licence to reorder that the other loops give to the compiler.


@exact
def exp(x):
    """2^k exp(r), k being whole.  2^k is multiplied in two halves: a result may be smaller than the smallest 2^k."""
    x = f32(-105) if x < f32(-105) else x               # exp is 0 from -104 on, and inf from 89 on
    x = f32(89) if x > f32(89) else x
    whole, p = _whole_and_rest(x)
    half = i32(whole >> i32(1))
    return (p + f32(1)) * _power_of_two(half) * _power_of_two(i32(whole - half))


@exact
def tanh(x):
    """-e / (e + 2) with e = exp(-2 |x|) - 1, which keeps all its digits near 0."""
    a = f32(-2) * abs(x)
    a = f32(-20) if a < f32(-20) else a                 # beyond, the nearest float32 is 1
    whole, p = _whole_and_rest(a)
    scale = _power_of_two(whole)
    e = p * scale + (scale - f32(1))
    y = -e / (e + f32(2))
    return y if x > f32(0) else -y


@exact
def _whole_and_rest(x):
    """k and exp(r) - 1, where x = k log(2) + r, k is whole and |r| <= log(2) / 2, so that a polynomial of degree 7 will do.

    Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
    """
    shifted = x * f32(1.44269504) + f32(12582912)
    k = shifted - f32(12582912)
    r = x - k * f32(0.693145751953125)                  # log(2) in two parts: the first times k is exact
    r = r - k * f32(1.42860682e-6)
    p = f32(1.9875691500e-4) * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(0.5)
    return i32(f32(shifted).view(np.int32) - i32(0x4B400000)), p * (r * r) + r


@exact
def _power_of_two(k):
    return i32((k + i32(127)) << i32(23)).view(np.float32)


@exact
def sigmoid(x):
    e = exp(-abs(x))                                    # the small one of e / (1 + e) and 1 / (1 + e) keeps its digits
    return (f32(1) if x > f32(0) else e) / (f32(1) + e)


@exact
def erf(x):
    """2 / sqrt(pi) x P(x^2) / Q(x^2), both beginning with 1; fitted to a relative error of 3e-8."""
    limit = f32(1) if x > f32(0) else f32(-1)
    far = abs(x) >= f32(4)                              # there, the nearest float32 is the limit
    q = x * x
    p = f32(1.763425188983092e-06) * q + f32(0.00025153064052574337)
    p = p * q + f32(0.003417722648009658)
    p = p * q + f32(0.04698746278882027)
    p = p * q + f32(0.1709863543510437)
    x = x * f32(1.1283791671)
    p = p * q * x + x
    d = f32(3.7412235542433336e-05) * q + f32(0.0011787692783400416)
    d = d * q + f32(0.01515407394617796)
    d = d * q + f32(0.1150970607995987)
    d = d * q + f32(0.5043191909790039)
    d = d * q + f32(1)
    return limit if far else p / d

# --- elementwise ------------------------------------------------------------------------------------------------------


@loop
def relu_gradient(g, y, dx):
    for i in range(y.size):
        dx[i] = g[i] * (f32(1) if y[i] > f32(0) else f32(0))


@part
def _gelu_parts(x):
    """(1 + tanh(u)) / 2 and (1 - tanh(u)^2) / 4 for GELU's u, by way of exp(-2 |u|): neither is a small difference."""
    u = f32(0.7978845608028654) * (x + f32(0.044715) * x * x * x)                    # sqrt(2 / pi)
    e = exp(f32(-2) * abs(u))
    s = f32(1) / (f32(1) + e)
    return (s if u > f32(0) else e * s), e * s * s


@loop
def gelu_tanh(x, y):
    for i in range(x.size):
        y[i] = x[i] * _gelu_parts(x[i])[0]


@loop
def gelu_tanh_gradient(g, x, dx):
    for i in range(x.size):
        share, slope = _gelu_parts(x[i])
        inner = f32(0.7978845608028654) * (f32(1) + f32(3 * 0.044715) * x[i] * x[i])
        dx[i] = g[i] * (share + f32(2) * x[i] * slope * inner)


@loop
def gelu(x, y):
    for i in range(x.size):
        y[i] = f32(0.5) * x[i] * (f32(1) + erf(x[i] * f32(0.7071067811865476)))


@loop
def gelu_gradient(g, x, dx):
    for i in range(x.size):
        v = x[i]
        cdf = f32(0.5) * (f32(1) + erf(v * f32(0.7071067811865476)))
        dx[i] = g[i] * (cdf + v * exp(f32(-0.5) * v * v) * f32(0.3989422804014327))    # 1 / sqrt(2 pi)


@loop
def silu(x, y):
    for i in range(x.size):
        y[i] = x[i] * sigmoid(x[i])


@loop
def silu_gradient(g, x, dx):
    for i in range(x.size):
        s = sigmoid(x[i])
        dx[i] = g[i] * s * (f32(1) + x[i] * (f32(1) - s))

# --- softmax and its loss, row by row ---------------------------------------------------------------------------------


@part
def _largest(row):
    """As whole numbers in the same order: comparisons of floats, which nan answers with no, do not become vectors."""
    top = LOWEST
    for k in range(row.size):
        bits = f32(row[k]).view(np.int32)
        bits = i32(bits ^ ((bits >> i32(31)) & i32(0x7FFFFFFF)))     # of negative floats, larger bits are smaller
        top = max(top, bits)
    return i32(top ^ ((top >> i32(31)) & i32(0x7FFFFFFF))).view(np.float32)


@part
def _exponentials(row, shift, y):
    """y = exp(row - shift); -> their sum."""
    total = 0.0
    for first in range(0, row.size, RUN):
        run, out, s = row[first:first + RUN], y[first:first + RUN], f32(0)
        for k in range(run.size):
            e = exp(run[k] - shift)
            out[k] = e
            s += e
        total += s
    return f32(total)


@loop
def softmax(x, y, start, stop):
    for r in range(start, stop):
        total = _exponentials(x[r], _largest(x[r]), y[r])
        inverse = f32(1) / total
        row = y[r]
        for k in range(row.size):
            row[k] *= inverse


@loop
def softmax_gradient(g, y, dx, start, stop):
    for r in range(start, stop):
        slope, row, out = g[r], y[r], dx[r]
        along = f32(0)
        for k in range(row.size):
            along += slope[k] * row[k]
        for k in range(row.size):
            out[k] = row[k] * (slope[k] - along)


@loop
def log_sums(x, total, start, stop):
    """total = log of the sum of exp(row)."""
    for r in range(start, stop):
        row = x[r]
        top, s = _largest(row), 0.0
        for first in range(0, row.size, RUN):
            run, part_of_s = row[first:first + RUN], f32(0)
            for k in range(run.size):
                part_of_s += exp(run[k] - top)
            s += part_of_s
        total[r] = f32(math.log(f32(s))) + top


@loop
def class_gradient(x, total, target, scale, dx, start, stop):
    """dx = (softmax(row) - (1 at the target)) * scale of the row."""
    for r in range(start, stop):
        row, out, shift, by = x[r], dx[r], total[r], scale[r]
        for k in range(row.size):
            out[k] = exp(row[k] - shift) * by
        out[target[r]] -= by

# --- normalisation ----------------------------------------------------------------------------------------------------


@loop
def layer_norm(x, weight, bias, eps, y, mean, inverse, start, stop):
    width = x.shape[1]
    for r in range(start, stop):
        row, out = x[r], y[r]
        s = f32(0)
        for k in range(width):
            s += row[k]
        mu = s / f32(width)
        s = f32(0)
        for k in range(width):
            s += (row[k] - mu) * (row[k] - mu)
        scale = f32(1) / np.sqrt(s / f32(width) + eps)
        mean[r], inverse[r] = mu, scale
        for k in range(width):
            out[k] = (row[k] - mu) * scale * weight[k] + bias[k]


@part
def _add_up(some, dweight, dbias):
    for k in range(dweight.size):
        dweight[k] += some[0, k]
        dbias[k] += some[1, k]
    some[:] = f32(0)


@loop
def layer_norm_gradient(g, x, weight, mean, inverse, dx, dweight, dbias, start, stop):
    """dweight and dbias (float64): what these rows add to them, ROWS of them at a time."""
    width = x.shape[1]
    some = np.zeros((2, width), f32)
    for r in range(start, stop):
        if (r - start) % ROWS == 0:
            _add_up(some, dweight, dbias)
        row, slope, out, mu, scale, of_weight, of_bias = x[r], g[r], dx[r], mean[r], inverse[r], some[0], some[1]
        total, along = f32(0), f32(0)
        for k in range(width):
            y = (row[k] - mu) * scale
            of_weight[k] += slope[k] * y
            of_bias[k] += slope[k]
            total += slope[k] * weight[k]
            along += slope[k] * weight[k] * y
        total, along = total / f32(width), along / f32(width)
        for k in range(width):
            out[k] = scale * (slope[k] * weight[k] - total - (row[k] - mu) * scale * along)
    _add_up(some, dweight, dbias)


@part
def _sum(row):
    total = 0.0
    for first in range(0, row.size, RUN):
        run, s = row[first:first + RUN], f32(0)
        for k in range(run.size):
            s += run[k]
        total += s
    return total


@part
def _squares(row, center):
    total = 0.0
    for first in range(0, row.size, RUN):
        run, s = row[first:first + RUN], f32(0)
        for k in range(run.size):
            s += (run[k] - center) * (run[k] - center)
        total += s
    return total


@loop
def batch_norm(x, weight, bias, eps, y, mean, var, start, stop):
    """x (N, C, P): the statistics of channels start .. stop - 1, and their values standardized, scaled and shifted.

    A channel stays in the cache for the three passes over it.
    """
    n, count = x.shape[0], x.shape[0] * x.shape[2]
    for c in range(start, stop):
        total = 0.0
        for i in range(n):
            total += _sum(x[i, c])
        mu = f32(total / count)
        total = 0.0
        for i in range(n):
            total += _squares(x[i, c], mu)
        mean[c], var[c] = mu, total / count
        scale = f32(1) / np.sqrt(var[c] + eps) * weight[c]
        shift = bias[c] - mu * scale
        for i in range(n):
            row, out = x[i, c], y[i, c]
            for k in range(row.size):
                out[k] = row[k] * scale + shift


@loop
def batch_norm_gradient(g, x, weight, mean, var, eps, dx, dweight, dbias, start, stop):
    n, count = x.shape[0], x.shape[0] * x.shape[2]
    for c in range(start, stop):
        mu, inverse = mean[c], f32(1) / np.sqrt(var[c] + eps)
        total, along = 0.0, 0.0
        for i in range(n):
            row, slope = x[i, c], g[i, c]
            for first in range(0, row.size, RUN):
                run, part_of_g, s, a = row[first:first + RUN], slope[first:first + RUN], f32(0), f32(0)
                for k in range(run.size):
                    s += part_of_g[k]
                    a += part_of_g[k] * (run[k] - mu)
                total += s
                along += a
        along *= inverse
        dweight[c], dbias[c] = along, total
        scale = inverse * weight[c]                     # dx = scale * (g - mean(g)) + by * (x - mean)
        by = f32(-scale * along * inverse / count)
        shift = f32(-scale * total / count) - by * mu
        for i in range(n):
            row, slope, out = x[i, c], g[i, c], dx[i, c]
            for k in range(row.size):
                out[k] = slope[k] * scale + row[k] * by + shift


@loop
def scale_and_shift(x, scale, shift, y, start, stop):
    """x (N, C, P) of samples start .. stop - 1 times scale (C), plus shift (C)."""
    for i in range(start, stop):
        for c in range(x.shape[1]):
            row, out, a, b = x[i, c], y[i, c], scale[c], shift[c]
            for k in range(row.size):
                out[k] = row[k] * a + b

# --- recurrent cells --------------------------------------------------------------------------------------------------


@loop
def lstm_cell(x, part_of_h, before, gates, cells, outputs):
    """Gates (N, 4 H): x + part_of_h, activated; before, the new cells and outputs: (N, H)."""
    size = before.shape[1]
    for r in range(len(x)):
        a, b, gate, last, cell, out = x[r], part_of_h[r], gates[r], before[r], cells[r], outputs[r]
        xi, xf, xg, xo = a[:size], a[size:2 * size], a[2 * size:3 * size], a[3 * size:]
        hi, hf, hg, ho = b[:size], b[size:2 * size], b[2 * size:3 * size], b[3 * size:]
        ti, tf, tg, to = gate[:size], gate[size:2 * size], gate[2 * size:3 * size], gate[3 * size:]
        for k in range(size):
            i, f, g, o = sigmoid(xi[k] + hi[k]), sigmoid(xf[k] + hf[k]), tanh(xg[k] + hg[k]), sigmoid(xo[k] + ho[k])
            c = f * last[k] + i * g
            ti[k], tf[k], tg[k], to[k], cell[k] = i, f, g, o, c
            out[k] = o * tanh(c)


@loop
def lstm_cell_gradient(gates, before, cells, to_outputs, dh, dc, dgates):
    """dgates (N, 4 H): of the gates before activation; dc (N, H) becomes that of the cell before; dh: of this step's h."""
    size, one = before.shape[1], f32(1)
    for r in range(len(gates)):
        gate, last, cell, to, h, c, d = gates[r], before[r], cells[r], to_outputs[r], dh[r], dc[r], dgates[r]
        i, f, g, o = gate[:size], gate[size:2 * size], gate[2 * size:3 * size], gate[3 * size:]
        di, df, dg, do = d[:size], d[size:2 * size], d[2 * size:3 * size], d[3 * size:]
        for k in range(size):
            t, slope = tanh(cell[k]), h[k] + to[k]
            through = c[k] + slope * o[k] * (one - t * t)
            do[k] = slope * t * o[k] * (one - o[k])
            di[k] = through * g[k] * i[k] * (one - i[k])
            df[k] = through * last[k] * f[k] * (one - f[k])
            dg[k] = through * i[k] * (one - g[k] * g[k])
            c[k] = through * f[k]


@loop
def gru_cell(x, part_of_h, bias, before, gates, inner, outputs):
    """Gates r, z, n (N, 3 H): of x and part_of_h + bias, activated; inner = W_hn h + b_hn; the new outputs (N, H)."""
    size = before.shape[1]
    br, bz, bn = bias[:size], bias[size:2 * size], bias[2 * size:]
    for row in range(len(x)):
        a, b, gate, h, m, out = x[row], part_of_h[row], gates[row], before[row], inner[row], outputs[row]
        xr, xz, xn = a[:size], a[size:2 * size], a[2 * size:]
        hr, hz, hn = b[:size], b[size:2 * size], b[2 * size:]
        tr, tz, tn = gate[:size], gate[size:2 * size], gate[2 * size:]
        for k in range(size):
            r, z, new = sigmoid(xr[k] + hr[k] + br[k]), sigmoid(xz[k] + hz[k] + bz[k]), hn[k] + bn[k]
            n = tanh(xn[k] + r * new)
            tr[k], tz[k], tn[k], m[k] = r, z, n, new
            out[k] = n + z * (h[k] - n)


@loop
def gru_cell_gradient(gates, before, inner, to_outputs, dh, dgates, dparts):
    """dgates and dparts (N, 3 H): of the input's and of the state's share; dh (N, H) is left with what goes round both."""
    size, one = before.shape[1], f32(1)
    for row in range(len(gates)):
        gate, h, m, to, back, d, p = (gates[row], before[row], inner[row], to_outputs[row], dh[row], dgates[row],
                                      dparts[row])
        r, z, n = gate[:size], gate[size:2 * size], gate[2 * size:]
        dr, dz, dn = d[:size], d[size:2 * size], d[2 * size:]
        pr, pz, pn = p[:size], p[size:2 * size], p[2 * size:]
        for k in range(size):
            slope = back[k] + to[k]
            new = slope * (one - z[k]) * (one - n[k] * n[k])
            update = slope * (h[k] - n[k]) * z[k] * (one - z[k])
            reset = new * m[k] * r[k] * (one - r[k])
            dn[k], dz[k], dr[k] = new, update, reset
            pn[k], pz[k], pr[k] = new * r[k], update, reset
            back[k] = slope * z[k]

# --- attention --------------------------------------------------------------------------------------------------------


@loop
def attention_weights(scores, scale, first, causal, sums, total):
    """Scores (B, L, S) become exp(scale * (score - the row's largest)), 0 for keys after the query, which is first + row.

    sums (B, L): of each row; total: its logarithm plus the largest, so that exp(scale * score - total) is softmax.
    """
    for b in range(scores.shape[0]):
        for r in range(scores.shape[1]):
            whole = scores[b, r]
            seen = min(first + r + 1, whole.size) if causal else whole.size
            row = whole[:seen]
            top = _largest(row)
            s = f32(0)
            for k in range(seen):
                e = exp((row[k] - top) * scale)
                row[k] = e
                s += e
            whole[seen:] = f32(0)
            sums[b, r] = s
            total[b, r] = math.log(s) + top * scale


@loop
def attention_slopes(scores, slopes, total, along, scale, first, causal):
    """Scores become softmax's weights; slopes, the gradient of the weights, become that of Q K^T."""
    for b in range(scores.shape[0]):
        for r in range(scores.shape[1]):
            whole, slope = scores[b, r], slopes[b, r]
            seen = min(first + r + 1, whole.size) if causal else whole.size
            row, out, t, a = whole[:seen], slope[:seen], total[b, r], along[b, r]
            for k in range(seen):
                w = exp(row[k] * scale - t)
                row[k] = w
                out[k] = w * (out[k] - a) * scale
            whole[seen:] = f32(0)
            slope[seen:] = f32(0)

# --- embedding --------------------------------------------------------------------------------------------------------


@loop
def add_rows(rows, index, table):
    """table[index[i]] += rows[i], one after the other: an index may come again."""
    for i in range(index.size):
        row, target = rows[i], table[index[i]]
        for k in range(row.size):
            target[k] += row[k]

# --- optimizers -------------------------------------------------------------------------------------------------------


@loop
def sgd(p, g, lr, decay):
    for i in range(p.size):
        p[i] -= lr * (g[i] + decay * p[i] if decay else g[i])


@loop
def sgd_momentum(p, g, v, lr, momentum, of_g, nesterov, decay):
    """of_g: how much of the gradient enters the velocity, 1 - dampening."""
    for i in range(p.size):
        slope = g[i] + decay * p[i] if decay else g[i]
        velocity = momentum * v[i] + of_g * slope
        v[i] = velocity
        p[i] -= lr * (slope + momentum * velocity if nesterov else velocity)


@loop
def adam(p, g, m, v, lr, beta1, of_g, beta2, of_square, root, eps, decay, keep):
    """lr: divided by 1 - beta1^step; of_g, of_square: 1 - beta; root: of 1 - beta2^step; keep: 1 - lr * decoupled decay."""
    for i in range(p.size):
        value = p[i] * keep
        slope = g[i] + decay * value if decay else g[i]
        mean = beta1 * m[i] + of_g * slope
        square = beta2 * v[i] + of_square * slope * slope
        m[i], v[i] = mean, square
        p[i] = value - lr * mean / (np.sqrt(square) / root + eps)
