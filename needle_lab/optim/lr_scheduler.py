"""Schedules: the learning rate over time.  torch.optim.lr_scheduler's names and numbers.

Most multiply the rate by what their `factor` has changed since the step before; so several on one optimizer compose, a
warm-up and a decay, and a rate set by hand in between stays. Others say what the rate is, whatever it was before.
Call `step()` after the optimizer's; PyTorch's `last_epoch` is the number of steps taken.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError
from .optimizer import Optimizer


class Schedule:
    """Multiplies each group's learning rate by what `factor` has changed; call `step()` after the optimizer's.

    Subclasses write `factor`.  last_epoch: steps taken before, for an optimizer whose state was loaded.
    torch.optim.lr_scheduler.LRScheduler.
    """

    least = 0.0                   # the rate where the factor is 0

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(f"{type(self).__name__}: an optimizer is needed, got {type(optimizer).__name__}")
        for group in optimizer.param_groups:
            if last_epoch >= 0 and "initial_lr" not in group:
                raise ArgumentError(f"{type(self).__name__}: last_epoch={last_epoch} continues a schedule, but the "
                                    "optimizer has had none; load its state first")
            group.setdefault("initial_lr", group["lr"])
        self.optimizer, self.last_epoch = optimizer, last_epoch + 1
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._set(self.closed if last_epoch >= 0 else self.rate)

    def factor(self, step: int) -> float:
        """The factor after `step` steps.  Subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} must define factor")

    def rate(self, i: int, lr: float, base: float) -> float:
        """The next learning rate of group i, whose rate is lr now and was base at first."""
        now, before = self.factor(self.last_epoch), self.factor(self.last_epoch - 1) if self.last_epoch else 1.0
        if now == before:
            return lr
        least = self.least
        return lr + (base - least) * now if before == 0 else least + (lr - least) * now / before

    def closed(self, i: int, lr: float, base: float) -> float:
        """The rate by the number of steps alone."""
        return self.least + (base - self.least) * self.factor(self.last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Count a step, or go to the given one, and set the learning rates."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch           # type: ignore[assignment]
        self._set(self.rate if epoch is None else self.closed)

    def _set(self, rule: Callable[[int, float, float], float]) -> None:
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=True)):
            group["lr"] = rule(i, group["lr"], base)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The learning rates that the last step set."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on: JSON values, the optimizer's present rates among them."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, (int, float, list))
                 and not (isinstance(value, list) and any(isinstance(v, Schedule) or callable(v) for v in value))}
        return {**plain, "lr": [group["lr"] for group in self.optimizer.param_groups],
                "schedules": [schedule.state_dict() for schedule in self._parts()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, and the learning rates of then."""
        if set(state) != set(own := self.state_dict()) or len(state["schedules"]) != len(own["schedules"]):
            raise ArgumentError(f"{type(self).__name__}: this state, of {sorted(state)}, is of another schedule")
        for schedule, inner in zip(self._parts(), state["schedules"], strict=True):
            schedule.load_state_dict(inner)
        vars(self).update({name: value for name, value in state.items() if name not in ("lr", "schedules")})
        for group, lr in zip(self.optimizer.param_groups, state["lr"], strict=True):
            group["lr"] = lr

    def _parts(self) -> Sequence[Schedule]:
        return ()

    def _positive(self, **settings: float | None) -> None:
        for name, value in settings.items():
            if value is not None and not value > 0:
                raise ArgumentError(f"{type(self).__name__}: {name}={value} must be above 0")


LRScheduler = Schedule

# --- by a factor ------------------------------------------------------------------------------------------------------


class StepLR(Schedule):
    """Times gamma every step_size steps.  torch.optim.lr_scheduler.StepLR."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self._positive(step_size=step_size)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """gamma ** (step // step_size)."""
        return self.gamma ** (step // self.step_size)


class MultiStepLR(Schedule):
    """Times gamma at each milestone.  torch.optim.lr_scheduler.MultiStepLR."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """gamma ** how many milestones are behind."""
        return self.gamma ** bisect.bisect_right(self.milestones, step)


class ExponentialLR(Schedule):
    """Times gamma at every step.  torch.optim.lr_scheduler.ExponentialLR."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """gamma ** step."""
        return self.gamma**step


class LinearLR(Schedule):
    """From start_factor to end_factor over total_iters steps: a warm-up.  torch.optim.lr_scheduler.LinearLR."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5,
                 last_epoch: int = -1):
        if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
            raise ArgumentError(f"{type(self).__name__}: start_factor={start_factor} and end_factor={end_factor} lie in "
                                "[0, 1], the first above 0")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """start_factor, and the share of the way to end_factor."""
        share = min(step, self.total_iters) / self.total_iters if self.total_iters else 0.0
        return self.start_factor + (self.end_factor - self.start_factor) * share


class LinearWarmup(LinearLR):
    """Grows linearly to the first learning rate over `warmup` steps, the first of which is not 0, then stays."""

    def __init__(self, optimizer: Optimizer, warmup: int, last_epoch: int = -1):
        super().__init__(optimizer, 1 / max(warmup, 1), 1.0, max(warmup - 1, 0), last_epoch)


class ConstantLR(Schedule):
    """Times factor for total_iters steps, then the whole rate.  torch.optim.lr_scheduler.ConstantLR."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1):
        if not 0 <= factor <= 1:
            raise ArgumentError(f"ConstantLR: factor={factor} must lie in [0, 1]")
        self.reduced, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """The reduced one at first, 1 from total_iters on."""
        return self.reduced if step < self.total_iters else 1.0


class PolynomialLR(Schedule):
    """(1 - step / total_iters) ** power, down to 0.  torch.optim.lr_scheduler.PolynomialLR."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1):
        self._positive(total_iters=total_iters)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """What is left of the way, to the power."""
        return (1 - min(step, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(Schedule):
    """Half a cosine from the first learning rate to eta_min over T_max steps, and back (Loshchilov and Hutter, 2017).

    torch.optim.lr_scheduler.CosineAnnealingLR.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self._positive(T_max=T_max)
        self.T_max, self.least = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """(1 + cos(pi step / T_max)) / 2."""
        return (1 + math.cos(math.pi * step / self.T_max)) / 2


class MultiplicativeLR(Schedule):
    """Times lr_lambda(step) at every step.  torch.optim.lr_scheduler.MultiplicativeLR."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1):
        self.lr_lambdas = _for_each_group("lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def rate(self, i: int, lr: float, base: float) -> float:
        """The one before, times the function's value."""
        return float(lr * self.lr_lambdas[i](self.last_epoch)) if self.last_epoch else lr

    closed = rate

# --- by the number of steps alone -------------------------------------------------------------------------------------


class LambdaLR(Schedule):
    """lr_lambda(step), one for all groups or one for each, times the first rate.  torch.optim.lr_scheduler.LambdaLR."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1):
        self.lr_lambdas = _for_each_group("lr_lambda", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def closed(self, i: int, lr: float, base: float) -> float:
        """The first rate times the function's value."""
        return float(base * self.lr_lambdas[i](self.last_epoch))

    rate = closed


class CosineAnnealingWarmRestarts(Schedule):
    """Cosines down to eta_min, the first over T_0 steps, each T_mult times as long as the one before (Loshchilov, 2017).

    step(epoch) may be given a fraction of an epoch.  torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1):
        self._positive(T_0=T_0, T_mult=T_mult)
        self.T_0, self.T_mult, self.least = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def factor(self, step: float) -> float:
        """(1 + cos(pi share)) / 2, of the present cosine."""
        length = self.T_0
        while step >= length:
            step, length = (step - length, length * self.T_mult) if self.T_mult > 1 else (step % length, length)
        return (1 + math.cos(math.pi * step / length)) / 2

    rate = Schedule.closed


class _Momentum(Schedule):
    """What CyclicLR and OneCycleLR share: they move the momentum, or Adam's beta1, against the rate."""

    cycle_momentum: bool
    base_momentums: list[float]
    max_momentums: list[float]

    def _momentum_of(self, optimizer: Optimizer, cycle: bool, base: Any, most: Any) -> None:
        if cycle and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ArgumentError(f"{type(self).__name__}: {type(optimizer).__name__} has no momentum; cycle_momentum=False")
        self.cycle_momentum = cycle
        self.base_momentums, self.max_momentums = (_for_each_group("momentum", optimizer, m) for m in (base, most))

    def _set_momentum(self, i: int, value: float) -> None:
        group = self.optimizer.param_groups[i]
        group.update({"betas": (value, *group["betas"][1:])} if "betas" in group else {"momentum": value})


class CyclicLR(_Momentum):
    """Up from base_lr to max_lr and down again, again and again (Smith, 2017).  torch.optim.lr_scheduler.CyclicLR.

    mode: "triangular", "triangular2" (each cycle half as high), "exp_range" (times gamma ** step), or scale_fn of the
    number of the cycle, or of the step with scale_mode="iterations".
    """

    def __init__(self, optimizer: Optimizer, base_lr: Any, max_lr: Any, step_size_up: int = 2000,
                 step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
                 scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle", cycle_momentum: bool = True,
                 base_momentum: Any = 0.8, max_momentum: Any = 0.9, last_epoch: int = -1):
        self._positive(step_size_up=step_size_up, step_size_down=step_size_down)
        modes: dict[str, Callable[[float], float]] = {"triangular": lambda n: 1.0, "triangular2": lambda n: 0.5 ** (n - 1),
                                                      "exp_range": lambda n: gamma**n}
        if scale_fn is None and mode not in modes:
            raise ArgumentError(f"CyclicLR: mode {mode!r} is none of {', '.join(map(repr, modes))}")
        self._momentum_of(optimizer, cycle_momentum, base_momentum, max_momentum)
        self.scale = scale_fn or modes[mode]
        self.by_cycle = scale_mode == "cycle" if scale_fn else mode != "exp_range"
        self.up, self.down, self.gamma = step_size_up, step_size_down or step_size_up, gamma
        self.max_lrs = _for_each_group("max_lr", optimizer, max_lr)
        for group, lr in zip(optimizer.param_groups, _for_each_group("base_lr", optimizer, base_lr), strict=True):
            group["initial_lr"] = lr if last_epoch < 0 else group["initial_lr"]
        super().__init__(optimizer, last_epoch)

    def closed(self, i: int, lr: float, base: float) -> float:
        """base_lr, and the height of the triangle at this step."""
        cycle, at = divmod(self.last_epoch, self.up + self.down)
        height = at / self.up if at <= self.up else (self.up + self.down - at) / self.down
        height *= self.scale(cycle + 1 if self.by_cycle else self.last_epoch)
        if self.cycle_momentum:
            most = self.max_momentums[i]
            self._set_momentum(i, most - (most - self.base_momentums[i]) * height)
        return base + (float(self.max_lrs[i]) - base) * height

    rate = closed


class OneCycleLR(_Momentum):
    """Up to max_lr, then down far below the first rate, max_lr / div_factor, once (Smith and Topin, 2018).

    total_steps, or epochs and steps_per_epoch. three_phase: down to the first rate in as many steps as up, then further.
    torch.optim.lr_scheduler.OneCycleLR.
    """

    def __init__(self, optimizer: Optimizer, max_lr: Any, total_steps: int | None = None, epochs: int | None = None,
                 steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
                 cycle_momentum: bool = True, base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
                 final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1):
        self._positive(total_steps=total_steps, epochs=epochs, steps_per_epoch=steps_per_epoch)
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise ArgumentError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
        if not 0 <= pct_start <= 1 or anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"OneCycleLR: pct_start={pct_start} must lie in [0, 1], and anneal_strategy="
                                f"{anneal_strategy!r} be 'cos' or 'linear'")
        self._momentum_of(optimizer, cycle_momentum, base_momentum, max_momentum)
        self.total_steps = total_steps or (epochs or 0) * (steps_per_epoch or 0)
        self.linear, self.div_factor = anneal_strategy == "linear", div_factor
        up, first, last = pct_start * self.total_steps, 1 / div_factor, 1 / div_factor / final_div_factor
        # Where each phase ends; the rate from and to, as shares of max_lr; the momentum from and to: 1 is max_momentum.
        self.phases = ([[up - 1, first, 1.0, 1.0, 0.0], [2 * up - 2, 1.0, first, 0.0, 1.0],
                        [self.total_steps - 1, first, last, 1.0, 1.0]] if three_phase else
                       [[up - 1, first, 1.0, 1.0, 0.0], [self.total_steps - 1, 1.0, last, 0.0, 1.0]])
        self.max_lrs = _for_each_group("max_lr", optimizer, max_lr)
        for group, lr in zip(optimizer.param_groups, self.max_lrs, strict=True):
            group["initial_lr"] = lr / div_factor
        super().__init__(optimizer, last_epoch)

    def closed(self, i: int, lr: float, base: float) -> float:
        """Along the phase in which this step lies."""
        if self.last_epoch > self.total_steps:
            raise ArgumentError(f"OneCycleLR: step {self.last_epoch} of {self.total_steps}; say how many there are")
        number = min(sum(self.last_epoch > end for end, *_ in self.phases), len(self.phases) - 1)
        start, (end, a, b, c, d) = self.phases[number - 1][0] if number else 0.0, self.phases[number]
        share = (self.last_epoch - start) / (end - start)
        share = share if self.linear else (1 - math.cos(math.pi * share)) / 2
        if self.cycle_momentum:
            least, most = self.base_momentums[i], self.max_momentums[i]
            self._set_momentum(i, least + (most - least) * (c + (d - c) * share))
        return float(self.max_lrs[i]) * (a + (b - a) * share)

    rate = closed

# --- by what happens --------------------------------------------------------------------------------------------------


class ReduceLROnPlateau(Schedule):
    """Times factor when step(metric) has seen nothing better for more than patience steps.

    mode: "min" or "max", which is better. threshold: by how much, a share ("rel") or a number ("abs"), to count. cooldown:
    steps after a reduction that do not count. torch.optim.lr_scheduler.ReduceLROnPlateau.
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0.0,
                 eps: float = 1e-8):
        if not 0 <= factor < 1 or mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(f"ReduceLROnPlateau: factor={factor} must be below 1, mode={mode!r} 'min' or 'max', "
                                f"threshold_mode={threshold_mode!r} 'rel' or 'abs'")
        self.reduction, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.sign, self.threshold, self.relative = 1.0 if mode == "min" else -1.0, threshold, threshold_mode == "rel"
        self.min_lrs = _for_each_group("min_lr", optimizer, min_lr)
        self.best, self.num_bad_epochs, self.cooldown_counter = self.sign * math.inf, 0, 0
        super().__init__(optimizer)

    def rate(self, i: int, lr: float, base: float) -> float:
        """As it is."""
        return lr

    def step(self, metrics: Any, epoch: None = None) -> None:     # type: ignore[override]
        """Look at the metric, a number or a tensor with one value, and reduce the rates if it is time."""
        value, best = float(metrics), self.best
        margin = self.threshold * (best if self.relative else self.sign) if math.isfinite(best) else 0.0
        self.last_epoch += 1
        if self.sign * value < self.sign * best - self.sign * margin * (self.sign if self.relative else 1):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            self._set(self._reduced)
        self._set(self.rate)

    def _reduced(self, i: int, lr: float, base: float) -> float:
        new = max(lr * self.reduction, float(self.min_lrs[i]))
        return new if lr - new > self.eps else lr

# --- of several -------------------------------------------------------------------------------------------------------


class ChainedScheduler(Schedule):
    """Several schedules that step together.  torch.optim.lr_scheduler.ChainedScheduler."""

    def __init__(self, schedulers: Sequence[Schedule], optimizer: Optimizer | None = None):
        self.schedulers = _of_one_optimizer(self, schedulers, optimizer)
        self.optimizer, self.last_epoch = self.schedulers[0].optimizer, 0
        self._last_lr = self.schedulers[-1].get_last_lr()

    def step(self, epoch: float | None = None) -> None:
        """Step each."""
        self.last_epoch += 1
        for schedule in self.schedulers:
            schedule.step(epoch)
        self._last_lr = self.schedulers[-1].get_last_lr()

    def _parts(self) -> Sequence[Schedule]:
        return self.schedulers


class SequentialLR(Schedule):
    """One schedule after another: each begins at its milestone, as at step 0.  torch.optim.lr_scheduler.SequentialLR."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int],
                 last_epoch: int = -1):
        self.schedulers, self.milestones = _of_one_optimizer(self, schedulers, optimizer), list(milestones)
        if len(self.milestones) != len(self.schedulers) - 1:
            raise ArgumentError(f"SequentialLR: {len(self.schedulers)} schedules need {len(self.schedulers) - 1} "
                                f"milestones, got {len(self.milestones)}")
        self.optimizer, self.last_epoch = optimizer, last_epoch + 1
        for group in optimizer.param_groups:               # the others have set their first rates already
            group["lr"] = group["initial_lr"]
        self._enter(0)

    def _enter(self, at: int | None) -> None:
        schedule = self.schedulers[bisect.bisect_right(self.milestones, self.last_epoch)]
        schedule.step(at)
        self._last_lr = schedule.get_last_lr()

    def step(self, epoch: float | None = None) -> None:
        """Step the schedule whose turn it is."""
        self.last_epoch += 1
        self._enter(0 if self.last_epoch in self.milestones else None)

    def _parts(self) -> Sequence[Schedule]:
        return self.schedulers


def _of_one_optimizer(owner: Schedule, schedulers: Sequence[Schedule], optimizer: Optimizer | None) -> list[Schedule]:
    found = list(schedulers)
    if not found or any(not isinstance(s, Schedule) or s.optimizer is not (optimizer or found[0].optimizer)
                        or isinstance(s, ReduceLROnPlateau) for s in found):
        raise ArgumentError(f"{type(owner).__name__}: a list of schedules of one optimizer is needed, none of which waits "
                            "for a metric")
    return found


def _for_each_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value for every group, or a list with one for each."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(optimizer.param_groups)
    if len(values) != len(optimizer.param_groups):
        raise ArgumentError(f"{name}: {len(optimizer.param_groups)} groups need as many values, got {len(values)}")
    return values
