"""ndl.linalg against torch.linalg: values and gradients, whatever sign a factor's columns have; and what is refused."""

import numpy as np
import pytest
from peers import needs_torch, torch

import needle_lab as ndl
from needle_lab.errors import ArgumentError, GraphError, NotPartError
from needle_lab.testing import assert_close

FACTORED = {          # function of x that does not depend on the signs of columns; x symmetric and positive definite or not
    "svd": (lambda la, x: la.svd(x, False), lambda f: (f[0][..., :, None, :] * f[0][..., None, :, :]).sum(), False),
    "svd, rebuilt": (lambda la, x: la.svd(x, full_matrices=False),
                     lambda f: ((f[0] * f[1][..., None, :]) @ f[2] * 3).sum(), False),
    "svdvals": (lambda la, x: (la.svdvals(x),), lambda f: (f[0] * f[0]).sum(), False),
    "qr": (lambda la, x: la.qr(x), lambda f: (f[0] @ f[1] * 2 + f[0] * f[0]).sum() if f[0].shape[-1] == f[1].shape[-1] else
           (f[1] * f[1]).sum(), False),
    "eigh": (lambda la, x: la.eigh(x),
             lambda f: ((f[1] * f[0][..., None, :] ** 2) @ f[1].mT).sum() + (f[1] ** 4).sum(), True),
    "eigvalsh": (lambda la, x: (la.eigvalsh(x),), lambda f: (f[0] ** 3).sum(), True),
    "cholesky": (lambda la, x: (la.cholesky(x),), lambda f: (f[0] ** 3).sum(), True),
    "cholesky, upper": (lambda la, x: (la.cholesky(x, upper=True),), lambda f: (f[0] ** 3).sum(), True),
    "pinv": (lambda la, x: (la.pinv(x),), lambda f: (f[0] ** 3).sum(), False),
    "nuc": (lambda la, x: (la.matrix_norm(x, "nuc"),), lambda f: f[0].sum(), False),
    "2": (lambda la, x: (la.matrix_norm(x, 2),), lambda f: f[0].sum(), False),
}


@needs_torch
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (5, 3), (2, 3, 5), (1, 1)])
@pytest.mark.parametrize("name", FACTORED)
def test_a_factorization_and_its_gradient(name, shape, rng):
    factor, loss, positive = FACTORED[name]
    x = rng.normal(size=shape)
    x = x @ np.swapaxes(x, -1, -2) + np.diag(np.arange(1.0, shape[-2] + 1)) if positive else x
    ours, theirs = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, expected = loss(factor(ndl.linalg, ours)), loss(factor(torch.linalg, theirs))
    y.backward()
    expected.backward()
    slopes = (theirs.grad + theirs.grad.mT) / 2 if positive else theirs.grad      # the rest has no effect on a symmetric x
    assert_close(y, expected, 1e-9)
    assert_close(ours.grad, slopes, 1e-8, absolute=1e-9)


@needs_torch
@pytest.mark.parametrize("values", [[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0, 0.0], [0.0, 1.0, 2.0], [3.0, 1.0, 5.0]]])
def test_the_gradient_of_the_determinant_of_a_singular_matrix(values):
    ours, theirs = ndl.tensor(values, dtype="float64", requires_grad=True), torch.tensor(values, dtype=torch.float64)
    ndl.linalg.det(ours).backward()
    cofactors = [[(-1) ** (i + j) * torch.linalg.det(torch.tensor(np.delete(np.delete(theirs.numpy(), i, 0), j, 1)))
                  for j in range(len(values))] for i in range(len(values))]
    assert_close(ours.grad, np.array(cofactors), 1e-9, absolute=1e-12)


def test_what_is_not_determined_is_refused(rng):
    x = ndl.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    with pytest.raises(GraphError, match="does not determine Q"):
        ndl.linalg.qr(x, mode="complete").Q.sum().backward()
    for name in ("inv", "solve"):
        with pytest.raises(ArgumentError, match="pinv and lstsq take any"):
            getattr(ndl.linalg, name)(ndl.ones(2, 2), *([ndl.ones(2, 1)] if name == "solve" else []))
    for name in ("eig", "lu", "ldl_solve", "matrix_exp"):
        with pytest.raises(NotPartError, match=f"linalg.{name}"):
            getattr(ndl.linalg, name)
    for name in ("svd", "qr"):
        with pytest.raises(NotPartError, match=f"ndl.linalg.{name}"):
            getattr(ndl, name)
    with pytest.raises(ArgumentError, match="ord"):
        ndl.linalg.matrix_norm(x, 3)


@needs_torch
def test_least_squares_of_tall_wide_and_deficient_matrices(rng):
    for shape in ((5, 3), (3, 5), (2, 4, 2)):
        a, b = rng.normal(size=shape), rng.normal(size=(*shape[:-1], 2))
        found = ndl.linalg.lstsq(ndl.tensor(a), ndl.tensor(b))
        expected = torch.linalg.lstsq(torch.tensor(a), torch.tensor(b))
        assert_close(found.solution, expected.solution, 1e-9)
        assert_close(found.rank, expected.rank)
    flat = np.outer(np.arange(1.0, 5.0), np.array([1.0, 2.0]))
    found = ndl.linalg.lstsq(ndl.tensor(flat), ndl.tensor(np.ones((4, 1))))
    assert_close(found.solution, np.linalg.pinv(flat) @ np.ones((4, 1)), 1e-9)
