"""Inference plans: the same values as the model on other inputs than those they were made from, and what they did."""

import threading

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import ArgumentError, DTypeError, NeedleError, ShapeError, UnsupportedOnnxError

onnx = require("onnx")

from needle_lab.program.memory import ALIGNMENT, Storage, peak, place  # noqa: E402

helper = onnx.helper


def as_tuple(y) -> tuple:
    """One flat tuple of outputs, states of recurrent layers included."""
    return sum((as_tuple(part) for part in y), ()) if isinstance(y, tuple) else (y,)


RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


def other_values(array: np.ndarray, rng) -> np.ndarray:
    """Another input of the same shape and dtype."""
    if array.dtype.kind == "f":
        return rng.normal(size=array.shape).astype(array.dtype)
    return rng.permutation(array.reshape(-1)).reshape(array.shape)


def assert_plan_equals_model(model, arrays: list, rng, tolerance=1e-5):
    """Twice, on other inputs than the plan was made from: nothing is left over from the call before.

    With the compiled loops and without, as other strategies are chosen there.
    """
    for fast in (False, True):
        with ndl.use_kernels("fast" if fast else "numpy"):
            plan = model.plan(*arrays)
            for _ in range(2):
                inputs = [other_values(a, rng) for a in arrays]
                for ours, theirs in zip(as_tuple(plan(*inputs)), as_tuple(model(*inputs)), strict=True):
                    assert_close(ours, theirs, tolerance)
                    assert ours.dtype == theirs.dtype and not ours.requires_grad
    return plan


def graph_of(nodes, inputs: dict, outputs: dict, constants: dict | None = None, opset=20):
    """A model of float32 inputs and outputs: name -> shape."""
    def info(values):
        return [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in values.items()]
    weights = [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", info(inputs), info(outputs), weights)
    return ndl.onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString())


# --- the same values ----------------------------------------------------------------------------------------------------


def test_the_digits_model_by_batch_and_by_example(rng):
    model = ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))
    x = rng.normal(size=(5, 1, 8, 8)).astype("float32")
    for plan in (model.plan(batch=5), model.plan(x), model.plan(image=x)):
        assert_close(plan(x), model(x), 1e-6)
        assert_close(plan(image=x), model(x), 1e-6)
    assert plan.report().calls == 7 and plan.report().done["add done inside of convolution"] == 1


def test_maps_under_several_shapes_meet(rng):
    """Maps of convolutions beside inputs and constants, and under other shapes."""
    c = {"w": rng.normal(size=(16, 3, 3, 3)), "v": rng.normal(size=(16, 16, 1, 1)), "line": rng.normal(size=(15,)),
         "map": rng.normal(size=(1, 16, 17, 15)), "flat": [2, -1]}
    c = {k: np.asarray(v, "int64" if k == "flat" else "float32") for k, v in c.items()}
    model = graph_of([
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), helper.make_node("Add", ["a", "line"], ["b"]),
        helper.make_node("Mul", ["b", "z"], ["d"]), helper.make_node("Add", ["d", "map"], ["e"]),
        helper.make_node("Conv", ["e", "v"], ["f"]), helper.make_node("Concat", ["f", "z", "e"], ["g"], axis=1),
        helper.make_node("MaxPool", ["g"], ["h"], kernel_shape=[2, 2]), helper.make_node("Reshape", ["f", "flat"], ["i"]),
        helper.make_node("Transpose", ["h"], ["j"], perm=[0, 2, 3, 1]), helper.make_node("ReduceMean", ["h"], ["k"])],
        {"x": (2, 3, 17, 15), "z": (2, 16, 17, 15)},
        {"h": (2, 48, 16, 14), "i": (2, 16 * 17 * 15), "j": (2, 16, 14, 48), "k": (1, 1, 1, 1)}, c)
    examples = [rng.normal(size=s).astype("float32") for s in ((2, 3, 17, 15), (2, 16, 17, 15))]
    assert_plan_equals_model(model, examples, rng)


