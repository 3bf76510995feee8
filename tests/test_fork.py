"""A forked process computes on, whatever the threads of its parent were doing at that moment."""

import multiprocessing
import threading

import numpy as np
import pytest

import needle_lab as ndl

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")


def answers(work, while_doing, count=8):
    """The exit codes of so many children that do `work`, forked while a thread of ours goes on `while_doing`."""
    stop, began = threading.Event(), threading.Event()

    def busy():
        while not stop.is_set():
            while_doing()
            began.set()
    thread = threading.Thread(target=busy)
    thread.start()
    began.wait()
    children = []
    try:
        for _ in range(count):
            children.append(multiprocessing.get_context("fork").Process(target=work))
            children[-1].start()
        for child in children:
            child.join(300)                                      # only a child that hangs takes long
        return [child.exitcode for child in children]
    finally:
        stop.set()
        thread.join()
        for child in children:
            child.kill()


OWN = ndl.Generator(1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("generator", [None, OWN])
def test_random_numbers(generator):
    def draw(n):
        return ndl.randn(n, generator=generator)
    assert answers(lambda: draw(3), lambda: draw(300_000)) == [0] * 8


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_shared_work():
    a = np.ones((400, 400), "float32")
    before = ndl.get_num_threads()
    ndl.set_num_threads(2)
    try:
        def work():
            assert (ndl.tensor(a) @ ndl.tensor(a)).sum().item() == 400.0**3
        work()
        assert answers(work, work, 4) == [0] * 4
    finally:
        ndl.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_plan():
    x = ndl.randn(2, 64)
    plan = ndl.plan(ndl.nn.Linear(64, 64), x)
    assert answers(lambda: plan(x), lambda: [plan(x) for _ in range(50)], 4) == [0] * 4
