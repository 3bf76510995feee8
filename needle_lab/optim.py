"""Optimizers and learning-rate schedules.  torch.optim's names, arguments and update rules.

An optimizer holds parameters, or groups of them with settings of their own:
    SGD(model.parameters(), lr=0.1)        Adam([{"params": head, "lr": 1e-3}, {"params": body, "lr": 1e-4}])
Its state (momentum, moments, step count) is saved by `state_dict()` under each parameter's number.

A rule (`_update`) is written once, value by value, with in-place operators, for tensors and for arrays; how a step takes
many parameters at once, by blocks and by threads, is the business of `kernels/`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from . import ops
from .core.modes import no_grad
from .core.tensor import Tensor
from .core.tiers import Tiered
from .errors import ArgumentError, StateKeyError


class Optimizer:
    """Groups of parameters, the state of each, and `step()`.  Subclasses write `_update`."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        params = list(params)
        if not params:
            raise ArgumentError(f"{type(self).__name__}: there are no parameters to optimize")
        given = params if isinstance(params[0], dict) else [{"params": params}]
        self.groups = [{**defaults, **group, "params": list(group["params"])} for group in given]
        self.state: dict[Tensor, dict[str, Any]] = {}
        seen: set[Tensor] = set()
        for group in self.groups:
            self._check(group)
            for p in group["params"]:
                if not isinstance(p, Tensor) or p.node is not None:
                    came = f"the result of {p.node.op.name}" if isinstance(p, Tensor) and p.node else type(p).__name__
                    raise ArgumentError(f"{type(self).__name__}: parameters must be leaf tensors, got {came}")
                if p in seen:
                    raise ArgumentError(f"{type(self).__name__}: a parameter of shape {p.shape} is given twice")
                seen.add(p)

    def _check(self, group: dict[str, Any]) -> None:
        for name in ("lr", "weight_decay", "eps", "momentum"):
            if group.get(name, 0.0) < 0:
                raise ArgumentError(f"{type(self).__name__}: {name}={group[name]} must not be negative")
        for beta in group.get("betas", ()):
            if not 0 <= beta < 1:
                raise ArgumentError(f"{type(self).__name__}: betas={group['betas']} must lie in [0, 1)")

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return float(self.groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for group in self.groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        with no_grad():
            for group in self.groups:
                moments, found = self._moments(group), dict[int, list[list[Tensor]]]()
                for p in group["params"]:
                    if p.grad is not None:
                        step, tensors = self._next_step(p, p.grad, moments)
                        found.setdefault(step, []).append(tensors)
                for step, many in found.items():
                    self._change(many, step=step, group=group)

    def _next_step(self, p: Tensor, g: Tensor, moments: tuple[str, ...]) -> tuple[int, list[Tensor]]:
        """(number of this step, from 1; p, its gradient and its moments)."""
        state = self.state.get(p)
        if state is None:
            state = self.state[p] = {"step": 0}
        state["step"] = step = state.get("step", 1) + 1
        tensors = [p, g]
        for name in moments:
            if name not in state:
                state[name] = ops.zeros_like(p)
            tensors.append(state[name])
        return step, tensors

    @Tiered
    def _change(self, many: list[list[Tensor]], *, step: int, group: dict[str, Any]) -> None:
        """Update each parameter: many holds [p, its gradient, its moments ...]."""
        for p, *others in many:
            self._update(p.detach(), *others, step=step, group=group)            # p's memory, outside the graph

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The names of what is kept for each parameter, in its shape; zeros before the first step."""
        return ()

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        """Change p and its moments in place, in the given step (from 1); g must not change.

        Value by value: p may be a parameter, a block of one, or several side by side. Arrays or tensors.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _update")

    def state_dict(self) -> dict[str, Any]:
        """{"state": {parameter's number: {name: tensor or number}}, "config": [settings of each group]}."""
        numbers = {p: str(i) for i, p in enumerate(self._parameters())}
        return {"state": {numbers[p]: dict(values) for p, values in self.state.items()},
                "config": {"class": type(self).__name__, "groups": [
                    {**{k: v for k, v in group.items() if k != "params"},
                     "params": [numbers[p] for p in group["params"]]} for group in self.groups]}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; nothing changes if it does not fit."""
        config, params = state["config"], self._parameters()
        if config["class"] != type(self).__name__:
            raise ArgumentError(f"this state was saved from {config['class']}, this optimizer is {type(self).__name__}")
        saved, own = [len(g["params"]) for g in config["groups"]], [len(g["params"]) for g in self.groups]
        if saved != own:
            raise ArgumentError(f"this state has groups of {saved} parameters, this optimizer has {own}")
        unknown = sorted(set(state["state"]) - {str(i) for i in range(len(params))})
        if unknown:
            raise StateKeyError(f"this state names parameters {unknown}, this optimizer has 0..{len(params) - 1}")
        restored: dict[Tensor, dict[str, Any]] = {}
        for number, values in state["state"].items():
            p = params[int(number)]
            restored[p] = {}
            for name, value in values.items():
                if hasattr(value, "shape") and value.shape:
                    value = Tensor(value.numpy() if isinstance(value, Tensor) else value).clone().to(p.device)
                    if value.shape != p.shape:
                        raise ArgumentError(f"{name} of parameter {number} has shape {value.shape}, "
                                            f"the parameter {p.shape}")
                restored[p][name] = value
        self.state = restored
        for group, settings in zip(self.groups, config["groups"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k != "params"})

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.groups for p in group["params"]]


class SGD(Optimizer):
    """p <- p - lr * v, with v = g, or momentum: v <- momentum v + (1 - dampening) g (Polyak; Nesterov, 1983).

    weight_decay adds weight_decay * p to g.  torch.optim.SGD.

    >>> p = ndl.nn.Parameter([1.0])
    >>> optimizer = ndl.optim.SGD([p], lr=0.25)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> p.tolist()                      # 1 - 0.25 * 2
    [0.5]
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("SGD: nesterov=True needs momentum > 0 and dampening = 0")
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    @Tiered
    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        if moments:
            (v,) = moments
            v *= group["momentum"]
            v += g if step == 1 else (1 - group["dampening"]) * g        # the first gradient counts whole, as in PyTorch
            g = g + group["momentum"] * v if group["nesterov"] else v
        p -= group["lr"] * g


class Adam(Optimizer):
    """Steps scaled by running moments of the gradient (Kingma and Ba, 2015).  weight_decay adds to the gradient.

    torch.optim.Adam.

    >>> p = ndl.nn.Parameter([3.0])
    >>> optimizer = ndl.optim.Adam([p], lr=0.5)
    >>> for _ in range(40):
    ...     optimizer.zero_grad()
    ...     ((p - 1) ** 2).sum().backward()
    ...     optimizer.step()
    >>> abs(p.item() - 1) < 0.2
    True
    """

    decoupled = False

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    @Tiered
    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (m, v), (beta1, beta2) = moments, group["betas"]
        if group["weight_decay"]:
            if self.decoupled:
                p *= 1 - group["lr"] * group["weight_decay"]
            else:
                g = g + group["weight_decay"] * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g * g
        length = v ** 0.5
        length /= math.sqrt(1 - beta2**step)
        length += group["eps"]
        p -= group["lr"] / (1 - beta1**step) * m / length


class AdamW(Adam):
    """Adam with weight decay applied to the parameter itself (Loshchilov and Hutter, 2019).  torch.optim.AdamW."""

    decoupled = True

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


def clip_grad_norm_(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients to a common 2-norm of at most max_norm; -> the norm before.  torch.nn.utils.clip_grad_norm_."""
    gradients = [p.grad for p in params if p.grad is not None]
    with no_grad():
        total = math.sqrt(sum(float(ops.sum(g * g).item()) for g in gradients))
        scale = max_norm / (total + 1e-6)
        if scale < 1:
            for g in gradients:
                g.copy_(g * scale)
    return total


def clip_grad_value_(params: Iterable[Tensor], clip_value: float) -> None:
    """Limit every gradient value to [-clip_value, clip_value].  torch.nn.utils.clip_grad_value_."""
    with no_grad():
        for p in params:
            if p.grad is not None:
                p.grad.copy_(ops.clip(p.grad, -clip_value, clip_value))


# --- schedules: the learning rate as a function of the number of steps -------------------------------------------------


class Schedule:
    """Multiplies each group's first learning rate by `factor(step)`; call `step()` after the optimizer's."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer, self.steps = optimizer, 0
        self.base = [group["lr"] for group in optimizer.groups]
        self._apply()

    def factor(self, step: int) -> float:
        """The factor after `step` steps.  Subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} must define factor")

    def step(self) -> None:
        """Count a step and set the learning rates."""
        self.steps += 1
        self._apply()

    def _apply(self) -> None:
        for group, base in zip(self.optimizer.groups, self.base, strict=True):
            group["lr"] = base * self.factor(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on: JSON values."""
        return {"steps": self.steps, "base": list(self.base)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.steps, self.base = int(state["steps"]), [float(lr) for lr in state["base"]]
        self._apply()


class StepLR(Schedule):
    """Times gamma every step_size steps.  torch.optim.lr_scheduler.StepLR."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """gamma ** (step // step_size)."""
        return self.gamma ** (step // self.step_size)


class CosineAnnealingLR(Schedule):
    """Half a cosine from the first learning rate to final_factor times it, over T_max steps (Loshchilov, 2017).

    warmup: so many steps of linear growth come first.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, final_factor: float = 0.0, warmup: int = 0):
        self.T_max, self.final_factor, self.warmup = T_max, final_factor, warmup
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Linear while warming up, then along the cosine."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = min((step - self.warmup) / max(self.T_max - self.warmup, 1), 1.0)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * done)) / 2


class LinearWarmup(Schedule):
    """Grows linearly to the first learning rate over `warmup` steps, then stays."""

    def __init__(self, optimizer: Optimizer, warmup: int):
        self.warmup = warmup
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """(step + 1) / warmup, at most 1."""
        return min((step + 1) / self.warmup, 1.0) if self.warmup else 1.0
