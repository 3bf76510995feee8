"""check_op: an op, or any function of tensors, on samples of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ..core.device import Device
from ..core.dtypes import float32, is_floating
from ..core.graph import Op
from ..core.tensor import Tensor
from ..errors import CheckError, NeedleError
from .close import assert_close
from .samples import LAYOUTS, Sample, in_order, is_real, laid_out
from .slopes import check_slopes, gradients

ROUNDINGS = {np.dtype(np.float64): 1e-14, float32: 1e-6, np.dtype(np.float16): 2**-11, np.dtype(ml_dtypes.bfloat16): 2**-8}


def check_op(op: Callable[..., Any], samples: Iterable[Any], oracle: Callable[..., Any] | None = None, *,
             tolerance: float = 1e-12, devices: Sequence[Device] = ()) -> None:
    """Check an op on samples: values, gradients, dtypes, layouts of memory, numbers in place of tensors, devices.

    op: an op, or a function of tensors. samples: for each call a tuple of inputs, or `sample(*inputs, **attrs)`; floating
    arrays are cast to the dtypes that are checked, all else stays. Odd lengths, no values at all and no axes find most
    faults. oracle: a function of arrays that answers the same, such as NumPy's; it is asked in float64, and may answer fewer
    outputs. tolerance: of float64 values, relative to the largest.

    The gradient rule is compared with finite differences, as is its own gradient, by the inputs and by the incoming
    gradient; and it must be linear in that one. Raises CheckError, for the smallest sample that fails.

    >>> import numpy as np, needle_lab as ndl
    >>> @ndl.op(gradient=lambda g, x: 3.0 * g * x)
    ... def cube(x):
    ...     return x * x * x
    >>> samples = [np.array([2.0, 1.0]), np.ones((0, 3))]
    >>> ndl.testing.check_op(cube, samples, oracle=lambda x: x**3)      # doctest: +ELLIPSIS
    Traceback (most recent call last):
    needle_lab.errors.CheckError: check_op: cube([2., 1.]): gradient by input 0: finite differences find a slope of ...
    >>> _ = cube.gradient("x")(lambda g, x: 3.0 * g * x * x)
    >>> ndl.testing.check_op(cube, samples, oracle=lambda x: x**3)
    """
    name, differentiated = getattr(op, "name", getattr(op, "__name__", "op")), False
    for one in in_order(samples):
        check = _Check(op, one, f"check_op: {name}({one})")
        try:
            with np.errstate(all="ignore"):              # the mean of no values is nan, and that is what is compared
                check.values(oracle, tolerance)
                differentiated |= check.gradients()
                check.narrow_dtypes()
                check.whole_numbers()
                check.layouts()
                check.numbers()
                for device in devices:
                    for dtype, allowed in ROUNDINGS.items():
                        arrays = one.arrays(dtype)
                        check.same(arrays, check.run(check.tensors(arrays)), allowed, f"{dtype} on {device}", device)
        except CheckError:
            raise
        except NeedleError as error:
            raise CheckError(f"{check.what}: {type(error).__name__}: {error}") from error
    if isinstance(op, Op) and op.gradient and not differentiated:
        raise CheckError(f"check_op: {name} has a gradient rule, but no sample has a gradient")


class _Check:
    """One op on one sample."""

    def __init__(self, op: Callable[..., Any], one: Sample, what: str):
        self.op, self.sample, self.what = op, one, what

    def tensors(self, arrays: Sequence[Any], device: Device | None = None) -> list[Any]:
        return [Tensor(x, is_real(x), device) if isinstance(x, np.ndarray) else x for x in arrays]

    def call(self, inputs: Sequence[Any]) -> list[Tensor]:
        y = self.op(*inputs, **self.sample.attrs)
        return [v for v in (y if isinstance(y, tuple) else (y,)) if v is not None]

    def incoming(self, outputs: Sequence[Tensor], seed: int = 1) -> list[Tensor]:
        """A random gradient for each output."""
        rng = np.random.default_rng(seed)
        return [Tensor(rng.normal(size=y.shape).astype(y.dtype), device=y.device) for y in outputs]

    def run(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """-> outputs, and the gradients of all inputs that can have one."""
        outputs = self.call(inputs)
        return outputs, gradients(outputs, _leaves(inputs), self.incoming(outputs))

    def same(self, arrays: Sequence[Any], expected: tuple[list[Any], list[Any]], tolerance: float, what: str,
             device: Device | None = None) -> None:
        """Outputs and gradients for these inputs are the expected ones, of the same dtypes, on the device."""
        inputs, what = self.tensors(arrays, device), f"{self.what}: {what}"
        outputs, found = self.run(inputs)
        for y, z in zip(outputs, expected[0], strict=True):
            if y.dtype != z.dtype or (device and y.device != device):
                raise CheckError(f"{what}: an output is {y.dtype} on {y.device}, {z.dtype} was expected")
            assert_close(y, z, tolerance, f"{what}: output", absolute=1e-12)
        incoming = np.concatenate([np.abs(g.numpy().astype(float)).ravel() for g in self.incoming(outputs)])
        for x, g, e in zip(_leaves(inputs), found, expected[1], strict=True):
            if (g is None) != (e is None) or (g is not None and g.dtype != x.dtype):
                raise CheckError(f"{what}: a gradient is {getattr(g, 'dtype', None)}, wanted {e is not None and x.dtype}")
            # A gradient is a sum of products with the incoming one: where x was broadcast, or terms cancel, it loses more
            terms = incoming.sum() / x.numel() if 0 < x.numel() < incoming.size else 0.0
            if g is not None:
                assert_close(g, e, tolerance * (4 if g.itemsize < 4 else 1), f"{what}: gradient",
                             absolute=tolerance * (terms + incoming.max(initial=0.0)))

    def values(self, oracle: Callable[..., Any] | None, tolerance: float) -> None:
        """Against the oracle; and dtypes are kept: no float32 becomes float64 on the way."""
        for dtype, allowed in ((np.float64, tolerance), (np.float32, max(tolerance, 1.5e-6))):
            arrays = self.sample.arrays(dtype)
            outputs = self.call(self.tensors(arrays))
            if any(map(is_real, arrays)) and "dtype" not in self.sample.attrs:
                for y in outputs:
                    if is_floating(y.dtype) and y.dtype != dtype:
                        raise CheckError(f"{self.what}: an output is {y.dtype} for inputs of {np.dtype(dtype)}")
            if oracle is not None:
                answer = oracle(*[x.astype(np.float64) if is_real(x) else x for x in arrays], **self.sample.attrs)
                for y, z in zip(outputs, answer if isinstance(answer, (tuple, list)) else (answer,), strict=False):
                    assert_close(y, z, allowed, f"{self.what}: {np.dtype(dtype)} values")

    def gradients(self) -> bool:
        """First and second derivatives; and the rule is linear in the incoming gradients.  -> whether there are any."""
        inputs = self.tensors(self.sample.arrays(np.float64))
        names = [f"input {i}" for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
        if not check_slopes(lambda: self.call(inputs), _leaves(inputs), names, self.what):
            return False
        outputs, leaves = self.call(inputs), _leaves(inputs)
        a, b = self.incoming(outputs, 2), self.incoming(outputs, 3)
        both = [2.0 * x - 3.0 * y if is_floating(x.dtype) else x for x, y in zip(a, b, strict=True)]
        sums: list[Any] = [np.zeros(x.shape) for x in leaves]
        for factor, incoming in ((2.0, a), (-3.0, b)):
            for y, g in zip(outputs, incoming, strict=True):             # through one output at a time
                sums = [t if dx is None else t + factor * dx
                        for t, dx in zip(sums, gradients([y], leaves, [g]), strict=True)]
        for dx, total in zip(gradients(outputs, leaves, both), sums, strict=True):
            assert_close(total * 0.0 if dx is None else dx, total, 1e-11, f"{self.what}: the rule is not linear in the "
                         "incoming gradients", absolute=1e-11)
        return True

    def narrow_dtypes(self) -> None:
        """float16 and bfloat16 results are float32 results of the same inputs, rounded once; gradients have the dtype."""
        for dtype in [d for d in ROUNDINGS if d.itemsize == 2 and any(map(is_real, self.sample.inputs))]:
            narrow = self.tensors(self.sample.arrays(dtype))
            outputs, found = self.run(narrow)
            wide = self.call([x.detach().astype(float32) if getattr(x, "requires_grad", False) else x for x in narrow])
            for y, z in zip(outputs, wide, strict=True):
                if is_floating(y.dtype) and "dtype" not in self.sample.attrs:
                    if y.dtype not in (dtype, float32):
                        raise CheckError(f"{self.what}: an output is {y.dtype} for inputs of {dtype}")
                    assert_close(y, z.astype(y.dtype), 0.0, f"{self.what}: {dtype} values, which are rounded once")
            for x, g in zip(_leaves(narrow), found, strict=True):
                if g is not None and (g.dtype, g.shape) != (dtype, x.shape):
                    raise CheckError(f"{self.what}: a gradient is {g.dtype}{g.shape} for an input of {dtype}{x.shape}")

    def whole_numbers(self) -> None:
        """Integers, by the op's `promote`: "float" computes in float32; else the definition answers, or refuses."""
        arrays = self.sample.arrays(np.float64)
        if not isinstance(self.op, Op) or not any(map(is_real, arrays)):
            return
        real = [is_real(x) and i not in self.op.index_inputs for i, x in enumerate(arrays)]
        whole = [np.asarray(np.rint(2 * x), np.int64) if r else x for x, r in zip(arrays, real, strict=True)]
        if self.op.promote == "float":
            expected = tuple(self.call([Tensor(x, dtype=float32) if r else x for x, r in zip(whole, real, strict=True)]))
        else:
            try:
                answer = self.op.definition(*whole, **self.sample.attrs)
            except (TypeError, ValueError):
                return
            expected = tuple(y for y in (answer if isinstance(answer, tuple) else (np.asarray(answer),)) if y is not None)
        for y, z in zip(self.call([Tensor(x) if isinstance(x, np.ndarray) else x for x in whole]), expected, strict=True):
            if y.dtype != z.dtype:
                raise CheckError(f"{self.what}: an output is {y.dtype} for integers, {z.dtype} was expected")
            assert_close(y, z, None, f"{self.what}: values for integers")

    def layouts(self) -> None:
        """However the inputs lie in memory, the answer is that for contiguous ones; nothing is written into them."""
        for layout in LAYOUTS[1:]:
            laid = [laid_out(x, layout) if is_real(x) else x for x in self.sample.arrays(np.float64)]
            plain = [x.copy() if isinstance(x, np.ndarray) else x for x in laid]
            self.same(laid, self.run(self.tensors(plain)), 1e-12, f"inputs {layout}")
            if not all(np.array_equal(x, p, equal_nan=True) for x, p in zip(laid, plain, strict=True) if is_real(x)):
                raise CheckError(f"{self.what}: it writes into its inputs")

    def numbers(self) -> None:
        """An elementwise op takes a number in place of any tensor but one."""
        arrays = self.sample.arrays(np.float64)
        for i, x in enumerate(arrays):
            if getattr(self.op, "elementwise", False) and is_real(x) and x.size and sum(map(is_real, arrays)) > 1:
                value = float(x.flat[0])
                outputs, found = self.run(self.tensors([*arrays[:i], np.array(value), *arrays[i + 1:]]))
                del found[sum(map(is_real, arrays[:i]))]
                self.same([*arrays[:i], value, *arrays[i + 1:]], (outputs, found), 1e-12, f"{value:.3g} as input {i}")


def _leaves(inputs: Sequence[Any]) -> list[Tensor]:
    return [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
