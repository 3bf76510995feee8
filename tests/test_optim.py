"""Optimizers and schedules, step for step against PyTorch's."""

import numpy as np
import pytest
from conftest import assert_close
from peers import needs_torch, torch

import needle_lab as ndl
from needle_lab import optim

SETTINGS = [("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
            ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}), ("SGD", {"lr": 0.1, "momentum": 0.5, "dampening": 0.3}),
            ("Adam", {"lr": 0.01}), ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
            ("AdamW", {"lr": 0.01}), ("AdamW", {"lr": 0.01, "weight_decay": 0.3}), ("SGD", {"lr": 0.1, "maximize": True}),
            ("Adam", {"amsgrad": True}), ("AdamW", {"amsgrad": True, "maximize": True}), ("Adadelta", {}), ("Adagrad", {}),
            ("Adadelta", {"rho": 0.5, "weight_decay": 0.1, "lr": 0.3}), ("Adamax", {}), ("Adamax", {"weight_decay": 0.1}),
            ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}), ("NAdam", {}),
            ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}),
            ("RAdam", {}),
            ("RAdam", {"betas": (0.5, 0.7), "weight_decay": 0.1}), ("RMSprop", {}),
            ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}), ("Rprop", {}),
            ("RMSprop", {"centered": True, "maximize": True}), ("RMSprop", {"momentum": 0.5, "weight_decay": 0.1}),
            ("RMSprop", {"centered": True, "momentum": 0.9}),
            ("Rprop", {"etas": (0.3, 1.5), "step_sizes": (0.005, 0.02)}),
            ("ASGD", {}), ("ASGD", {"t0": 3, "lambd": 0.1, "weight_decay": 0.1}), ("Adafactor", {}),
            ("Adafactor", {"lr": 0.5, "beta2_decay": -1.0, "d": 1.5, "weight_decay": 0.1, "eps": (1e-3, 0.1)})]


def twins(rng, shapes=((3, 4), (5,))):
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    return [ndl.tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]


def set_gradients(ours, theirs, rng):
    for p, q in zip(ours, theirs, strict=True):
        g = rng.normal(size=p.shape).astype(np.float32)
        p.grad, q.grad = ndl.tensor(g), torch.tensor(g)


@needs_torch
@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_ten_steps_agree_with_torch(name, options, rng):
    ours, theirs = twins(rng)
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for _ in range(10):
        set_gradients(ours, theirs, rng)
        a.step(), b.step()
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p, q, 1e-6)


@needs_torch
@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}])
def test_muon_agrees_with_torch_in_bfloat16(options, rng):
    ours, theirs = twins(rng, [(6, 4), (3, 7)])
    a, b = optim.Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for _ in range(5):
        set_gradients(ours, theirs, rng)
        a.step(), b.step()
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p, q, 1e-4)


@needs_torch
@pytest.mark.parametrize("options", [{}, {"line_search_fn": "strong_wolfe"}, {"lr": 0.5, "max_iter": 4},
                                     {"history_size": 2, "line_search_fn": "strong_wolfe"},
                                     {"line_search_fn": "strong_wolfe", "max_eval": 3}])
def test_lbfgs_agrees_with_torch(options):
    """In float64, on Rosenbrock's valley: the same number of losses, the same places."""
    start = np.array([-1.2, 1.0, 0.5])
    ours, theirs = ndl.nn.Parameter(start.copy()), torch.nn.Parameter(torch.tensor(start))
    a, b, counts = optim.LBFGS([ours], **options), torch.optim.LBFGS([theirs], **options), [0, 0]

    def closure(optimizer, x, i):
        def loss():
            counts[i] += 1
            optimizer.zero_grad()
            value = (5 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
            value.backward()
            return value
        return loss
    for _ in range(3):
        first, second = a.step(closure(a, ours, 0)), b.step(closure(b, theirs, 1))
        assert_close(first, second, 1e-8)
        assert_close(ours, theirs, 1e-6)
        assert counts[0] == counts[1]
    again = optim.LBFGS([ours], **options)
    again.load_state_dict(a.state_dict())
    assert_close(again.state[ours]["moves"], a.state[ours]["moves"])


def test_lion_steps_by_the_sign(rng):
    p, m, g = (rng.normal(size=6) for _ in range(3))
    q = ndl.nn.Parameter(p.copy())
    optimizer = optim.Lion([q], lr=0.1, betas=(0.9, 0.8), weight_decay=0.5)
    optimizer.state[q] = {"step": 3, "exp_avg": ndl.tensor(m)}
    q.grad = ndl.tensor(g)
    optimizer.step()
    np.testing.assert_allclose(q.numpy(), p * 0.95 - 0.1 * np.sign(0.9 * m + 0.1 * g))
    np.testing.assert_allclose(optimizer.state[q]["exp_avg"].numpy(), 0.8 * m + 0.2 * g)


def test_rules_are_the_same_for_tensors_and_for_arrays(rng):
    """A step by blocks of arrays, and by the definition, which hands over tensors."""
    for name, options in SETTINGS:
        results = []
        for level in ("definition", "numpy"):
            draw = np.random.default_rng(1)
            ours = [ndl.nn.Parameter(draw.normal(size=shape).astype(np.float32)) for shape in ((3, 4), (5,))]
            optimizer = getattr(optim, name)(ours, **options)
            with ndl.use_kernels(level):
                for step in range(4):
                    for p in ours:
                        p.grad = ndl.tensor(np.random.default_rng(step).normal(size=p.shape).astype(np.float32))
                    optimizer.step()
            results.append([p.numpy() for p in ours])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6, err_msg=f"{name} {options}")


