"""The grading room: instant feedback for a learner, isolated grading for an instructor.

    check("a1.q1")                  in a notebook: right or wrong, and on which smallest input
    release("a1", folder)           a student copy of an assignment: no solutions, no hidden tests
    grade(folder, "a1")             run what came back, each in isolation, and report

A question is data (`question.py`): the names of the functions to write, an oracle for each, inputs from the smallest
to the largest, a comparison and hints. `check` and `grade` read the same declaration, so they cannot disagree;
they differ in who is trusted. `check` runs in the learner's own kernel and is there to teach. `grade` runs the
learner's code in a process of its own that gets inputs, returns data, and never sees an expected value.
"""

from __future__ import annotations

import importlib
from typing import Any

from needle_lab.grading.instant import check

__all__ = ["check", "grade", "release"]

_LAZY = {"release": "needle_lab.grading.student_copy", "grade": "needle_lab.grading.autograde"}


def __getattr__(name: str) -> Any:
    """The instructor's tools are imported when they are first used: a learner's notebook needs none of them."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
