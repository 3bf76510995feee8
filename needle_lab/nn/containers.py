"""Sequential, ModuleList and ModuleDict: modules that hold other modules under numbers or keys.

Plain lists and dicts work too; these exist for their methods, for indexing, and for names that PyTorch users know.
Layers are attributes named "0", "1", ..., so the one walk finds them like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError
from .module import Module


class _Layers(Module):
    """What Sequential and ModuleList share: a list of modules."""

    def _layers(self) -> list[Module]:
        return [value for value in vars(self).values() if isinstance(value, Module)]

    def _assign(self, layers: Iterable[Any]) -> None:
        """Hold these layers under "0", "1", ... instead of the present ones."""
        layers = list(layers)
        for i, layer in enumerate(layers):
            _check_module(self, str(i), layer)
        for name in [name for name, value in vars(self).items() if isinstance(value, Module)]:
            delattr(self, name)
        for i, layer in enumerate(layers):
            setattr(self, str(i), layer)

    def __len__(self) -> int:
        return len(self._layers())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers())

    def __getitem__(self, index: int | slice) -> Any:
        return type(self)._of(self._layers()[index]) if isinstance(index, slice) else self._layers()[self._at(index)]

    def __setitem__(self, index: int, layer: Module) -> None:
        _check_module(self, str(index), layer)
        names = [name for name, value in vars(self).items() if isinstance(value, Module)]
        setattr(self, names[self._at(index)], layer)

    def __delitem__(self, index: int | slice) -> None:
        layers = self._layers()
        del layers[index]
        self._assign(layers)

    def append(self, layer: Module) -> _Layers:
        """Add a layer at the end."""
        return self.extend([layer])

    def extend(self, layers: Iterable[Module]) -> _Layers:
        """Add layers at the end."""
        start = len(self)
        layers = list(layers)
        for i, layer in enumerate(layers):
            _check_module(self, str(start + i), layer)
        for i, layer in enumerate(layers):
            setattr(self, str(start + i), layer)
        return self

    def insert(self, index: int, layer: Module) -> _Layers:
        """Add a layer before `index`; the later ones are renumbered."""
        layers = self._layers()
        layers.insert(index, layer)
        self._assign(layers)
        return self

    @classmethod
    def _of(cls, layers: list[Module]) -> _Layers:
        raise NotImplementedError

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
                _check_module(self, name, layer)
                setattr(self, name, layer)
        else:
            self._assign(layers)

    def forward(self, x: Any) -> Any:
        for layer in self._layers():
            x = layer(x)
        return x

    @classmethod
    def _of(cls, layers: list[Module]) -> Sequential:
        return Sequential(*layers)


class ModuleList(_Layers):
    """A list of modules, to be called as its owner pleases.  torch.nn.ModuleList."""

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self._assign(modules)

    @classmethod
    def _of(cls, layers: list[Module]) -> ModuleList:
        return ModuleList(layers)


class ModuleDict(Module):
    """Modules under keys.  torch.nn.ModuleDict.  A key must not be the name of a method ("keys", "forward")."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace modules."""
        for name, module in modules.items():
            _check_module(self, name, module)
        for name, module in modules.items():
            setattr(self, name, module)

    def keys(self) -> list[str]:
        """The names, in order."""
        return [name for name, value in vars(self).items() if isinstance(value, Module)]

    def values(self) -> list[Module]:
        """The modules, in order."""
        return [value for value in vars(self).values() if isinstance(value, Module)]

    def items(self) -> list[tuple[str, Module]]:
        """(name, module) pairs, in order."""
        return list(zip(self.keys(), self.values(), strict=True))

    def pop(self, name: str) -> Module:
        """Remove a module and return it."""
        module = self[name]
        delattr(self, name)
        return module

    def __getitem__(self, name: str) -> Module:
        if name not in self.keys():
            raise KeyError(f"{name!r}; this ModuleDict has {', '.join(map(repr, self.keys())) or 'no modules'}")
        module: Module = vars(self)[name]
        return module

    def __setitem__(self, name: str, module: Module) -> None:
        self.update({name: module})

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())


def _check_module(owner: Module, name: Any, value: Any) -> None:
    kind = type(owner).__name__
    if not isinstance(name, str) or not name or "." in name:
        raise ArgumentError(f"{kind}: a key must be a text without dots, got {name!r}")
    if hasattr(type(owner), name):
        raise ArgumentError(f"{kind}: {name!r} is an attribute of {kind} itself; choose another key")
    if not isinstance(value, Module):
        advice = "use its layer (nn.ReLU() for ndl.relu), or write a Module around it" if callable(value) else \
            "only modules can be layers"
        raise ArgumentError(f"{kind}: entry {name!r} is {_called(value)}, not a Module; {advice}")


def _called(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (was it meant to be called: {value.__name__}(...)?)"
    return f"a {type(value).__name__}"