def test_any_module_can_be_planned(rng):
    module, x = ndl.models.ResNet9(), ndl.tensor(rng.normal(size=(3, 3, 32, 32)).astype("float32"))
    for _ in range(3):
        module(x)                                                    # running statistics other than 0 and 1
    plan = ndl.plan(module, x)
    assert module.training
    other = ndl.tensor(other_values(x.numpy(), rng))
    assert_close(plan(other), module.eval()(other), 1e-5)
    for examples, error in (((), ArgumentError), ((x, x), TypeError), ((ndl.randn(1, 4, 32, 32),), ShapeError)):
        with pytest.raises(error):
            ndl.plan(module, *examples)


BRANCHES = """
agraph (float[N] x, bool go) => (float[N] y) {
    two = Constant<value_float = 2.0>()
    z = Mul(x, two)
    y = If(go) <then_branch = yes () => (float[N] a) { a = Add(z, two) },
                else_branch = no () => (float[N] b) { b = Neg(z) }>
}
"""
LOOP = """
agraph (float[N] x, int64 times) => (float[N] y, float[M, N] rows) {
    go = Constant<value = bool {1}>()
    y, rows = Loop(times, go, x) <body = body (int64 i, bool c, float[N] h) => (bool d, float[N] k, float[N] row) {
        d = Identity(c)
        k = Add(h, x)
        row = Mul(k, k)
    }>
}
"""


def parsed(text: str):
    return ndl.onnx.load(onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]>' + text).SerializeToString())


@pytest.mark.parametrize("go", [True, False])
def test_the_branch_is_taken_when_the_plan_runs(go, rng):
    """Made from an input that goes one way, asked to go the other."""
    model, x = parsed(BRANCHES), rng.normal(size=4).astype("float32")
    plan = model.plan(x, np.array(not go))
    assert_close(plan(x, np.array(go)), model(x, np.array(go)))
    assert plan.report().ordinary == ["If"]


def test_a_loop_runs_as_often_as_its_input_says(rng):
    model, x = parsed(LOOP), rng.normal(size=4).astype("float32")
    plan = model.plan(x, np.array(2))
    for times in (5, 1):
        for ours, theirs in zip(plan(x, np.array(times)), model(x, np.array(times)), strict=True):
            assert_close(ours, theirs)


def test_what_depends_on_values_is_not_frozen(rng):
    """NonZero has as many results as its input has values that are not 0."""
    model = parsed("agraph (float[N] x) => (int64[1, M] y) { y = NonZero(x) }")
    plan = model.plan(np.ones(4, "float32"))
    x = np.array([0, 1, 0, 2], "float32")
    assert plan(x).tolist() == model(x).tolist() == [[1, 3]]


def test_random_values_are_drawn_anew():
    node = helper.make_node("RandomNormal", [], ["noise"], shape=[3, 4])
    model = graph_of([node, helper.make_node("Add", ["x", "noise"], ["y"])], {"x": [3, 4]}, {"y": [3, 4]})
    plan, x = model.plan(batch=3), np.zeros((3, 4), "float32")
    assert (plan(x).numpy() != plan(x).numpy()).all()

# --- what the passes do ---------------------------------------------------------------------------------------------


def test_a_chain_of_shapes_becomes_a_number(rng):
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "zero"], ["n"]),
             helper.make_node("Unsqueeze", ["n", "axis"], ["n1"]), helper.make_node("Concat", ["n1", "rest"], ["t"], axis=0),
             helper.make_node("Reshape", ["x", "t"], ["y0"]), helper.make_node("Relu", ["y0"], ["y"])]
    model = graph_of(nodes, {"x": ["n", 3, 4]}, {"y": ["n", 12]},
                     {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])})
    plan = assert_plan_equals_model(model, [rng.normal(size=(2, 3, 4)).astype("float32")], rng)
    assert plan.report().calls == 1 and plan.report().views == 1


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm"])
def test_batch_norm_goes_into_the_layer_before_it(kind, rng):
    def weight(*shape):
        return rng.normal(size=shape).astype("float32")
    shape = [2, 3] if kind == "Gemm" else [2, 3, 6, 5]
    first = {"Conv": weight(4, 3, 3, 3), "ConvTranspose": weight(3, 4, 3, 3), "Gemm": weight(3, 4)}[kind]
    constants = {"w": first, "var": weight(4) ** 2} | {name: weight(4) for name in ("b", "scale", "shift", "mean")}
    nodes = [helper.make_node(kind, ["x", "w", "b"], ["z"]),
             helper.make_node("BatchNormalization", ["z", "scale", "shift", "mean", "var"], ["n"]),
             helper.make_node("Relu", ["n"], ["y"])]
    model = graph_of(nodes, {"x": shape}, {"y": None}, constants)
    plan = assert_plan_equals_model(model, [weight(*shape)], rng)
    assert plan.report().calls == 1 and plan.report().done["batch norms folded into weights"] == 1


