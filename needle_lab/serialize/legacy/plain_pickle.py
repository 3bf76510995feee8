"""Reading pickles without running them.

A pickle is a small program, which by design can call any function. Here it is *read*: `pickletools` splits it into
instructions, and a machine that knows only how to put together dicts, lists, tuples, texts, numbers and arrays follows
them. It has no instruction that looks up or calls a Python object; a name it does not know is refused and reported.
The original Needle's checkpoints and the CIFAR batches, written by Python 2, are read this way.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import FileFormatError

_MARK = object()


def read_plain_pickle(content: bytes) -> Any:
    """The value that `content`, a pickle of any protocol, describes; nothing in it is executed.

    Dicts (keys: texts, bytes, integers), lists, tuples, texts, bytes, numbers, None, and numpy arrays and scalars of
    plain numbers. A `str` of Python 2, which is text or bytes, comes as text, one character for a byte (latin-1).
    Raises FileFormatError, naming what it refused, for anything else and for damage.
    """
    try:
        return _Machine(content).run()
    except FileFormatError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError, AttributeError) as error:
        raise FileFormatError(f"the pickle is damaged or made up: {str(error)[:200]}") from error


class _Name:
    """A global that the pickle mentions.  It stands for itself; nothing is imported."""

    def __init__(self, text: str):
        self.text = text


class _DType:
    """A dtype under construction."""

    def __init__(self, code: Any):
        if not isinstance(code, str) or (np.dtype(code).kind not in "biuf" and code != "O8"):
            raise FileFormatError(f"refused: an array of dtype {str(code)[:50]!r}")
        self.dtype = np.dtype(object) if code == "O8" else np.dtype(code)


class _Array:
    """An array under construction: made empty, filled by the instruction BUILD."""

    value: np.ndarray | None = None


# The functions that the pickle of a dict of arrays calls, and what is done in their place.
_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_ENCODE, _ORDERED_DICT = "_codecs.encode", "collections.OrderedDict"
_NO_BYTES = ("builtins.bytes", "__builtin__.bytes")
_KNOWN = {*_RECONSTRUCT, *_SCALAR, *_FROM_BUFFER, *_NO_BYTES, _ENCODE, _ORDERED_DICT, "numpy.ndarray", "numpy.dtype"}


class _Machine:
    """Follows the instructions of a pickle as far as plain data goes."""

    def __init__(self, code: bytes):
        self.code = code
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.room = len(code)              # bytes of array data that a file of this length can hold honestly

    def run(self) -> Any:
        for instruction, argument, _ in pickletools.genops(self.code):
            name = instruction.name
            if name == "STOP":
                return _finished(self.stack.pop())
            if name in _PUSH:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise FileFormatError(f"refused: the pickle instruction {name}, which plain data does not need")
        raise FileFormatError("truncated: the pickle has no end")

    # Each action takes its operands from the stack, as the pickle machine defines it.

    def pop_to_mark(self) -> list[Any]:
        at = max(i for i, x in enumerate(self.stack) if x is _MARK)
        taken = self.stack[at + 1:]
        del self.stack[at:]
        return taken

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise FileFormatError("damaged: the pickle takes more than it has put")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise FileFormatError("refused: APPEND to something that is no list")
        target.extend(values)

    def set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        plain = all(isinstance(key, (str, bytes, int)) for key in flat[::2])
        if not isinstance(target, dict) or len(flat) % 2 or not plain:
            raise FileFormatError("refused: SETITEM on something that is no dict, or a key that is no text or number")
        target.update(zip(flat[::2], flat[1::2], strict=True))

    def name(self, text: str) -> None:
        if text not in _KNOWN:
            raise FileFormatError(f"refused: it asks for {text[:100]}, which a dict of arrays does not need and which "
                                  "could run code. If you trust the file, load it where its classes are installed and "
                                  "save a dict of numpy arrays")
        self.stack.append(_Name(text))

    def stack_name(self) -> None:
        module, attribute = self.pop(2)
        self.name(f"{module}.{attribute}")

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise FileFormatError("refused: a call of something that is no known function")
        self.stack.append(self.call(function.text, arguments))

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        if function in _RECONSTRUCT:
            return _Array()
        if function == "numpy.dtype":
            return _DType(arguments[0])
        if function in _SCALAR:
            return self.array((), arguments[0], False, arguments[1])[()]
        if function in _FROM_BUFFER:
            raw, dtype, shape, order = arguments
            return self.array(shape, dtype, order == "F", raw)
        if function == _ENCODE and arguments[1:] == ("latin1",):
            return arguments[0].encode("latin1")
        if not arguments and function in (_ORDERED_DICT, *_NO_BYTES):
            return {} if function == _ORDERED_DICT else b""
        raise FileFormatError(f"refused: a call of {function} with these arguments")

    def build(self) -> None:
        target, state = self.pop(2)
        self.stack.append(target)
        if isinstance(target, _DType) and isinstance(state, tuple) and len(state) >= 8 and state[2:5] == (None,) * 3:
            target.dtype = target.dtype if target.dtype == object else target.dtype.newbyteorder(state[1])
        elif isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
            target.value = self.array(state[1], state[2], state[3], state[4])
        else:
            raise FileFormatError("refused: BUILD of something other than an array or a dtype")

    def array(self, shape: Any, dtype: Any, fortran: Any, raw: Any) -> np.ndarray:
        plain = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not plain or not isinstance(dtype, _DType):
            raise FileFormatError("refused: an array without a plain shape and dtype")
        count = math.prod(shape)
        if dtype.dtype == object:
            if not isinstance(raw, list) or len(raw) != count or count != 1:
                raise FileFormatError("refused: an array of several Python objects")
            box = np.empty(shape, object)
            box.reshape(-1)[:] = [_Later(raw)]
            return box
        raw = raw.encode("latin1") if isinstance(raw, str) else raw                    # written by Python 2
        there, needed = len(raw) if isinstance(raw, (bytes, bytearray)) else 0, count * dtype.dtype.itemsize
        if there != needed:
            raise FileFormatError(f"an array of {dtype.dtype} {shape} needs {needed:,} bytes, the file has {there:,}")
        self.room -= there
        if self.room < 0:
            raise FileFormatError("refused: the arrays are larger than the file that holds them")
        return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")

    def remember(self, key: int) -> None:
        self.memo[key] = self.stack[-1]


class _Later:
    """The list whose one item an object array holds; the item may still be under construction."""

    def __init__(self, items: list[Any]):
        self.items = items


_PUSH = {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
         "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
         "STRING", "BINSTRING", "SHORT_BINSTRING"}             # the last three: a str of Python 2
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict, "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple, "MARK": lambda: _MARK}


def _listed(machine: _Machine) -> None:
    machine.stack.append(machine.pop_to_mark())


def _dicted(machine: _Machine) -> None:
    flat = machine.pop_to_mark()
    machine.stack.append({})
    machine.set_items(flat)


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "LIST": lambda m, _: _listed(m),
    "DICT": lambda m, _: _dicted(m),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.pop(3))),
    "APPEND": lambda m, _: m.append(m.pop(1)),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "GLOBAL": lambda m, text: m.name(text.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda m, _: m.stack_name(),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "PUT": lambda m, key: m.remember(key),
    "BINPUT": lambda m, key: m.remember(key),
    "LONG_BINPUT": lambda m, key: m.remember(key),
    "GET": lambda m, key: m.stack.append(m.memo[key]),
    "BINGET": lambda m, key: m.stack.append(m.memo[key]),
    "LONG_BINGET": lambda m, key: m.stack.append(m.memo[key]),
}


def _finished(value: Any) -> Any:
    """The value with arrays under construction replaced by their arrays; each object once, however often it is held."""
    done: dict[int, Any] = {}
    kept: list[Any] = []               # ids stay unique while their objects live

    def finish(x: Any) -> Any:
        if id(x) in done:
            return done[id(x)]
        kept.append(x)
        if isinstance(x, _Array):
            x = x.value
            if x is None:
                raise FileFormatError("an array without content")
        if isinstance(x, np.ndarray) and x.dtype == object:
            return finish(x.reshape(-1)[0].items[0])
        if isinstance(x, dict):
            done[id(x)] = result = {}
            result.update({key: finish(item) for key, item in x.items()})
            return result
        if isinstance(x, (list, tuple)):
            done[id(x)] = None         # a tuple that holds itself is made up; it becomes None and is refused later
            done[id(x)] = answer = type(x)(finish(item) for item in x)
            return answer
        if isinstance(x, (_Name, _DType)) or x is _MARK:
            raise FileFormatError("the pickle leaves a function or a dtype in the data")
        return x

    return finish(value)
