"""Every strategy of the convolution against PyTorch: values, both gradients, layouts, odd shapes, threads; the choice."""

import concurrent.futures
import itertools
import os

import numpy as np
import pytest
from conftest import assert_close
from peers import needs_torch, torch

import needle_lab as ndl
from needle_lab.errors import ArgumentError, ShapeError
from needle_lab.kernels.numpy import threads
from needle_lab.kernels.numpy.convolution import strategies
from needle_lab.kernels.numpy.convolution.choose import choose
from needle_lab.kernels.numpy.convolution.geometry import Geometry
from needle_lab.kernels.numpy.convolution.strategies import Depthwise, Pointwise, batch_first, batch_last
from needle_lab.kernels.numpy.scratch import KEPT_BYTES, scratch
from needle_lab.ops.convolutions import convolution, convolution_input, convolution_weight

P0, P1 = ((0, 0), (0, 0)), ((1, 1), (1, 1))

# x, weight, stride, pads, dilation, groups: chosen so that each strategy meets odd sizes, and every layout of it
CASES = {
    "tiny": ((2, 3, 4, 5), (4, 3, 3, 3), (1, 1), P1, (1, 1), 1),
    "tiny, groups, stride, dilation": ((3, 4, 6, 5), (6, 2, 2, 3), (2, 1), ((1, 0), (2, 1)), (2, 1), 2),
    "tiny 1d": ((2, 3, 11), (4, 3, 3), (2,), ((1, 2),), (2,), 1),
    "tiny 3d": ((1, 2, 3, 4, 3), (2, 2, 2, 3, 2), (1, 2, 1), ((1, 1), (0, 1), (1, 0)), (1, 1, 2), 1),
    "per sample": ((2, 5, 19, 23), (7, 5, 3, 2), (1, 1), ((2, 1), (0, 3)), (1, 2), 1),
    "per sample, stride": ((3, 4, 40, 37), (6, 4, 5, 5), (2, 2), ((2, 2), (2, 2)), (1, 1), 1),
    "per sample, groups": ((2, 6, 20, 20), (9, 2, 3, 3), (1, 1), P1, (1, 1), 3),
    "per sample, negative pads": ((2, 5, 24, 25), (7, 5, 3, 3), (1, 1), ((-2, 1), (3, -1)), (1, 1), 1),
    "per sample 1d": ((2, 8, 700), (6, 8, 5), (2,), ((2, 2),), (1,), 1),
    "per sample 3d": ((2, 4, 7, 9, 8), (5, 4, 3, 3, 3), (1, 1, 1), ((1, 1), (1, 1), (1, 1)), (1, 1, 1), 1),
    "batch last": ((37, 20, 7, 6), (24, 20, 3, 2), (1, 1), ((1, 0), (1, 1)), (1, 1), 1),
    "batch last, stride": ((16, 20, 9, 8), (24, 20, 3, 3), (2, 2), P1, (1, 1), 1),
    "batch last, rows 1 KiB apart": ((12, 4, 16, 16), (24, 4, 3, 3), (2, 2), P1, (1, 1), 1),
    "batch last, groups": ((16, 20, 9, 8), (24, 10, 3, 3), (1, 1), P1, (2, 1), 2),
    "batch last, many samples": ((530, 6, 5, 5), (8, 6, 3, 3), (1, 1), P1, (1, 1), 1),
    "batch last, negative pads": ((16, 20, 9, 8), (24, 20, 3, 3), (1, 1), ((-1, 2), (0, -2)), (1, 1), 1),
    "kernel cut to one place": ((32, 40, 1, 1), (48, 40, 3, 3), (1, 1), P1, (1, 1), 1),
    "kernel cut to the map": ((32, 40, 2, 2), (48, 40, 3, 3), (2, 2), P1, (1, 1), 1),
    "kernel that sees only padding": ((20, 40, 1, 2), (48, 40, 1, 1), (2, 3), ((1, 0), (1, 1)), (1, 1), 1),
    "places between that see nothing": ((2, 3, 1, 2), (4, 3, 7, 1), (5, 1), ((5, 6), (0, 0)), (1, 1), 1),
    "pointwise": ((2, 24, 17, 18), (30, 24, 1, 1), (1, 1), P0, (1, 1), 1),
    "pointwise, batch last": ((18, 24, 5, 3), (30, 24, 1, 1), (1, 1), P0, (1, 1), 1),
    "pointwise, stride": ((9, 24, 35, 34), (30, 24, 1, 1), (2, 2), P0, (1, 1), 1),
    "pointwise, crop and groups": ((9, 24, 12, 11), (30, 12, 1, 1), (2, 3), ((-1, 0), (0, -2)), (1, 1), 2),
    "depthwise": ((2, 24, 12, 13), (24, 1, 3, 3), (1, 1), P1, (1, 1), 24),
    "depthwise, stride, multiplier": ((3, 12, 15, 14), (36, 1, 5, 3), (2, 1), ((2, 2), (1, 0)), (1, 2), 12),
    "depthwise, steps of 2 over places 3 apart": ((2, 9, 15, 14), (9, 1, 3, 3), (2, 2), ((3, 2), (3, 3)), (3, 2), 9),
    "depthwise, crop": ((2, 24, 12, 13), (24, 1, 3, 3), (1, 2), ((-1, 0), (-2, -3)), (1, 1), 24),
    "depthwise 1d": ((2, 24, 33), (48, 1, 5), (3,), ((2, 4),), (1,), 24),
    "depthwise 3d": ((2, 5, 6, 7, 8), (5, 1, 3, 2, 3), (1, 2, 3), ((1, 1), (0, 1), (1, 0)), (1, 1, 2), 5),
    "depthwise, large map": ((1, 3, 220, 190), (3, 1, 3, 3), (1, 1), P1, (1, 1), 3),
    "winograd 4x4 tiles": ((2, 40, 30, 31), (36, 40, 3, 3), (1, 1), P1, (1, 1), 1),
    "winograd, batch last": ((33, 64, 7, 7), (64, 64, 3, 3), (1, 1), P1, (1, 1), 1),
    "winograd, asymmetric pads": ((3, 48, 26, 27), (40, 48, 3, 3), (1, 1), ((0, 2), (2, 1)), (1, 1), 1),
    "winograd, crop": ((3, 48, 26, 27), (40, 48, 3, 3), (1, 1), ((-1, 0), (1, -3)), (1, 1), 1),
    "winograd, one tile": ((40, 48, 4, 3), (40, 48, 3, 3), (1, 1), P1, (1, 1), 1),
    "winograd, map of 2x2": ((40, 48, 2, 2), (64, 48, 3, 3), (1, 1), P1, (1, 1), 1),
    "winograd, map of 2x4": ((40, 48, 2, 4), (64, 48, 3, 3), (1, 1), P1, (1, 1), 1),
    "no samples": ((0, 3, 5, 5), (4, 3, 3, 3), (1, 1), P1, (1, 1), 1),
    "no outputs": ((2, 3, 5, 5), (0, 3, 3, 3), (1, 1), P1, (1, 1), 1),
    "no channels": ((2, 0, 5, 5), (4, 0, 3, 3), (1, 1), P1, (1, 1), 1),
}
LAYOUTS = {"plain": lambda a: a,
           "batch last": lambda a: batch_first(np.ascontiguousarray(a.transpose(*range(1, a.ndim), 0))),
           "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
           "every second": lambda a: np.repeat(a, 2, -1)[..., ::2]}


