"""Release and grading: full, partial and zero points; nothing overwritten; cheats gain nothing; nothing crashes."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peers import needs, require

from needle_lab import cli
from needle_lab.errors import ArgumentError, FileFormatError, MissingFileError, StorageError
from needle_lab.grading import autograde, grade, release, sandbox
from needle_lab.grading.autograde import _Heard
from needle_lab.grading.calls import call
from needle_lab.grading.codec import decode, encode, plain
from needle_lab.grading.compare import Foreign, close
from needle_lab.grading.question import questions_of
from needle_lab.grading.sandbox import Limits
from needle_lab.grading.student_copy import grade_id, source_of, student_version

SOURCE = Path(__file__).parent.parent / "assignments" / "a1" / "a1.ipynb"
ISOLATIONS = [pytest.param("process"), pytest.param("bubblewrap", marks=pytest.mark.skipif(
    not sandbox.bubblewrap(), reason="bubblewrap is not installed, or user namespaces are forbidden"))]


def notebook() -> dict:
    return json.loads(SOURCE.read_text(encoding="utf-8"))


def with_cells(**sources: str | None) -> dict:
    """The solved assignment with some cells replaced (None: removed), by grade_id with - written as _."""
    made = notebook()
    sources = {name.replace("_", "-"): text for name, text in sources.items()}
    made["cells"] = [c for c in made["cells"] if sources.get(grade_id(c), "") is not None]
    for cell in made["cells"]:
        if text := sources.get(grade_id(cell)):
            cell["source"] = text
    return made


def hand_in(folder: Path, **students: dict | str | bytes) -> Path:
    require("IPython")
    folder.mkdir(exist_ok=True)
    for name, content in students.items():
        if isinstance(content, dict):
            content = json.dumps(content)
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / f"{name}.ipynb").write_bytes(data)
    return folder


def totals(report) -> dict[str, float]:
    return {g.student: g.total for g in report.graded}


# ------------------------------------------------------------------------------------------ release

def test_the_student_copy_has_stubs_and_no_solution_no_hidden_test_no_output(tmp_path):
    path = release(SOURCE, tmp_path / "new folder")
    text = path.read_text(encoding="utf-8")
    for gone in ("SOLUTION", "HIDDEN", "sum_to", "assert check", "placed"):
        assert gone not in text
    copy, source = json.loads(text), notebook()
    assert [c["id"] for c in copy["cells"]] == [c["id"] for c in source["cells"]]
    assert [c["metadata"] for c in copy["cells"]] == [c["metadata"] for c in source["cells"]]
    answer = next(source_of(c) for c in copy["cells"] if grade_id(c) == "a1-q1")
    assert answer.count('    raise NotImplementedError("write your solution here")') == 2
    for cell in copy["cells"]:
        if cell["cell_type"] == "code":
            compile(source_of(cell), "cell", "exec")
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_release_never_overwrites(tmp_path):
    path = release("a1", tmp_path)
    path.write_text("a student's work", encoding="utf-8")
    with pytest.raises(StorageError, match="already there.*nothing was written"):
        release("a1", tmp_path)
    assert path.read_text(encoding="utf-8") == "a student's work"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")             # a link to nowhere is somebody's file too
    with pytest.raises(StorageError):
        release("a1", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a1.ipynb"]     # and no temporary file is left


@pytest.mark.parametrize("source", [
    "### BEGIN SOLUTION\nx = 1", "x = 1\n### END SOLUTION", "### BEGIN HIDDEN TESTS\nassert x",
    "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION",
])
def test_a_marker_without_its_partner_is_an_error_and_no_solution_slips_out(source):
    with pytest.raises(FileFormatError, match="cell a1-q1"):
        student_version(with_cells(a1_q1=source))


def test_release_of_something_that_is_not_there(tmp_path):
    with pytest.raises(MissingFileError, match="a99"):
        release("a99", tmp_path)


# ------------------------------------------------------------------------------------------ points

WRONG = """
def sigmoid_vjp(g, x):
    s = 1 / (1 + np.exp(-x))
    return g * s * (1 - s)

def mul_vjp(g, x, y):
    return g * y, g * x
