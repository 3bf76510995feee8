"""Recurrent layers: RNN, LSTM and GRU over whole sequences, in several layers and both directions.

The input's share of the gates is computed for all steps in one matrix product; the loop over time adds the hidden
state's share and calls the cell (`needle_lab.ops.recurrent`). On the CPU the loops of LSTM and GRU are one op each
(`needle_lab.ops.sequence`). Weights have PyTorch's names, gate order and layout:
weight_ih_l0 (gates * H, input), weight_hh_l0 (gates * H, H), bias_ih_l0, bias_hh_l0, and _reverse for the way back; an LSTM
with proj_size has weight_hr_l0 (proj_size, H) too, and states of that size.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike
from ..errors import ArgumentError, ShapeError
from ..ops.recurrent import gru_cell, lstm_cell, rnn_cell
from ..ops.sequence import gru_sequence, lstm_sequence
from . import init
from .module import Module
from .parameter import Parameter
from .utils.rnn import PackedSequence, repacked, unpacked

State: TypeAlias = tuple[Tensor, ...]                 # h (N, H); for LSTM h and c


class _Recurrent(Module):
    """What the three kinds share: weights, layers, directions, the loop over time."""

    gates: int
    states: int = 1
    proj_size = 0

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, dtype: DTypeLike = "float32"):
        super().__init__()
        if proj_size and not (self.states == 2 and proj_size < hidden_size):
            raise ArgumentError(f"{type(self).__name__}: proj_size={proj_size} is for an LSTM, and below hidden_size")
        if proj_size:
            self.proj_size = proj_size
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.use_bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        bound = 1 / math.sqrt(hidden_size)
        for layer in range(num_layers):
            width = proj_size or hidden_size
            size = input_size if layer == 0 else width * self.directions
            for suffix in self._suffixes(layer):
                rows = self.gates * hidden_size
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, size), "weight_hh": (rows, width)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    weight = Parameter(creation.empty(*shape, dtype=dtype))
                    setattr(self, name + suffix, init.uniform_(weight, -bound, bound))

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][:self.directions]

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        return tuple(getattr(self, name + suffix, None) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def flatten_parameters(self) -> None:
        """Nothing: in PyTorch, it lays weights out for cuDNN."""

    def _input_part(self, x: Tensor, weight_ih: Tensor, bias_ih: Any, bias_hh: Any) -> Tensor:
        """The input's share of all gates at all steps."""
        return ops.linear(x, weight_ih, None if bias_ih is None else bias_ih + bias_hh)

    def _step(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
        raise NotImplementedError

    def forward(self, x: Tensor | PackedSequence, state: Tensor | tuple[Tensor, ...] | None = None) -> tuple[Any, Any]:
        """x (T, N, input_size), or (N, T, input_size) with batch_first, or (T, input_size) without a batch, or packed.

        state: h (layers * directions, N, H), for LSTM (h, c); zeros when absent.
        -> (outputs (T, N, directions * H) of the last layer, packed if x is; final state).
        """
        if isinstance(x, PackedSequence):
            return self._packed(x, state)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{type(self).__name__}: expected (T, N, {self.input_size}), got {x.shape}")
        batched = x.ndim == 3
        x = x if batched else ops.unsqueeze(x, 1)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        x, states = self._all_layers(x, self._initial(x, state, batched))
        if not batched:
            x, states = x[:, 0], tuple(s[:, 0] for s in states)
        x = x.transpose(0, 1) if batched and self.batch_first else x
        return x, states if self.states > 1 else states[0]

    def _packed(self, packed: PackedSequence, state: Any) -> tuple[PackedSequence, Any]:
        """Each sequence as long as it is, in both directions."""
        lengths, x = packed.lengths, unpacked(packed, packed.batch_sizes.shape[0])
        given = state if state is None or self.states > 1 else (state,)
        if given is not None and packed.sorted_indices is not None:
            given = tuple(ops.index_select(s, packed.sorted_indices, axis=1) for s in given)
        start = self._initial(x, given if given is None or self.states > 1 else given[0], True)
        inside = np.arange(x.shape[0])[:, None, None] < lengths[:, None]
        x, states = self._all_layers(x, start, inside)
        if packed.unsorted_indices is not None:
            states = tuple(ops.index_select(s, packed.unsorted_indices, axis=1) for s in states)
        return repacked(packed, x), states if self.states > 1 else states[0]

    def _all_layers(self, x: Tensor, start: State, inside: np.ndarray | None = None) -> tuple[Tensor, State]:
        """x (T, N, input_size) through all layers; inside (T, N, 1): where the sequences are, if they differ in length."""
        final: list[State] = []
        for layer in range(self.num_layers):
            passes = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                outputs, last = self._run(x, tuple(s[len(final)] for s in start), suffix, direction == 1, inside)
                passes.append(outputs)
                final.append(last)
            x = passes[0] if len(passes) == 1 else ops.concat(passes, axis=-1)
            if self.dropout and layer < self.num_layers - 1:
                x = ops.dropout(x, self.dropout, self.training)
        return x, tuple(ops.stack([s[k] for s in final]) for k in range(self.states))

    def _initial(self, x: Tensor, state: Any, batched: bool) -> State:
        """The given state, checked, or zeros: a tuple of (layers * directions, N, H)."""
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)[:self.states]
        shapes = [(self.num_layers * self.directions, x.shape[1], n) for n in sizes]
        if state is None:
            return tuple(creation.zeros(*shape, dtype=x.dtype, device=x.device) for shape in shapes)
        given = tuple(state) if self.states > 1 else (state,)
        given = given if batched else tuple(ops.unsqueeze(s, 1) for s in given)
        for s, shape in zip(given, shapes, strict=True):
            if s.shape != shape:
                raise ShapeError(f"{type(self).__name__}: the initial state needs shape {shape}, got {s.shape}")
        return given

    def _run(self, x: Tensor, state: State, suffix: str, reverse: bool, inside: np.ndarray | None) -> tuple[Tensor, State]:
        """One layer in one direction: outputs (T, N, H), and the state after the last step of each sequence."""
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights(suffix)
        x_part = self._input_part(x, weight_ih, bias_ih, bias_hh)
        if x.device.backend == "numpy" and len(x_part) and not self.proj_size and inside is None:
            return self._sequence(x_part, state, weight_hh, bias_hh, reverse)
        return self._unrolled(x_part, state, weight_hh, bias_hh, reverse, inside, vars(self).get("weight_hr" + suffix))

    def _unrolled(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None, reverse: bool,
                  inside: np.ndarray | None = None, weight_hr: Tensor | None = None) -> tuple[Tensor, State]:
        parts, found = ops.unbind(x_part, 0), dict[int, Tensor]()
        for t in range(len(parts))[::-1 if reverse else 1]:
            new = self._step(parts[t], state, weight_hh, bias_hh)
            new = new if weight_hr is None else (ops.linear(new[0], weight_hr), *new[1:])
            if inside is not None and not inside[t].all():             # a sequence that is over, or not begun, waits
                new = tuple(ops.where(inside[t], a, b) for a, b in zip(new, state, strict=True))
            state = new
            found[t] = state[0]
        return ops.stack([found[t] for t in range(len(parts))]), state

    def _sequence(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None,
                  reverse: bool) -> tuple[Tensor, State]:
        return self._unrolled(x_part, state, weight_hh, bias_hh, reverse)              # LSTM and GRU have an op for it


