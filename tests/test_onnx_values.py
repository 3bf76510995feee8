"""Looking at the values of a graph, and three places where a file could ask for too much or too little."""

import numpy as np
import pytest
from conftest import assert_close

import needle_lab as ndl
from needle_lab.errors import ArgumentError, UnsupportedOnnxError

onnx = pytest.importorskip("onnx", reason="the ONNX room needs onnx; pip install 'needle-lab[onnx]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is the oracle here; pip install onnxruntime")


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
    model, runtime = parsed(f"""agraph (float[2, 3] x, int64 times) => (float[2, 3] y, float[T, {declared}] rows, int64[S] n) {{
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
