"""What `ndl.onnx.export` writes: every opset, lengths that vary, names and scopes, files beside files, refusals.

onnxruntime is the oracle for values; the opsets that it does not know are read back by us.
"""

import os
import re

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import models, nn, ops
from needle_lab.errors import ArgumentError, NeedleError, StorageError, UnsupportedOnnxError

onnx = require("onnx")
ort = require("onnxruntime")


def runtime(source, *arrays):
    """onnxruntime's outputs for a path or a ModelProto."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(source.SerializeToString() if hasattr(source, "graph") else os.fspath(source), options)
    return session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)})


def as_tuple(y) -> tuple:
    """One flat tuple of outputs, states of recurrent layers included."""
    return sum((as_tuple(part) for part in y), ()) if isinstance(y, tuple) else () if y is None else (y,)


def floats(*shape):
    return lambda rng, **sizes: rng.normal(size=[sizes.get(n, n) for n in shape]).astype("f")


def tokens(*shape):
    return lambda rng, **sizes: rng.integers(0, 20, [sizes.get(n, n) for n in shape])

# --- opsets -------------------------------------------------------------------------------------------------------------


MODELS = {
    "digits": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
                                     nn.Linear(36, 10)), floats(2, 1, 8, 8)),
    "LSTM": (lambda: models.LanguageModel(8, 20, 16, 2, kind="lstm"), tokens(5, 2)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), floats(5, 2, 8)),
    "GPT": (lambda: models.GPT(20, 8, 16), tokens(2, 6)),
    "norms": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.InstanceNorm2d(4, affine=True),
                                    nn.LayerNorm((7, 7)), nn.RMSNorm(7), nn.ConvTranspose2d(4, 2, 3, 2, 1, 1)),
              floats(2, 3, 9, 9)),
}
OPSETS = range(13, onnx.defs.onnx_opset_version() + 1)


def randomized(model):
    """Weights away from ones and zeros, so that a mix-up shows."""
    for p in (*model.parameters(), *(b for _, b in model.named_buffers() if b.dtype == np.float32)):
        p.data[...] = abs(p.data) + 0.1 * np.random.default_rng(p.numel()).normal(size=p.shape).astype("f") ** 2
    return model.eval()


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_opset_gives_the_same_values(name, opset, rng):
    ndl.manual_seed(0)
    make, draw = MODELS[name]
    model, x = make().eval(), draw(rng)
    proto = ndl.onnx.export(model, x, opset=opset)
    assert proto.opset_import[0].version == opset and proto.ir_version <= onnx.IR_VERSION
    expected = as_tuple(model(ndl.tensor(x)))
    found = [as_tuple(ndl.onnx.load(proto)(x))] + ([runtime(proto, x)] if opset <= 26 else [])     # what 1.31 knows
    for outputs in found:
        for y, z in zip(outputs, expected, strict=True):
            assert_close(y, z, 1e-5, f"{name}, opset {opset}")


def test_old_opsets_say_it_by_parts_or_what_they_lack():
    x = ndl.randn(2, 4)
    of = {opset: [n.op_type for n in ndl.onnx.export(nn.Sequential(nn.LayerNorm(4), nn.GELU()), x, opset=opset).graph.node]
          for opset in (16, 17, 20)}
    assert of[20] == ["LayerNormalization", "Gelu"] and of[17][0] == "LayerNormalization" and "Erf" in of[17]
    assert "LayerNormalization" not in of[16] and "Sqrt" in of[16]
    with pytest.raises(UnsupportedOnnxError, match="opset 17 has no BitwiseAnd.*opset=18 or more"):
        ndl.onnx.export(lambda a: a & 3, ndl.tensor(np.arange(4)), opset=17)
    with pytest.raises(UnsupportedOnnxError, match="opset 18 has no AveragePool with dilations.*opset=19 or more"):
        ndl.onnx.export(lambda x: ops.avg_pool(x, 2, dilation=2), ndl.randn(1, 1, 6, 6), opset=18)

# --- lengths that vary --------------------------------------------------------------------------------------------------


BATCH, TIME_FIRST, TIME_SECOND = {0: "batch"}, {0: "time", 1: "batch"}, {0: "batch", 1: "time"}
SIZES = [{"batch": 1, "time": 1}, {"batch": 3, "time": 4}, {"batch": 4, "time": 7}]


def image(channels, size):
    return floats("batch", channels, size, size)


DYNAMIC = {
    "ResNet9": (models.ResNet9, image(3, 32), BATCH), "LeNet": (models.LeNet, image(1, 28), BATCH),
    "ResNet18": (lambda: models.ResNet18(10), image(3, 32), BATCH),
    "ResNet50": (lambda: models.ResNet50(10), image(3, 32), BATCH),
    "GoogLeNet": (lambda: models.GoogLeNet(10), image(3, 64), BATCH),
    "GPT": (lambda: models.GPT(20, 9, 16), tokens("batch", "time"), TIME_SECOND),
    **{f"LanguageModel, {kind}": (lambda kind=kind: models.LanguageModel(8, 20, 16, 2, kind=kind), tokens("time", "batch"),
                                  TIME_FIRST) for kind in ("rnn", "lstm", "gru")},
    "Linear": (lambda: nn.Linear(4, 3), floats("batch", 4), BATCH),
    "Linear, 3 axes": (lambda: nn.Linear(4, 3), floats("batch", "time", 4), TIME_SECOND),
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3), floats("batch", 3, "time"), {0: "batch"}),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 2), floats("batch", 2, 4, 4, 4), BATCH),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), image(3, 5), {0: "batch", 2: "h", 3: "w"}),
    "Embedding": (lambda: nn.Embedding(20, 4, padding_idx=3), tokens("batch", "time"), TIME_SECOND),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), floats("batch", 4), BATCH),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(2), floats("batch", 2, 3, 3, 3), BATCH),
    "RMSNorm": (lambda: nn.RMSNorm(4), floats("batch", "time", 4), TIME_SECOND),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), image(4, 5), {0: "batch", 2: "h"}),
    "GroupNorm, not affine": (lambda: nn.GroupNorm(2, 4, affine=False), image(4, 5), BATCH),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), image(4, 5), {0: "batch", 2: "h"}),
    "MaxPool2d": (lambda: nn.MaxPool2d(2, ceil_mode=True), image(2, 5), BATCH),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), image(2, 7), {0: "batch", 3: "w"}),
    "AvgPool2d, padding not counted": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), image(2, 8),
                                       BATCH),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), image(2, 7), BATCH),
    "AdaptiveAvgPool2d(1)": (lambda: nn.AdaptiveAvgPool2d(1), image(2, 7), {0: "batch", 2: "h", 3: "w"}),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(2), image(2, 7), BATCH),
    "Flatten": (nn.Flatten, image(2, 3), BATCH), "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), floats("batch", 6), BATCH),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), floats("batch", "time", 8), TIME_SECOND),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16), floats("time", "batch", 8), TIME_FIRST),
    "encoder, batch first": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True,
                                                                                      norm_first=True), 2),
                             floats("batch", "time", 8), TIME_SECOND),
    **{name: (getattr(nn, name), floats("batch", 4, "time"), {0: "batch", 2: "time"}) for name in (
        "ReLU ReLU6 LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Softplus Softsign Hardtanh "
        "Hardsigmoid Hardswish Dropout Identity").split()},
    **{name: (lambda name=name: getattr(nn, name)(dim=-1), floats("batch", 4, "time"), {0: "batch", 2: "time"})
       for name in ("Softmax", "LogSoftmax")},
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_other_sizes_than_the_example_s(name, rng):
    make, draw, axes = DYNAMIC[name]
    ndl.manual_seed(0)
    model = make().eval()
    for example in ({"batch": 2, "time": 5}, SIZES[0])[:1 if name in ("ResNet50", "GoogLeNet", "Conv1d") else 2]:
        proto = ndl.onnx.export(model, draw(rng, **example), dynamic_axes={"input": axes})
        dims = proto.graph.input[0].type.tensor_type.shape.dim
        assert {i: d.dim_param for i, d in enumerate(dims) if d.dim_param} == axes
        for sizes in SIZES:
            x = draw(rng, **({**sizes, "time": 5} if name == "Conv1d" else sizes))
            for y, z in zip(as_tuple(model(ndl.tensor(x))), runtime(proto, x), strict=True):
                assert_close(z, y, 1e-4, f"{name}, example {example}, run at {sizes}")


FUNCTIONS = {
    "length as a number": lambda x: x.sum(axis=0) / x.shape[0],
    "a mean's share": lambda x: x.sum(axis=0) * (1.0 / x.shape[0]),
    "zeros like a part": lambda x: ndl.concat([ndl.zeros(x.shape[0], 2), x], axis=1),
    "positions": lambda x: x + ndl.arange(x.shape[0]).astype("float32")[:, None],
    "triangle": lambda x: ops.tril(x @ x.mT) + ops.triu(x @ x.mT, 1),
    "variance": lambda x: ops.var(x, axis=0),
    "all in one": lambda x: (x[:, None] + x[None]).reshape(-1, 4),
    "product of lengths": lambda x: (x[:, None] + x[None]).reshape(x.shape[0] * x.shape[0], 2, 2),
    "stretched": lambda x: x[None].expand((3, x.shape[0], 4)),
    "the first half": lambda x: x[:x.shape[0] // 2 * 0 + 1],
    "reverse": lambda x: ops.flip(x, axis=0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n", [1, 5])
def test_lengths_inside_of_functions(name, n, rng):
    function = FUNCTIONS[name]
    if name == "variance" and n == 1:
        n = 2
    proto = ndl.onnx.export(function, rng.normal(size=(n, 4)).astype("f"), dynamic_axes={"input": {0: "n"}})
    for other in (2, 3, 8):
        x = rng.normal(size=(other, 4)).astype("f")
        assert_close(runtime(proto, x)[0], function(ndl.tensor(x)), 1e-5, name)


def test_outputs_are_declared_by_what_they_are(rng):
    def model(x, y):
        return x @ y.mT, (x[:, None] + y[None]).reshape(-1, 4), x[:1]
    proto = ndl.onnx.export(model, [rng.normal(size=(3, 4)), rng.normal(size=(5, 4))],
                            dynamic_axes={"input_0": {0: "n"}, "input_1": [0], "output_1": {0: "pairs"}})
    shapes = [[d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in proto.graph.output]
    assert shapes == [["n", "input_1_0"], ["pairs", 4], [1, 4]]


def loop(x):
    total = x[0]
    for i in range(1, x.shape[0]):
        total = total * 0.5 + x[i]
    return total


@pytest.mark.parametrize(("function", "words"), [
    (loop, "ran 10 and 13 and 19 ops"),
    (lambda x: x * ndl.tensor(np.sin(np.arange(x.shape[0]))[:, None].astype("f")), "a constant"),
    (lambda x: ops.adaptive_avg_pool(x[None], (2, 2)), "a constant"), (lambda x: x.reshape(2, 2, 4), "does not run"),
    (lambda x: ops.relu(x) if x.shape[0] == 4 else ops.tanh(x), "other ops"),
    (lambda x: x * float(np.sqrt(x.shape[0])), "constant"),
])
def test_lengths_that_cannot_vary_are_refused(function, words, rng):
    x = rng.normal(size=(4, 4)).astype("f")
    ndl.onnx.export(function, x)                                                   # of this size it can be written
    with pytest.raises(UnsupportedOnnxError, match=words):
        ndl.onnx.export(function, x, dynamic_axes={"input": {0: "n"}})

# --- recurrent layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True, "bias": False},
                                     {"num_layers": 2, "batch_first": True, "bidirectional": True}])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNN relu"])
@pytest.mark.parametrize("given", [False, True])
def test_a_recurrent_layer_is_one_operator(kind, options, given, rng):
    kind, *relu = kind.split()
    ndl.manual_seed(0)
    layer = getattr(nn, kind)(4, 6, **options, **({"nonlinearity": "relu"} if relu else {})).eval()
    first = options.get("batch_first", False)
    rows = layer.num_layers * layer.directions

    def draw(n, t):
        x = rng.normal(size=(n, t, 4) if first else (t, n, 4)).astype("f")
        return [x, *(rng.normal(size=(rows, n, 6)).astype("f") for _ in range(layer.states if given else 0))]

    def call(x, *state):
        return layer(x, (state if layer.states == 2 else state[0]) if state else None)

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, *state):
            return self.layer(x, state=(state if layer.states == 2 else state[0]) if state else None)

    axes = TIME_SECOND if first else TIME_FIRST
    example = draw(2, 5)
    names = ["x", "h", "c"][:len(example)]
    proto = ndl.onnx.export(Wrapped(), example, names={"inputs": names}, dynamic_axes={
        "x": axes, **{name: {1: "batch"} for name in names[1:]}})
    assert [n.op_type for n in proto.graph.node].count(kind) == layer.num_layers
    assert len(proto.graph.node) <= 20
    for n, t in ((2, 5), (1, 1), (3, 8)):
        arrays = draw(n, t)
        for y, z in zip(as_tuple(call(*map(ndl.tensor, arrays))), runtime(proto, *arrays), strict=True):
            assert_close(z, y, 1e-5)
    back = ndl.onnx.load(proto)
    layers = [(path, m) for path, m in back.named_modules() if type(m) is type(layer)]
    assert [path for path, _ in layers] == (["layer"] if layer.num_layers == 1 else ["layer.l0", "layer.l1"])
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in layer.parameters())


def test_a_sequence_without_a_batch_and_an_own_forward(rng):
    class Doubled(nn.GRU):
        def forward(self, x, state=None):
            y, last = super().forward(x, state)
            return y * 2.0, last
    x = rng.normal(size=(5, 4)).astype("f")
    layer = nn.GRU(4, 6, bidirectional=True)
    for y, z in zip(layer(ndl.tensor(x)), runtime(ndl.onnx.export(layer, x), x), strict=True):
        assert_close(z, y, 1e-5)
    with pytest.raises(NeedleError):                          # what Doubled does is no operator, and its parts are fused
        ndl.onnx.export(Doubled(4, 6), x)

# --- names and scopes -----------------------------------------------------------------------------------------------------


def test_nodes_say_in_which_module_they_were_made():
    model = models.ResNet9().eval()
    node = next(n for n in ndl.onnx.export(model, ndl.randn(1, 3, 32, 32)).graph.node if n.op_type == "Conv")
    found = {p.key: p.value for p in node.metadata_props}
    assert found["pkg.torch.onnx.name_scopes"] == repr(["", "blocks.0", "blocks.0.conv", node.name])
    assert found["pkg.torch.onnx.class_hierarchy"].startswith(
        "['needle_lab.models.resnet9.ResNet9', 'needle_lab.models.resnet9.ConvBN', 'needle_lab.nn.conv.Conv2d'")
    assert found["namespace"].startswith(": needle_lab.models.resnet9.ResNet9/blocks.0: ") and "forward" not in vars(model)


@pytest.mark.parametrize("make", [lambda: models.GPT(20, 8, 16), models.ResNet9, lambda: models.LanguageModel(8, 20, 16),
                                  lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4))])
def test_an_export_comes_back_as_the_same_tree(make):
    model = make().eval()
    x = ndl.randn(2, 3, 32, 32) if len(list(model.parameters())) > 30 or isinstance(model, nn.Sequential) else None
    x = ndl.tensor(np.zeros((2, 3), np.int64)) if hasattr(model, "wte") or hasattr(model, "embedding") else x
    back = ndl.onnx.load(ndl.onnx.export(model, x))
    own = {path: type(m) for path, m in model.named_modules() if list(m.parameters()) and not list(m.children())}
    assert {path: type(back.get(path)) for path in own} == own
    if hasattr(model, "wte"):
        assert back.get("lm_head").weight is back.get("wte").weight, "tied"


def test_one_weight_in_two_orientations():
    """A matrix product of three axes and one of two use the same weight: each gets it the right way round."""
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x)[0])
    model, x = Both(), np.random.default_rng(0).normal(size=(2, 3, 4)).astype("f")
    proto = ndl.onnx.export(model, x)
    assert_close(runtime(proto, x)[0], model(ndl.tensor(x)), 1e-5)
    assert [t.name for t in proto.graph.initializer].count("fc.weight") == 1


def test_names():
    model, x = nn.Linear(4, 3), ndl.randn(2, 4)
    for names in ({"names": {"inputs": ["image"], "outputs": ["scores"]}},
                  {"input_names": ["image"], "output_names": ["scores"]}):
        g = ndl.onnx.export(model, x, **names).graph
        assert (g.input[0].name, g.output[0].name) == ("image", "scores")
    again = ndl.onnx.export(ndl.onnx.load(ndl.onnx.export(model, x, names={"inputs": ["image"]})), x)
    assert (again.graph.input[0].name, again.graph.output[0].name) == ("image", "output")

# --- files ----------------------------------------------------------------------------------------------------------------


def test_weights_in_a_second_file(tmp_path, rng):
    model, x = models.ResNet9().eval(), rng.normal(size=(1, 3, 32, 32)).astype("f")
    path = tmp_path / "net.onnx"
    whole = ndl.onnx.export(model, x, path)
    assert os.listdir(tmp_path) == ["net.onnx"]
    ndl.onnx.export(model, x, path, external_data=True)
    assert sorted(os.listdir(tmp_path)) == ["net.onnx", "net.onnx.data"]
    assert os.path.getsize(path) < 60_000 < os.path.getsize(tmp_path / "net.onnx.data")
    parts = onnx.load(path).graph
    assert list(parts.node) == list(whole.graph.node) and parts.input == whole.graph.input
    for a, b in zip(parts.initializer, whole.graph.initializer, strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(a), onnx.numpy_helper.to_array(b))
    onnx.checker.check_model(path, full_check=True)
    offsets = [int(e.value) for t in onnx.load(path, load_external_data=False).graph.initializer for e in t.external_data
               if e.key == "offset"]
    assert offsets and all(n % 4096 == 0 for n in offsets)
    for y in (runtime(path, x)[0], ndl.onnx.load(path)(x)):
        assert_close(y, model(ndl.tensor(x)), 1e-5)


def test_a_failed_write_changes_nothing(tmp_path):
    model, x = nn.Linear(30, 30), ndl.randn(2, 30)
    path = tmp_path / "net.onnx"
    ndl.onnx.export(model, x, path, external_data=True)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    os.remove(tmp_path / "net.onnx.data")
    os.mkdir(tmp_path / "net.onnx.data")                       # where the weights would go
    with pytest.raises(StorageError, match="net.onnx.data could not be written"):
        ndl.onnx.export(nn.Linear(30, 30), x, path, external_data=True)
    assert path.read_bytes() == before["net.onnx"] and not os.listdir(tmp_path / "net.onnx.data")

# --- refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"opset": 12}, "opset=12; 13 to"), ({"opset": 99}, "opset=99"), ({"opset": "20"}, "opset='20'"),
    ({"dynamic_axes": {"x": {0: "n"}}}, "names 'x'; the inputs are input_0, input_1"),
    ({"dynamic_axes": {"input_0": {2: "n"}}}, "axis 2; its example has shape (3, 4)"),
    ({"dynamic_axes": {"input_0": {0: "n"}, "input_1": {1: "n"}}}, "lengths of one name are equal"),
    ({"dynamic_axes": ["input_0"]}, 'it is {"input_0": {0: "batch"}}'), ({"dynamic_axes": {"input_0": "n"}}, "by number"),
    ({"names": ["a", "b"]}, '{"inputs": [...], "outputs": [...]}'), ({"names": {"inputs": ["a"]}}, "2 inputs need as many"),
    ({"names": {"inputs": ["a", "a"]}}, "'a' is given twice"), ({"names": {"inputs": "ab"}}, "a list of texts"),
    ({"names": {"outputs": ["a", "b"]}}, "has 1 outputs, 2 are named"),
    ({"names": {"inputs": ["a", "b"]}, "input_names": ["a", "b"]}, "inputs are named twice"),
    ({"external_data": True}, "needs a path"),
])
def test_arguments_that_do_not_fit(options, words):
    with pytest.raises(ArgumentError, match=re.escape(words)):
        ndl.onnx.export(lambda x, y: x @ y, [ndl.randn(3, 4), ndl.randn(4, 2)], **options)


@pytest.mark.parametrize(("function", "words"), [
    (lambda x: x * x.sum().item(), "taken out of the graph"),
    (lambda x: x + ndl.tensor(x.numpy()), "taken out of the graph"),
    (lambda x: ops.dropout(x), "random numbers"), (ndl.erfinv, "'erfinv' has no ONNX form"),
    (lambda x: x.shape, "returned a int"), (lambda x: ndl.ones(3), "does not depend on 'input'"),
])
def test_functions_that_cannot_be_written(function, words):
    with pytest.raises(NeedleError, match=words):
        ndl.onnx.export(function, ndl.randn(3, 4))


def test_examples_that_are_none():
    for given, words in (([], "is empty"), (["text"], "got str")):
        with pytest.raises(ArgumentError, match=words):
            ndl.onnx.export(nn.ReLU(), given)
    with pytest.raises(ArgumentError, match="got str"):
        ndl.onnx.export("model.onnx", ndl.randn(3))


def test_an_import_goes_out_with_the_modules_that_its_file_names():
    """Also around operators that are no layers: attention's products keep h.0.attn."""
    from needle_lab.onnx.read import naming
    first = ndl.onnx.export(models.GPT(20, 8, 16, 2, 2), [np.arange(5)[None]])
    second = ndl.onnx.export(ndl.onnx.load(first), [np.arange(5)[None]])
    around = [[(node.op_type, naming.modules_around(node)) for node in proto.graph.node] for proto in (first, second)]
    assert around[0] == around[1]
    assert any(scope[-1][0] == "h.0.attn" and op == "MatMul" for op, scope in around[1])


