"""Recurrent layers: RNN, LSTM and GRU over whole sequences, in several layers and both directions.

The input's share of the gates is computed for all steps in one matrix product; the loop over time adds the hidden
state's share and calls the cell (`needle_lab.ops.recurrent`). On the CPU the loops of LSTM and GRU are one op each
(`needle_lab.ops.sequence`). Weights have PyTorch's names, gate order and layout:
weight_ih_l0 (gates * H, input), weight_hh_l0 (gates * H, H), bias_ih_l0, bias_hh_l0, and _reverse for the way back.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike
from ..errors import ArgumentError, ShapeError
from ..ops.recurrent import gru_cell, lstm_cell, rnn_cell
from ..ops.sequence import gru_sequence, lstm_sequence
from . import init
from .module import Module
from .parameter import Parameter

State: TypeAlias = tuple[Tensor, ...]                 # h (N, H); for LSTM h and c


class _Recurrent(Module):
    """What the three kinds share: weights, layers, directions, the loop over time."""

    gates: int
    states: int = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, dtype: DTypeLike = "float32"):
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.use_bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size * self.directions
            for suffix in self._suffixes(layer):
                rows = self.gates * hidden_size
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, size), "weight_hh": (rows, hidden_size)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                for name, shape in shapes.items():
                    weight = Parameter(creation.empty(*shape, dtype=dtype))
                    setattr(self, name + suffix, init.uniform_(weight, -bound, bound))

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][:self.directions]

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        return tuple(getattr(self, name + suffix) if self.use_bias or "weight" in name else None
                     for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def _input_part(self, x: Tensor, weight_ih: Tensor, bias_ih: Any, bias_hh: Any) -> Tensor:
        """The input's share of all gates at all steps."""
        return ops.linear(x, weight_ih, None if bias_ih is None else bias_ih + bias_hh)

    def _step(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
        raise NotImplementedError

    def forward(self, x: Tensor, state: Tensor | tuple[Tensor, ...] | None = None) -> tuple[Tensor, Any]:
        """x (T, N, input_size), or (N, T, input_size) with batch_first, or (T, input_size) without a batch.

        state: h (layers * directions, N, H), for LSTM (h, c); zeros when absent.
        -> (outputs (T, N, directions * H) of the last layer, final state).
        """
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{type(self).__name__}: expected (T, N, {self.input_size}), got {x.shape}")
        batched = x.ndim == 3
        x = x if batched else ops.unsqueeze(x, 1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        start = self._initial(x, state, batched)
        final: list[State] = []
        for layer in range(self.num_layers):
            passes = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                weights = self._weights(suffix)
                outputs, last = self._run(x, tuple(s[len(final)] for s in start), weights, reverse=direction == 1)
                passes.append(outputs)
                final.append(last)
            x = passes[0] if len(passes) == 1 else ops.concat(passes, axis=-1)
            if self.dropout and layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout, self.training)
        states = tuple(ops.stack([s[k] for s in final]) for k in range(self.states))
        if not batched:
            x, states = x[:, 0], tuple(s[:, 0] for s in states)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        return x, states if self.states > 1 else states[0]

    def _initial(self, x: Tensor, state: Any, batched: bool) -> State:
        """The given state, checked, or zeros: a tuple of (layers * directions, N, H)."""
        shape = (self.num_layers * self.directions, x.shape[1], self.hidden_size)
        if state is None:
            return (creation.zeros(*shape, dtype=x.dtype, device=x.device),) * self.states
        given = tuple(state) if self.states > 1 else (state,)
        given = given if batched else tuple(ops.unsqueeze(s, 1) for s in given)
        for s in given:
            if s.shape != shape:
                raise ShapeError(f"{type(self).__name__}: the initial state needs shape {shape}, got {s.shape}")
        return given

    def _run(self, x: Tensor, state: State, weights: tuple[Any, ...], reverse: bool) -> tuple[Tensor, State]:
        """One layer in one direction: outputs (T, N, H), and the state after the last step."""
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        x_part = self._input_part(x, weight_ih, bias_ih, bias_hh)
        if x.device.backend == "numpy" and len(x_part):
            return self._sequence(x_part, state, weight_hh, bias_hh, reverse)
        return self._unrolled(x_part, state, weight_hh, bias_hh, reverse)

    def _unrolled(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None,
                  reverse: bool) -> tuple[Tensor, State]:
        parts, outputs = ops.unbind(x_part, 0), []
        for part in reversed(parts) if reverse else parts:
            state = self._step(part, state, weight_hh, bias_hh)
            outputs.append(state[0])
        return ops.stack(outputs[::-1] if reverse else outputs), state

    _sequence = _unrolled              # LSTM and GRU have an op for it


class RNN(_Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu  (Elman, 1990).  torch.nn.RNN, ONNX RNN."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 dtype: DTypeLike = "float32"):
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(f"RNN: nonlinearity {nonlinearity!r} is none of 'tanh', 'relu'")
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        self.nonlinearity = nonlinearity

    def _step(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
        return (rnn_cell(x_part, ops.linear(state[0], weight_hh), self.nonlinearity),)


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997).  state: (h, c).  torch.nn.LSTM, ONNX LSTM."""

    gates, states = 4, 2

    def _step(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
        h, c = state
        h, c, _ = lstm_cell(x_part + ops.linear(h, weight_hh), c)
        return h, c

    def _sequence(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None,
                  reverse: bool) -> tuple[Tensor, State]:
        outputs, c = lstm_sequence(x_part, weight_hh, *state, reverse=reverse)[:2]
        return outputs, (outputs[0 if reverse else -1], c)


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al., 2014), reset after the product.  torch.nn.GRU, ONNX GRU."""

    gates = 3

    def _input_part(self, x: Tensor, weight_ih: Tensor, bias_ih: Any, bias_hh: Any) -> Tensor:
        return ops.linear(x, weight_ih, bias_ih)           # b_hh stays with W_hh h, which the reset gate multiplies

    def _step(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
        return (gru_cell(x_part, ops.linear(state[0], weight_hh, bias_hh), state[0]),)

    def _sequence(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None,
                  reverse: bool) -> tuple[Tensor, State]:
        outputs = gru_sequence(x_part, weight_hh, state[0], bias_hh, reverse=reverse)[0]
        return outputs, (outputs[0 if reverse else -1],)
