"""Times, the roofline and the layers on it: counts against formulas; no test looks at how long anything takes."""

import json
import math

import numpy as np
import pytest
from peers import require

import needle_lab as ndl
from needle_lab import nn
from needle_lab.analysis import LayerCost, Roofline, Seconds, layer_costs, measure, measure_roofline
from needle_lab.plots import show_benchmarks, show_roofline, show_times

require("matplotlib").use("Agg")
ROOF = Roofline(peak=100e9, memory=20e9, cache=80e9)


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    from matplotlib import pyplot
    pyplot.close("all")


@pytest.mark.parametrize(("seconds", "words"), [
    (7e-9, "7 ns"), (1.234e-6, "1.23 us"), (0.0123, "12.3 ms"), (1, "1 s"), (90, "1.5 min"), (7200, "2 h"),
    (259_200, "3 days"), (0, "0 ns"), (4e-10, "0.4 ns")])
def test_seconds_print_with_a_unit(seconds, words):
    assert str(Seconds(seconds)) == repr(Seconds(seconds)) == f"{Seconds(seconds)}" == words
    assert Seconds(seconds) == seconds


def test_measure_calls_and_gives_a_time():
    calls = []
    took = measure(lambda: calls.append(1), seconds=0)
    assert isinstance(took, Seconds) and 0 < took < math.inf
    assert len(calls) >= 4                                     # one to warm up, three to choose the least from
    with pytest.raises(ndl.errors.ArgumentError, match="less than nothing"):
        measure(lambda: None, seconds=-1)


def test_the_roof_is_a_slope_and_then_flat():
    assert ROOF.ridge == 5
    assert np.array_equal(ROOF.roof([0.5, 5, 50]), [10e9, 100e9, 100e9])
    assert str(ROOF) == ("100.0 Gflop/s at most; copies: 20.0 GB/s in memory, 80.0 GB/s in the cache; "
                         "ridge at 5.0 operations a byte")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_measured_roof_has_speeds(threads):
    before = ndl.get_num_threads()
    ndl.set_num_threads(threads)
    try:
        roof = measure_roofline(seconds=0)
    finally:
        ndl.set_num_threads(before)
    assert all(0 < speed < math.inf for speed in (roof.peak, roof.memory, roof.cache))


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 1, bias=False), nn.AvgPool2d((2, 4)),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def test_operations_and_bytes_are_those_of_the_definitions():
    costs = layer_costs(net(), ndl.randn(2, 3, 16, 16), seconds=0)
    image, small = 2 * 8 * 16 * 16, 2 * 8 * 8 * 8              # values before and after the pooling
    expected = {                                               # path: operations, values moved
        "0": (2 * image * 27, 2 * 3 * 256 + image + 8 * 27 + 8),
        "1": (2 * image, 2 * image + 4 * 8),
        "2": (image, 2 * image),
        "3": (3 * small, image + small),
        "4": (2 * small * 8, 2 * small + 64),                  # "5" is like "4", so it is not listed
        "6": (8 * 2 * 8 * 4 * 2, small + 2 * 8 * 4 * 2),
        "7": (2 * 8 * 4 * 2, 2 * 8 * 4 * 2 + 2 * 8),
        "9": (2 * 2 * 8 * 5, 2 * 8 + 2 * 5 + 8 * 5 + 5),
    }
    assert {cost.path: cost.operations for cost in costs} == {path: count for path, (count, _) in expected.items()}
    for cost in costs:
        extra = 8 if cost.kind == "BatchNorm2d" else 0         # num_batches_tracked, an int64
        assert cost.nbytes == 4 * expected[cost.path][1] + extra
        assert cost.intensity == cost.operations / cost.nbytes and cost.rate * cost.seconds == pytest.approx(cost.operations)
        assert cost.path in str(cost) and cost.kind in str(cost)


def test_a_convolution_is_listed_under_its_strategy():
    model, x = net(), ndl.randn(2, 3, 16, 16)
    assert [cost.kind for cost in layer_costs(model, x, seconds=0) if cost.path == "4"] == ["pointwise"]
    wide = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    for allowed, kind in ((True, "winograd"), (False, "im2col")):
        with ndl.use_kernels(ndl.use_kernels.level, without=() if allowed else "winograd"):
            assert [cost.kind for cost in layer_costs(wide, ndl.randn(4, 64, 28, 28), seconds=0)] == [kind]


def test_a_model_is_left_as_it_was():
    model = net().train()
    model[1].eval()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    layer_costs(model, ndl.randn(2, 3, 16, 16), seconds=0)
    assert modes == [module.training for module in model.modules()]
    assert all(np.array_equal(before[name], value.numpy()) for name, value in model.state_dict().items())
    with pytest.raises(ndl.errors.ShapeError):
        layer_costs(model, ndl.randn(2, 4, 16, 16), seconds=0)
    assert modes == [module.training for module in model.modules()]

# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "scale"), [({"a": 1e-6, "b": 100.0}, "log"), ({"a": 0.2, "b": 0.3}, "linear"),
                                              ({"alone": 1.0}, "linear")])
def test_times_are_bars_with_their_values(times, scale):
    ax = show_times(times)
    assert [bar.get_width() for bar in ax.patches] == list(times.values())
    assert [text.get_text() for text in ax.texts] == [str(Seconds(value)) for value in times.values()]
    assert ax.get_xscale() == scale
    assert [label.get_text() for label in ax.get_yticklabels()] == list(times)


@pytest.mark.parametrize("times", [{}, {"a": 0.0}])
def test_times_without_a_length_are_refused(times):
    with pytest.raises(ndl.errors.ArgumentError, match="at least one time"):
        show_times(times)


def test_layers_stand_where_they_were_measured():
    layers = [LayerCost("a", "winograd", 3_000_000, 10_000, 2e-5), LayerCost("b", "im2col", 2_000_000, 10_000, 4e-5),
              LayerCost("c", "im2col", 1_000, 10_000, 1e-6)]
    ax = show_roofline(ROOF, layers)
    points = {line.get_label(): line.get_xydata().tolist() for line in ax.lines if line.get_marker() != "None"}
    assert points["winograd"] == [[layers[0].intensity, layers[0].rate]]
    assert points["im2col"] == [[layer.intensity, layer.rate] for layer in layers[1:]]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert all(left < layer.intensity < right and bottom < layer.rate < top for layer in layers)
    assert not show_roofline(ROOF).get_legend()                # the roof alone


def run_of(*contenders):
    rows = [{"name": "w", "title": "work: much", "threads": i + 1, "aim": [None, None],
             "contenders": {name: {"median_seconds": 0.1, "ratio": [ratio, 0.9 * ratio, 1.1 * ratio]}
                            for name, ratio in some.items()}} for i, some in enumerate(contenders)]
    return json.loads(json.dumps({"date": "2026-01-01", "machine": {}, "rows": rows}))


def test_benchmarks_are_dots_beside_pytorch():
    ax = show_benchmarks(run_of({"torch": 1, "numpy": 0.5, "onnxruntime": 0.4}, {"torch": 1}, {"torch": 1, "fast": 0.25}))
    dots = {line.get_label(): line.get_xdata().tolist() for line in ax.lines if line.get_marker() != "None"}
    assert dots == {"needle_lab": [0.5], "needle_lab with [fast]": [0.25], "onnxruntime": [0.4]}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["work, 1 thread", "work, 3 threads"]
    with pytest.raises(ndl.errors.ArgumentError, match="beside PyTorch"):
        show_benchmarks(run_of({"torch": 1}))
