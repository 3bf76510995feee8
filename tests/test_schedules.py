"""Schedules, step for step against PyTorch's: alone, several on one optimizer, one after another, saved and resumed."""

import numpy as np
import pytest
from peers import require

import needle_lab as ndl
from needle_lab.errors import ArgumentError

torch = require("torch")

CASES = [
    ("StepLR", dict(step_size=3, gamma=0.5)),
    ("MultiStepLR", dict(milestones=[2, 5, 5, 9], gamma=0.3)),
    ("ConstantLR", dict(factor=0.25, total_iters=4)), ("ConstantLR", dict(factor=1.0, total_iters=2)),
    ("LinearLR", dict(start_factor=0.1, total_iters=6)), ("LinearLR", dict(start_factor=1.0, end_factor=0.2, total_iters=3)),
    ("ExponentialLR", dict(gamma=0.8)), ("PolynomialLR", dict(total_iters=7, power=2.0)),
    ("PolynomialLR", dict(total_iters=4)),
    ("CosineAnnealingLR", dict(T_max=5)), ("CosineAnnealingLR", dict(T_max=4, eta_min=0.01)),
    ("CosineAnnealingLR", dict(T_max=1)),
    ("LambdaLR", dict(lr_lambda=lambda t: 1 / (1 + t))),
    ("LambdaLR", dict(lr_lambda=[lambda t: 0.9**t, lambda t: t])),
    ("MultiplicativeLR", dict(lr_lambda=lambda t: 0.9 + 0.01 * t)),
    ("CosineAnnealingWarmRestarts", dict(T_0=3)), ("CosineAnnealingWarmRestarts", dict(T_0=2, T_mult=3, eta_min=0.02)),
    ("CyclicLR", dict(base_lr=0.01, max_lr=0.2, step_size_up=3, step_size_down=4)),
    ("CyclicLR", dict(base_lr=[0.01, 0.02], max_lr=[0.2, 0.3], step_size_up=2, mode="triangular2")),
    ("CyclicLR", dict(base_lr=0.01, max_lr=0.2, step_size_up=4, mode="exp_range", gamma=0.9, cycle_momentum=False)),
    ("CyclicLR", dict(base_lr=0.01, max_lr=0.2, step_size_up=4, scale_fn=lambda n: 1 / n)),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=25)), ("OneCycleLR", dict(max_lr=[0.5, 0.1], epochs=5, steps_per_epoch=6)),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=25, three_phase=True, anneal_strategy="linear", pct_start=0.4)),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=30, cycle_momentum=False, div_factor=10.0)),
]


def two(kind="SGD", lrs=(0.1, 0.03)):
    """The same optimizer twice, ours and PyTorch's, in two groups."""
    made = []
    for room, tensor in ((ndl, ndl.nn.Parameter), (torch, lambda x: torch.nn.Parameter(torch.tensor(x)))):
        groups = [{"params": [tensor(np.ones(2, np.float32))], "lr": lr} for lr in lrs]
        made.append(getattr(room.optim, kind)(groups, **({"momentum": 0.9} if kind == "SGD" else {})))
    return made


def settings(optimizer):
    return [(g["lr"], g.get("momentum", 0.0), *g.get("betas", ())) for g in optimizer.param_groups]


def check(ours, theirs, mine, his, steps=25):
    for step in range(steps):
        for a, b in zip(settings(ours), settings(theirs), strict=True):
            assert a == pytest.approx(b, rel=1e-9, abs=1e-15), step
        assert mine[-1].get_last_lr() == pytest.approx(his[-1].get_last_lr(), rel=1e-9, abs=1e-15)
        ours.step(), theirs.step()
        for schedule in (*mine, *his):
            schedule.step()


def of(room, optimizer, name, options):
    return getattr(room.optim.lr_scheduler, name)(optimizer, **options)


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_schedule_agrees_with_torch(name, options, kind):
    ours, theirs = two(kind)
    check(ours, theirs, [of(ndl, ours, name, options)], [of(torch, theirs, name, options)])


@pytest.mark.parametrize("second", CASES[:9])
@pytest.mark.parametrize("first", [CASES[4], CASES[2], CASES[10], CASES[14]])
def test_two_things_that_write_one_thing_compose(first, second):
    """A warm-up and a decay on one optimizer: both happen, as in PyTorch."""
    ours, theirs = two()
    mine, his = ([of(room, o, *case) for case in (first, second)] for room, o in ((ndl, ours), (torch, theirs)))
    check(ours, theirs, list(mine), list(his))


def test_a_warm_up_and_steps_and_a_rate_set_by_hand():
    (ours, _), lrs = two(lrs=(1.0, 0.5)), []
    mine = ndl.optim.LinearWarmup(ours, 4), ndl.optim.StepLR(ours, 5, 0.1)
    for _ in range(7):
        lrs.append(ours.lr)
        [schedule.step() for schedule in mine]
    assert lrs == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.1, 0.1])
    ours.param_groups[0]["lr"] = 7.0                                       # stays, and goes on from there
    [schedule.step() for schedule in mine for _ in range(3)]
    assert ours.lr == pytest.approx(0.7)


