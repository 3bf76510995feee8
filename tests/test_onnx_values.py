"""Looking at the values of a graph, and three places where a file could ask for too much or too little."""

import re
import sys

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab.errors import ArgumentError, MissingExtraError

onnx = require("onnx")
ort = require("onnxruntime")


def parsed(text: str, opset=18):
    """-> our module, and onnxruntime's answer to arrays by name."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>' + text)
    session = ort.InferenceSession(proto.SerializeToString())
    return ndl.onnx.load(proto.SerializeToString()), lambda **arrays: session.run(None, arrays)


@pytest.fixture
def digits():
    return ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))


@pytest.fixture
def images(rng):
    return rng.normal(size=(2, 1, 8, 8)).astype("float32")

# --- hooks on values --------------------------------------------------------------------------------------------------


def test_a_hook_sees_every_value_by_its_name(digits, images):
    seen = {}
    for name in digits.value_names:
        digits.register_value_hook(name, lambda value, name=name: seen.update({name: value}))
    digits(images)
    for name, value in zip(digits.value_names, digits(images, outputs=digits.value_names), strict=True):
        assert_close(seen[name], value)


def test_a_hook_is_found_by_its_node_and_removed(digits, images):
    step = next(s for s in digits.steps if s.op == "Add")
    seen = []
    with digits.register_value_hook(step.name, seen.append):
        digits(images)
    digits(images)
    handle = digits.register_value_hook(step.outputs[0], seen.append)
    handle.remove()
    digits(images)
    assert len(seen) == 1
    assert_close(seen[0], digits(images, outputs=[step.outputs[0]])[0])


def test_a_hook_may_replace_a_value_and_gradients_pass_through(digits, images):
    """An input doubled by a hook is an input doubled by hand; two hooks run in their order."""
    doubled = digits(2 * images)
    with digits.register_value_hook("image", lambda x: x + 1), digits.register_value_hook("image", lambda x: 2 * (x - 1)):
        y = digits(images)
    assert_close(y, doubled)
    last = digits.value_names[-1]
    x = ndl.tensor(images, requires_grad=True)
    with digits.register_value_hook(last, lambda value: value * 0.0):
        digits(x).sum().backward()
    assert not x.grad.numpy().any()


def test_a_hook_inside_of_a_loop_runs_in_every_iteration():
    model, _ = parsed("""agraph (float[N] x, int64 times) => (float[N] y) {
        go = Constant<value = bool {1}>()
        y = Loop(times, go, x) <body = body (int64 i, bool c, float[N] h) => (bool d, float[N] k) {
            d = Identity(c)
            k = Add(h, x)
        }>
    }""")
    seen = []
    model.register_value_hook("k", lambda value: seen.append(value.tolist()))
    model(np.ones(1, "float32"), np.array(3))
    assert seen == [[2.0], [3.0], [4.0]]


def test_an_unknown_name_is_refused_with_those_like_it(digits):
    name = digits.steps[0].outputs[0]
    with pytest.raises(ArgumentError, match=f"no value or node '{name}x'; there are .*{name}"):
        digits.register_value_hook(name + "x", print)
    with pytest.raises(ArgumentError, match="a hook is a function, got int"):
        digits.register_value_hook("image", 3)


def test_hooks_change_neither_signature_nor_state(digits, images):
    before = digits.signature(), list(digits.state_dict())
    digits.register_value_hook("image", lambda x: x * 0.0)
    assert (digits.signature(), list(digits.state_dict())) == before
    assert_close(digits.plan(images)(images), ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))(images), 1e-5)

# --- a Loop without an iteration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "times"), [("2, 3", 0), ("2, 3", 2), ("2, M", 0)])
def test_a_loop_may_run_no_iteration(declared, times, rng):
    model, runtime = parsed(f"""
    agraph (float[2, 3] x, int64 times) => (float[2, 3] y, float[T, {declared}] rows, int64[S] n) {{
        go = Constant<value = bool {{1}}>()
        y, rows, n = Loop(times, go, x) <body = body (int64 i, bool c, float[2, 3] h)
                                          => (bool d, float[2, 3] k, float[{declared}] row, int64 j) {{
            d = Identity(c)
            k = Add(h, x)
            row = Mul(k, k)
            j = Identity(i)
        }}>
    }}""")
    inputs = {"x": rng.normal(size=(2, 3)).astype("float32"), "times": np.array(times)}
    theirs = runtime(**inputs)
    for run in (model, model.plan(**inputs)):
        for ours, expected in zip(run(**inputs), theirs, strict=True):
            assert_close(ours, expected)
            assert ours.dtype == expected.dtype

# --- regular expressions ------------------------------------------------------------------------------------------------

PATTERNS = ["a*b", "(ab|a)(bc|c)?", "[^a-c]+", r"\d{2,4}-\w+", "(a|b)*abb", "", "x?", "(?i)hello.*", "(a+)+b", "((a*)*)*",
            r"[\w.+-]+@[\w-]+\.[a-z]+", "^ab$", "a{0,3}?b", r"[^\d]+\s\D", "a.c", r"a\b.\bc", r"a\Bb\B.*"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_regular_expression_matches_as_in_python_and_onnxruntime(pattern, rng):
    node, info = onnx.helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern), onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "regex", [info("x", 8, ["n"])], [info("y", 9, ["n"])])
    file = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 20)]).SerializeToString()
    texts = ["", "ab", "abc", "aab", "abb", "babb", "12-x", "12345-x", "Hello there", "me.x@site.org", "x", "a c", "y z"]
    texts += ["".join(letters) for letters in rng.choice(list("abc"), (20, 4))]
    x = np.array(texts, dtype=object)
    expected = [re.fullmatch(pattern, text) is not None for text in texts]
    assert ndl.onnx.load(file)(x).tolist() == expected == ort.InferenceSession(file).run(None, {"x": x})[0].tolist()


def full_match(pattern: str, text: str):
    return ndl.onnx.operators.text.RegexFullMatch(np.array([text], dtype=object), pattern=pattern).tolist()[0]


def test_a_hostile_regular_expression_ends():
    """Python's own matcher would need 2^40 steps for the first."""
    assert not full_match("(a+)+b", 40 * "a")
    assert not full_match("(a|aa)*b", 2000 * "a")
    assert not full_match("(((a*)*)*)*b", 1_000_000 * "a")
    assert not full_match("(a?){1000}b", 10_000 * "a")          # too large for RE2's automaton: its slower way is linear too


