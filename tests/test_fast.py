"""The [fast] kernels against numpy's forms: the same values and gradients to rounding; they decline what they cannot do."""

import os
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import assert_close
from op_samples import SAMPLES
from peers import require

import needle_lab as ndl
from needle_lab import optim
from needle_lab.core.graph import OPS
from needle_lab.core.tiers import Tiered, kernel
from needle_lab.errors import MissingExtraError, ShapeError
from needle_lab.kernels.numba.attach import LEAST, forget_outdated
from needle_lab.kernels.numpy.convolution.choose import choose

numba = require("numba")

FAST = sorted(name for name, op in OPS.items() if "numba" in op.compute.kernels or "numba" in op.gradient.compute.kernels)


@pytest.fixture(autouse=True)
def _fast_is_on_and_one_thread():
    threads = ndl.get_num_threads()
    ndl.set_num_threads(1)
    with ndl.use_kernels("fast"):
        yield
    ndl.set_num_threads(threads)


# --- samples that are large enough ------------------------------------------------------------------------------------


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
# A gate's sum of some 25 terms of its own scale is rounded in another order (25 eps = 3e-6); the steps after build on it.
TOLERANCES = {"gru_sequence": 3e-6, "lstm_sequence": 3e-6}


def test_every_fast_kernel_has_large_samples():
    assert sorted(LARGE) == FAST


def is_float(x) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def tensors(inputs):
    return [ndl.Tensor(x, requires_grad=is_float(x)) if isinstance(x, np.ndarray) else x for x in inputs]


def values_and_gradients(name, inputs, attrs, fast):
    """What the op gives, and for each floating output the gradients of all inputs."""
    with ndl.use_kernels("fast" if fast else "numpy"):
        xs = tensors(inputs)
        y = OPS[name](*xs, **attrs)
        outputs = [v for v in (y if isinstance(y, tuple) else (y,)) if v is not None]
        found = [v.numpy() for v in outputs]
        for i, v in enumerate(outputs):
            if v.requires_grad:
                seed = ndl.tensor(N(*v.shape, seed=9 + i).reshape(v.shape))
                leaves = [x for x in xs if isinstance(x, ndl.Tensor) and x.requires_grad]
                gradients = ndl.grad(v, leaves, seed, retain_graph=True, allow_unused=True)
                found += [g.numpy() for g in gradients if g is not None]
    return found


def record_calls(name, monkeypatch) -> list:
    """What the fast forms of the op answer from now on."""
    calls = []
    for kernels in (OPS[name].compute.kernels, OPS[name].gradient.compute.kernels):
        if "numba" in kernels:
            form = kernels["numba"]
            monkeypatch.setitem(kernels, "numba", lambda *a, form=form, **k: calls.append(r := form(*a, **k)) or r)
    return calls


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FAST)
def test_fast_equals_numpy_on_large_samples(name, threads, monkeypatch):
    ndl.set_num_threads(threads)
    monkeypatch.setattr("needle_lab.kernels.numba.attach.SHARE", 1 << 10)
    calls = record_calls(name, monkeypatch)
    for inputs, attrs in LARGE[name]:
        fast = values_and_gradients(name, inputs, attrs, True)
        plain = values_and_gradients(name, inputs, attrs, False)
        assert len(fast) == len(plain)
        for a, b in zip(fast, plain, strict=True):
            assert_close(a, b, TOLERANCES.get(name, 1e-6), f"{name} {[getattr(x, 'shape', x) for x in inputs]}")
    assert sum(r is not NotImplemented for r in calls) >= len(LARGE[name])


@pytest.mark.parametrize("name", FAST)
def test_fast_equals_numpy_on_the_samples_of_all_ops(name, monkeypatch):
    """Odd shapes, also empty ones: nothing is declined for its size."""
    monkeypatch.setattr("needle_lab.kernels.numba.attach.LEAST", 0)
    calls = record_calls(name, monkeypatch)
    sampler, _ = SAMPLES[name]
    for sample in sampler(np.random.default_rng(0)):
        inputs = [x.astype(np.float32) if is_float(x) else x for x in sample.inputs]
        for a, b in zip(values_and_gradients(name, inputs, sample.attrs, True),
                        values_and_gradients(name, inputs, sample.attrs, False), strict=True):
            assert_close(a, b, TOLERANCES.get(name, 1e-6), f"{name} {sample}")
    assert any(r is not NotImplemented for r in calls)