@pytest.fixture
def two_threads(monkeypatch):
    """Work is shared among two threads however little it is."""
    monkeypatch.setattr(strategies, "SHARED_WORK", 0)
    monkeypatch.setattr(strategies, "LEAST_COLUMNS", 1)
    before = ndl.get_num_threads()
    ndl.set_num_threads(2)
    yield
    ndl.set_num_threads(before)


def geometry(case, dtype=np.float32):
    x, weight, stride, pads, dilation, groups = case
    return Geometry(x, weight, stride, pads, dilation, groups, np.dtype(dtype))


def torch_sums(x, w, g, stride, pads, dilation, groups):
    """PyTorch's y, dx, dw; it pads by F.pad, which also crops."""
    x, w = (torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (x, w))
    F = torch.nn.functional
    padded = F.pad(x, [p for pair in reversed(pads) for p in pair])
    y = getattr(F, f"conv{len(stride)}d")(padded, w, None, stride, 0, dilation, groups)
    y.backward(torch.tensor(np.ascontiguousarray(g)))
    return y.detach(), x.grad, w.grad


def check_all_three(case, dtype, layout="plain"):
    x_shape, w_shape, stride, pads, dilation, groups = case
    rng = np.random.default_rng(0)
    x, w, g = (rng.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape, geometry(case).y))
    x, g = LAYOUTS[layout](x), LAYOUTS[layout](g)
    how = dict(stride=stride, pads=pads, dilation=dilation, groups=groups)
    ours = (convolution.compute(x, w, **how), convolution_input.compute(g, w, size=x_shape[2:], **how),
            convolution_weight.compute(x, g, kernel=w_shape[2:], **how))
    if 0 in x_shape + w_shape:                                    # PyTorch does not take all of these
        for value, shape in zip(ours, (geometry(case).y, x_shape, w_shape), strict=True):
            assert value.shape == shape and not value.any()
        return
    for name, value, expected in zip(("y", "dx", "dw"), ours, torch_sums(x, w, g, *case[2:]), strict=True):
        assert_close(value, expected, 1e-5 if dtype == np.float32 else 1e-12, name)


