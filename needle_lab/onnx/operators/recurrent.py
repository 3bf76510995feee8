"""RNN, LSTM and GRU as ONNX defines them, in every form: any activations, peepholes, clipping, given lengths.

The usual forms with weights in the file become layers of `needle_lab.nn`; these functions serve the rest. Gate orders
here are ONNX's: LSTM input, output, forget, cell; GRU update, reset, hidden.
"""

# ruff: noqa: N802    functions are named after ONNX operators

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ... import Tensor, nn, ops
from ...errors import UnsupportedOnnxError
from .layers import Fill, Layer, NodeView
from .table import kind_of, layer_of, since, writes, writes_layer

# name -> (function, default alpha, default beta)
ACTIVATIONS: dict[str, tuple[Callable, float | None, float | None]] = {
    "Relu": (lambda x, a, b: ops.relu(x), None, None), "Tanh": (lambda x, a, b: ops.tanh(x), None, None),
    "Sigmoid": (lambda x, a, b: ops.sigmoid(x), None, None), "Softsign": (lambda x, a, b: ops.softsign(x), None, None),
    "Softplus": (lambda x, a, b: ops.softplus(x), None, None), "Affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "LeakyRelu": (lambda x, a, b: ops.leaky_relu(x, negative_slope=a), 0.01, None),
    "ThresholdedRelu": (lambda x, a, b: ops.where(x > a, x, 0.0), 1.0, None),
    "ScaledTanh": (lambda x, a, b: a * ops.tanh(b * x), 1.0, 1.0),
    "HardSigmoid": (lambda x, a, b: ops.hardsigmoid(x, a, b), 0.2, 0.5),
    "Elu": (lambda x, a, b: ops.elu(x, alpha=a), 1.0, None),
}


def _activations(names, alphas, betas) -> list[Callable]:
    """Functions of one tensor; alphas and betas are given in order to those that take one."""
    alphas, betas, functions = list(alphas or []), list(betas or []), []
    for name in names:
        found = {known.lower(): entry for known, entry in ACTIVATIONS.items()}.get(name.lower())
        if found is None:
            raise UnsupportedOnnxError(f"activation {name!r} is none of {', '.join(ACTIVATIONS)}")
        function, alpha, beta = found
        a = alphas.pop(0) if alpha is not None and alphas else alpha
        b = betas.pop(0) if beta is not None and betas else beta
        functions.append(lambda x, function=function, a=a, b=b: function(x, a, b))
    return functions


def _run(x, weights, sequence_lens, states, cell, *, per_direction, activations, activation_alpha, activation_beta,
         direction, layout, outputs):
    """The loop over directions and time.  x (T, N, I); weights and states by direction -> Y, final states.

    cell(x_t, states, weights of the direction, activations) -> states, the first of which is the output.
    """
    if layout:
        x, states = x.transpose(0, 1), [None if s is None else s.transpose(0, 1) for s in states]
    steps, batch = x.shape[:2]
    lengths = None if sequence_lens is None else sequence_lens.numpy()
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    functions = _activations(activations, activation_alpha, activation_beta)
    by_direction, finals = [], []
    for d, back in enumerate(backwards):
        own = [None if w is None else w[d] for w in weights]
        size = own[1].shape[-1]
        state = [Tensor(np.zeros((batch, size), x.dtype)) if s is None else s[d] for s in states]
        ys = [None] * steps
        for t in (range(steps - 1, -1, -1) if back else range(steps)):
            new = cell(x[t], state, own, functions[d * per_direction:(d + 1) * per_direction])
            if lengths is not None:                      # a sequence that is over keeps its state and gives zeros
                going = (t < lengths)[:, None]
                new = [ops.where(going, n, s) for n, s in zip(new, state, strict=True)]
                ys[t] = ops.where(going, new[0], 0.0)
            else:
                ys[t] = new[0]
            state = new
        by_direction.append(ops.stack(ys))
        finals.append(state)
    y = ops.stack(by_direction, 1)                       # (T, directions, N, H)
    last = [ops.stack([f[k] for f in finals]) for k in range(len(states))]
    if layout:
        y, last = y.permute(2, 0, 1, 3), [s.transpose(0, 1) for s in last]
    return (y, *last)[:max(outputs, 1)]


def _limited(x, clip):
    return x if clip is None else ops.clip(x, -clip, clip)


