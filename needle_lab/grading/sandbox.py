"""Run a learner's code where it can do no harm: its own process, clean environment, limits, and bubblewrap if there.

With bubblewrap (`bwrap`, Linux) the process has no network, sees no process but its own and no file but Python, the
package without its questions, and an empty scratch folder that is thrown away. Without it, it is only a process with
limits: enough against mistakes, not against malice. `describe` says which, and every report repeats it.
"""

from __future__ import annotations

import compileall
import contextlib
import functools
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import needle_lab
from needle_lab.errors import ArgumentError
from needle_lab.grading.calls import by_the_clock
from needle_lab.untrusted import printable

PACKAGE = Path(needle_lab.__file__).resolve().parent
QUESTIONS = PACKAGE / "grading" / "questions"


@dataclass(frozen=True)
class Limits:
    """What one submission may use: seconds of processor time in all cells and in one, MiB of address space, processes,
    MiB of answers. By the clock it may take `by_the_clock(seconds)`, because a machine may be busy."""

    seconds: float = 120
    cell_seconds: float = 30
    memory_mib: int = 4096              # address space: NumPy and IPython alone map over 1 GiB
    processes: int = 256
    output_mib: int = 64


@dataclass(frozen=True)
class Ran:
    """What came out of the pipe, and why it ended: "" or a sentence for the learner."""

    output: bytes
    problem: str = ""


@functools.cache
def bubblewrap() -> str:
    """The path of a bwrap that works here, or "" (not installed, or the kernel forbids user namespaces)."""
    path = shutil.which("bwrap") or ""
    probe = [path, "--unshare-all", "--ro-bind", "/", "/", "true"]
    works = path and subprocess.run(probe, capture_output=True).returncode == 0
    return path if works else ""


def describe(isolated: bool) -> str:
    """One sentence on the isolation that was used."""
    if isolated:
        return "bubblewrap: no network, no other process, no file but Python and an empty scratch folder"
    return ("a separate process with time and memory limits only: files and network are open to it. "
            "Install bubblewrap (Linux) to grade code that you do not trust")


@contextlib.contextmanager
def library() -> Iterator[Path]:
    """A folder with a copy of the package without the questions: what a learner's process may import."""
    with tempfile.TemporaryDirectory(prefix="needle_lab_") as folder:
        shutil.copytree(PACKAGE, Path(folder, "needle_lab"), ignore=lambda where, names: [
            n for n in names if n == "__pycache__" or Path(where, n) == QUESTIONS])
        compileall.compile_dir(folder, quiet=2)         # once here, not once for every notebook
        yield Path(folder)