@needs_torch
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_strategy_agrees_with_torch(name, layout):
    check_all_three(CASES[name], np.float32, layout)
    check_all_three(CASES[name], np.float64, layout)


@needs_torch
@pytest.mark.parametrize("name", CASES)
def test_two_threads_compute_the_same(name, two_threads):
    check_all_three(CASES[name], np.float32)
    check_all_three(CASES[name], np.float32, "batch last")


@needs_torch
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("winograd")])
def test_without_winograd(name):
    with ndl.use_kernels(ndl.use_kernels.level, without="winograd"):
        assert all(choice.name == "im2col" for _, choice in ndl.explain_conv(*CASES[name]).rows)
        check_all_three(CASES[name], np.float32)
    assert ndl.explain_conv(*CASES[name]).rows[0][1].name == "winograd"


def test_the_cases_reach_every_strategy():
    seen = {ndl.explain_conv(*case).rows[0][1].name for case in CASES.values()}
    assert seen == {"dense", "im2col", "pointwise", "depthwise", "winograd", "empty"}


@needs_torch
def test_transposed_convolution_takes_the_same_strategies():
    rng = np.random.default_rng(1)
    for shape, weight, options in [((2, 6, 9, 8), (6, 4, 3, 3), dict(stride=2, padding=1, output_padding=1)),
                                   ((12, 32, 7, 7), (32, 32, 3, 3), dict(padding=1)),
                                   ((2, 6, 5, 5), (6, 2, 3, 3), dict(groups=3, dilation=2))]:
        x, w = rng.normal(size=shape).astype("float32"), rng.normal(size=weight).astype("float32")
        assert_close(ndl.conv_transpose(ndl.tensor(x), ndl.tensor(w), **options),
                     torch.nn.functional.conv_transpose2d(torch.tensor(x), torch.tensor(w), **options), 1e-5)


@needs_torch
def test_prepared_weights_serve_many_calls(rng):
    """`choose(..., reuse=True)` is what a plan for inference keeps: prepared once, any number of inputs, a given output."""
    cases = [CASES[name] for name in ("winograd 4x4 tiles", "kernel cut to the map", "pointwise, stride")]
    for case, fast in itertools.product(cases, (False, True)):
        w = rng.normal(size=case[1]).astype(np.float32)
        with ndl.use_kernels("fast" if fast else "numpy"):
            way = choose(*case, np.float32, reuse=True)
            ready = way.prepare(w)
            for _ in range(2):
                x = rng.normal(size=case[0]).astype(np.float32)
                out = np.full(geometry(case).y, np.nan, np.float32)
                assert way.run(x, ready, out) is out
                assert_close(out, torch_sums(x, w, out, *case[2:])[0], 1e-5)


def test_winograd_loses_little(rng):
    """On ReLU's outputs, against float64: 2e-6 of the largest output; the classic points (0, 1, -1, 2, -2) lose 8e-6."""
    x = np.maximum(rng.normal(size=(1, 128, 28, 28)), 0).astype(np.float32)
    w = (rng.normal(size=(128, 128, 3, 3)) / 24).astype(np.float32)
    exact = convolution.definition(x.astype(float), w.astype(float), stride=(1, 1), pads=P1, dilation=(1, 1), groups=1)
    assert ndl.explain_conv(x.shape, w.shape, padding=1).rows[0][1].name == "winograd"
    error = np.abs(ndl.conv(ndl.tensor(x), ndl.tensor(w), padding=1).numpy() - exact).max() / np.abs(exact).max()
    assert error < 4e-6


def test_infinity_and_nan_stay_in_their_sample():
    for case in (CASES["winograd, batch last"], CASES["batch last"], CASES["tiny"]):
        x, w = np.ones(case[0], np.float32), np.ones(case[1], np.float32)
        x[1, 0, 0, 0] = np.inf
        with np.errstate(invalid="ignore"):
            y = convolution.compute(x, w, stride=case[2], pads=case[3], dilation=case[4], groups=case[5])
        assert np.isfinite(y[0]).all() and not np.isfinite(y[1]).all()


