"""Wrong arguments at every public function, method, layer, optimizer and dataset end in an error of ours."""

import inspect
import re
import warnings

import numpy as np
import pytest

import needle_lab as ndl
from needle_lab.errors import NeedleError

X = ndl.ones(2, 3)
WRONG = ["abc", None, 3, 2.5, -5, [1.0, 2.0], (2, 3), [[1.0], [2.0, 3.0]], object(), {"a": 1}, ndl.tensor([1, 2]),
         ndl.ones(0, 3), np.ones((2, 3)), np.array(["a"])]
# What people hand a function of their own or the name of a file; and what asks nothing.
ELSEWHERE = set("""
    autograd_graph check compare cuda device_report diff enable_grad kernel load_checkpoint load_needle_npy
    load_state_dict load_tensors manual_seed no_grad onnx_graph op plan program_graph save_checkpoint
    save_state_dict set_blas_threads set_grad_enabled set_num_threads show signature_diff strict_devices tensor
    use_kernels
""".split())
# Python's own words for a call that names no argument of ours.
PYTHON = re.compile(r"takes (no|from \d+ to \d+|exactly \w+|\d+) (keyword |positional )?arguments?|missing \d+ required")


def functions():
    for name in ndl.__all__:
        try:
            thing = getattr(ndl, name)
        except ImportError:                             # a room that needs an extra, which this environment has not
            continue
        if name not in ELSEWHERE and not isinstance(thing, (np.dtype, type)) and not inspect.ismodule(thing):
            yield name, thing
    for place, room in (("F.", ndl.nn.functional), ("linalg.", getattr(ndl, "linalg", None))):
        for name in dir(room):
            if name[0] != "_" and name not in ndl.__all__ and inspect.isfunction(getattr(room, name)):
                yield place + name, getattr(room, name)


FUNCTIONS = dict(functions())
METHODS = [name for name in dir(ndl.Tensor) if name[0] != "_" and callable(getattr(ndl.Tensor, name))]
LAYERS = {name: thing for name in ndl.nn.__all__ if inspect.isclass(thing := getattr(ndl.nn, name))
          and issubclass(thing, ndl.nn.Module) and thing is not ndl.nn.Module}
OPTIMIZERS = {name: thing for place in (ndl.optim, ndl.optim.lr_scheduler) for name in dir(place)
              if inspect.isclass(thing := getattr(place, name)) and thing.__module__.startswith("needle_lab.optim")
              and name[0] != "_"}
DATA = {name: thing for name in ndl.data.__all__ if name not in ("mnist", "cifar10", "fashion_mnist", "alice", "digits")
        and callable(thing := getattr(ndl.data, name))}


def mistakes(call, *fronts, **options):
    """The errors of others that `call` lets through: with each wrong value after each of the fronts, and alone."""
    found = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for wrong in WRONG:
            for front in ((), *fronts):
                for given in ((*front, wrong), (wrong, *front)):
                    try:
                        call(*given)
                    except NeedleError as error:
                        assert str(error).strip(), "an error without words"
                    except NotImplementedError:
                        pass
                    except Exception as error:          # of any kind: these are what is looked for
                        if not (isinstance(error, TypeError) and PYTHON.search(str(error))):
                            found.append(f"{type(error).__name__}: {error}"[:150] + f"   given {given}"[:150])
    return found


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(name):
    assert not (found := mistakes(FUNCTIONS[name], (X,), (X, X))), "\n".join(found)


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    found = mistakes(lambda *given: getattr(ndl.ones(2, 3), name)(*given), (1,))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layers(name):
    found = mistakes(LAYERS[name], (3,), (3, 3))
    for given in ((), (3,), (3, 3), (3, 3, 3), (4, 2, 3)):
        try:
            layer = LAYERS[name](*given)
        except (NeedleError, TypeError):
            continue
        found += mistakes(layer, (X,))
        break
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_and_schedules(name):
    parameters = [ndl.nn.Parameter(np.ones((2, 3), "float32"))]
    found = mistakes(OPTIMIZERS[name], (parameters,), (ndl.optim.SGD(parameters, 0.1),))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", sorted(DATA))
def test_data(name):
    found = mistakes(DATA[name], ([1, 2, 3],))
    assert not found, "\n".join(found)
