"""What strangers hand in stops nobody else, shows nothing hidden, and costs no more than it is large."""

import csv
import io
import json
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pytest
from peers import require
from test_grading import ISOLATIONS, hand_in, notebook, totals, with_cells

import needle_lab
from needle_lab.errors import FileFormatError, NeedleError, ShapeError
from needle_lab.grading import autograde, grade, sandbox
from needle_lab.grading.autograde import _Heard
from needle_lab.grading.codec import decode
from needle_lab.untrusted import HIDDEN, checked_shape, printable

HOSTILE = ["\x1b[31mred", "bob\r=cmd|calc", "\u202egnp.exe", "a\nb", "\x9b5n", "half\ud800", "zero\u200bwidth", "\x00",
           "\u2028"]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hidden_leaves(text):
    shown = printable(text)
    assert not HIDDEN.search(shown) and shown.encode() and len(shown) > len(text)
    assert not HIDDEN.search(str(ShapeError(text)).replace("\n", "")) and issubclass(ShapeError, NeedleError)
    assert printable("plain text, \u00e9\u6a21 \U0001f600") == "plain text, \u00e9\u6a21 \U0001f600"
    assert printable("a\nb", lines=True) == "a\nb" and printable("abc", most=2) == "ab..."


@pytest.mark.parametrize("shape", [["a", 3_000_000_000], [1] * 65, [-1], [2**63], [True], [2.0], [10**4000] * 1000,
                                   [2**62, 2**62], [3]])
def test_a_shape_is_checked_before_it_is_multiplied(shape):
    with pytest.raises(ValueError):
        checked_shape(shape, 4, 8)
    assert checked_shape([2, 1], 4, 8) == (2, 1) and checked_shape([2**62, 2**62, 0], 4, 0) == (2**62, 2**62, 0)


@pytest.mark.parametrize("answer", [
    {"array": "AAAAAAAA", "dtype": "<f4", "shape": [10**4000] * 1000}, 10**3000,
    {"array": "", "dtype": "<f4", "shape": [1] * 300 + [0]}])
def test_forged_answers_are_refused_at_once(answer):
    begun = time.process_time()
    with pytest.raises(ValueError):
        decode(answer)
    assert time.process_time() - begun < 5                              # it took 86 s


def test_lines_of_millions_of_parts_are_skipped_before_they_are_built():
    line = b'{"question": "q", "case": 0, "kind": "returned", "value": {"list": [' + b'{"":{"":0}},' * 2_000_000 + b"0]}}"
    heard = _Heard(line + b'\n{"ready": true}\n' + b'{"cell": 1, "error": "x"}\n' * 100_000)
    assert heard.ready and not heard.answers and len(heard.errors) == autograde.MAX_ERRORS


