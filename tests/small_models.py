"""Small modules that hold state in every way a module can: attributes, lists, tuples, dicts, shared, buffers."""

import numpy as np

import needle_lab as ndl
from needle_lab.nn import Buffer, Module, Parameter, Sequential


def values(*shape):
    """float32 from the default generator, so that ndl.manual_seed decides."""
    return ndl.randn(*shape).numpy()


class Affine(Module):
    """x W^T + b; x: (N, in_features)."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight, self.bias = Parameter(values(out_features, in_features)), Parameter(values(out_features))

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Norm(Module):
    """Batch normalisation of features, with running statistics."""

    def __init__(self, features, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = Parameter(np.ones(features, "float32"))
        self.running_mean = Buffer(np.zeros(features, "float32"))
        self.running_var = Buffer(np.ones(features, "float32"))
        self.batches = Buffer(np.array(0))

    def forward(self, x):
        if not self.training:
            return (x - self.running_mean) / (self.running_var + self.eps).sqrt() * self.weight
        mean, var = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).mean(axis=0)
        self.running_mean = 0.9 * self.running_mean + 0.1 * mean.detach()
        self.running_var = 0.9 * self.running_var + 0.1 * var.detach()
        self.batches = self.batches + 1
        return (x - mean) / (var + self.eps).sqrt() * self.weight


class Net(Module):
    """State in an attribute, a list, a dict of tuples, and shared: (N, 3) -> (N, 2)."""

    def __init__(self, width=4):
        super().__init__()
        self.stem = Affine(3, width)
        self.blocks = [Sequential(Affine(width, width), Norm(width)) for _ in range(3)]
        self.heads = {"main": (Affine(width, 2),)}
        self.scale = Parameter(np.ones(1, "float32"))
        self.again = self.blocks[0]

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.heads["main"][0](self.again(x) * self.scale)


class Momentum:
    """The optimizer protocol with the least optimizer: state_dict() and load_state_dict()."""

    def __init__(self, parameters, lr=0.05):
        self.parameters, self.config = list(parameters), {"lr": lr, "betas": (0.9, 0.999)}
        self.velocity = {i: ndl.zeros_like(p) for i, p in enumerate(self.parameters)}

    def step(self):
        with ndl.no_grad():
            for i, p in enumerate(self.parameters):
                self.velocity[i] = 0.9 * self.velocity[i] + p.grad
                p -= self.config["lr"] * self.velocity[i]

    def state_dict(self):
        return {"state": {i: {"velocity": v} for i, v in self.velocity.items()}, "config": self.config}

    def load_state_dict(self, state):
        self.velocity = {i: entry["velocity"] for i, entry in state["state"].items()}
        self.config = state["config"]


def bits(module):
    """Everything a load could change, as bytes."""
    return {path: (str(x.dtype), x.shape, x.numpy().tobytes()) for path, x in module.state_dict().items()}