def _biases(b, gates: int):
    """(directions, 2 gates H) -> the input's and the recurrence's bias of one direction, cut into gates."""
    if b is None:
        return [0.0] * gates, [0.0] * gates
    parts = ops.chunk(b, 2 * gates)
    return parts[:gates], parts[gates:]


def _names(activations, default: list[str], direction: str) -> list[str]:
    return activations or default * (2 if direction == "bidirectional" else 1)


@since(1, family="linear", rank=4, weights=(1, 2, 3))
def RNN(x, w, r, b=None, sequence_lens=None, initial_h=None, *, hidden_size=None, activations=None, activation_alpha=None,
        activation_beta=None, clip=None, direction="forward", layout=0, outputs=1, output_sequence=0):
    def cell(x_t, state, weights, functions):
        w, r, b = weights
        (wb,), (rb,) = _biases(b, 1)
        return [functions[0](_limited(x_t @ w.T + state[0] @ r.T + wb + rb, clip))]
    return _run(x, (w, r, b), sequence_lens, [initial_h], cell, per_direction=1, direction=direction, layout=layout,
                activations=_names(activations, ["Tanh"], direction), activation_alpha=activation_alpha,
                activation_beta=activation_beta, outputs=outputs)


@since(1, family="linear", rank=4, weights=(1, 2, 3))
def LSTM(x, w, r, b=None, sequence_lens=None, initial_h=None, initial_c=None, p=None, *, hidden_size=None, activations=None,
         activation_alpha=None, activation_beta=None, clip=None, direction="forward", input_forget=0, layout=0, outputs=1,
         output_sequence=0):
    def cell(x_t, state, weights, functions):
        w, r, b, p = weights
        h, c = state
        f_gate, f_cell, f_out = functions
        gates = x_t @ w.T + h @ r.T
        if b is not None:
            wb, rb = ops.chunk(b, 2)
            gates = gates + wb + rb
        i, o, f, g = ops.chunk(gates, 4, axis=-1)
        pi, po, pf = ops.chunk(p, 3) if p is not None else (0.0, 0.0, 0.0)
        i = f_gate(_limited(i + pi * c, clip))
        f = 1.0 - i if input_forget else f_gate(_limited(f + pf * c, clip))
        c = f * c + i * f_cell(_limited(g, clip))
        return [f_gate(_limited(o + po * c, clip)) * f_out(c), c]
    return _run(x, (w, r, b, p), sequence_lens, [initial_h, initial_c], cell, per_direction=3, direction=direction,
                layout=layout, activations=_names(activations, ["Sigmoid", "Tanh", "Tanh"], direction),
                activation_alpha=activation_alpha, activation_beta=activation_beta, outputs=outputs)


@since(1, family="linear", rank=4, weights=(1, 2, 3))
def GRU(x, w, r, b=None, sequence_lens=None, initial_h=None, *, hidden_size=None, activations=None, activation_alpha=None,
        activation_beta=None, clip=None, direction="forward", layout=0, linear_before_reset=0, outputs=1, output_sequence=0):
    def cell(x_t, state, weights, functions):
        w, r, b = weights
        (h,), (f_gate, f_hidden) = state, functions
        (wz, wr, wh), (rz, rr, rh) = _biases(b, 3)
        xz, xr, xh = ops.chunk(x_t @ w.T, 3, axis=-1)
        mz, mr, mh = ops.chunk(r, 3)
        z = f_gate(_limited(xz + h @ mz.T + wz + rz, clip))
        reset = f_gate(_limited(xr + h @ mr.T + wr + rr, clip))
        inner = reset * (h @ mh.T + rh) if linear_before_reset else (reset * h) @ mh.T + rh
        new = f_hidden(_limited(xh + inner + wh, clip))
        return [(1.0 - z) * new + z * h]
    return _run(x, (w, r, b), sequence_lens, [initial_h], cell, per_direction=2, direction=direction, layout=layout,
                activations=_names(activations, ["Sigmoid", "Tanh"], direction), activation_alpha=activation_alpha,
                activation_beta=activation_beta, outputs=outputs)

# --- as layers: gate orders of ONNX and of `needle_lab` (PyTorch's) --------------------------------------------------------

