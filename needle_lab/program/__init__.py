"""A model as data: `trace(module, x)` -> a Program, which prints and runs; `plan(module, x)` prepares one for inference.

>>> model = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.ReLU())
>>> print(ndl.program.trace(model, ndl.ones(2, 3)))
program(x: float32 (2, 3))
  %0 = linear(x, 0.weight, 0.bias)  float32 (2, 4)   # 0
  %1 = relu(%0)                     float32 (2, 4)   # 1
  return %1
>>> fast = ndl.plan(model, ndl.ones(2, 3))
>>> ndl.allclose(fast(ndl.ones(2, 3)), model(ndl.ones(2, 3)))
True
"""

from .plan import InferencePlan, plan
from .program import Body, Call, Program
from .record import NotRecorded, trace
from .values import Value

__all__ = ["Body", "Call", "InferencePlan", "NotRecorded", "Program", "Value", "plan", "trace"]
