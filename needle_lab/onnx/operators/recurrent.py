"""RNN, LSTM and GRU as ONNX defines them, in every form: any activations, peepholes, clipping, given lengths.

The usual forms with weights in the file become layers of `needle_lab.nn`; these functions serve the rest. Gate orders
are ONNX's: LSTM input, output, forget, cell; GRU update, reset, hidden.
"""

# ruff: noqa: N802    functions are named after ONNX operators

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ... import Tensor, ops
from ...errors import UnsupportedOnnxError
from .table import since

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


@since(1)
def RNN(x, w, r, b=None, sequence_lens=None, initial_h=None, *, hidden_size=None, activations=None, activation_alpha=None,
        activation_beta=None, clip=None, direction="forward", layout=0, outputs=1, output_sequence=0):
    def cell(x_t, state, weights, functions):
        w, r, b = weights
        (wb,), (rb,) = _biases(b, 1)
        return [functions[0](_limited(x_t @ w.T + state[0] @ r.T + wb + rb, clip))]
    return _run(x, (w, r, b), sequence_lens, [initial_h], cell, per_direction=1, direction=direction, layout=layout,
                activations=_names(activations, ["Tanh"], direction), activation_alpha=activation_alpha,
                activation_beta=activation_beta, outputs=outputs)


@since(1)
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


@since(1)
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
