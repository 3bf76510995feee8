"""The four views: what they say, that text, page and live data agree, and that nothing of the model is changed."""

import html.parser
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from peers import needs, require

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import ArgumentError, GraphError, MissingFileError, ShapeError
from needle_lab.widgets import FAMILIES, autograd_graph, compare, diff, drawing, family_of, onnx_graph, show
from needle_lab.widgets import view as views
from needle_lab.widgets.outline import outline


class Block(nn.Module):
    def __init__(self, channels, dropped=False):
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        if dropped:
            self.drop = nn.Dropout(0.5)

    def forward(self, x):
        y = ndl.relu(self.norm(self.conv(x)))
        return x + (self.drop(y) if hasattr(self, "drop") else y)


class Net(nn.Module):
    def __init__(self, width=8, classes=5, blocks=4):
        self.stem = nn.Conv2d(3, width, 3, stride=2)
        self.blocks = [Block(width) for _ in range(blocks)]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.flatten(self.pool(x)))


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 3, 9, 9)).astype("float32")


class Checker(html.parser.HTMLParser):
    """Tags that are opened and never closed, or the other way round."""

    void = {"br", "meta", "input", "img", "rect", "line", "path", "polygon", "ellipse", "polyline"}

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.tags, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag in self.void:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, text):
        self.words.append(text)


def all_views(x):
    a = ndl.tensor([1.0, 2.0], requires_grad=True)
    net = Net()
    return {"tree": show(net, x), "diff": diff(net, Net(width=6)), "graph": autograd_graph((a + a) * a, a=a),
            "compare": compare(net, net, x)}


# --- what every view does -----------------------------------------------------------------------------------------

@needs("anywidget")
@pytest.mark.parametrize("name", ["tree", "diff", "graph", "compare"])
def test_a_view_is_text_page_and_widget(name, x):
    view = all_views(x)[name]
    assert str(view).isascii() and str(view) == repr(view)
    json.dumps(view.data(), allow_nan=False)                          # what crosses to the browser is plain JSON
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == str(view)
    assert views.WIDGET in bundle
    page = Checker()
    page.feed(bundle["text/html"])
    assert not page.open and not page.wrong, "unbalanced tags"
    assert "script" not in page.tags and "link" not in page.tags
    assert not re.search(r"https?://(?!www\.w3\.org)", bundle["text/html"])


@needs("anywidget")
def test_one_view_is_one_widget_however_often_it_is_shown(x):
    view = show(Net(), x)
    assert view.live is view.live
    keys = [view._repr_mimebundle_()[views.WIDGET]["model_id"] for _ in range(2)]
    assert keys[0] == keys[1]


def test_without_anywidget_the_page_is_shown_and_the_text_says_so(x, monkeypatch):
    monkeypatch.setattr(views, "has_anywidget", lambda: False)
    view = show(Net(), x)
    bundle = view._repr_mimebundle_()
    assert view.live is None and set(bundle) == {"text/plain", "text/html"}
    assert bundle["text/plain"].endswith(views.NO_LIVE) and str(view).isascii()


