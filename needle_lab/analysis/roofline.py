"""How fast could it be?  The roofline of this machine (Williams, Waterman and Patterson, 2009), and a model's layers on it.

A computation needs operations and bytes. A machine has two speeds, one for each, so no program does more than

    operations a second  <=  min(peak, intensity * bandwidth),        intensity = operations / bytes moved

a slope and a flat roof. `measure_roofline` finds both speeds by a matrix product and by a copy; `layer_costs` counts and
times the layers of a model; `plots.show_roofline` draws them together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..errors import ArgumentError
from ..kernels.numpy.convolution.choose import explain_conv
from ..kernels.numpy.threads import get_num_threads, parallel
from ..nn import AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv1d, Linear, MaxPool2d, Module, ReLU
from ..nn.modes import evaluating

LEAST_RUN = 1e-3             # seconds: shorter calls are timed several at a time, so that the clock's own cost is nothing
PRODUCT = 512                # rows and columns of the matrices whose product shows the peak: large enough for BLAS, and
                             # over in a few milliseconds, before another program interrupts it
FAR, NEAR = 1 << 24, 1 << 15 # float32 values of a copy: 64 MiB, larger than most caches, and 128 KiB, which most hold

# --- time -----------------------------------------------------------------------------------------------------------

UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


class Seconds(float):
    """A time that prints with a unit: str(Seconds(0.0123)) is "12.3 ms"."""

    def __str__(self) -> str:
        size, unit = next((pair for pair in UNITS if abs(self) >= pair[0]), UNITS[-1])
        return f"{self / size:.3g} {unit}"

    __repr__ = __str__


def measure(function: Callable[[], Any], seconds: float = 0.2) -> Seconds:
    """The time of one call: the least of as many runs as fit into `seconds`, of at least three; a first call warms up.

    The least, not the mean: whatever else the machine does makes a run longer, never shorter.
    """
    if seconds < 0:
        raise ArgumentError(f"measure: seconds={seconds} is less than nothing")
    function()
    repeats, best, runs, began = 1, math.inf, 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        took = time.perf_counter() - start
        best, runs = min(best, took / repeats), runs + 1
        if took < LEAST_RUN:
            repeats *= 2
    return Seconds(best)

# --- the machine ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roofline:
    """peak: operations a second of a matrix product.  memory, cache: bytes a second of a copy, read and written."""

    peak: float
    memory: float
    cache: float

    @property
    def ridge(self) -> float:
        """Operations a byte from which on memory is fast enough to keep the arithmetic busy."""
        return self.peak / self.memory

    def roof(self, intensity: Any) -> Any:
        """Operations a second that are possible at so many operations a byte (a number or an array), from memory."""
        return np.minimum(self.peak, np.multiply(intensity, self.memory))

    def __str__(self) -> str:
        return (f"{self.peak / 1e9:.1f} Gflop/s at most; copies: {self.memory / 1e9:.1f} GB/s in memory, "
                f"{self.cache / 1e9:.1f} GB/s in the cache; ridge at {self.ridge:.1f} operations a byte")

    __repr__ = __str__


def measure_roofline(seconds: float = 0.3) -> Roofline:
    """The roofline of this machine for float32, with as many threads as `ndl.get_num_threads()`, in about 3 x seconds.

    A multiplication and an addition are two operations. Each thread copies a part of its own, from 64 MiB in all for
    memory, of 128 KiB for the cache.
    """
    a = np.ones((PRODUCT, PRODUCT), np.float32)
    product = np.empty_like(a)
    peak = 2 * PRODUCT**3 / measure(lambda: np.matmul(a, a, out=product), seconds)
    threads = get_num_threads()
    return Roofline(peak, _copy_speed(FAR // threads, seconds), _copy_speed(NEAR, seconds))


def _copy_speed(values: int, seconds: float) -> float:
    """Bytes read and written a second, each thread copying so many float32 values."""
    pairs = [(np.zeros(values, np.float32), np.ones(values, np.float32)) for _ in range(get_num_threads())]
    took = measure(lambda: parallel(lambda pair: np.copyto(*pair), pairs), seconds)
    return len(pairs) * 2 * pairs[0][0].nbytes / took

# --- the layers of a model ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerCost:
    """One layer: what it is asked for, and how long it takes.

    path: of its module; kind: a convolution's strategy, else its class. operations: of the plain definition, a
    multiplication and an addition being two; a strategy may need fewer. nbytes: of its input, output and weights, each
    moved once.
    """

    path: str
    kind: str
    operations: int
    nbytes: int
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / self.nbytes

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    def __str__(self) -> str:
        return (f"{self.path:<24} {self.kind:<18} {self.operations / 1e6:10,.1f} M operations {self.intensity:8.2f} a byte "
                f"{Seconds(self.seconds)!s:>8} {self.rate / 1e9:8.1f} Gflop/s")


def layer_costs(model: Module, x: Tensor, seconds: float = 0.05) -> list[LayerCost]:
    """The layers of `model` that `OPERATIONS` can count, for the input x (N, ...), each timed for so long, in evaluation.

    Of layers that are alike (same class, shapes and settings) only the first is listed.
    """
    found: dict[Any, tuple[str, Module, Tensor, Tensor]] = {}
    with evaluating(model):
        with ExitStack() as hooks:
            for path, module in model.named_modules():
                if _counter(module) is not None:
                    hooks.enter_context(module.register_forward_hook(_keeper(found, path)))
            model(x)
        return [_cost(path, module, before, after, seconds) for path, module, before, after in found.values()]


def _keeper(found: dict[Any, Any], path: str) -> Callable[..., Any]:
    def keep(module: Module, args: tuple[Any, ...], output: Tensor) -> None:
        settings = {name: value for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, Tensor)}
        shapes = (args[0].shape, output.shape, *(p.shape for p in module.parameters()))
        found.setdefault((type(module), shapes, str(settings)), (path, module, args[0], output))
    return keep


def _cost(path: str, module: Module, x: Tensor, y: Tensor, seconds: float) -> LayerCost:
    count = _counter(module)
    assert count is not None
    weights = [*module.parameters(), *module.buffers()]
    kind = type(module).__name__
    if isinstance(module, Conv1d):
        kind = _explain(module, x).rows[0][1].name
    return LayerCost(path, kind, count(module, x, y), sum(value.nbytes for value in (x, y, *weights)),
                     measure(lambda: module(x), seconds))


def _explain(module: Any, x: Tensor) -> Any:
    return explain_conv(x.shape, module.weight.shape, module.stride, module.padding, module.dilation, module.groups)


def _places(module: Any) -> int:
    size = module.kernel_size
    return size**2 if isinstance(size, int) else math.prod(size)


OPERATIONS: dict[type[Module], Callable[[Any, Tensor, Tensor], int]] = {
    Conv1d: lambda module, x, y: 2 * _explain(module, x).direct,                   # and its subclasses, 2d and 3d
    Linear: lambda module, x, y: 2 * x.numel() * module.out_features,
    BatchNorm2d: lambda module, x, y: 2 * y.numel(),                                  # in evaluation: a scale and a shift
    MaxPool2d: lambda module, x, y: (_places(module) - 1) * y.numel(),                # comparisons
    AvgPool2d: lambda module, x, y: _places(module) * y.numel(),
    AdaptiveAvgPool2d: lambda module, x, y: x.numel(),
    ReLU: lambda module, x, y: y.numel(),
}


def _counter(module: Module) -> Callable[[Any, Tensor, Tensor], int] | None:
    return next((count for kind, count in OPERATIONS.items() if isinstance(module, kind)), None)
