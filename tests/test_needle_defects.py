"""Defects of the original Needle, each by name, so that none comes back."""

import ast
import pathlib

import numpy as np
import pytest
from conftest import assert_close
from peers import needs
from small_models import Affine, Norm, bits

import needle_lab as ndl
from needle_lab.errors import DeviceError, FileFormatError, NeedleError, SignatureMismatch, UnsupportedOnnxError
from needle_lab.nn import Module, Sequential
from needle_lab.nn.signature import tensor_entries
from needle_lab.serialize import load_needle_npy, load_state_dict, load_tensors, save_state_dict

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
    for path in (PACKAGE / "serialize").rglob("*.py"):
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


def onnx_model(nodes, inputs=("x",), weights=(), opset=20):
    """An ONNX model from (operator, inputs, output, attributes), named inputs (N, 3) and (name, array) weights."""
    import onnx

    made = [onnx.helper.make_node(op, list(given), [out], name=f"{op}_node", **attrs) for op, given, out, attrs in nodes]
    shown = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in inputs]
    results = [onnx.helper.make_tensor_value_info(nodes[-1][2], onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(made, "graph", shown, results,
                                   [onnx.numpy_helper.from_array(array, name) for name, array in weights])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)]).SerializeToString()


@needs("onnx")
def test_one_new_onnx_op_touched_four_files(monkeypatch, rng):
    """Now it is one function: found by its name, called with the node's attributes, and trained through."""
    wobbly = onnx_model([("Wobble", ["x"], "y", {"strength": 2.0})])
    with pytest.raises(UnsupportedOnnxError):
        ndl.onnx.load(wobbly)
    monkeypatch.setattr(ndl.onnx.operators.table, "TABLE", dict(ndl.onnx.operators.TABLE))

    @ndl.onnx.operators.since(1)
    def Wobble(x, *, strength=1.0):      # noqa: N802    named after the operator
        return x + ndl.sin(strength * x)

    x = ndl.tensor(rng.normal(size=(4, 3)).astype("float32"), requires_grad=True)
    y = ndl.onnx.load(wobbly)(x)
    y.sum().backward()
    assert_close(y, x.numpy() + np.sin(2 * x.numpy()))
    assert_close(x.grad, 1 + 2 * np.cos(2 * x.numpy()))
    assert not ndl.onnx.inspect(wobbly).unsupported


@needs("onnx")
def test_unknown_ops_were_silently_dropped():
    """The model loaded and computed another function; now it is refused, all unknown operators at once, by name."""
    nodes = [("Relu", ["x"], "a", {}), ("Wobble", ["a"], "b", {}), ("Wobble", ["b"], "c", {}), ("Shiver", ["c"], "y", {})]
    with pytest.raises(UnsupportedOnnxError) as caught:
        ndl.onnx.load(onnx_model(nodes, opset=17))
    message = str(caught.value)
    assert "Wobble (opset 17), 2 nodes, first 'Wobble_node'" in message and "Shiver (opset 17), 1 nodes" in message
    assert "supported() lists them" in message and "Relu" in ndl.onnx.operators.supported()
    assert ndl.onnx.inspect(onnx_model(nodes)).unsupported == ["Shiver", "Wobble"]


@needs("onnx")
def test_graph_inputs_were_recognised_by_the_word_data_in_their_name(rng):
    """An input called 'pixels' was taken for a weight, a weight called 'data_weight' for an input."""
    weight, x = (rng.normal(size=shape).astype("float32") for shape in ((3, 2), (4, 3)))
    model = ndl.onnx.load(onnx_model([("MatMul", ["pixels", "data_weight"], "y", {})], ["pixels"],
                                     [("data_weight", weight)]))
    assert model.input_names == ["pixels"]
    assert [p.numel() for p in model.parameters()] == [weight.size]
    assert_close(model(x), x @ weight)
    assert_close(model(pixels=x), x @ weight)

    both = ndl.onnx.load(onnx_model([("Add", ["data", "data_1"], "y", {})], ["data_1", "data"]))
    assert both.input_names == ["data_1", "data"] and not list(both.parameters())      # in the order of the file


def test_modules_of_the_package_keep_the_promise():
    """Every layer that needle_lab offers and that needs no arguments has equal state and signature."""
    layers = [kind for kind in vars(ndl.nn).values() if isinstance(kind, type) and issubclass(kind, Module)]
    assert Sequential in layers
    for kind in layers:
        try:
            layer = kind()
        except (TypeError, ndl.errors.NeedleError):
            continue                                     # needs sizes; the layers' own tests make those
        assert set(layer.state_dict()) == set(tensor_entries(layer.signature())), kind
