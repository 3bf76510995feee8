"""Tensor: an array on a device, and the place in the graph it came from.

    x.data            the device's array (numpy on the CPU)
    x.node            the call that produced x; None for a leaf
    x.grad            for leaves: where backward adds up d(result)/dx
    x.requires_grad   whether calls on x are recorded

Everything that computes is an op of `needle_lab.ops`, which also gives tensors their operators and methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DTypeError, GraphError, ShapeError
from .device import BACKENDS, CPU, Device, as_device, to_device, to_host
from .dtypes import FLOATS, as_dtype, is_floating
from .modes import is_grad_enabled, leaving, untraced
from .storage import Storage, written

_hook_ids = itertools.count()


class HookHandle:
    """What `register_..._hook` returns: `.remove()` it, or use it as a context manager."""

    def __init__(self, hooks: dict[int, Any], key: int):
        self.hooks, self.key = hooks, key

    def remove(self) -> None:
        self.hooks.pop(self.key, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Tensor:
    """An n-dimensional array that can be differentiated.  torch.Tensor.

    data: array, nested list or number (Python floats become float32; numpy arrays keep their dtype and share memory).
    requires_grad: record what is done with it; floating dtypes only.
    """

    __slots__ = ("data", "device", "requires_grad", "grad", "node", "output_index", "storage", "_hooks",
                 "__weakref__")
    __array_priority__ = 1000          # numpy_array + tensor asks the tensor first

    def __init__(self, data: Any, requires_grad: bool = False, device: Device | str | None = None, dtype: Any = None):
        if isinstance(data, Tensor):
            data, device = data.data, device or data.device
        device = as_device(device)
        if not hasattr(data, "data_ptr") or hasattr(data, "detach"):               # no array of a device of ours
            data = to_device(_host_array(data, dtype), device)
        if dtype is not None:
            data = data.astype(as_dtype(dtype)) if data.dtype != as_dtype(dtype) else data
        if requires_grad and not is_floating(data.dtype):
            raise DTypeError(f"only floating tensors can require a gradient; this one is {data.dtype}")
        self.data, self.device, self.requires_grad = data, device, requires_grad
        self.grad: Tensor | None = None
        self.node: Any = None
        self.output_index, self.storage = 0, Storage()
        self._hooks: dict[int, Callable[..., Any]] | None = None

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape                # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype                # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        return self.numel() * self.dtype.itemsize

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis.  torch.Tensor.size; how many values there are says `numel()`."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return self.data.size                # type: ignore[no-any-return]

    def dim(self) -> int:
        return self.ndim

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __repr__(self) -> str:
        values = np.array2string(to_host(self.data), precision=4, separator=", ", prefix="tensor(")
        notes = [values] if self.data.size else [f"[], shape={self.shape}"]
        if self.dtype not in (np.float32, np.int64, np.bool_):
            notes.append(f"dtype={self.dtype}")
        if self.device.kind != "cpu":
            notes.append(f"device={str(self.device)!r}")
        if self.node is not None:
            notes.append(f"node={self.node.op.name}")
        elif self.requires_grad:
            notes.append("requires_grad=True")
        return f"tensor({', '.join(notes)})"

    # --- in and out of Python and numpy --------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The values on the host: shared memory on the CPU, a copy from elsewhere."""
        leaving(self)
        return to_host(self.data)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        values = self.numpy()
        return np.array(values, dtype=dtype) if copy or (dtype and dtype != values.dtype) else values

    def item(self) -> Any:
        """The only value, as a Python number."""
        if self.data.size != 1:
            raise ShapeError(f"item(): one value is needed, this tensor has shape {self.shape}")
        return self.numpy().reshape(()).astype(np.float32 if self.dtype.kind == "V" else self.dtype).item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be an index, this one is {self.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ArgumentError(f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()")
        return bool(self.item())

    def __format__(self, spec: str) -> str:
        with untraced():                             # what is printed is not computed with
            return format(self.item(), spec) if spec and self.data.size == 1 else format(str(self), spec)

    __hash__ = object.__hash__         # by identity: == compares values

    def __deepcopy__(self, memo: Any) -> Tensor:
        """A new leaf with the same values."""
        twin = memo[id(self)] = _leaf(type(self), self.data.copy(), self.requires_grad, self.device)
        return twin

    def __reduce__(self) -> Any:
        return _leaf, (type(self), self.numpy(), self.requires_grad, str(self.device))

    # --- the graph --------------------------------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """The same memory, outside the graph."""
        y = Tensor(self)
        y.storage = self.storage
        return y

    def requires_grad_(self, flag: bool = True) -> Tensor:
        if self.node is not None:
            raise GraphError("requires_grad_: this is a result, its flag follows from its inputs; use .detach() first")
        if flag and not is_floating(self.dtype):
            raise DTypeError(f"only floating tensors can require a gradient; this one is {self.dtype}")
        self.requires_grad = flag
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """Call `hook(gradient)` when backward knows this tensor's gradient; what it returns replaces the gradient."""
        if not self.requires_grad:
            raise GraphError("register_hook: this tensor has no gradient; it does not require one")
        key = next(_hook_ids)
        if self.node is not None:
            of_node = self.node.hooks = self.node.hooks or {}
            of_node[key] = (self.output_index, hook)
            return HookHandle(of_node, key)
        own = self._hooks = self._hooks or {}
        own[key] = hook
        return HookHandle(own, key)

    # --- changes in place: leaves only, noted, so that backward can tell ---------------------------------------------

    def _writable(self) -> None:
        if self.node is not None and is_grad_enabled():
            raise GraphError("in-place change of a result that the graph may need; compute a new tensor, "
                             "or use .detach().clone() first")
        if self.requires_grad and is_grad_enabled():
            raise GraphError("in-place change of a leaf that requires a gradient; wrap it in `with ndl.no_grad():`")

    def _write(self, value: Any, index: Any = ...) -> Tensor:
        self._writable()
        if isinstance(value, Tensor) and value.requires_grad and is_grad_enabled():
            raise GraphError("in-place write of a value that requires a gradient would cut it off; "
                             "use ndl.index_put(x, index, value), or value.detach()")
        index, data = plain_index(index), self.data
        if self.device.backend == "numpy":
            *first, index = steps_of(index)
            data = data[first[0]] if first else data
        if self.device.backend != "numpy":
            source = value.data if isinstance(value, Tensor) and value.device == self.device else np.asarray(value)
            BACKENDS[self.device.kind].write(self.data, source, index, self.device)
            written(self)
            return self
        source = value.numpy() if isinstance(value, Tensor) else _numbers(value)
        try:
            room = data[index].shape
            if source.shape != room:
                np.broadcast_to(source, room)            # numpy's own assignment would also take leading axes of length 1
        except (ValueError, IndexError) as error:
            raise ShapeError(f"in-place write: value of shape {source.shape} into {self.shape}"
                             f"{'' if index is ... else ' at the given index'}: {error}") from error
        if not self.data.flags.writeable:
            raise ArgumentError(f"in-place write: this tensor of shape {self.shape} may not be written to, as one that was "
                                "expanded, where one value stands at several places; change a .clone()")
        data[index] = source.astype(self.dtype, copy=False)
        written(self)
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        self._write(value, index)

    def copy_(self, value: Any) -> Tensor:
        """Overwrite with `value` (broadcast to this shape, cast to this dtype)."""
        return self._write(value)

    def fill_(self, value: float) -> Tensor:
        return self._write(value)

    def zero_(self) -> Tensor:
        return self._write(0)

    if TYPE_CHECKING:                  # the operators and methods that needle_lab.ops attaches, for the type checker
        T: Tensor
        mT: Tensor
        allclose: Callable[..., bool]
        split: Callable[..., tuple[Tensor, ...]]
        chunk: Callable[..., tuple[Tensor, ...]]
        unbind: Callable[..., tuple[Tensor, ...]]
        sort: Callable[..., tuple[Tensor, ...]]
        topk: Callable[..., tuple[Tensor, ...]]

        def __getattr__(self, name: str) -> Callable[..., Tensor]: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __eq__(self, other: Any) -> Tensor: ...                  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...                  # type: ignore[override]
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __matmul__ = _write
        __pow__ = __rpow__ = __mod__ = __floordiv__ = __and__ = __or__ = __xor__ = __lt__ = __le__ = __gt__ = __ge__ = _write
        __neg__ = __abs__ = __invert__ = detach

        def __getitem__(self, index: Any) -> Tensor: ...
        def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False,
                     inputs: Any = None) -> None: ...


def flat(sizes: tuple[Any, ...]) -> Any:
    """reshape(2, 3) and reshape((2, 3)) mean the same."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def plain_index(index: Any) -> Any:
    """An index with its tensors turned into numpy arrays, of its own: they may change before backward reads them."""
    if isinstance(index, Tensor):
        index = index.numpy().copy()
    if isinstance(index, np.ndarray):
        if index.dtype == np.uint8:
            raise DTypeError("an index of uint8 could be a mask or places; say which: x[i.bool()] or x[i.long()]")
        return index
    if isinstance(index, tuple):
        return tuple(plain_index(i) for i in index)
    if isinstance(index, list):
        return np.asarray(index, dtype=None if index else np.int64)
    return index


def steps_of(index: Any) -> tuple[Any, ...]:
    """An index in one step, or in two: numbers first, then arrays, as PyTorch means x[0, :, [1, 2]].  NumPy counts numbers
    among the arrays, and puts their axis first where a slice lies between."""
    if type(index) is not tuple or not any(isinstance(i, np.ndarray) and i.ndim for i in index):
        return (index,)
    if any(isinstance(i, np.ndarray) and i.dtype == bool and i.ndim > 1 for i in index):          # of several axes at once
        return (index,)
    single = [isinstance(i, (int, np.integer)) and not isinstance(i, bool) or (
        isinstance(i, np.ndarray) and not i.ndim and i.dtype.kind in "iu") for i in index]
    if not any(single):
        return (index,)
    first = tuple(int(i) if one else i if i is ... else slice(None) for i, one in zip(index, single, strict=True)
                  if i is not None)
    return first, tuple(i for i, one in zip(index, single, strict=True) if not one)


def _host_array(data: Any, dtype: Any) -> np.ndarray:
    array = _numbers(data)
    if array.dtype == np.float64 and dtype is None and not hasattr(data, "dtype") and not holds_numpy(data):
        array = array.astype(np.float32)              # a Python float is a float32 unless asked otherwise
    return array if dtype is None else array.astype(as_dtype(dtype), copy=False)


def _numbers(data: Any) -> np.ndarray:
    """Numbers of any kind, nested lists of them and foreign tensors as an array; DTypeError or ShapeError for all else."""
    data = _foreign(data) if hasattr(data, "detach") else data
    try:
        array = np.asarray([x.numpy() if isinstance(x, Tensor) else x for x in data]
                           if isinstance(data, (list, tuple)) else data)
    except ValueError as error:
        raise ShapeError(f"tensor: the nested lists have different lengths: {error}") from error
    if array.dtype.kind in "OSUMm":
        raise DTypeError(f"tensor: numbers or booleans are needed, got {type(data).__name__} of {array.dtype}")
    return array


def _foreign(x: Any) -> Any:
    """A tensor of PyTorch's, outside its graph, as NumPy's array; bfloat16 and float8 are dtypes that NumPy has not."""
    if isinstance(x, Tensor):
        return x
    x, name = x.detach().cpu(), str(x.dtype).removeprefix("torch.")
    return x.float().numpy().astype(as_dtype(name)) if name.startswith(("bfloat16", "float8")) else x.numpy()


def holds_numpy(data: Any) -> bool:
    """Whether the first value of a nested list came with a dtype of its own."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return hasattr(data, "dtype")


def _leaf(kind: type[Tensor], data: Any, requires_grad: bool, device: Device | str) -> Tensor:
    """A tensor of class `kind` (Tensor, Parameter, Buffer) around an array, whatever its constructor takes."""
    x: Tensor = kind.__new__(kind)
    Tensor.__init__(x, data, requires_grad, device)
    return x


def key_of(x: Tensor) -> Any:
    """What identifies a tensor in a graph: itself if it is a leaf, else (its node, which output)."""
    return x if x.node is None else (x.node, x.output_index)


def wrap(result: Any, node: Any, index: int) -> Tensor:
    """A tensor around an array that an op answered."""
    y, device = Tensor.__new__(Tensor), CPU
    if type(result) is not np.ndarray:
        if hasattr(result, "data_ptr"):
            device = result.device
        else:
            result = np.asarray(result)                 # numpy answers 0-d questions with scalars
    y.data, y.device, y.storage = result, device, Storage()
    y.grad = y._hooks = None
    y.node, y.output_index = node, index
    if node is None:
        y.requires_grad = False
    else:
        y.requires_grad = node.op.differentiable and result.dtype.num in FLOATS
        if node.outputs is not None:
            node.storages.append(y.storage)
    return y
