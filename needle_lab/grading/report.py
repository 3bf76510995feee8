"""What an instructor gets from a grading run: a table to print, CSV and JSON to keep, an HTML page per student."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from needle_lab.errors import StorageError
from needle_lab.grading.feedback import Feedback
from needle_lab.grading.question import Question
from needle_lab.untrusted import printable

LONGEST_NAME = 200              # bytes, of a page: file systems take 255
FORMULAS = tuple("=+-@\t\r\n\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}"
                 "\N{FULLWIDTH COMMERCIAL AT}")


@dataclass(frozen=True)
class Graded:
    """One notebook. note: why there is nothing to grade, or what is missing; errors: cells that raised."""

    student: str
    path: Path
    feedbacks: tuple[Feedback, ...]
    note: str = ""
    errors: tuple[str, ...] = ()

    @property
    def points(self) -> dict[str, float]:
        """Points of each question: its points times the share of cases that passed, to two decimals."""
        return {f.question.name: round(f.question.points * f.share, 2) for f in self.feedbacks}

    @property
    def total(self) -> float:
        """The points of all questions."""
        return round(sum(self.points.values()), 2)

    @property
    def reasons(self) -> dict[str, str]:
        """For each question that lost points, what went wrong on the smallest input."""
        return {f.question.name: f"{f.failure.case.note}: {f.failure.complaint}" for f in self.feedbacks if f.failure}


@dataclass(frozen=True)
class GradeReport:
    """The outcome of grading an assignment. print() shows the table; `write` saves everything."""

    assignment: str
    questions: tuple[Question, ...]
    graded: tuple[Graded, ...]
    seed: int
    isolation: str

    @property
    def possible(self) -> float:
        """The points of a perfect notebook."""
        return sum(q.points for q in self.questions)

    def __repr__(self) -> str:
        rows = [["student", *(f"{q.name} /{q.points:g}" for q in self.questions), f"total /{self.possible:g}", "note"]]
        rows += [[g.student, *(f"{p:g}" for p in g.points.values()), f"{g.total:g}", g.note] for g in self.graded]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]).rstrip()
                 for row in rows]
        lines.append(f"{len(self.graded)} notebooks, inputs from seed {self.seed}")
        lines.append(f"isolation: {self.isolation}")
        return "\n".join(lines).encode("ascii", "backslashreplace").decode("ascii")

    def to_csv(self) -> str:
        """One row per student, everything in quotes. Text that a spreadsheet would run as a formula gets an apostrophe in
        front (OWASP, CSV injection)."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(["student", *(q.name for q in self.questions), "total", "possible", "note"])
        for g in self.graded:
            table.writerow([_inert(g.student), *g.points.values(), g.total, self.possible, _inert(g.note)])
        return out.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {"assignment": self.assignment, "seed": self.seed, "isolation": self.isolation,
                "possible": self.possible, "points": {q.name: q.points for q in self.questions},
                "students": [{"student": g.student, "file": printable(g.path), "points": g.points, "total": g.total,
                              "note": g.note, "reasons": g.reasons, "cell_errors": list(g.errors)}
                             for g in self.graded]}

    def write(self, folder: str | Path) -> Path:
        """Write grades.csv, grades.json and feedback/STUDENT.html into a folder (made when missing); returns it."""
        folder = Path(folder)
        pages: dict[str, str] = {}
        for g in self.graded:
            name = re.sub(r"[^\w.-]+", "_", g.student)
            if len(name.encode()) > LONGEST_NAME or name in pages:
                name = f"{name[:LONGEST_NAME // 4]}_{hashlib.sha256(os.fsencode(g.path)).hexdigest()[:12]}"
            pages[name] = self.page(g)
        try:
            (folder / "feedback").mkdir(parents=True, exist_ok=True)
            (folder / "grades.csv").write_text(self.to_csv(), encoding="utf-8")
            (folder / "grades.json").write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
            for name, page in pages.items():
                (folder / "feedback" / f"{name}.html").write_text(page, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"could not write the report into {folder}: {error}") from error
        return folder

    def page(self, g: Graded) -> str:
        """The feedback of one student as an HTML page that needs nothing else."""
        notes = f"<p>{escape(g.note)}</p>" if g.note else ""
        if g.errors:
            notes += ("<p>Cells that raised an error when the notebook ran from top to bottom:</p><ul>"
                      + "".join(f"<li><code>{escape(e)}</code></li>" for e in g.errors) + "</ul>")
        parts = "".join(f"<h2>{g.points[f.question.name]:g} of {f.question.points:g}</h2>{f.html()}"
                        for f in g.feedbacks)
        return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
                f"<title>{escape(self.assignment)}: {escape(g.student)}</title>"
                "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;"
                "color:#222}h2{font-size:1em;margin:1.5em 0 .2em}code{font-size:.93em}</style></head>"
                f"<body><h1>{escape(self.assignment)}: {escape(g.student)}</h1>"
                f"<p><strong>{g.total:g} of {self.possible:g} points</strong></p>{notes}{parts}</body></html>\n")


def _inert(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.lstrip(" ;,|'\"")[:1] in FORMULAS else text
