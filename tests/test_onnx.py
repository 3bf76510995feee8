"""ONNX in and out: onnxruntime is the oracle."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import models, nn
from needle_lab.errors import FileFormatError, GraphError, MissingFileError, NeedleError, UnsupportedOnnxError

onnx = require("onnx")
ort = require("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def runtime(model, *arrays):
    """onnxruntime's outputs for a path or a ModelProto."""
    session = ort.InferenceSession(model.SerializeToString() if hasattr(model, "graph") else os.fspath(model))
    return session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)})


def as_tuple(y) -> tuple:
    """One flat tuple of outputs, states of recurrent layers included."""
    return sum((as_tuple(part) for part in y), ()) if isinstance(y, tuple) else (y,)

# --- what we export ---------------------------------------------------------------------------------------------------

OWN = {
    "ResNet9": (models.ResNet9, lambda rng: rng.normal(size=(2, 3, 32, 32)).astype("f")),
    "LeNet": (models.LeNet, lambda rng: rng.normal(size=(2, 1, 28, 28)).astype("f")),
    "ResNet18": (lambda: models.ResNet18(10), lambda rng: rng.normal(size=(1, 3, 32, 32)).astype("f")),
    "GoogLeNet": (lambda: models.GoogLeNet(10), lambda rng: rng.normal(size=(1, 3, 64, 64)).astype("f")),
    "GPT": (lambda: models.GPT(20, 8, 16), lambda rng: rng.integers(0, 20, (2, 6))),
    "RNN": (lambda: models.LanguageModel(8, 20, 16, kind="rnn"), lambda rng: rng.integers(0, 20, (5, 2))),
    "LSTM": (lambda: models.LanguageModel(8, 20, 16, kind="lstm"), lambda rng: rng.integers(0, 20, (5, 2))),
    "GRU": (lambda: models.LanguageModel(8, 20, 16, kind="gru"), lambda rng: rng.integers(0, 20, (5, 2))),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16), lambda rng: rng.normal(size=(5, 2, 8)).astype("f")),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.AvgPool2d(2, ceil_mode=True)),
                   lambda rng: rng.normal(size=(2, 3, 9, 9)).astype("f")),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.InstanceNorm2d(4), nn.SiLU(), nn.Softmax(1)),
                   lambda rng: rng.normal(size=(2, 3, 5, 5)).astype("f")),
}


@pytest.mark.parametrize("name", sorted(OWN))
def test_export_equals_onnxruntime_and_comes_back(name, rng, tmp_path):
    ndl.manual_seed(0)
    make, draw = OWN[name]
    model, x = make().eval(), draw(rng)
    proto = ndl.onnx.export(model, [x], tmp_path / "model.onnx")
    assert proto == onnx.load(tmp_path / "model.onnx")
    expected = as_tuple(model(ndl.tensor(x)))
    back = ndl.onnx.load(tmp_path / "model.onnx")
    for y, z, w in zip(expected, runtime(tmp_path / "model.onnx", x), as_tuple(back(x)), strict=True):
        assert_close(y, z, 1e-5, name)
        assert_close(w, z, 1e-5, name)
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in model.parameters()), "no weight lost or invented"
    assert model.training is False


@pytest.mark.parametrize("name", sorted(OWN))
def test_imported_exported_imported_is_a_fixed_point(name, rng):
    """Layers, names and the nodes themselves stay what they are, however often a model goes out and comes back."""
    make, draw = OWN[name]
    x = draw(rng)
    first = ndl.onnx.load(ndl.onnx.export(make().eval(), [x]))
    second = ndl.onnx.load(ndl.onnx.export(first, [x]))
    third = ndl.onnx.load(ndl.onnx.export(second, [x]))
    assert {p: v.shape for p, v in first.state_dict().items()} == {p: v.shape for p, v in second.state_dict().items()}
    assert [s.op for s in second.steps] == [s.op for s in third.steps] and second.signature() == third.signature()