def test_importing_the_views_imports_no_optional_library():
    heavy = ["ipywidgets", "anywidget", "matplotlib", "onnx", "onnxruntime", "torch", "graphviz"]
    code = f"import sys, needle_lab.widgets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_view_saves_itself_as_a_page(x, tmp_path):
    path = tmp_path / "tree.html"
    show(Net(), x).save(path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_names_in_a_page_are_escaped():
    evil = {"class": "<img src=x onerror=alert(1)>", "config": {"note": "</style><script>"}, "parameters": {},
            "buffers": {}, "children": {}}
    for view in (show(evil), diff(evil, {**evil, "class": "B"})):
        page = Checker()
        page.feed(view.static_html())
        assert "img" not in page.tags and "script" not in page.tags


# --- families -----------------------------------------------------------------------------------------------------

def test_layers_operators_and_ops_find_their_family():
    assert ndl.onnx.load               # whose rows say the family of an operator: the room is open where one is shown
    expected = {"linear": ["Conv2d", "ConvTranspose", "conv_transpose2d", "Linear", "Gemm", "matmul", "LSTM"],
                "activation": ["ReLU", "Relu", "LeakyReLU", "softmax", "log_softmax", "GELU"],
                "norm": ["BatchNorm2d", "BatchNormalization", "layer_norm", "RMSNorm"],
                "pool": ["MaxPool2d", "GlobalAveragePool", "AdaptiveAvgPool2d", "ReduceMean", "sum", "cross_entropy"],
                "other": ["Reshape", "Flatten", "add", "Dropout", "SomethingUnheardOf"]}
    assert {key: {family_of(name).key for name in names} for key, names in expected.items()} == {
        key: {key} for key in expected}


def test_the_ops_that_layers_are_made_of_have_their_layers_family(x):
    net = Net()
    boxes = autograd_graph(net(ndl.tensor(x)).sum(), model=net).drawing.boxes
    assert {box.family for box in boxes} == {"", "linear", "norm", "activation", "pool", "other"}
    assert "blocks.3.conv.weight" in [box.title for box in boxes]


def test_every_op_with_weights_or_an_activation_of_nn_has_a_family():
    plain = {"Flatten", "Unflatten", "Identity", "Module", "Parameter", "Buffer", "ModuleDict", "ModuleList", "Sequential",
             "ParameterDict", "ParameterList", "LoadReport", "Fold", "Unfold", "init", "functional", "utils"}
    moving = re.compile("^Transformer|Dropout|Pad[123]d|Shuffle|Unshuffle|^Upsampl")            # values, or layers
    unknown = [name for name in nn.__all__ if name not in plain and not moving.search(name)
               and family_of(name).key == "other"]
    assert not unknown


def linear_rgb(colour):
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                   [0.0193339, 0.1191920, 0.9503041]])


