"""What a graded question is: data, declared once, read by instant feedback and by the autograder."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from needle_lab.errors import ArgumentError
from needle_lab.grading.compare import close


@dataclass(frozen=True)
class Case:
    """One call of the learner's function: which function, on what, and what to think of when it fails."""

    function: str
    args: tuple[Any, ...]
    note: str                   # what is new about this input, in a few words
    hint: str = ""


@dataclass(frozen=True)
class Question:
    """A question: functions for the learner to write and everything needed to judge them.

    oracles: name of each function -> a correct one; its parameter names are the ones that feedback prints.
    ladder: a generator of random numbers -> cases, the smallest input first, so that the first case that fails is
        also the easiest one to think about.
    compare: (args, yours, expected) -> what is wrong in one sentence, or "" when the answer is right. It decides
        for questions with many right answers, where `expected` is only one of them.
    cell: the `grade_id` of the cell to fill in; its tests stand in the cell `<cell>-tests`.
        No cell whose name ends in -tests is run for grading: such cells only try what others define.
    points: for all cases together; each case is worth the same share, so that a solution that fails only on the
        hardest inputs keeps most of them.
    seconds: of processor time that one call may take.
    """

    name: str
    title: str
    points: float
    cell: str
    oracles: dict[str, Callable[..., Any]]
    ladder: Callable[[np.random.Generator], Iterable[Case]]
    compare: Callable[[tuple[Any, ...], Any, Any], str] = field(default=close)
    seconds: float = 5.0

    def cases(self, seed: int) -> list[Case]:
        """The cases that this seed gives. Instant feedback and grading use different seeds."""
        return list(self.ladder(np.random.default_rng(seed)))

    def expected(self, case: Case) -> Any:
        """What the oracle answers to a case."""
        return self.oracles[case.function](*case.args)

    def parameters(self, function: str) -> list[str]:
        """The names of the arguments of a function that is asked for."""
        return list(inspect.signature(self.oracles[function]).parameters)


def questions_of(assignment: str) -> dict[str, Question]:
    """The questions of an assignment such as "a1", by their full name ("a1.q1"), in order."""
    if not assignment.isidentifier():
        raise ArgumentError(f"{assignment!r} is not the name of an assignment; a name looks like 'a1'")
    module = f"needle_lab.grading.questions.{assignment}"
    try:
        declared = importlib.import_module(module).QUESTIONS
    except ModuleNotFoundError as error:
        if error.name not in (module, "needle_lab.grading.questions"):
            raise
        raise ArgumentError(f"there is no assignment {assignment!r}") from None
    return {q.name: q for q in declared}


def question(name: str) -> Question:
    """The question of this full name, e.g. "a1.q1"."""
    questions = questions_of(name.partition(".")[0])
    if name not in questions:
        raise ArgumentError(f"there is no question {name!r}; there are: {', '.join(questions)}")
    return questions[name]
