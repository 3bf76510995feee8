"""Programs: what a trace writes down, that it computes what the module computes, and what it refuses."""

import copy
import pickle

import numpy as np
import pytest
from conftest import assert_close

import needle_lab as ndl
from needle_lab import nn, ops, program
from needle_lab.errors import ArgumentError, DTypeError, GraphError, NeedleError, ShapeError
from needle_lab.nn import functional as F
from needle_lab.program import Program, trace


def array(rng, *shape):
    return rng.normal(size=shape).astype("float32")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(4, 5)

    def forward(self, x, y):
        return F.gelu(self.a(x)) * self.b(y), [x.mean()]


MODELS = {
    "ResNet9": (lambda: ndl.models.ResNet9(), lambda rng: [array(rng, 2, 3, 32, 32)]),
    "GPT": (lambda: ndl.models.GPT(11, 8, embed_dim=16),
            lambda rng: [rng.integers(0, 11, (2, 8))]),
    "LSTM": (lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True), lambda rng: [array(rng, 4, 3, 5)]),
    "GRU": (lambda: nn.GRU(5, 7, batch_first=True), lambda rng: [array(rng, 3, 4, 5)]),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32), lambda rng: [array(rng, 2, 6, 16)]),
    "two inputs": (lambda: Two(), lambda rng: [array(rng, 2, 3), array(rng, 2, 4)]),
}


def flat(result) -> list:
    if isinstance(result, dict):
        result = list(result.values())
    return [t for part in result for t in flat(part)] if isinstance(result, (tuple, list)) else [result]


@pytest.mark.parametrize("name", MODELS)
def test_a_program_computes_what_the_module_does(name, rng):
    """The values, on others than the example's, and the gradients of the module's own parameters."""
    make, inputs = MODELS[name]
    module = make().eval()
    made = trace(module, *inputs(rng))
    xs = inputs(rng)
    ours, theirs = flat(made(*xs)), flat(module(*map(ndl.tensor, xs)))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, 1e-6)
    weights = [array(rng, *t.shape) for t in theirs]  # (t * t).sum() of a layer norm is constant: it has no gradient
    sum((t * w).sum() for t, w in zip(theirs, weights, strict=True)).backward()
    expected = {path: p.grad.numpy() for path, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    sum((t * w).sum() for t, w in zip(ours, weights, strict=True)).backward()
    assert expected and set(expected) <= set(made.parameters)
    for path, p in module.named_parameters():
        if path in expected:
            assert_close(p.grad, expected[path], 1e-5, path)


def test_it_prints_as_a_listing():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    text = str(trace(model, np.zeros((5, 1, 4, 4), "float32"), dynamic={"x": {0: "batch"}}))
    rows = [line.split("  ") for line in text.splitlines()]
    assert rows[0] == ["program(x: float32 (batch, 1, 4, 4))"]
    assert text.splitlines()[1].startswith("  %0 = convolution(x, 0.weight, 0.bias, stride=(1, 1), pads=((0, 0), (0, 0)), ")
    assert [line.split("   # ")[-1] for line in text.splitlines()[1:5]] == ["0", "1", "2", "3"]
    assert "%2 = reshape(%1, shape=(batch, 8))" in text and "float32 (batch, 3)   # 3" in text
    assert text.splitlines()[-2:] == ["  return %3", "  sizes: batch any length (tried 5, 6, 8)"]


def test_it_reads_the_live_parameters_and_buffers(rng):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), array(rng, 5, 3)
    made = trace(model, x)
    assert list(made.parameters) == ["0.weight", "0.bias", "1.running_mean", "1.running_var", "1.weight", "1.bias"]
    assert made.parameters["0.weight"] is model[0].weight
    before = made(x).numpy()
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)
    made(x).square().sum().backward()
    optimizer.step()
    assert np.abs(made(x).numpy() - before).max() > 1e-3
    assert_close(made(x), model.eval()(ndl.tensor(x)))


