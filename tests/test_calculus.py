"""Derivatives of functions, beside PyTorch's."""

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab.errors import ArgumentError, ShapeError

torch = require("torch")
F = torch.autograd.functional


def cubic(lib):
    return lambda x, w: ((x @ w).exp(), (x * x).sum(-1) * w[0, 0])


def square(lib):
    return lambda x: (x * x * x).sum(-1) + lib.tanh(x[..., 0])


X, W = (np.random.default_rng(0).normal(size=shape) for shape in ((2, 3), (3, 4)))


def same(ours, theirs):
    if isinstance(theirs, tuple):
        assert isinstance(ours, tuple) and len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert tuple(ours.shape) == tuple(theirs.shape)
        assert_close(ours, theirs.detach(), tolerance=1e-12)


def pair(*arrays):
    return tuple(map(ndl.tensor, arrays)), tuple(map(torch.tensor, arrays))


def test_jacobian():
    a, b = pair(X, W)
    same(ndl.jacobian(cubic(ndl), a), F.jacobian(cubic(torch), b))
    same(ndl.jacobian(square(ndl), a[0]), F.jacobian(square(torch), b[0]))
    assert ndl.jacobian(lambda x: x[:0] * 2.0, a[0]).shape == (0, 3, 2, 3)
    same(ndl.jacobian(lambda x, w: x, a), F.jacobian(lambda x, w: x, b))                  # does not depend on w


def test_hessian():
    a, b = pair(X, W)
    same(ndl.hessian(lambda x: square(ndl)(x).prod(), a[0]), F.hessian(lambda x: square(torch)(x).prod(), b[0]))
    ours = ndl.hessian(lambda x, w: (x @ w).exp().sum(), a)
    same(ours, F.hessian(lambda x, w: (x @ w).exp().sum(), b))
    same(ndl.hessian(lambda x: x.sum(), a[0]), F.hessian(lambda x: x.sum(), b[0]))        # linear


def test_products_from_both_sides(rng):
    a, b = pair(X, W)
    v = rng.normal(size=(2, 4)), rng.normal(size=2)
    u = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    for made, theirs, direction in ((ndl.vjp, F.vjp, v), (ndl.jvp, F.jvp, u)):
        ours_v, theirs_v = pair(*direction)
        same(made(cubic(ndl), a, ours_v), theirs(cubic(torch), b, theirs_v))
    same(ndl.vjp(lambda x: x.sum(), a[0]), F.vjp(lambda x: x.sum(), b[0]))
    same(ndl.jvp(lambda x: x * 0.0 + 1.0, a[0], a[0]), F.jvp(lambda x: x * 0.0 + 1.0, b[0], b[0]))


def test_create_graph_goes_on_to_the_inputs():
    x = ndl.tensor(X, requires_grad=True)
    y = torch.tensor(X, requires_grad=True)
    ndl.jacobian(lambda x: x.sin(), x, create_graph=True).sum().backward()
    F.jacobian(lambda x: x.sin(), y, create_graph=True).sum().backward()
    same(x.grad, y.grad)
    assert not ndl.jacobian(lambda x: x.sin(), x).requires_grad and x.is_leaf


@pytest.mark.parametrize("in_dims, out_dims", [(0, 0), ((1, None), 1), ((None, 0), -1)])
def test_vmap(in_dims, out_dims, rng):
    x, w = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))

    def f(x, w):
        return x * w.sum(0), (x * x).sum()
    a, b = pair(x, w)
    ours, theirs = ndl.vmap(f, in_dims, 0)(*a), torch.vmap(f, in_dims, 0)(*b)
    same(ours, theirs)
    ours, theirs = (lib.vmap(lambda x, w: f(x, w)[0], in_dims, out_dims) for lib in (ndl, torch))
    same(ours(*a), theirs(*b))


def test_gradients_of_each_example():
    x, w = ndl.tensor(X), ndl.tensor(W, requires_grad=True)
    found = ndl.vmap(lambda x: ndl.grad((x @ w).exp().sum(), w)[0])(x)
    assert_close(found, np.stack([np.outer(r, np.exp(r @ W)) for r in X]), tolerance=1e-12)


@pytest.mark.parametrize("call, error, message", [
    (lambda x: ndl.jacobian(lambda x: x, [1.0]), ArgumentError, "inputs is a tensor"),
    (lambda x: ndl.jacobian(lambda x: 3.0, x), ArgumentError, "func returns a tensor.*float"),
    (lambda x: ndl.hessian(lambda x: x, x), ShapeError, r"one number, got \(2, 3\)"),
    (lambda x: ndl.jvp(lambda x: x, x, ndl.ones(3)), ShapeError, "like the inputs"),
    (lambda x: ndl.vjp(lambda x: x, x), Exception, "gradient is needed"),
    (lambda x: ndl.vmap(lambda x: x)(x, x[:1]), ShapeError, "one length"),
    (lambda x: ndl.vmap(lambda x: x, (0, 1))(x), ArgumentError, "2 entries for 1"),
    (lambda x: ndl.vmap(lambda x: x)(x[:0]), ArgumentError, "no examples"),
])
def test_what_does_not_fit_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call(ndl.tensor(X))
