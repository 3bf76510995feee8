"""The engine: order, accumulation, freed graphs, in-place changes, hooks, dtypes, errors."""

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from peers import require

import needle_lab as ndl
from needle_lab.errors import ArgumentError, DTypeError, GraphError, NeedleError, ShapeError


def leaf(*values):
    return ndl.tensor(list(values) if len(values) != 1 else values[0], requires_grad=True)


def test_a_diamond_gives_four():
    a = leaf(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert c.item() == 4 and a.grad.item() == 4


def test_a_chain_of_100_000_ops():
    a = leaf(1.0)
    y = a
    for _ in range(100_000):
        y = y + a
    y.backward()
    assert a.grad.item() == 100_001
    del y                                             # letting go of it must not recurse either


def test_gradients_add_up_over_calls_and_zero_grad_forgets():
    a = leaf(2.0)
    (a * 3.0).backward()
    (a * 4.0).backward()
    assert a.grad.item() == 7
    a.grad = None
    (a * a).backward()
    assert a.grad.item() == 4


def test_second_and_third_derivative():
    x = leaf(2.0)
    first, = ndl.grad(x**4, x, create_graph=True)
    second, = ndl.grad(first, x, create_graph=True)
    third, = ndl.grad(second, x)
    assert (first.item(), second.item(), third.item()) == (32, 48, 48)


def test_grad_of_intermediate_results_and_unused_inputs():
    a, other = leaf(3.0), leaf(1.0)
    b = a * 2.0
    c = b * b
    assert ndl.grad(c, [b, a], retain_graph=True)[0].item() == 12
    with pytest.raises(GraphError, match="do not depend on input 1"):
        ndl.grad(c, [a, other], retain_graph=True)
    assert ndl.grad(c, [a, other], allow_unused=True)[1] is None
    assert a.grad is None


def test_the_graph_is_freed_by_backward_unless_retained():
    a = leaf(2.0)
    y = (a * a).exp()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(GraphError, match="retain_graph=True"):
        y.backward()


def test_backward_needs_a_scalar_or_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"shape \(2,\)"):
        (x * 2.0).backward()
    with pytest.raises(ShapeError, match=r"\(3,\)"):
        (x * 2.0).backward(ndl.ones(3))
    with pytest.raises(GraphError, match="requires_grad=True"):
        ndl.tensor([1.0]).sum().backward()
    (x * 2.0).backward(ndl.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 20.0]


def test_no_grad_and_detach():
    a = leaf(2.0)
    with ndl.no_grad():
        b = a * a
        assert not ndl.is_grad_enabled()
        with ndl.enable_grad():
            c = a * a
    assert b.node is None and not b.requires_grad and c.requires_grad
    assert (a * a).detach().node is None and np.shares_memory(a.detach().data, a.data)

    @ndl.no_grad()
    def quiet(x):
        return x * x
    assert quiet(a).node is None and ndl.is_grad_enabled()


def test_grad_mode_belongs_to_a_thread():
    seen = []
    with ndl.no_grad():
        worker = threading.Thread(target=lambda: seen.append(ndl.is_grad_enabled()))
        worker.start()
        worker.join()
    assert seen == [True]

# --- in place ---------------------------------------------------------------------------------------------------------


def test_in_place_change_of_a_value_that_backward_needs_is_noticed():
    x, w = ndl.tensor([1.0, 2.0]), leaf(3.0, 4.0)
    y = (x * w).sum()
    x[0] = 10.0
    with pytest.raises(GraphError, match="'mul': its input 0"):
        y.backward()


def test_only_writes_between_a_call_and_its_backward_matter():
    w, x, other = leaf(3.0, 4.0), ndl.tensor([1.0, 2.0]), ndl.zeros(2)
    x[0] = 5.0                                       # before the call
    y = (x * w).sum()
    other[0] = 1.0                                   # a value that was not read
    y.backward()
    x[0] = 7.0                                       # after backward
    np.testing.assert_array_equal(w.grad.numpy(), [5, 2])
    z = (x * w).sum()
    z.backward()
    np.testing.assert_array_equal(w.grad.numpy(), [12, 4])


