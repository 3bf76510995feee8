"""Mutation run: small faults are planted, one at a time, and the project's own checks must find each.

    python tools/mutants.py [--sample N] [--kinds detached scaled kernel onnx]

    detached    each gradient rule with its incoming gradient detached: right once, wrong when differentiated again
    scaled      each gradient rule 1.001 times too large, for each input on its own
    kernel      each result of each quicker form 1.001 times too large (whole numbers one more, bools turned round)
    onnx        each default of an ONNX attribute changed: flags turned, numbers one more or 1.5 times as large, other words

What judges: `check_op` and `check_kernel` as tests/test_ops.py and tests/test_kernels.py call them; for ONNX the test that
compares rows with ONNX's own definitions, then the cases of the official suite that hold the operator. Defaults of None
mean that nothing was given; there is nothing to change in them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import inspect
import io
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRITON_INTERPRET", "1")
ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import kernel_samples  # noqa: E402
import numpy as np  # noqa: E402
import op_samples  # noqa: E402

import needle_lab as ndl  # noqa: E402
from needle_lab.core.device import to_device  # noqa: E402
from needle_lab.core.graph import OPS  # noqa: E402
from needle_lab.core.tiers import Tiered  # noqa: E402
from needle_lab.testing import check_kernel, kernels  # noqa: E402
from needle_lab.testing.close import on_host  # noqa: E402

FACTOR = 1.001
# Mutants that compute the same are left out:
FLAT = "floor", "ceil", "round", "trunc", "sign"                    # the gradient is 0 everywhere, and so are its multiples
SAME = "zeros_like", "transferred"                                 # zeros scaled are zeros; moving has one form only


@dataclass
class Mutant:
    kind: str
    name: str
    planted: Callable[[], contextlib.AbstractContextManager]       # while it is open, the fault is there
    judge: Callable[[], Any]                                       # raises if the checks find it

    def survives(self) -> bool:
        with self.planted(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                self.judge()
            except Exception:                                      # noqa: BLE001    however a check fails, it has found it
                return False
        return True

# --- gradient rules -----------------------------------------------------------------------------------------------------


def rules() -> Iterator[Mutant]:
    for name, op in OPS.items():
        each = [(i, rule) for i, rule in sorted(op.gradient.of_one.items()) if rule]
        found = [(None, op.gradient.of_all)] if op.gradient.of_all else each
        if name in FLAT or not op.gradient:
            continue
        judge_op(name)                                             # sound, it passes
        for position, rule in found:
            title = name if position is None else f"{name} to input {position}"
            yield Mutant("detached", title, lambda rule=rule: changed(rule, detached), lambda name=name: judge_op(name))
            positions = range(2 if rule.op.most_inputs > 99 else len(op.inputs)) if position is None else [position]
            for i in positions:
                if i not in op.index_inputs:
                    title = f"{name} to input {i}"
                    alone = None if position is not None else i
                    yield Mutant("scaled", title, lambda rule=rule, alone=alone: changed(rule, scaled_rule, alone),
                                 lambda name=name: judge_op(name))


def changed(rule: Any, how: Callable, *options: Any) -> contextlib.AbstractContextManager:
    return mock.patch.object(rule, "function", how(rule.function, *options))


def detached(function: Callable) -> Callable:
    at = inspect.getfullargspec(function).args.index("g")

    def mutated(*given: Any, **attrs: Any) -> Any:
        g = given[at]
        g = tuple(None if x is None else x.detach() for x in g) if isinstance(g, tuple) else g.detach()
        return function(*given[:at], g, *given[at + 1:], **attrs)
    return mutated


def scaled_rule(function: Callable, alone: int | None) -> Callable:
    def mutated(*given: Any, **attrs: Any) -> Any:
        answer = function(*given, **attrs)
        if not isinstance(answer, tuple):
            return answer if answer is None else answer * FACTOR
        return tuple(x * FACTOR if i == alone and x is not None else x for i, x in enumerate(answer))
    return mutated


def judge_op(name: str) -> None:
    for level in ("definition", ndl.use_kernels.level):
        with ndl.use_kernels(level):
            op_samples.check(name)

# --- kernels ------------------------------------------------------------------------------------------------------------


def forms() -> Iterator[Mutant]:
    with contextlib.suppress(ImportError):
        ndl.triton_cpu()
    for name, target, tier in kernels():
        tiered = target if isinstance(target, Tiered) else target.compute

        def judge(name=name, target=target, tier=tier) -> None:
            if tier == "triton":
                check_kernel(target, tier, op_samples.samples_of(name), device=ndl.triton_cpu())
                return
            with kernel_samples.nothing_is_too_small(threads=1):
                kernel_samples.check(name, target, tier)
        if name in SAME:
            continue
        for i in range(results_of(tiered, tier, judge)):
            yield Mutant("kernel", f"{name} on {tier}, result {i}", lambda tiered=tiered, tier=tier, i=i: mock.patch.dict(
                tiered.kernels, {tier: scaled_form(tiered.kernels[tier], i)}), judge)


def results_of(tiered: Tiered, tier: str, judge: Callable) -> int:
    """How many results the form gives (one, if it writes into its inputs), seen while the sound form passes its check."""
    form, most = tiered.kernels[tier], 0

    def spied(*given: Any, **attrs: Any) -> Any:
        nonlocal most
        answer = form(*given, **attrs)
        if answer is not NotImplemented:
            parts = answer if isinstance(answer, tuple) else (answer,)
            most = max([most, 1, *(i + 1 for i, part in enumerate(parts) if part is not None)])
        return answer
    with mock.patch.dict(tiered.kernels, {tier: spied}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge()
    return most


def scaled_form(form: Callable, at: int) -> Callable:
    def mutated(*given: Any, **attrs: Any) -> Any:
        arrays = [x for x in given if isinstance(x, np.ndarray)]
        before = [x.copy() for x in arrays]
        answer = form(*given, **attrs)
        if answer is NotImplemented:
            return answer
        if answer is None:                                         # a method that writes into what it is given
            written = [x for x, b in zip(arrays, before, strict=True) if not np.array_equal(x, b)]
            for x in written or [p.data for tensors in given[1] for p in tensors[:1]]:
                x[...] = scaled(x)
            return None
        parts = answer if isinstance(answer, tuple) else (answer,)
        parts = tuple(scaled(y) if i == at and y is not None else y for i, y in enumerate(parts))
        return parts if isinstance(answer, tuple) else parts[0]
    return mutated


def scaled(y: Any) -> Any:
    values = on_host(y)
    kind = values.dtype.kind
    wrong = ~values if kind == "b" else values + 1 if kind in "iu" else (values.astype(float) * FACTOR).astype(values.dtype)
    return to_device(wrong, y.device) if hasattr(y, "data_ptr") else wrong

# --- defaults of ONNX attributes ----------------------------------------------------------------------------------------


def defaults() -> Iterator[Mutant]:
    import test_onnx_conformance
    import test_onnx_table
    cases = cases_by_operator(test_onnx_conformance)
    for name, row in test_onnx_table.TABLE.items():
        def by_definition(name: str = name) -> None:
            test_onnx_table.test_a_row_is_complete_and_true_to_onnx(name)
            test_onnx_table.test_old_functions_of_a_row_are_true_to_onnx_too(name)
        by_definition()                                            # sound, it passes
        for version, function in row.versions.items():
            bound = getattr(function, "keywords", {})              # one function for several operators
            function = getattr(function, "func", function)
            for key, value in (function.__kwdefaults__ or {}).items():
                if value is None or key == "outputs" or key in bound:        # how many outputs a node has is always told
                    continue

                def judge(by_definition: Callable = by_definition, row: Any = row) -> None:
                    by_definition()
                    for case in cases[row.name]:
                        case(None)
                planted = functools.partial(mock.patch.dict, function.__kwdefaults__, {key: other(value)})
                yield Mutant("onnx", f"{name} from opset {version}: {key}={value!r} -> {other(value)!r}", planted, judge)


def other(value: Any) -> Any:
    if value in (0, 1) and isinstance(value, int):
        return 1 - value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 if value else 1.0
    return f"not {value}" if isinstance(value, str) else value[:-1] or ("the",)


def cases_by_operator(conformance: Any) -> dict[str, list[Callable]]:
    """The cases of the official suite that pass, by the operators in their models."""
    import onnx
    found: dict[str, list[Callable]] = collections.defaultdict(list)
    seen: set[str] = set()

    def note(nodes: Any) -> None:
        for node in nodes:
            seen.add(node.op_type)
            for attribute in node.attribute:
                note(attribute.g.node)
    prepare = conformance.Counting.prepare.__func__

    def noting(cls: type, model: onnx.ModelProto, device: str = "CPU", **options: Any) -> Any:
        note(model.graph.node)
        for function in model.functions:
            note(function.node)
        return prepare(cls, model, device, **options)
    with mock.patch.object(conformance.Counting, "prepare", classmethod(noting)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for (_, name), case in conformance.suite().items():
            seen.clear()
            if name not in conformance.NOT_PASSED:
                case(None)
                for op_type in seen:
                    found[op_type].append(case)
    return found

# --- the run ------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, drawn at random")
    parser.add_argument("--kinds", nargs="+", choices=("detached", "scaled", "kernel", "onnx"),
                        default=["detached", "scaled", "kernel", "onnx"])
    wanted = parser.parse_args()
    sources = {rules: {"detached", "scaled"}, forms: {"kernel"}, defaults: {"onnx"}}
    asked = [source for source, kinds in sources.items() if kinds & set(wanted.kinds)]
    mutants = [mutant for source in asked for mutant in source() if mutant.kind in wanted.kinds]
    if wanted.sample:
        mutants = random.Random(0).sample(mutants, min(wanted.sample, len(mutants)))
    total, alive, start = collections.Counter(m.kind for m in mutants), [], time.monotonic()
    for number, mutant in enumerate(mutants, 1):
        if mutant.survives():
            alive.append(mutant)
            print(f"alive: {mutant.kind}: {mutant.name}", flush=True)
        if number % 100 == 0:
            print(f"{number} of {len(mutants)}, {time.monotonic() - start:.0f} s", flush=True)
    for kind, count in total.items():
        print(f"{kind:<10} {count - sum(m.kind == kind for m in alive):>5} of {count} caught")
    caught = 1 - len(alive) / len(mutants)
    print(f"{'all':<10} {len(mutants) - len(alive):>5} of {len(mutants)} caught: {caught:.1%}; "
          f"left out as equivalent: the rules of {', '.join(FLAT)}; the forms of {', '.join(SAME)}")
    return 0 if caught >= 0.98 else 1


if __name__ == "__main__":
    sys.exit(main())
