"""Which ops the compiled loops serve, and when they decline: float32 only, and enough values to be worth a call.

Whatever is declined is computed by numpy as always. The loops are imported, and with them Numba, when the first of these
kernels is called with enough values; each loop is compiled at its first call and kept on disk.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ... import ops
from ...core.graph import Op
from ...core.tiers import kernel
from ...ops.dot_product import attention
from ...ops.indexing import index_select_grad
from ...ops.loss import class_losses
from ...ops.normalization import apply_batch_norm, batch_norm_, layer_norm_
from ...ops.sequence import gru_sequence, lstm_sequence, times
from ..numpy.attention import blocks as attention_blocks
from ..numpy.attention import flat
from ..numpy.norm import WIDEST, Channels, rows_of
from ..numpy.recurrent import before
from ..numpy.sums import of_rows
from ..numpy.threads import cut, get_num_threads, parallel

LEAST = 1 << 13              # values: with fewer, numpy's calls cost no more, and nothing has to be compiled for them
SHARE = 1 << 15              # values that are worth a thread


@functools.cache
def loops(room: str = "compiled") -> Any:
    """The module with the compiled loops.  The first call imports Numba."""
    forget_outdated(Path(__file__).parent)
    return importlib.import_module(f"{__package__}.{room}")


@functools.cache
def forget_outdated(room: Path) -> None:
    """Let Numba compile all loops again if a file of this folder has changed since they were kept in its __pycache__.

    Numba does so when the file changes in which a loop stands; but what it calls of other files is compiled into it too.
    """
    kept = room / "__pycache__"
    if not os.access(room, os.W_OK):
        return                                           # an installation: it changes as a whole
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(room.glob("*.py")))).hexdigest()
    note = kept / "sources.sha256"
    if note.is_file() and note.read_text(encoding="utf-8") == sources:
        return
    kept.mkdir(exist_ok=True)
    for form in kept.glob("*.nbi"):
        form.unlink(missing_ok=True)
    note.write_text(sources, encoding="utf-8")


def _serves(x, *others) -> bool:
    """Whether x has enough values, and all are arrays of float32 (or absent)."""
    return (isinstance(x, np.ndarray) and x.size >= LEAST and x.dtype == np.float32
            and all(a is None or (isinstance(a, np.ndarray) and a.dtype == np.float32) for a in others))


def plain(x: np.ndarray) -> np.ndarray:
    """x itself, or a copy where it is not contiguous or read-only: Numba would compile every loop again for those."""
    return x if x.flags.c_contiguous and x.flags.writeable else np.array(x, order="C")


def share(rows: int, values: int, work: Callable[[int, int], Any]) -> list:
    """work(start, stop) over all rows, in one range for each thread that has enough to do."""
    n = max(1, min(get_num_threads(), rows, values // SHARE))
    if n == 1:
        return [work(0, rows)]
    return parallel(lambda at: work(at.start, at.stop), cut(rows, n))

# --- elementwise ------------------------------------------------------------------------------------------------------


def _batch_first(x: np.ndarray) -> bool:
    return x.flags.c_contiguous or not x.transpose(*range(1, x.ndim), 0).flags.c_contiguous


def _flat_alike(*arrays: np.ndarray) -> tuple[list[np.ndarray], Callable]:
    """The arrays' values in the memory order of the first (batch first or batch last), and what brings them back."""
    first = arrays[0]
    if _batch_first(first):
        return [plain(a).reshape(-1) for a in arrays], lambda y: y.reshape(first.shape)
    axes = *range(1, first.ndim), 0
    shape = tuple(first.shape[i] for i in axes)
    return ([plain(a.transpose(axes)).reshape(-1) for a in arrays],
            lambda y: y.reshape(shape).transpose(first.ndim - 1, *range(first.ndim - 1)))


