"""The difference between architectures: alignment as trees, verdicts that agree with what loading does, the table."""

import json
import random

import numpy as np
import pytest
from small_models import Affine, Net, Norm

import needle_lab as ndl
from needle_lab.errors import ArgumentError, FileFormatError, MissingFileError, SignatureMismatch
from needle_lab.nn import Module, Parameter, Sequential
from needle_lab.nn.signature import items
from needle_lab.serialize import load_state_dict, save_checkpoint, save_state_dict, signature_diff


def kinds(diff):
    return [(row.kind, row.path_a, row.path_b) for row in diff.changes]


def test_equal_architectures_can_load():
    diff = signature_diff(Net(), Net())
    assert (diff.verdict, diff.changes, diff.first_cause) == ("can load", [], "")
    assert diff.fitting == diff.entries == len(Net().state_dict())
    assert "can load" in str(diff) and str(diff).isascii()
    assert json.loads(json.dumps(diff.to_json()))["rows"][1]["b"]["name"] == "scale"


def test_an_inserted_block_is_one_added_subtree():
    longer = Net()
    longer.blocks.insert(1, Sequential(Affine(4, 4), Norm(4), Affine(4, 4)))
    diff = signature_diff(Net(), longer)
    assert {row.kind for row in diff.changes} == {"added"}
    assert all(row.path_b.startswith("blocks.1") for row in diff.changes)
    assert diff.first_cause == "blocks.1 (Sequential) is only in b"
    moved = next(row for row in diff.rows if row.path_b == "blocks.3")
    assert (moved.kind, moved.path_a) == ("same", "blocks.2")
    back = signature_diff(longer, Net())
    assert {row.kind for row in back.changes} == {"removed"} and "... " in str(back)


def test_a_changed_block_among_equal_ones_is_a_change_in_place():
    other = Net()
    other.blocks[1][1].eps = 0.5
    assert kinds(signature_diff(Net(), other)) == [("changed", "blocks.1.1", "blocks.1.1")]
    assert signature_diff(Net(), other).verdict == "partly"
    assert signature_diff(Net(), other).first_cause == "blocks.1.1: eps: 1e-05 -> 0.5"


def test_a_renamed_block_is_one_change():
    other = Net()
    other.trunk = other.stem
    del other.stem
    diff = signature_diff(Net(), other)
    assert kinds(diff) == [("changed", "stem", "trunk")] and "renamed stem -> trunk" in str(diff)
    inside = next(row for row in diff.rows if row.path_b == "trunk.weight")
    assert (inside.kind, inside.path_a) == ("same", "stem.weight")
    assert diff.verdict == "partly" and diff.fitting == diff.entries - 4      # under other paths nothing is loaded


def test_order_of_assignment_is_no_difference():
    class One(Module):
        def __init__(self, turned):
            super().__init__()
            for name in ("b", "a") if turned else ("a", "b"):
                setattr(self, name, Affine(2, 2))

    first, second = One(False), One(True)
    second.__class__ = One
    assert signature_diff(first, second).verdict == "can load"


def test_a_replaced_layer_and_a_widened_one():
    a = Sequential(Affine(3, 8), Norm(8), Affine(8, 2))
    b = Sequential(Affine(3, 8), Affine(8, 8), Affine(8, 5))
    diff = signature_diff(a, b)
    row = next(row for row in diff.rows if row.path_b == "2.weight")
    assert (row.kind, row.path_a, row.reason) == ("changed", "2.weight", "shape (2, 8) -> (5, 8)")
    assert row.a["numel"] == 16 and row.b["shape"] == [5, 8] and row.a["type"] == "Parameter"
    assert diff.verdict == "partly"


def test_nothing_in_common_cannot_load():
    diff = signature_diff(Sequential(Affine(3, 8)), Norm(4))
    assert diff.verdict == "cannot" and diff.fitting == 0 and diff.first_cause


