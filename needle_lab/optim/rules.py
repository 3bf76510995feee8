"""The rules: what a step does to a parameter.  Most work value by value; Adafactor and Muon look at whole matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import ops
from ..core.dtypes import bfloat16, float32
from ..core.tensor import Tensor
from ..core.tiers import Tiered
from ..errors import ArgumentError
from .optimizer import Optimizer, functions_of

Betas = tuple[float, float]


def _decayed(p: Any, g: Any, group: dict[str, Any]) -> Any:
    """The gradient with weight decay: that of weight_decay / 2 * p^2 is added."""
    return g + group["weight_decay"] * p if group["weight_decay"] else g


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
                 weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("SGD: nesterov=True needs momentum > 0 and dampening = 0")
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                                      nesterov=nesterov, maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    @Tiered
    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        g = _decayed(p, g, group)
        if moments:
            (v,) = moments
            v *= group["momentum"]
            v += g if step == 1 else (1 - group["dampening"]) * g        # the first gradient counts whole, as in PyTorch
            g = g + group["momentum"] * v if group["nesterov"] else v
        p -= group["lr"] * g


class Adam(Optimizer):
    """Steps scaled by running moments of the gradient (Kingma and Ba, 2015).  weight_decay adds to the gradient.

    amsgrad: scaled by the largest second moment so far (Reddi et al., 2018).  torch.optim.Adam.

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

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                                      maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    @Tiered
    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (m, v, *largest), (beta1, beta2) = moments, group["betas"]
        if group["weight_decay"] and self.decoupled:
            p *= 1 - group["lr"] * group["weight_decay"]
        elif group["weight_decay"]:
            g = g + group["weight_decay"] * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g * g
        for top in largest:                            # AMSGrad (Reddi et al., 2018): what divides the step never shrinks
            top += functions_of(v).maximum(v - top, 0.0)
            v = top
        length = v ** 0.5
        length /= math.sqrt(1 - beta2**step)
        length += group["eps"]
        p -= group["lr"] / (1 - beta1**step) * m / length


class AdamW(Adam):
    """Adam with weight decay applied to the parameter itself (Loshchilov and Hutter, 2019).  torch.optim.AdamW."""

    decoupled = True

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, whose factor grows with the steps (Dozat, 2016).  torch.optim.NAdam."""

    def __init__(self, params: Iterable[Any], lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 maximize: bool = False):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      momentum_decay=momentum_decay, decoupled_weight_decay=decoupled_weight_decay))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (m, v), lr = moments, group["lr"]
        mu = group["betas"][0] * (1 - 0.5 * 0.96 ** (np.arange(1, step + 2) * group["momentum_decay"]))
        reached, ahead, now, following = float(mu[:-1].prod()), float(mu.prod()), float(mu[-2]), float(mu[-1])
        g = _decoupled_or_added(p, g, group)
        length = _moved_moments(m, v, g, step, group)
        p -= lr * (1 - now) / (1 - reached) * g / length
        p -= lr * following / (1 - ahead) * m / length


class RAdam(Optimizer):
    """Adam, its steps scaled only once the second moment rests on enough values (Liu et al., 2020).  torch.optim.RAdam."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, decoupled_weight_decay: bool = False, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, maximize=maximize,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (m, v), (beta1, beta2) = moments, group["betas"]
        g = _decoupled_or_added(p, g, group)
        length = _moved_moments(m, v, g, step, {**group, "eps": group["eps"] / math.sqrt(1 - beta2**step)})
        most = 2 / (1 - beta2) - 1                         # how many values the second moment rests on, in the end and now
        n = most - 2 * step * beta2**step / (1 - beta2**step)
        first = group["lr"] / (1 - beta1**step) * m
        p -= first * math.sqrt((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n)) / length if n > 5 else first


def _decoupled_or_added(p: Any, g: Any, group: dict[str, Any]) -> Any:
    """Weight decay applied to p itself, as AdamW's, or added to the gradient, as Adam's; -> the gradient."""
    if not group["decoupled_weight_decay"]:
        return _decayed(p, g, group)
    p *= 1 - group["lr"] * group["weight_decay"]
    return g


def _moved_moments(m: Any, v: Any, g: Any, step: int, group: dict[str, Any]) -> Any:
    """Adam's moments moved towards g and g^2; -> sqrt of the second, without its bias, plus eps."""
    beta1, beta2 = group["betas"]
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    return (v / (1 - beta2**step)) ** 0.5 + group["eps"]


