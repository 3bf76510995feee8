"""LSTM and GRU over a sequence: the steps in place, and the weights' gradient as one product over all steps at the end."""

import numpy as np

from ...core.tiers import kernel
from ...ops.sequence import gru_sequence, lstm_sequence, times
from .sums import of_rows


def before(states, first, reverse: bool):
    """The state that each step started from: (T, N, H), `first` at the beginning."""
    earlier = np.empty_like(states)
    if reverse:
        earlier[:-1], earlier[-1] = states[1:], first
    else:
        earlier[1:], earlier[0] = states[:-1], first
    return earlier


def _sigmoid(x) -> None:
    """In place: 1 / (1 + exp(-x)); exp may overflow to inf, and 1 / inf is right."""
    x *= -1                                  # np.negative in place errs for some strided arrays (NumPy 2.4)
    np.exp(x, out=x)
    x += 1
    np.divide(1, x, out=x)

# --- LSTM ---------------------------------------------------------------------------------------------------------------


@kernel(lstm_sequence, "numpy")
@np.errstate(over="ignore")
def quick_lstm_sequence(x_part, weight_hh, h, c, *, reverse=False):
    (length, n), size = x_part.shape[:2], h.shape[1]
    gates, outputs, cells = x_part.copy(), np.empty((length, n, size), h.dtype), np.empty((length, n, size), h.dtype)
    part, last = np.empty((4 * size, n), h.dtype), c
    for t in times(length, reverse):
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


@kernel(lstm_sequence.gradient, "numpy")
def lstm_sequence_gradient(wants, g, y, x_part, weight_hh, h, c, reverse):
    (to_outputs, to_last, to_cells, to_gates), (outputs, _, cells, gates) = g, y
    if to_cells is not None or to_gates is not None or not x_part.size:
        return NotImplemented
    length, n, size = outputs.shape
    dgates, dh = np.empty_like(gates), np.zeros((n, size), h.dtype)
    dc = np.zeros((n, size), h.dtype) if to_last is None else to_last.copy()
    earlier = before(cells, c, reverse)
    for t in times(length, not reverse):
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
    dweight = flat.T @ before(outputs, h, reverse).reshape(-1, size) if wants[1] else None
    return dgates, dweight, dh, dc

# --- GRU ----------------------------------------------------------------------------------------------------------------


@kernel(gru_sequence, "numpy")
@np.errstate(over="ignore")
def quick_gru_sequence(x_part, weight_hh, h, bias_hh=None, *, reverse=False):
    (length, n), size = x_part.shape[:2], h.shape[1]
    gates, outputs, inner = x_part.copy(), np.empty((length, n, size), h.dtype), np.empty((length, n, size), h.dtype)
    turned, part = np.ascontiguousarray(weight_hh.T), np.empty((n, 3 * size), h.dtype)
    for t in times(length, reverse):
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


@kernel(gru_sequence.gradient, "numpy")
def gru_sequence_gradient(wants, g, y, x_part, weight_hh, h, bias_hh, reverse):
    (to_outputs, to_gates, to_inner), (outputs, gates, inner) = g, y
    if to_gates is not None or to_inner is not None or not x_part.size:
        return NotImplemented
    length, n, size = outputs.shape
    dgates, dparts, dh = np.empty_like(gates), np.empty_like(gates), np.zeros((n, size), h.dtype)
    earlier = before(outputs, h, reverse)
    for t in times(length, not reverse):
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
    dweight = flat.T @ earlier.reshape(-1, size) if wants[1] else None
    return dgates, dweight, dh, of_rows(flat)
