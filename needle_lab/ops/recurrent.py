"""One step of the recurrent networks: RNN, LSTM, GRU cells.  Layers over whole sequences are in `needle_lab.nn`.

Gate order and formulas are PyTorch's. x_part is the input's share of the gates, W_ih x + b_ih + b_hh, which layers
compute for all steps in one matrix product; h_part is W_hh h.
"""

import numpy as np

from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Outputs
from .activations import relu, sigmoid
from .elementwise import tanh
from .shape import chunk, concat


@op(promote="float")
def lstm_cell(gates: Array, c: Array) -> tuple[Array, ...]:
    """-> (h, new c, activated gates).  gates (N, 4 H) before activation, in the order input, forget, cell, output; c (N, H).

    c' = f c + i g,  h = o tanh(c')  (Hochreiter and Schmidhuber, 1997; Gers et al., 2000).
    """
    i, f, g, o = np.split(gates, 4, axis=-1)
    i, f, g, o = sigmoid_(i), sigmoid_(f), np.tanh(g), sigmoid_(o)
    new_c = f * c + i * g
    return o * np.tanh(new_c), new_c, np.concatenate([i, f, g, o], axis=-1)


def sigmoid_(x: Array) -> Array:
    """Of an array."""
    return np.exp(np.minimum(x, 0.0)) / (1.0 + np.exp(-np.abs(x)))


@lstm_cell.gradient
def lstm_cell_gradient(g: Outputs, y: Outputs, gates: Tensor, c: Tensor) -> Gradients:
    gh, gc, gactivated = g
    _, new_c, activated = y
    i, f, cell, o = chunk(activated, 4, axis=-1)
    through = 0.0 if gc is None else gc
    to_o = 0.0 * o
    if gh is not None:
        squashed = tanh(new_c)
        through = through + gh * o * (1.0 - squashed * squashed)
        to_o = gh * squashed
    to_activated = concat([through * cell, through * c, through * i, to_o], axis=-1)
    to_activated = to_activated if gactivated is None else to_activated + gactivated
    slope = concat([i * (1.0 - i), f * (1.0 - f), 1.0 - cell * cell, o * (1.0 - o)], axis=-1)
    return to_activated * slope, through * f


def gru_cell(x_part: Tensor, h_part: Tensor, h: Tensor) -> Tensor:
    """-> new h.  x_part, h_part (N, 3 H), order reset, update, new; h (N, H)  (Cho et al., 2014).

    r, z = sigmoid(x + h parts);  n = tanh(x_n + r h_n);  h' = (1 - z) n + z h
    """
    _, z, n = gru_gates(x_part, h_part)
    return n + z * (h - n)


def gru_gates(x_part: Tensor, h_part: Tensor) -> tuple[Tensor, ...]:
    """-> r, z, n of `gru_cell`."""
    x_r, x_z, x_n = chunk(x_part, 3, axis=-1)
    h_r, h_z, h_n = chunk(h_part, 3, axis=-1)
    r = sigmoid(x_r + h_r)
    return r, sigmoid(x_z + h_z), tanh(x_n + r * h_n)


def rnn_cell(x_part: Tensor, h_part: Tensor, nonlinearity: str = "tanh") -> Tensor:
    """-> new h = tanh(x + h parts), or relu (Elman, 1990).  torch.nn.RNNCell."""
    return tanh(x_part + h_part) if nonlinearity == "tanh" else relu(x_part + h_part)
