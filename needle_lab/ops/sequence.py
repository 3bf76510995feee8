"""LSTM and GRU over a whole sequence as one op each: the loop over time without a graph node for every step.

What can be one matrix product for all steps is one: the input's share of the gates comes in as x_part. The rules unroll the
cells of `recurrent.py` and differentiate that.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from ..core.derivatives import by_parts
from ..core.graph import op
from ..core.tensor import Tensor
from ..core.types import Array, Gradients, Outputs
from .linalg import linear
from .recurrent import gru_gates, lstm_cell, sigmoid_
from .shape import chunk, concat, stack

Step: TypeAlias = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]                 # new state, kept values


def times(length: int, reverse: bool) -> range:
    """The order in which a sequence is read."""
    return range(length - 1, -1, -1) if reverse else range(length)


def _unrolled(step: Callable[..., Step], x_part: Tensor, state: tuple[Tensor, ...],
              reverse: bool) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """What `step(x, *state) -> (new state, kept values)` gives at each time, stacked by ops: states, then kept values."""
    found: list[tuple[Tensor, ...]] = [()] * x_part.shape[0]
    for t in times(len(found), reverse):
        state, kept = step(x_part[t], *state)
        found[t] = (*state, *kept)
    return state, [stack(values) for values in zip(*found, strict=True)]


# --- LSTM ---------------------------------------------------------------------------------------------------------------


@op(promote="float")
def lstm_sequence(x_part: Array, weight_hh: Array, h: Array, c: Array, *, reverse: bool = False) -> tuple[Array, ...]:
    """-> (outputs h_t (T, N, H), last c (N, H), cells c_t (T, N, H), activated gates (T, N, 4 H)).

    x_part (T, N, 4 H): W_ih x + b_ih + b_hh for all steps; weight_hh (4 H, H); h, c (N, H). The cell is `lstm_cell`.
    """
    found: list[tuple[Array, ...]] = [()] * len(x_part)
    for t in times(len(x_part), reverse):
        h, c, gates = lstm_cell.definition(x_part[t] + h @ weight_hh.T, c)
        found[t] = h, c, gates
    outputs, cells, gates = _stacked(found, h, c, x_part)
    return outputs, c.copy(), cells, gates


def _stacked(found: Sequence[tuple[Array, ...]], *shaped: Array) -> list[Array]:
    """The values kept at each time, stacked; of no times, arrays (0, N, ...) as wide as `shaped`."""
    if found:
        return [np.stack(values) for values in zip(*found, strict=True)]
    return [np.zeros((0, *like.shape[-2:]), like.dtype) for like in shaped]


@lstm_sequence.gradient
def lstm_sequence_gradient(g: Outputs, x_part: Tensor, weight_hh: Tensor, h: Tensor, c: Tensor,
                           reverse: bool) -> Gradients:
    if not x_part.shape[0]:                                       # of no steps, the last c is the first
        return None, None, None, g[1]

    def unrolled(x_part: Tensor, weight_hh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        def step(x: Tensor, h: Tensor, c: Tensor) -> Step:
            h, c, gates = lstm_cell(x + linear(h, weight_hh), c)
            return (h, c), (gates,)
        (_, last), (outputs, cells, gates) = _unrolled(step, x_part, (h, c), reverse)
        return outputs, last, cells, gates
    return by_parts(unrolled, (x_part, weight_hh, h, c), g)


# --- GRU ----------------------------------------------------------------------------------------------------------------


@op(promote="float")
def gru_sequence(x_part: Array, weight_hh: Array, h: Array, bias_hh: Array | None = None, *,
                 reverse: bool = False) -> tuple[Array, ...]:
    """-> (outputs h_t (T, N, H), activated gates r, z, n (T, N, 3 H), the new gate's W_hn h + b_hn (T, N, H)).

    x_part (T, N, 3 H): W_ih x + b_ih for all steps; weight_hh (3 H, H), bias_hh (3 H); h (N, H). The cell is `gru_cell`.
    """
    found: list[tuple[Array, ...]] = [()] * len(x_part)
    for t in times(len(x_part), reverse):
        part = h @ weight_hh.T if bias_hh is None else h @ weight_hh.T + bias_hh
        (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(x_part[t], 3, -1), np.split(part, 3, -1)
        r, z = sigmoid_(x_r + h_r), sigmoid_(x_z + h_z)
        new = np.tanh(x_n + r * h_n)
        h = (1 - z) * new + z * h
        found[t] = h, np.concatenate([r, z, new], -1), h_n
    return tuple(_stacked(found, h, x_part, h))


@gru_sequence.gradient
def gru_sequence_gradient(g: Outputs, x_part: Tensor, weight_hh: Tensor, h: Tensor, bias_hh: Tensor | None,
                          reverse: bool) -> Gradients:
    if not x_part.shape[0]:
        return None, None, None, None

    def unrolled(x_part: Tensor, weight_hh: Tensor, h: Tensor, bias_hh: Tensor | None = None) -> list[Tensor]:
        def step(x: Tensor, h: Tensor) -> Step:
            part = linear(h, weight_hh, bias_hh)
            r, z, new = gru_gates(x, part)
            return (new + z * (h - new),), (concat([r, z, new], axis=-1), chunk(part, 3, axis=-1)[2])
        return _unrolled(step, x_part, (h,), reverse)[1]
    return by_parts(unrolled, (x_part, weight_hh, h) if bias_hh is None else (x_part, weight_hh, h, bias_hh), g)
