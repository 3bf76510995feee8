"""Modules: functions with state."""

from .containers import ModuleDict, ModuleList, Sequential
from .module import Buffer, Module, Parameter
from .state import LoadReport

__all__ = ["Buffer", "LoadReport", "Module", "ModuleDict", "ModuleList", "Parameter", "Sequential"]