def test_a_flag_changed_between_forward_and_backward_does_as_in_torch():
    torch = require("torch")

    def gradients(leaf, matmul):
        a, b, c = leaf(True), leaf(True), leaf(False)
        y = matmul(matmul(a, b), c).sum()
        b.requires_grad_(False)                      # frozen: it gets none
        c.requires_grad_(True)                       # too late: the call did not record that it was wanted
        y.backward()
        return [None if x.grad is None else np.asarray(x.grad) for x in (a, b, c)]
    values = np.random.default_rng(0).normal(size=(2, 2))
    ours = gradients(lambda flag: ndl.tensor(values, requires_grad=flag), ndl.matmul)
    theirs = gradients(lambda flag: torch.tensor(values, requires_grad=flag), torch.matmul)
    np.testing.assert_allclose(ours[0], theirs[0])
    assert ours[1] is None and theirs[1] is None and ours[2] is None and theirs[2] is None


def test_in_place_change_through_a_view_is_noticed():
    x, w = ndl.tensor([[1.0, 2.0]]), leaf(3.0, 4.0)
    y = (x * w).sum()
    x.reshape(2)[...] = 0.0
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


def test_in_place_change_that_no_gradient_reads_is_harmless():
    x, w = ndl.tensor([1.0, 2.0]), leaf(3.0, 4.0)
    y = (x + w).sum()
    x.zero_()
    y.backward()
    assert w.grad.tolist() == [1.0, 1.0]


def test_leaves_and_results_are_guarded():
    w = leaf(1.0, 2.0)
    for change in (lambda: w.fill_(0.0), lambda: w.__setitem__(0, 1.0), lambda: w.__iadd__(1.0),
                   lambda: (w * 2.0).fill_(0.0)):
        with pytest.raises(GraphError, match="in-place"):
            change()
    with ndl.no_grad():
        w += 1.0
        w[0] = 7.0
    assert w.tolist() == [7.0, 3.0] and w.is_leaf
    x = ndl.zeros(2)
    with pytest.raises(GraphError, match="index_put"):
        x[0] = w[0]


def test_adding_a_result_to_a_running_total():
    total, w = ndl.zeros(), leaf(3.0)
    for _ in range(3):
        total += w * 2.0
    total.backward()
    assert w.grad.item() == 6


def test_failed_writes_change_nothing():
    x = ndl.tensor([1.0, 2.0])
    for wrong in (lambda: x.copy_([1.0, 2.0, 3.0]), lambda: x.__setitem__(5, 1.0), lambda: x.__iadd__(ndl.ones(2, 2))):
        with pytest.raises(ShapeError):
            wrong()
    assert x.tolist() == [1.0, 2.0]

# --- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_see_and_replace_gradients():
    a, seen = leaf(2.0), []
    b = a * 3.0
    handle = b.register_hook(lambda g: seen.append(g.item()))
    leaf_handle = a.register_hook(lambda g: g * 10.0)
    (b * b).backward(retain_graph=True)
    assert seen == [12.0] and a.grad.item() == 360
    handle.remove(), leaf_handle.remove()
    a.grad = None
    with b.register_hook(lambda g: g * 0.0):
        (b * b).backward(retain_graph=True)
    assert a.grad.item() == 0 and seen == [12.0]
    with pytest.raises(GraphError):
        ndl.ones(1).register_hook(print)

# --- rules are checked --------------------------------------------------------------------------------------------------


