"""Shared work: the same results with two threads as with one, errors raised where they belong, BLAS kept at one thread."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_close

import needle_lab as ndl
from needle_lab import nn, optim
from needle_lab.kernels.numpy import linalg, loss, optimizers, threads


@pytest.fixture
def two_threads():
    before = ndl.get_num_threads()
    ndl.set_num_threads(2)
    yield
    ndl.set_num_threads(before)


def with_one(function):
    before = ndl.get_num_threads()
    ndl.set_num_threads(1)
    try:
        return function()
    finally:
        ndl.set_num_threads(before)


@pytest.mark.parametrize(("a", "b"), [((700, 300), (300, 200)), ((200, 300), (300, 700)), ((4, 300, 200), (4, 200, 300)),
                                      ((1, 700, 300), (1, 300, 200)), ((3, 4), (4, 5)), ((0, 4), (4, 5)), ((4,), (4, 5))])
def test_products(a, b, rng, two_threads, monkeypatch):
    monkeypatch.setattr(threads, "PRODUCTS", 1)
    x, y = rng.normal(size=a).astype("float32"), rng.normal(size=b).astype("float32")
    assert_close(threads.matmul(x, y), np.matmul(x, y), 1e-6)
    out = np.empty(np.matmul(x, y).shape, np.float32)
    assert threads.matmul(x, y, out) is out
    assert_close(out, np.matmul(x, y), 1e-6)
    if x.ndim > 1:                                                  # transposed and strided operands
        assert_close(threads.matmul(y.swapaxes(-1, -2)[..., ::2, :], x.swapaxes(-1, -2)),
                     np.matmul(y.swapaxes(-1, -2)[..., ::2, :], x.swapaxes(-1, -2)), 1e-6)


def test_shapes_that_do_not_fit_are_numpy_s_own_error(two_threads, monkeypatch):
    monkeypatch.setattr(threads, "PRODUCTS", 1)
    with pytest.raises(ValueError, match="matmul"):
        threads.matmul(np.ones((3, 4)), np.ones((5, 6)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_elementwise_formulas_keep_the_memory_order(order, rng, two_threads, monkeypatch):
    monkeypatch.setattr(threads, "VALUES", 1)
    monkeypatch.setattr(threads, "PART", 7)
    x, y = (rng.normal(size=(4, 5, 6)).astype("float32").transpose(order) for _ in range(2))
    z = threads.elementwise(lambda a, b, c, scale: (a * b + c) * scale, x, y, 2.0, scale=3.0)
    np.testing.assert_array_equal(z, (x * y + np.float32(2)) * np.float32(3))
    assert z.strides == (x * y).strides
    assert threads.elementwise(np.less, x, y).dtype == bool
    np.testing.assert_array_equal(threads.elementwise(np.add, x, y[:1]), x + y[:1])            # broadcast: in one piece


def test_a_training_step_is_the_same_to_rounding(rng, two_threads, monkeypatch):
    """Norms, attention, losses, products and optimizers, with everything worth sharing."""
    for room in (threads, loss):
        monkeypatch.setattr(room, "VALUES", 1)
    for room in (threads, linalg):
        monkeypatch.setattr(room, "PRODUCTS", 1)
    monkeypatch.setattr(threads, "PART", 64)
    monkeypatch.setattr(optimizers, "VALUES", 100)                     # some parameters are larger, some smaller,
    monkeypatch.setattr(optimizers, "JOINED", 10)                      # some very small
    x, target = ndl.tensor(rng.normal(size=(4, 9, 8)).astype("float32")), ndl.tensor(rng.integers(0, 8, (4, 9)))
    images = ndl.tensor(rng.normal(size=(6, 3, 10, 10)).astype("float32"))

    def train():
        ndl.manual_seed(0)
        block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True)
        convs = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
        adam = optim.Adam([*block.parameters(), *convs.parameters()], lr=1e-3)
        for _ in range(3):
            adam.zero_grad()
            y = ndl.scaled_dot_product_attention(block(x), x, x, is_causal=True)
            loss = ndl.cross_entropy(y.reshape(-1, 8), target.reshape(-1)) + (convs(images) ** 2).mean()
            loss.backward()
            adam.step()
        return [p.numpy().copy() for p in adam._parameters()]
    for a, b in zip(train(), with_one(train), strict=True):
        assert_close(a, b, 1e-5)


def test_an_error_of_a_part_is_raised_and_nested_calls_run_in_place(two_threads):
    def part(i):
        if i == 3:
            raise ValueError("part 3")
        return sum(threads.parallel(lambda j: j, range(i)))
    with pytest.raises(ValueError, match="part 3"):
        threads.parallel(part, range(5))
    assert threads.parallel(part, [0, 1, 2]) == [0, 0, 1]


def test_blas_is_left_alone_until_work_is_shared():
    code = ("import needle_lab as ndl; from needle_lab.kernels.numpy import threads as t\n"
            "print(t.get_blas_threads()); t.parallel(abs, [1, 2, 3]); print(t.get_blas_threads())\n"
            "ndl.set_blas_threads(2); ndl.set_num_threads(3); t.parallel(abs, [1, 2, 3]); print(t.get_blas_threads())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"})
    assert done.stdout.split() == ["2", "1", "2"]


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None])
def test_wrong_numbers_of_threads(n):
    for function in (ndl.set_num_threads, ndl.set_blas_threads):
        with pytest.raises(ndl.errors.ArgumentError, match="whole number"):
            function(n)
