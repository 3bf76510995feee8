"""Samples that are large enough for the quicker forms: of ops, and of the methods that have forms of their own."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
from op_samples import samples_of

import needle_lab as ndl
from needle_lab import optim
from needle_lab.core.graph import Op
from needle_lab.core.rules import Gradient
from needle_lab.core.tiers import Tiered
from needle_lab.kernels.numpy.convolution.choose import choose
from needle_lab.ops.reduce import added
from needle_lab.testing import Sample, check_kernel

# --- ops ----------------------------------------------------------------------------------------------------------------


def N(*shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(size=shape, scale=scale).astype(np.float32)


def last(x):
    """The same values with the batch last in memory."""
    return np.ascontiguousarray(x.transpose(*range(1, x.ndim), 0)).transpose(x.ndim - 1, *range(x.ndim - 1))


def classes(n, c):
    return np.random.default_rng(1).integers(0, c, n)


def vectors(c):
    return N(c, seed=2), N(c, seed=3)


def _norm(x, eps=1e-5):
    return (x, *vectors(x.shape[1])), dict(eps=eps)


def _given(x):
    return (x, N(x.shape[1]), np.abs(N(x.shape[1], seed=4)) + 0.1, *vectors(x.shape[1])), dict(eps=1e-5)


def _heads(queries, keys, causal):
    return (N(2, 3, queries, 16), N(2, 3, keys, 16, seed=1), N(2, 3, keys, 24, seed=2)), dict(scale=0.3, causal=causal)


def _lstm(reverse):
    return (N(7, 5, 256), N(256, 64, seed=1, scale=0.1), N(5, 64, seed=2), N(5, 64, seed=3)), dict(reverse=reverse)


def _gru(reverse, bias):
    inputs = N(7, 9, 144), N(144, 48, seed=1, scale=0.1), N(9, 48, seed=2)
    return (*inputs, N(144, seed=3)) if bias else inputs, dict(reverse=reverse)


ELEMENTWISE = [((N(131, 67, scale=3),), {}), ((N(70, 140).T,), {}), ((last(N(9, 3, 20, 21)),), {}), ((N(9000)[::-1],), {})]
LARGE = {
    "gelu": ELEMENTWISE, "gelu_tanh": ELEMENTWISE, "silu": ELEMENTWISE, "relu": ELEMENTWISE,
    "softmax": [((N(91, 101, scale=4),), dict(axis=-1)), ((N(6, 7, 211)[:, ::-1],), dict(axis=2)), ((N(8200, 1),), {})],
    "class_losses": [((N(90, 101, scale=3), classes(90, 101)), dict(reduction=r)) for r in ("mean", "sum", "none")]
                    + [((N(1000, 10), classes(1000, 10).astype(np.int32)), dict(reduction="mean"))],
    "layer_norm": [((N(83, 129), *vectors(129)), dict(axes=1, eps=1e-5)), ((N(83, 129),), dict(axes=1, eps=1e-3)),
                   ((N(7, 30, 5, 9), N(5, 9), N(5, 9, seed=1)), dict(axes=2, eps=1e-5)),
                   ((N(129, 83).T, N(129)), dict(axes=1, eps=1e-5))],
    "batch_norm": [_norm(N(5, 7, 15, 17)), _norm(last(N(16, 11, 8, 9))), _norm(N(16, 3, 500)[::2]),
                   ((N(5, 7, 15, 17),), dict(eps=1e-3)), ((N(3, 2, 5000), N(2)), dict(eps=1e-5))],
    "apply_batch_norm": [_given(N(5, 7, 15, 17)), _given(last(N(16, 11, 8, 9))),
                         ((N(2, 5, 33, 34), N(5), np.abs(N(5)) + 1), dict(eps=1e-5))],
    "lstm_sequence": [_lstm(False), _lstm(True)],
    "gru_sequence": [_gru(False, True), _gru(True, True), _gru(False, False)],
    "attention": [_heads(130, 130, True), _heads(100, 140, False), _heads(140, 100, True), _heads(90, 140, True)],
    "index_select_grad": [((N(300, 40), classes(300, 50)), dict(shape=(50, 40), axis=0)),
                          ((N(300, 5, 8), classes(300, 9) - 9), dict(shape=(9, 5, 8), axis=0))],
}
WINDOW = dict(kernel=(3, 2), stride=(2, 1), pads=((1, 1), (0, 1)), dilation=(1, 1))


def _winners(x):
    """Inputs of the ops that need the maxima of windows of x: the values at them, and back."""
    y = ndl.ops.pool.max_windows.definition(x, **WINDOW)
    return [((N(*y.shape), x), WINDOW), ((last(N(*y.shape)), last(x)), WINDOW)], [((N(*x.shape, seed=1), x), WINDOW)]


LARGE["to_winners"], LARGE["from_winners"] = _winners(N(3, 4, 9, 8, seed=5))

# (x, weight, stride, pads, dilation, groups)
CONVOLUTIONS = {
    "stem": ((1, 3, 40, 44), (20, 3, 7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "rows without a rest": ((1, 3, 20, 64), (16, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "small map": ((2, 64, 7, 7), (37, 64, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "small map, one sample": ((1, 70, 7, 7), (37, 70, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "batch last": ((9, 16, 9, 11), (24, 16, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "batch last, groups and dilation": ((9, 16, 9, 11), (24, 8, 3, 3), (1, 1), ((1, 1), (1, 1)), (2, 2), 2),
    "uneven": ((1, 16, 30, 31), (24, 4, 5, 3), (3, 2), ((2, 1), (0, 2)), (1, 2), 4),
    "cropped": ((1, 32, 28, 28), (33, 32, 3, 3), (2, 2), ((2, 0), (-1, 3)), (1, 1), 1),
    "more padding than map": ((2, 8, 5, 5), (8, 8, 3, 3), (1, 1), ((4, 4), (4, 4)), (1, 1), 1),
    "tiles of 4x4": ((1, 64, 30, 27), (40, 64, 3, 3), (1, 1), ((1, 1), (0, 2)), (1, 1), 1),
    "tiles of 2x2": ((1, 256, 7, 7), (256, 256, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "tiles, batch last": ((10, 64, 13, 14), (64, 64, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "a map of 2x2": ((32, 40, 2, 2), (48, 40, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "a map of one tile": ((16, 32, 4, 4), (32, 32, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "pointwise": ((1, 256, 7, 7), (130, 256, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "pointwise, stride": ((1, 64, 28, 28), (128, 64, 1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
}
DEPTHWISE = [      # x, weight, stride, pads, dilation
    ((2, 16, 17, 19), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)), ((3, 16, 20, 18), (3, 3), (2, 2), ((1, 1), (0, 1)), (1, 1)),
    ((2, 12, 21, 23), (5, 4), (1, 1), ((4, 2), (0, 5)), (1, 1)), ((2, 12, 21, 23), (3, 2), (1, 1), ((2, 2), (1, 1)), (2, 1)),
    ((1, 32, 16, 17), (1, 3), (3, 1), ((0, 0), (1, 1)), (1, 1)), ((2, 12, 21, 23), (2, 3), (1, 2), ((1, 1), (3, 3)), (3, 2))]
for _number, (_x, _kernel, *_geometry) in enumerate(DEPTHWISE):
    CONVOLUTIONS[f"depthwise {_number}"] = (_x, (_x[1], 1, *_kernel), *_geometry, _x[1])

# --- methods --------------------------------------------------------------------------------------------------------------


@contextmanager
def recorded(target: Tiered, most: int = 12) -> Iterator[list[Sample]]:
    """The calls of a Tiered function: a form that notes what it is given, and declines, is asked first."""
    found: dict[tuple, Sample] = {}

    def note(*inputs, **attrs):
        shapes = tuple((x.shape, getattr(x, "strides", None)) if hasattr(x, "shape") else
                       str(x) if isinstance(x, (int, tuple, type(None))) else None for x in inputs)
        if len(found) < most and shapes not in found:
            found[shapes] = copy.deepcopy(Sample(inputs, attrs))
        return NotImplemented
    forms, calls = target.forms, []
    target.forms = (note, *forms)
    try:
        yield calls
    finally:
        target.forms = forms
        calls.extend(found.values())


def convolve_all() -> None:
    """All sums of all CONVOLUTIONS, with weights prepared for one call and for many, batch first and batch last."""
    for case, (x_shape, w_shape, *geometry) in CONVOLUTIONS.items():
        x, weight = N(*x_shape), N(*w_shape, seed=1)
        for reuse in (False, True):
            forward, to_x, to_weight = (choose(x_shape, w_shape, *geometry, x.dtype, what=what, reuse=reuse)
                                        for what in ("forward", "input", "weight"))
            g = N(*forward.run(x, forward.prepare(weight)).shape, seed=2)
            for order in (np.ascontiguousarray, last)[:2 if case.startswith(("depthwise", "tiles")) else 1]:
                forward.run(order(x), forward.prepare(weight))
                to_x.run(order(g), to_x.prepare(weight))
                to_weight.run(order(x), order(g))


def add_all() -> None:
    """Sums over axes that lie first, last and between in memory, of few and of many, and of arrays that are not dense."""
    x = np.abs(N(600, 5, 300))
    for y in (x, x.transpose(1, 2, 0), x[:, ::2], x[:3], N(70_000, 1, 2), N(0, 3), N(4, 600).astype(np.float64)):
        for axis in (None, *range(y.ndim), (0, -1), (1, 0)):
            for keepdims in (False, True):
                added(y, axis, keepdims)


OPTIMIZERS = [lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
              lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
              lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True), lambda p: optim.Adam(p, 0.01),
              lambda p: optim.Adam(p, 0.01, betas=(0.8, 0.99), weight_decay=0.1),
              lambda p: optim.AdamW(p, 0.01, weight_decay=0.1)]


def step_all() -> None:
    """Three steps of each optimizer over one large parameter, small ones, and one that is not float32."""
    for make in OPTIMIZERS:
        parameters = [ndl.Tensor(x, requires_grad=True) for x in (N(150, 170), N(7), N(3, 5), N(4).astype(np.float64))]
        optimizer = make(parameters)
        for step in range(3):
            for p in parameters:
                p.grad = ndl.Tensor(N(*p.shape, seed=step).astype(p.dtype))
            optimizer.step()


ROOMS = {"SGD": step_all, "Adam": step_all, "Optimizer": step_all, "added": add_all}


# Where forms leave small work to others, or to one thread.  The checks want the forms themselves.
THRESHOLDS = {"needle_lab.kernels.numba.attach.LEAST": 0, "needle_lab.kernels.numba.attach.SHARE": 1 << 10,
              "needle_lab.kernels.numpy.threads.VALUES": 1 << 5, "needle_lab.kernels.numpy.threads.PART": 1 << 3}


@contextmanager
def nothing_is_too_small(threads: int) -> Iterator[None]:
    before = ndl.get_num_threads()
    ndl.set_num_threads(threads)
    try:
        with ExitStack() as stack:
            for name, value in THRESHOLDS.items():
                stack.enter_context(mock.patch(name, value))
            yield
    finally:
        ndl.set_num_threads(before)


def check(name: str, target, tier: str) -> None:
    """The check of one kernel, which the tests and the mutation run share."""
    if isinstance(target, (Op, Gradient)):
        op = name.partition(".")[0]
        samples = [*samples_of(op), *(Sample(inputs, attrs) for inputs, attrs in LARGE.get(op, []))]
    else:
        with recorded(target, 99 if target is added else 12) as samples:
            ROOMS.get(name.split(".")[0], convolve_all)()
    # Convolutions: a strategy's transforms carry a nan to other places of its tile, and round more often.
    convolution = (not isinstance(target, (Op, Gradient)) and target is not added) or name.startswith("convolution")
    check_kernel(target, tier, samples, tolerance=1e-5 if convolution else 2e-6, specials=not convolution)