"""


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_correct_wrong_and_empty_get_full_partial_and_zero(tmp_path, isolation):
    folder = hand_in(tmp_path / "in", correct=notebook(), wrong=with_cells(a1_q1=WRONG),
                     empty=student_version(notebook()))
    report = grade(folder, "a1", seed=1, isolation=isolation)
    assert totals(report) == {"correct": 10, "wrong": 8, "empty": 0}
    points = {g.student: g.points for g in report.graded}
    assert points["wrong"] == {"a1.q1": 2, "a1.q2": 3, "a1.q3": 3}      # 5 of the 10 cases of question 1
    empty = next(g for g in report.graded if g.student == "empty")
    assert all("not written yet" in reason for reason in empty.reasons.values())
    reasons = next(g.reasons for g in report.graded if g.student == "wrong")
    assert reasons == {"a1.q1": "a vector times a scalar: entry 1 of the result has shape (3,), expected ()"}


def test_the_report_prints_and_is_written(tmp_path, capsys):
    folder = hand_in(tmp_path / "in", **{"=cmd()": with_cells(a1_q2="1 / 0")})
    out = tmp_path / "out"
    assert cli.main(["grade", "run", "a1", str(folder), "--out", str(out), "--seed", "7"]) == 0
    printed = capsys.readouterr().out
    assert "total /10" in printed and "seed 7" in printed and "isolation:" in printed and printed.isascii()
    row = next(csv.DictReader(io.StringIO((out / "grades.csv").read_text(encoding="utf-8"))))
    assert row["student"] == "'=cmd()" and float(row["total"]) == 7     # a spreadsheet must not run a name
    student = json.loads((out / "grades.json").read_text(encoding="utf-8"))["students"][0]
    assert "ZeroDivisionError" in student["cell_errors"][0]
    assert "there is no function topological_order" in student["reasons"]["a1.q2"]
    page = next((out / "feedback").iterdir()).read_text(encoding="utf-8")
    assert "7 of 10 points" in page and "ZeroDivisionError" in page


@needs("IPython")
def test_students_are_named_by_their_folder_or_file(tmp_path):
    for path in ("alice/a1/a1.ipynb", "bob/a1.ipynb", "carol.ipynb", "carol/a1.ipynb", ".ipynb_checkpoints/x.ipynb"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("", encoding="utf-8")
    names = [g.student for g in grade(tmp_path, "a1").graded]
    assert names == ["alice", "bob", "carol", "carol/a1"]


@needs("IPython")
def test_grading_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(MissingFileError, match="no notebook"):
        grade(tmp_path, "a1")
    with pytest.raises(MissingFileError, match="no folder"):
        grade(tmp_path / "nowhere", "a1")
    with pytest.raises(ArgumentError, match="no assignment 'a99'"):
        grade(hand_in(tmp_path, a=""), "a99")
    with pytest.raises(ArgumentError, match="isolation"):
        grade(tmp_path, "a1", isolation="none")


# ------------------------------------------------------------------------------------------ bad files

def test_notebooks_that_cannot_be_graded_get_zero_and_the_reason(tmp_path):
    folder = hand_in(tmp_path / "in", blank="", text="not json", latin=b'{"cells": "\xff"}', other="[1, 2]",
                     deep="[" * 200_000, nocells={"cells": []}, odd={"cells": [1]}, lost=with_cells(a1_q3=None),
                     weird={"cells": [{"cell_type": "code", "metadata": 3, "source": [1, None]}]})
    (folder / "link.ipynb").symlink_to(SOURCE)          # to somebody else's solution
    report = grade(folder, "a1", seed=1)
    notes = {g.student: g.note for g in report.graded}
    assert {s: t for s, t in totals(report).items() if t} == {"lost": 7}
    for student, words in {"blank": "is empty", "text": "not JSON", "latin": "not JSON", "other": "not a notebook",
                           "deep": "not JSON", "nocells": "no code cells", "odd": "not a notebook",
                           "lost": "'a1-q3' is not in the notebook", "weird": "'a1-q1' is not in the notebook",
                           "link": "not a regular file"}.items():
        assert words in notes[student], student


# ------------------------------------------------------------------------------------------ cheats

STUBS = {"a1_q1": "pass", "a1_q2": "pass", "a1_q3": "pass"}

CHEATS = {
    "patches the comparison": """
import builtins, numpy, needle_lab.grading.compare as c, needle_lab.grading.calls as k, needle_lab.grading.feedback as f
for module in (c, k):
    module.close = lambda *a: ""
c.valid_order = c._differs = c._numbers_differ = lambda *a: ""
f.judge = lambda *a: True
f.Feedback.passed = f.Feedback.share = True
numpy.isclose = numpy.allclose = lambda *a, **k: True
class Same(dict):
    __eq__ = lambda self, other: True
    __contains__ = lambda self, key: True
    __hash__ = lambda self: 0
