"""Operators that are one op of the same meaning, without attributes: the op's own `onnx` name says which.

Before opset 7 those with two inputs broadcast only where an attribute asked for it; ONNX's own table says which had it.
"""

from __future__ import annotations

import functools

import onnx

from ... import ops
from ...core.graph import OPS, Op
from .table import DOMAINS, TABLE, Operator

ACTIVATIONS = {ops.relu, ops.sigmoid, ops.tanh, ops.softplus, ops.softsign, ops.erf}


def _same(name, *inputs):
    return OPS[name](*inputs)


def _legacy(function, a, b, *, axis=None, broadcast=0, consumed_inputs=None):
    if broadcast and axis is not None:                   # b's first axis stands at this axis of a
        b = b.reshape(*b.shape, *(1,) * (a.ndim - axis % a.ndim - b.ndim))
    return function(a, b)


def _row(op: Op) -> Operator:
    family = "activation" if op in ACTIVATIONS else ""
    return Operator(str(op.onnx), DOMAINS[0], "plain", {1: functools.partial(_same, op.name)}, family,
                    "first" if op.most_inputs == 1 else "broadcast")


def enter() -> None:
    """The rows of all ops that no other page has a function for, and the old versions."""
    for op in OPS.values():
        if op.onnx and not op.attributes and op.onnx not in TABLE:
            TABLE[op.onnx] = _row(op)
    for schema in onnx.defs.get_all_schemas_with_history():
        row = TABLE.get(schema.name) if schema.domain == DOMAINS[0] else None
        if row and schema.since_version == 1 and "broadcast" in schema.attributes and len(schema.inputs) == 2 \
                and row.page in ("plain", "math"):
            row.versions = {1: functools.partial(_legacy, row.versions[1]), 7: row.versions[1]}
