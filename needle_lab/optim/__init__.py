"""Optimizers and learning-rate schedules.  torch.optim's names, arguments and update rules.

    optimizer       groups of parameters, the state of each, and `step()`
    rules           SGD, Adam and their kin: what a step does to a parameter, value by value, or to a matrix as a whole
    lbfgs           a method for smooth, deterministic functions, which asks for the loss again and again
    lr_scheduler    the learning rate over time
    clip            limits on gradients
"""

from ..core.explain import at_the_door as _at_the_door
from ..refused import missing as _missing
from . import lr_scheduler
from .clip import clip_grad_norm_, clip_grad_value_
from .lbfgs import LBFGS
from .lr_scheduler import CosineAnnealingLR, LinearWarmup, Schedule, StepLR
from .optimizer import Optimizer
from .rules import (
    ASGD,
    SGD,
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
)

__all__ = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "CosineAnnealingLR",
    "LBFGS",
    "LinearWarmup",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "Schedule",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
]
_at_the_door(globals(), __all__)
_at_the_door(vars(lr_scheduler), [name for name in dir(lr_scheduler) if name[0] != "_"])


def __getattr__(name: str) -> None:
    raise _missing("optim", name)
