"""Defects of the original Needle, each by name, so that none comes back."""

import ast
import pathlib

import numpy as np
import pytest
from small_models import Affine, Norm, bits

import needle_lab as ndl
from needle_lab.errors import DeviceError, FileFormatError, NeedleError, SignatureMismatch
from needle_lab.nn import Module, Sequential
from needle_lab.serialize import load_needle_npy, load_state_dict, load_tensors, save_state_dict
from needle_lab.serialize.signature import tensor_entries

PACKAGE = pathlib.Path(ndl.__file__).parent


class Holder(Module):
    """Layers in a list, a tuple and a dict, as the original's ResNet held them."""

    def __init__(self, width=3):
        super().__init__()
        self.in_list = [Affine(width, width), [Affine(width, width)]]
        self.in_tuple = (Affine(width, width), Norm(width))
        self.in_dict = {"head": Affine(width, width)}

    def forward(self, x):
        x = self.in_tuple[1](self.in_tuple[0](self.in_list[1][0](self.in_list[0](x))))
        return self.in_dict["head"](x)


def test_state_dict_skipped_lists_and_tuples_while_the_signature_visited_them(tmp_path):
    """A matching signature saved nothing: the model loaded 'successfully' and kept its random weights."""
    net, twin = Holder(), Holder()
    for path in ("in_list.0.weight", "in_list.1.0.bias", "in_tuple.0.weight", "in_tuple.1.running_mean",
                 "in_dict.head.weight"):
        assert path in net.state_dict()
    save_state_dict(net, tmp_path / "w")
    assert set(load_tensors(tmp_path / "w")) == set(net.state_dict())
    load_state_dict(twin, tmp_path / "w")
    assert bits(twin) == bits(net)
    x = ndl.randn(5, 3)
    assert twin.eval()(x).tolist() == net.eval()(x).tolist()


def test_batch_norm_running_statistics_were_in_neither_state_nor_signature(tmp_path):
    """A trained model gave other answers after loading, because it normalised with mean 0 and variance 1."""
    net, twin = Holder(), Holder()
    for _ in range(5):
        net(ndl.randn(16, 3) * 4 + 2)
    assert "running_mean" in net.signature()["children"]["in_tuple"]["children"]["1"]["buffers"]
    save_state_dict(net, tmp_path / "w")
    load_state_dict(twin, tmp_path / "w")
    norm = twin.in_tuple[1]
    assert norm.batches.item() == 5 and abs(norm.running_mean.numpy()).max() > 0.1
    x = ndl.randn(5, 3)
    assert twin.eval()(x).tolist() == net.eval()(x).tolist()
    assert not any(isinstance(p, ndl.nn.Buffer) for p in net.parameters())      # state, but not trained


def test_pickled_npy_could_run_any_code(tmp_path):
    """np.load(path, allow_pickle=True) executed whatever a checkpoint asked for."""
    class Attack:
        def __reduce__(self):
            return (tmp_path / "ran").mkdir, ()

    box = np.empty((), object)
    box[()] = {"state_dict": {"w": Attack()}, "signature": "s", "device": "cpu()"}
    np.save(tmp_path / "c.npy", box, allow_pickle=True)
    for read in (load_needle_npy, load_tensors, lambda path: load_state_dict(Holder(), path)):
        with pytest.raises(FileFormatError):
            read(tmp_path / "c.npy")
    assert not (tmp_path / "ran").exists()

    unpicklers = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path in (PACKAGE / "serialize").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            assert not unpicklers.intersection(names), f"{path.name} imports {names}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                raise AssertionError(f"{path.name}:{node.lineno} calls a .load that may unpickle")


def test_bare_asserts_were_the_error_messages(tmp_path):
    """`AssertionError: Module signature does not match` said neither what differs nor what to do, and -O removed it."""
    save_state_dict(Holder(3), tmp_path / "w")
    with pytest.raises(SignatureMismatch) as caught:
        load_state_dict(Holder(4), tmp_path / "w")
    message = str(caught.value)
    assert "in_list.0.weight" in message and "file (3, 3)" in message and "model (4, 4)" in message
    assert "strict=False" in message
    assert issubclass(SignatureMismatch, NeedleError) and issubclass(DeviceError, NeedleError)
    found = [f"{path.relative_to(PACKAGE)}:{node.lineno}" for path in PACKAGE.rglob("*.py")
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Assert) and not ast.unparse(node.test).endswith(" is not None")]   # for mypy
    assert not found, f"assert statements in the package: {found}"


def test_modules_of_the_package_keep_the_promise():
    """Every layer that needle_lab offers and that needs no arguments has equal state and signature."""
    layers = [kind for kind in vars(ndl.nn).values() if isinstance(kind, type) and issubclass(kind, Module)]
    assert Sequential in layers
    for kind in layers:
        try:
            layer = kind()
        except TypeError:
            continue                                     # needs sizes; the layers' own tests make those
        assert set(layer.state_dict()) == set(tensor_entries(layer.signature())), kind