sigmoid_vjp = mul_vjp = topological_order = backward = lambda *a: Same()
""",
    "ends the process with success": "import os; os._exit(0)",
    "asks to exit": "import sys; sys.exit(0)",
    "prints results": """
import json, os
for name in ("a1.q1", "a1.q2", "a1.q3"):
    for i in range(20):
        line = json.dumps({"question": name, "case": i, "kind": "returned", "value": None, "passed": True,
                           "points": 10, "share": 1.0, "complaint": ""}) + "\\n"
        print(line)
        for descriptor in range(3, 20):
            try:
                os.write(descriptor, line.encode())
            except OSError:
                pass
""",
    "looks for the oracles": """
from needle_lab.grading.questions.a1 import sigmoid_vjp, mul_vjp, topological_order, backward
""",
    "returns things that are equal to everything": """
class Yes:
    __array_priority__ = 1e9
    def __eq__(self, other): return True
    def __array__(self, *a, **k): raise TypeError
    def __len__(self): return 2
    def __getitem__(self, i): return self
    def __contains__(self, i): return True
sigmoid_vjp = mul_vjp = topological_order = backward = lambda *a: Yes()
""",
    "breaks the encoder": """
import needle_lab.grading.worker as w, sys
w.encode = sys.modules["__main__"].encode = lambda value, depth=0: {"dict": [[{"list": []}, 1]]}
sigmoid_vjp = mul_vjp = topological_order = backward = lambda *a: 1
""",
    "closes every file": "import os\nos.closerange(0, 100)",
}


@pytest.fixture(scope="module", params=ISOLATIONS)
def cheated(request, tmp_path_factory):
    names = {f"c{i}": name for i, name in enumerate(CHEATS)}
    folder = hand_in(tmp_path_factory.mktemp("cheats"),
                     **{n: with_cells(**STUBS, a1_setup=CHEATS[name]) for n, name in names.items()})
    return {names[g.student]: g for g in grade(folder, "a1", seed=1, isolation=request.param).graded}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_gains_nothing(cheated, name):
    assert cheated[name].total == 0
    assert all(f.failure.complaint for f in cheated[name].feedbacks)


def test_points_and_tests_in_the_notebook_count_for_nothing(tmp_path):
    made = with_cells(**STUBS, a1_q1_tests="assert True", a1_q2_tests="assert True", a1_q3_tests="assert True")
    for cell in made["cells"]:
        cell["metadata"]["nbgrader"].update(points=1000, grade=True)
    renamed = notebook()
    for cell in renamed["cells"]:                       # the answers to 1 and 2 claim to be the one to 3
        if grade_id(cell) in ("a1-q1", "a1-q2"):
            cell["metadata"]["nbgrader"]["grade_id"] = "a1-q3"
    report = grade(hand_in(tmp_path / "in", points=made, ids=renamed), "a1", seed=1)
    assert totals(report) == {"ids": 3, "points": 0} and report.possible == 10


LOOP = "def backward(graph, slopes, order):\n    while True:\n        pass\n"
HARD_LOOP = """
def backward(graph, slopes, order):
    import signal
    for alarm in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(alarm, signal.SIG_IGN)
    while True:
        pass
"""


def test_an_endless_loop_costs_only_its_own_question(tmp_path, monkeypatch):
    """All limits are of processor time, and many times what an honest call or cell takes on a slow machine."""
    quick = {name: replace(q, seconds=2) for name, q in questions_of("a1").items()}
    monkeypatch.setattr(autograde, "questions_of", lambda assignment: quick)
    folder = hand_in(tmp_path / "in", soft=with_cells(a1_q3=LOOP), hard=with_cells(a1_q3=HARD_LOOP),
                     cell=with_cells(a1_q1="while True: pass"))
    report = grade(folder, "a1", seed=1, limits=Limits(cell_seconds=8))
    assert totals(report) == {"soft": 7, "hard": 7, "cell": 6}
    by_name = {g.student: g for g in report.graded}
    assert "still running after 2 seconds of processor time" in by_name["soft"].reasons["a1.q3"]
    assert by_name["cell"].errors == ("code cell 2: TimeUp: still running after 8 seconds of processor time",)


def test_a_call_that_waits_uses_no_processor_time_and_is_stopped_by_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr("needle_lab.grading.calls.by_the_clock", lambda seconds: 0.2)
    outcome = call(time.sleep, (1000,), seconds=1000)
    assert outcome.kind == "timed out" and outcome.message == "still running after 0.2 seconds"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_notebook_that_resists_is_stopped_as_a_whole(tmp_path, isolation):
    stubborn = HARD_LOOP + "\nbackward(0, 0, 0)"
    folder = hand_in(tmp_path / "in", cell=with_cells(a1_q1=stubborn))
    (graded,) = grade(folder, "a1", limits=Limits(seconds=10), isolation=isolation).graded
    assert graded.total == 0 and graded.note == "stopped after 10 seconds of processor time, in code cell 2"


def test_memory_and_output_are_limited(tmp_path):
    wide = "def sigmoid_vjp(g, x):\n    return np.ones(10**10)\n"
    long = "def sigmoid_vjp(g, x):\n    return np.ones(10**7)\n"
    folder = hand_in(tmp_path / "in", wide=with_cells(a1_q1=wide), long=with_cells(a1_q1=long))
    long, wide = grade(folder, "a1", seed=1, limits=Limits(output_mib=32)).graded
    assert wide.total == 6 and "MemoryError" in wide.reasons["a1.q1"]
    assert long.total == 0 and "more than 32 MiB" in long.reasons["a1.q1"]


@pytest.mark.skipif(not sandbox.bubblewrap(), reason="bubblewrap is not installed, or user namespaces are forbidden")
def test_bubblewrap_hides_files_network_processes_and_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADEBOOK_KEY", "hidden")
    (tmp_path / "grades.csv").write_text("", encoding="utf-8")
    look = f"""