def test_a_batch_norm_that_others_read_around_is_kept(rng):
    """z is read twice: the convolution has to keep its own values."""
    constants = {name: rng.uniform(0.5, 2, 4).astype("float32") for name in ("scale", "shift", "mean", "var")}
    constants["w"] = rng.normal(size=(4, 3, 3, 3)).astype("float32")
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"]),
             helper.make_node("BatchNormalization", ["z", "scale", "shift", "mean", "var"], ["n"]),
             helper.make_node("Add", ["n", "z"], ["y"])]
    model = graph_of(nodes, {"x": [1, 3, 6, 5]}, {"y": None}, constants)
    plan = assert_plan_equals_model(model, [rng.normal(size=(1, 3, 6, 5)).astype("float32")], rng)
    assert not plan.report().done.get("batch norms folded into weights")


def test_common_and_dead_and_empty_steps_go(rng):
    nodes = [helper.make_node("Exp", ["x"], ["a"]), helper.make_node("Exp", ["x"], ["b"]),
             helper.make_node("Sin", ["x"], ["nobody"]), helper.make_node("Identity", ["a"], ["c"]),
             helper.make_node("Dropout", ["b"], ["d"]), helper.make_node("Cast", ["d"], ["e"], to=1),
             helper.make_node("Transpose", ["e"], ["f"], perm=[0, 1]), helper.make_node("Mul", ["c", "f"], ["y"])]
    plan = assert_plan_equals_model(graph_of(nodes, {"x": [3, 4]}, {"y": [3, 4]}), [np.ones((3, 4), "float32")], rng)
    assert [name for name, _ in plan.steps] == ["exp", "mul"]


def test_an_input_that_is_returned_or_read_later_is_not_written_over(rng):
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Reshape", ["r", "shape"], ["flat"]),
             helper.make_node("Neg", ["r"], ["n"]), helper.make_node("Exp", ["n"], ["y"])]
    model = graph_of(nodes, {"x": [3, 4]}, {"y": [3, 4], "flat": [12], "x": [3, 4]}, {"shape": np.array([12])})
    assert_plan_equals_model(model, [np.ones((3, 4), "float32")], rng)

# --- memory -----------------------------------------------------------------------------------------------------------


def test_storages_that_meet_never_overlap(rng):
    for _ in range(50):
        storages: list[Storage] = []
        for size, first, length in zip(*(rng.integers(0, n, 30).tolist() for n in (2000, 20, 6)), strict=True):
            storages.append(Storage(size, first, first + length))
        total = place(storages)
        for i, a in enumerate(storages):
            assert a.offset % ALIGNMENT == 0 and a.offset + a.size <= total
            for b in storages[:i]:
                assert not a.meets(b) or not a.size or not b.size or a.offset + a.size <= b.offset \
                    or b.offset + b.size <= a.offset
        assert peak(storages) <= total <= 1.5 * peak(storages) + ALIGNMENT * len(storages)

# --- as an object -----------------------------------------------------------------------------------------------------


@pytest.fixture
def digits():
    return ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))


def test_a_plan_is_a_snapshot_in_evaluation_mode(digits, rng):
    x = rng.normal(size=(2, 1, 8, 8)).astype("float32")
    before = digits(x).numpy()
    plan = digits.train().plan(batch=2)
    assert digits.training, "the model stays in its mode"
    with ndl.no_grad():
        for p in digits.parameters():
            p.fill_(0.0)
    assert_close(plan(x), before, 1e-6)


def test_a_plan_of_a_model_with_a_new_head(digits, rng):
    class Twice(nn.Module):
        def forward(self, x):
            return x * float(x.sum().item() > 0)        # it looks at the values

    digits.head = nn.Sequential(nn.Linear(128, 3), Twice())
    x = rng.normal(size=(2, 1, 8, 8)).astype("float32")
    plan = digits.plan(x)
    for sign in (1, -1):
        assert_close(plan(sign * x), digits(sign * x), 1e-6)
    assert len(plan.report().ordinary) == 1


