"""Initialisers: bounds and spread as PyTorch's, seeds that repeat, mistakes that are named."""

import math

import numpy as np
import pytest
from peers import needs_torch, torch

import needle_lab as ndl
from needle_lab import optim
from needle_lab.nn import init

SHAPES = [(300, 200), (60, 40, 3, 3)]
DRAWN = {        # name: arguments of ours and of PyTorch's
    "uniform_": (-0.3, 0.7), "normal_": (0.5, 2.0), "trunc_normal_": (0.0, 1.0, -1.5, 0.5), "xavier_uniform_": (1.5,),
    "xavier_normal_": (1.5,), "kaiming_uniform_": (0.2, "fan_out", "leaky_relu"), "kaiming_normal_": (0.0, "fan_in", "relu"),
}


@needs_torch
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(DRAWN))
def test_values_are_spread_as_torch_spreads_them(name, shape):
    torch.manual_seed(0)
    ours = getattr(init, name)(ndl.empty(*shape), *DRAWN[name], generator=ndl.Generator(0)).numpy()
    theirs = getattr(torch.nn.init, name)(torch.empty(*shape), *DRAWN[name]).numpy()
    spread = theirs.std()                                # of tens of thousands of values: known to about half a percent
    assert abs(ours.std() / spread - 1) < 0.03 and abs(ours.mean() - theirs.mean()) < 0.03 * spread
    tail = 0.5 if "normal" in name and name != "trunc_normal_" else 0.01             # a normal's largest value varies
    for end in (np.min, np.max):
        assert abs(end(ours) - end(theirs)) < tail * max(abs(end(theirs)), spread)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 2, 3)])
def test_orthogonal_rows_or_columns(shape):
    w = init.orthogonal_(ndl.empty(*shape, dtype="float64"), gain=2.0).numpy().reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_constants():
    x = ndl.empty(3, 4, requires_grad=True)
    assert (init.ones_(x) == 1.0).all() and (init.zeros_(x) == 0.0).all()
    assert (init.constant_(x, 2.5) == 2.5).all() and x.is_leaf
    np.testing.assert_array_equal(init.eye_(x).numpy(), np.eye(3, 4))


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_seed_repeats_and_a_parameter_stays_the_same_object(name):
    w = ndl.nn.Parameter(ndl.empty(20, 30))
    first = getattr(init, name)(w, *DRAWN[name], generator=ndl.Generator(3))
    values = first.numpy().copy()
    again = getattr(init, name)(w, *DRAWN[name], generator=ndl.Generator(3))
    assert first is w is again and w.is_leaf and w.requires_grad
    np.testing.assert_array_equal(values, w.numpy())


@needs_torch
def test_gains_are_those_of_torch():
    for name in ("linear", "sigmoid", "tanh", "relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert init.calculate_gain("leaky_relu", 0.2) == pytest.approx(math.sqrt(2 / 1.04))


def test_mistakes_are_named():
    for call, words in [(lambda: init.xavier_normal_(ndl.empty(3)), "2 axes"),
                        (lambda: init.kaiming_uniform_(ndl.empty(3, 3), mode="fan"), "fan_in"),
                        (lambda: init.calculate_gain("swish"), "swish"),
                        (lambda: init.trunc_normal_(ndl.empty(3), a=2.0, b=1.0), "between")]:
        with pytest.raises(ndl.errors.NeedleError, match=words):
            call()


@needs_torch
def test_gradient_values_are_clipped_as_by_torch(rng):
    g = rng.normal(size=(4, 5)).astype(np.float32)
    p, q = ndl.zeros(4, 5, requires_grad=True), torch.zeros(4, 5, requires_grad=True)
    p.grad, q.grad = ndl.tensor(g), torch.tensor(g)
    optim.clip_grad_value_([p, ndl.zeros(2, requires_grad=True)], 0.5)
    torch.nn.utils.clip_grad_value_([q], 0.5)
    np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
