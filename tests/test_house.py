"""The order of the rooms: what is named as what, and what a reader is promised."""

import types

import pytest

from needle_lab import ops
from needle_lab.core.graph import OPS, Op


def test_no_file_of_ops_is_hidden_by_a_function_of_its_name():
    import pathlib
    files = [p.stem for p in pathlib.Path(ops.__file__).parent.glob("*.py") if p.stem != "__init__"]
    assert len(files) > 10
    assert [name for name in files if hasattr(ops, name) and not isinstance(getattr(ops, name), types.ModuleType)] == []


def test_every_op_has_a_rule_or_says_that_it_has_none():
    assert [name for name, op in OPS.items() if bool(op.gradient) != op.differentiable] == []


@pytest.mark.parametrize("reserved", ["g", "y", "wants"])
def test_inputs_are_not_named_as_what_rules_are_handed(reserved):
    assert [name for name, op in OPS.items() if isinstance(op, Op) and reserved in op.inputs] == []