def test_outputs_keep_their_structure(rng):
    def function(x, y):
        return {"sum": x + y, "parts": [x, (y * 2, None)]}
    found = trace(function, array(rng, 3), array(rng, 3))(x := ndl.tensor([1.0, 2, 3]), y=x)
    assert set(found) == {"sum", "parts"} and found["parts"][1][1] is None and found["parts"][0] is x
    assert_close(found["parts"][1][0], [2.0, 4, 6])
    assert made_names(trace(lambda *xs: xs[0] + xs[1], array(rng, 3), array(rng, 3))) == ["xs0", "xs1"]


def made_names(made: Program) -> list[str]:
    return [v.name for v in made.inputs]


def test_a_detached_value_stays_cut_off(rng):
    x = ndl.tensor(array(rng, 4), requires_grad=True)
    made = trace(lambda x: (x * 3).detach() * x, array(rng, 4))
    made(x).sum().backward()
    assert_close(x.grad, 3 * x.numpy())
    assert "detach" in str(made)

# --- what leaves a trace ------------------------------------------------------------------------------------------------


def mean_as_a_number(x):
    return x - float(x.numpy().mean())


def branch(x):
    if x.sum() > 0:
        return x
    return x * -2


class Counts(nn.Module):
    def forward(self, x):
        y = nn.functional.relu(x)
        return y * y.sum().item()


def swallows(x):
    try:
        return x * x.max().item()
    except Exception:
        return x


def changes_in_place(x):
    y = x + 1
    with ndl.no_grad():
        y[0] = 5.0
    return y


LEAVES = {
    "numpy": (mean_as_a_number, r"\.numpy\(\) takes .*test_program\.py:\d+: return x - float\(x\.numpy\(\)\.mean\(\)\)"),
    "branch": (branch, r"a branch \(if.* takes .*test_program\.py:\d+: if x\.sum\(\) > 0:"),
    "item in a module": (Counts(), r"\.item\(\) takes .*: return y \* y\.sum\(\)\.item\(\)"),
    "caught by the model": (swallows, r"\.item\(\) takes"),
    "float": (lambda x: x * float(x.sum()), r"float\(\) takes"),
    "int": (lambda x: x.reshape(int(x.sum() * 0 + 4)), r"int\(\) takes"),
    "tolist": (lambda x: x + sum(x.tolist()), r"\.tolist\(\) takes"),
    "asarray": (lambda x: x + np.asarray(x), "numpy takes"),
    "of a detached value": (lambda x: x * (x + 1).detach().sum().detach().item(), r"\.item\(\) takes"),
    "a mask": (lambda x: x[x > 0], "an index takes"),
    "an index": (lambda x: x[x.argmax()], "an index takes"),
    "range": (lambda x: sum((x * i for i in range(x.argmax() + 1)), x), "an index takes"),
    "a new tensor": (lambda x: ndl.tensor(x) * x, r"takes a value"),
    "a list of values": (lambda x: ndl.tensor([x.sum(), x.mean()]), r"takes a value"),
    "in place": (changes_in_place, "a change in place"),
}


@pytest.mark.parametrize("values", [np.zeros(4), np.arange(-2.0, 2)])
@pytest.mark.parametrize("name", LEAVES)
def test_a_value_that_leaves_the_trace_is_refused_with_its_line(name, values):
    function, words = LEAVES[name]
    for door in (trace, ndl.plan):
        with pytest.raises(GraphError, match=words):
            door(function, values.astype("float32"))


def test_numbers_that_stay_true_may_leave(rng):
    """Shapes, constants, parameters; and what is only printed."""
    scale = nn.Parameter(np.float32([2.0]))

    def function(x):
        print(f"{x.sum():.3f} {x} {x!r}")
        mask = ndl.tril(ndl.ones(len(x), x.shape[0])).numpy() > 0
        return ops.where(mask, x * float(scale.item()), 0.0) * len(x) * np.asarray(ndl.arange(3)).max()
    x = array(rng, 3, 3)
    assert_close(trace(function, np.zeros((3, 3), "float32"))(x), np.tril(x) * 12)