@pytest.mark.parametrize("name", FAST)
def test_other_dtypes_and_small_arrays_decline(name):
    inputs, attrs = LARGE[name][0]
    for changed in ([x.astype(np.float64) if is_float(x) else x for x in inputs],
                    [x[:1, :1] if is_float(x) and i == 0 and x.ndim > 1 else x for i, x in enumerate(inputs)]):
        form = OPS[name].compute.kernels.get("numba")
        if form is not None:
            assert form(*changed, **attrs) is NotImplemented
    wide = [x.astype(np.float64) if is_float(x) else x for x in inputs]
    for a, b in zip(values_and_gradients(name, wide, attrs, True), values_and_gradients(name, wide, attrs, False),
                    strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(set(FAST) - {"index_select_grad", "class_losses"}))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_go_where_numpy_sends_them(name, value):
    inputs, attrs = LARGE[name][name == "attention"]        # not causal: numpy's gradient lets a nan reach hidden keys
    x = inputs[0].copy()
    x[(1,) * x.ndim] = value
    with np.errstate(all="ignore"):
        for fast, plain in zip(values_and_gradients(name, (x, *inputs[1:]), attrs, True),
                               values_and_gradients(name, (x, *inputs[1:]), attrs, False), strict=True):
            np.testing.assert_array_equal(np.isnan(fast), np.isnan(plain))
            assert_close(np.nan_to_num(fast), np.nan_to_num(plain), 1e-5)


@pytest.mark.parametrize("name", sorted(set(FAST) - {"index_select_grad"}))
def test_second_derivatives_take_the_rules(name):
    inputs, attrs = LARGE[name][0]

    def twice(fast):
        with ndl.use_kernels("fast" if fast else "numpy"):
            x, *others = tensors(inputs)
            y = OPS[name](x, *others, **attrs)
            y = y[0] if isinstance(y, tuple) else y
            weights = ndl.tensor(N(*y.shape, seed=9))                # all alike, a normalised map has no slope at all
            slope, = ndl.grad((y * y * weights).sum(), [x], create_graph=True)
            return ndl.grad((slope * slope).sum(), [x])[0].numpy()
    assert_close(twice(True), twice(False), 1e-5)


@pytest.mark.parametrize("name, inputs, attrs", [
    ("layer_norm", (N(100, 100), N(99)), dict(axes=1, eps=1e-5)), ("batch_norm", (N(10, 10, 100), N(9)), dict(eps=1e-5)),
    ("apply_batch_norm", (N(10, 10, 100), N(9), N(9) ** 2), dict(eps=1e-5)),
    ("lstm_sequence", (N(7, 5, 255), N(256, 64), N(5, 64), N(5, 64)), {}),
    ("gru_sequence", (N(7, 9, 143), N(144, 48), N(9, 48)), {})])
def test_shapes_that_do_not_fit_are_errors_as_without(name, inputs, attrs):
    """A compiled loop would read what lies behind an array."""
    with pytest.raises(ShapeError):
        OPS[name](*tensors(inputs), **attrs)


def test_without_fast_numpy_computes_the_same_bits():
    x = N(200, 100)
    with ndl.use_kernels("numpy"):
        np.testing.assert_array_equal(ndl.silu(ndl.tensor(x)).numpy(), OPS["silu"].definition(x))
    assert ndl.use_kernels.level == "fast"
    assert not np.array_equal(ndl.silu(ndl.tensor(x)).numpy(), OPS["silu"].definition(x))


def test_two_python_threads_at_once():
    ndl.set_num_threads(2)
    expected = {seed: OPS["softmax"].compute(N(400, 300, seed=seed)) for seed in range(2)}
    errors = []

    def work(seed):
        x = ndl.tensor(N(400, 300, seed=seed))
        for _ in range(50):
            y = ndl.softmax(x, axis=-1).numpy()
            if np.abs(y - expected[seed]).max() > 1e-6:
                errors.append(seed)
    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not errors