import os, socket, pathlib
seen = []
for path in ({str(tmp_path)!r}, {str(SOURCE)!r}, os.path.expanduser("~root"), "/etc/passwd", "/home", "/root"):
    if os.path.isfile(path) or os.path.isdir(path) and any(f for f in os.listdir(path) if not f.startswith(".pyenv")):
        seen.append(path)
for folder in ("/library", {str(sandbox.PACKAGE)!r}):
    seen += list(pathlib.Path(folder).rglob("questions/a1.py"))
if "GRADEBOOK_KEY" in os.environ: seen.append("environment")
if len([p for p in os.listdir("/proc") if p.isdigit()]) > 4: seen.append("processes")
if [name for _, name in socket.if_nameindex() if name != "lo"]: seen.append("network")
raise ValueError(seen)
"""
    report = grade(hand_in(tmp_path / "in", spy=with_cells(a1_setup=look)), "a1", seed=1, isolation="bubblewrap")
    assert report.graded[0].errors[0] == "code cell 1: ValueError: []"


# ------------------------------------------------------------------------------------------ the pipe

@pytest.mark.parametrize("value", [
    None, True, 3, -2.5, "text", [1, (2, {"a": 3})], {(1, 2): "x"}, np.arange(6.0).reshape(2, 3), np.zeros((0, 3)),
    np.float32(2), np.int64(3), np.array(True), np.array([1 + 2j]), float("nan"), float("inf"),
], ids=str)
def test_plain_data_crosses_unchanged(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert close((), back, value) == "" if value is not None else back is None


def test_what_is_not_data_crosses_as_its_name():
    endless: list = []
    endless.append(endless)
    for value in ((x for x in "ab"), object(), np.array([object()]), np.array(["a"]), Foreign, {1, 2}, 3j):
        assert isinstance(plain(value), Foreign)
    assert "deeper" in repr(plain(endless))


@pytest.mark.parametrize("data", [
    [], {}, {"list": 3}, {"list": [], "tuple": []}, {"dict": [[1]]}, {"dict": [[{"list": []}, 1]]},
    {"array": "AAAA", "dtype": "<f8", "shape": [1]}, {"array": "!", "dtype": "<f8", "shape": []},
    {"array": "", "dtype": "O", "shape": [0]}, {"array": "", "dtype": "<f8,<f8", "shape": [0]},
    {"array": "", "dtype": "<f7", "shape": [0]}, {"array": "", "dtype": "<f8", "shape": [-1, 0]},
    {"array": "AAAAAAAAAAA=", "dtype": "<f8", "shape": [10**30]}, {"array": "", "dtype": "<f8", "shape": [0] * 100},
], ids=str)
def test_what_is_not_the_format_is_refused(data):
    with pytest.raises(ValueError):
        decode(data)


def test_noise_in_the_pipe_is_skipped():
    noise = b'\xff\n{"cell": "x"}\n[1]\nnull\n{"question": "q", "case": 0, "kind": "passed"}\n' + b"[" * 100_000 + b"\n"
    heard = _Heard(noise + b'{"question": "q", "case": 0, "kind": "returned", "value": 1, "changed": [-1, "x"]}\n')
    assert heard.answers[("q", 0)].value == 1 and heard.answers[("q", 0)].changed == ()
    assert not heard.ready and heard.cell is None