def test_a_wrong_rule_is_reported():
    @ndl.op
    def half_a_rule(a, b):
        return a + b

    @half_a_rule.gradient
    def half_a_gradient(g):
        return g

    @ndl.op
    def no_rule(x):
        return x * 3

    @ndl.op
    def one_of_two(a, b):
        return a + b

    @ndl.op(gradient=lambda g: g.sum())
    def wrong_shape(x):
        return x * 1.0
    try:
        with pytest.raises(GraphError, match="returned 1 gradients for 2 inputs"):
            half_a_rule(leaf(1.0), leaf(2.0)).backward()
        with pytest.raises(GraphError, match=r"returned shape \(\) for an input of shape \(2,\)"):
            wrong_shape(leaf(1.0, 2.0)).backward(ndl.ones(2))
        with pytest.raises(GraphError, match="'no_rule'.*@no_rule.gradient.*differentiable=False"):
            (no_rule(leaf(1.0)) + leaf(2.0)).sum().backward()
        with pytest.raises(ArgumentError, match="reads 'z'"):
            no_rule.gradient(lambda g, z: g)
        with pytest.raises(ArgumentError, match="must take g"):
            no_rule.gradient(lambda x: x)
        one_of_two.gradient("a")(lambda g: g)
        one_of_two(leaf(1.0), ndl.tensor(2.0)).sum().backward()
        with pytest.raises(GraphError, match="input 'b' wants a gradient and has no rule"):
            one_of_two(leaf(1.0), leaf(2.0)).sum().backward()
        ndl.op(wrong_shape.definition)                     # a cell that runs again defines its op again
        with pytest.raises(ArgumentError, match="built in"):
            @ndl.op
            def exp(x):
                return x
    finally:
        for name in ("half_a_rule", "wrong_shape", "no_rule", "one_of_two"):
            del ndl.graph.OPS[name]

# --- dtypes -------------------------------------------------------------------------------------------------------------