class Adamax(Optimizer):
    """Adam with the largest gradient of late in place of the second moment (Kingma and Ba, 2015).  torch.optim.Adamax."""

    def __init__(self, params: Iterable[Any], lr: float = 2e-3, betas: Betas = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_inf"

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (m, top), (beta1, beta2) = moments, group["betas"]
        g = _decayed(p, g, group)
        m *= beta1
        m += (1 - beta1) * g
        top *= beta2
        top += functions_of(top).maximum(abs(g) + group["eps"] - top, 0.0)
        p -= group["lr"] / (1 - beta1**step) * m / top


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (Duchi et al., 2011).  torch.optim.Adagrad."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
                 initial_accumulator_value: float = 0.0, eps: float = 1e-10, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps, maximize=maximize,
                                      initial_accumulator_value=initial_accumulator_value))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (total,) = moments
        g = _decayed(p, g, group)
        if step == 1:
            total += group["initial_accumulator_value"]
        total += g * g
        p -= group["lr"] / (1 + (step - 1) * group["lr_decay"]) * g / (total**0.5 + group["eps"])


class Adadelta(Optimizer):
    """Steps in the parameter's own unit: by the sizes of past steps and gradients (Zeiler, 2012).  torch.optim.Adadelta."""

    def __init__(self, params: Iterable[Any], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0.0, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "square_avg", "acc_delta"

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (squares, changes), rho = moments, group["rho"]
        g = _decayed(p, g, group)
        squares *= rho
        squares += (1 - rho) * g * g
        change = (changes + group["eps"]) ** 0.5 / (squares + group["eps"]) ** 0.5 * g
        changes *= rho
        changes += (1 - rho) * change * change
        p -= group["lr"] * change


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Hinton, 2012).  torch.optim.RMSprop.

    centered: by its standard deviation (Graves, 2013). momentum: of the divided gradients.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                                      centered=centered, maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = {"square_avg": True, "momentum_buffer": group["momentum"], "grad_avg": group["centered"]}
        return tuple(name for name, kept in names.items() if kept)

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        kept, alpha = dict(zip(self._moments(group), moments, strict=True)), group["alpha"]
        g = _decayed(p, g, group)
        square, mean, v = kept["square_avg"], kept.get("grad_avg"), kept.get("momentum_buffer")
        square *= alpha
        square += (1 - alpha) * g * g
        if mean is not None:
            mean += (1 - alpha) * (g - mean)
        g = g / ((square if mean is None else square - mean * mean) ** 0.5 + group["eps"])
        if v is not None:
            v *= group["momentum"]
            v += g
        p -= group["lr"] * (g if v is None else v)


class Rprop(Optimizer):
    """A step size for each value, which grows while its gradient keeps its sign (Riedmiller and Braun, 1993).

    etas: the factors by which it shrinks and grows; step_sizes: its limits.  torch.optim.Rprop.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50.0), *, maximize: bool = False):
        if not 0 < etas[0] < 1 < etas[1]:
            raise ArgumentError(f"Rprop: etas={etas} must be a factor below 1 and one above")
        super().__init__(params, dict(lr=lr, etas=tuple(etas), step_sizes=tuple(step_sizes), maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "prev", "step_size"

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (before, size), (shrink, grow), (least, most), f = moments, group["etas"], group["step_sizes"], functions_of(p)
        if step == 1:
            size += group["lr"]
        turned = f.sign(before) * f.sign(g)
        size *= 1 + (turned > 0) * (grow - 1) + (turned < 0) * (shrink - 1)
        size += f.clip(size, least, most) - size
        g = g * (turned >= 0)                              # where the sign has turned, this step is left out
        p -= f.sign(g) * size
        before += g - before


class ASGD(Optimizer):
    """SGD with a decaying rate, and beside it the mean of the parameters since step t0 (Polyak and Juditsky, 1992).

    The mean is state "ax".  torch.optim.ASGD.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0.0, *, maximize: bool = False):
        super().__init__(params, dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay,
                                      maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("ax",)

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (mean,), lr, lambd = moments, group["lr"], group["lambd"]
        g = _decayed(p, g, group)
        rate = lr / (1 + lambd * lr * (step - 1)) ** group["alpha"]
        p *= 1 - lambd * rate
        p -= rate * g
        mean += (p - mean) / max(1, step - 1 - group["t0"])


class Lion(Optimizer):
    """Steps of one size, in the direction of the sign of the momentum (Chen et al., 2023).  Weight decay as AdamW's."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-4, betas: Betas = (0.9, 0.99), weight_decay: float = 0.0, *,
                 maximize: bool = False):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), weight_decay=weight_decay, maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",)

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (m,), (beta1, beta2) = moments, group["betas"]
        p *= 1 - group["lr"] * group["weight_decay"]
        p -= group["lr"] * functions_of(p).sign(beta1 * m + (1 - beta1) * g)
        m *= beta2
        m += (1 - beta2) * g

# --- of matrices as a whole -------------------------------------------------------------------------------------------


class Adafactor(Optimizer):
    """Adam in little memory: of a matrix, the second moment's rows and columns alone (Shazeer and Stern, 2018).

    lr: the most that a step changes p, relative to p's own size. d: the most that an update's root mean square may be.
    State of a matrix (..., n, m): row_var (..., n, 1), col_var (..., 1, m); of a vector: row_var, all of it.
    torch.optim.Adafactor.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0, *,
                 maximize: bool = False):
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=tuple(eps), d=d, weight_decay=weight_decay,
                                      maximize=maximize))

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "row_var", "col_var"

    def _zeros(self, name: str, p: Tensor) -> Tensor:
        if p.ndim < 2:
            return ops.zeros_like(p)
        return ops.zeros_like(p[..., :1] if name == "row_var" else p[..., :1, :])

    _change = Optimizer._change.definition                 # a matrix must not come in blocks

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (rows, columns), new, (eps, least) = moments, step ** group["beta2_decay"], group["eps"]
        eps = float(np.finfo(p.dtype).eps) if eps is None else eps
        rate = max(least, _root_mean_square(p)) * min(group["lr"], 1 / math.sqrt(step))
        p *= 1 - group["lr"] * group["weight_decay"]
        square = g * g
        rows += new * ((ops.mean(square, axis=-1, keepdims=True) if p.ndim > 1 else square) - rows)
        variance = rows
        if p.ndim > 1:
            columns += new * (ops.mean(square, axis=-2, keepdims=True) - columns)
            variance = rows @ columns / ops.clip(ops.mean(rows, axis=-2, keepdims=True), min=eps)
        change = g / ops.sqrt(ops.clip(variance, min=eps * eps))
        p -= rate / max(1.0, _root_mean_square(change) / group["d"]) * change


