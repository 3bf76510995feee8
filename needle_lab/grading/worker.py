"""The process in which a learner's notebook runs when it is graded. Nothing that it says is believed.

It reads one task (JSON) from standard input, runs the cells, calls the functions that the task names on the inputs
that the task holds, and writes one line of JSON per event to a pipe that was its standard output:

    {"cell": 3, "error": "NameError: ..."}          a cell that raised
    {"ready": true}                                 all cells have run
    {"question": "a1.q1", "case": 0, "kind": "returned", "value": ..., "changed": [0]}

It has no expected values, no points and no questions: the grader compares what comes back, elsewhere (autograde.py).
Each question runs in a fork, so that an endless loop in one costs the others nothing. Time limits count processor time:
a busy machine takes points from nobody. What the learner's code prints goes nowhere: the pipe has another descriptor,
and a forged line in it is only data to be compared.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from needle_lab.grading.calls import TimeUp, by_the_clock, call, time_limit
from needle_lab.grading.codec import decode, encode


def main() -> None:
    """Read the task from standard input, run the notebook, write one line of JSON for every event."""
    task = json.load(sys.stdin)
    pipe = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    _limit(task["seconds"], task["memory_mib"], task["processes"])

    def say(**event: Any) -> None:
        line = memoryview((json.dumps(event) + "\n").encode("utf-8"))
        while line:
            line = line[os.write(pipe, line):]

    namespace = _run_cells(task["cells"], task["cell_seconds"], say)
    say(ready=True)
    for question in task["questions"]:
        _in_a_fork(lambda question=question: _answer(question, namespace, say), 2 * question["seconds"] + 5)
    os._exit(0)                                 # whatever threads and exit handlers the notebook left behind


def _limit(seconds: float, memory_mib: int, processes: int) -> None:
    """Hard limits for this process and its children. Only Linux knows a limit of address space."""
    _limit_processor_time(seconds)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_mib << 20,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes,) * 2)


def _limit_processor_time(seconds: float) -> None:
    """Of this process from its start; its children inherit it, and each counts for itself. SIGXCPU ends the process,
    and two seconds later SIGKILL, which no code can ignore."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    wanted = (math.ceil(seconds), math.ceil(seconds) + 2)
    resource.setrlimit(resource.RLIMIT_CPU, wanted if hard == resource.RLIM_INFINITY else
                       (min(wanted[0], hard), min(wanted[1], hard)))


def _run_cells(cells: list[str], seconds: float, say: Callable[..., None]) -> dict[str, Any]:
    """Run every cell as a notebook would, magics included; a cell that raises or takes too long stops no other."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    settings = Config()
    settings.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=settings)
    for i, source in enumerate(cells):
        say(cell=i)
        try:
            with time_limit(seconds):
                result = shell.run_cell(source)
            error = result.error_before_exec or result.error_in_exec
        except TimeUp as late:                  # the alarm rang again while IPython was printing the traceback
            error = late
        if error:
            say(cell=i, error=f"{type(error).__name__}: {error}"[:500])
    return shell.user_ns


def _answer(question: dict[str, Any], namespace: dict[str, Any], say: Callable[..., None]) -> None:
    for i, case in enumerate(question["cases"]):
        event = {"question": question["name"], "case": i}
        function = namespace.get(case["function"])
        if not callable(function):
            say(**event, kind="missing", message=f"there is no function {case['function']}")
            continue
        outcome = call(function, decode(case["args"]), question["seconds"])
        say(**event, kind=outcome.kind, value=encode(outcome.value), message=outcome.message[:500],
            changed=list(outcome.changed))
        if outcome.kind == "timed out":
            return


def _in_a_fork(work: Callable[..., Any], seconds: float) -> None:
    """Run work() in a child process, for at most so many seconds of processor time (or long by the clock: it may wait)."""
    child = os.fork()
    if child == 0:
        try:
            _limit_processor_time(seconds)
            work()
        finally:
            os._exit(0)
    deadline = time.monotonic() + by_the_clock(seconds)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
        time.sleep(0.01)


if __name__ == "__main__":
    main()
