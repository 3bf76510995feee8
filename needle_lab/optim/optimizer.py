"""Groups of parameters, the state of each, and `step()`.

An optimizer holds parameters, or groups of them with settings of their own:
    SGD(model.parameters(), lr=0.1)        Adam([{"params": head, "lr": 1e-3}, {"params": body, "lr": 1e-4}])
Its state (momentum, moments, step count) is saved by `state_dict()` under each parameter's number.

A rule (`_update`) is written once, value by value, with in-place operators, for tensors and for arrays; how a step takes
many parameters at once, by blocks and by threads, is the business of `kernels/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import ops
from ..core.modes import enable_grad, no_grad
from ..core.tensor import Tensor
from ..core.tiers import Tiered
from ..errors import ArgumentError, StateKeyError

# What settings must be, by name, where an optimizer has them.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("lr", "weight_decay", "eps", "momentum", "lr_decay", "initial_accumulator_value", "momentum_decay",
                     "alpha", "tolerance_grad", "tolerance_change"), (0.0, float("inf"))), "rho": (0.0, 1.0),
    "beta2_decay": (-float("inf"), 0.0), "d": (1.0, float("inf")),
    **dict.fromkeys(("max_iter", "max_eval", "history_size", "ns_steps"), (1, float("inf")))}


def _plain(group: dict[str, Any]) -> None:
    """Settings that are tensors or NumPy's numbers, as Python's: rules multiply arrays by them."""
    for name, value in group.items():
        if isinstance(value, (Tensor, np.generic)) and name != "params":
            group[name] = value.item()


class Optimizer:
    """Groups of parameters, the state of each, and `step()`.  Subclasses write `_update`.  torch.optim.Optimizer.

    params: tensors, (name, tensor) pairs, or groups {"params": ..., name: setting}; defaults: settings where a group has
    none. param_groups: the list of groups, which schedules change.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise ArgumentError(f"{type(self).__name__}: parameters come in a list, or from a model, got one tensor")
        params = list(params)
        if not params:
            raise ArgumentError(f"{type(self).__name__}: there are no parameters to optimize")
        self.defaults, self.param_groups = defaults, list[dict[str, Any]]()
        self.state: dict[Tensor, dict[str, Any]] = {}
        for group in params if isinstance(params[0], dict) else [{"params": params}]:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Another group, {"params": tensors, name: setting}; what it does not say is as in `defaults`."""
        if not isinstance(group, dict) or "params" not in group:
            raise ArgumentError(f'{type(self).__name__}: a group is {{"params": tensors, ...}}, got {group!r:.60}')
        given = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
        group = {**self.defaults, **group, "params": [p[1] if isinstance(p, tuple) else p for p in given]}
        self._check(group)
        seen = set(self._parameters())
        for p in group["params"]:
            if not isinstance(p, Tensor) or p.node is not None:
                came = f"the result of {p.node.op.name}" if isinstance(p, Tensor) and p.node else type(p).__name__
                raise ArgumentError(f"{type(self).__name__}: parameters must be leaf tensors, got {came}")
            if p in seen:
                raise ArgumentError(f"{type(self).__name__}: a parameter of shape {p.shape} is given twice")
            seen.add(p)
        self.param_groups.append(group)

    def _check(self, group: dict[str, Any]) -> None:
        _plain(group)
        for name, (least, most) in RANGES.items():
            value = group.get(name)
            if name == "lr" and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ArgumentError(f"{type(self).__name__}: lr is a number, got {value!r:.60}")
            if isinstance(value, (int, float)) and not least <= value <= most:
                wrong = "must not be negative" if (least, most) == RANGES["lr"] else f"must lie in [{least}, {most}]"
                raise ArgumentError(f"{type(self).__name__}: {name}={value} {wrong}")
        for beta in group.get("betas", ()):
            if not 0 <= beta < 1:
                raise ArgumentError(f"{type(self).__name__}: betas={group['betas']} must lie in [0, 1)")

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return float(self.param_groups[0]["lr"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; set_to_none=False: they become zeros instead of None."""
        for p in self._parameters():
            p.grad = None if set_to_none or p.grad is None else ops.zeros_like(p.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient.  closure: computes the gradients first; -> what it returns."""
        loss = None if closure is None else enable_grad()(closure)()
        with no_grad():
            for group in self.param_groups:
                _plain(group)
                moments, found, maximize = self._moments(group), dict[int, list[list[Tensor]]](), group.get("maximize")
                for p in group["params"]:
                    if p.grad is not None:
                        step, tensors = self._next_step(p, -p.grad if maximize else p.grad, moments)
                        found.setdefault(step, []).append(tensors)
                for step, many in found.items():
                    self._change(many, step=step, group=group)
        return loss

    def _next_step(self, p: Tensor, g: Tensor, moments: tuple[str, ...]) -> tuple[int, list[Tensor]]:
        """(number of this step, from 1; p, its gradient and its moments)."""
        state = self.state.get(p)
        if state is None:
            state = self.state[p] = {"step": 0}
        state["step"] = step = state.get("step", 1) + 1
        tensors = [p, g]
        for name in moments:
            if name not in state:
                state[name] = self._zeros(name, p)
            tensors.append(state[name])
        return step, tensors

    def _zeros(self, name: str, p: Tensor) -> Tensor:
        """A moment before the first step."""
        return ops.zeros_like(p)

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
                     "params": [numbers[p] for p in group["params"]]} for group in self.param_groups]}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; nothing changes if it does not fit."""
        config, params = state["config"], self._parameters()
        if config["class"] != type(self).__name__:
            raise ArgumentError(f"this state was saved from {config['class']}, this optimizer is {type(self).__name__}")
        saved, own = [len(g["params"]) for g in config["groups"]], [len(g["params"]) for g in self.param_groups]
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
                    if not self._fits(name, value, p):
                        raise ArgumentError(f"{name} of parameter {number} has shape {value.shape}, "
                                            f"the parameter {p.shape}")
                restored[p][name] = value
        self.state = restored
        for group, settings in zip(self.param_groups, config["groups"], strict=True):
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k != "params"})

    def _fits(self, name: str, value: Tensor, p: Tensor) -> bool:
        """Whether a saved value can be this moment of p."""
        return value.shape == self._zeros(name, p).shape

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


def functions_of(x: Any) -> Any:
    """Where a rule finds sqrt, maximum, sign, ... for its values: NumPy for arrays, needle_lab's ops for tensors."""
    return np if isinstance(x, np.ndarray) else ops
