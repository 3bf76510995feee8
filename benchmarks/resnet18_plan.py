"""ResNet-18 at batch 1, 224x224, from one ONNX file: the plan, the module, PyTorch eager, onnxruntime, the ONNX reference.

    python -m benchmarks.resnet18_plan            table with medians and ratios; one thread each
    python -m benchmarks.resnet18_plan --steps    also each step of the plan

PyTorch runs the twin of the same network with the same weights.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402    after the number of threads is set
import onnx.reference
import onnxruntime
import torch

import needle_lab as ndl
from needle_lab import models, nn

from . import twins
from .timing import interleave


def contenders(x: np.ndarray) -> tuple[dict, ndl.onnx.OnnxModule]:
    """name -> a function that runs the network on x."""
    ndl.manual_seed(0)
    ours = models.ResNet18().eval()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):                      # statistics that are not 0 and 1
            module.running_mean.copy_(0.1 * ndl.randn(module.num_features))
            module.running_var.copy_(0.5 + ndl.rand(module.num_features))
    theirs = twins.with_weights_of(ours, twins.ResNet(twins.BasicBlock, (2, 2, 2, 2)))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "resnet18.onnx")
        ndl.onnx.export(ours, [x], path)
        module, reference = ndl.onnx.load(path), onnx.reference.ReferenceEvaluator(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
    name, t, plan = session.get_inputs()[0].name, torch.from_numpy(x), module.plan(x)
    return {
        "needle_lab plan": lambda: plan(x).numpy(),
        "needle_lab module": ndl.no_grad()(lambda: module(x).numpy()),
        "PyTorch eager": torch.inference_mode()(lambda: theirs(t).numpy()),
        "onnxruntime": lambda: session.run(None, {name: x})[0],
        "ONNX reference": lambda: reference.run(None, {name: x})[0],
    }, module


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", action="store_true", help="the milliseconds of each step of the plan")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    runs, module = contenders(x)
    expected = runs["onnxruntime"]()
    for name, run in runs.items():
        error = np.abs(run() - expected).max() / np.abs(expected).max()
        if error > 1e-4:
            raise SystemExit(f"{name} differs from onnxruntime by {error:.1e} of the largest output")
    timings = interleave(runs, threads=1, seconds=given.seconds, least_rounds=7)
    plan = timings["needle_lab plan"]
    print(module.plan(x))
    print("\n                       ms    this / plan (quartiles), rounds")
    for name, timing in timings.items():
        middle, low, high = timing.ratio(plan)
        print(f"{name:<18} {1000 * timing.median:7.1f}    {middle:5.2f} ({low:.2f} to {high:.2f}), {len(timing.seconds)}")
    if given.steps:
        plan_of_steps = module.plan(x)
        plan_of_steps(x)
        print_steps(plan_of_steps)


def print_steps(plan, rounds: int = 15) -> None:
    """The median milliseconds of each step, in order."""
    seconds: list[list[float]] = [[] for _ in plan.steps]
    for _ in range(rounds):
        for spent, (_, run) in zip(seconds, plan.steps, strict=True):
            start = time.process_time()
            run()
            spent.append(time.process_time() - start)
    for spent, (name, _) in zip(seconds, plan.steps, strict=True):
        print(f"{1000 * float(np.median(spent)):8.3f} ms  {name}")


if __name__ == "__main__":
    main()
