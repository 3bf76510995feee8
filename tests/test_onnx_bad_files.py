"""Files that lie, loop, recurse or point elsewhere: each is refused with an error that says why, without side effects."""

import os
import subprocess
import sys

import numpy as np
import pytest
from peers import require

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import (
    ArgumentError,
    FileFormatError,
    MissingFileError,
    NeedleError,
    ShapeError,
    UnsupportedOnnxError,
)

onnx = require("onnx")
helper, node, FLOAT, INT64, BOOL = onnx.helper, onnx.helper.make_node, 1, 7, 9


def value(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs=(("x", FLOAT, [2, 3]),), outputs=("y",), weights=(), opset=20, **options):
    graph = helper.make_graph(nodes, "g", [value(*i) for i in inputs], [value(name) for name in outputs],
                              [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **{"ir_version": 9} | options)


def load(proto):
    return ndl.onnx.load(proto.SerializeToString())


def content() -> bytes:
    ndl.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    return ndl.onnx.export(module, (ndl.zeros(1, 1, 4, 4),), None).SerializeToString()


# --- the file -----------------------------------------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused_or_whole():
    """A cut between two fields leaves a valid message; whatever it lacks is then found missing."""
    whole = content()
    for end in range(0, len(whole), max(len(whole) // 100, 1)):
        with pytest.raises(FileFormatError):
            ndl.onnx.load(whole[:end])


@pytest.mark.parametrize("junk", [b"", b"no model", b"\x80\x04K\x01.", b"PK\x03\x04" + bytes(100), bytes(1000),
                                  b"\xff" * 1000, "text with umlauts \u00e4\u00f6".encode(), b"{\"a\": [1, 2]}"])
def test_what_is_no_onnx_file(junk, tmp_path):
    (tmp_path / "m.onnx").write_bytes(junk)
    with pytest.raises(FileFormatError, match=r"m\.onnx"):
        ndl.onnx.load(tmp_path / "m.onnx")
    with pytest.raises(FileFormatError):
        ndl.onnx.inspect(tmp_path / "m.onnx")


def test_text_that_is_not_utf8():
    data = model([node("Relu", ["x"], ["y"], name="QQQQ")]).SerializeToString().replace(b"QQQQ", b"\xff\xfe\xff\xfe")
    with pytest.raises(FileFormatError):
        ndl.onnx.load(data)

# --- the graph ----------------------------------------------------------------------------------------------------------


RELU = node("Relu", ["x"], ["y"])
GRAPHS = {
    "a cycle": (model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])]), "cycle"),
    "an own input": (model([node("Add", ["x", "y"], ["y"])]), "cycle"),
    "an output twice": (model([RELU, RELU]), "'y' is produced twice"),
    "an output that is an input": (model([node("Relu", ["x"], ["x"])], outputs=["x"]), "'x' is produced twice"),
    "an input twice": (model([RELU], inputs=(("x", FLOAT, [1]), ("x", FLOAT, [1]))), "'x' is there twice"),
    "a weight twice": (model([RELU], weights=[("w", np.ones(2)), ("w", np.ones(2))]), "'w' is there twice"),
    "an input of nobody": (model([node("Add", ["x", "nobody"], ["y"])]), "'nobody', which nothing produces"),
    "an output of nobody": (model([RELU], outputs=["z"]), "'z' is produced by nothing"),
    "an input less": (model([node("Add", ["x"], ["y"])]), "1 inputs, the operator takes 2"),
    "an input more": (model([node("Relu", ["x", "x"], ["y"])]), "2 inputs, the operator takes 1"),
    "an output more": (model([node("Relu", ["x"], ["y", "z"])]), "2 outputs, the operator has at most 1"),
    "an attribute less": (model([node("Cast", ["x"], ["y"])]), "'to' is missing"),
    "a number for a list": (model([node("Transpose", ["x"], ["y"], perm=1)]), "'perm' is INT, INTS is needed"),
    "text for a number": (model([node("Softmax", ["x"], ["y"], axis="last")]), "'axis' is STRING, INT is needed"),
    "a graph for a number": (model([node("Softmax", ["x"], ["y"], axis=helper.make_graph([], "g", [], []))]), "is GRAPH"),
    "an attribute twice": (model([onnx.NodeProto(op_type="Softmax", input=["x"], output=["y"], attribute=[
        helper.make_attribute("axis", 0), helper.make_attribute("axis", 1)])]), "given twice"),
    "an unknown operator": (model([node("Frobnicate", ["x"], ["y"])]), "Frobnicate"),
    "an unknown domain": (model([node("Relu", ["x"], ["y"], domain="com.example")]), "com.example::Relu"),
    "a later operator": (model([node("Gelu", ["x"], ["y"])], opset=9), "Gelu"),
    "a future opset": (model([RELU], opset=999), "opset 999"),
    "opset 0": (model([RELU], opset=0), "opset"),
    "a future file version": (model([RELU], ir_version=99), "IR version 99"),
    "an unknown dtype": (model([RELU], inputs=(("x", 99, [1]),)), "element type 99"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_make_no_sense(name):
    proto, message = GRAPHS[name]
    with pytest.raises((FileFormatError, UnsupportedOnnxError), match=message):
        load(proto)


def test_inputs_that_are_no_tensors():
    proto = model([RELU])
    proto.graph.input[0].type.map_type.key_type = INT64
    with pytest.raises(UnsupportedOnnxError, match="'x' is a map"):
        load(proto)
    proto.graph.input[0].ClearField("type")
    with pytest.raises(FileFormatError, match="'x' has no type"):
        load(proto)


LIES = [{"dims": [1000]}, {"dims": [-1]}, {"dims": [0]}, {"dims": [2**40, 2**40]}, {"dims": [2, 2, 2**62]},
        {"data_type": 99}, {"data_type": 0}, {"data_type": INT64}, {"raw_data": b"123"}]


@pytest.mark.parametrize("change", LIES, ids=str)
def test_weights_that_lie(change):
    fields = {"name": "w", "dims": [2, 3], "data_type": FLOAT, "raw_data": bytes(24)} | change
    proto = model([node("Add", ["x", "w"], ["y"])])
    proto.graph.initializer.append(onnx.TensorProto(**fields))
    with pytest.raises((FileFormatError, UnsupportedOnnxError)):
        load(proto)


def test_sparse_weights_that_lie():
    for dims, place in (([2**40], 0), ([4], 9), ([-4], 0)):
        proto = model([node("Add", ["x", "w"], ["y"])])
        proto.graph.sparse_initializer.append(onnx.SparseTensorProto(
            values=helper.make_tensor("w", FLOAT, [1], [1.0]), dims=dims,
            indices=helper.make_tensor("i", INT64, [1], [place])))
        with pytest.raises(NeedleError):
            load(proto)

# --- data in other files ------------------------------------------------------------------------------------------------


def external(folder, location, **entries):
    """A model in `folder` whose weight is in another file."""
    proto = model([node("Add", ["x", "w"], ["y"])])
    w = onnx.TensorProto(name="w", dims=[2, 3], data_type=FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    for key, entry in {"location": location, **entries}.items():
        w.external_data.add(key=key, value=str(entry))
    proto.graph.initializer.append(w)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx"


def test_data_beside_the_model_is_read(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(8) + np.full((2, 3), 5, "f").tobytes())
    read = ndl.onnx.load(external(tmp_path, "data.bin", offset=8, length=24))
    np.testing.assert_array_equal(read(np.zeros((2, 3), "f")).detach().numpy(), 5)


@pytest.mark.parametrize("kind", ["..", "absolute", "nul", "link", "link to a folder", "hard link"])
def test_data_from_elsewhere_is_not_read(kind, tmp_path):
    inside, secret = tmp_path / "inside", tmp_path / "secret.bin"
    inside.mkdir()
    secret.write_bytes(bytes(24))
    location = {"..": "../secret.bin", "absolute": str(secret), "nul": "data\0.bin", "link": "link.bin",
                "link to a folder": "folder/secret.bin", "hard link": "hard.bin"}[kind]
    (inside / "link.bin").symlink_to(secret)
    (inside / "folder").symlink_to(tmp_path)
    os.link(secret, inside / "hard.bin")
    with pytest.raises(FileFormatError, match="hard links" if kind == "hard link" else "folder"):
        ndl.onnx.load(external(inside, location))
    assert secret.read_bytes() == bytes(24)


@pytest.mark.parametrize("entries", [{"offset": 1}, {"length": 25}, {"length": 2**60}, {"offset": -8}, {"length": 8},
                                     {"offset": "eight"}, {"offset": 2**70}], ids=str)
def test_data_that_is_not_there(entries, tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(24))
    with pytest.raises(FileFormatError):
        ndl.onnx.load(external(tmp_path, "data.bin", **entries))
    with pytest.raises(MissingFileError):
        ndl.onnx.load(external(tmp_path, "nowhere.bin"))
    with pytest.raises(FileFormatError, match="by its path"):
        ndl.onnx.load(external(tmp_path, "data.bin").read_bytes())

# --- recursion and depth ------------------------------------------------------------------------------------------------


def functions(**bodies):
    """A model that calls f; each function calls those that its list names."""
    proto = model([node("f", ["x"], ["y"], domain="own")])
    proto.opset_import.append(helper.make_opsetid("own", 1))
    for name, calls in bodies.items():
        names = ["x", *(f"v{i}" for i in range(len(calls) - 1)), "y"]
        steps = [node(c, [a], [b], domain="" if c == "Relu" else "own")
                 for c, a, b in zip(calls, names, names[1:], strict=False)]
        proto.functions.append(helper.make_function("own", name, ["x"], ["y"], steps, proto.opset_import))
    return proto


def test_functions_that_call_themselves():
    x = np.float32([[-1, 2, 3], [4, 5, -6]])
    np.testing.assert_array_equal(load(functions(f=["g", "g"], g=["Relu"]))(x).numpy(), np.maximum(x, 0))
    for bodies in ({"f": ["f"]}, {"f": ["g"], "g": ["f"]}, {"f": ["Relu", "g"], "g": ["h"], "h": ["Relu", "g"]}):
        with pytest.raises(FileFormatError, match="calls itself"):
            load(functions(**bodies))


def test_functions_that_expand_without_measure():
    doubling = {f"f{i}": [f"f{i + 1}"] * 2 for i in range(25)} | {"f": ["f0"], "f25": ["Relu"]}
    with pytest.raises(FileFormatError, match="33,554,432 nodes"):
        load(functions(**doubling))
    chain = {f"f{i}": [f"f{i + 1}"] for i in range(10_000)} | {"f": ["f0"], "f10000": ["Relu"]}
    with pytest.raises(FileFormatError, match="deep"):
        load(functions(**chain))


def nested_ifs(depth: int) -> bytes:
    """The bytes of a model with If inside If, written from the inside out: no library builds it that deep."""
    def field(number: int, data: bytes) -> bytes:
        length, size = b"", len(data)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data
    shell = model([node("If", ["c"], ["y"])], inputs=(("c", BOOL, []),))
    graph = model([node("Identity", ["c"], ["y"])], inputs=()).graph.SerializeToString()
    head = node("If", ["c"], ["y"]).SerializeToString()
    for _ in range(depth):
        branches = b"".join(field(5, field(1, name) + b"\xa0\x01\x05" + field(6, graph)) for name in (b"then_branch",))
        other = field(5, helper.make_attribute("else_branch", model([node("Identity", ["c"], ["y"])], inputs=()).graph)
                      .SerializeToString())
        graph = field(1, head + branches + other) + field(12, value("y", BOOL).SerializeToString()) + field(2, b"g")
    shell.ClearField("graph")
    graph += field(11, value("c", BOOL, []).SerializeToString())
    return shell.SerializeToString() + field(7, graph)


def test_graphs_inside_graphs():
    assert bool(ndl.onnx.load(nested_ifs(20))(np.array(True)))
    for depth in (40, 300, 10_000):
        with pytest.raises(FileFormatError, match="deep"):
            ndl.onnx.load(nested_ifs(depth))


def test_graphs_inside_graphs_in_memory():
    """A message built by a program may be deeper than one that is read."""
    proto = model([node("If", ["c"], ["y"])], inputs=(("c", BOOL, []),))
    graph = proto.graph
    for _ in range(60):
        branch = graph.node[0].attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
        branch.g.node.add(op_type="If", input=["c"], output=["y"])
        branch.g.output.add(name="y")
        graph = branch.g
    with pytest.raises(FileFormatError, match="graphs inside graphs"):
        ndl.onnx.load(proto)

# --- when it runs -------------------------------------------------------------------------------------------------------


def test_a_loop_without_end():
    body = helper.make_graph([node("Identity", ["go"], ["still"]), node("Add", ["s", "s"], ["next"])], "body",
                             [value("i", INT64, []), value("go", BOOL, []), value("s")],
                             [value("still", BOOL, []), value("next")])
    endless = load(model([node("Loop", ["", "", "x"], ["y"], body=body)]))
    with ndl.onnx.limits.set(loop_iterations=100), pytest.raises(ArgumentError, match="still running after 100 iterations"):
        endless(np.zeros((2, 3), "f"))
    long = load(model([node("Loop", ["n", "", "x"], ["y"], body=body)], weights=[("n", np.int64(2**62))]))
    with ndl.onnx.limits.set(loop_iterations=50), pytest.raises(ArgumentError, match=r"limits\.loop_iterations"):
        long(np.zeros((2, 3), "f"))
    assert ndl.onnx.limits.loop_iterations == 1_000_000
    with pytest.raises(ArgumentError, match="none of memory"):
        ndl.onnx.limits.set(minutes=3).__enter__()


HUGE = np.array([2**31, 2**31])
SIZES = {
    "ConstantOfShape": [("s", HUGE)], "Expand": ["x", ("s", np.array([2**40, 2, 3]))], "Tile": ["x", ("r", HUGE)],
    "Range": [("a", np.int64(0)), ("b", np.int64(2**60)), ("c", np.int64(1))],
    "Pad": ["x", ("p", np.array([0, 0, 2**40, 0]))],
    "OneHot": [("i", np.array([1])), ("d", np.int64(2**45)), ("v", np.float32([0, 1]))],
    "Resize": ["x", "", ("f", np.float32([1e9, 1e9]))], "HannWindow": [("n", np.int64(2**50))], "Add": ["column", "row"],
    "MatMul": ["column", "row"], "RandomNormal": [], "EyeLike": ["empty"],
}


@pytest.mark.parametrize("op", SIZES)
def test_shapes_that_no_memory_holds(op):
    """Refused before anything is allocated: a process limited to little memory says the same."""
    inputs = SIZES[op]
    weights = [i for i in inputs if isinstance(i, tuple)]
    attributes = {"shape": [2**31, 2**31]} if op == "RandomNormal" else {}
    names = [i if isinstance(i, str) else i[0] for i in inputs]
    given = (("x", FLOAT, [2, 3]), ("column", FLOAT, [None, 1]), ("row", FLOAT, [1, None]), ("empty", FLOAT, [None, None]))
    loaded = load(model([node(op, names, ["y"], **attributes)], inputs=given, weights=weights))
    n = 100_000
    few = {"x": np.zeros((2, 3), "f"), "column": np.zeros((n, 1), "f"), "row": np.zeros((1, n), "f"),
           "empty": np.zeros((n, 0) if op != "EyeLike" else (2, 2), "f")}
    if op == "EyeLike":                                   # as large as its input: nothing to refuse
        assert loaded(**few).shape == (2, 2)
        return
    with pytest.raises(ShapeError, match=r"GiB.*limits\.memory"):
        loaded(**few)


@pytest.mark.parametrize("op, names, number", [("ConstantOfShape", ["n"], [-2, 3]), ("Tile", ["x", "n"], [-1, 1]),
                                               ("Expand", ["x", "n"], [-2, 3]), ("Reshape", ["x", "n"], [-2, 3]),
                                               ("Unsqueeze", ["x", "n"], [99]), ("Gather", ["x", "n"], [7])])
def test_shapes_and_places_out_of_range(op, names, number):
    loaded = load(model([node(op, names, ["y"], name="here")], weights=[("n", np.array(number))]))
    with pytest.raises(NeedleError) as caught:
        loaded(np.zeros((2, 3), "f"))
    assert "'here'" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


def test_what_libraries_raise_names_the_node():
    loaded = load(model([node("RegexFullMatch", ["t"], ["y"], name="pattern", pattern="(")], inputs=(("t", 8, [1]),)))
    with pytest.raises(ArgumentError, match=r"'pattern' \(RegexFullMatch\)"):
        loaded(np.array(["a"], object))


def test_thousands_of_mutants():
    """`python tests/fuzz_onnx.py --minutes 10` tries more."""
    script = os.path.join(os.path.dirname(__file__), "fuzz_onnx.py")
    command = [sys.executable, script, "--count", "2000", "--minutes", "60"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "'tried': 2000," in done.stdout and "'ran': 0," not in done.stdout