def test_random_numbers_are_refused_and_dropout_rests():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    assert [call.name for call in trace(model, np.ones((2, 3), "float32")).calls] == ["linear"] and model.training
    with pytest.raises(GraphError, match="drew random numbers"):
        trace(model, np.ones((2, 3), "float32"), training=True)
    with pytest.raises(GraphError, match="drew random numbers"):
        trace(lambda x: x + ndl.randn(3), np.ones(3, "float32"))


def test_what_was_computed_before_is_no_part_of_it(rng):
    w = ndl.tensor(array(rng, 3), requires_grad=True)
    y = w * 2
    with pytest.raises(GraphError, match="computed before the trace began"):
        trace(lambda x: x + y, array(rng, 3))
    made, x = trace(lambda x: x * w, array(rng, 3)), array(rng, 3)
    made(x).sum().backward()
    assert_close(w.grad, x)
    held = ndl.zeros(3)

    def changes(x):                                     # what a constant was at each of its uses
        y = x + held
        held[0] = 7.0
        return y * held
    made = trace(changes, x)
    held[0] = 0.0
    assert_close(made(x), [x[0] * 7, 0, 0])


def test_arguments_that_do_not_fit(rng):
    made = trace(nn.Linear(3, 4), array(rng, 2, 3))
    integers = np.zeros((2, 3), np.int64)
    for wrong, error in (((array(rng, 3, 3),), ShapeError), ((integers,), DTypeError), ((), ArgumentError)):
        with pytest.raises(error):
            made(*wrong)
    with pytest.raises(ArgumentError, match="an example of each input"):
        trace(nn.Linear(3, 4))
    with pytest.raises(ArgumentError, match="a module or a function"):
        trace(3, array(rng, 2))
    with pytest.raises(ArgumentError, match="returned a int"):
        trace(lambda x: x.shape[0], array(rng, 2))
    with pytest.raises(ArgumentError, match="examples are tensors"):
        trace(lambda x, n: x * n, array(rng, 2), 3)


def test_the_user_s_own_op_is_in_it(rng):
    from needle_lab.core.graph import OPS, op

    @op
    def thrice_plus_one(x):
        return 3 * x + 1

    @thrice_plus_one.gradient
    def thrice_plus_one_gradient(g):
        return 3 * g
    try:
        made = trace(lambda x: thrice_plus_one(x) * 2, array(rng, 3))
        x = ndl.tensor(array(rng, 3), requires_grad=True)
        made(x).sum().backward()
        assert made.calls[0].name == "thrice_plus_one"
        assert_close(x.grad, [6.0, 6, 6])
    finally:
        OPS.pop("thrice_plus_one")

# --- lengths that vary --------------------------------------------------------------------------------------------------


def causal(x):
    n = x.shape[1]
    mask = ops.where(ndl.tril(ndl.ones(n, n)).numpy() > 0, 0.0, -np.inf)
    return F.softmax(x @ x.transpose(1, 2) * n ** -1 + mask, -1) @ x + ndl.arange(n, dtype="float32").reshape(-1, 1)


LENGTHS = {
    "batch and flatten": (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4)), [(2, 2, 4, 4)], {0: "n"}),
    "a mean's number": (lambda x: x.mean(1, keepdims=True) * x.shape[1] + x.var(0), [(4, 5)], {0: "n", 1: "m"}),
    "both lengths": (lambda x: x.reshape(x.shape[0] * x.shape[1] * 2, 3), [(4, 5, 6)], {0: "n", 1: "m"}),
    "a causal mask": (causal, [(2, 5, 3)], {0: "n", 1: "m"}),
    "half of it": (lambda x: x[:, : x.shape[1] - 2] * 2 + 1, [(3, 6)], {1: "m"}),
    "of a strided map": (lambda x: (y := F.conv1d(x, ndl.ones(2, 2, 3), stride=2)).reshape(y.shape[0], -1, 1) * y.shape[2],
                         [(2, 2, 9)], {0: "n", 2: "m"}),
    "what a kernel leaves": (lambda x: F.avg_pool2d(x, 2).reshape(len(x), -1), [(2, 3, 8, 6)], {0: "n", 2: "h"}),
    "the last step": (lambda x: x[:, x.shape[1] - 1], [(3, 6)], {1: "m"}),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_it_runs_at_other_sizes_than_the_example_s(name, rng):
    function, (shape,), axes = LENGTHS[name]
    made = trace(function, array(rng, *shape), dynamic={"x" if callable(function) else 0: axes})
    for change in (0, 1, 4, 11):
        x = array(rng, *(n + change * (i in axes) for i, n in enumerate(shape)))
        assert_close(made(x), function(ndl.tensor(x)), 1e-5)
    with pytest.raises(ShapeError, match="this program takes the shape"):
        made(array(rng, *shape, 1))


