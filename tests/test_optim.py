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
            ("AdamW", {"lr": 0.01}), ("AdamW", {"lr": 0.01, "weight_decay": 0.3})]


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
        a.groups[0]["lr"] = b.param_groups[0]["lr"] = 0.2


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