def run(module: str, text: str, library: Path, limits: Limits, isolated: bool) -> Ran:
    """Run `python -m module` with `text` on its standard input; returns what it wrote to its standard output.

    It runs in an empty folder that is removed afterwards, and is killed with all its children when it takes too long
    or says too much.
    """
    with tempfile.TemporaryDirectory(prefix="needle_lab_") as scratch:
        words = [sys.executable, "-P", "-s", "-m", module]
        where, modules = (Path("/scratch"), Path("/library")) if isolated else (Path(scratch), library)
        environment = _environment(where, modules)
        if isolated:
            words = _wrap(words, Path(scratch), library, environment)
        with tempfile.TemporaryFile("w+", encoding="utf-8") as task:
            task.write(text)
            task.seek(0)
            process = subprocess.Popen(words, cwd=scratch, env=environment, stdin=task, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return _read(process, limits)
        finally:
            _end(process)


def _environment(home: Path, modules: Path) -> dict[str, str]:
    """Nothing of the grader's own environment but where programs lie."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "IPYTHONDIR": str(home / ".ipython"),
            "TMPDIR": str(home), "PYTHONPATH": str(modules), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8",
            "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _wrap(words: list[str], scratch: Path, library: Path, environment: dict[str, str]) -> list[str]:
    """The same command inside bubblewrap: an empty root into which only what is needed is mounted, read-only."""
    wrapped = [bubblewrap(), "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for name, value in environment.items():
        wrapped += ["--setenv", name, value]
    wrapped += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for inside, outside in _mounts():
        wrapped += ["--ro-bind-try", outside, inside]
    for folder in _covered:
        wrapped += ["--tmpfs", folder]
    wrapped += ["--ro-bind", str(library), "/library", "--bind", str(scratch), "/scratch", "--chdir", "/scratch"]
    return [*wrapped, *words]


def _mounts() -> list[tuple[str, str]]:
    """(path inside, folder outside) of what a Python process needs. One folder may lie under several names, as /lib does,
    or an environment that is reached by a link: each name is a way to it."""
    names = ["/usr", "/lib", "/lib64", "/bin", "/etc/alternatives", "/etc/ld.so.cache"]
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        for name in dict.fromkeys((prefix, os.path.realpath(prefix))):
            if not any(Path(name).is_relative_to(known) for known in names):
                names.append(name)
    return [(name, os.path.realpath(name)) for name in names]


_covered: list[str] = []                # folders that are empty in the sandbox: questions, under each of their names
PROBE = """
import os, sys
secrets, wanted = set(sys.argv[2:]), os.path.join("needle_lab", "grading", "questions")
for folder, inside, files in os.walk("/"):
    if folder in ("/proc", "/dev", "/sys"):
        inside.clear()
    elif folder.endswith(wanted) and (inside or files) or any(
            entry.is_file(follow_symlinks=False) and f"{entry.stat(follow_symlinks=False).st_dev}:{entry.inode()}" in secrets
            for entry in (os.scandir(folder) if sys.argv[1] in files else ())):
        print(folder.encode(errors="surrogateescape").hex())
"""


@functools.cache
def prove() -> None:
    """See from inside that no questions are visible in the sandbox; cover those that are. ArgumentError if that is in vain.

    Looked for are folders called needle_lab/grading/questions with something in them, and the files of our own by their
    identity on the disk, whatever the way to them is called.
    """
    files = [path for path in QUESTIONS.rglob("*") if path.is_file()]
    identities = [f"{info.st_dev}:{info.st_ino}" for info in map(os.stat, files)]
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="needle_lab_") as empty, tempfile.TemporaryDirectory() as scratch:
            words = [sys.executable, "-I", "-S", "-c", PROBE, files[0].name, *identities]
            done = subprocess.run(_wrap(words, Path(scratch), Path(empty), _environment(Path("/scratch"), Path("/library"))),
                                  cwd=scratch, capture_output=True, stdin=subprocess.DEVNULL)
        found = [bytes.fromhex(line).decode(errors="surrogateescape") for line in done.stdout.decode("ascii").split()]
        if done.returncode:
            said = printable(done.stderr.decode(errors="replace"), most=500)
            raise ArgumentError(f"the sandbox does not run Python: {said}")
        if not found:
            return
        _covered.extend(found)
    raise ArgumentError(f"the sandbox shows the questions, at {printable(found[0])}; grade with an environment in which "
                        "they are not installed, or with isolation='process' if you trust the code")


def _read(process: subprocess.Popen[bytes], limits: Limits) -> Ran:
    """Everything from the pipe until it closes and the process ends, the time is over or there is too much."""
    deadline = time.monotonic() + by_the_clock(limits.seconds)
    late = f"stopped after {by_the_clock(limits.seconds):g} seconds"
    output = bytearray()
    assert process.stdout is not None           # a pipe was asked for
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.select(left):
                return Ran(bytes(output), late)
            block = os.read(process.stdout.fileno(), 1 << 16)
            if not block:
                break
            output += block
            if len(output) > limits.output_mib << 20:
                return Ran(b"", f"stopped: it returned more than {limits.output_mib} MiB")
    try:
        status = process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return Ran(bytes(output), late)
    used_up = status in (-signal.SIGXCPU, 128 + signal.SIGXCPU)        # the second is how bubblewrap says it
    return Ran(bytes(output), f"stopped after {limits.seconds:g} seconds of processor time" if used_up else "")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children; bubblewrap takes every descendant with it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