def test_exported_names_are_the_model_s_own(tmp_path):
    model = models.ResNet9().eval()
    ndl.onnx.export(model, [ndl.randn(1, 3, 32, 32)], tmp_path / "m.onnx")
    back = ndl.onnx.load(tmp_path / "m.onnx")
    assert {p for p, _ in back.named_parameters()} == {p for p, _ in model.named_parameters()}
    state = {path: value for path, value in model.state_dict().items()}
    for path, value in back.state_dict().items():
        if "num_batches" not in path:
            np.testing.assert_array_equal(value.numpy(), state[path].numpy())


def test_dynamic_batch_of_an_export(rng, tmp_path):
    model = models.ResNet9().eval()
    ndl.onnx.export(model, [ndl.randn(2, 3, 32, 32)], tmp_path / "m.onnx", input_names=["x"], dynamic_axes={"x": {0: "batch"}})
    x = rng.normal(size=(5, 3, 32, 32)).astype("f")
    assert_close(model(ndl.tensor(x)), runtime(tmp_path / "m.onnx", x)[0], 1e-5)


def test_export_of_a_function_and_of_what_cannot_be_written():
    proto = ndl.onnx.export(lambda a, b: (a @ b).relu()[:, None, ::2].sum(axis=0), [ndl.randn(3, 4), ndl.randn(4, 6)])
    a, b = np.random.default_rng(1).normal(size=(2, 3, 4)).astype("f")[0], np.ones((4, 6), "f")
    assert_close(runtime(proto, a, b)[0], np.maximum(a @ b, 0)[:, None, ::2].sum(0))
    with pytest.raises(UnsupportedOnnxError, match="erfinv"):
        ndl.onnx.export(ndl.erfinv, [ndl.randn(3)])
    with pytest.raises(GraphError, match="out of the trace"):
        ndl.onnx.export(lambda x: ndl.tensor(x.numpy()) * 2.0, [ndl.randn(3)])

# --- using an import ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """An exported ResNet9 (path, the model)."""
    ndl.manual_seed(1)
    model = models.ResNet9().eval()
    ndl.onnx.export(model, [ndl.randn(2, 3, 32, 32)], tmp_path / "resnet9.onnx", input_names=["x"])
    return tmp_path / "resnet9.onnx", model


def test_an_import_is_a_module(small, tmp_path, rng):
    path, _ = small
    model, x = ndl.onnx.load(path), rng.normal(size=(2, 3, 32, 32)).astype("f")
    before = model(x).numpy()
    ndl.save_state_dict(model, tmp_path / "w.safetensors")
    other = ndl.onnx.load(path)
    for p in other.parameters():
        p.data[...] = 0
    ndl.load_state_dict(other, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(other(x=x).numpy(), before)
    model.linear2 = nn.Linear(128, 3)                             # replace the head
    assert model(x).shape == (2, 3)
    assert ndl.signature_diff(model, other).verdict != "can load"
    hidden, out = other(x, outputs=[other.value_names[1], other.output_names[0]])
    assert hidden.shape[:2] == (2, 16) and out.shape == (2, 10)
    model.train()
    running = model.get("blocks.0.bn").running_mean.numpy().copy()
    model(x)
    assert not np.array_equal(running, model.get("blocks.0.bn").running_mean.numpy()), "batch norm trains"


def test_an_import_can_be_extended(small, rng):
    class Twice(ndl.onnx.OnnxModule):
        def forward(self, *args, **named):
            return super().forward(*args, **named) * 2.0
    path, model = small
    x = rng.normal(size=(2, 3, 32, 32)).astype("f")
    assert_close(Twice(path)(x), model(ndl.tensor(x)).numpy() * 2, 1e-5)


def test_wrong_calls_are_named(small):
    model = ndl.onnx.load(small[0])
    x = np.zeros((2, 3, 32, 32), "f")
    for call, words in [(lambda: model(), ["x"]), (lambda: model(x, x), ["1 inputs", "2"]), (lambda: model(y=x), ["'y'", "x"]),
                        (lambda: model(x[0]), ["'x'", "(2, 3, 32, 32)", "(3, 32, 32)"]),
                        (lambda: model(x.astype(int)), ["float32", "int64"]),
                        (lambda: model(x, outputs=["nothing"]), ["'nothing'", "value_names"])]:
        with pytest.raises(NeedleError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value

# --- operators ----------------------------------------------------------------------------------------------------------


def one_node(op, arrays, outputs=1, opset=20, **attrs) -> "onnx.ModelProto":
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attrs)
    inputs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
              for n, a in zip(names, arrays, strict=True) if a is not None]
    model = helper.make_model(helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]),
                              opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model) if op else model