def lab(rgb):
    """CIELAB (D65) of linear sRGB; a distance of 2 is just noticeable."""
    t = TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes (2009), severity 1
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("theme, paper", [("light", "#ffffff"), ("dark", "#111111")])
def test_colours_stand_out_from_the_page_and_glyphs_differ(theme, paper):
    for family in FAMILIES.values():
        bright, dim = sorted([TO_XYZ[1] @ linear_rgb(each) for each in (getattr(family, theme), paper)], reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 3, f"{family.key} on {paper}"       # WCAG 2.1, graphical objects
    assert len({family.glyph for family in FAMILIES.values()}) == len({f.ascii for f in FAMILIES.values()}) == 5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eye", DEFICIENCIES)
def test_no_two_families_look_alike_to_any_eye(theme, eye):
    seen = {f.key: lab(np.array(DEFICIENCIES[eye]) @ linear_rgb(getattr(f, theme))) for f in FAMILIES.values()}
    keys = list(seen)
    closest = min((np.linalg.norm(seen[p] - seen[q]), p, q) for i, p in enumerate(keys) for q in keys[:i])
    assert closest[0] > 20, closest


# --- tree ---------------------------------------------------------------------------------------------------------

def test_tree_counts_every_parameter_once():
    net = Net()
    rows = {row.path: row for row in show(net).rows}
    assert rows[""].params == sum(p.numel() for p in net.parameters())
    for path, module in net.named_modules():
        assert rows[path].params == sum(p.numel() for p in module.parameters()), path
    assert rows["blocks.2.norm.running_mean"].kind == "buffer" and rows["blocks.2.norm.running_mean"].params == 0


def test_equal_neighbours_fold_and_unequal_ones_do_not():
    net = Net(blocks=6)
    net.blocks[4] = Block(8, dropped=True)
    rows = [(row.kind, row.label) for row in show(net).rows if row.depth == 2 and row.path.startswith("blocks")]
    assert rows == [("fold", "0..3 x4"), ("module", "4"), ("module", "5")]
    assert str(show(net)).count("Conv2d") == 4            # the stem, one for the four blocks, blocks 4 and 5


def test_shapes_come_from_one_run_that_leaves_no_trace(x):
    net = Net().train()
    net.blocks[0].eval()
    modes = [m.training for m in net.modules()]
    before = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    rows = {row.path: row for row in show(net, x).rows}
    assert rows["stem"].shape == "(2, 3, 9, 9) -> (2, 8, 4, 4)" and rows[""].shape == "(2, 3, 9, 9) -> (2, 5)"
    assert modes == [m.training for m in net.modules()]
    assert all(np.array_equal(before[name], value.numpy()) for name, value in net.state_dict().items())
    assert not any(vars(m).get("_hooks", {}).get("after") for m in net.modules())


def test_a_shared_parameter_is_shown_twice_and_counted_once():
    class Tied(nn.Module):
        def __init__(self):
            self.embed = nn.Embedding(7, 4)
            self.head = nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

    rows = {row.path: row for row in show(Tied()).rows}
    assert rows[""].params == 28
    assert rows["head.weight"].kind == "tied" and "embed.weight" in rows["head.weight"].note


def test_tree_reads_saved_files_and_signatures(tmp_path):
    from needle_lab.serialize import save_state_dict

    net, path = Net(), tmp_path / "net.safetensors"
    save_state_dict(net, path)
    assert show(path).rows == show(net).rows == show(net.signature()).rows
    assert str(show(path)).splitlines()[0].startswith("net.safetensors: ")


def test_tree_refuses_what_it_cannot_show(x):
    with pytest.raises(ArgumentError, match="expected a Module"):
        show(3)
    with pytest.raises(ArgumentError, match="holds no model that can run"):
        show(Net().signature(), x)
    with pytest.raises(MissingFileError):
        show("nowhere.safetensors")


def test_two_thousand_nodes_open_within_the_first_screen():
    def leaf(i):
        return {"class": f"Layer{i}", "config": {}, "parameters": {"w": {"shape": [i + 1], "dtype": "float32"}},
                "buffers": {}, "children": {}}

    root = {"class": "Big", "config": {}, "parameters": {}, "buffers": {},
            "children": {str(i): leaf(i) for i in range(1000)}}
    big = outline(root)
    assert len(big.rows) == 2001 and big.total == 1000 * 1001 // 2
    assert len(json.dumps(show(root).data())) < 400_000


# --- diff ---------------------------------------------------------------------------------------------------------

def test_diff_says_whether_weights_fit_and_marks_the_dimension():
    assert diff(Net(), Net()).data()["verdict"] == "can load"
    view = diff(Net(width=8), Net(width=6))
    assert view.difference.verdict == "partly" and "stem" in view.sentence
    row = next(row for row in view.data()["rows"] if row[2] == "stem.weight")
    left, right = row[5:]
    assert [text for kind, text in left["shape"] if kind == "old"] == ["8"]
    assert "".join(text for _, text in right["shape"]) == "(8\N{RIGHTWARDS ARROW}6, 3, 3, 3)"


def test_equal_stretches_fold_but_never_hide_a_difference():
    from needle_lab.widgets.diff import runs

    net, other = Net(blocks=5), Net(blocks=5)
    other.blocks[2] = Block(8, dropped=True)
    view = diff(net, other)
    stretches = list(runs(view.rows))
    assert [i for start, stop in stretches for i in range(start, stop)] == list(range(len(view.rows)))
    assert all(view.rows[i].kind == "same" for start, stop in stretches if stop - start > 1 for i in range(start, stop))
    assert len(stretches) < len(view.rows) / 2


def test_the_inside_of_an_added_module_folds_into_one_line():
    view = diff(Net(blocks=2), Net(blocks=3))
    folded = [label for start, stop, label in view.data()["runs"] if stop - start > 1 and "added" in label]
    below = sum(row.kind == "added" and row.depth > 2 for row in view.rows)
    assert folded == [f"{below} rows inside, all added"]


def test_added_and_removed_rows_stand_on_one_side():
    rows = diff(Net(blocks=2), Net(blocks=3)).data()["rows"]
    added = [row for row in rows if row[0] == "added"]
    assert added and all(row[5] is None and row[6] is not None for row in added)


# --- graph --------------------------------------------------------------------------------------------------------

def test_the_graph_of_the_first_lecture():
    a = ndl.tensor(1.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward(retain_graph=True)
    view = autograd_graph(c, a=a, b=b, c=c)
    boxes = {box.id: box for box in view.drawing.boxes}
    assert [(boxes[w.source].title, boxes[w.target].lines[0][0]) for w in view.drawing.arrows] == [
        ("a", "b"), ("a", "b"), ("add", "c"), ("add", "c")]
    leaf = next(box for box in view.drawing.boxes if box.title == "a")
    assert leaf.lines == ["1", "grad 4"] and "c = 4" in str(view)


def test_a_long_chain_is_drawn_from_its_end():
    c = ndl.tensor(1.0, requires_grad=True)
    for _ in range(50_000):
        c = c * 1.0
    view = autograd_graph(c, max_nodes=3)
    assert "newest 3 of 50,000" in view.note and [box.title for box in view.drawing.boxes] == ["mul"] * 3


def test_autograd_graph_refuses_leaves_and_freed_graphs():
    a = ndl.tensor(1.0, requires_grad=True)
    with pytest.raises(ArgumentError, match="no recorded op"):
        autograd_graph(a)
    b = a * a
    b.backward()
    with pytest.raises(GraphError, match="freed"):
        autograd_graph(b)


@pytest.fixture
def onnx_model(tmp_path, rng, monkeypatch):
    """Conv, Relu, pooling, a Reshape with its target, Gemm: written with onnx itself."""
    onnx = require("onnx")
    monkeypatch.setattr("needle_lab.widgets.onnx_parts.LONGEST", 3600)     # seconds: the machine may be busy
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": rng.normal(size=(4, 3, 3, 3)).astype("float32"), "b": rng.normal(size=4).astype("float32"),
               "shape": np.array([-1, 4]), "v": rng.normal(size=(4, 5)).astype("float32")}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["conv"], name="first", kernel_shape=[3, 3]),
             helper.make_node("Relu", ["conv"], ["act"]), helper.make_node("GlobalAveragePool", ["act"], ["pooled"]),
             helper.make_node("Reshape", ["pooled", "shape"], ["flat"]), helper.make_node("Gemm", ["flat", "v"], ["y"])]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 9])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
                              [numpy_helper.from_array(value, name) for name, value in weights.items()])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_onnx_graph_shows_weights_in_the_node_and_shapes_on_the_arrows(onnx_model):
    view = onnx_graph(onnx_model)
    boxes = {box.title: box for box in view.drawing.boxes}
    assert boxes["Conv"].lines == ["W (4, 3, 3, 3)", "B (4,)"] and boxes["Conv"].family == "linear"
    assert boxes["Reshape"].lines == ["shape = [-1, 4]"] and boxes["Conv"].details["kernel_shape"] == "[3, 3]"
    labels = {(w.source, w.target): w.label for w in view.drawing.arrows}
    assert labels[boxes["Conv"].id, boxes["Relu"].id] == "(N, 4, 7, 7)"          # by ONNX's own shape inference
    if drawing.dot_program():                                                    # else the test after the next one
        assert view.svg.count('class="node box') == len(view.drawing.boxes)


