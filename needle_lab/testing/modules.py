"""check_module: a layer or a model, on one set of inputs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import CheckError, NeedleError
from ..nn import Module
from ..random import manual_seed
from .close import assert_close
from .slopes import check_slopes, gradients


def check_module(module: Module, inputs: Any, *, tolerance: float = 1e-6, second_order: bool = True) -> None:
    """Check copies of a module on inputs, in training and in evaluation mode.

    inputs: an array or tensor, or a tuple of them (numbers and None are handed on). Gradients of the inputs and of all
    parameters are compared with finite differences in float64, to second order; every parameter must get one. The same
    seed must give the same result; in evaluation mode nothing may change and nothing be drawn. The state dict of one copy
    must bring another to the same result. float32 stays float32. Small sizes do, and odd ones find more. Raises CheckError.

    >>> import numpy as np, needle_lab as ndl
    >>> class Scale(ndl.nn.Module):
    ...     def __init__(self, n):
    ...         super().__init__()
    ...         self.factor = ndl.nn.Parameter(np.ones(n, "float32"))
    ...     def forward(self, x):
    ...         return x * self.factor.detach()
    >>> ndl.testing.check_module(Scale(3), np.ones((2, 3)))
    Traceback (most recent call last):
    needle_lab.errors.CheckError: check_module: Scale(), training: no gradient reaches the parameter 'factor'
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    for training in (True, False):
        what = f"check_module: {repr(module).splitlines()[0]}, {'training' if training else 'evaluation'}"
        original = copy.deepcopy(module).train(training)
        try:
            if any(m.training is not training for m in original.modules()):
                raise CheckError(f"{what}: train() does not reach every module in it")
            _check_state(original, given, what)
            for dtype in (np.float32, np.float64):
                for y in _outputs(copy.deepcopy(original).to(dtype=dtype), _tensors(given, dtype)):
                    if y.dtype != dtype:
                        raise CheckError(f"{what}: inputs and parameters are {np.dtype(dtype)}, an output is {y.dtype}")
            _check_gradients(original.to(dtype=np.float64), given, what, tolerance, second_order)
        except CheckError:
            raise
        except NeedleError as error:
            raise CheckError(f"{what}: {type(error).__name__}: {error}") from error


def _check_state(original: Module, given: tuple[Any, ...], what: str) -> None:
    """What the result depends on: the seed, and the state dict, which only training changes."""
    def same(module: Module, message: str, seed: int | None = 0) -> None:
        for y, z in zip(_outputs(module, xs, seed), expected, strict=True):
            assert_close(y, z, 0.0, f"{what}: {message}")
    first, other, xs = copy.deepcopy(original), copy.deepcopy(original), _tensors(given, np.float32)
    expected = _outputs(first, xs)
    same(copy.deepcopy(original), "the same seed gives another result")
    with no_grad():
        for x in [*other.parameters(), *other.buffers()]:
            x.fill_(1)                                                 # whatever is not in the state dict stays 1
    other.load_state_dict(original.state_dict())
    same(other, "with the state dict of another, it computes something else")
    if not original.training:
        same(first, "a second call gives another result", None)
        for (path, new), old in zip(first.state_dict().items(), original.state_dict().values(), strict=True):
            assert_close(new, old, 0.0, f"{what}: a call changes {path!r}")


def _check_gradients(module: Module, given: tuple[Any, ...], what: str, tolerance: float, second_order: bool) -> None:
    xs = _tensors(given, np.float64)
    leaves = {f"input {i}": x for i, x in enumerate(xs) if isinstance(x, Tensor) and x.requires_grad}
    leaves |= {f"the parameter {path!r}": p for path, p in module.named_parameters() if p.requires_grad}
    outputs = _outputs(module, xs)
    incoming = [Tensor(np.ones(y.shape)) for y in outputs]
    for name, g in zip(leaves, gradients(outputs, [*leaves.values()], incoming), strict=True):
        if g is None and outputs:
            raise CheckError(f"{what}: no gradient reaches {name}")
    check_slopes(lambda: _outputs(module, xs), [*leaves.values()], [*leaves], what, tolerance, second_order)


def _tensors(given: tuple[Any, ...], dtype: Any) -> list[Any]:
    xs = [x.numpy() if isinstance(x, Tensor) else x for x in given]
    return [Tensor(np.array(x, dtype if is_floating(x.dtype) else None), is_floating(x.dtype))
            if isinstance(x, np.ndarray) else x for x in xs]


def _outputs(module: Module, xs: list[Any], seed: int | None = 0) -> list[Tensor]:
    """All floating tensors in the answer, however it nests them."""
    def flat(answer: Any) -> list[Tensor]:
        if isinstance(answer, (list, tuple, dict)):
            return [y for part in (answer.values() if isinstance(answer, dict) else answer) for y in flat(part)]
        return [answer] if isinstance(answer, Tensor) and is_floating(answer.dtype) else []
    if seed is not None:
        manual_seed(seed)
    return flat(module(*xs))
