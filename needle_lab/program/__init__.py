"""A model as data: `trace(module, x)` -> a Program, which prints and runs; `plan(module, x)` prepares one for inference."""

from .plan import InferencePlan, plan
from .program import Body, Call, Program
from .record import NotRecorded, trace
from .values import Value

__all__ = ["Body", "Call", "InferencePlan", "NotRecorded", "Program", "Value", "plan", "trace"]