def _elementwise(target: Op, forward: str, gradient: str) -> None:
    """Attach y = forward(x) and dx = gradient(g, x)."""
    def run(loop, *arrays):
        flat, back = _flat_alike(*arrays)
        y = np.empty_like(flat[0])
        share(y.size, y.size, lambda start, stop: getattr(loops(), loop)(*[a[start:stop] for a in (*flat, y)]))
        return back(y)

    def compiled(x):
        return run(forward, x) if _serves(x) else NotImplemented

    def compiled_gradient(wants, g, x):
        return run(gradient, g, x) if _serves(x, g) else NotImplemented
    compiled.__name__, compiled_gradient.__name__ = f"compiled_{forward}", f"compiled_{gradient}"
    kernel(target, "numba")(compiled)
    kernel(target.gradient, "numba")(compiled_gradient)


_elementwise(ops.gelu_tanh, "gelu_tanh", "gelu_tanh_gradient")
_elementwise(ops.gelu, "gelu", "gelu_gradient")
_elementwise(ops.silu, "silu", "silu_gradient")


@kernel(ops.relu.gradient, "numba")
def compiled_relu_gradient(wants, g, y):
    if not _serves(g, y):
        return NotImplemented
    (y, g), back = _flat_alike(y, g)
    dx = np.empty_like(g)
    share(g.size, g.size, lambda start, stop: loops().relu_gradient(g[start:stop], y[start:stop], dx[start:stop]))
    return back(dx)

# --- softmax and its loss ---------------------------------------------------------------------------------------------


def _is_last(axis: int, ndim: int) -> bool:
    return ndim > 0 and axis % ndim == ndim - 1


@kernel(ops.softmax, "numba")
def compiled_softmax(x, *, axis=-1):
    if not (_serves(x) and _is_last(axis, x.ndim)):
        return NotImplemented
    rows, y = plain(x).reshape(-1, x.shape[-1]), np.empty(x.shape, x.dtype)
    out = y.reshape(rows.shape)
    share(len(rows), x.size, lambda start, stop: loops().softmax(rows, out, start, stop))
    return y


@kernel(ops.softmax.gradient, "numba")
def compiled_softmax_gradient(wants, g, y, axis):
    if not (_serves(g, y) and _is_last(axis, g.ndim)):
        return NotImplemented
    rows, slopes, dx = (plain(a).reshape(-1, g.shape[-1]) for a in (y, g, np.empty(g.shape, g.dtype)))
    share(len(rows), g.size, lambda start, stop: loops().softmax_gradient(slopes, rows, dx, start, stop))
    return dx.reshape(g.shape)


LEAST_CLASSES = 32           # of the gradient: shorter rows are better taken by numpy, all at once (measured)


def _in_range(target, classes: int) -> bool:
    return target.dtype.kind in "iu" and target.min() >= 0 and target.max() < classes


@kernel(class_losses, "numba")
def compiled_class_losses(x, target, *, reduction):
    if not (_serves(x) and x.ndim == 2 and target.shape == x.shape[:1] and _in_range(target, x.shape[1])):
        return NotImplemented
    rows, total = plain(x), np.empty(len(x), x.dtype)
    share(len(x), x.size, lambda start, stop: loops().log_sums(rows, total, start, stop))
    losses = total - x[np.arange(len(x)), target]
    if reduction != "none":
        losses = losses.sum() / losses.dtype.type(losses.size if reduction == "mean" else 1)
    return losses, total


@kernel(class_losses.gradient, "numba")
def compiled_class_losses_gradient(wants, g, y, x, target, reduction):
    (g, gtotal), (_, total) = g, y
    if g is None or gtotal is not None or not (_serves(x, g) and x.ndim == 2 and x.shape[1] >= LEAST_CLASSES):
        return NotImplemented
    scale = np.empty(len(x), x.dtype)
    scale[...] = g / g.dtype.type(target.size) if reduction == "mean" else g
    rows, dx, classes = plain(x), np.empty(x.shape, x.dtype), plain(target.astype(np.int64, copy=False))
    share(len(x), x.size,
           lambda start, stop: loops().class_gradient(rows, total, classes, scale, dx, start, stop))
    return dx, None

# --- normalisation ----------------------------------------------------------------------------------------------------


def _fit(n: int, *vectors) -> bool:
    """Whether each vector has n values, or is absent: a compiled loop does not look where it reads."""
    return all(v is None or v.size == n for v in vectors)


