"""ndl.testing on modules, and as a student meets it; check_op and check_kernel have their tests beside what they check."""

import numpy as np
import pytest
from test_layers import CASES

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import ArgumentError, CheckError
from needle_lab.testing import check_kernel, check_module, check_op


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_layer(name, rng):
    for args, options, shapes in CASES[name]:
        ndl.manual_seed(1)
        if name.startswith("TransformerE") or name.startswith("TransformerD"):
            options = {"activation": "gelu", **options}              # finite differences may not step over ReLU's kink
        check_module(getattr(nn, name)(*args, **options), tuple(rng.normal(1.0, 2.0, shape) for shape in shapes))


class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.calls = nn.Parameter(np.ones(3, "float32")), nn.Buffer(np.zeros(1, "float32"))
        self.inner, self.secret = nn.Dropout(0.5), 0.5


def wrong(**methods):
    return type("Wrong", (Wrong,), methods)()


def counts(self, x):
    self.calls += 1
    return x * self.w


@pytest.mark.parametrize("module, message", [
    (wrong(forward=lambda self, x: x * self.w.detach()), "no gradient reaches the parameter 'w'"),
    (wrong(forward=lambda self, x: x.detach() * self.w), "no gradient reaches input 0"),
    (wrong(forward=lambda self, x: x * self.w + x.detach() * self.w * 1e-3), "gradient by input 0"),
    (wrong(forward=lambda self, x: x * self.w * np.ones(1)), "an output is float64"),
    (wrong(forward=lambda self, x: x * self.w * np.random.rand()), "the same seed gives another"),
    (wrong(forward=counts), "a call changes 'calls'"),
    (wrong(forward=lambda self, x: x * self.w, train=lambda self, mode=True: (setattr(self, "training", mode), self)[1]),
     "does not reach every module"),
    (wrong(forward=lambda self, x: nn.functional.dropout(x * self.w, 0.5, True)), "a second call gives another"),
    (wrong(forward=lambda self, x: x @ self.w.reshape(1, 3)), "ShapeError")])
def test_a_wrong_module_is_found(module, message):
    with pytest.raises(CheckError, match=message):
        check_module(module, np.random.default_rng(0).normal(size=(8, 3)))


def test_a_students_function_of_tensors():
    def swish(x, beta):
        return x * ndl.sigmoid(beta * x)
    samples = [(np.array([1.0, -2.0]), 0.5), (np.ones((0, 3)), np.ones(3)), (np.array(0.5), 2.0)]
    check_op(swish, samples, oracle=lambda x, beta: x / (1 + np.exp(-beta * x)))
    with pytest.raises(CheckError, match=r"swish\(float64\[\], 2.0\): float64 values: 0\.\d+ was expected"):
        check_op(swish, samples, oracle=lambda x, beta: x / (1 + np.exp(-x)))


def test_misuse_is_explained():
    with pytest.raises(ArgumentError, match="at least one sample"):
        check_op(ndl.exp, [])
    with pytest.raises(ArgumentError, match="no form of tier 'numba'"):
        check_kernel(ndl.exp, "numba", [np.ones(3)])
