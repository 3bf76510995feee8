"""Activations and dropout as layers: each is the function of that name, with its arguments as configuration."""

from __future__ import annotations

from .. import creation, ops
from ..core.tensor import Tensor
from ..core.types import DTypeLike
from . import functional as F
from .layer import layer
from .module import Module
from .parameter import Parameter

ReLU = layer("ReLU", F.relu)
ReLU6 = layer("ReLU6", F.relu6)
LeakyReLU = layer("LeakyReLU", F.leaky_relu)
RReLU = layer("RReLU", F.rrelu)
ELU = layer("ELU", F.elu)
CELU = layer("CELU", F.celu)
SELU = layer("SELU", F.selu, alpha=1.6732632423543772, gamma=1.0507009873554805)
GELU = layer("GELU", F.gelu)
SiLU = layer("SiLU", F.silu)
Mish = layer("Mish", F.mish)
GLU = layer("GLU", F.glu)
Sigmoid = layer("Sigmoid", F.sigmoid)
LogSigmoid = layer("LogSigmoid", F.logsigmoid)
Tanh = layer("Tanh", F.tanh)
Tanhshrink = layer("Tanhshrink", F.tanhshrink)
Softplus = layer("Softplus", F.softplus, later="beta threshold")
Softsign = layer("Softsign", F.softsign)
Softshrink = layer("Softshrink", F.softshrink)
Hardshrink = layer("Hardshrink", F.hardshrink)
Hardtanh = layer("Hardtanh", F.hardtanh)
Hardsigmoid = layer("Hardsigmoid", F.hardsigmoid, alpha=1 / 6, beta=0.5)
Hardswish = layer("Hardswish", F.hardswish)
Threshold = layer("Threshold", F.threshold)
Softmax = layer("Softmax", F.softmax, dtype=None)
Softmin = layer("Softmin", F.softmin, dtype=None)
LogSoftmax = layer("LogSoftmax", F.log_softmax, dtype=None)
Softmax2d = layer("Softmax2d", F.softmax, dtype=None, axis=-3)

Dropout = layer("Dropout", F.dropout)
Dropout1d = layer("Dropout1d", F.dropout1d)
Dropout2d = layer("Dropout2d", F.dropout2d)
Dropout3d = layer("Dropout3d", F.dropout3d)
AlphaDropout = layer("AlphaDropout", F.alpha_dropout)
FeatureAlphaDropout = layer("FeatureAlphaDropout", F.feature_alpha_dropout)


class PReLU(Module):
    """x where positive, weight * x elsewhere, the weight being learned (He et al., 2015).  torch.nn.PReLU.

    weight: (num_parameters,).
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: DTypeLike = "float32"):
        super().__init__()
        self.num_parameters = num_parameters
        self.weight = Parameter(creation.full((num_parameters,), init, dtype))

    def forward(self, x: Tensor) -> Tensor:
        return ops.prelu(x, self.weight)