def _or(vector, value: float, n: int) -> np.ndarray:
    """The vector, or a constant one where it is absent."""
    return np.full(n, value, np.float32) if vector is None else plain(vector).reshape(-1)


@kernel(layer_norm_, "numba")
def compiled_layer_norm(x, weight=None, bias=None, *, axes, eps):
    if not _serves(x, weight, bias):
        return NotImplemented
    rows = rows_of(plain(x), axes)
    n, width = rows.shape
    if width > WIDEST or not _fit(width, weight, bias):
        return NotImplemented
    weight, bias = _or(weight, 1, width), _or(bias, 0, width)
    y, mean, inverse = np.empty_like(rows), np.empty(n, x.dtype), np.empty(n, x.dtype)
    share(n, x.size, lambda start, stop: loops().layer_norm(rows, weight, bias, np.float32(eps), y, mean, inverse,
                                                              start, stop))
    shape = x.shape[:x.ndim - axes] + (1,) * axes
    return y.reshape(x.shape), mean.reshape(shape), inverse.reshape(shape)


@kernel(layer_norm_.gradient, "numba")
def compiled_layer_norm_gradient(wants, g, y, x, weight, bias, axes, eps):
    (gy, gmean, ginverse), (_, mean, inverse) = g, y
    if gmean is not None or ginverse is not None or not _serves(x, gy, weight):
        return NotImplemented
    rows, slopes = rows_of(plain(x), axes), rows_of(plain(gy), axes)
    n, width = rows.shape
    if width > WIDEST:
        return NotImplemented
    dx, scale, mean, inverse = np.empty_like(rows), _or(weight, 1, width), mean.reshape(-1), inverse.reshape(-1)

    def work(start, stop):
        of_weight, of_bias = np.zeros(width), np.zeros(width)
        loops().layer_norm_gradient(slopes, rows, scale, mean, inverse, dx, of_weight, of_bias, start, stop)
        return of_weight, of_bias
    dweight, dbias = (sum(parts).astype(x.dtype) for parts in zip(*share(n, x.size, work), strict=True))
    shape = x.shape[x.ndim - axes:]
    return dx.reshape(x.shape), dweight.reshape(shape), dbias.reshape(shape)


LEAST_PLACES = 8             # of a map, batch first: shorter rows are better taken by numpy as one


def _maps(x: np.ndarray) -> tuple[Channels, tuple[int, int, int]]:
    """How x lies, and its shape as (N, C, P); (1, C, P N) where the batch is last in memory."""
    channels = Channels(x)
    n = x.shape[0]
    return channels, ((1, x.shape[1], channels.places * n) if channels.by_channel else (n, x.shape[1], channels.places))


@kernel(batch_norm_, "numba")
def compiled_batch_norm(x, weight=None, bias=None, *, eps):
    if not _serves(x, weight, bias):
        return NotImplemented
    channels, shape = _maps(x)
    if shape[2] < LEAST_PLACES or not _fit(shape[1], weight, bias):
        return NotImplemented
    rows = plain(channels.rows(x)).reshape(shape)
    weight, bias = _or(weight, 1, shape[1]), _or(bias, 0, shape[1])
    y, mean, var = np.empty_like(rows), np.empty(shape[1], x.dtype), np.empty(shape[1], x.dtype)
    share(shape[1], x.size, lambda start, stop: loops().batch_norm(rows, weight, bias, np.float32(eps), y, mean, var,
                                                                     start, stop))
    return channels.back(y), mean, var


@kernel(batch_norm_.gradient, "numba")
def compiled_batch_norm_gradient(wants, g, y, x, weight, bias, eps):
    (gy, gmean, gvar), (_, mean, var) = g, y
    if gmean is not None or gvar is not None or not _serves(x, gy, weight):
        return NotImplemented
    channels, shape = _maps(x)
    if shape[2] < LEAST_PLACES:
        return NotImplemented
    rows, slopes = (plain(channels.rows(a)).reshape(shape) for a in (x, gy))
    dx, dweight, dbias = np.empty_like(rows), np.empty(shape[1], x.dtype), np.empty(shape[1], x.dtype)
    weight = _or(weight, 1, shape[1])
    share(shape[1], x.size, lambda start, stop: loops().batch_norm_gradient(
        slopes, rows, weight, mean, var, np.float32(eps), dx, dweight, dbias, start, stop))
    return channels.back(dx), dweight, dbias