def test_wrong_calls_are_named(digits):
    plan = digits.plan(batch=2)
    with pytest.raises(ShapeError, match=r"this plan is for the shape \(2, 1, 8, 8\), got \(3, 1, 8, 8\)"):
        plan(np.zeros((3, 1, 8, 8), "float32"))
    with pytest.raises(DTypeError, match="takes float32, got int64"):
        plan(np.zeros((2, 1, 8, 8), np.int64))
    with pytest.raises(ArgumentError, match="'pixels' is unknown"):
        plan(pixels=1)
    with pytest.raises(ArgumentError, match="not both"):
        digits.plan(np.zeros((2, 1, 8, 8), "float32"), batch=2)
    with pytest.raises(ArgumentError, match="more free lengths than the first: \\(n, m\\)"):
        graph_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", "m"]}, {"y": None}).plan(batch=2)
    with pytest.raises(ArgumentError, match="fixes the first length of 'x' at 3"):
        graph_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [3]}, {"y": None}).plan(batch=2)

    class Mine(ndl.onnx.OnnxModule):
        def forward(self, x):
            return super().forward(x) * 2

    with pytest.raises(ArgumentError, match="Mine has a forward of its own"):
        Mine(ndl.models.pretrained_path("digits_convnet")).plan(batch=1)


def test_results_stay_and_threads_wait_for_each_other(digits, rng):
    xs = rng.normal(size=(8, 2, 1, 8, 8)).astype("float32")
    plan, found = digits.plan(batch=2), {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: [plan(xs[i]) for _ in range(20)]})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, x in enumerate(xs):
        for y in found[i]:
            assert_close(y, digits(x), 1e-6)


def test_the_report_is_a_table_in_ascii(digits):
    plan = digits.plan(batch=1)
    text = str(plan)
    assert text.isascii() and "13 ops in the model -> 7 calls" in text and "relu done inside of convolution" in text
    assert str(plan.report()) in text and plan._repr_html_().startswith("<table>")

# --- every operator ---------------------------------------------------------------------------------------------------


def plain(value):
    """Tensors, sequences and optionals as arrays, for np.testing."""
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or not hasattr(value, "dtype"):
        return value
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    return array if array.dtype.kind in "biufcO" else array.astype(np.float32)          # ml_dtypes: bfloat16, float8, int4


def shuffled(value, rng):
    """An input of the same shape with other values at each place."""
    return rng.permutation(value.reshape(-1)).reshape(value.shape) if isinstance(value, np.ndarray) else value


def runs(model, inputs) -> bool:
    with ndl.no_grad(), np.errstate(all="ignore"):
        try:
            model(*inputs)
        except NeedleError:
            return False
    return True


@pytest.mark.filterwarnings("ignore")
def test_the_plan_of_every_node_case_of_onnx_equals_the_module():
    """Made from shuffled inputs where the operator takes them, so that a value frozen into a plan shows."""
    from onnx.backend.test.case.node import collect_testcases

    rng, compared = np.random.default_rng(0), 0
    for case in collect_testcases(None):
        inputs = [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in case.data_sets[0][0]]
        try:
            model = ndl.onnx.load(case.model.SerializeToString())
        except UnsupportedOnnxError:
            continue
        if not runs(model, inputs) or any(step.op in RANDOM for step in model.steps):
            continue
        others = [shuffled(x, rng) for x in inputs]
        with np.errstate(all="ignore"), ndl.no_grad():
            plan = model.plan(*(others if runs(model, others) else inputs))
            theirs, ours = as_list(plain(model(*inputs))), as_list(plain(plan(*inputs)))
        compared += 1
        for a, b in zip(ours, theirs, strict=True):
            if getattr(b, "dtype", None) is not None and b.dtype.kind == "f":
                assert a.dtype == b.dtype, case.name
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=case.name)
            else:
                np.testing.assert_equal(a, b, err_msg=case.name)
    assert compared > 1800


def as_list(value) -> list:
    """Nested sequences flat."""
    return [part for v in value for part in as_list(v)] if isinstance(value, list) else [value]
