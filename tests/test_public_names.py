"""What `ndl.<Tab>` shows: functions, ops, classes, dtypes and rooms that someone would look for, each with a docstring."""

import inspect
import types

import numpy as np
import pytest

import needle_lab as ndl
from needle_lab.core.graph import OPS, Op

# Ops that others are made of: what people call is conv2d, max_pool2d, cross_entropy, x[i], x.to(...), nn.LSTM, ...
PLUMBING = set("""
    add_at apply_batch_norm argkth argtopk attention batch_norm_ cholesky_ class_losses clip_high clip_low convolution
    convolution_input convolution_weight diagonal_ eigh_ einsum_ from_diagonal from_winners getitem gru_sequence
    index_select_grad inv keep_some layer_norm_ lstm_cell lstm_sequence max_windows ones_at pad_constant pinv_
    polygamma_ probability_losses qr_ running_places scatter_extreme slogdet_ solve_ split_ spread_windows stack_
    standardize sum_windows svd_ to_winners transferred unbind_ vector_norm where_
""".split())

ROOMS = set("""
    analysis autograd data errors grading graph kernels linalg models nn onnx ops optim plots program random
    serialize testing training widgets
""".split())


def opens_here(name):
    """Whether the room of this name opens without an extra that this environment lacks."""
    try:
        getattr(ndl, name)
    except ImportError:
        return False
    return True


NAMES = [name for name in ndl.__all__ if opens_here(name)]


def test_dir_shows_the_public_names_and_nothing_else():
    shown = [name for name in dir(ndl) if not name.startswith("__")]
    assert shown == sorted(set(ndl.__all__)) == ndl.__all__
    assert ndl.__all__ == sorted({*ndl.ops.__all__, *ndl._HERE, *ndl._ROOMS, *ndl._LATER})


def test_every_op_is_a_public_name_or_is_named_as_plumbing():
    built_in = {op.__name__: op for op in OPS.values() if op.__module__.startswith("needle_lab.ops")}
    hidden = {name for name, op in built_in.items() if getattr(ndl, name, None) is not op}
    assert hidden == {*PLUMBING, "concatenate_"}                    # of which ndl.concatenate is the form with a list
    assert not PLUMBING & set(ndl.__all__) and not PLUMBING & set(vars(ndl.ops))


def test_a_room_of_ops_offers_only_what_its_list_names():
    offered = {name for name, value in vars(ndl.ops).items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    assert offered == set(ndl.ops.__all__)
    assert set(ndl.ops.__all__) <= set(vars(ndl.nn.functional))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_of_a_public_kind_and_documented(name):
    value = getattr(ndl, name)
    if isinstance(value, types.ModuleType):
        assert name in ROOMS
    else:
        assert isinstance(value, (Op, np.dtype, type)) or inspect.isfunction(value)
    assert isinstance(value, np.dtype) or (value.__doc__ or "").strip()


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="convolution_input"):
        _ = ndl.convolution_input