# ours[k] = ONNX's[order[k]]: iofc -> ifco, zrh -> rzh
GATE_ORDER = {nn.RNN: (0,), nn.LSTM: (0, 2, 3, 1), nn.GRU: (1, 0, 2)}


def reorder_gates(weight: np.ndarray, kind: type) -> np.ndarray:
    """Rows of (gates * H, ...) from ONNX's order of gates to PyTorch's."""
    parts = np.split(weight, len(GATE_ORDER[kind]))
    return np.concatenate([parts[i] for i in GATE_ORDER[kind]])


def onnx_gates(weight: np.ndarray, kind: type) -> np.ndarray:
    """Rows of (gates * H, ...) from PyTorch's order of gates to ONNX's."""
    parts = np.split(weight, len(GATE_ORDER[kind]))
    return np.concatenate([parts[GATE_ORDER[kind].index(i)] for i in range(len(parts))])


def run_recurrent(layer, x, sequence_lens=None, initial_h=None, initial_c=None, *, layout=0, outputs=1):
    """Call nn.RNN, LSTM or GRU as the ONNX operator: -> Y (T, directions, N, H), Y_h, Y_c."""
    if sequence_lens is not None and set(sequence_lens.tolist()) != {x.shape[1] if layout else x.shape[0]}:
        raise UnsupportedOnnxError("sequence_lens shorter than the sequence are not supported")
    swap = (lambda t: None if t is None else t.transpose(0, 1)) if layout else (lambda t: t)
    initial_h, initial_c = swap(initial_h), swap(initial_c)
    state = initial_h
    if layer.states == 2 and initial_h is not None:
        state = (initial_h, initial_h * 0.0 if initial_c is None else initial_c)
    y, final = layer(swap(x), state)
    y = y.reshape(*y.shape[:2], layer.directions, layer.hidden_size)
    final = final if isinstance(final, tuple) else (final,)
    if layout:                                               # (N, T, directions, H) and (N, directions, H)
        return (y.transpose(0, 1), *(t.transpose(0, 1) for t in final))[:max(outputs, 1)]
    return (y.transpose(1, 2), *final)[:max(outputs, 1)]


# operator -> (its layer, the activations that the layer has)
KINDS: dict[str, tuple[type, tuple[list[str], ...]]] = {
    RNN.__name__: (nn.RNN, (["Tanh"], ["Relu"])), LSTM.__name__: (nn.LSTM, (["Sigmoid", "Tanh", "Tanh"],)),
    GRU.__name__: (nn.GRU, (["Sigmoid", "Tanh"],))}


@layer_of(RNN)
@layer_of(LSTM)
@layer_of(GRU)
def _layer(node: NodeView) -> Layer | None:
    a, w, r = node.attrs, node.weights[1], node.weights[2]
    kind, usual = KINDS[node.op]
    directions = 2 if a.get("direction", "forward") == "bidirectional" else 1
    activations = a.get("activations") or usual[0] * directions
    peepholes = len(node.inputs) > 7 and node.inputs[7]
    if (w is None or r is None or a.get("direction", "forward") == "reverse" or a.get("clip") or a.get("input_forget")
            or peepholes or activations not in [u * directions for u in usual]
            or (kind is nn.GRU and not a.get("linear_before_reset"))):
        return None
    bias = len(node.inputs) > 3 and bool(node.inputs[3])
    if bias and node.weights[3] is None:
        return None
    options = {"nonlinearity": activations[0].lower()} if kind is nn.RNN else {}
    module: Any = kind(w.shape[2], r.shape[2], bias=bias, bidirectional=directions == 2, **options)
    fills: dict[str, Fill] = {}
    for d, suffix in enumerate(["_l0", "_l0_reverse"][:directions]):
        def part(values, d=d):
            return reorder_gates(values[d], kind)

        def input_bias(values, d=d):
            return reorder_gates(np.split(values[d], 2)[0], kind)

        def hidden_bias(values, d=d):
            return reorder_gates(np.split(values[d], 2)[1], kind)
        fills |= {"weight_ih" + suffix: Fill(1, f"gates {d}", part), "weight_hh" + suffix: Fill(2, f"gates {d}", part)}
        if bias:
            fills |= {"bias_ih" + suffix: Fill(3, f"input bias {d}", input_bias),
                      "bias_hh" + suffix: Fill(3, f"hidden bias {d}", hidden_bias)}
    call = functools.partial(run_recurrent, layout=a.get("layout", 0), outputs=node.outputs)
    dynamic = [0, *range(4, len(node.inputs))]
    return Layer(module, fills, dynamic, call)

