"""Gradient checkpointing: the same bits with fewer kept values."""

import gc
import tracemalloc

import numpy as np
import pytest

import needle_lab as ndl
from needle_lab import nn


def blocks(count=6, width=64):
    ndl.manual_seed(0)
    return [nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.3), nn.Linear(width, width), nn.ReLU())
            for _ in range(count)]


def run(layers, x, keep):
    ndl.manual_seed(1)
    y = x
    for layer in layers:
        y = layer(y) if keep else ndl.checkpoint(layer, y)
    return y


def gradients(layers, keep):
    x = ndl.tensor(np.random.default_rng(2).normal(size=(5, 64)).astype("float32"), requires_grad=True)
    for layer in layers:
        layer.zero_grad()
    y = run(layers, x, keep)
    (y * y).sum().backward()
    weights = [p.grad.numpy() for layer in layers for p in layer.parameters()]
    return [y.numpy(), x.grad.numpy(), *weights, ndl.rand(3).numpy()]


def test_the_same_bits_dropout_and_the_random_numbers_after_it_included():
    layers = blocks()
    for a, b in zip(gradients(layers, True), gradients(layers, False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_the_function_captures_gets_its_gradient():
    """A leaf, a result of the graph outside, the same tensor as input and captured, and constants."""
    w, x = ndl.randn(3, 3, requires_grad=True), ndl.randn(2, 3, requires_grad=True)

    def value(wrap):
        outer = (w * 2.0).exp()

        def inner(x, power):
            return (x @ outer + w.sum()) ** power, x * 3.0
        a, b = wrap(inner, x, 2)
        return (a * b).sum()
    plain = ndl.grad(value(lambda f, *args: f(*args)), [w, x])
    for a, b in zip(plain, ndl.grad(value(ndl.checkpoint), [w, x]), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_second_derivatives():
    x = ndl.tensor(np.random.default_rng(0).normal(size=4), requires_grad=True)
    w = ndl.tensor(np.random.default_rng(1).normal(size=4), requires_grad=True)

    def curvature(wrap):
        y = wrap(lambda x: (x * w).sin() * x, x).sum()
        (g,) = ndl.grad(y, [x], create_graph=True)
        return ndl.grad((g * g).sum(), [x, w])
    for a, b in zip(curvature(lambda f, x: f(x)), curvature(ndl.checkpoint), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_fewer_values_are_kept():
    layers = blocks(count=8, width=128)
    x = ndl.tensor(np.ones((512, 128), np.float32), requires_grad=True)

    def kept(keep):
        gc.collect()
        tracemalloc.start()
        y = run(layers, x, keep)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        del y
        return held
    assert kept(False) < 0.4 * kept(True)


def test_without_gradients_it_is_the_function():
    layer, x = nn.Linear(3, 2), ndl.randn(4, 3)
    with ndl.no_grad():
        assert ndl.checkpoint(layer, x).node is None
    constant = ndl.checkpoint(lambda x: x * 2.0, x)
    assert constant.node is None and not constant.requires_grad


def test_wrong_results_and_changed_parameters_are_refused():
    x = ndl.randn(3, requires_grad=True)
    with pytest.raises(ndl.errors.ArgumentError, match="returned dict"):
        ndl.checkpoint(lambda x: {"y": x}, x)
    layer = nn.Linear(3, 3)
    y = ndl.checkpoint(layer, x).sum()
    with ndl.no_grad():
        layer.weight += 1.0
    with pytest.raises(ndl.errors.GraphError, match="changed in place"):
        y.backward()


def test_dropout_from_any_generator_is_drawn_again():
    own = ndl.Generator(3)
    x, w = ndl.randn(4, 5, requires_grad=True), ndl.randn(5, 5, requires_grad=True)
    y = ndl.checkpoint(lambda x: ndl.dropout(x @ w, 0.5, generator=own), x)
    ndl.randn(3, generator=own)                                            # others draw from it in between
    after = own.get_state()
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * (y.numpy() != 0) @ w.numpy().T, rtol=1e-6)
    assert own.get_state() == after


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(5)])
def test_another_mode_in_backward_is_an_error(layer):
    model = nn.Sequential(nn.Linear(5, 5), layer)
    y = ndl.checkpoint(model, ndl.randn(4, 5, requires_grad=True))
    model.eval()
    with pytest.raises(ndl.errors.GraphError, match="something else.*eval"):
        y.sum().backward()
