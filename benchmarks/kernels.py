"""What each quicker form brings: the call that it spends most time in, of the workload that it is for, with it and without.

    python -m benchmarks --kernels        benchmarks/results/kernels.md

Each workload runs once with a spy at every form of a level; for each form the calls with the same shapes are added up, and
the first of the costliest is kept. It is then timed with `use_kernels(level)` and with `use_kernels(level, without=form)`,
where the next tier takes it, in turn and in one thread. A form that shows less than 1.15 on every workload is to be deleted.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import needle_lab as ndl
from needle_lab.core.graph import Op
from needle_lab.core.rules import Gradient
from needle_lab.core.tensor import Tensor
from needle_lab.core.tiers import LEVELS, Tiered, name_of
from needle_lab.nn import functional as F
from needle_lab.ops.recurrent import lstm_cell
from needle_lab.testing import kernels

from .timing import Timing
from .workloads import WORKLOADS

NEEDED = 1.15                # what a form must bring on one workload
UNSTABLE = 1.25              # upper quartile of the ratios over the lower one: from here on nothing is said
SECONDS, ROUNDS, BLOCK = 0.6, 15, 0.01
FORMS = ("resnet18_batch1", "resnet50_batch1", "resnet9_step", "resnet18_step", "lstm_step", "gru_step", "gpt_step",
         "mlp_step", "small_convolution_backward", "encoder_inference", "depthwise_step")
STRATEGIES = {"winograd": ("resnet18_batch1", "resnet9_step")}         # left out by name; the whole workload is timed

# --- workloads of ops that no model of the table holds ----------------------------------------------------------------

N = np.random.default_rng(0).normal


def differentiated(function: Callable, *shapes: tuple[int, ...]) -> Callable[[], object]:
    """Forward and backward of a function of tensors."""
    xs = [Tensor(N(size=shape).astype("float32"), requires_grad=True) for shape in shapes]
    seed = Tensor(N(size=function(*xs).shape).astype("float32"))

    def run() -> None:
        for x in xs:
            x.grad = None
        function(*xs).backward(seed)
    return run


def penalty(x: Tensor) -> Tensor:
    """The gradient of a gradient, through max pooling."""
    y = F.max_pool2d(x, 2)
    g, = ndl.grad((y * y).sum(), [x], create_graph=True)
    return (g * g).sum()


SMALL = {
    "average pooling 3x3, 64 channels, 28x28, batch 8":
        lambda: differentiated(lambda x: F.avg_pool2d(x, 3, 2, 1), (8, 64, 28, 28)),
    "max pooling 3x3, 64 channels, 56x56, batch 8":
        lambda: differentiated(lambda x: F.max_pool2d(x, 3, 2, 1), (8, 64, 56, 56)),
    "a gradient penalty through max pooling, batch 8": lambda: differentiated(penalty, (8, 64, 28, 28)),
    "GELU, 1024 x 1024": lambda: differentiated(ndl.gelu, (1024, 1024)),
    "GELU by tanh, 1024 x 1024": lambda: differentiated(ndl.gelu_tanh, (1024, 1024)),
    "SiLU, 1024 x 1024": lambda: differentiated(ndl.silu, (1024, 1024)),
    "the error function, 1024 x 1024": lambda: differentiated(ndl.erf, (1024, 1024)),
    "softmax of 512 x 1000": lambda: differentiated(ndl.softmax, (512, 1000)),
    "softmax of 64 x 10": lambda: differentiated(ndl.softmax, (64, 10)),
    "LSTM cell, batch 20, 256 features":
        lambda: differentiated(lambda x, c: lstm_cell(x, c)[0], (20, 1024), (20, 256)),
    "a sum and a mean of 1024 x 1024": lambda: differentiated(lambda x: x.sum() + x.mean(), (1024, 1024)),
    "a sum, a mean and a reshape of 16 x 16": lambda: differentiated(lambda x: x.reshape(4, 64).sum(0) + x.mean(), (16, 16)),
}


def workloads() -> Iterator[tuple[str, dict[str, Callable[[], object]]]]:
    """Name -> our calls."""
    for name in FORMS:
        contenders = WORKLOADS[name].make()
        yield WORKLOADS[name].title, {kind: contenders[kind] for kind in ("needle_lab", "plan") if kind in contenders}
        gc.collect()
    for name, make in SMALL.items():
        yield name, {"needle_lab": make()}

# --- the spy ----------------------------------------------------------------------------------------------------------


class Spy:
    """Around one form: seconds by the shapes of its calls; or, once `wanted` is known, a copy of the first such call."""

    def __init__(self, name: str, target: Any, tier: str):
        self.title, self.target, self.tier = name, target, tier
        self.tiered: Tiered = target if isinstance(target, Tiered) else target.compute
        self.form = self.tiered.kernels[tier]
        self.seconds: dict[str, float] = {}
        self.wanted, self.call = "", None

    def __call__(self, *given: Any, **attrs: Any) -> Any:
        shapes = shapes_of(given, attrs)
        if self.wanted == shapes and self.call is None:
            self.call = copy.deepcopy((given, attrs))
        start = time.process_time()
        answer = self.form(*given, **attrs)
        if answer is not NotImplemented:
            self.seconds[shapes] = self.seconds.get(shapes, 0.0) + time.process_time() - start
        return answer


def shapes_of(*given: Any) -> str:
    def one(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return [one(v) for v in x]
        if isinstance(x, dict):
            return {k: one(v) for k, v in x.items() if k not in ("params", "group")}
        return list(x.shape) if hasattr(x, "shape") else x if isinstance(x, (int, float, str, bool, type(None))) else ""
    return json.dumps(one(given), default=str)


@contextlib.contextmanager
def watched(spies: list[Spy]) -> Iterator[None]:
    for spy in spies:
        spy.tiered.quicker = [spy if form is spy.form else form for form in spy.tiered.quicker]
        spy.tiered.forms = (*spy.tiered.quicker, spy.tiered.definition)
    try:
        yield
    finally:
        for spy in spies:
            spy.tiered.arrange()


def costliest_calls(run: Callable[[], object], level: str) -> list[tuple[Spy, float]]:
    """The forms of the level's first tier that a workload uses, each with a call to time, and its share of the time."""
    spies = [Spy(name, target, tier) for name, target, tier in kernels() if tier == LEVELS[level][0]]
    with ndl.use_kernels(level):
        run()
        with watched(spies):
            start = time.process_time()
            run()
            whole = time.process_time() - start
        used = [spy for spy in spies if spy.seconds]
        shares = [sum(spy.seconds.values()) / max(whole, 1e-9) for spy in used]
        for spy in used:
            spy.wanted = max(spy.seconds, key=lambda shapes: spy.seconds[shapes])
        with watched(used):
            run()
    return [(spy, share) for spy, share in zip(used, shares, strict=True) if spy.call is not None]