@pytest.mark.parametrize("text", ["\0", "[1, 2]", "['a'", "{}", "__import__('os')"])
def test_modules_around_a_node_that_are_no_list_of_names_are_refused(text):
    proto = ndl.onnx.export(nn.Linear(2, 3), [np.ones((1, 2), np.float32)])
    for entry in proto.graph.node[0].metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            entry.value = text
    with pytest.raises(ndl.errors.ArgumentError, match="list of strings"):
        ndl.onnx.load(proto)


def test_loading_draws_no_random_numbers():
    proto = ndl.onnx.export(nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 2)), [np.ones((4, 1, 2), np.float32)])
    before = ndl.get_rng_state()
    ndl.onnx.load(proto)
    assert ndl.get_rng_state() == before

# --- ops of the user's own ----------------------------------------------------------------------------------------------


def test_a_users_own_op_is_written_by_the_rule_that_its_author_gives():
    @ndl.op(gradient=lambda g, x: g * (ndl.sigmoid(x) + x * ndl.sigmoid(x) * (1.0 - ndl.sigmoid(x))))
    def my_swish(x):
        return x / (1 + np.exp(-x))
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    try:
        with pytest.raises(UnsupportedOnnxError, match="my_swish.*writes"):
            ndl.onnx.export(my_swish, [x])

        @ndl.onnx.writes(my_swish)
        def written(w, x):
            return w.Mul(x, w.Sigmoid(x))
        proto = ndl.onnx.export(lambda x: my_swish(x) + 1.0, [x])
        assert [node.op_type for node in proto.graph.node] == ["Sigmoid", "Mul", "Add"]
        assert_close(runtime(proto, x)[0], x / (1 + np.exp(-x)) + 1, 1e-6)
    finally:
        del ndl.graph.OPS["my_swish"]
        ndl.onnx.operators.table.WRITES.pop("my_swish", None)
