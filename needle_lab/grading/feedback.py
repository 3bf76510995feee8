"""What a learner reads after a check: a text for the terminal, a static HTML panel for the notebook and the report.

A verdict is a colour *and* a glyph *and* a word. The panel needs no script: it survives saving, printing, nbconvert.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from html import escape
from itertools import islice
from typing import Any

import numpy as np

from needle_lab.grading.calls import Outcome
from needle_lab.grading.question import Case, Question
from needle_lab.untrusted import printable

PASS, FAIL, NOT_TRIED = "passed", "failed", "not tried"
MARKS = {                                       # ASCII, glyph, colour (contrast 3:1 or better on white and on black)
    PASS: ("[ok]", "\N{CHECK MARK}", "#178257"),
    FAIL: ("[no]", "\N{MULTIPLICATION SIGN}", "#c2530c"),
    NOT_TRIED: ("[  ]", "\N{MIDDLE DOT}", "#767676"),
}


@dataclass(frozen=True)
class Trial:
    """One case and what came of it; `outcome` is None when an earlier case had failed and this one was not tried."""

    case: Case
    outcome: Outcome | None = None
    expected: Any = None
    complaint: str = ""                     # what is wrong, in one sentence; "" when nothing is

    @property
    def passed(self) -> bool:
        """Whether the case was tried and its answer accepted."""
        return self.outcome is not None and not self.complaint

    @property
    def verdict(self) -> str:
        """PASS, FAIL or NOT_TRIED."""
        return NOT_TRIED if self.outcome is None else PASS if self.passed else FAIL


def judge(asked: Question, case: Case, outcome: Outcome, expected: Any) -> Trial:
    """Compare an outcome with the oracle's answer. This is the only place where an answer is found right."""
    if outcome.kind != "returned":
        complaint = outcome.message or outcome.kind
    elif complaint := asked.compare(case.args, outcome.value, expected):
        pass
    elif outcome.changed:
        names = asked.parameters(case.function)
        complaint = f"the answer is right, but the call changed its input {names[outcome.changed[0]]} in place"
    return Trial(case, outcome, expected, printable(complaint, most=1000))


@dataclass(frozen=True)
class Feedback:
    """The result of one question. True when every case passed."""

    question: Question
    trials: tuple[Trial, ...]
    time_limited: bool = True

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return all(t.passed for t in self.trials)

    @property
    def share(self) -> float:
        """Cases passed, as a share of all, 0 to 1."""
        return sum(t.passed for t in self.trials) / len(self.trials)

    @property
    def failure(self) -> Trial | None:
        """The smallest case that failed."""
        return next((t for t in self.trials if t.verdict == FAIL), None)

    def __bool__(self) -> bool:
        return self.passed

    def works(self) -> list[tuple[str, str]]:
        """The failed case in labelled lines: inputs, yours, expected, why, hint. Empty when everything passed."""
        t = self.failure
        if t is None or t.outcome is None:
            return []
        inputs = zip(self.question.parameters(t.case.function), t.case.args, strict=True)
        lines = [("input", f"{name} = {show(value)}") for name, value in inputs]
        if t.outcome.kind == "returned":
            lines.append(("yours", show(t.outcome.value)))
        lines.append(("expected", show(t.expected)))
        lines.append(("why", t.complaint))
        if t.case.hint:
            lines.append(("hint", t.case.hint))
        return lines

    def __repr__(self) -> str:
        q = self.question
        passed = sum(t.passed for t in self.trials)
        lines = [f"{MARKS[PASS if self else FAIL][0]} {q.name}: {q.title}: {passed} of {len(self.trials)} checks pass "
                 f"(worth {q.points:g} points)"]
        lines += [f"  {MARKS[t.verdict][0]} {t.case.function}: {t.case.note}" for t in self.trials]
        if works := self.works():
            lines.append("  the smallest input that fails:")
            for label, text in works:
                lines += [f"    {label if i == 0 else '':<9} {line}" for i, line in enumerate(text.split("\n"))]
        if not self.time_limited:
            lines.append("  (calls cannot be stopped here: a loop without end must be interrupted by hand)")
        return "\n".join(lines).encode("ascii", "backslashreplace").decode("ascii")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.html()}

    def html(self) -> str:
        """A static panel, everything escaped."""
        q = self.question
        _, glyph, colour = MARKS[PASS if self else FAIL]
        passed = sum(t.passed for t in self.trials)
        head = (f'<div style="font-weight:600"><span style="color:{colour}">{glyph} '
                f'{"passed" if self else "not yet"}</span> &nbsp;{escape(q.name)}: {escape(q.title)} '
                f'<span style="font-weight:400;opacity:.75">&nbsp;{passed} of {len(self.trials)} checks pass, '
                f"worth {q.points:g} points</span></div>")
        rows = "".join(_row(t) for t in self.trials)
        lines = "".join(_line(label, text) for label, text in self.works())
        works = ('<div style="margin:.6em 0 .2em;font-weight:600">The smallest input that fails</div>'
                 f'<table style="border-collapse:collapse;margin:0">{lines}</table>') if lines else ""
        note = "" if self.time_limited else ("<div>Calls cannot be stopped here: a loop without end must be "
                                             "interrupted by hand.</div>")
        return (f'<div role="group" aria-label="feedback for {escape(q.name)}" style="border-left:4px solid {colour};'
                f'padding:.4em .9em;margin:.3em 0;line-height:1.45">{head}'
                f'<ul style="list-style:none;margin:.4em 0;padding:0">{rows}</ul>{works}{note}</div>')


def _row(t: Trial) -> str:
    _, glyph, colour = MARKS[t.verdict]
    return (f'<li style="margin:0"><span style="display:inline-block;width:1.3em;color:{colour};font-weight:700" '
            f'title="{t.verdict}" aria-label="{t.verdict}">{glyph}</span>'
            f"<code>{escape(t.case.function)}</code> {escape(t.case.note)}</li>")


def _line(label: str, text: str) -> str:
    plain = label in ("why", "hint")
    body = escape(text) if plain else f'<code style="white-space:pre-wrap">{escape(text)}</code>'
    return ('<tr style="background:none"><th scope="row" style="text-align:left;vertical-align:top;font-weight:400;'
            f'opacity:.75;padding:.1em 1em .1em 0">{label}</th>'
            f'<td style="text-align:left;padding:.1em 0">{body}</td></tr>')


class _Short(reprlib.Repr):
    """A short repr that a person can read: arrays with their values, long containers cut in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxother = 4, 6, 8, 8, 200

    def repr_ndarray(self, x: np.ndarray, level: int) -> str:
        return np.array2string(x, precision=4, threshold=24, edgeitems=2, separator=", ", floatmode="maxprec_equal")

    def repr_dict(self, x: dict[str, Any], level: int) -> str:
        """In the order in which it was written: reprlib sorts, and for a graph the order is part of the question."""
        if not x:
            return "{}"
        if level <= 0:
            return "{...}"
        first = islice(x.items(), self.maxdict)
        entries = [f"{self.repr1(k, level - 1)}: {self.repr1(v, level - 1)}" for k, v in first]
        return f"{{{', '.join(entries)}{', ...' if len(x) > self.maxdict else ''}}}"

    def repr_float64(self, x: np.floating, level: int) -> str:
        return f"{x:.6g}"


_short = _Short()


def show(value: Any) -> str:
    """The value on a line or a few: what a feedback prints for inputs and answers."""
    return printable(_short.repr(value), lines=True, most=4000)
