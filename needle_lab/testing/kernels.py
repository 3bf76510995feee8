"""check_kernel: a quicker form against its definition; and `kernels`, which finds every form that is attached."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..core.device import Device
from ..core.graph import OPS
from ..core.rules import Gradient
from ..core.tensor import Tensor
from ..core.tiers import Tiered, open_kernels, use_kernels
from ..errors import ArgumentError, CheckError
from .close import assert_close, on_host
from .samples import LAYOUTS, Sample, cut, in_order, is_real, laid_out
from .slopes import gradients

REFUSALS = (ValueError, IndexError, TypeError)


def kernels() -> Iterator[tuple[str, Any, str]]:
    """Every form that is attached: (the target's name, the target, tier). Targets are ops, their gradients, and the other
    functions and methods of the package that are `Tiered`."""
    open_kernels()
    ops = [(name, op, op.compute) for name, op in OPS.items()]
    rules = [(f"{name}.gradient", op.gradient, op.gradient.compute) for name, op in OPS.items()]
    known = {tiered for *_, tiered in ops + rules}
    others = {t.__qualname__: t for t in Tiered.living if t not in known and t.__module__.startswith("needle_lab.")}  # type: ignore
    for name, target, tiered in (*ops, *rules, *((name, t, t) for name, t in sorted(others.items()))):
        yield from ((name, target, tier) for tier, form in tiered.kernels.items() if form is not tiered.definition)


def check_kernel(target: Any, tier: str, samples: Iterable[Any], *, device: Device | None = None, tolerance: float = 2e-6,
                 specials: bool = True) -> None:
    """Compare a quicker form with its definition on samples: in float32 and float64, in all layouts of memory.

    target: an op, an op's gradient (`op.gradient`), or a function or method decorated with `@Tiered`. samples: as for
    `check_op`; some must be large enough that the form takes them. Those of a method begin with its object. device: where a
    form of tier "triton" runs. tolerance: of float32 values, relative to the largest; to it comes what the definition itself
    loses in float32. specials: nan and infinities stay in their places, too.

    The form must answer in the definition's shapes and dtypes and leave its inputs alone, or decline; where inputs do not
    fit together, and the definition refuses, it must not answer. The form of a gradient must answer what the op's rules do,
    through each output and to each input. A method must leave behind what its definition does. Raises CheckError.
    """
    tiered = target if isinstance(target, Tiered) else target.compute
    if tier not in tiered.kernels:
        raise ArgumentError(f"check_kernel: {target} has no form of tier {tier!r} but {list(tiered.kernels)}")
    check = _Check(target, tiered.kernels[tier], tier, device, tolerance, specials)
    calls = check.method if target is tiered else check.gradient if isinstance(target, Gradient) else check.forward
    with np.errstate(all="ignore"):
        for one in in_order(samples):
            calls(one)
    if not check.answered:
        raise CheckError(f"{check.name}: it declines all samples: others are needed, larger ones perhaps")


class _Check:
    """One form, and how many calls it has answered."""

    def __init__(self, target: Any, form: Callable[..., Any], tier: str, device: Device | None, tolerance: float,
                 specials: bool):
        self.target, self.form, self.device, self.specials, self.answered = target, form, device, specials, 0
        of = f"{target.op.name}.gradient" if isinstance(target, Gradient) else getattr(target, "name", None)
        self.name = f"check_kernel: {of or target.__qualname__} on tier {tier!r}"
        self.tolerances = {"float32": tolerance, "float64": 1e-12}

    def compare(self, what: str, make: Callable[[str], list[Any]], defined: Callable[..., Any], form: Callable[..., Any],
                writes: bool = False) -> None:
        """form(make(dtype)) beside defined(make(dtype)), in both dtypes; unless it `writes`, what was made must stay."""
        try:
            exact = defined(make("float64"))
        except REFUSALS as error:
            exact, what = None, f"{what}, which the definition refuses ({error})"
        lost = 0.0
        for dtype, allowed in [*self.tolerances.items()][:1 if writes else 2]:           # a method's samples are as they are
            given = make(dtype)
            before = [on_host(x).copy() for x in _arrays(given)]
            try:
                answer = form(given)
            except Exception as error:                   # whatever it is, it could have declined
                if exact is None and isinstance(error, REFUSALS):
                    continue
                raise CheckError(f"{self.name}: {what}, {dtype}: {type(error).__name__}: {error}") from error
            if not writes and not all(map(_equal, map(on_host, _arrays(given)), before)):
                raise CheckError(f"{self.name}: {what}, {dtype}: it writes into its inputs")
            if answer is NotImplemented:
                continue
            if exact is None:
                raise CheckError(f"{self.name}: {what}, {dtype}: it answers")
            self.answered += 1
            expected = defined(make(dtype))
            if len(expected) != len(answer):
                raise CheckError(f"{self.name}: {what}: {len(expected)} results were expected, {len(answer)} came")
            lost = 8 * _apart(expected, exact) if dtype == "float32" else lost * 2**-29          # of digits, 24 and 53
            for i, (y, z) in enumerate(zip(answer, expected, strict=True)):
                if (y is None, on_host(y).dtype) != (z is None, on_host(z).dtype):
                    raise CheckError(f"{self.name}: {what}: result {i} is {on_host(y).dtype}, expected {on_host(z).dtype}")
                if y is not None:
                    assert_close(y, z, allowed, f"{self.name}: {what}, {dtype}: result {i}", absolute=lost)

    def made(self, arrays: Iterable[Any], dtype: str, layout: str) -> list[Any]:
        """The arrays in this dtype and layout, where the form runs: the values are those of float32 in both dtypes."""
        return [laid_out(x.astype("float32").astype(dtype), layout, self.device) if is_real(x)
                else laid_out(x, LAYOUTS[0], self.device) for x in arrays]

    def forward(self, one: Sample) -> None:
        variants = [(layout, layout, list(one.inputs)) for layout in LAYOUTS]
        variants += [("inputs that do not fit", LAYOUTS[0], arrays) for arrays in cut(one.inputs)]
        if self.specials and is_real(one.inputs[0]) and one.inputs[0].size:
            for value in (np.nan, np.inf):
                x = np.array(one.inputs[0])
                x.reshape(-1)[x.size // 2] = value
                variants.append((f"{value} in the middle of input 0", LAYOUTS[0], [x, *one.inputs[1:]]))
        for what, layout, arrays in variants:
            self.compare(f"({one}), {what}", lambda dtype, a=arrays, layout=layout: self.made(a, dtype, layout),  # type: ignore
                         lambda given: _results(self.target.definition(*map(_plain, given), **one.attrs)),
                         lambda given: _results(self.form(*given, **one.attrs)))

    def gradient(self, one: Sample) -> None:
        """`given` are the op's inputs, then the gradients of its outputs."""
        op, n = self.target.op, len(one.inputs)
        outputs = _results(op.definition(*self.made(one.inputs, "float64", LAYOUTS[0]), **one.attrs))
        random = np.random.default_rng(0)
        seeds = [random.normal(size=np.shape(y)) if y is not None and on_host(y).dtype == float else None for y in outputs]
        real, wanted = [i for i, s in enumerate(seeds) if s is not None], [i for i, x in enumerate(one.inputs) if is_real(x)]
        for through, to in [(real, wanted), *(([i], wanted) for i in real), *((real, [k]) for k in wanted)]:
            wants = [i in to for i in range(n)]
            given = [*one.inputs, *(s if i in through else None for i, s in enumerate(seeds))]

            def rules(given: list[Any], wants: list[Any] = wants) -> tuple[Any, ...]:
                with use_kernels("definition"):
                    xs = [Tensor(x, w) if hasattr(x, "dtype") else x for x, w in zip(given, wants, strict=False)]
                    pairs = [(y, Tensor(g)) for y, g in zip(_results(op(*xs, **one.attrs)), given[n:], strict=True)
                             if g is not None and y.requires_grad]
                    leaves = [x for x, w in zip(xs, wants, strict=True) if w]
                    found = gradients([y for y, _ in pairs], leaves, [g for _, g in pairs])
                return tuple(np.zeros(x.shape, x.dtype) if g is None else g for x, g in zip(leaves, found, strict=True))

            def quick(given: list[Any], wants: list[Any] = wants) -> Any:
                y = op.definition(*given[:n], **one.attrs)
                g = tuple(given[n:]) if isinstance(y, tuple) else given[n]
                answer = _results(self.form((wants, g, y, *given[:n]), one.attrs))
                return answer if answer is NotImplemented else tuple(
                    np.zeros_like(x) if dx is None else dx for x, dx, w in zip(given, answer, wants, strict=False) if w)
            for layout, other in zip(LAYOUTS, LAYOUTS[1:] + LAYOUTS[:1], strict=True):
                self.compare(f"({one}), {layout}, the output's gradient {other}, through outputs {through} to inputs {to}",
                             lambda dtype, given=given, layout=layout, other=other:  # type: ignore
                             self.made(given[:n], dtype, layout) + self.made(given[n:], dtype, other), rules, quick)

    def method(self, one: Sample) -> None:
        """Results, and what is left in the inputs, as methods write into what they are given."""
        def run(function: Callable[..., Any]) -> Callable[..., Any]:
            def ran(given: list[Any]) -> Any:
                answer = _results(function(*given[0], **given[1]))
                return answer if answer is NotImplemented else (*answer, *_arrays(given))
            return ran

        def defined(given: list[Any]) -> Any:
            with use_kernels("definition"):
                return run(self.target.definition)(given)
        self.compare(str(one), lambda _: copy.deepcopy([one.inputs, one.attrs]), defined, run(self.form), writes=True)


def _results(answer: Any) -> Any:
    return answer if isinstance(answer, tuple) or answer is NotImplemented else (answer,)


def _plain(x: Any) -> Any:
    return on_host(x) if hasattr(x, "dtype") else x


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind not in "biu")


def _apart(expected: Iterable[Any], exact: Iterable[Any]) -> float:
    """The largest difference of two lists of results, where both are finite."""
    pairs = [np.broadcast_arrays(on_host(y).astype(float), on_host(z).astype(float))
             for y, z in zip(expected, exact, strict=True) if y is not None]
    return max((np.abs(np.subtract(y, z, where=np.isfinite(y) & np.isfinite(z), out=np.zeros(y.shape))).max(initial=0.0)
                for y, z in pairs), default=0.0)


def _arrays(given: Any) -> Iterator[Any]:
    """All arrays and tensors in nested lists, tuples and dicts."""
    if isinstance(given, (list, tuple, dict)):
        for x in given.values() if isinstance(given, dict) else given:
            yield from _arrays(x)
    elif hasattr(given, "dtype") and hasattr(given, "shape"):
        yield given
