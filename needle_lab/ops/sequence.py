"""LSTM and GRU over a whole sequence as one op each: the loop over time without a graph node for every step.

What can be one matrix product for all steps is one: the input's share of the gates comes in as x_part, the gradient of
the weights is taken from all steps at the end. In the loop only W_hh h is left, and the cell. The rules say what is
computed: they unroll the cells of `needle_lab.ops.recurrent` and differentiate that.
"""

import numpy as np

from ..core.graph import backward_kernel, by_parts, op
from .linalg import linear
from .recurrent import gru_gates, lstm_cell
from .shape import chunk, concat, stack


def _times(length: int, reverse: bool):
    return range(length - 1, -1, -1) if reverse else range(length)


def _unrolled(step, x_part, state: tuple, reverse: bool):
    """What `step(x, *state) -> (new state, kept values)` gives at each time, stacked by ops: states, then kept values."""
    found = [()] * x_part.shape[0]
    for t in _times(len(found), reverse):
        state, kept = step(x_part[t], *state)
        found[t] = (*state, *kept)
    return state, [stack(values) for values in zip(*found, strict=True)]


def _before(states, first, reverse: bool):
    """The state that each step started from: (T, N, H), `first` at the beginning."""
    earlier = np.empty_like(states)
    if reverse:
        earlier[:-1], earlier[-1] = states[1:], first
    else:
        earlier[1:], earlier[0] = states[:-1], first
    return earlier


def _sigmoid(x) -> None:
    """In place: tanh(x / 2) / 2 + 1 / 2."""
    x *= 0.5
    np.tanh(x, out=x)
    x *= 0.5
    x += 0.5

# --- LSTM ---------------------------------------------------------------------------------------------------------------


@op(promote="float", onnx=None)
def lstm_sequence(x_part, weight_hh, h, c, *, reverse=False):
    """-> (outputs h_t (T, N, H), last c (N, H), cells c_t (T, N, H), activated gates (T, N, 4 H)).

    x_part (T, N, 4 H): W_ih x + b_ih + b_hh for all steps; weight_hh (4 H, H); h, c (N, H). The cell is `lstm_cell`.
    """
    (length, n), size = x_part.shape[:2], h.shape[1]
    gates, outputs, cells = x_part.copy(), np.empty((length, n, size), h.dtype), np.empty((length, n, size), h.dtype)
    part, last = np.empty((4 * size, n), h.dtype), c
    for t in _times(length, reverse):
        gate = gates[t]
        gate += np.matmul(weight_hh, h.T, out=part).T               # a third faster than h @ weight_hh.T
        i, f, g, o = gate[:, :size], gate[:, size:2 * size], gate[:, 2 * size:3 * size], gate[:, 3 * size:]
        np.tanh(g, out=g)
        _sigmoid(gate[:, :2 * size])
        _sigmoid(o)
        last = np.multiply(f, last, out=cells[t])
        last += i * g
        h = np.multiply(o, np.tanh(last), out=outputs[t])
    return outputs, last.copy(), cells, gates


@lstm_sequence.gradient
def _(g, _y, x_part, weight_hh, h, c, reverse=False):
    def unrolled(x_part, weight_hh, h, c):
        def step(x, h, c):
            h, c, gates = lstm_cell(x + linear(h, weight_hh), c)
            return (h, c), (gates,)
        (_, last), (outputs, cells, gates) = _unrolled(step, x_part, (h, c), reverse)
        return outputs, last, cells, gates
    return by_parts(unrolled, (x_part, weight_hh, h, c), g)


