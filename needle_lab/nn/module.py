"""Module: a function with state, and the one walk from which everything known about it derives.

    Parameter   a tensor that is trained
    Buffer      a tensor that is state but is not trained (BatchNorm's running mean)
    Module      holds parameters, buffers, other modules, and lists, tuples or dicts of them, in plain attributes

Assigning to an attribute is all the registration there is. `Module.walk()` visits what is held, in order of
assignment; parameters, buffers, state dict, signature, printing, summary and widgets are all read off that walk, so
they cannot disagree: what is trained is saved, and what the signature promises is in the file.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import ops
from ..core.device import Device, as_device
from ..core.dtypes import as_dtype, is_floating
from ..core.explain import RAW, explained, explaining, is_ours
from ..core.storage import written
from ..core.tensor import HookHandle, Tensor
from ..errors import ArgumentError, DTypeError, NeedleError
from ..untrusted import printable
from . import hooks
from .parameter import Buffer, Parameter, is_saved
from .signature import configuration, signature
from .state import LoadReport, load_into
from .summary import summary

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


class Entry(NamedTuple):
    """One stop of the walk."""

    path: str          # "blocks.3.conv.weight"; "" is the module that was asked
    value: Any         # a Module, Parameter or Buffer, or a list, tuple or dict that holds some
    first: str         # where the walk met the same object first; equals path unless it is shared


class Module:
    """A function with state.  Subclass it, assign parameters and layers to attributes, write `forward`.

    Calling `super().__init__()` is good style; forgetting it does no harm, because a module keeps no register.
    Public attributes with plain values (stride=2, eps=1e-5) are its configuration, part of its signature; a plain
    value that is no configuration (a step counter) belongs in an attribute that starts with an underscore.

    >>> class Scale(ndl.nn.Module):
    ...     def __init__(self, factor):
    ...         super().__init__()
    ...         self.weight = ndl.nn.Parameter([factor])
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> scale = Scale(3.0)
    >>> scale(ndl.ones(2))
    tensor([3., 3.], node=mul)
    >>> scale.state_dict()
    {'weight': tensor([3.])}
    """

    training = True
    _hooks: dict[str, dict[int, Callable[..., Any]]] | None = None         # of this module, once one was registered

    def __init__(self) -> None:
        pass

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward; define `def forward(self, x): ...` in it")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward` and the hooks around it.  `input=` is PyTorch's name for forward's first argument."""
        if "input" in kwargs and "input" not in inspect.signature(self.forward).parameters and not args:
            args = (kwargs.pop("input"),)
        try:
            return hooks.call(self, self._hooks, args, kwargs) if self._hooks else self.forward(*args, **kwargs)
        except NeedleError:
            raise
        except RAW as error:                       # of one of our layers; a forward of the user's own says it himself
            if not is_ours(error):
                raise
            raise explained(self.forward, type(self).__name__, error, args, kwargs) from error

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith("needle_lab.") and "__init__" in vars(cls):
            setattr(cls, "__init__", explaining(_placed(cls.__init__), cls.__name__))       # noqa: B010

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and not isinstance(value, (Parameter, Buffer)):
            held = vars(self).get(name)
            if isinstance(held, Parameter):
                raise ArgumentError(
                    f"{type(self).__name__}.{name} is a Parameter and would no longer be trained; to change its "
                    f"values: `with ndl.no_grad(): module.{name}.copy_(values)`; to replace it: Parameter(values)")
            if isinstance(held, Buffer):           # running_mean = 0.9 * running_mean + ... stays a buffer
                value = Buffer(value, persistent=held.persistent)
            else:
                _refuse_unregistered(value, f"{type(self).__name__}.{name}")
        super().__setattr__(name, value)

    # --- the walk, and what is read off it --------------------------------------------------------------------------

    def walk(self) -> Iterator[Entry]:
        """Visit this module and everything it holds, parents first, in order of assignment.

        An object that is held twice is visited at its first path; later paths are reported (`first` says where it
        stands) but not entered. A reference back to a module that is being visited (child.parent = self) is no part
        of the tree and is passed over.
        """
        seen: dict[int, str] = {}
        stack: list[tuple[str, Any]] = [("", self)]
        while stack:
            path, value = stack.pop()
            first = seen.setdefault(id(value), path)
            if first == path:
                yield Entry(path, value, path)
                prefix = path + "." if path else ""
                stack.extend((prefix + name, held) for name, held in reversed(_members(value, path)))
            elif first and not path.startswith(first + "."):
                yield Entry(path, value, first)

    def _distinct(self, kind: type[T] | tuple[type[T], ...]) -> Iterator[tuple[str, T]]:
        return ((e.path, e.value) for e in self.walk() if e.path == e.first and isinstance(e.value, kind))

    def _named(self, kind: type[T], prefix: str, recurse: bool) -> Iterator[tuple[str, T]]:
        """Of one kind, each once; recurse=False: only what stands in attributes of this very module."""
        return ((f"{prefix}.{path}" if prefix and path else prefix or path, value) for path, value in self._distinct(kind)
                if recurse or vars(self).get(path) is value)

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter), each parameter once.  recurse=False: without those of modules in it."""
        return self._named(Parameter, prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter once, in the order of the walk."""
        return (value for _, value in self.named_parameters("", recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """(path, buffer), each buffer once.  recurse=False: without those of modules in it."""
        return self._named(Buffer, prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Every buffer once."""
        return (value for _, value in self.named_buffers("", recurse))

    def named_modules(self, memo: None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module), this module first, under the path ""."""
        return self._named(Module, prefix, True)

    def modules(self) -> Iterator[Module]:
        """This module and every module in it, each once."""
        return (value for _, value in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(path, module) of the modules held directly or in a list, tuple or dict ("blocks.0")."""
        child = None
        for path, module in self.named_modules():
            if path and not (child is not None and path.startswith(child + ".")):
                child = path
                yield path, module

    def children(self) -> Iterator[Module]:
        """The modules held directly or in a list, tuple or dict."""
        return (value for _, value in self.named_children())

    def get_submodule(self, target: str) -> Any:
        """What stands at a path: `model.get_submodule("blocks.3.conv")`; AttributeError where there is nothing."""
        for path, value, _ in self.walk():
            if path == target:
                return value
        raise AttributeError(f"{type(self).__name__} holds nothing at {target!r}")

    get_parameter = get_buffer = get_submodule

    def state_dict(self) -> dict[str, Tensor]:
        """path -> parameter or persistent buffer, detached, sharing memory; a shared one stands at its first path.

        >>> list(ndl.nn.Sequential(ndl.nn.Linear(2, 3), ndl.nn.ReLU()).state_dict())
        ['0.weight', '0.bias']
        """
        return {path: value.detach() for path, value in self._distinct((Parameter, Buffer)) if is_saved(value)}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> LoadReport:
        """Copy values (tensors, numpy arrays, PyTorch tensors) by path into parameters and buffers.

        All or nothing: names, shapes and dtypes are checked before anything is written. Float dtypes are converted to
        one another, as in PyTorch. strict=False loads the entries that fit; the report says which did and did not.
        Raises StateKeyError, ShapeError or DTypeError.
        """
        return load_into(self, state, strict)

    def signature(self, signature_names: bool = False) -> dict[str, Any]:
        """The architecture as plain JSON: classes, configuration, shapes and dtypes, children in order.

        signature_names=True names children as the original Needle did: class and counter, "ConvBN-1".
        """
        return signature(self, signature_names)

    def summary(self, x: Any = None) -> dict[str, Any]:
        """Print the tree with parameter counts (and output shapes, if an input x is given); return it as JSON.

        >>> _ = ndl.nn.Sequential(ndl.nn.Linear(3, 4), ndl.nn.ReLU()).summary((1, 3))
        module        output shape   parameters   share (%)
        ---------------------------------------------------
        Sequential    (1, 4)                 16       100.0
          0: Linear   (1, 4)                 16       100.0
          1: ReLU     (1, 4)                  0         0.0
        ---------------------------------------------------
        16 parameters, 16 trainable; 0 values in buffers; 0.00 MiB
        """
        result = summary(self, x)
        print(result)
        return result.to_json()

    # --- changes to the whole ---------------------------------------------------------------------------------------

    # Each goes to the modules within; where one has a method of its own (a batch norm that stays frozen), that decides.

    def _own_part(self, method: str) -> Iterator[Entry]:
        """The walk, each object once, without what lies in modules that have their own `method`: they answer for it."""
        beyond = None
        for entry in self.walk():
            if entry.path == entry.first and not (beyond and entry.path.startswith(beyond)):
                yield entry
                if entry.path and _overrides(entry.value, method):
                    beyond = entry.path + "."

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops, batch norm uses the batch) in this module and all in it."""
        for path, module, _ in self._own_part("train"):
            if path and _overrides(module, "train"):
                module.train(mode)
            elif isinstance(module, Module):
                module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module, children before parents."""
        for path, module, _ in reversed([e for e in self._own_part("apply") if isinstance(e.value, Module)]):
            if path and _overrides(module, "apply"):
                module.apply(function)
            else:
                function(module)
        return self

    def requires_grad_(self, flag: bool = True) -> Self:
        """Freeze (False) or train (True) every parameter."""
        for path, value, _ in self._own_part("requires_grad_"):
            if isinstance(value, Parameter) or (path and _overrides(value, "requires_grad_")):
                value.requires_grad_(flag)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; set_to_none=False: they become zeros instead of None."""
        for parameter in self.parameters():
            parameter.grad = None if set_to_none or parameter.grad is None else ops.zeros_like(parameter.grad)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Hold a tensor that is moved with the module and, if persistent, saved: as `self.name = Buffer(tensor)`."""
        self._new(name, Buffer)
        setattr(self, name, None if tensor is None else Buffer(tensor, persistent=persistent))

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """The same as `self.name = parameter`."""
        self._new(name, Parameter)
        setattr(self, name, parameter)

    def add_module(self, name: str, module: Module | None) -> None:
        """The same as `self.name = module`."""
        self._new(name, Module)
        setattr(self, name, module)

    register_module = add_module

    def _new(self, name: str, kind: type) -> None:
        """ArgumentError for a name that is taken by something else, or that is none."""
        held = getattr(self, name, None)
        if not name or "." in name or (held is not None and not isinstance(held, kind)):
            taken = f"is taken by a {type(held).__name__}" if held is not None else "is empty or has a dot in it"
            raise ArgumentError(f"{type(self).__name__}: the name {name!r} {taken}; give the {kind.__name__.lower()} "
                                "another")

    def half(self) -> Self:
        """Parameters and buffers as float16."""
        return self.to(dtype="float16")

    def bfloat16(self) -> Self:
        """Parameters and buffers as bfloat16."""
        return self.to(dtype="bfloat16")

    def float(self) -> Self:
        """Parameters and buffers as float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Parameters and buffers as float64."""
        return self.to(dtype="float64")

    def cpu(self) -> Self:
        """Everything on the host."""
        return self.to("cpu")

    def cuda(self, device: int = 0) -> Self:
        """Everything on a GPU."""
        return self.to(f"cuda:{device}")

    def to(self, target: Any = None, *, device: Device | str | None = None, dtype: Any = None) -> Self:
        """Move parameters and buffers to a device, or convert the floating ones to a dtype; in place.

        The tensors stay the same objects, so an optimizer that holds them keeps working.
        """
        if isinstance(target, Device) or (isinstance(target, str) and target.partition(":")[0] in
                                          ("cpu", "cuda", "triton_cpu")):
            device = target
        elif target is not None:
            dtype = target
        device = None if device is None else as_device(device)
        if dtype is not None and not is_floating(as_dtype(dtype)):
            raise DTypeError(f"{type(self).__name__}.to: a floating dtype is needed, got {as_dtype(dtype)}")

        def moved(x: Tensor) -> Tensor:
            return x.detach().to(device=device, dtype=dtype if is_floating(x.dtype) else None)

        part = list(self._own_part("to"))
        tensors: list[Tensor] = [e.value for e in part if isinstance(e.value, (Parameter, Buffer))]
        tensors += [x.grad for x in tensors if x.grad is not None]
        for x, new in [(x, moved(x)) for x in tensors]:        # all moved before the first is replaced
            if new.data is not x.data:
                x.data, x.device = new.data, new.device
                written(x)                             # a graph that read the old values can tell
        for path, module, _ in part:
            if path and _overrides(module, "to"):
                module.to(device=device, dtype=dtype)
        return self

    # --- hooks ------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args)` before forward; what it returns (not None) replaces the arguments."""
        return hooks.register(self, "before", hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args, output)` after forward; what it returns (not None) replaces the output."""
        return hooks.register(self, "after", hook)

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, grad_input, grad_output)` when backward has passed through the module.

        Both are tuples with one gradient (or None) for each tensor among the positional inputs and the outputs. A
        tuple that it returns replaces grad_input.
        """
        return hooks.register(self, "backward", hook)

    # --- printing ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses: the configuration, without what is as `__init__` has it by default."""
        defaults = {p.name: p.default for p in inspect.signature(type(self)).parameters.values()}
        return ", ".join(f"{name}={vars(self)[name]!r}" for name in configuration(self)
                         if name not in defaults or not _same_setting(vars(self)[name], defaults[name]))

    def __repr__(self) -> str:
        below: dict[str, list[tuple[str, str]]] = {}
        for path, value, first in reversed(list(self.walk())):           # children before parents
            if isinstance(value, Tensor):
                continue
            head = value.extra_repr() if isinstance(value, Module) else ""
            text = f"{type(value).__name__}({_body(head, below.pop(path, [])[::-1])})"
            parent, _, name = path.rpartition(".")
            if path:
                below.setdefault(parent, []).append((name, text if first == path else f"the same as ({first})"))
        return printable(text, lines=True)


def _placed(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that also takes device= and dtype=, as every layer of PyTorch's does: the layer is made, then moved."""
    own = inspect.signature(init).parameters

    @functools.wraps(init)
    def made(self: Any, *args: Any, **given: Any) -> None:
        target = {name: given.pop(name) for name in ("device", "dtype") if name in given and name not in own}
        init(self, *args, **given)
        if any(value is not None for value in target.values()):
            self.to(**target)
    return made


# --- what one object holds ----------------------------------------------------------------------------------------

_STATE = (Module, Parameter, Buffer)
_CONTAINERS = (list, tuple, dict)
_UNORDERED = (set, frozenset, deque)       # no stable names inside: modules in them could not be saved


def _members(value: Any, path: str) -> list[tuple[str, Any]]:
    """(name, held object) for everything directly in a module or container that is or contains state."""
    if isinstance(value, Module):
        named: list[tuple[Any, Any]] = [(name, held) for name, held in vars(value).items() if name != "_hooks"]
    elif isinstance(value, dict):
        named = list(value.items())
    elif isinstance(value, (list, tuple)):
        named = list(enumerate(value))
    else:
        return []
    members = [(str(name), held) for name, held in named if _holds_state(held, path)]
    names: set[str] = set()
    for name, _ in members:
        if not name or "." in name or name in names:
            raise ArgumentError(f"{path or 'the module'} holds state under {name!r}, which cannot be part of a path: "
                                "names must be unique as text, not empty, and without dots")
        names.add(name)
    return members


def _overrides(value: Any, method: str) -> bool:
    """Whether this is a module with a `method` of its own, of its class or set on it."""
    return isinstance(value, Module) and getattr(getattr(value, method), "__func__", None) is not getattr(Module, method)


def _holds_state(value: Any, path: str, outer: tuple[int, ...] = ()) -> bool:
    if isinstance(value, _STATE):
        return True
    if isinstance(value, Tensor):
        if outer:                                      # attributes are checked when they are assigned
            _refuse_unregistered(value, f"in a container of {path or 'the module'}: a tensor")
        return False
    if not isinstance(value, (*_CONTAINERS, *_UNORDERED)) or id(value) in outer:
        return False
    inside = value.values() if isinstance(value, dict) else value
    if not any(issubclass(kind, (Tensor, Module, *_CONTAINERS)) for kind in set(map(type, inside))):
        return False                                   # a vocabulary of 50,000 words is passed over at C speed
    stateful = [held for held in inside if _holds_state(held, path, (*outer, id(value)))]
    if stateful and isinstance(value, _UNORDERED):
        raise ArgumentError(f"{path or 'the module'} holds modules or parameters in a {type(value).__name__}, where "
                            "they have no names to be saved under; use a list or a dict")
    return bool(stateful)


def _refuse_unregistered(value: Tensor, where: str) -> None:
    if value.requires_grad and value.is_leaf:
        raise ArgumentError(f"{where} requires a gradient but is neither Parameter nor Buffer, so it would be neither "
                            "trained nor saved; wrap it: Parameter(x) is trained, Buffer(x) is only saved; "
                            "to keep it for reference only: x.detach()")


def _same_setting(value: Any, default: Any) -> bool:
    """(1, 1) is what an argument stride=1 becomes."""
    return value == default or (isinstance(value, tuple) and bool(value) and all(v == default for v in value))


def _body(head: str, children: list[tuple[str, str]]) -> str:
    """The inside of the parentheses, as PyTorch prints it; equal numbered neighbours are counted: (0-11): 12 x ..."""
    if not children:
        return head
    lines, i = [head] if head else [], 0
    while i < len(children):
        name, text = children[i]
        j = i + 1
        while j < len(children) and children[j][1] == text and name.isdigit() and children[j][0].isdigit():
            j += 1
        label = f"({name}): " if j == i + 1 else f"({name}-{children[j - 1][0]}): {j - i} x "
        lines.append(label + text.replace("\n", "\n  "))
        i = j
    return "\n  " + "\n  ".join(lines) + "\n"