@pytest.mark.parametrize("function, words", [
    (lambda x: sum((x[i] for i in range(x.shape[0])), ndl.zeros(3)), "ran 10 and 12 and 16 ops at different sizes"),
    (lambda x: x + np.random.default_rng(0).normal(size=x.shape), "a constant of shape"),
    (lambda x: x.exp() if x.shape[0] % 2 else x.log(), "runs other ops"),
    (lambda x: x.reshape(-1)[: x.shape[0] ** 3], "no length of any of its values"),
    (lambda x: ops.cast(x, dtype="float16" if x.shape[0] == 5 else "float64"), "depending on the size"),
])
def test_lengths_that_cannot_vary_are_refused(function, words, rng):
    with pytest.raises(GraphError, match=words):
        trace(function, array(rng, 5, 3), dynamic={"x": {0: "n"}})


def test_dynamic_has_to_name_axes_of_inputs(rng):
    x = array(rng, 2, 3)
    for wrong, words in (({"y": {0: "n"}}, "the inputs are x"), ({"x": {2: "n"}}, "shape \\(2, 3\\)"), ({"x": 0}, "it is"),
                         ({"x": {0: "n", 1: "n"}}, "lengths of one name are equal")):
        with pytest.raises(ArgumentError, match=words):
            trace(lambda x: x * 1, x, dynamic=wrong)
    made = trace(lambda x, y: x + y, x, x, dynamic={"x": {0: "n"}, "y": {0: "n"}})
    with pytest.raises(ShapeError, match="n is 4 in another axis, here 5"):
        made(array(rng, 4, 3), array(rng, 5, 3))

# --- plans --------------------------------------------------------------------------------------------------------------


