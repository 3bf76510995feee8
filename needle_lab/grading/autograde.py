"""Grade a folder of notebooks: each runs in isolation, what it returns is compared here, and a report comes out.

The learner's process (worker.py) gets the cells of the notebook and inputs. It returns data. Expected values, points
and the comparison never leave this process, and points come from the declared questions, never from a notebook: a
notebook can change its own tests, its metadata or the modules it imports, print what it likes or end its process,
and gains nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from needle_lab.errors import ArgumentError, FileFormatError, MissingExtraError, MissingFileError
from needle_lab.grading import sandbox
from needle_lab.grading.calls import Outcome
from needle_lab.grading.codec import decode, encode
from needle_lab.grading.feedback import Feedback, judge
from needle_lab.grading.question import Case, Question, questions_of
from needle_lab.grading.report import Graded, GradeReport
from needle_lab.grading.sandbox import Limits
from needle_lab.grading.student_copy import grade_id, read_notebook, source_of
from needle_lab.untrusted import printable

MAX_NOTEBOOK_MIB = 20           # a student copy has 20 KiB; pictures in outputs make it a few MiB
MAX_PARTS = 1_000_000           # of one line from the pipe: what a list of numbers may hold; arrays are one part
MAX_ANSWERS = 10_000
MAX_ERRORS = 100                # cells that raised, in a report
KINDS = ("returned", "raised", "timed out", "missing")


@dataclass(frozen=True)
class Exam:
    """What one grading run asks of everybody: cases, their encoded form and the expected answers, made once."""

    questions: tuple[Question, ...]
    cases: dict[str, list[Case]]
    expected: dict[str, list[Any]]
    task: list[dict[str, Any]]

    @classmethod
    def of(cls, questions: tuple[Question, ...], seed: int) -> Exam:
        """The exam with the cases that this seed draws, and what the oracles answer to them."""
        cases = {q.name: q.cases(seed) for q in questions}
        return cls(questions, cases, {q.name: [q.expected(c) for c in cases[q.name]] for q in questions},
                   [{"name": q.name, "seconds": q.seconds,
                     "cases": [{"function": c.function, "args": encode(c.args)} for c in cases[q.name]]}
                    for q in questions])


def grade(submissions: str | Path, assignment: str, *, seed: int | None = None, jobs: int | None = None,
          limits: Limits | None = None, isolation: str = "auto", progress: bool = False) -> GradeReport:
    """Grade one notebook or every notebook in a folder.

    submissions: a notebook, or a folder with alice.ipynb or alice/a1.ipynb or alice/a1/a1.ipynb.
    assignment: its name, e.g. "a1".
    seed: of the inputs; drawn anew for each run by default, and printed in the report. Everybody gets the same.
    jobs: notebooks that run at the same time; default: the number of cores.
    limits: processor time, memory and output of one notebook.
    isolation: "bubblewrap", "process" (only against mistakes), or "auto": bubblewrap where it works.
        The report says which it was.

    Returns a GradeReport: print it, or `.write(folder)` for CSV, JSON and one HTML feedback per student. A question's
    points are shared equally by its cases. A notebook that cannot be read gets zero and the reason; it raises nothing.
    Raises ArgumentError for an unknown assignment or isolation, MissingFileError when there is nothing to grade,
    MissingExtraError without IPython.
    """
    if os.name != "posix":
        raise ArgumentError("grading runs on Linux and macOS; on Windows, run it in WSL")
    if importlib.util.find_spec("IPython") is None:
        raise MissingExtraError("grading runs the cells with IPython. Install it: pip install 'needle-lab[lab]'")
    isolated = _choose(isolation)
    limits = limits or Limits()
    if not isolated:
        limits = replace(limits, processes=0)       # the limit would count the grader's own processes too
    seed = secrets.randbelow(2**32) if seed is None else seed
    exam = Exam.of(tuple(questions_of(assignment).values()), seed)
    found = find_submissions(Path(submissions), assignment)
    if isolated:
        sandbox.prove()
    with sandbox.library() as library, ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        def one(item: tuple[str, Path]) -> Graded:
            try:
                return _grade_one(*item, exam, library, limits, isolated)
            except Exception as error:          # of any kind: whatever one notebook brings about, the others are graded
                return _result(*item, exam, {}, {}, f"it could not be judged: {type(error).__name__}: {error}")

        graded = list(tqdm(pool.map(one, found), total=len(found), unit="notebook", disable=not progress))
    return GradeReport(assignment, exam.questions, tuple(graded), seed, sandbox.describe(isolated))


def _choose(isolation: str) -> bool:
    if isolation not in ("auto", "bubblewrap", "process"):
        raise ArgumentError(f"isolation is 'auto', 'bubblewrap' or 'process', not {isolation!r}")
    if isolation == "bubblewrap" and not sandbox.bubblewrap():
        raise ArgumentError("bubblewrap does not work here: install the package bubblewrap, allow user namespaces, "
                            "or grade with isolation='process' if you trust the code")
    return isolation != "process" and bool(sandbox.bubblewrap())


def find_submissions(where: Path, assignment: str) -> list[tuple[str, Path]]:
    """(student, notebook) pairs in order. The student is the path below the folder, less the assignment's name."""
    if where.is_file():
        return [(where.stem, where)]
    if not where.is_dir():
        raise MissingFileError(f"no notebook and no folder {where}")
    notebooks = sorted(p for p in where.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not notebooks:
        raise MissingFileError(f"no notebook (*.ipynb) in {where}")
    names = ["/".join(p.relative_to(where).with_suffix("").parts) for p in notebooks]
    short = [name.removesuffix(f"/{assignment}").removesuffix(f"/{assignment}") for name in names]
    return sorted((s if short.count(s) == 1 else n, p) for s, n, p in zip(short, names, notebooks, strict=True))


def _grade_one(student: str, path: Path, exam: Exam, library: Path, limits: Limits, isolated: bool) -> Graded:
    try:
        cells = _code_cells(path)
    except FileFormatError as error:
        return _result(student, path, exam, {}, {}, str(error))
    present = {name for name, _ in cells}
    absent = {q.name: f"the graded cell {q.cell!r} is not in the notebook; copy the answer into a fresh student copy"
              for q in exam.questions if q.cell not in present}
    needed = [text for name, text in cells if not name.endswith("-tests")]      # tests only try what others define
    task = {"cells": needed, "questions": exam.task, "seconds": limits.seconds, "cell_seconds": limits.cell_seconds,
            "memory_mib": limits.memory_mib, "processes": limits.processes}
    ran = sandbox.run("needle_lab.grading.worker", json.dumps(task), library, limits, isolated)
    heard = _Heard(ran.output)
    reason = ran.problem or ("" if heard.ready else "the process ended") or "no answer came back"
    if not heard.ready and heard.cell is not None:
        reason += f", in code cell {heard.cell + 1}"
    return _result(student, path, exam, heard.answers, absent, reason, heard.errors)


def _code_cells(path: Path) -> list[tuple[str, str]]:
    """(grade_id, source) of each code cell; raises FileFormatError for whatever is not a notebook with code."""
    if path.is_symlink() or not path.is_file():
        raise FileFormatError(f"{path.name} is not a regular file")         # a link could point at anyone's work
    if path.stat().st_size > MAX_NOTEBOOK_MIB << 20:
        raise FileFormatError(f"{path.name} is larger than {MAX_NOTEBOOK_MIB} MiB: clear its outputs first")
    cells = [(grade_id(c), source_of(c)) for c in read_notebook(path)["cells"] if c.get("cell_type") == "code"]
    if not cells:
        raise FileFormatError(f"{path.name} has no code cells")
    return cells


class _Heard:
    """What the learner's process said, line by line. Lines that are not what worker.py writes are skipped."""

    def __init__(self, output: bytes):
        self.ready = False
        self.cell: int | None = None                        # the last one that was started
        self.errors: list[str] = []
        self.answers: dict[tuple[str, int], Outcome] = {}
        for event in self._events(output):
            match event:
                case {"ready": True}:
                    self.ready = True
                case {"cell": int(i), "error": str(text)} if 0 <= i < 10**6 and len(self.errors) < MAX_ERRORS:
                    self.errors.append(f"code cell {i + 1}: {printable(text, most=500)}")
                case {"cell": int(i)} if 0 <= i < 10**6:
                    self.cell = i
                case {"question": str(name), "case": int(i), "kind": str(kind)} if (
                        kind in KINDS and len(self.answers) < MAX_ANSWERS):
                    self.answers.setdefault((name, i), self._outcome(kind, event))

    @staticmethod
    def _events(output: bytes) -> Iterator[Any]:
        begin = 0
        while begin < len(output):
            end = output.find(b"\n", begin)
            line, begin = output[begin:len(output) if end < 0 else end], (len(output) if end < 0 else end) + 1
            if sum(map(line.count, (b"[", b"{", b",", b":"))) > MAX_PARTS:          # JSON takes 100 times its text
                continue
            try:
                yield json.loads(line or b"null")
            except (ValueError, RecursionError):
                continue

    @staticmethod
    def _outcome(kind: str, event: dict[str, Any]) -> Outcome:
        try:
            value = decode(event.get("value"))
        except (ValueError, RecursionError) as error:
            return Outcome("lost", message=f"the answer could not be read: {error}")
        changed = event.get("changed") or []
        changed = tuple(i for i in changed if type(i) is int and i >= 0) if isinstance(changed, list) else ()
        return Outcome(kind, value, printable(event.get("message", ""), most=500), changed)


def _result(student: str, path: Path, exam: Exam, answers: dict[tuple[str, int], Outcome], absent: dict[str, str],
            reason: str, errors: list[str] | None = None) -> Graded:
    """Judge every case of every question; a case without an answer fails for the reason given."""
    feedbacks = []
    for q in exam.questions:
        trials = []
        stopped = ""
        for i, (case, expected) in enumerate(zip(exam.cases[q.name], exam.expected[q.name], strict=True)):
            missing = absent.get(q.name)
            outcome = Outcome("missing", message=missing) if missing else answers.get((q.name, i))
            if outcome is None:
                outcome = Outcome("lost", message=stopped or reason)
            if outcome.kind == "timed out":
                stopped = "not run, because a smaller input did not end in time"
            if any(i >= len(case.args) for i in outcome.changed):               # forged: there is no such input
                outcome = replace(outcome, changed=())
            trials.append(judge(q, case, outcome, expected))
        feedbacks.append(Feedback(q, tuple(trials)))
    note = printable("; ".join(dict.fromkeys(absent.values())) if absent else "" if answers else reason, most=1000)
    return Graded(printable(student), path, tuple(feedbacks), note, tuple(errors or ()))
