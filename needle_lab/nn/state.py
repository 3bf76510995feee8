"""Putting values into a module's parameters and buffers: checked as a whole, then written as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.dtypes import is_floating
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import ArgumentError, DTypeError, NeedleError, ShapeError, StateKeyError
from ..untrusted import printable
from .parameter import Buffer, Parameter, is_saved

if TYPE_CHECKING:
    from .module import Module

SHOWN = 6          # lines of a long list that an error shows


@dataclass
class LoadReport:
    """What a load did: paths that were loaded, and those that were not, with the reason."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)               # in the model, not in the state
    unexpected: list[str] = field(default_factory=list)            # in the state, not in the model
    mismatched: dict[str, str] = field(default_factory=dict)       # path -> "file (10, 64)   model (5, 64)"

    def __iter__(self) -> Iterator[list[str]]:
        """missing, unexpected = module.load_state_dict(state, strict=False), as in PyTorch."""
        return iter((self.missing, self.unexpected))

    @property
    def missing_keys(self) -> list[str]:
        """PyTorch's name for missing."""
        return self.missing

    @property
    def unexpected_keys(self) -> list[str]:
        """PyTorch's name for unexpected."""
        return self.unexpected

    @property
    def complete(self) -> bool:
        """Whether file and module have the same entries, all of which were loaded."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} loaded, {len(self.missing)} missing, {len(self.unexpected)} unexpected, "
                 f"{len(self.mismatched)} do not fit"]
        lines += [f"  {path}   missing: unchanged in the model" for path in self.missing]
        lines += [f"  {path}   unexpected: not in the model" for path in self.unexpected]
        lines += [f"  {path}   {reason}" for path, reason in self.mismatched.items()]
        return printable("\n".join(lines), lines=True)

    __repr__ = __str__


def load_into(module: Module, state: Mapping[str, Any], strict: bool) -> LoadReport:
    """`Module.load_state_dict`."""
    if not isinstance(state, Mapping):
        raise ArgumentError(f"load_state_dict: a dict of path -> tensor is needed, got {type(state).__name__}; "
                            "for a file use ndl.load_state_dict(module, path)")
    values, report, error = match(module, state)
    if strict and not report.complete:
        problems = str(report).splitlines()[1:]
        more = [f"  ... {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise error("\n".join([f"load_state_dict: {len(problems)} entries do not fit this {type(module).__name__}:",
                               *problems[:SHOWN], *more, "To load the entries that fit: strict=False"]))
    write(values)
    return report


def match(module: Module, state: Mapping[str, Any], exact_dtype: bool = False
          ) -> tuple[list[tuple[Tensor, np.ndarray]], LoadReport, type[NeedleError]]:
    """Find for each entry of the state the tensor that it belongs to.

    -> (tensor, host array) pairs that fit, the report, and the kind of error that the first misfit is. A name under
    which a shared parameter is also held counts as its first name.
    """
    for path, inside in list(module.named_modules()):
        if hasattr(inside, "complete_for"):              # a lazy layer, whose lengths the state knows
            prefix = path + "." if path else ""
            inside.complete_for({name[len(prefix):]: np.shape(value) for name, value in state.items()
                                 if name.startswith(prefix) and "." not in name[len(prefix):]})
    held: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    for path, value, first in module.walk():
        if first != path:
            shared[path] = first
        elif isinstance(value, (Parameter, Buffer)) and is_saved(value):
            held[path] = value
    report, values = LoadReport(), dict[str, np.ndarray]()
    error: type[NeedleError] = StateKeyError
    for name, value in state.items():
        path = _first_path(name, shared)
        array = (value if isinstance(value, Tensor) else Tensor(value)).numpy()
        target = held.get(path)
        if target is None:
            report.unexpected.append(name)
        elif path in values:
            if not np.array_equal(values[path], array):
                report.mismatched[name] = f"is shared with {path}, but the state gives them different values"
        elif array.shape != target.shape:
            report.mismatched[path] = f"state {array.shape}   model {target.shape}"
            error = ShapeError if error is StateKeyError else error
        elif not _convertible(array.dtype, target.dtype, exact_dtype):
            report.mismatched[path] = f"state {array.dtype}   model {target.dtype}"
            error = DTypeError if error is StateKeyError else error
        else:
            values[path] = array
            report.loaded.append(path)
    report.missing = [path for path in held if path not in values and path not in report.mismatched]
    if report.missing or report.unexpected:
        error = StateKeyError
    return [(held[path], array) for path, array in values.items()], report, error


def write(values: list[tuple[Tensor, np.ndarray]], then: Callable[[], Any] = lambda: None) -> Any:
    """Copy each array into its tensor, then call `then`; if anything fails on the way, put everything back."""
    before: list[tuple[Tensor, np.ndarray]] = []
    try:
        for tensor, array in values:
            before.append((tensor, np.array(tensor.numpy())))
            with no_grad():
                tensor.copy_(array)
        return then()
    except BaseException:                              # an interrupt in the middle is no excuse for half a model
        with no_grad():
            for tensor, array in before:
                if not np.array_equal(_bits(tensor.numpy()), _bits(array)):
                    tensor.copy_(array)
        raise


def _bits(array: np.ndarray) -> np.ndarray:
    """The bytes, so that NaN equals NaN."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def _first_path(name: str, shared: dict[str, str]) -> str:
    for path, first in shared.items():
        if name == path or str(name).startswith(path + "."):
            return _first_path(first + name[len(path):], shared)
    return name


def _convertible(given: np.dtype, wanted: np.dtype, exact: bool) -> bool:
    if exact or given == wanted:
        return given == wanted
    return is_floating(given) and is_floating(wanted) or (given.kind in "iu" and wanted.kind in "iu"
                                                          and np.can_cast(given, wanted, "safe"))
