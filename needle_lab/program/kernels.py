"""Ops that write their result into given memory: numpy functions with `out`, no tensors, nothing allocated.

A kernel is `(out, *inputs, **attrs)`. An op that has none computes as always, and its result is copied.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.graph import OPS
from ..core.tensor import Tensor
from ..kernels.numpy.convolution.choose import Choice, choose
from .program import Call
from .values import Value

Kernel = Callable[..., object]


class _Here(Value):
    def __reduce__(self) -> str:
        return "HERE"                    # there is one, also in a pickled plan


HERE = _Here("what the output is so far", known=True)       # input of a call that runs on another's output, in place


def _ufunc(function: np.ufunc) -> Kernel:
    def kernel(out, *inputs):
        function(*inputs, out=out)
    return kernel


def _relu(out, x):
    np.maximum(x, 0, out=out)


def _sigmoid(out, x):
    np.multiply(x, 0.5, out=out)
    np.tanh(out, out=out)
    np.multiply(out, 0.5, out=out)
    np.add(out, 0.5, out=out)


def _square(out, x):
    np.multiply(x, x, out=out)


# Kernels that may write over their inputs: value by value, each read before it is written.
IN_PLACE: dict[str, Kernel] = {
    "add": _ufunc(np.add), "sub": _ufunc(np.subtract), "mul": _ufunc(np.multiply), "div": _ufunc(np.divide),
    "maximum": _ufunc(np.maximum), "minimum": _ufunc(np.minimum), "clip_low": _ufunc(np.maximum),
    "clip_high": _ufunc(np.minimum), "pow": _ufunc(np.power), "neg": _ufunc(np.negative), "abs": _ufunc(np.abs),
    "exp": _ufunc(np.exp), "log": _ufunc(np.log), "sqrt": _ufunc(np.sqrt), "tanh": _ufunc(np.tanh),
    "relu": _relu, "sigmoid": _sigmoid, "square": _square,
}


def _matmul(out, a, b):
    np.matmul(a, b, out=out)


def _linear(out, x, weight, bias=None):
    np.matmul(x.reshape(-1, x.shape[-1]), weight.T, out=out.reshape(-1, out.shape[-1]))
    if bias is not None:
        np.add(out, bias, out=out)


def _sum(out, x, *, axis=None, keepdims=False):
    np.sum(x, axis=axis, keepdims=keepdims, out=out)


def _mean(out, x, *, axis=None, keepdims=False):
    np.sum(x, axis=axis, keepdims=keepdims, out=out)
    np.divide(out, x.size / out.size if x.size else math.nan, out=out)


def _softmax(out, x, *, axis=-1):
    np.subtract(x, np.max(x, axis=axis, keepdims=True, initial=-np.inf), out=out)
    np.exp(out, out=out)
    np.divide(out, np.sum(out, axis=axis, keepdims=True), out=out)


def _concatenate(out, *tensors, axis=0):
    np.concatenate(tensors, axis, out=out)


OTHERS: dict[str, Kernel] = {"matmul": _matmul, "linear": _linear, "sum": _sum, "mean": _mean, "softmax": _softmax,
                             "concatenate": _concatenate}


def is_direct(call: Call) -> bool:
    """Whether inputs and output are floats of one dtype (and plain numbers): nothing is promoted or rounded."""
    dtype = call.outputs[0].dtype
    return dtype in (np.float32, np.float64) and all(
        v.dtype == dtype if isinstance(v, Value) else v is None or isinstance(v, (int, float)) for v in call.inputs)


def kernel_of(call: Call) -> Kernel | None:
    """The kernel for a call, if it has one and needs no promotion."""
    if not call.op or len(call.outputs) != 1 or not is_direct(call):
        return None
    return IN_PLACE.get(call.name) or OTHERS.get(call.name)

# --- from a call to a function without arguments ------------------------------------------------------------------------


def bound(call: Call, arrays: dict[Value, np.ndarray]) -> Callable[[], object]:
    """The call with its arrays: run it and its outputs are written."""
    inputs = [array_of(v, arrays) for v in call.inputs]
    if way := way_of(call):
        return _convolved(call, way, inputs, arrays)
    kernel = kernel_of(call)
    run: Callable[[], object] = functools.partial(kernel, arrays[call.outputs[0]], *inputs, **call.attrs) if kernel \
        else _copied(call, inputs, [arrays.get(v) for v in call.outputs])
    if not call.after:
        return run
    parts = [part for after in _parts(call, arrays)[2] for part in after]

    def both() -> None:
        run()
        for part in parts:
            part()
    return both


def array_of(value: Any, arrays: dict[Value, np.ndarray]) -> Any:
    return value if not isinstance(value, Value) else value.data if value.known else arrays[value]


def _copied(call: Call, inputs: list, outs: list[np.ndarray | None]) -> Callable[[], object]:
    """The op as it always computes; its results are copied to where the plan wants them."""
    op, attrs = OPS[call.name], call.attrs
    wrapped = [Tensor(x) if isinstance(x, np.ndarray) and isinstance(v, Value) else x
               for x, v in zip(inputs, call.inputs, strict=True)]
    plain = is_direct(call) or not op.promote

    def run() -> None:
        results = op.compute(*inputs, **attrs) if plain else op(*wrapped, **attrs)
        for out, result in zip(outs, results if isinstance(results, tuple) else (results,), strict=True):
            if out is not None:
                out[...] = result.data if isinstance(result, Tensor) else result
    return run


def _way(x: Value, weight: Value, *, stride, pads, dilation, groups) -> Choice:
    return choose(x.shape, weight.shape, stride, pads, dilation, groups, x.dtype, reuse=True)


def _way_of_input(g: Value, weight: Value, *, size, stride, pads, dilation, groups) -> Choice:
    shape = (g.shape[0], weight.shape[1] * groups, *size)
    return choose(shape, weight.shape, stride, pads, dilation, groups, g.dtype, what="input", reuse=True)


WAYS: dict[str, Callable[..., Choice]] = {"convolution": _way, "convolution_input": _way_of_input}


def way_of(call: Call) -> Choice | None:
    """How a convolution with a known weight is computed; None for any other call."""
    if call.name not in WAYS or not is_direct(call) or not call.inputs[1].known:
        return None
    return WAYS[call.name](*call.inputs[:2], **call.attrs)


def _convolved(call: Call, way: Choice, inputs: list, arrays: dict[Value, np.ndarray]) -> Callable[[], object]:
    """A convolution whose weight is brought into the form of its strategy once, here.

    Bias, residual and activation are added part by part, on the way into the plan's memory.
    """
    x, weight, bias = (*inputs, None)[:3]
    prepared, out = way.prepare(weight), arrays[call.outputs[0]]
    rows, step, parts = _parts(call, arrays)
    numbers = None if bias is None else np.tile(bias, len(x))[:, None]

    def run() -> None:
        y = way.run(x, prepared)
        if not y.flags.c_contiguous:                                # the strategy has another memory order
            out[...] = y
            y = out
        source = rows if y is out else y.reshape(rows.shape)
        for start, after in zip(range(0, len(rows), step), parts, strict=True):
            at = slice(start, start + step)
            if numbers is not None:
                np.add(source[at], numbers[at], out=rows[at])
            elif source is not rows:
                np.copyto(rows[at], source[at])
            for part in after:
                part()
    return run


BLOCK = 2**15            # numbers of a part: 128 KB of float32, which stay in the second cache from one call to the next
Parts = list[list[Callable[[], object]]]


def _parts(call: Call, arrays: dict[Value, np.ndarray]) -> tuple[np.ndarray, int, Parts]:
    """-> (the output as rows, rows in a part, for each part what follows the call on it).

    The rows of a convolution are its maps, those of anything else run along the last axis in memory.
    """
    out = arrays[call.outputs[0]]
    lead = 2 if call.name in WAYS else max(out.ndim - 1, 0)
    rows = out.reshape(math.prod(out.shape[:lead]), -1) if out.size else out.reshape(0, 1)
    operands = [[rows if v is HERE else _as_rows(v, arrays, out, lead) for v in after.inputs] for after in call.after]
    step = max(1, BLOCK // rows.shape[1])

    def follow(target: np.ndarray, cut: Callable[[Any], Any]) -> list[Callable[[], object]]:
        return [functools.partial(IN_PLACE[after.name], target, *map(cut, line), **after.attrs)
                for after, line in zip(call.after, operands, strict=True)]
    if any(x is None for line in operands for x in line):              # one of them does not come in rows: all at once
        operands = [[out if v is HERE else array_of(v, arrays) for v in after.inputs] for after in call.after]
        return rows, max(1, len(rows)), [follow(out, lambda x: x)][:len(rows)]

    def part(x: Any, start: int) -> Any:
        return x[start:start + step] if isinstance(x, np.ndarray) and x.ndim == 2 else x
    return rows, step, [follow(part(rows, i), functools.partial(part, start=i)) for i in range(0, len(rows), step)]


def _as_rows(value: Any, arrays: dict[Value, np.ndarray], out: np.ndarray, lead: int) -> Any:
    """An operand in rows that fit those of the output; None where that would need a copy in every run."""
    x, count = array_of(value, arrays), math.prod(out.shape[:lead])
    if not isinstance(x, np.ndarray) or x.size == 1:
        return x.reshape(()) if isinstance(x, np.ndarray) else x
    if x.shape == out.shape and x.flags.c_contiguous:
        return x.reshape(count, -1)
    if x.ndim <= out.ndim - lead and value.known:                # along the last axes: for every row the same
        return np.broadcast_to(x, out.shape[lead:]).reshape(-1)
    full = (1,) * (out.ndim - x.ndim) + x.shape
    if value.known and all(n == 1 for n in full[lead:]):         # one number a row
        return np.broadcast_to(x.reshape(full[:lead]), out.shape[:lead]).reshape(count, 1)
    return None
