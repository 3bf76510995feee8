"""What is timed.  Each workload makes its data and models once and returns its contenders: name -> a call to time.

"needle_lab" and "torch" must be among them; every workload first checks that the two agree. Peers that are not
installed are left out, and the table says so.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

import needle_lab as ndl
from needle_lab import models, nn, optim
from needle_lab.nn import functional as nf

from . import twins

Contenders = dict[str, Callable[[], object]]


@dataclass
class Workload:
    """One line of the table.  numpy, fast: the ratio ours / PyTorch that we aim at (below 1 is faster)."""

    name: str
    title: str
    numpy: float | None
    fast: float | None
    make: Callable[[], Contenders]
    full: bool = False                   # only with --full
    seconds: float = 7.0
    least_rounds: int = 5


WORKLOADS: dict[str, Workload] = {}


def workload(title: str, numpy: float | None = None, fast: float | None = None, full: bool = False,
             seconds: float = 7.0, least_rounds: int = 5):
    def enter(make: Callable[[], Contenders]) -> Callable[[], Contenders]:
        WORKLOADS[make.__name__] = Workload(make.__name__, title, numpy, fast, make, full, seconds, least_rounds)
        return make
    return enter


def agree(ours, theirs, tolerance: float = 1e-3) -> None:
    """The two must compute the same before they are timed."""
    a = ours.numpy() if hasattr(ours, "numpy") else np.asarray(ours)
    b = theirs.detach().numpy()
    error = np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)
    if not error < tolerance:
        raise ValueError(f"ours and PyTorch's results differ by {error:.1e} of the largest value")


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


# --- inference ------------------------------------------------------------------------------------------------------

def inference(model, twin, batch: int, size: int = 224) -> Contenders:
    model.eval()
    for path, buffer in model.named_buffers():                # statistics as after training, not 0 and 1
        if "running" in path:
            buffer.copy_(np.random.default_rng(0).uniform(0.5, 1.5, buffer.shape).astype("float32"))
    twin = twins.with_weights_of(model, twin)
    x = np.random.default_rng(1).normal(size=(batch, 3, size, size)).astype("float32")
    contenders, ours, plans = forward(model, twin, x), ndl.tensor(x), {}

    def run_plan():
        fast = ndl.use_kernels.level                           # a plan's strategies, and its layout, depend on it
        if fast not in plans:
            plans[fast] = ndl.plan(model, ours)
            agree(plans[fast](ours), contenders["torch"]())
        return plans[fast](ours)
    return contenders | {"plan": run_plan}


def forward(model, twin, x: np.ndarray) -> Contenders:
    """Both on the same input, without a graph."""
    ours, theirs = ndl.tensor(x), torch.tensor(x)

    def run_ours():
        with ndl.no_grad():
            return model(ours)

    def run_torch():
        with torch.inference_mode():
            return twin(theirs)
    agree(run_ours(), run_torch())
    return {"needle_lab": run_ours, "torch": run_torch}


def onnx_peers(contenders: Contenders, model, batch: int, threads: int) -> Contenders:
    """The same model as an ONNX file: our plan, onnxruntime, ONNX's reference evaluator, tinygrad."""
    import onnxruntime
    from onnx.reference import ReferenceEvaluator
    x = np.random.default_rng(1).normal(size=(batch, 3, 224, 224)).astype("float32")
    proto = ndl.onnx.export(model, ndl.tensor(x))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    reference = ReferenceEvaluator(proto)
    contenders |= {"onnxruntime": lambda: session.run(None, {"input": x}),
                   "ONNX reference": lambda: reference.run(None, {"input": x})}
    if installed("tinygrad") and shutil.which("clang"):          # with which its CPU device compiles
        contenders["tinygrad"] = tinygrad_of(proto, x)
    return contenders


def tinygrad_of(proto, x: np.ndarray) -> Callable[[], object]:
    os.environ["DEV"] = "CPU"
    from tinygrad import Tensor
    from tinygrad.nn.onnx import OnnxRunner
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(proto.SerializeToString())
        file.flush()
        runner = OnnxRunner(file.name)
    return lambda: next(iter(runner({"input": Tensor(x)}).values())).numpy()


