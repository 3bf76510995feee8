"""Activations as layers: each is the op of that name, with its parameters as configuration."""

from __future__ import annotations

from .. import creation, ops
from ..core.tensor import Tensor
from .module import Module
from .parameter import Parameter


class ReLU(Module):
    """max(x, 0).  torch.nn.ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class ReLU6(Module):
    """x clipped to [0, 6].  torch.nn.ReLU6."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x)


class LeakyReLU(Module):
    """x where positive, negative_slope * x elsewhere.  torch.nn.LeakyReLU."""

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, negative_slope=self.negative_slope)


class PReLU(Module):
    """x where positive, weight * x elsewhere, the weight being learned (He et al., 2015).  torch.nn.PReLU.

    weight: (num_parameters,).
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(creation.full((num_parameters,), init, "float32"))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)


class ELU(Module):
    """x where positive, alpha * (exp(x) - 1) elsewhere.  torch.nn.ELU."""

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return ops.elu(x, alpha=self.alpha)


class CELU(ELU):
    """x where positive, alpha * (exp(x / alpha) - 1) elsewhere.  torch.nn.CELU."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.celu(x, alpha=self.alpha)


class SELU(Module):
    """ELU scaled so that mean 0 and variance 1 stay (Klambauer et al., 2017).  torch.nn.SELU."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.selu(x)


class GELU(Module):
    """x times the normal distribution function of x; approximate="tanh" for the approximation of GPT-2.  torch.nn.GELU."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu_tanh(x) if self.approximate == "tanh" else ops.gelu(x)


class SiLU(Module):
    """x * sigmoid(x).  torch.nn.SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class Mish(Module):
    """x * tanh(softplus(x)).  torch.nn.Mish."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mish(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)).  torch.nn.Sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class LogSigmoid(Module):
    """log(sigmoid(x)).  torch.nn.LogSigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent.  torch.nn.Tanh."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Softplus(Module):
    """log(1 + exp(x)).  torch.nn.Softplus."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softplus(x)


class Softsign(Module):
    """x / (1 + |x|).  torch.nn.Softsign."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softsign(x)


class Hardtanh(Module):
    """x clipped to [min_val, max_val].  torch.nn.Hardtanh."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0):
        super().__init__()
        self.min_val, self.max_val = min_val, max_val

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardtanh(x, self.min_val, self.max_val)


class Hardsigmoid(Module):
    """x / 6 + 1 / 2 clipped to [0, 1].  torch.nn.Hardsigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardsigmoid(x)


class Hardswish(Module):
    """x * hardsigmoid(x).  torch.nn.Hardswish."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.hardswish(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along dim.  torch.nn.Softmax."""

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, axis=self.dim)


class LogSoftmax(Softmax):
    """log(softmax(x)) along dim.  torch.nn.LogSoftmax."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.log_softmax(x, axis=self.dim)


class Dropout(Module):
    """In training, each value is 0 with probability p, else divided by 1 - p (Srivastava et al., 2014).

    torch.nn.Dropout.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.training)


class Dropout2d(Dropout):
    """In training, whole channels of (N, C, *size) are dropped.  torch.nn.Dropout2d."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.feature_dropout(x, self.p, self.training)