# --- functions of one value -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, oracle, tolerance", [
    ("exp", np.exp, 2e-7), ("tanh", np.tanh, 2e-7), ("erf", OPS["erf"].compute, 5e-7)])
def test_exp_tanh_erf_over_all_floats(name, oracle, tolerance):
    from needle_lab.kernels.numba import compiled
    one = getattr(compiled, name)

    @numba.njit(fastmath=compiled.ANY_ORDER)
    def all_of(x, y):
        for i in range(x.size):
            y[i] = one(x[i])
    x = np.arange(0, 1 << 32, 1657, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, np.linspace(-110, 100, 300_001, dtype=np.float32), N(100_000),
                        np.array([0.0, -0.0, np.inf, -np.inf, np.nan], np.float32)])
    y = np.empty_like(x)
    all_of(x, y)
    with np.errstate(all="ignore"):
        exact = oracle(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(y[special], rounded[special])
    tiny = np.finfo(np.float32).tiny                      # below it floats have fewer digits
    normal = ~special & (np.abs(exact) >= tiny)
    assert (np.abs(y[normal] - exact[normal]) / np.abs(exact[normal])).max() <= tolerance
    assert np.abs(y[~special & ~normal] - exact[~special & ~normal]).max() <= 2e-45

# --- convolution and optimizers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape, outputs, pads", [
    ((2, 64, 19, 21), 48, (1, 1)), ((1, 32, 56, 56), 64, (0, 2)), ((8, 64, 14, 14), 64, (1, 1)),
    ((3, 64, 40, 9), 64, (2, 0)), ((64, 64, 9, 8), 64, (1, 1))])
def test_winograd_transforms_equal_the_products(shape, outputs, pads, threads):
    """Both sum the same terms, in another order: errors of Winograd's sums are up to 1e-5 of the largest value."""
    ndl.set_num_threads(threads)
    weight, padding = (outputs, shape[1], 3, 3), ((pads[0], pads[1]),) * 2
    x, w = N(*shape), N(*weight, seed=1)
    used = []
    for what in ("forward", "input", "weight"):
        way = choose(shape, weight, (1, 1), padding, (1, 1), 1, np.float32, what=what)
        used.append(way.name)
        g = N(*way.strategy.geometry.y, seed=2)
        for order in (np.ascontiguousarray, last):
            def run(way=way, what=what, order=order, g=g):
                if what == "weight":
                    return way.run(order(x), order(g))
                return way.run(order(x if what == "forward" else g), way.prepare(w))
            fast = run()
            with ndl.use_kernels("numpy"):
                plain = run()
            assert_close(fast, plain, 1e-5, f"{what} {way.name}")
    assert "winograd" in used


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape, kernel, stride, pads, dilation", [
    ((2, 16, 17, 19), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((3, 16, 20, 18), (3, 3), (2, 2), ((1, 1), (0, 1)), (1, 1)),
    ((2, 12, 21, 23), (5, 4), (1, 1), ((4, 2), (0, 5)), (1, 1)),
    ((2, 12, 21, 23), (3, 2), (1, 1), ((2, 2), (1, 1)), (2, 1)),
    ((1, 32, 16, 17), (1, 3), (3, 1), ((0, 0), (1, 1)), (1, 1)),
    ((2, 12, 21, 23), (2, 3), (1, 2), ((1, 1), (3, 3)), (3, 2))])
def test_depthwise_convolution_equals_numpy(shape, kernel, stride, pads, dilation, threads, monkeypatch):
    ndl.set_num_threads(threads)
    monkeypatch.setattr("needle_lab.kernels.numba.attach.SHARE", 1 << 10)
    weight = (shape[1], 1, *kernel)
    x, w = N(*shape), N(*weight, seed=1)
    for what in ("forward", "input", "weight"):
        way = choose(shape, weight, stride, pads, dilation, shape[1], np.float32, what=what)
        assert way.name == "depthwise"
        g = N(*way.strategy.geometry.y, seed=2)
        for order in (np.ascontiguousarray, last):
            arguments = (order(x), order(g)) if what == "weight" else (order(g if what == "input" else x), way.prepare(w))
            fast = way.run(*arguments)
            with ndl.use_kernels("numpy"):
                assert_close(fast, way.run(*arguments), 1e-6, what)


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, 0.1), lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True), lambda p: optim.Adam(p, 0.01),
    lambda p: optim.Adam(p, 0.01, betas=(0.8, 0.99), weight_decay=0.1), lambda p: optim.AdamW(p, 0.01, weight_decay=0.1)])