def hostile(folder: Path) -> None:
    """Notebooks that ended the grading of a whole class, or nearly."""
    forge = "import os\nfor pipe in range(3, 20):\n    try:\n        os.write(pipe, {})\n    except OSError:\n        pass"
    answer = b'{"question": "a1.q1", "case": 0, "kind": "returned", "value": 1, "changed": [99]}\n'
    hand_in(folder, **{
        "surrogate": with_cells(a1_q1='raise ValueError("\\ud800\\x1b[2J")'),
        "forged": with_cells(a1_q1=forge.format(answer)),
        "digits": with_cells(a1_q1=forge.format("b'{\"cell\": ' + b'9' * 4300 + b'}\\n'")),
        "cells": {"cells": [3], "metadata": {}, "nbformat": 4}, "text": "\ud7ff not json", "deep": "[" * 100_000})
    for name in ("=1+1", "\uff1dcmd", "n" * 240, "\x1b[31m", "caf\udce9"):
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook()), encoding="utf-8")
    os.symlink("/dev/zero", folder / "link.ipynb")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_one_student_does_not_stop_the_class(tmp_path, isolation):
    folder = hand_in(tmp_path / "in", good=notebook(), better=notebook())
    hostile(folder)
    report = grade(folder, "a1", isolation=isolation, seed=1)
    found = totals(report)
    assert found["good"] == found["better"] == report.possible and len(found) == 14
    assert found["link"] == found["deep"] == found["text"] == 0
    out = report.write(tmp_path / "out")
    assert len(list((out / "feedback").iterdir())) == 14
    rows = list(csv.reader(io.StringIO((out / "grades.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 15 and all(len(row) == len(rows[0]) for row in rows)
    assert not any(row[0][:1] in "=+-@\uff1d" for row in rows)
    for text in (repr(report), *(path.read_text(encoding="utf-8") for path in out.rglob("*") if path.is_file())):
        assert not HIDDEN.search(text.replace("\n", ""))


@pytest.mark.skipif(not sandbox.bubblewrap(), reason="bubblewrap is not installed, or user namespaces are forbidden")
def test_an_environment_under_another_name_hides_the_questions_too(tmp_path, monkeypatch):
    """The environment is a link, and holds a second copy of the package: no name leads to a question."""
    require("IPython")
    real, link = tmp_path / "real", tmp_path / "link"
    shutil.copytree(Path(needle_lab.__file__).parent / "grading", real / "lib" / "needle_lab" / "grading")
    os.symlink(real, link)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "prefix", str(link))
        assert {(str(link), str(real)), (str(real), str(real))} <= set(mounts := sandbox._mounts())
    monkeypatch.setattr(sandbox, "_mounts", lambda: [*MOUNTS, *mounts])
    monkeypatch.setattr(sandbox, "_covered", [])
    sandbox.prove.cache_clear()
    try:
        sandbox.prove()
        assert {str(folder / "lib/needle_lab/grading/questions") for folder in (real, link)} <= set(sandbox._covered)
        places = [str(folder / "lib/needle_lab/grading/questions") for folder in (real, link)]
        spying = f"import os\nraise ValueError(repr(sum(map(os.listdir, {places}), [])))"
        folder = hand_in(tmp_path / "in", spy=with_cells(a1_q1=spying))
        assert "ValueError: []" in grade(folder, "a1", isolation="bubblewrap").graded[0].errors[0]
    finally:
        sandbox.prove.cache_clear()


@pytest.mark.skipif(not sandbox.bubblewrap(), reason="bubblewrap is not installed, or user namespaces are forbidden")
def test_questions_that_cannot_be_covered_are_an_error(monkeypatch):
    class Nowhere(list):
        def extend(self, items):
            """Nothing is covered."""
    monkeypatch.setattr(sandbox, "_covered", Nowhere())
    monkeypatch.setattr(sandbox, "_mounts", lambda: [*MOUNTS, ("/open", str(sandbox.PACKAGE.parent))])
    sandbox.prove.cache_clear()
    with pytest.raises(NeedleError, match="shows the questions, at /open/needle_lab/grading/questions"):
        sandbox.prove()
    sandbox.prove.cache_clear()


MOUNTS = sandbox._mounts()


def test_a_module_beside_the_model_does_not_run(tmp_path, monkeypatch):
    onnx = require("onnx")
    import needle_lab as ndl

    ndl.onnx.export(lambda x: ndl.relu(x @ x), ndl.randn(3, 3), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "onnx.py").write_text("open('ran', 'w')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert ndl.onnx_graph("model.onnx") and not (tmp_path / "ran").exists()


def test_a_zip_of_names_in_latin_1_unpacks_to_what_can_be_graded(tmp_path):
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/good.ipynb", json.dumps(notebook()))
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    os.rename(tmp_path / "in/good.ipynb", os.fsencode(tmp_path / "in") + b"/caf\xe9.ipynb")
    report = grade(tmp_path / "in", "a1", isolation="process")
    assert report.graded[0].total == report.possible and report.graded[0].student == "caf\\udce9"
    report.write(tmp_path / "out")


def test_an_error_of_a_file_is_printable(tmp_path):
    bad = tmp_path / "x\x1b[31m.ipynb"
    bad.write_text("{", encoding="utf-8")
    with pytest.raises(FileFormatError) as caught:
        autograde._code_cells(bad)
    assert not HIDDEN.search(str(caught.value))


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_layers_show_themselves_in_every_text_and_page(text, tmp_path):
    from needle_lab import nn

    class Model(nn.Module):
        def __init__(self, width=2):
            super().__init__()
            setattr(self, text, nn.Linear(2, width))

        def forward(self, x):
            return getattr(self, text)(x)
    try:
        needle_lab.nn.Sequential(Model()).signature()
    except NeedleError as error:                     # no name at all for a part of a path
        assert "cannot be part of a path" in str(error) and not HIDDEN.search(str(error))
        return
    model, other = Model(), Model(3)
    x = needle_lab.ones(1, 2)
    views = [needle_lab.show(model, x), needle_lab.diff(model, other), needle_lab.compare(model, Model(), x),
             needle_lab.program_graph(model, x)]
    shown = [repr(model), str(model.summary(x)), str(needle_lab.signature_diff(model, other)),
             str(needle_lab.program.trace(model, x)), *map(str, views), *(view.static_html() for view in views),
             *(json.dumps(view.live.data, ensure_ascii=False) for view in views if view.live)]
    with pytest.raises(NeedleError) as caught:
        other.load_state_dict(model.state_dict())
    for page in (*shown, str(caught.value)):
        assert not HIDDEN.search(page.replace("\n", "")), repr(page)[:300]