def random_model(seed):
    """A random tree of blocks; close seeds share much."""
    choose = random.Random(seed // 2)
    net = Sequential()
    for i in range(choose.randint(1, 5)):
        width = choose.choice([2, 3])
        net.append(choose.choice([lambda w: Affine(w, w), Norm, lambda w: Sequential(Affine(w, 2), Norm(w))])(width))
        if choose.random() < 0.3:
            setattr(net, f"extra{i}", [Norm(width), {"x": Affine(1, width)}])
    if seed % 2:
        change = random.Random(seed)
        what = change.randrange(4)
        if what == 0:
            net.insert(change.randrange(len(net) + 1), Affine(2, 3))
        elif what == 1:
            del net[change.randrange(len(net))]
        elif what == 2:
            net.more = Parameter(np.zeros(change.randint(1, 3)))
    return net


@pytest.mark.parametrize("seed", range(60))
def test_rows_cover_both_trees_once_and_the_verdict_is_what_loading_does(tmp_path, seed):
    a, b = random_model(seed), random_model(random.Random(seed).randrange(60) if seed % 3 else seed ^ 1)
    diff = signature_diff(a, b)
    for side, module in (("a", a), ("b", b)):
        paths = [getattr(row, f"path_{side}") for row in diff.rows if getattr(row, side) is not None]
        assert sorted(paths) == sorted(item.path for item in items(module.signature()))
    mirror = signature_diff(b, a)
    assert diff.verdict == mirror.verdict and diff.fitting == mirror.fitting
    assert bool(diff.changes) == bool(mirror.changes)
    depths = [row.depth for row in diff.rows]
    assert depths[0] == 0 and all(y <= x + 1 for x, y in zip(depths, depths[1:], strict=False))
    str(diff)

    save_state_dict(a, tmp_path / "w")
    if diff.verdict == "can load":
        load_state_dict(b, tmp_path / "w")
    else:
        with pytest.raises(SignatureMismatch):
            load_state_dict(b, tmp_path / "w")
        report = load_state_dict(b, tmp_path / "w", strict=False)
        assert len(report.loaded) == diff.fitting and bool(report.loaded) == (diff.verdict == "partly")


def test_modules_signatures_and_files_are_the_same_to_it(tmp_path):
    net, other = Net(), Net(5)
    save_state_dict(net, tmp_path / "w.safetensors")
    save_checkpoint(tmp_path / "c.safetensors", model=net)
    rows = signature_diff(net, other).rows
    for form in (net.signature(), tmp_path / "w.safetensors", str(tmp_path / "c.safetensors"),
                 json.loads(json.dumps(net.signature()))):
        assert signature_diff(form, other).rows == rows
    assert "w.safetensors" in str(signature_diff(tmp_path / "w.safetensors", other))


def test_wrong_arguments(tmp_path):
    (tmp_path / "junk").write_bytes(b"junk")
    save_checkpoint(tmp_path / "no_model")
    for wrong, error in ((3, ArgumentError), ({"class": 1}, ArgumentError), (tmp_path / "none", MissingFileError),
                         (tmp_path / "junk", FileFormatError), (tmp_path / "no_model", FileFormatError),
                         ({"class": "A", "config": {}, "parameters": {"w": {"shape": [-1], "dtype": "f"}},
                           "buffers": {}, "children": {}}, ArgumentError)):
        with pytest.raises(error):
            signature_diff(wrong, Net())
        with pytest.raises(error):
            signature_diff(Net(), wrong)


def test_two_thousand_nodes_and_long_lists_align():
    def long(width, count):
        return Sequential(*[Sequential(Affine(width, width), Norm(width)) for _ in range(count)])

    a, b = long(2, 400), long(2, 400)
    b.insert(200, Affine(2, 2))
    b[300][0].weight = Parameter(ndl.zeros(2, 3))
    diff = signature_diff(a, b)
    assert sorted({row.kind for row in diff.changes}) == ["added", "changed"]
    assert [row.path_b for row in diff.changes if row.kind == "changed"] == ["300.0.weight"]
    assert len(signature_diff(long(2, 300), long(3, 310)).rows) > 2000
