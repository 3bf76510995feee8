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


@pytest.fixture
def everything_is_shared(two_threads, monkeypatch):
    for room in (threads, loss):
        monkeypatch.setattr(room, "VALUES", 1)
    for room in (threads, linalg):
        monkeypatch.setattr(room, "PRODUCTS", 1)
    monkeypatch.setattr(threads, "PART", 64)
    monkeypatch.setattr(optimizers, "VALUES", 100)                     # some parameters are larger, some smaller,
    monkeypatch.setattr(optimizers, "JOINED", 10)                      # some very small


def model_and_loss(dtype, rng):
    """Norms, attention, losses and products: parameters, and a function that gives the loss."""
    x = ndl.tensor(rng.normal(size=(4, 9, 8)).astype(dtype))
    target, images = ndl.tensor(rng.integers(0, 8, (4, 9))), ndl.tensor(rng.normal(size=(6, 3, 10, 10)).astype(dtype))
    ndl.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True).to(dtype)
    convs = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).to(dtype)

    def loss():
        y = ndl.scaled_dot_product_attention(block(x), x, x, is_causal=True)
        return ndl.cross_entropy(y.reshape(-1, 8), target.reshape(-1)) + (convs(images) ** 2).mean()
    return [*block.parameters(), *convs.parameters()], loss


def gradients_of(parameters, loss):
    for p in parameters:
        p.grad = None
    loss().backward()
    return [p.grad.numpy() for p in parameters]


def test_gradients_are_the_same_to_rounding(rng, everything_is_shared):
    """A gradient is a sum of up to 400 terms, one for each place of each image or word, in another order: rounding moves it
    by at most 400 eps / 2 = 2.4e-5 of its scale."""
    parameters, loss = model_and_loss("float32", rng)
    shared = gradients_of(parameters, loss)
    for a, b in zip(shared, with_one(lambda: gradients_of(parameters, loss)), strict=True):
        assert_close(a, b, 2.4e-5)


@pytest.mark.parametrize("make", [lambda p: optim.Adam(p, lr=1e-3), lambda p: optim.SGD(p, 0.1, momentum=0.9)])
def test_optimizers_make_of_the_same_gradients_the_same_steps(make, rng, everything_is_shared):
    parameters, loss = model_and_loss("float32", rng)
    given = [gradients_of(parameters, loss) for _ in range(3)]
    begin = [p.numpy().copy() for p in parameters]

    def steps():
        own = [ndl.tensor(values.copy(), requires_grad=True) for values in begin]
        optimizer = make(own)
        for gradients in given:
            for p, g in zip(own, gradients, strict=True):
                p.grad = ndl.tensor(g.copy())
            optimizer.step()
        return [p.numpy() for p in own]
    for a, b, before in zip(steps(), with_one(steps), begin, strict=True):
        assert_close(a, b)
        assert not np.array_equal(a, before)


def test_training_is_the_same_to_rounding(rng, everything_is_shared):
    """In float64: Adam divides a gradient by its own size, and by no less than 1e-8. One that is rounding alone, 1e-16 of 1,
    makes 1e-8 of a step then; in float32 it would make a whole one."""
    def train():
        parameters, loss = model_and_loss("float64", np.random.default_rng(0))
        adam = optim.Adam(parameters, lr=1e-3)
        for _ in range(3):
            adam.zero_grad()
            loss().backward()
            adam.step()
        return [p.numpy().copy() for p in parameters]
    for a, b in zip(train(), with_one(train), strict=True):
        assert_close(a, b, absolute=3 * 1e-3 * 1e-8)


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
