"""`check("a1.q1")`: right or wrong at once, and when wrong, on the smallest input that shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from needle_lab.grading.calls import Outcome, call, can_limit_time
from needle_lab.grading.codec import plain
from needle_lab.grading.feedback import Feedback, Trial, judge
from needle_lab.grading.question import Question, question

SEED = 0            # of the inputs that learners see; grading uses others


def check(name: str, namespace: Mapping[str, Any] | None = None) -> Feedback:
    """Try the functions of one question on inputs from the smallest up, and stop at the first that fails.

    name: a question, e.g. "a1.q1".
    namespace: where the functions are looked up; by default the globals of the caller, which in a notebook is the
        notebook itself.
    Returns a Feedback: true when everything passed, shown with the inputs, your answer and the expected one.
    Raises ArgumentError for a question that does not exist; a wrong answer raises nothing.
    A call that does not end is stopped after the question's time limit (POSIX, main thread; the feedback says so
    where it cannot be).
    """
    if namespace is None:
        namespace = sys._getframe(1).f_globals
    asked = question(name)
    return Feedback(asked, tuple(_climb(asked, namespace)), time_limited=can_limit_time())


def _climb(asked: Question, namespace: Mapping[str, Any]) -> list[Trial]:
    trials: list[Trial] = []
    for case in asked.cases(SEED):
        if trials and not trials[-1].passed:
            trials.append(Trial(case))
            continue
        function = namespace.get(case.function)
        if callable(function):
            outcome = call(function, case.args, asked.seconds)
            outcome = replace(outcome, value=plain(outcome.value))
        else:
            outcome = Outcome("missing", message=f"there is no function {case.function} here: run the cell that "
                                                 "defines it, under this name")
        trials.append(judge(asked, case, outcome, asked.expected(case)))
    return trials