@pytest.mark.parametrize("pattern, reason", [
    (r"(a)\1", "escape"), ("a(?=b)", "operator"), ("(a", "missing"), ("a**", "repetition"),
    ("(((a?){1000}){1000}){1000}b", "repetition size")])
def test_a_pattern_that_re2_does_not_have(pattern, reason, capfd):
    with pytest.raises(ArgumentError, match=f"no regular expression of RE2: .*{reason}"):
        full_match(pattern, "aa")
    assert capfd.readouterr().err == ""                         # said once, by the error


def test_a_missing_re2_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(MissingExtraError, match=r"needle-lab\[onnx\]"):
        full_match("a", "a")


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_tells_what_an_import_would_say():
    """Two products with one matrix share a Parameter; the ranges of lists are given place by place."""
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    agraph (float[1, 1, 8, 8] x) => (float[1, 1, 1, 1] z) <float[1, 1, 3, 3] w, float[1, 1, 2, 2] v> {
        y = Conv <kernel_shape = [3, 3], pads = [1, 0, 1, 0]> (x, w)
        u = Conv <kernel_shape = [2, 2], pads = [0, 0, 0, 0]> (y, v)
        z = GlobalAveragePool(u)
    }""")
    for name, shape in (("w", (1, 1, 3, 3)), ("v", (1, 1, 2, 2))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, "float32"), name))
    del proto.graph.initializer[:-2]
    text = str(ndl.onnx.inspect(proto))
    assert "kernel_shape [2, 2]..[3, 3]; pads [0, 0, 0, 0]..[1, 0, 1, 0]" in text and "13 numbers in 2 tensors" in text
    proto.graph.node[2].input[0] = "nowhere"
    report = ndl.onnx.inspect(proto)
    assert "nowhere" in report.problem and "cannot be imported" in str(report)


def test_notes_of_the_import_stand_in_the_report():
    weight = onnx.numpy_helper.from_array(np.ones((3, 3), "float32"), "shared.weight")
    nodes = [onnx.helper.make_node("MatMul", ["x", "shared.weight"], ["y"]),
             onnx.helper.make_node("Gather", ["shared.weight", "i"], ["e"]),
             onnx.helper.make_node("Add", ["y", "e"], ["z"])]
    info = onnx.helper.make_tensor_value_info
    inputs, outputs = [info("x", 1, [2, 3]), info("i", 7, [2])], [info("z", 1, [2, 3])]
    graph = onnx.helper.make_graph(nodes, "tied", inputs, outputs, [weight])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    assert ndl.onnx.inspect(proto).notes == list(ndl.onnx.load(proto.SerializeToString()).import_notes)
    assert not ndl.onnx.inspect(proto, try_import=False).notes

# --- views of files ---------------------------------------------------------------------------------------------------


def test_a_file_whose_shape_inference_crashes_is_drawn_all_the_same():
    """Negative axes beyond the rank: ONNX's inference ends the process, so it must not be this one."""
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    agraph (float[2, 3] x) => (float[N, M] y) { a = Relu(x) y = Transpose <perm = [100000000, -5]> (a) }""")
    assert "Transpose" in str(ndl.onnx_graph(proto))


def test_compare_names_the_layer_that_made_a_value(digits, images):
    path = ndl.models.pretrained_path("digits_convnet")
    view = ndl.compare(digits, path, images)
    conv = next(pair for pair in view.pairs if pair.a.layer == "block.conv2")
    assert conv.name in conv.label and conv.label.startswith("block.conv2 (")
    assert conv.label in str(view)