def R(*shape):
    return np.random.default_rng(7).normal(size=shape).astype("f")


I64 = lambda *v: np.array(v, np.int64)  # noqa: E731
NODES = [
    ("Slice", [R(4, 5), I64(1, -1), I64(4, -9), I64(0, 1), I64(2, -2)], {}), ("Slice", [R(4, 5), I64(1), I64(100)], {}),
    ("Gather", [R(4, 5), I64(-1, 0)], {"axis": 1}), ("GatherElements", [R(4, 5), np.array([[0, -1]])], {"axis": 0}),
    ("GatherND", [R(4, 5), np.array([[0, 1], [-1, 2]])], {}),
    ("ScatterElements", [R(4, 5), np.array([[0, 1]]), R(1, 2)], {"axis": 1}), ("ScatterND", [R(4, 5), np.array([[1], [3]]), R(2, 5)], {}),
    ("Pad", [R(3, 4), I64(1, 0, 0, 2), np.array(2.0, "f")], {}), ("Pad", [R(5, 6), I64(1, 2, 2, 1)], {"mode": "reflect"}),
    ("Split", [R(7, 3)], {"axis": 0, "num_outputs": 3, "outputs": 3}), ("Split", [R(7, 3), I64(2, 5)], {"outputs": 2}),
    ("Transpose", [R(2, 3, 4)], {"perm": [2, 0, 1]}), ("Expand", [R(3, 1), I64(2, 1, 4)], {}), ("Tile", [R(2, 3), I64(2, 1)], {}),
    ("Reshape", [R(2, 3, 4), I64(0, -1)], {}), ("Flatten", [R(2, 3, 4)], {"axis": 2}), ("Squeeze", [R(1, 3, 1), I64(0)], {}),
    ("Unsqueeze", [R(3), I64(0, -1)], {}), ("Concat", [R(2, 3), R(1, 3)], {"axis": 0}), ("Trilu", [R(4, 5), I64(1).reshape(())], {"upper": 0}),
    ("OneHot", [I64(1, -1, 2), I64(3), np.array([0.5, 2.0], "f")], {"axis": 0}), ("Range", [I64(1)[0:1].reshape(()), I64(9).reshape(()), I64(3).reshape(())], {}),
    ("CumSum", [R(3, 4), np.array(1)], {"exclusive": 1, "reverse": 1}), ("TopK", [R(3, 6), I64(2)], {"largest": 0, "outputs": 2}),
    ("ArgMax", [R(3, 4)], {"axis": 1, "keepdims": 0}), ("ArgMin", [R(3, 4)], {"select_last_index": 1}),
    ("ReduceMean", [R(3, 4, 2), I64(0, 2)], {"keepdims": 0}), ("ReduceL2", [R(3, 4)], {}), ("ReduceLogSumExp", [R(3, 4), I64(1)], {}),
    ("ReduceSum", [R(3, 4)], {"noop_with_empty_axes": 1}), ("Gemm", [R(4, 3), R(4, 5), R(5)], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("MatMul", [R(2, 3, 4), R(4, 5)], {}), ("Einsum", [R(3, 4), R(4, 5)], {"equation": "ij,jk->ki"}), ("Clip", [R(3, 4), None, np.array(0.5, "f")], {}),
    ("Conv", [R(1, 4, 8, 8), R(6, 2, 3, 3), R(6)], {"group": 2, "pads": [0, 1, 2, 1], "strides": [2, 1]}),
    ("Conv", [R(1, 2, 7, 8), R(3, 2, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [R(1, 2, 7, 8), R(3, 2, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", [R(1, 4, 5, 5), R(4, 3, 3, 3)], {"strides": [2, 2], "pads": [1, 1, 0, 1], "output_padding": [1, 0]}),
    ("MaxPool", [R(1, 2, 7, 7)], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ("AveragePool", [R(1, 2, 7, 7)], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("GlobalAveragePool", [R(2, 3, 4, 5)], {}), ("LRN", [R(2, 5, 3, 3)], {"size": 3}), ("InstanceNormalization", [R(2, 3, 5), R(3), R(3)], {}),
    ("LayerNormalization", [R(2, 3, 4), R(3, 4), R(3, 4)], {"axis": 1}), ("BatchNormalization", [R(2, 3, 4), R(3), R(3), R(3), R(3) ** 2], {}),
    ("Softmax", [R(3, 4)], {"axis": 0}), ("HardSigmoid", [R(3, 4)], {}), ("HardSwish", [R(3, 4)], {}), ("Gelu", [R(3, 4)], {"approximate": "tanh"}),
    ("Mod", [R(3, 4), R(3, 4)], {"fmod": 1}), ("Div", [I64(-7, 7, 5), I64(2, -2, 2)], {}), ("Where", [R(3) > 0, R(3), R(3)], {}),
    ("Shape", [R(2, 3, 4)], {"start": 1}), ("ConstantOfShape", [I64(2, 3)], {}), ("Cast", [R(3)], {"to": 7}), ("IsInf", [R(3)], {}),
    ("DepthToSpace", [R(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}), ("SpaceToDepth", [R(1, 2, 4, 6)], {"blocksize": 2}),
    ("PRelu", [R(3, 4), R(4)], {}), ("ThresholdedRelu", [R(3, 4)], {"alpha": 0.5}), ("LpNormalization", [R(3, 4)], {"p": 1}),
]


@pytest.mark.parametrize(("op", "arrays", "attrs"), NODES, ids=[f"{n[0]}-{i}" for i, n in enumerate(NODES)])
def test_operator_equals_onnxruntime(op, arrays, attrs):
    attrs = dict(attrs)
    model = one_node(op, arrays, attrs.pop("outputs", 1), **attrs)
    given = [a for a in arrays if a is not None]
    for y, z in zip(as_tuple(ndl.onnx.load(model)(*given)), runtime(model, *given), strict=True):
        assert y.dtype == z.dtype
        assert_close(y, z, 1e-5, op)


@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (13, 1), (13, -1)])
def test_softmax_by_version(opset, axis):
    """Before opset 13 softmax ran over everything from axis on."""
    model = one_node("Softmax", [R(2, 3, 4)], opset=opset, axis=axis)
    assert_close(ndl.onnx.load(model)(R(2, 3, 4)), runtime(model, R(2, 3, 4))[0], 1e-6)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_operators_equal_onnxruntime(kind, direction):
    gates, d = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind], 2 if direction == "bidirectional" else 1
    x, w, r, b = R(5, 2, 3), R(d, gates * 4, 3), R(d, gates * 4, 4), R(d, gates * 8)
    extra = {"linear_before_reset": 1} if kind == "GRU" else {}
    outputs = ["Y", "Y_h", "Y_c"][:3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, ["x", "w", "r", "b"], outputs, hidden_size=4, direction=direction, **extra)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, x.shape)],
                              [helper.make_tensor_value_info(n, 1, None) for n in outputs],
                              [numpy_helper.from_array(a, n) for n, a in (("w", w), ("r", r), ("b", b))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    imported = ndl.onnx.load(model)
    for y, z in zip(imported(x), runtime(model, x), strict=True):
        assert_close(y, z, 1e-5)
    assert isinstance(next(imported.children()), getattr(nn, kind))


def test_shared_weights_stay_shared():
    """One initialiser used by two nodes is one parameter; used in two layouts, it is not split."""
    w = R(4, 4)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("MatMul", ["b", "w"], ["c"]), helper.make_node("Add", ["c", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, [4, 4])],
                              [helper.make_tensor_value_info("y", 1, [4, 4])], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    imported = ndl.onnx.load(model)
    assert [p.shape for p in imported.parameters()] == [(4, 4)]
    assert_close(imported(R(4, 4)), runtime(model, R(4, 4))[0], 1e-5)

# --- bad files ------------------------------------------------------------------------------------------------------------


def broken(change) -> bytes:
    model = one_node("Relu", [R(2, 3)])
    change(model)
    return model.SerializeToString()


def test_bad_files_are_refused(tmp_path, small):
    content = Path(small[0]).read_bytes()
    node = helper.make_node
    cases = {
        "empty": b"", "text": b"hello, this is no model", "pickle": pickle.dumps({"weight": [1.0]}),
        "truncated": content[:len(content) // 2], "no graph": onnx.ModelProto(ir_version=8).SerializeToString(),
        "cycle": broken(lambda m: m.graph.node.extend([node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["a"])])),
        "twice": broken(lambda m: m.graph.node.extend([node("Relu", ["x0"], ["y0"])])),
        "missing": broken(lambda m: m.graph.node.extend([node("Relu", ["nobody"], ["z"])])),
        "lying": broken(lambda m: m.graph.initializer.append(
            onnx.TensorProto(name="w", dims=[1000], data_type=1, raw_data=b"\0" * 8))),
        "negative": broken(lambda m: m.graph.initializer.append(onnx.TensorProto(name="w", dims=[-1], data_type=1))),
    }
    for name, data in cases.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(FileFormatError):
            ndl.onnx.load(path)
    with pytest.raises(MissingFileError):
        ndl.onnx.load(tmp_path / "nowhere.onnx")


def test_unknown_operators_are_all_reported_at_once():
    model = one_node("Relu", [R(2, 3)])
    model.graph.node.extend([helper.make_node("Frobnicate", ["x0"], ["a"], name="first"), helper.make_node("Relu", ["a"], ["b"]),
                             helper.make_node("Gemm", ["x0"], ["c"], name="other", domain="com.example")])
    with pytest.raises(UnsupportedOnnxError) as caught:
        ndl.onnx.load(model)
    for word in ("Frobnicate", "opset 20", "'first'", "com.example::Gemm", "supported() lists them"):
        assert word in str(caught.value)
    report = ndl.onnx.inspect(model)
    assert set(report.unsupported) == {"Frobnicate", "com.example::Gemm"} and "NOT SUPPORTED" in str(report)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin"])
def test_external_data_stays_in_the_folder(location, tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 24)
    (tmp_path / "inside" / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = one_node("Add", [R(2, 3), R(2, 3)])
    tensor = onnx.TensorProto(name="w", dims=[2, 3], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    model.graph.initializer.append(tensor)
    (tmp_path / "inside" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match="folder"):
        ndl.onnx.load(tmp_path / "inside" / "m.onnx")


def test_report_counts(small):
    report = ndl.onnx.inspect(small[0])
    assert report.operators["Conv"] == 8 and report.parameters >= 431_946
    assert not report.unsupported and f"{report.parameters:,} numbers" in str(report)
    assert report.to_json()["inputs"][0]["shape"] == [2, 3, 32, 32]