# --- with and without -------------------------------------------------------------------------------------------------


def repeated(spy: Spy) -> Callable[[], object]:
    """The kept call again, by whatever form is asked first."""
    given, attrs = spy.call                              # type: ignore[misc]
    if not isinstance(spy.target, Gradient):
        return lambda: spy.tiered(*given, **attrs)
    (wants, g, _, *arrays), attrs = given
    op: Op = spy.target.op
    y = op(*[Tensor(x, w) if isinstance(x, np.ndarray) else x for x, w in zip(arrays, wants, strict=True)], **attrs)
    node = next(v for v in (y if isinstance(y, tuple) else (y,)) if v is not None).node
    slots = [None if v is None else Tensor(v) for v in (g if isinstance(g, tuple) else (g,))]
    return lambda: spy.target.of(node, slots, wants, False)


def with_and_without(call: Callable[[], object], level: str, name: str, seconds: float = SECONDS) -> tuple[Timing, Timing]:
    """Seconds of the call with the form and without, round by round; switching is not counted."""
    variants: dict[str, tuple[str, ...]] = {"with": (), "without": (name,)}
    repeats, timings = {}, {kind: Timing([]) for kind in variants}

    def timed(kind: str, times: int) -> float:
        with ndl.use_kernels(level, without=variants[kind]):
            start = time.process_time()
            for _ in range(times):
                call()
            return (time.process_time() - start) / times
    for kind in variants:
        timed(kind, 1)
        repeats[kind] = max(1, min(2000, round(BLOCK / max(timed(kind, 2), 1e-7))))
    began = time.perf_counter()
    for i in range(ROUNDS):
        if i >= 5 and time.perf_counter() - began > seconds:
            break
        for kind in (("with", "without") if i % 2 else ("without", "with")):
            timings[kind].seconds.append(timed(kind, repeats[kind]))
    return timings["with"], timings["without"]


def main() -> None:
    ndl.set_num_threads(1)
    for title, calls in workloads():
        for kind, run in calls.items():
            for level in ("numpy", "fast") if ndl.fast_available() else ("numpy",):
                for spy, share in costliest_calls(run, level):
                    show(spy.title, spy.tier, name_of(spy.form), f"{title}{', plan' * (kind == 'plan')}", spy.wanted, share,
                         *with_and_without(repeated(spy), level, name_of(spy.form)))
                    spy.call = None
    for strategy, names in STRATEGIES.items():
        for name in names:
            run = WORKLOADS[name].make()["needle_lab"]
            for level in ("numpy", "fast") if ndl.fast_available() else ("numpy",):
                show(f"strategy {strategy}", LEVELS[level][0], strategy, WORKLOADS[name].title, "the whole workload", 1.0,
                     *with_and_without(run, level, strategy, 12.0))


def show(target: str, tier: str, form: str, workload: str, shapes: str, share: float, inside: Timing,
         without: Timing) -> None:
    print(json.dumps({"target": target, "tier": tier, "form": form, "workload": workload, "shapes": shapes, "share": share,
                      "seconds": inside.median, "ratio": without.ratio(inside)}), flush=True)


def markdown(rows: list[dict[str, Any]], about: str) -> str:
    """The best workload of each form; all of a form whose best is under NEEDED."""
    from .report import seconds
    forms: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        forms.setdefault((row["target"], row["tier"]), []).append(row)
    lines = ["# What each quicker form brings", "", about,
             "Time of the costliest call of the form in the workload without the form (the next tier computes it) over the "
             f"time with it: the median, and the quartiles. Under {NEEDED} on every workload a form goes. Share: of the "
             "workload's time, that of all calls of the form, with what it calls. One thread.", "",
             "| target | tier | form | workload | share | with | without / with | |", "|---|---|---|---|---|---|---|---|"]
    for (target, tier), found in sorted(forms.items()):
        found.sort(key=lambda row: -row["ratio"][0])
        for row in found[:1] if found[0]["ratio"][0] >= NEEDED else found:
            median, low, high = row["ratio"]
            note = "unstable" if high > UNSTABLE * low else "" if median >= NEEDED else "under"
            lines.append(f"| {target} | {tier} | `{row['form']}` | {row['workload']} | {row['share']:.0%} | "
                         f"{seconds(row['seconds'])} | {median:.2f} ({low:.2f}-{high:.2f}) | {note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