def resnet18():
    return models.ResNet18(), twins.ResNet(twins.BasicBlock, (2, 2, 2, 2))


@workload("ResNet-18 inference 224x224, batch 1", 0.80, 0.75, seconds=9)
def resnet18_batch1() -> Contenders:
    model, twin = resnet18()
    return onnx_peers(inference(model, twin, 1), model, 1, torch.get_num_threads())


@workload("ResNet-18 inference 224x224, batch 8", 0.85, 0.75)
def resnet18_batch8() -> Contenders:
    return inference(*resnet18(), 8)


@workload("ResNet-50 inference 224x224, batch 1", 1.0, 0.95)
def resnet50_batch1() -> Contenders:
    return inference(models.ResNet50(), twins.ResNet(twins.Bottleneck, (3, 4, 6, 3)), 1)


@workload("ResNet-101 inference 224x224, batch 1", 1.0, 0.95)
def resnet101_batch1() -> Contenders:
    return inference(models.ResNet101(), twins.ResNet(twins.Bottleneck, (3, 4, 23, 3)), 1)


# --- training steps: forward, loss, backward, optimizer ---------------------------------------------------------------

def training(model, twin, inputs: np.ndarray, targets: np.ndarray, ours=None, theirs=None, steps: int = 2) -> Contenders:
    """One step each on the same data: cross entropy of (rows, classes), SGD with momentum unless optimizers are given.

    steps: over how many the losses must agree. Deep networks with batch norm over few values amplify rounding, in
    PyTorch against its own float64 as much as in ours against PyTorch: there, one.
    """
    twin = twins.with_weights_of(model.train(), twin)
    mine = (ours or (lambda p: optim.SGD(p, 1e-4, momentum=0.9)))(model.parameters())
    other = (theirs or (lambda p: torch.optim.SGD(p, 1e-4, momentum=0.9)))(twin.parameters())
    x, y, tx, ty = ndl.tensor(inputs), ndl.tensor(targets), torch.tensor(inputs), torch.tensor(targets)

    def step_ours():
        mine.zero_grad()
        out = model(x)
        out = out[0] if isinstance(out, tuple) else out
        loss = nf.cross_entropy(out.reshape(len(targets), -1), y)
        loss.backward()
        mine.step()
        return loss

    def step_torch():
        other.zero_grad()
        loss = F.cross_entropy(twin(tx).reshape(len(targets), -1), ty)
        loss.backward()
        other.step()
        return loss
    for _ in range(steps):
        agree(step_ours(), step_torch())
    return {"needle_lab": step_ours, "torch": step_torch}


def images(batch: int, channels: int, size: int, classes: int = 10):
    rng = np.random.default_rng(0)
    return rng.normal(size=(batch, channels, size, size)).astype("float32"), rng.integers(0, classes, batch)


@workload("ResNet-9 (DAWNBench's) training step 32x32, batch 128", 0.95, 0.70, seconds=1, least_rounds=3)
def dawnbench_resnet9_step() -> Contenders:
    return training(twins.dawnbench_resnet9(nn), twins.dawnbench_resnet9(torch.nn), *images(128, 3, 32), steps=1)


@workload("ResNet-9 (Needle's, small) training step 32x32, batch 128", 0.95, 0.70, seconds=6)
def resnet9_step() -> Contenders:
    return training(models.ResNet9(), twins.ResNet9(), *images(128, 3, 32))


@workload("ResNet-101 training step 28x28, batch 32", 1.1, 0.95, seconds=9)
def resnet101_step() -> Contenders:
    return training(models.ResNet101(10, in_channels=1), twins.ResNet(twins.Bottleneck, (3, 4, 23, 3), 10, 1),
                    *images(32, 1, 28), steps=1)


@workload("LSTM language model step, V 10,000, H 256, T 35, B 20", 1.2, 0.85)
def lstm_step() -> Contenders:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 10_000, (35, 20))
    return training(models.LanguageModel(256, 10_000, 256, kind="lstm"), twins.LanguageModel(256, 10_000, 256),
                    tokens, rng.integers(0, 10_000, 35 * 20),
                    lambda p: optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1))