class RNN(_Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu  (Elman, 1990).  torch.nn.RNN, ONNX RNN."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
                 dtype: DTypeLike = "float32"):
        _check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)
        self.nonlinearity = nonlinearity

    def _step(self, x_part: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor | None) -> State:
        return (rnn_cell(x_part, ops.linear(state[0], weight_hh), self.nonlinearity),)


def _check_nonlinearity(nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"RNN: nonlinearity {nonlinearity!r} is none of 'tanh', 'relu'")


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997).  state: (h, c).  torch.nn.LSTM, ONNX LSTM.

    proj_size: h is made so much shorter by a matrix (Sak et al., 2014).
    """

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


class _Cell(Module):
    """One step of a recurrent layer, its gates computed as the layer's.

    x (N, input_size) or (input_size,), state: h (N, H), for LSTMCell (h, c); zeros when absent -> the new state.
    """

    layer: type[_Recurrent]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: DTypeLike = "float32"):
        super().__init__()
        self.input_size, self.hidden_size, self.use_bias = input_size, hidden_size, bias
        rows, bound = self.layer.gates * hidden_size, 1 / math.sqrt(hidden_size)
        self.weight_ih = Parameter(creation.empty(rows, input_size, dtype=dtype))
        self.weight_hh = Parameter(creation.empty(rows, hidden_size, dtype=dtype))
        self.bias_ih = Parameter(creation.empty(rows, dtype=dtype)) if bias else None
        self.bias_hh = Parameter(creation.empty(rows, dtype=dtype)) if bias else None
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{type(self).__name__}: expected (N, {self.input_size}), got {x.shape}")
        many, shape = self.layer.states, (*x.shape[:-1], self.hidden_size)
        if state is None:
            state = creation.zeros(*shape, dtype=x.dtype, device=x.device)
            state = (state,) * many if many > 1 else state
        given = tuple(state) if many > 1 else (state,)
        if any(s.shape != shape for s in given):
            raise ShapeError(f"{type(self).__name__}: the state needs shape {shape}, got {[s.shape for s in given]}")
        kind: Any = self.layer
        x_part = kind._input_part(self, x, self.weight_ih, self.bias_ih, self.bias_hh)
        new = kind._step(self, x_part, given, self.weight_hh, self.bias_hh)
        return new if many > 1 else new[0]


class RNNCell(_Cell):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.  x (N, input_size), h (N, H) -> h'.  torch.nn.RNNCell."""

    layer = RNN

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
                 dtype: DTypeLike = "float32"):
        _check_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    """One step of `LSTM`.  x (N, input_size), state (h, c), each (N, H) -> (h', c').  torch.nn.LSTMCell."""

    layer = LSTM


class GRUCell(_Cell):
    """One step of `GRU`.  x (N, input_size), h (N, H) -> h'.  torch.nn.GRUCell."""

    layer = GRU
