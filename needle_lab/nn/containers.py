"""Sequential, ModuleList and ModuleDict: modules that hold other modules under numbers or keys; the same for parameters.

Plain lists and dicts work too; these exist for their methods, for indexing, and for names that PyTorch users know.
Layers are attributes named "0", "1", ..., so the one walk finds them like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.tensor import Tensor
from ..errors import ArgumentError
from .module import Module
from .parameter import Parameter


class _Held(Module):
    """What all containers share: they hold things of one kind as attributes."""

    _kind: type = Module

    def _named_items(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if isinstance(value, self._kind)}

    def _taken(self, name: Any, value: Any) -> Any:
        """What is held for a value: itself, checked."""
        _check_name(self, name)
        _check_module(self, name, value)
        return value


class _Parameters(_Held):
    """What ParameterList and ParameterDict share: a tensor that comes in becomes a Parameter."""

    _kind = Parameter

    def _taken(self, name: Any, value: Any) -> Any:
        _check_name(self, name)
        if not isinstance(value, Tensor):
            raise ArgumentError(f"{type(self).__name__}: entry {name!r} is a {type(value).__name__}, not a tensor")
        return value if isinstance(value, Parameter) else Parameter(value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise ArgumentError(f"a {type(self).__name__} is not called; use the parameters in it")


class _Layers(_Held):
    """What the lists share."""

    def _layers(self) -> list[Any]:
        return list(self._named_items().values())

    def _assign(self, layers: Iterable[Any]) -> None:
        """Hold these under "0", "1", ... instead of the present ones."""
        taken = {str(i): self._taken(str(i), layer) for i, layer in enumerate(layers)}
        for name in self._named_items():
            delattr(self, name)
        for name, layer in taken.items():
            setattr(self, name, layer)

    def __len__(self) -> int:
        return len(self._layers())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers())

    def __getitem__(self, index: int | slice) -> Any:
        kind: Any = type(self)
        return kind(self._layers()[index]) if isinstance(index, slice) else self._layers()[self._at(index)]

    def __setitem__(self, index: int, layer: Any) -> None:
        setattr(self, list(self._named_items())[self._at(index)], self._taken(str(index), layer))

    def __delitem__(self, index: int | slice) -> None:
        layers = self._layers()
        del layers[index]
        self._assign(layers)

    def append(self, layer: Any) -> _Layers:
        """Add a layer at the end."""
        return self.extend([layer])

    def extend(self, layers: Iterable[Any]) -> _Layers:
        """Add layers at the end, under the numbers that follow."""
        numbers = [int(name) for name in self._named_items() if name.isdigit()]
        start = max(len(self), 1 + max(numbers, default=-1))
        for name, layer in {str(i): self._taken(str(i), layer) for i, layer in enumerate(layers, start)}.items():
            setattr(self, name, layer)
        return self

    __iadd__ = extend

    def insert(self, index: int, layer: Any) -> _Layers:
        """Add a layer before `index`; the later ones are renumbered."""
        layers = self._layers()
        layers.insert(index, layer)
        self._assign(layers)
        return self

    def _at(self, index: int) -> int:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"layer {index} of a {type(self).__name__} that holds {count}")
        return index % count


class Sequential(_Layers):
    """Apply layers one after the other.  torch.nn.Sequential.

    Sequential(Linear(3, 4), ReLU()), or with names: Sequential({"fc": Linear(3, 4), "act": ReLU()}).

    >>> model = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.ReLU())
    >>> model
    Sequential(
      (0): Linear(in_features=3, out_features=4)
      (1): ReLU()
    )
    >>> model(ndl.ones(2, 3)).shape
    (2, 4)
    """

    def __init__(self, *layers: Any):
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                setattr(self, name, self._taken(name, layer))
        else:
            self._assign(layers)

    def forward(self, x: Any) -> Any:
        for layer in self._layers():
            x = layer(x)
        return x

    def __getitem__(self, index: int | slice) -> Any:
        """A layer, or a Sequential of some, which keep their names: weights saved from the whole load into it."""
        if not isinstance(index, slice):
            return super().__getitem__(index)
        return Sequential(dict(list(self._named_items().items())[index]))


class ModuleList(_Layers):
    """A list of modules, to be called as its owner pleases.  torch.nn.ModuleList."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self._assign(modules)


class ParameterList(_Parameters, _Layers):
    """A list of parameters under the names "0", "1", ...; tensors that come in are wrapped.  torch.nn.ParameterList."""

    def __init__(self, values: Iterable[Any] = ()):
        super().__init__()
        self._assign(values)


class ModuleDict(_Held):
    """Modules under keys.  torch.nn.ModuleDict.  A key must not be the name of a method ("keys", "forward")."""

    def __init__(self, modules: Mapping[str, Any] | None = None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Any]) -> None:
        """Add or replace entries."""
        for name, value in {name: self._taken(name, value) for name, value in modules.items()}.items():
            setattr(self, name, value)

    def keys(self) -> list[str]:
        """The names, in order."""
        return list(self._named_items())

    def values(self) -> list[Any]:
        """What is held, in order."""
        return list(self._named_items().values())

    def items(self) -> list[tuple[str, Any]]:
        """(name, entry) pairs, in order."""
        return list(self._named_items().items())

    def pop(self, name: str) -> Any:
        """Remove an entry and return it."""
        value = self[name]
        delattr(self, name)
        return value

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(f"{name!r}; this {type(self).__name__} has {', '.join(map(repr, self.keys())) or 'no entries'}")
        return vars(self)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


class ParameterDict(_Parameters, ModuleDict):
    """Parameters under keys; tensors that come in become Parameters.  torch.nn.ParameterDict."""


def _check_name(owner: Module, name: Any) -> None:
    kind = type(owner).__name__
    if not isinstance(name, str) or not name or "." in name:
        raise ArgumentError(f"{kind}: a key must be a text without dots, got {name!r}")
    if hasattr(type(owner), name):
        raise ArgumentError(f"{kind}: {name!r} is an attribute of {kind} itself; choose another key")


def _check_module(owner: Module, name: Any, value: Any) -> None:
    if not isinstance(value, Module):
        advice = "use its layer (nn.ReLU() for ndl.relu), or write a Module around it" if callable(value) else \
            "only modules can be layers"
        raise ArgumentError(f"{type(owner).__name__}: entry {name!r} is {_called(value)}, not a Module; {advice}")


def _called(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (was it meant to be called: {value.__name__}(...)?)"
    return f"a {type(value).__name__}"
