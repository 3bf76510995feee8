"""Layers that are a function with configuration: the class is made from the function, whose arguments are the layer's.

    LeakyReLU = layer("LeakyReLU", F.leaky_relu)                 nn.LeakyReLU(0.2)(x) is F.leaky_relu(x, negative_slope=0.2)

What follows the function's inputs is the layer's configuration: public attributes of the same names (dim for an axis), part
of its signature; tensors among it (the weights of a loss's classes) are buffers. `training` is the layer's mode.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from ..core.graph import Op
from ..core.tensor import Tensor
from ..errors import ArgumentError
from .module import Module
from .parameter import Buffer

NO_SETTINGS = ("training", "generator", "dims", "_stacklevel")


class Function(Module):
    """A function of tensors as a layer.  Its classes are made by `layer`."""

    function: Callable[..., Any]
    settings: dict[str, str]                       # attribute -> argument of the function
    later: tuple[str, ...] = ()                    # settings that signatures do not name unless they are set
    has_mode = False

    def __init__(self, *args: Any, **given: Any):
        super().__init__()
        kind, given = type(self), {"dim" if name == "axis" else name: value for name, value in given.items()}
        try:
            bound = inspect.signature(kind).bind(*args, **given)
        except TypeError as wrong:
            raise ArgumentError(f"{kind.__name__}{inspect.signature(kind)}: {wrong}") from None
        bound.apply_defaults()
        for name in self.settings:
            value = bound.arguments[name]
            if name not in self.later or isinstance(value, Tensor) or value != getattr(kind, name):
                setattr(self, name, Buffer(value) if isinstance(value, Tensor) else value)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        settings = {argument: getattr(self, name) for name, argument in self.settings.items()}
        if self.has_mode:
            settings["training"] = self.training
        return self.function(*inputs, **named, **settings)


def layer(name: str, function: Callable[..., Any], inputs: int = 1, later: str = "", keyword_only: bool = False,
          at_call: str = "", base: type[Function] = Function, **fixed: Any) -> Any:
    """The class of a function's layer: its first `inputs` arguments are the layer's inputs, the others its configuration.

    later: see Function. keyword_only: the constructor takes names only. at_call: an argument of the call, not of the layer.
    fixed: arguments that the layer settles. base: the class to derive from.
    """
    plain, in_place = list(inspect.signature(function).parameters.values()), hasattr(function, "takes_inplace")
    function = inspect.unwrap(function, stop=lambda f: isinstance(f, Op))        # a Module's call says what was wrong itself
    parameters = [p.replace(name="dim" if p.name == "axis" else p.name, annotation=p.empty,
                            kind=p.KEYWORD_ONLY if keyword_only else p.POSITIONAL_OR_KEYWORD)
                  for p in plain[inputs:] if p.name not in (*NO_SETTINGS, *fixed, at_call)]
    names = [p.name for p in plain]
    attributes: dict[str, Any] = {p.name: p.default for p in parameters if p.default is not p.empty}
    accepted = [inspect.Parameter("inplace", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False)]
    attributes |= {
        "function": staticmethod(functools.partial(function, **fixed) if fixed else function),
        "settings": {p.name: "axis" if p.name == "dim" and "axis" in names else p.name for p in parameters},
        "later": tuple(later.split()), "has_mode": "training" in names,
        "__signature__": inspect.Signature([*parameters, *(accepted if in_place else [])]),
        "__module__": sys._getframe(1).f_globals["__name__"], "__qualname__": name,
        "__doc__": (inspect.getdoc(function) or "").partition("  torch.nn")[0] + f"  torch.nn.{name}."}
    return type(name, (base,), attributes)