def test_promotion_follows_torch():
    torch = require("torch")
    names = ["bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
    for a in names:
        for b in names:
            x, y = ndl.ones(2, dtype=a if a != "bool" else bool), ndl.ones(2, dtype=b if b != "bool" else bool)
            theirs = torch.ones(2, dtype=getattr(torch, a)) * torch.ones(2, dtype=getattr(torch, b))
            assert str((x * y).dtype) == str(theirs.dtype).removeprefix("torch."), (a, b)


def test_attributes_by_position_as_in_numpy_and_torch():
    x = ndl.arange(6, dtype="float32").reshape(2, 3)
    assert x.sum(0).tolist() == [3, 5, 7] and x.sum(1, True).shape == (2, 1) and x.argmax(1).tolist() == [2, 2]
    assert x.softmax(-1).shape == (2, 3) and ndl.roll(x, 1, -1).tolist() == [[2, 0, 1], [5, 3, 4]]
    assert x.cumsum(1).tolist() == [[0, 1, 3], [3, 7, 12]] and ndl.leaky_relu(-x, 0.5)[1, 2].item() == -2.5
    assert x.flip(0)[0, 0].item() == 3 and x.std(0, 0).shape == (3,)
    assert x.max(0).values.tolist() == x.max(axis=0).tolist() == [3, 4, 5]


def test_an_asked_for_dtype_does_not_pass_through_float32():
    assert ndl.tensor(1.3, dtype=ndl.float64).item() == 1.3


def test_python_numbers_adapt_to_the_tensor():
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        assert (ndl.ones(2, dtype=dtype) * 2.5 + 1).dtype == ndl.core.dtypes.as_dtype(dtype)
    assert (ndl.tensor([1, 2]) * 2).dtype == ndl.int64 and (ndl.tensor([1, 2]) * 0.5).dtype == ndl.float32
    assert (ndl.tensor([1, 2]) / 2).dtype == ndl.float32 and ndl.tensor([1, 2]).mean().dtype == ndl.float32
    assert ndl.tensor([True, True]).sum().item() == 2
    assert ndl.tensor(1.5).dtype == ndl.float32 and ndl.tensor(np.array(1.5)).dtype == ndl.float64


def test_gradients_have_the_dtype_of_their_tensor():
    w, x = ndl.ones(2, dtype="bfloat16", requires_grad=True), ndl.ones(2)
    (w * x).sum().backward()
    assert w.grad.dtype == ndl.bfloat16

# --- tensors as values --------------------------------------------------------------------------------------------------


def test_tensor_is_a_citizen_of_python():
    x = ndl.arange(6).reshape(2, 3)
    assert len(x) == 2 and [row.tolist() for row in x] == [[0, 1, 2], [3, 4, 5]] and x[1, 2].item() == 5
    assert float(x[0, 1]) == 1.0 and [10, 20][x[0, 1]] == 20 and f"{ndl.tensor(1.25):.1f}" == "1.2"
    assert np.asarray(x).shape == (2, 3) and (np.ones(3) * ndl.ones(3)).shape == (3,)
    twin = copy.deepcopy(leaf(1.0, 2.0))
    assert twin.requires_grad and twin.is_leaf and pickle.loads(pickle.dumps(twin)).tolist() == [1.0, 2.0]
    assert "requires_grad=True" in repr(twin) and "node=add" in repr(twin + 1.0)


def test_generators_repeat_and_resume():
    ndl.manual_seed(3)
    first, state = ndl.randn(4), ndl.get_rng_state()
    rest = ndl.rand(3)
    ndl.manual_seed(3)
    np.testing.assert_array_equal(first.numpy(), ndl.randn(4).numpy())
    ndl.set_rng_state(state)
    np.testing.assert_array_equal(rest.numpy(), ndl.rand(3).numpy())
    own = ndl.Generator(1)
    before = ndl.get_rng_state()
    ndl.randn(2, generator=own), ndl.randperm(5, generator=own), ndl.bernoulli(0.5, (3,), generator=own)
    assert ndl.get_rng_state() == before
    with pytest.raises(ArgumentError):
        ndl.set_rng_state({"state": "nonsense"})
    assert ndl.get_rng_state() == before and ndl.rand().shape == ()


@pytest.mark.parametrize(("call", "words"), [
    (lambda: ndl.ones(2, 3) @ ndl.ones(2, 3), ["matmul", "[2, 3]"]),
    (lambda: ndl.ones(2) + ndl.ones(3), ["add", "(2,)", "(3,); inputs"]),
    (lambda: ndl.ones(2, 3).sum(dim=0, axis=1), ["dim", "axis"]),
    (lambda: ndl.ones(2, 3).cumsum(), ["cumsum", "axis"]),
    (lambda: ndl.ones(2, 3).exp(0), ["exp", "0"]),
    (lambda: ndl.ones(2, 3).reshape(4), ["reshape", "(4,)"]),
    (lambda: ndl.ones(2, 3).sum(axis=2), ["axis 2"]),
    (lambda: ndl.ones(2, 3).squeeze(axis=0), ["squeeze", "length 2"]),
    (lambda: ndl.ones(2, 3)[5], ["getitem", "5"]),
    (lambda: ndl.concat([ndl.ones(2, 3), ndl.ones(2, 4)]), ["concatenate", "[2, 3]", "[2, 4]"]),
    (lambda: ndl.einsum("ij,jk->ik", ndl.ones(2, 3)), ["2 tensors", "1 came"]),
    (lambda: ndl.ones(2, 3).split([1, 2, 3]), ["add up to 6"]),
    (lambda: ndl.ones(3).gather(0, ndl.tensor([3])), ["3", "out of range"]),
    (lambda: ndl.tensor([[1.0], [1.0, 2.0]]), ["different lengths"]),
    (lambda: ndl.tensor(["a"]), ["numbers"]),
    (lambda: ndl.tensor([1], requires_grad=True), ["floating", "int64"]),
    (lambda: ndl.tensor([1.0], dtype="float33"), ["float33"]),
    (lambda: ndl.tensor([1.0], device="gpu"), ["gpu", "triton_cpu"]),
    (lambda: bool(ndl.ones(2)), ["ambiguous", ".any()"]),
    (lambda: ndl.ones(2).item(), ["(2,)"]),
    (lambda: ndl.zeros(-1), ["-1"]),
    (lambda: ndl.ones(2, 2).pad([1, 1], mode="mirror"), ["mirror", "reflect"]),
    (lambda: ndl.ones(2).topk(5), ["k=5"]),
    (lambda: ndl.dropout(ndl.ones(2), 1.5), ["1.5"]),
])
def test_mistakes_say_what_was_expected(call, words):
    with pytest.raises(NeedleError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_mode_decorates_functions_and_generators():
    x = ndl.ones(2, requires_grad=True)

    @ndl.no_grad
    def plain():
        return x * 2

    @ndl.no_grad()
    def steps():
        """Nothing is recorded in the body, and everything between its values."""
        sent = yield x * 2
        try:
            yield x * sent
        except KeyError:
            yield x * 4
        return "end"
    assert not plain().requires_grad and steps.__doc__.startswith("Nothing")
    running = steps()
    found = [next(running), running.send(3.0), running.throw(KeyError())]
    assert [y.tolist() for y in found] == [[2, 2], [3, 3], [4, 4]] and not any(y.requires_grad for y in found)
    assert (x * 2).requires_grad
    with pytest.raises(StopIteration, match="end"):
        next(running)
    with ndl.no_grad():
        @ndl.enable_grad
        def recorded():
            return x * 2
        assert recorded().requires_grad and not (x * 2).requires_grad


def test_grad_mode_is_switched_for_good_or_for_a_while():
    x = ndl.ones(2, requires_grad=True)
    with ndl.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    ndl.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    ndl.set_grad_enabled(True)
    assert (x * 2).requires_grad


def test_errors_are_also_the_builtins_a_programmer_expects():
    with pytest.raises(ValueError):
        ndl.ones(2) + ndl.ones(3)
    with pytest.raises(TypeError):
        ndl.tensor([1], requires_grad=True)
    assert issubclass(DTypeError, TypeError) and issubclass(ShapeError, ValueError)

# --- large, and small -----------------------------------------------------------------------------------------------------


def _resnet101_twins(dtype, training, rng):
    """-> output and input gradient of ours and of PyTorch's, same weights, same input."""
    torch = require("torch")
    from benchmarks import twins
    torch.manual_seed(0)
    theirs = twins.ResNet(twins.Bottleneck, (3, 4, 23, 3), 10).to(getattr(torch, dtype))
    ours = ndl.models.ResNet101(10).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    ours.train(training), theirs.train(training)
    x = rng.normal(size=(2, 3, 64, 64)).astype(dtype)
    a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    weight = rng.normal(size=y.shape).astype(dtype)
    y.backward(ndl.tensor(weight)), z.backward(torch.tensor(weight))
    return y.numpy(), z.detach().numpy(), a.grad.numpy(), b.grad.numpy()


@pytest.mark.parametrize("training", [False, True])
def test_resnet101_is_the_same_function_as_torch_s(training, rng):
    """In float64, where rounding cannot push a ReLU's input across 0."""
    y, z, dx, dz = _resnet101_twins("float64", training, rng)
    assert np.abs(y - z).max() / np.abs(z).max() < 1e-9
    assert np.abs(dx - dz).max() / np.abs(dz).max() < 1e-9


def test_resnet101_in_float32(rng):
    """The output agrees to 1e-5. In the gradient, a ReLU input that rounding moves across 0 opens or closes a path:
    PyTorch's own float32 gradient is up to 2e-3 from its float64 one, so the whole gradient is compared by its norm."""
    y, z, dx, dz = _resnet101_twins("float32", False, rng)
    assert np.abs(y - z).max() / np.abs(z).max() < 1e-5
    assert np.linalg.norm(dx - dz) / np.linalg.norm(dz) < 5e-3


def test_import_is_light():
    """`import needle_lab` loads no heavy library; the time is measured by hand, not asserted."""
    program = ("import sys, needle_lab; print([m for m in "
               "('onnx', 'torch', 'triton', 'matplotlib', 'ipywidgets', 'anywidget', 'sklearn') if m in sys.modules])")
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_nothing_equals_what_is_no_number():
    x = ndl.ones(2)
    assert (x == None) is False and (x != "abc") is True and (object() == x) is False         # noqa: E711
    assert (x == [1.0, 2.0]).tolist() == [True, False] and ndl.tensor(2.0) == pytest.approx(2.0)