# --- written --------------------------------------------------------------------------------------------------------------


@writes_layer(nn.RNN, nn.LSTM, nn.GRU)
def _recurrent(w, layer, x, *state):
    """One operator a layer; ONNX's order of axes, gates and weights differs from PyTorch's, which the layer has."""
    if layer.proj_size:
        raise UnsupportedOnnxError("export: an LSTM with proj_size has no ONNX operator")
    directions, single = layer.directions, x.ndim == 2
    y, starts = w.name(x), [w.name(s) for s in state]
    if single:
        y, starts = w.Unsqueeze(y, w.ints(1)), [w.Unsqueeze(s, w.ints(1)) for s in starts]
    elif layer.batch_first:
        y = w.transposed(y, [1, 0, 2])
    finals: list[list[str]] = [[] for _ in range(layer.states)]
    for k in range(layer.num_layers):
        of = slice(k * directions, (k + 1) * directions)
        own = [s if layer.num_layers == 1 else w.Slice(s, w.ints(of.start), w.ints(of.stop), w.ints(0))
               for s in starts]
        y, *last = _one_layer(w, layer, k, y, own)
        for found, s in zip(finals, last, strict=True):
            found.append(s)
        y = _directions_joined(w, layer, y, w.shape(x))
    ends = [f[0] if len(f) == 1 else w.Concat(*f, axis=0) for f in finals]
    if single:
        y, ends = w.Squeeze(y, w.ints(1)), [w.Squeeze(s, w.ints(1)) for s in ends]
    elif layer.batch_first:
        y = w.transposed(y, [1, 0, 2])
    return y, *ends


def _one_layer(w, layer, k: int, x: str, state: list[str]) -> tuple[str, ...]:
    """-> Y (T, directions, N, H), and the last states."""
    kind, suffixes = kind_of(layer), layer._suffixes(k)

    def stacked(letter: str, *names: str) -> str:
        """ONNX has the weights of both directions in one tensor, and the two biases one behind the other."""
        parts = tuple(getattr(layer, name + suffix) for suffix in suffixes for name in names)
        path, n = w.path(parts[0]), len(names)
        name = f"{path.rpartition('.')[0]}.{letter}_l{k}".removeprefix(".") if path else ""
        return w.weight(name, parts, lambda *arrays: np.stack([
            np.concatenate([onnx_gates(a, kind) for a in arrays[i:i + n]]) for i in range(0, len(arrays), n)]), letter)
    weights = [stacked("W", "weight_ih"), stacked("R", "weight_hh"),
               stacked("B", "bias_ih", "bias_hh") if layer.use_bias else ""]
    special: dict[str, Any] = {"linear_before_reset": 1} if kind is nn.GRU else {}
    if kind is nn.RNN:
        special["activations"] = [layer.nonlinearity.title()] * layer.directions
    return w.emit(kind.__name__, [x, *weights, "", *state], outputs=1 + layer.states, hidden_size=layer.hidden_size,
                  direction="bidirectional" if layer.bidirectional else "forward", **special)


def _directions_joined(w, layer, y: str, of: tuple[int, ...]) -> str:
    """Y (T, directions, N, H) -> (T, N, directions * H), and what undoes it is known to undo it."""
    apart = w.transposed(y, [0, 2, 1, 3])
    joined = w.Squeeze(y, w.ints(1)) if layer.directions == 1 else \
        w.Reshape(apart, w.ints(0, 0, layer.directions * layer.hidden_size))
    batch, steps = (1, of[0]) if len(of) == 2 else (of[0], of[1]) if layer.batch_first else (of[1], of[0])
    w.reshaped[joined] = apart, (steps, batch, layer.directions, layer.hidden_size)
    return joined


@writes("lstm_cell")
def _lstm_cell(w, gates, c):
    i, f, g, o = w.Split(gates, outputs=4, axis=-1, num_outputs=4 if w.opset >= 18 else None)
    new_c = w.Add(w.Mul(w.Sigmoid(f), c), w.Mul(w.Sigmoid(i), w.Tanh(g)))
    return w.Mul(w.Sigmoid(o), w.Tanh(new_c)), new_c, ""