@pytest.mark.parametrize("after", [CASES[i] for i in (0, 1, 4, 6, 7, 9, 10, 12, 16)])
@pytest.mark.parametrize("first", [CASES[i] for i in (2, 4, 6, 12)])
def test_one_after_another_agrees_with_torch(first, after):
    made = []
    for room, optimizer in zip((ndl, torch), two(), strict=True):
        parts = [of(room, optimizer, *case) for case in (first, after, ("ExponentialLR", {"gamma": 0.9}))]
        made.append((optimizer, room.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[4, 15])))
    (ours, mine), (theirs, his) = made
    check(ours, theirs, [mine], [his])


def test_chained_schedules_step_together():
    made = []
    for room, optimizer in zip((ndl, torch), two(), strict=True):
        parts = [of(room, optimizer, *CASES[4]), of(room, optimizer, *CASES[6])]
        made.append((optimizer, room.optim.lr_scheduler.ChainedScheduler(parts, optimizer)))
    (ours, mine), (theirs, his) = made
    check(ours, theirs, [mine], [his])


@pytest.mark.parametrize("options", [{}, {"mode": "max"}, {"threshold": 0.3, "threshold_mode": "abs", "patience": 0},
                                     {"patience": 2, "cooldown": 3, "factor": 0.5, "min_lr": 0.02},
                                     {"threshold": 0.2, "patience": 1},
                                     {"mode": "max", "threshold": 0.2, "patience": 1, "min_lr": [0.001, 0.02]}])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_plateau_agrees_with_torch(options, sign):
    (ours, theirs), values = two(), sign * np.random.default_rng(3).uniform(0.5, 1.5, 60)
    mine, his = of(ndl, ours, "ReduceLROnPlateau", options), of(torch, theirs, "ReduceLROnPlateau", options)
    for value in values:
        mine.step(ndl.tensor(value)), his.step(float(value))
        assert [a[0] for a in settings(ours)] == pytest.approx([b[0] for b in settings(theirs)])
        assert mine.get_last_lr() == pytest.approx(his.get_last_lr())


def test_warm_restarts_take_parts_of_epochs():
    ours, theirs = two()
    case = "CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}
    mine, his = of(ndl, ours, *case), of(torch, theirs, *case)
    for epoch in np.arange(0, 12, 0.25):
        mine.step(epoch), his.step(epoch)
        assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_what_was_saved_goes_on_as_if_never_stopped(name, options):
    straight, resumed = two()[0], two()[0]
    a, b = of(ndl, straight, name, options), of(ndl, resumed, name, options)
    for _ in range(6):
        a.step(), b.step()
    fresh = two()[0]
    c = of(ndl, fresh, name, options)
    fresh.load_state_dict(resumed.state_dict()), c.load_state_dict(b.state_dict())
    for _ in range(6):
        a.step(), c.step()
        assert settings(straight) == settings(fresh) and a.get_last_lr() == c.get_last_lr()
    again = of(ndl, fresh, name, options | {"last_epoch": 11})              # as PyTorch resumes
    assert again.last_epoch == 12


def test_mistakes_are_named():
    o, s, fresh = two()[0], ndl.optim.lr_scheduler, two()[0]
    step = s.StepLR(o, 2)
    for call, words in ((lambda: s.CosineAnnealingLR(o, 0), "T_max=0 must be above 0"),
                        (lambda: s.StepLR(o, -1), "step_size=-1"),
                        (lambda: s.StepLR([], 3), "an optimizer is needed, got list"),
                        (lambda: s.StepLR(fresh, 3, last_epoch=4), "has had none"),
                        (lambda: s.LinearLR(o, 0.0), "start_factor=0.0"), (lambda: s.OneCycleLR(o, 0.1), "total_steps"),
                        (lambda: s.CyclicLR(o, 0.1, 1, mode="square"), "'square'"),
                        (lambda: s.CyclicLR(ndl.optim.Adagrad([ndl.zeros(1)]), 0.1, 1), "Adagrad has no momentum"),
                        (lambda: s.LambdaLR(o, [abs]), "2 groups need as many values, got 1"),
                        (lambda: s.ReduceLROnPlateau(o, factor=2.0), "factor=2.0"),
                        (lambda: s.ChainedScheduler([]), "a list of schedules"),
                        (lambda: s.SequentialLR(o, [step], [3]), "0 milestones"),
                        (lambda: step.load_state_dict(s.ExponentialLR(o, 2).state_dict()), "another schedule")):
        with pytest.raises(ArgumentError, match=words):
            call()
