"""ONNX operators of control flow, sequences and optionals.

Inner graphs arrive as functions of their inputs; only the branch that is taken runs, and gradients flow through what
ran. A sequence is a Python list; an absent optional is None.
"""

# ruff: noqa: N802    functions are named after ONNX operators

import numpy as np

from ... import Tensor, ops
from ...errors import ArgumentError
from ..limits import limits
from .table import ints, scalar, since


@since(1)
def If(condition, *, then_branch, else_branch):
    return (then_branch if bool(scalar(condition)) else else_branch)()


@since(1)
def Loop(trip_count, condition, *state, body):
    """Runs body(iteration, condition, *state) -> (condition, *state, *scanned); scanned outputs are stacked.

    Where it does not run at all, a scanned output has a first length of 0 and else the shape that the body declares.
    """
    count = None if trip_count is None else int(scalar(trip_count))
    going, scans = condition is None or bool(scalar(condition)), []
    i = 0
    while going and (count is None or i < count):
        if i >= limits.loop_iterations:
            raise ArgumentError(f"Loop: still running after {i:,} iterations; set ndl.onnx.limits.loop_iterations higher if "
                                "that is meant")
        going, *results = body(Tensor(np.array(i)), Tensor(np.array(True)), *state)
        going = bool(scalar(going))
        state, scanned = results[:len(state)], results[len(state):]
        scans.append(scanned)
        i += 1
    if not scans:
        return (*state, *_no_rows(body, state))
    return (*state, *(ops.stack(list(column)) for column in zip(*scans, strict=True)))


def _no_rows(body, state) -> list[Tensor]:
    """The scanned outputs of a body that did not run: in the dtypes and shapes that it declares, or else would have."""
    declared = body.output_types[1 + len(state):]
    if any(kind is None or None in kind[1] for kind in declared):
        results = body(Tensor(np.array(0)), Tensor(np.array(True)), *state)[1 + len(state):]
        declared = [(r.dtype, r.shape) for r in results]
    return [Tensor(np.zeros((0, *shape), dtype)) for dtype, shape in declared]


@since(9)
def Scan(*inputs, body, num_scan_inputs, scan_input_axes=None, scan_input_directions=None, scan_output_axes=None,
         scan_output_directions=None):
    """Runs body(*state, *slices) along an axis of the scanned inputs."""
    count = len(inputs) - num_scan_inputs
    state, scanned = list(inputs[:count]), list(inputs[count:])
    axes = list(scan_input_axes or [0] * num_scan_inputs)
    backwards = list(scan_input_directions or [0] * num_scan_inputs)
    slices = [ops.unbind(x, axis) for x, axis in zip(scanned, axes, strict=True)]
    slices = [s[::-1] if back else s for s, back in zip(slices, backwards, strict=True)]
    rows = []
    for parts in zip(*slices, strict=True):
        results = body(*state, *parts)
        state, row = list(results[:count]), results[count:]
        rows.append(row)
    outputs = []
    for k, column in enumerate(zip(*rows, strict=True)):
        column = column[::-1] if scan_output_directions and scan_output_directions[k] else column
        outputs.append(ops.stack(list(column), scan_output_axes[k] if scan_output_axes else 0))
    return (*state, *outputs)


@since(8)
def Scan_8(sequence_lens, *inputs, body, num_scan_inputs, directions=None):
    """Before opset 9 the first axis was a batch, and each sample was scanned for itself."""
    batch = inputs[-1].shape[0]
    results = [Scan(*(x[i] for x in inputs), body=body, num_scan_inputs=num_scan_inputs,
                    scan_input_directions=directions) for i in range(batch)]
    return tuple(ops.stack(list(column)) for column in zip(*results, strict=True))

# --- sequences ------------------------------------------------------------------------------------------------------


@since(11)
def SequenceEmpty(*, dtype=1):
    return []


@since(11)
def SequenceConstruct(*values):
    return list(values)


@since(11)
def SequenceInsert(sequence, value, position=None):
    copy = list(sequence)
    copy.insert(len(copy) if position is None else int(scalar(position)), value)
    return copy


@since(11)
def SequenceErase(sequence, position=None):
    copy = list(sequence)
    del copy[-1 if position is None else int(scalar(position))]
    return copy


@since(11)
def SequenceAt(sequence, position):
    return sequence[int(scalar(position))]


@since(11)
def SequenceLength(sequence):
    return Tensor(np.array(len(sequence), np.int64))


@since(11)
def SplitToSequence(x, split=None, *, axis=0, keepdims=1):
    if split is None:
        parts = ops.split(x, 1, axis)
        return [ops.squeeze(p, axis) for p in parts] if not keepdims else list(parts)
    sizes = ints(split)
    return list(ops.split(x, list(sizes) if split.ndim else sizes[0], axis))


@since(11)
def ConcatFromSequence(sequence, *, axis, new_axis=0):
    return ops.stack(sequence, axis) if new_axis else ops.concat(sequence, axis)


@since(17)
def SequenceMap(sequence, *others, body):
    """body on each element (and on the elements of other sequences, or on other tensors as they are)."""
    rows = [body(value, *(o[i] if isinstance(o, list) else o for o in others)) for i, value in enumerate(sequence)]
    return tuple(list(column) for column in zip(*rows, strict=True))

# --- optionals ------------------------------------------------------------------------------------------------------


@since(15)
def Optional(value=None, *, type=None):
    return value


@since(15)
def OptionalHasElement(value=None):
    return Tensor(np.array(value is not None))


@since(15)
def OptionalGetElement(value):
    if value is None:
        raise ArgumentError("OptionalGetElement: the optional is empty")
    return value