def test_optimizers_take_the_same_steps(make):
    def trained(fast):
        with ndl.use_kernels("fast" if fast else "numpy"):
            p = ndl.Tensor(N(150, 170), requires_grad=True)
            optimizer = make([p])
            for step in range(4):
                p.grad = ndl.tensor(N(150, 170, seed=step))
                optimizer.step()
            return p.numpy()
    assert_close(trained(True), trained(False), 1e-6)

# --- matrix products --------------------------------------------------------------------------------------------------


def _product_and_oracle(rows, columns):
    """The product by our kernel, and in float64."""
    from needle_lab.kernels.numba import products
    (stack, outputs, size), count = rows.shape, columns.shape[2]
    y, rest = np.full((stack, outputs, count), np.nan, np.float32), np.empty(products.ROWS * size, np.float32)
    starts = np.arange(size) * count
    products.products(rows.reshape(-1), columns.reshape(-1), starts, y.reshape(-1), count, outputs, count, 0, stack, rest)
    return y, rows.astype(np.float64) @ columns.astype(np.float64)


@pytest.mark.parametrize("outputs", [1, 5, 8, 13, 16, 64])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_inner_kernel_of_a_product_at_every_edge_of_a_tile(outputs, size):
    for count in (1, 7, 15, 16, 17, 33, 48, 49, 65, 100):
        got, expected = _product_and_oracle(N(2, outputs, size), N(2, size, count, seed=1))
        assert_close(got, expected, 1e-5)


def test_the_inner_kernel_drops_no_infinity_and_adds_none_from_beyond_the_edge():
    rows, columns = N(1, 9, 20), N(1, 20, 18, seed=1)
    columns[0, 3, 17] = np.inf
    got, expected = _product_and_oracle(rows, columns)
    assert np.isinf(got[0, :, 17]).all() and np.isfinite(got[0, :, :17]).all()
    assert_close(got[0, :, :17], expected[0, :, :17], 1e-5)


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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_equal_numpy_with_and_without_winograd(case, reuse, threads):
    x_shape, w_shape, *geometry = CONVOLUTIONS[case]
    x, weight = N(*x_shape), N(*w_shape, seed=1)
    ndl.set_num_threads(threads)

    def run(fast, tiles, what):
        with ndl.use_kernels("fast" if fast else "numpy", without=() if tiles else "winograd"):
            way = choose(x_shape, w_shape, *geometry, x.dtype, what=what, reuse=reuse)
            if what == "weight":
                return way.run(x, gradient)
            return way.run(x if what == "forward" else gradient, way.prepare(weight))
    gradient = N(*run(False, False, "forward").shape, seed=2)
    for what in ("forward", "input", "weight"):
        expected = run(False, False, what)
        assert_close(run(True, False, what), expected, 1e-5)
        assert_close(run(True, True, what), expected, 3e-5)               # Winograd's own error


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("case", ["tiles of 4x4", "tiles of 2x2", "stem"])
def test_a_weight_prepared_with_the_kernels_serves_without_them_and_the_other_way_round(case, reuse, before):
    x_shape, w_shape, *geometry = CONVOLUTIONS[case]
    x, weight = N(*x_shape), N(*w_shape, seed=1)
    with ndl.use_kernels("fast" if before else "numpy"):
        way = choose(x_shape, w_shape, *geometry, x.dtype, reuse=reuse)
        prepared = way.prepare(weight)
        expected = way.run(x, prepared)
    with ndl.use_kernels("numpy" if before else "fast"):
        assert_close(way.run(x, prepared), expected, 1e-5)


