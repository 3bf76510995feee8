"""Call a learner's function once, with a time limit, and say what happened as a value.

The function gets copies of its inputs, and the outcome names those it changed.
"""

from __future__ import annotations

import contextlib
import copy
import linecache
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from needle_lab.grading.compare import close


@dataclass(frozen=True)
class Outcome:
    """kind: "returned", "raised", "timed out", "missing" or (autograder only) "lost"; value: what came back;
    message: the error in one line; changed: positions of the inputs that were changed in place."""

    kind: str
    value: Any = None
    message: str = ""
    changed: tuple[int, ...] = ()


class TimeUp(BaseException):
    """The alarm of `time_limit`. Not an Exception: an `except Exception` in the learner's loop must not catch it."""


def can_limit_time() -> bool:
    """Whether a call can be stopped: needs POSIX signals and the main thread, as in every Jupyter kernel on them."""
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def by_the_clock(seconds: float) -> float:
    """How long code may take that is allowed `seconds` of processor time: long enough for the busiest machine. It is
    there for code that waits, and so uses none."""
    return max(60.0, 10 * seconds)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after `seconds` of this process's own processor time, where `can_limit_time()`;
    elsewhere there is no limit. What else the machine does does not count, up to `by_the_clock(seconds)`."""
    if not can_limit_time():
        yield
        return
    with _alarm(signal.ITIMER_PROF, signal.SIGPROF, seconds, f"{seconds:g} seconds of processor time"), \
            _alarm(signal.ITIMER_REAL, signal.SIGALRM, by_the_clock(seconds), f"{by_the_clock(seconds):g} seconds"):
        yield


@contextlib.contextmanager
def _alarm(timer: int, number: int, seconds: float, said: str) -> Iterator[None]:
    def ring(signum: int, frame: object) -> None:
        raise TimeUp(f"still running after {said}")

    before = signal.signal(number, ring)
    signal.setitimer(timer, seconds, 0.5)                   # again every half second, should a bare except catch it
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)


def call(function: Callable[..., Any], args: tuple[Any, ...], seconds: float) -> Outcome:
    """Call function(*args) on a copy of args, for at most `seconds` of processor time. Whatever it does, short of ending
    the process, is an Outcome."""
    mine = copy.deepcopy(args)
    try:
        with time_limit(seconds):
            value = function(*mine)
    except TimeUp as late:
        return Outcome("timed out", message=str(late))
    except (Exception, SystemExit) as error:                # other people's code: anything may come
        return Outcome("raised", message=describe(error, function))
    changed = tuple(i for i, (now, before) in enumerate(zip(mine, args, strict=True)) if close((), now, before))
    return Outcome("returned", value, changed=changed)


def describe(error: BaseException, function: Callable[..., Any]) -> str:
    """The error in one line, with the last line of the learner's own function that was running."""
    if isinstance(error, NotImplementedError):
        return f"not written yet ({error})" if str(error) else "not written yet"
    text = f"{type(error).__name__}: {error}".rstrip(": ").split("\n")[0]
    code = getattr(function, "__code__", None)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    if code is None or not lines:
        return text
    source = linecache.getline(code.co_filename, lines[-1]).strip()
    return f"{text}, at line {lines[-1]}" + (f": {source}" if source else "")