def test_memory_is_let_go(rng):
    """Columns are scratch, which the graph does not hold; what a large call needed goes with the next small one."""
    x = ndl.tensor(rng.normal(size=(2, 8, 33, 35)).astype(np.float32), requires_grad=True)
    y = ndl.conv(x, ndl.tensor(rng.normal(size=(4, 8, 5, 5)).astype(np.float32)))
    held = [a for a in (*y.node.inputs, *(y.node.outputs or ())) if a is not None]
    assert sum(a.data.nbytes if isinstance(a, ndl.Tensor) else a.nbytes for a in held) < 2 * x.data.nbytes
    big = scratch("test", (5 * KEPT_BYTES,), np.uint8)
    assert scratch("test", (16,), np.uint8).base is not big.base
    assert scratch("test", (8,), np.uint8).base is scratch("test", (16,), np.uint8).base


def test_batch_last_is_a_view_where_it_can_be(rng):
    x = rng.normal(size=(9, 4, 3, 2))
    y = batch_first(np.ascontiguousarray(x.transpose(1, 2, 3, 0)))
    np.testing.assert_array_equal(y, x)
    assert np.shares_memory(batch_last(y), y) and not np.shares_memory(batch_last(x), x)


def test_explanation_names_numbers_and_reasons():
    told = ndl.explain_conv((1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert [name for name, _ in told.rows] == ["y", "dx", "dw"] and told.direct == 64 * 64 * 9 * 56 * 56
    assert "winograd" in str(told) and "4.0 times fewer" in str(told) and "<table>" in told._repr_html_()
    assert repr(told) == str(told) and told.bytes_moved() == 4 * (2 * 64 * 56 * 56 + 64 * 64 * 9)
    for wrong in (((1, 3, 5, 5), (4, 2, 3, 3)), ((1, 3, 5), (4, 3, 3, 3)), ((1, 3, 2, 2), (4, 3, 5, 5))):
        with pytest.raises(ShapeError, match="explain_conv"):
            ndl.explain_conv(*wrong)


def test_geometry_is_cut_to_what_is_seen():
    small, kept = geometry(((1, 2, 1, 1), (3, 2, 3, 3), (2, 2), P1, (1, 1), 1)).trimmed()
    assert small.weight == (3, 2, 1, 1) and small.pads == P0 and kept == (slice(1, 2), slice(1, 2))
    assert Pointwise.fits(small) and not Depthwise.fits(small)

# --- threads --------------------------------------------------------------------------------------------------------


def test_number_of_threads_is_set_and_checked(two_threads):
    assert ndl.get_num_threads() == 2
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises(ArgumentError, match="at least 1"):
            ndl.set_num_threads(wrong)


def test_small_work_is_not_shared_and_results_repeat(two_threads, monkeypatch):
    case = CASES["batch last"]
    rng = np.random.default_rng(2)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in case[:2])
    how = dict(stride=case[2], pads=case[3], dilation=case[4], groups=case[5])
    shared = [convolution.compute(x, w, **how) for _ in range(3)]
    np.testing.assert_array_equal(shared[0], shared[1])
    np.testing.assert_array_equal(shared[0], shared[2])
    monkeypatch.setattr(strategies, "SHARED_WORK", 1 << 60)
    assert_close(convolution.compute(x, w, **how), shared[0], 1e-6)


def test_parts_run_once_in_any_order_and_errors_are_raised(two_threads):
    assert threads.parallel(lambda i: i * i, range(100)) == [i * i for i in range(100)]
    inner = threads.parallel(lambda i: sum(threads.parallel(lambda j: i + j, range(5))), range(7))
    assert inner == [5 * i + 10 for i in range(7)]

    def fails(i):
        if i == 3:
            raise ZeroDivisionError(f"part {i}")
    with pytest.raises(ZeroDivisionError, match="part 3"):
        threads.parallel(fails, range(8))
    assert threads.parallel(lambda i: i, range(3)) == [0, 1, 2], "and the next call works"


@needs_torch
def test_users_may_call_from_several_threads(two_threads):
    case = CASES["winograd 4x4 tiles"]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check_all_three, case, np.float32) for _ in range(8)]:
            done.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_computes(two_threads):
    """The child has none of its parent's threads and starts its own. (PyTorch's would wait for ever: it stays outside.)"""
    case = CASES["per sample"]
    rng = np.random.default_rng(3)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in case[:2])
    how = dict(stride=case[2], pads=case[3], dilation=case[4], groups=case[5])
    expected = convolution.compute(x, w, **how)                   # the parent's threads are running
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(not np.array_equal(convolution.compute(x, w, **how), expected))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