def test_compiled_loops_are_forgotten_when_any_source_changed(tmp_path):
    """Loops of windows.py contain the inner kernel of products.py: Numba itself would keep them."""
    kept = tmp_path / "__pycache__"
    kept.mkdir()
    (tmp_path / "products.py").write_text("one", encoding="utf-8")

    def forms_left() -> bool:
        (kept / "windows.windows-1.py311.nbi").touch()
        forget_outdated.__wrapped__(tmp_path)
        return any(kept.glob("*.nbi"))
    assert not forms_left() and forms_left()
    (tmp_path / "products.py").write_text("two", encoding="utf-8")
    assert not forms_left() and forms_left()


OTHER_PROCESSORS = {"x86_64": ["+sse2", "+sse4.2,+avx,+avx2,+fma"], "AMD64": ["+sse2", "+sse4.2,+avx,+avx2,+fma"]}
ON_ANOTHER = """
import numpy as np, needle_lab as ndl
from needle_lab.kernels.numpy.convolution.choose import choose
rng = np.random.default_rng(0)
for n, c, h, o, k, stride in (1, 3, 30, 13, 7, 2), (2, 40, 17, 33, 3, 1), (1, 96, 9, 40, 3, 2), (1, 256, 7, 130, 1, 1):
    x, w = rng.normal(size=(n, c, h, h)).astype("f4"), rng.normal(size=(o, c, k, k)).astype("f4")
    found = []
    for fast in False, True:
        with ndl.use_kernels("fast" if fast else "numpy"):
            way = choose(x.shape, w.shape, (stride, stride), ((k // 2, k // 2),) * 2, (1, 1), 1, x.dtype, reuse=True)
            found.append(way.run(x, way.prepare(w)))
    assert abs(found[1] - found[0]).max() < 1e-5 * abs(found[0]).max(), way
from needle_lab.kernels.numba.vectors import WIDTH
print("the same with", WIDTH)
"""


@pytest.mark.parametrize("features", OTHER_PROCESSORS.get(platform.machine(), [""]))
def test_the_kernels_compute_the_same_with_the_registers_of_other_processors(features, tmp_path):
    """This machine's vectors are tested above; Numba can be told to compile for one that has less."""
    chosen = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ON_ANOTHER], capture_output=True, text=True,
                          env={**os.environ, **chosen, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.strip() == f"the same with {8 if 'avx' in features else 4}", done.stderr


# --- the switch -------------------------------------------------------------------------------------------------------


def test_a_function_takes_its_form_unless_it_declines_or_is_switched_off():
    @Tiered
    def twice(x):
        return "plain"

    @kernel(twice, "numba")
    def only_twos(x):
        return "compiled" if x == 2 else NotImplemented
    assert [twice(1), twice(2)] == ["plain", "compiled"]
    for level, without in (("numpy", ()), ("definition", ()), ("fast", "only_twos")):
        with ndl.use_kernels(level, without):
            assert twice(2) == "plain"
    assert twice(2) == "compiled"


WITHOUT_NUMBA = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba" else found(name, *rest)
sys.modules["numba"] = None
import numpy as np, needle_lab as ndl
x = ndl.tensor(np.ones((300, 300), "float32"), requires_grad=True)
ndl.softmax(ndl.gelu_tanh(x)).sum().backward()
print(ndl.fast_available(), ndl.use_kernels.level == "fast", x.grad.shape)
try:
    ndl.use_kernels("fast")
except ndl.errors.MissingExtraError as error:
    print(error)
"""


def test_without_numba_everything_works_and_switching_on_names_the_extra():
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "False False (300, 300)"
    assert "needle-lab[fast]" in done.stdout


def test_numba_is_imported_by_the_first_large_call_alone():
    code = (f"import sys, numpy as np, needle_lab as ndl; before = 'numba' in sys.modules; n = {LEAST}\n"
            "ndl.gelu_tanh(ndl.tensor(np.ones(n - 1, 'float32'))); small = 'numba' in sys.modules\n"
            "ndl.gelu_tanh(ndl.tensor(np.ones(n, 'float32'))); print(before, small, 'numba' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.strip() == "False False True", done.stderr


def test_fast_needs_numba(monkeypatch):
    monkeypatch.setattr("needle_lab.core.tiers.fast_available", lambda: False)
    with pytest.raises(MissingExtraError, match=r"needle-lab\[fast\]"):
        ndl.use_kernels("fast")
