"""Optimisation passes: each takes the graph of a plan to one that computes the same with less, and counts what it did.

They are the passes of every graph compiler. Each is a walk over the list of calls; none knows the others, only their
order matters: batch norm has to become a multiplication before a convolution can absorb it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.modes import no_grad
from .kernels import HERE, IN_PLACE, is_direct
from .program import Call, Program, as_argument
from .values import Value, known_value, leaves_of, mapped

Done = Counter[str]          # what a pass did -> how often


def optimise(graph: Program) -> Done:
    """All passes, in their order."""
    done: Done = Counter()
    for one in (drop_identities, fold, share_common, name_linear, split_batch_norms, absorb, drop_dead, fuse):
        one(graph, done)
    return done


# --- helpers ----------------------------------------------------------------------------------------------------------

def readers_of(graph: Program) -> Counter[Value]:
    """How often each value is read, by calls and as an output of the model."""
    return Counter([v for call in graph.calls for v in call.reads()] + [v for v in graph.outputs if not v.known])


def replace(graph: Program, new: dict[Value, Value]) -> None:
    """Read other values in the place of some; `new` may lead from one to the next."""
    def current(value: Any) -> Any:
        while isinstance(value, Value) and value in new:
            value = new[value]
        return value
    for call in graph.calls:
        call.inputs = [mapped(v, current) for v in call.inputs]
        for body in call.bodies.values():
            body.captured = mapped(body.captured, current)
    graph.outputs = [current(v) for v in graph.outputs]

# --- nothing to do ----------------------------------------------------------------------------------------------------


def _is_full(index: Any, shape: tuple[int, ...]) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return len(parts) <= len(shape) and all(
        isinstance(p, slice) and p.indices(n) == (0, n, 1) for p, n in zip(parts, shape, strict=False))


def _keeps_order(axes: list[int], x: Value, y: Value) -> bool:
    """Whether the axes that are longer than 1 stay in their order."""
    return axes == sorted(axes) and x.shape == y.shape


# op -> whether a call leaves its input as it is
IDENTITIES: dict[str, Callable[[Value, Value, dict], bool]] = {
    "reshape": lambda x, y, a: x.shape == y.shape, "expand": lambda x, y, a: x.shape == y.shape,
    "permute": lambda x, y, a: _keeps_order([n % len(x.shape) for n in a["axes"] if x.shape[n] != 1], x, y),
    "cast": lambda x, y, a: x.dtype == y.dtype, "clone": lambda x, y, a: True, "detach": lambda x, y, a: True,
    "getitem": lambda x, y, a: _is_full(a["index"], x.shape or ()), "tile": lambda x, y, a: x.shape == y.shape,
    "pad_constant": lambda x, y, a: not np.any(a["widths"]), "concatenate": lambda x, y, a: x.shape == y.shape,
}


def drop_identities(graph: Program, done: Done) -> None:
    """Reshapes to the same shape, casts to the same dtype, slices of everything: their readers read their input."""
    new: dict[Value, Value] = {}
    kept = []
    for call in graph.calls:
        inputs = [new.get(v, v) for v in call.inputs if isinstance(v, Value)]
        if call.name in IDENTITIES and len(inputs) == 1 and IDENTITIES[call.name](inputs[0], call.outputs[0], call.attrs):
            new[call.outputs[0]] = inputs[0]
            done["calls that change nothing dropped"] += 1
        else:
            kept.append(call)
    graph.calls = kept
    replace(graph, new)


OF_SHAPES = {"zeros_like": np.zeros, "ones_like": np.ones}


def fold(graph: Program, done: Done) -> None:
    """Calls whose inputs are all known are run once, here."""
    kept = []
    for call in graph.calls:
        if call.op and (call.name in OF_SHAPES or all(v.known for v in leaves_of(call.inputs))):
            y = call.outputs[0]
            if call.name in OF_SHAPES:
                results: Any = OF_SHAPES[call.name](y.shape, y.dtype)
            else:
                with no_grad():
                    results = call.op(*mapped(call.inputs, _argument), **call.attrs)
            for value, found in zip(call.outputs, results if isinstance(results, tuple) else (results,), strict=True):
                value.known, value.data = True, known_value("", found).data
            done["calls on weights and constants run once"] += 1
        else:
            kept.append(call)
    graph.calls = kept


def _argument(x: Any) -> Any:
    return as_argument(x) if isinstance(x, Value) else x


def drop_dead(graph: Program, done: Done) -> None:
    """Calls whose results nobody reads, found from the end."""
    needed, kept = {v for v in graph.outputs}, []
    for call in reversed(graph.calls):
        if any(v in needed for v in call.outputs):
            needed.update(call.reads())
            kept.append(call)
    done["calls nobody reads dropped"] += len(graph.calls) - len(kept)
    graph.calls = kept[::-1]


def share_common(graph: Program, done: Done) -> None:
    """Two calls of the same op on the same values have the same results: the second reads those of the first."""
    first: dict[tuple, Call] = {}
    new: dict[Value, Value] = {}
    kept = []
    for call in graph.calls:
        if call.op:
            call.inputs = [new.get(v, v) if isinstance(v, Value) else v for v in call.inputs]
        key = (call.name, tuple(map(_identity, call.inputs)), _identity(sorted(call.attrs.items())))
        same = first.setdefault(key, call) if call.op else call
        if same is call:
            kept.append(call)
        else:
            new |= dict(zip(call.outputs, same.outputs, strict=True))
            done["calls computed before shared"] += 1
    graph.calls = kept
    replace(graph, new)


def _identity(x: Any) -> Any:
    """What tells two attributes or inputs apart; arrays by their bytes."""
    if isinstance(x, (list, tuple)):
        return tuple(map(_identity, x))
    if isinstance(x, np.ndarray):
        return x.shape, x.dtype.str, x.tobytes()
    if isinstance(x, Value) and x.known and x.shape is not None and x.data.size <= 64:
        return _identity(x.data)
    return (type(x).__name__, repr(x)) if not isinstance(x, Value) else x

# --- weights absorb what follows --------------------------------------------------------------------------------------


def name_linear(graph: Program, done: Done) -> None:
    """A product with a known matrix is a linear layer, which can take a bias."""
    for call in graph.calls:
        weight = call.inputs[1] if call.name == "matmul" else None
        if isinstance(weight, Value) and weight.known and weight.data.ndim == 2 and len(call.outputs[0].shape or ()) > 1:
            call.name, call.inputs[1] = "linear", known_value(weight.name, weight.data.T)


def split_batch_norms(graph: Program, done: Done) -> None:
    """(x - mean) / sqrt(var + eps) * weight + bias, all but x known, is x * scale + shift with a number per channel."""
    calls = []
    for call in graph.calls:
        if call.name == "apply_batch_norm" and all(v is None or v.known for v in call.inputs[1:]):
            x, y = call.inputs[0], call.outputs[0]
            mean, var, weight, bias = ([None if v is None else v.data.astype(np.float64) for v in call.inputs[1:]]
                                       + [None, None])[:4]
            scale = (1.0 if weight is None else weight) / np.sqrt(var + call.attrs["eps"])
            shift = (0.0 if bias is None else bias) - mean * scale
            along = (-1, *(1,) * (len(x.shape) - 2))
            product = Value("", y.shape, y.dtype)
            scales, shifts = (known_value("", v.reshape(along).astype(y.dtype)) for v in (scale, shift))
            calls += [Call("mul", [x, scales], [product], origin="batch norm"),
                      Call("add", [product, shifts], [y], origin="shift")]
        else:
            calls.append(call)
    graph.calls = calls


def absorb(graph: Program, done: Done) -> None:
    """A product or a sum with one number per output channel goes into the weight and bias of the call before it.

        (W x + b) * s + t  =  (s W) x + (s b + t)
    """
    read, maker = readers_of(graph), {call.outputs[0]: call for call in graph.calls}
    kept = []
    for call in graph.calls:
        before, numbers = _weighted_before(call, maker, read)
        if before is not None and numbers is not None:
            weight, bias = before.inputs[1:]
            add = call.name == "add"
            if not add:
                axis = CHANNELS[before.name][0]
                scaled = weight.data * numbers.reshape(-1, *(1,) * (weight.data.ndim - 1 - axis % weight.data.ndim))
                before.inputs[1] = known_value("", scaled.astype(weight.dtype))
                bias = None if bias is None else known_value("", (bias.data * numbers).astype(bias.dtype))
            elif bias is None:
                bias = known_value("", numbers.astype(weight.dtype))
            else:
                bias = known_value("", (bias.data + numbers).astype(bias.dtype))
            before.inputs[2] = bias
            before.outputs, maker[call.outputs[0]] = call.outputs, before
            if call.origin != "shift":
                done["batch norms folded into weights" if call.origin else
                     "biases joined to their products" if add else "scales folded into weights"] += 1
        else:
            if call.origin == "batch norm":
                done["batch norms made one scale and shift"] += 1
            kept.append(call)
            maker[call.outputs[0]] = call
    graph.calls = kept


# op with a weight -> (axis of the output channels in the weight, in the output)
CHANNELS = {"convolution": (0, 1), "linear": (0, -1), "convolution_input": (1, 1)}


def _weighted_before(call: Call, maker: dict[Value, Call], read: Counter[Value]) -> tuple[Call | None, Any]:
    """(the call that can absorb this mul or add, the numbers per channel), or None."""
    if call.name not in ("mul", "add") or len(call.inputs) != 2:
        return None, None
    for value, other in (call.inputs, call.inputs[::-1]):
        before = maker.get(value)
        if before is None or before.name not in CHANNELS or read[value] > 1 or value.shape != call.outputs[0].shape \
                or not (is_direct(before) and is_direct(call)):
            continue
        before.inputs += [None] * (3 - len(before.inputs))
        weight, bias = before.inputs[1:]
        grouped = before.name == "convolution_input" and before.attrs["groups"] > 1 and call.name == "mul"
        if not isinstance(weight, Value) or not weight.known or weight.data.ndim < 2 or grouped \
                or (bias is not None and not bias.known):
            continue
        axis = CHANNELS[before.name][1] % len(value.shape)
        return before, _per_channel(other, value.shape, axis)
    return None, None


def _per_channel(other: Any, shape: tuple[int, ...], axis: int) -> np.ndarray | None:
    """A number, or known values that differ along one axis of the output only, as a float64 vector along it."""
    data = np.asarray(other.data if isinstance(other, Value) and other.known and other.shape is not None else other) \
        if not isinstance(other, Value) or other.known else None
    if data is None or data.dtype == object or data.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - data.ndim) + data.shape
    if any(n != 1 and i != axis for i, n in enumerate(full)):
        return None
    return np.broadcast_to(data.reshape(-1), (shape[axis],)).astype(np.float64)

# --- one pass over memory instead of several --------------------------------------------------------------------------


def fuse(graph: Program, done: Done) -> None:
    """An elementwise call goes to the call that makes its input, where it runs on parts that are still in the cache.

    That call has to be its input's only maker and reader, and everything else that it reads has to be there already.
    """
    read = readers_of(graph)
    place = {v: i for i, call in enumerate(graph.calls) for v in call.outputs}
    gone: set[Call] = set()
    for call in graph.calls:
        if call.name not in IN_PLACE or not is_direct(call):
            continue
        made = sorted((v for v in call.inputs if isinstance(v, Value) and v in place), key=place.__getitem__, reverse=True)
        if not made:
            continue
        last = made[0]                                         # everything else is there when it is made
        maker = graph.calls[place[last]]
        y = call.outputs[0]
        if read[last] == 1 and maker.op and not maker.op.view and is_direct(maker) and len(maker.outputs) == 1 \
                and (last.shape, last.dtype) == (y.shape, y.dtype):
            maker.after.append(call)
            maker.outputs = [y]
            call.inputs = [HERE if v is last else v for v in call.inputs]
            place[y] = place[last]
            gone.add(call)
            done[f"{call.name} done inside of {maker.name}"] += 1
    graph.calls = [call for call in graph.calls if call not in gone]