def test_what_people_of_pytorch_expect_of_an_optimizer(rng):
    p, q = ndl.nn.Parameter(np.ones(3, np.float32)), ndl.nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.SGD([("head", p)], lr=0.1)
    optimizer.add_param_group({"params": q, "lr": 0.5})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5] and optimizer.defaults["lr"] == 0.1

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum() + (q * q).sum()
        loss.backward()
        return loss
    with ndl.no_grad():
        assert optimizer.step(closure).item() == 5.0
    assert_close(p, np.full(3, 0.8, np.float32)), assert_close(q, np.zeros(2, np.float32))
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0, 0]
    for call, words in ((lambda: optim.SGD(p), "got one tensor"), (lambda: optim.Muon([p]), "no matrix"),
                        (lambda: optimizer.add_param_group({"params": p}), "given twice"),
                        (lambda: optimizer.add_param_group([q]), "a group is"),
                        (lambda: optim.LBFGS([p]).step(), "a closure"),
                        (lambda: optim.LBFGS([{"params": [p]}, {"params": [q]}]), "one group"),
                        (lambda: optim.Rprop([p], etas=(1.5, 2.0)), "etas"),
                        (lambda: optim.Adadelta([p], rho=2.0), "rho=2.0 must lie in"),
                        (lambda: optim.Adam([p], lr=float("nan")), "lr=nan"),
                        (lambda: optim.SparseAdam, "not part of needle_lab")):
        with pytest.raises(ndl.errors.NeedleError, match=words):
            call()


@needs_torch
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_clipping_in_any_norm_and_dtype(norm_type, dtype, rng):
    params = [ndl.nn.Parameter(np.zeros(2, dtype)) for _ in range(2)]
    theirs = [torch.zeros(2, dtype=torch.float64) for _ in range(2)]
    for p, q, g in zip(params, theirs, ([300.0, 400.0], [-7.0, 20.0]), strict=True):
        p.grad, q.grad = ndl.tensor(np.array(g, dtype)), torch.tensor(g, dtype=torch.float64)
    total = float(torch.nn.utils.clip_grad_norm_(theirs, 1.5, norm_type))
    assert optim.clip_grad_norm_(params, 1.5, norm_type) == pytest.approx(total, rel=1e-6)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=2e-3 if dtype == "float16" else 1e-6)


def test_float16_gradients_and_a_single_tensor_are_clipped():
    p = ndl.nn.Parameter(np.zeros(2, np.float16))
    p.grad = ndl.tensor(np.array([300, 400], np.float16))
    assert optim.clip_grad_norm_(p, 1.0) == 500.0
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-3)
    optim.clip_grad_value_(p, 0.7)
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.7], rtol=1e-3)
    p.grad = ndl.tensor(np.array([np.inf, 1], np.float16))
    with pytest.raises(ndl.errors.NeedleError, match="norm of the gradients is inf"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert optim.clip_grad_norm_([], 1.0) == 0.0


@needs_torch
def test_groups_have_their_own_settings(rng):
    ours, theirs = twins(rng)
    a = optim.SGD([{"params": ours[:1], "lr": 0.5}, {"params": ours[1:]}], lr=0.1)
    b = torch.optim.SGD([{"params": theirs[:1], "lr": 0.5}, {"params": theirs[1:]}], lr=0.1)
    set_gradients(ours, theirs, rng)
    a.step(), b.step()
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p, q)


@needs_torch
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_agrees_with_torch(max_norm, rng):
    ours, theirs = twins(rng)
    set_gradients(ours, theirs, rng)
    assert optim.clip_grad_norm_(ours, max_norm) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm)))
    for p, q in zip(ours, theirs, strict=True):
        assert_close(p.grad, q.grad)


@needs_torch
def test_schedules_agree_with_torch(rng):
    ours, theirs = twins(rng)
    a, b = optim.SGD(ours, lr=0.2), torch.optim.SGD(theirs, lr=0.2)
    for mine, his in [(optim.StepLR(a, 3, 0.5), torch.optim.lr_scheduler.StepLR(b, 3, 0.5)),
                      (optim.CosineAnnealingLR(a, 10), torch.optim.lr_scheduler.CosineAnnealingLR(b, 10))]:
        for _ in range(10):
            assert a.lr == pytest.approx(b.param_groups[0]["lr"])
            b.step(), mine.step(), his.step()
        a.param_groups[0]["lr"] = b.param_groups[0]["lr"] = 0.2