def _root_mean_square(x: Tensor) -> float:
    return math.sqrt(ops.mean(x * x).item()) if x.numel() else 0.0


class Muon(Optimizer):
    """Momentum whose singular values are all brought near 1, for the matrices of hidden layers (Jordan et al., 2024).

    ns_steps of Newton-Schulz take the momentum's U S V^T to about U V^T, in bfloat16. Vectors, embeddings and the last
    layer belong into an AdamW. adjust_lr_fn: "original" (None), or "match_rms_adamw" for AdamW's rates (Liu et al., 2025).
    torch.optim.Muon.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
                 eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None):
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ArgumentError(f"Muon: adjust_lr_fn {adjust_lr_fn!r} is none of None, 'original', 'match_rms_adamw'")
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, eps=eps,
                                      ns_coefficients=tuple(ns_coefficients), ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn))

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if wrong := [p.shape for p in group["params"] if isinstance(p, Tensor) and p.ndim != 2]:
            raise ArgumentError(f"Muon: a parameter of shape {wrong[0]} is no matrix; give such to an AdamW")

    def _moments(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",)

    _change = Optimizer._change.definition                 # a matrix must not come in blocks

    def _update(self, p: Any, g: Any, *moments: Any, step: int, group: dict[str, Any]) -> None:
        (v,), momentum, (n, m) = moments, group["momentum"], p.shape
        v += (1 - momentum) * (g - v)
        change = orthogonalized(v - (1 - momentum) * (v - g) if group["nesterov"] else v, group)
        p *= 1 - group["lr"] * group["weight_decay"]
        p -= group["lr"] * (0.2 * math.sqrt(max(n, m)) if group["adjust_lr_fn"] == "match_rms_adamw"
                            else math.sqrt(max(1, n / m))) * change


def orthogonalized(x: Tensor, group: dict[str, Any]) -> Tensor:
    """About U V^T of x = U S V^T, by the polynomial a x + b x x^T x + c (x x^T)^2 x applied ns_steps times."""
    a, b, c = group["ns_coefficients"]
    narrow = ops.cast(x if x.shape[0] <= x.shape[1] else x.T, dtype=bfloat16)

    def rounded(total: Tensor) -> Tensor:
        return ops.cast(total, dtype=bfloat16)
    narrow = narrow / rounded(ops.clip(ops.norm(ops.cast(narrow, dtype=float32)), min=group["eps"]))
    for _ in range(group["ns_steps"]):
        gram, wide = narrow @ narrow.mT, ops.cast(narrow, dtype=float32)
        square = ops.cast(gram, dtype=float32)
        both = rounded(b * square + c * (square @ square))
        narrow = rounded(a * wide + ops.cast(both, dtype=float32) @ wide)
    y = ops.cast(narrow, dtype=x.dtype)
    return y if x.shape[0] <= x.shape[1] else y.T