@workload("GPT step, 4 layers, d 256, T 128, B 8", 1.05, 0.95)
def gpt_step() -> Contenders:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 1000, (8, 128))
    return training(models.GPT(1000, 128, 256, 4, 4), twins.GPT(1000, 128, 256, 4, 4), tokens,
                    rng.integers(0, 1000, 8 * 128),
                    lambda p: optim.AdamW(p, 1e-4), lambda p: torch.optim.AdamW(p, 1e-4))


@workload("MLP of width 16, step", 0.35)
def mlp_step() -> Contenders:
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    twin = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16), torch.nn.ReLU(),
                               torch.nn.Linear(16, 16))
    return training(model, twin, rng.normal(size=(16, 16)).astype("float32"), rng.integers(0, 16, 16),
                    lambda p: optim.SGD(p, 0.01), lambda p: torch.optim.SGD(p, 0.01))


@workload("Conv2d 4 -> 2 on 3x5, kernel 3, padding 3, batch 8: 1,000 backward passes", 0.25)
def small_convolution_backward() -> Contenders:
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(4, 2, 3, padding=3)
    twin = twins.with_weights_of(conv, torch.nn.Conv2d(4, 2, 3, padding=3))
    data = rng.normal(size=(8, 4, 3, 5)).astype("float32")
    x, tx = ndl.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y, ty = conv(x).sum(), twin(tx).sum()

    def ours():
        for _ in range(100):
            x.grad = conv.weight.grad = conv.bias.grad = None
            y.backward(retain_graph=True)
        return conv.weight.grad

    def theirs():
        for _ in range(100):
            tx.grad = twin.weight.grad = twin.bias.grad = None
            ty.backward(retain_graph=True)
        return twin.weight.grad
    agree(ours(), theirs())
    return {"needle_lab": ours, "torch": theirs}


# --- with --full only -----------------------------------------------------------------------------------------------------

@workload("ResNet-18 training step 64x64, batch 32", full=True, seconds=20)
def resnet18_step() -> Contenders:
    return training(models.ResNet18(10), twins.ResNet(twins.BasicBlock, (2, 2, 2, 2), 10), *images(32, 3, 64), steps=1)


@workload("GRU language model step, V 2,000, H 256, T 35, B 20", full=True)
def gru_step() -> Contenders:
    rng = np.random.default_rng(0)
    return training(models.LanguageModel(256, 2000, 256, kind="gru"),
                    twins.LanguageModel(256, 2000, 256, kind=torch.nn.GRU),
                    rng.integers(0, 2000, (35, 20)), rng.integers(0, 2000, 35 * 20),
                    lambda p: optim.SGD(p, 0.1), lambda p: torch.optim.SGD(p, 0.1))


@workload("Transformer encoder of 4 layers, d 256, inference, T 128, B 8", full=True)
def encoder_inference() -> Contenders:
    options = dict(d_model=256, nhead=8, dim_feedforward=1024, activation="gelu", batch_first=True)
    ours_of, theirs_of = nn.TransformerEncoderLayer, torch.nn.TransformerEncoderLayer
    model = nn.Sequential(*(ours_of(**options) for _ in range(4))).eval()
    twin = twins.with_weights_of(model, torch.nn.Sequential(*(theirs_of(**options) for _ in range(4))))
    return forward(model, twin, np.random.default_rng(0).normal(size=(8, 128, 256)).astype("float32"))


@workload("Depthwise convolution 3x3, 128 channels, 28x28, batch 8, forward and backward", full=True)
def depthwise_step() -> Contenders:
    conv = nn.Conv2d(128, 128, 3, padding=1, groups=128)
    twin = twins.with_weights_of(conv, torch.nn.Conv2d(128, 128, 3, padding=1, groups=128))
    data = np.random.default_rng(0).normal(size=(8, 128, 28, 28)).astype("float32")
    x, tx = ndl.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)

    def ours():
        x.grad = conv.weight.grad = conv.bias.grad = None
        (conv(x) * 1e-3).sum().backward()
        return conv.weight.grad

    def theirs():
        tx.grad = twin.weight.grad = twin.bias.grad = None
        (twin(tx) * 1e-3).sum().backward()
        return twin.weight.grad
    agree(ours(), theirs())
    return {"needle_lab": ours, "torch": theirs}