def test_program_graph_shows_the_ops_of_a_module():
    """A module with an example, or its Program: the same boxes, parameters in the op that reads them."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    program = ndl.program.trace(model, ndl.ones(5, 4), dynamic={"x": {0: "n"}})
    for view, shape in ((ndl.program_graph(model, ndl.ones(5, 4)), "(5, 3)"), (ndl.program_graph(program), "(n, 3)")):
        boxes = {box.title: box for box in view.drawing.boxes}
        assert boxes["linear"].lines == ["0.weight (3, 4)", "0.bias (3,)"] and boxes["linear"].details["module"] == "0"
        assert boxes["linear"].family == "linear" and boxes["relu"].family == "activation"
        assert [(a.source, a.target, a.label) for a in view.drawing.arrows][1] == ("n0", "n1", shape)


def test_a_large_graph_says_what_was_left_out(onnx_model):
    view = onnx_graph(onnx_model, max_nodes=2)
    assert "first 2 of 5 nodes" in view.note and view.note in str(view) and view.note in view.page()


def test_without_graphviz_the_dot_text_stands_in(onnx_model, monkeypatch):
    monkeypatch.setattr(drawing, "dot_program", lambda: None)
    view = onnx_graph(onnx_model)
    assert view.svg is None and drawing.INSTALL in view.page() and "digraph {" in view.data()["dot"]


@needs("onnx")
def test_onnx_graph_refuses_what_is_no_model(tmp_path):
    with pytest.raises(MissingFileError):
        onnx_graph(tmp_path / "nowhere.onnx")
    with pytest.raises(ArgumentError, match="or an OnnxModule is needed"):
        onnx_graph(3)


# --- compare ------------------------------------------------------------------------------------------------------

def test_compare_agrees_with_numpy_and_names_the_first_deviation(x):
    net, other = Net().eval(), Net().eval()
    other.load_state_dict(net.state_dict())
    assert compare(net, other, x).first is None
    with ndl.no_grad():
        other.blocks[1].norm.bias[...] = 0.5
    view = compare(net, other, x)
    assert view.first.a.path == "blocks.1.norm" and "blocks.1.norm" in view.sentence
    paths = [pair.a.path for pair in view.pairs]
    assert paths[:4] == ["stem", "blocks.0.conv", "blocks.0.norm", "blocks.0"]
    last = view.outputs[0]
    expected = np.abs(net(ndl.tensor(x)).numpy() - other(ndl.tensor(x)).numpy())
    assert last.max_abs == pytest.approx(expected.max(), rel=1e-6)
    assert last.max_rel == pytest.approx(expected.max() / np.abs(other(ndl.tensor(x)).numpy()).max(), rel=1e-6)


def test_compare_pairs_a_module_with_an_onnx_file_by_values(onnx_model, x):
    import onnx
    from onnx import numpy_helper

    class Twin(nn.Module):
        def __init__(self):
            self.features = nn.Conv2d(3, 4, 3)
            self.active = nn.ReLU()
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.flat = nn.Flatten()
            self.head = nn.Linear(4, 5, bias=False)

        def forward(self, x):
            return self.head(self.flat(self.pool(self.active(self.features(x)))))

    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(onnx_model).graph.initializer}
    twin = Twin()
    twin.load_state_dict({"features.weight": weights["w"], "features.bias": weights["b"],
                          "head.weight": np.ascontiguousarray(weights["v"].T)})
    view = compare(twin, str(onnx_model), x)
    assert [(p.a.path, p.b.path) for p in view.pairs] == [
        ("features", "conv"), ("active", "act"), ("pool", "pooled"), ("flat", "flat"), ("head", "y")]
    assert view.first is None and view.outputs[0] in view.pairs


def test_nan_on_one_side_is_a_deviation():
    class Give(nn.Module):
        def __init__(self, value):
            self.value = value

        def forward(self, x):
            return x * self.value

    x = np.ones((1, 3), "float32")
    assert compare(Give(float("nan")), Give(float("nan")), x).first is None
    view = compare(Give(float("nan")), Give(1.0), x)
    assert view.first is not None and view.first.max_abs == np.inf
    json.dumps(view.data(), allow_nan=False)


def test_compare_speaks_only_of_what_it_compared(x):
    net, tuned = Net(classes=5).eval(), Net(classes=2).eval()
    tuned.load_state_dict(net.state_dict(), strict=False)
    sentence = compare(net, tuned, x).sentence
    assert "outputs are equal" not in sentence and "The outputs have different shapes" in sentence
    assert "outputs are equal" in compare(net, net, x).sentence
    assert "before it" not in compare(Net().eval(), net, x).sentence          # nothing is before the first layer


def test_compare_refuses_models_without_a_common_shape(x, onnx_model):
    with pytest.raises(ShapeError, match="no layer of"):
        compare(nn.Flatten(), nn.Conv2d(3, 4, 3), x)
    with pytest.raises(ArgumentError, match="takes 1 inputs"):
        compare(str(onnx_model), str(onnx_model), (x, x))


def test_an_imported_model_is_drawn_and_compared_by_the_names_of_its_file(onnx_model, x):
    module = ndl.onnx.load(onnx_model)
    drawn = onnx_graph(module, x)
    assert [(b.title, b.family) for b in drawn.drawing.boxes if b.family] == [
        (b.title, b.family) for b in onnx_graph(onnx_model).drawing.boxes if b.family]
    assert "(2, 4, 7, 7)" in [arrow.label for arrow in drawn.drawing.arrows]
    view = compare(module, str(onnx_model), x)
    assert [p.a.path for p in view.pairs] == [p.b.path for p in view.pairs] == ["conv", "act", "pooled", "flat", "y"]
    assert view.first is None
    with ndl.no_grad():
        next(p for p in module.parameters() if p.ndim == 2)[0] += 1
    assert compare(module, str(onnx_model), x).first.a.path == "y"


def test_an_onnx_file_has_a_tree_with_shapes(onnx_model, x):
    view = show(str(onnx_model), x)
    assert view.title == "model.onnx" and "(2, 3, 9, 9) -> (2, 5)" in str(view)