@kernel(apply_batch_norm, "numba")
def compiled_apply_batch_norm(x, mean, var, weight=None, bias=None, *, eps):
    if not _serves(x, mean, var, weight, bias):
        return NotImplemented
    channels, shape = _maps(x)
    if shape[2] < LEAST_PLACES or not _fit(shape[1], mean, var, weight, bias):
        return NotImplemented
    scale = 1 / np.sqrt(var + np.float32(eps))
    scale = plain(scale if weight is None else scale * weight)
    shift = plain(-mean * scale if bias is None else bias - mean * scale)
    rows = plain(channels.rows(x)).reshape(shape)
    y = np.empty_like(rows)
    share(len(rows), x.size, lambda start, stop: loops().scale_and_shift(rows, scale, shift, y, start, stop))
    return channels.back(y)

# --- recurrent networks over a sequence -------------------------------------------------------------------------------


@kernel(lstm_sequence, "numba")
def compiled_lstm_sequence(x_part, weight_hh, h, c, *, reverse=False):
    if not _serves(x_part, weight_hh, h, c) or x_part.shape[1:] != (len(h), 4 * h.shape[1]) or c.shape != h.shape:
        return NotImplemented
    x, h, last, cell = plain(x_part), plain(h), plain(c), loops().lstm_cell
    outputs, cells, gates = np.empty((len(x), *h.shape), x.dtype), np.empty((len(x), *h.shape), x.dtype), np.empty_like(x)
    turned, part = np.empty(x.shape[:0:-1], x.dtype), np.empty(x.shape[1:], x.dtype)
    for t in times(len(x), reverse):
        np.copyto(part, np.matmul(weight_hh, h.T, out=turned).T)            # a third faster than h @ weight_hh.T
        cell(x[t], part, last, gates[t], cells[t], outputs[t])
        h, last = outputs[t], cells[t]
    return outputs, last.copy(), cells, gates


@kernel(lstm_sequence.gradient, "numba")
def compiled_lstm_sequence_gradient(wants, g, y, x_part, weight_hh, h, c, reverse):
    (to_outputs, to_last, to_cells, to_gates), (outputs, _, cells, gates) = g, y
    if to_cells is not None or to_gates is not None or not _serves(x_part, weight_hh, h, c, to_outputs, to_last):
        return NotImplemented
    dgates, dh, first, cell = np.empty_like(gates), np.zeros_like(h, order="C"), plain(c), loops().lstm_cell_gradient
    dc = np.zeros_like(dh) if to_last is None else np.array(to_last, order="C")
    to_outputs = np.zeros_like(outputs) if to_outputs is None else plain(to_outputs)
    steps = [*times(len(gates), reverse)]
    for t, earlier in zip(steps[::-1], [*steps[-2::-1], None], strict=True):
        cell(gates[t], first if earlier is None else cells[earlier], cells[t], to_outputs[t], dh, dc, dgates[t])
        np.matmul(dgates[t], weight_hh, out=dh)
    flat = dgates.reshape(-1, dgates.shape[2])
    dweight = flat.T @ before(outputs, h, reverse).reshape(-1, h.shape[1]) if wants[1] else None
    return dgates, dweight, dh, dc


@kernel(gru_sequence, "numba")
def compiled_gru_sequence(x_part, weight_hh, h, bias_hh=None, *, reverse=False):
    if (not _serves(x_part, weight_hh, h, bias_hh) or x_part.shape[1:] != (len(h), 3 * h.shape[1])
            or not _fit(x_part.shape[2], bias_hh)):
        return NotImplemented
    x, h, bias, cell = plain(x_part), plain(h), _or(bias_hh, 0, x_part.shape[2]), loops().gru_cell
    outputs, inner, gates = np.empty((len(x), *h.shape), x.dtype), np.empty((len(x), *h.shape), x.dtype), np.empty_like(x)
    turned, part = np.ascontiguousarray(weight_hh.T), np.empty(x.shape[1:], x.dtype)
    for t in times(len(x), reverse):
        np.matmul(h, turned, out=part)
        cell(x[t], part, bias, h, gates[t], inner[t], outputs[t])
        h = outputs[t]
    return outputs, gates, inner