@needs_torch
def test_warmup_grows_linearly(rng):
    ours, _ = twins(rng)
    optimizer = optim.SGD(ours, lr=1.0)
    schedule, seen = optim.LinearWarmup(optimizer, 4), []
    for _ in range(6):
        seen.append(optimizer.lr)
        schedule.step()
    assert seen == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@needs_torch
@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_state_restored_continues_bit_for_bit(name, options, rng):
    straight, _ = twins(rng)
    resumed = [ndl.tensor(p.numpy(), requires_grad=True) for p in straight]
    gradients = [[ndl.tensor(rng.normal(size=p.shape).astype(np.float32)) for p in straight] for _ in range(6)]

    def run(optimizer, params, steps):
        for gs in gradients[steps]:
            for p, g in zip(params, gs, strict=True):
                p.grad = g
            optimizer.step()
    first = getattr(optim, name)(straight, **options)
    run(first, straight, slice(0, 6))
    before = getattr(optim, name)(resumed, **options)
    run(before, resumed, slice(0, 3))
    after = getattr(optim, name)(resumed, **{**options, "lr": 7.0})
    after.load_state_dict(before.state_dict())
    run(after, resumed, slice(3, 6))
    for p, q in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


@needs_torch
def test_mistakes_are_named(rng):
    ours, _ = twins(rng)
    state = optim.SGD(ours).state_dict()
    for call, words in ((lambda: optim.SGD([]), "no parameters"), (lambda: optim.SGD(ours, lr=-1.0), "negative"),
                        (lambda: optim.SGD([ours[0], ours[0]]), "given twice"),
                        (lambda: optim.SGD([ours[0] * 2.0]), "leaf tensors, got the result of mul"),
                        (lambda: optim.SGD(ours, nesterov=True), "momentum > 0"),
                        (lambda: optim.Adam(ours, betas=(1.0, 0.9)), r"betas=\(1.0, 0.9\)"),
                        (lambda: optim.Adam(ours).load_state_dict(state), "saved from SGD, this optimizer is Adam"),
                        (lambda: optim.SGD(ours[:1]).load_state_dict(state), r"groups of \[2\] parameters")):
        with pytest.raises(ndl.errors.NeedleError, match=words):
            call()


def test_leaves_that_get_the_same_gradient_get_an_array_each():
    """d(a + b) is one array for both: clipping in place must not scale it twice. Broadcast gradients can be written to."""
    a, b, seed = ndl.randn(4, requires_grad=True), ndl.randn(4, requires_grad=True), ndl.randn(4)
    (a + b).backward(seed)
    assert not any(np.shares_memory(x.numpy(), y.numpy()) for x, y in ((a.grad, b.grad), (a.grad, seed), (b.grad, seed)))
    norm = optim.clip_grad_norm_([a, b], 0.1)
    np.testing.assert_allclose(a.grad.numpy(), seed.numpy() * 0.1 / norm, rtol=1e-4)
    np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy())
    c = ndl.randn(3, 2, requires_grad=True)
    c.expand(5, 3, 2).sum().backward()
    c.grad.copy_(c.grad * 2.0)
    assert c.grad.tolist() == [[10.0] * 2] * 3


@pytest.mark.parametrize("make", [lambda p: ndl.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
                                  lambda p: ndl.optim.AdamW(p, 0.1)])
def test_blocks_and_joined_parameters_change_as_each_alone(make, rng, monkeypatch):
    """In blocks, one by one, or side by side in flat arrays; one starts later, one is float64, one is not in one piece."""
    shapes = [(9, 5), (7,), (), (0, 3), (2, 3, 4), (6,)]
    values = [rng.normal(size=shape).astype(np.float64 if i == 1 else np.float32) for i, shape in enumerate(shapes)]
    slopes = [[rng.normal(size=v.shape).astype(v.dtype) for v in values] for _ in range(3)]

    def after_three_steps():
        params = [ndl.tensor(np.array(v), requires_grad=True) for v in values]
        params[-1] = ndl.tensor(np.repeat(values[-1], 2)[::2], requires_grad=True)
        optimizer = make(params)
        for number, of_step in enumerate(slopes):
            for i, (p, slope) in enumerate(zip(params, of_step, strict=True)):
                p.grad = ndl.tensor(slope) if i != 4 or number else None
            optimizer.step()
        moments = [t.numpy() for state in optimizer.state.values() for t in state.values() if isinstance(t, ndl.Tensor)]
        return [p.numpy() for p in params] + moments
    together = after_three_steps()
    for joined, block in ((0, 1 << 17), (0, 7)):
        monkeypatch.setattr("needle_lab.kernels.numpy.optimizers.JOINED", joined)
        monkeypatch.setattr("needle_lab.kernels.numpy.optimizers.BLOCK", block)
        for a, b in zip(after_three_steps(), together, strict=True):
            np.testing.assert_array_equal(a, b)
