"""Every quicker form, found where it is attached, against its definition."""

import kernel_samples
import pytest
from peers import require

import needle_lab as ndl
from needle_lab.core.tiers import Tiered, kernel
from needle_lab.errors import CheckError
from needle_lab.testing import check_kernel, kernels

FORMS = {f"{name}-{tier}": (name, target, tier) for name, target, tier in kernels() if tier != "triton"}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_the_form_computes_what_its_definition_does(form, threads, monkeypatch):
    """Odd shapes, also empty ones: nothing is declined for its size, and little work is shared among threads, too."""
    name, target, tier = FORMS[form]
    if tier == "numba":
        require("numba")
    monkeypatch.setattr("needle_lab.kernels.numba.attach.LEAST", 0)
    monkeypatch.setattr("needle_lab.kernels.numba.attach.SHARE", 1 << 10)
    monkeypatch.setattr("needle_lab.kernels.numpy.threads.VALUES", 1 << 5)
    monkeypatch.setattr("needle_lab.kernels.numpy.threads.PART", 1 << 3)
    before = ndl.get_num_threads()
    ndl.set_num_threads(threads)
    try:
        kernel_samples.check(name, target, tier)
    finally:
        ndl.set_num_threads(before)


def test_all_forms_are_found():
    """By the attached objects themselves: a form that nobody lists would not be checked."""
    found = {id(target if isinstance(target, Tiered) else target.compute) for _, target, _ in kernels()}
    assert found == {id(t) for t in Tiered.living if t.__module__.startswith("needle_lab.")
                     and any(form is not t.definition for form in t.kernels.values())}
    assert len(FORMS) > 90


def twice(x, y):
    return 2 * x + y


@pytest.mark.parametrize("form, message", [
    (lambda x, y: 2.002 * x + y, "was expected"), (lambda x, y: (2 * x + y).astype("float64"), "float64"),
    (lambda x, y: x.__iadd__(x + y), "writes into"), (lambda x, y: (2 * x + y)[None], "shape"),
    (lambda x, y: 1 / 0, "ZeroDivisionError"), (lambda x, y: NotImplemented, "declines all"),
    (lambda x, y: 2 * x + y[:x.shape[-1]] if y.ndim else 2 * x + y, "it answers"),
    (lambda x, y: 2 * ndl.kernels.numpy.scratch.scratch("x", x.shape, x.dtype) + y, "was expected")])
def test_a_wrong_form_is_found(form, message, rng):
    target = ndl.core.graph.Op(twice)
    kernel(target, "numpy")(form)
    samples = [(rng.normal(size=(3, 4)), rng.normal(size=4)), (rng.normal(size=(2, 3)), rng.normal(size=()))]
    with pytest.raises(CheckError, match=message):
        check_kernel(target, "numpy", samples)
