"""Operators of the domain ai.onnx.preview.training: optimizers as graph nodes.

Inputs are the learning rate, the step count, then all parameters, all gradients, and the states in groups.
"""

# ruff: noqa: N802    functions are named after ONNX operators

import functools

from ... import ops
from ...core.derivatives import grad
from .table import scalar, since

training = functools.partial(since, domain="ai.onnx.preview.training")


def _groups(tensors, count: int):
    """(x1, x2, g1, g2, ...) -> [(x1, g1, ...), (x2, g2, ...)]."""
    n = len(tensors) // count
    return [tensors[i::n] for i in range(n)]


def _flat(rows) -> tuple:
    """[(x1, v1), (x2, v2)] -> (x1, x2, v1, v2)."""
    return tuple(value for column in zip(*rows, strict=True) for value in column)


@training(1)
def Gradient(*inputs, xs, y, zs=None):
    """d y / d xs; the importer passes the value of y last."""
    return grad(inputs[-1].sum(), list(inputs[:len(xs)]), create_graph=True)


@training(1)
def Adagrad(r, t, *tensors, decay_factor=0.0, epsilon=1e-6, norm_coefficient=0.0):
    rate = r / (1.0 + t.astype(r.dtype) * decay_factor)
    rows = []
    for x, g, h in _groups(tensors, 3):
        g = norm_coefficient * x + g
        h = h + g * g
        rows.append((x - rate * g / (ops.sqrt(h) + epsilon), h))
    return _flat(rows)


@training(1)
def Momentum(r, t, *tensors, alpha, beta, mode, norm_coefficient):
    rows = []
    for x, g, v in _groups(tensors, 3):
        g = norm_coefficient * x + g
        v = alpha * v + (beta if int(scalar(t)) > 0 else 1.0) * g
        rows.append((x - r * (g + alpha * v if mode == "nesterov" else v), v))
    return _flat(rows)


@training(1)
def Adam(r, t, *tensors, alpha=0.9, beta=0.999, epsilon=1e-6, norm_coefficient=0.0, norm_coefficient_post=0.0):
    step = int(scalar(t))
    rate = r * ((1 - beta**step) ** 0.5 / (1 - alpha**step)) if step > 0 else r
    rows = []
    for x, g, v, h in _groups(tensors, 4):
        g = norm_coefficient * x + g
        v = alpha * v + (1 - alpha) * g
        h = beta * h + (1 - beta) * g * g
        x = x - rate * v / (ops.sqrt(h) + epsilon)
        rows.append(((1 - norm_coefficient_post) * x, v, h))
    return _flat(rows)