def test_a_plan_of_a_module_needs_no_onnx(rng):
    import subprocess
    import sys
    code = ("import sys; sys.modules['onnx'] = None\nimport numpy as np, needle_lab as ndl\n"
            "model = ndl.models.ResNet9().eval(); x = ndl.randn(2, 3, 32, 32)\n"
            "error = np.abs(ndl.plan(model, x)(x).numpy() - model(x).numpy()).max(); assert error < 1e-4, error\n"
            "assert 'needle_lab.onnx' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODELS)
def test_a_plan_equals_the_module_also_pickled_and_copied(name, rng):
    make, inputs = MODELS[name]
    module, xs = make().eval(), inputs(rng)
    made = ndl.plan(module, *inputs(rng))
    expected = flat(module(*map(ndl.tensor, xs)))
    for plan in (made, pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        for _ in range(2):
            for a, b in zip(flat(plan(*xs)), expected, strict=True):
                assert_close(a, b, 1e-5)
        assert str(plan) == str(made)


def test_a_plan_tells_when_weights_have_changed(rng):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), array(rng, 5, 3)
    made = ndl.plan(model, x)
    pickled = pickle.loads(pickle.dumps(made))
    assert not made.is_stale(model) and not pickled.is_stale(copy.deepcopy(model))
    with ndl.no_grad():
        model[0].weight.copy_(model[0].weight.detach().clone())
    assert not made.is_stale(model), "written to, but the same values"
    model(ndl.tensor(x))                                             # running statistics move
    assert made.is_stale(model) and pickled.is_stale(model)
    assert made.is_stale(nn.Linear(3, 4))
    fresh = ndl.plan(model, x)
    assert_close(fresh(x), model.eval()(ndl.tensor(x)), 1e-5)
    model[0].weight.data[0, 0] += 1                                  # past every notice
    assert fresh.is_stale(model)
    with pytest.raises(ArgumentError, match="made from a function"):
        ndl.plan(lambda x: model(x), x).is_stale(model)


def test_hooks_of_modules_do_not_run_in_a_plan(rng):
    model, x = nn.Sequential(nn.Linear(3, 4)), array(rng, 5, 3)
    before = model(ndl.tensor(x))
    with model[0].register_forward_hook(lambda module, args, output: output * 2):
        assert_close(ndl.plan(model, x)(x), before, 1e-6)
        assert_close(trace(model, x)(x), 2 * before.numpy(), 1e-6)
        assert_close(model(ndl.tensor(x)), 2 * before.numpy(), 1e-6)

# --- imported graphs ----------------------------------------------------------------------------------------------------


onnx = pytest.importorskip("onnx", reason="the ONNX room needs onnx; pip install 'needle-lab[onnx]'")

GRAPH = """
agraph (float[N] x, bool go, int64 times) => (float[N] y, float[N] z) {
    two = Constant<value_float = 2.0>()
    w = Mul(x, two)
    y = If(go) <then_branch = yes () => (float[N] a) { a = Add(w, two) },
                else_branch = no () => (float[N] b) { b = Neg(w) }>
    yes1 = Constant<value = bool {1}>()
    z = Loop(times, yes1, x) <body = body (int64 i, bool c, float[N] h) => (bool d, float[N] k) {
        d = Identity(c)
        k = Mul(h, w)
    }>
}
"""


def imported():
    text = '<ir_version: 8, opset_import: ["" : 18]>' + GRAPH
    return ndl.onnx.load(onnx.parser.parse_model(text).SerializeToString())


def test_bodies_of_control_flow_are_programs(rng):
    model, x = imported(), array(rng, 4)
    made = trace(model, x, np.array(True), np.array(2))
    by_name = {call.name: call for call in made.calls}
    assert set(by_name["If"].bodies) == {"then_branch", "else_branch"}
    assert isinstance(by_name["Loop"].bodies["body"].program, Program)
    assert "else_branch(w: ?)" in str(made) and "b = Neg(w)" in str(made)
    plan = ndl.plan(model, x, np.array(False), np.array(1))
    for go, times in ((True, 3), (False, 0)):
        leaf, other = (ndl.tensor(x, requires_grad=True) for _ in range(2))
        ours, theirs = (f(t, np.array(go), np.array(times)) for f, t in ((made, leaf), (model, other)))
        for kind in (plan, pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan), pickle.loads(pickle.dumps(made))):
            for a, b in zip(kind(x, np.array(go), np.array(times)), theirs, strict=True):
                assert_close(a, b, 1e-6)
        sum(y.sum() for y in ours).backward()
        sum(y.sum() for y in theirs).backward()
        assert_close(leaf.grad, other.grad)


def test_an_imported_graph_inside_of_a_module(rng):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.digits = ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))
            self.head = nn.Linear(10, 2)

        def forward(self, x):
            return self.head(self.digits(x))
    model, x = Around(), array(rng, 3, 1, 8, 8)
    made = trace(model, array(rng, 2, 1, 8, 8), dynamic={"x": {0: "batch"}})
    assert_close(made(x), model(ndl.tensor(x)), 1e-6)
    assert "digits.head.weight" in made.parameters
    assert_close(ndl.plan(model, x)(x), model(ndl.tensor(x)), 1e-5)

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.graph = imported()

        def forward(self, x, go):
            return self.graph(x, go, np.array(1))[0] * 2
    with pytest.raises(NeedleError, match="shape depends on the values"):
        trace(Looks(), array(rng, 4), np.array(True))


def test_an_imported_graph_at_other_sizes(rng):
    model = ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))
    made = program.trace(model, array(rng, 2, 1, 8, 8), dynamic={"image": {0: "n"}})
    x = array(rng, 7, 1, 8, 8)
    assert_close(made(x), model(x), 1e-6)
    assert str(made).splitlines()[0] == "program(image: float32 (n, 1, 8, 8))"