@kernel(gru_sequence.gradient, "numba")
def compiled_gru_sequence_gradient(wants, g, y, x_part, weight_hh, h, bias_hh, reverse):
    (to_outputs, to_gates, to_inner), (outputs, gates, inner) = g, y
    if to_gates is not None or to_inner is not None or not _serves(x_part, weight_hh, h, to_outputs):
        return NotImplemented
    dgates, dparts, dh = np.empty_like(gates), np.empty_like(gates), np.zeros_like(h, order="C")
    cell, earlier, to_outputs = loops().gru_cell_gradient, before(outputs, h, reverse), plain(to_outputs)
    for t in times(len(gates), not reverse):
        cell(gates[t], earlier[t], inner[t], to_outputs[t], dh, dgates[t], dparts[t])
        dh += dparts[t] @ weight_hh
    flat = dparts.reshape(-1, dparts.shape[2])
    dweight = flat.T @ earlier.reshape(-1, h.shape[1]) if wants[1] else None
    return dgates, dweight, dh, of_rows(flat)

# --- attention --------------------------------------------------------------------------------------------------------


@kernel(attention, "numba")
def compiled_attention(query, key, value, *, scale, causal):
    if not (_serves(query, key, value) and scale > 0 and key.size and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
            and key.shape[-2] == value.shape[-2]):
        return NotImplemented
    q, k, v = map(flat, (query, key, value))
    y, total = np.empty((*q.shape[:2], v.shape[2]), q.dtype), np.empty(q.shape[:2], q.dtype)
    for heads, rows, keys in attention_blocks(len(q), q.shape[1], k.shape[1], causal):
        weights = np.matmul(q[heads, rows], k[heads, :keys].mT)
        sums, logarithms = np.empty(weights.shape[:2], q.dtype), np.empty(weights.shape[:2], q.dtype)
        loops().attention_weights(weights, np.float32(scale), rows.start, causal, sums, logarithms)
        np.divide(np.matmul(weights, v[heads, :keys]), sums[:, :, None], out=y[heads, rows])
        total[heads, rows] = logarithms
    return y.reshape(*query.shape[:-1], value.shape[-1]), total.reshape(query.shape[:-1])


@kernel(attention.gradient, "numba")
def compiled_attention_gradient(wants, g, y, query, key, value, scale, causal):
    (g, gtotal), (y, total) = g, y
    if gtotal is not None or not (_serves(query, key, value, g) and scale > 0 and key.size):
        return NotImplemented
    q, k, v, g, y = map(flat, (query, key, value, g, y))
    total, along = total.reshape(q.shape[:2]), np.vecdot(g, y)
    dq, dk, dv = np.empty_like(q, order="C"), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    for heads, rows, keys in attention_blocks(len(q), q.shape[1], k.shape[1], causal):
        at = heads, rows
        weights, slopes = np.matmul(q[at], k[heads, :keys].mT), np.matmul(g[at], v[heads, :keys].mT)
        loops().attention_slopes(weights, slopes, plain(total[at]), plain(along[at]), np.float32(scale), rows.start,
                                 causal)
        dv[heads, :keys] += np.matmul(weights.mT, g[at])
        dq[at] = np.matmul(slopes, k[heads, :keys])
        dk[heads, :keys] += np.matmul(slopes.mT, q[at])
    return dq.reshape(query.shape), dk.reshape(key.shape), dv.reshape(value.shape)

# --- embedding --------------------------------------------------------------------------------------------------------


@kernel(index_select_grad, "numba")
def compiled_index_select_grad(g, index, *, shape, axis):
    flat, width = np.asarray(index).reshape(-1).astype(np.int64), math.prod(shape[1:])
    if not (_serves(g) and axis == 0 and shape[0] and g.size == flat.size * width):
        return NotImplemented
    table = np.zeros((shape[0], width), g.dtype)
    loops().add_rows(plain(g).reshape(flat.size, width), flat % shape[0], table)
    return table.reshape(shape)
