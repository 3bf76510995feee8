"""The [fast] kernels against numpy's forms: the same values and gradients to rounding; they decline what they cannot do."""

import os
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import assert_close
from kernel_samples import CONVOLUTIONS, N
from peers import require

import needle_lab as ndl
from needle_lab.core.graph import OPS
from needle_lab.core.tiers import Tiered, kernel
from needle_lab.errors import MissingExtraError
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


def test_without_fast_numpy_computes_the_same_bits():
    x = N(200, 100)
    with ndl.use_kernels("numpy"):
        numpys = ndl.silu(ndl.tensor(x)).numpy()
        np.testing.assert_array_equal(numpys, OPS["silu"].compute.kernels["numpy"](x))
    assert ndl.use_kernels.level == "fast"
    assert not np.array_equal(ndl.silu(ndl.tensor(x)).numpy(), numpys)


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