@backward_kernel(lstm_sequence)
def _(needs, g, y, x_part, weight_hh, h, c, *, reverse=False):
    (to_outputs, to_last, to_cells, to_gates), (outputs, _, cells, gates) = g, y
    if to_cells is not None or to_gates is not None or not x_part.size:
        return NotImplemented
    length, n, size = outputs.shape
    dgates, dh = np.empty_like(gates), np.zeros((n, size), h.dtype)
    dc = np.zeros((n, size), h.dtype) if to_last is None else to_last.copy()
    earlier = _before(cells, c, reverse)
    for t in _times(length, not reverse):
        gate, dgate = gates[t], dgates[t]
        i, f, cell, o = (gate[:, k * size:(k + 1) * size] for k in range(4))
        if to_outputs is not None:
            dh += to_outputs[t]
        squashed = np.tanh(cells[t])
        np.multiply(dh, squashed, out=dgate[:, 3 * size:])
        squashed *= squashed
        np.subtract(1, squashed, out=squashed)
        squashed *= o
        squashed *= dh
        dc += squashed
        np.multiply(dc, cell, out=dgate[:, :size])
        np.multiply(dc, earlier[t], out=dgate[:, size:2 * size])
        np.multiply(dc, i, out=dgate[:, 2 * size:3 * size])
        slope = gate - gate * gate                                  # of the sigmoid: s (1 - s); of tanh: 1 - t^2
        np.subtract(1, cell * cell, out=slope[:, 2 * size:3 * size])
        dgate *= slope
        dc *= f
        np.matmul(dgate, weight_hh, out=dh)
    flat = dgates.reshape(-1, 4 * size)
    dweight = flat.T @ _before(outputs, h, reverse).reshape(-1, size) if needs[1] else None
    return dgates, dweight, dh, dc

# --- GRU ----------------------------------------------------------------------------------------------------------------


@op(promote="float", onnx=None)
def gru_sequence(x_part, weight_hh, h, bias_hh=None, *, reverse=False):
    """-> (outputs h_t (T, N, H), activated gates r, z, n (T, N, 3 H), the new gate's W_hn h + b_hn (T, N, H)).

    x_part (T, N, 3 H): W_ih x + b_ih for all steps; weight_hh (3 H, H), bias_hh (3 H); h (N, H). The cell is `gru_cell`.
    """
    (length, n), size = x_part.shape[:2], h.shape[1]
    gates, outputs, inner = x_part.copy(), np.empty((length, n, size), h.dtype), np.empty((length, n, size), h.dtype)
    turned, part = np.ascontiguousarray(weight_hh.T), np.empty((n, 3 * size), h.dtype)
    for t in _times(length, reverse):
        gate = gates[t]
        np.matmul(h, turned, out=part)
        if bias_hh is not None:
            part += bias_hh
        inner[t] = part[:, 2 * size:]
        r, z, new = gate[:, :size], gate[:, size:2 * size], gate[:, 2 * size:]
        gate[:, :2 * size] += part[:, :2 * size]
        _sigmoid(gate[:, :2 * size])
        new += r * inner[t]
        np.tanh(new, out=new)
        after = np.subtract(h, new, out=outputs[t])
        after *= z
        after += new
        h = after
    return outputs, gates, inner


@gru_sequence.gradient
def _(g, _y, x_part, weight_hh, h, bias_hh=None, reverse=False):
    def unrolled(x_part, weight_hh, h, bias_hh=None):
        def step(x, h):
            part = linear(h, weight_hh, bias_hh)
            r, z, new = gru_gates(x, part)
            return (new + z * (h - new),), (concat([r, z, new], axis=-1), chunk(part, 3, axis=-1)[2])
        return _unrolled(step, x_part, (h,), reverse)[1]
    return by_parts(unrolled, (x_part, weight_hh, h) if bias_hh is None else (x_part, weight_hh, h, bias_hh), g)


@backward_kernel(gru_sequence)
def _(needs, g, y, x_part, weight_hh, h, bias_hh=None, *, reverse=False):
    (to_outputs, to_gates, to_inner), (outputs, gates, inner) = g, y
    if to_gates is not None or to_inner is not None or not x_part.size:
        return NotImplemented
    length, n, size = outputs.shape
    dgates, dparts, dh = np.empty_like(gates), np.empty_like(gates), np.zeros((n, size), h.dtype)
    earlier = _before(outputs, h, reverse)
    for t in _times(length, not reverse):
        r, z, new = (gates[t, :, k * size:(k + 1) * size] for k in range(3))
        dr, dz, dnew = (dgates[t, :, k * size:(k + 1) * size] for k in range(3))
        dh += to_outputs[t]
        np.multiply(dh * (1 - z), 1 - new * new, out=dnew)
        np.multiply(dh * (earlier[t] - new), z * (1 - z), out=dz)
        np.multiply(dnew * inner[t], r * (1 - r), out=dr)
        part = dparts[t]
        part[:, :2 * size] = dgates[t, :, :2 * size]
        np.multiply(dnew, r, out=part[:, 2 * size:])
        dh *= z
        dh += part @ weight_hh
    flat = dparts.reshape(-1, 3 * size)
    dweight = flat.T @ earlier.reshape(-1, size) if needs[1] else None
    return dgates, dweight, dh, flat.sum(axis=0)
