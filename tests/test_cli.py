"""The command line: every subcommand, and every way to ask it for something that is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers import needs

from needle_lab import cli, doctor, nn
from needle_lab.errors import MissingFileError
from needle_lab.serialize import save_state_dict


def test_doctor_prints_ascii_and_names_a_remedy_for_everything_missing(capsys):
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    for name in ("Python", "NumPy", "Cores", "GPU", "Triton", "PyTorch", "JupyterLab", "onnxruntime", "Browser"):
        assert name in text
    assert all(bool(f.advice) != f.present for f in doctor.examine())


def test_doctor_json_holds_the_same_findings(capsys, monkeypatch):
    found = doctor.examine()                                # once: a tool may answer too late the second time
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == doctor.as_json(found)


def test_doctor_imports_no_heavy_library():
    heavy = "torch triton onnx onnxruntime matplotlib ipywidgets jupyterlab numba sklearn".split()
    code = f"import sys; from needle_lab import cli; cli.main(['doctor']); print(set(sys.modules) & set({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_tool_that_is_not_there_answers_nothing():
    assert doctor._answer(["no-such-tool-anywhere"]) == ""
    assert doctor._answer([sys.executable, "-c", "raise SystemExit(3)"]) == ""


@pytest.mark.parametrize("command", [["summary"], ["diff", __file__], ["inspect"]])
def test_a_missing_file_is_one_message_and_no_traceback(command, capsys):
    assert cli.main([*command, "nowhere.onnx"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("needle-lab: no file ") and error.count("\n") == 1


def test_inspect_refuses_a_file_that_is_not_onnx(tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    assert cli.main(["inspect", str(weights)]) == 2
    assert "needle-lab summary" in capsys.readouterr().err


def test_no_subcommand_shows_how_it_is_used(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert "usage: needle-lab" in capsys.readouterr().err


def test_it_runs_as_a_module_from_any_folder(tmp_path):
    done = subprocess.run([sys.executable, "-m", "needle_lab.cli", "--version"], cwd=tmp_path, capture_output=True,
                          text=True, check=True)
    assert done.stdout.startswith("needle-lab ")


def test_an_option_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--jsn"])
    assert "--jsn" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- saved models

@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    for name, width in (("narrow", 4), ("wide", 6)):
        save_state_dict(nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2)), folder / name)
    return folder


def test_summary_of_a_file_is_its_tree_with_shapes(saved, capsys):
    assert cli.main(["summary", str(saved / "narrow")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Sequential" and lines[-1] == "26 parameters"
    assert [line.split()[2:5] for line in lines if "Parameter" in line][0] == ["(4,", "3)", "float32"]


def test_diff_exits_like_diff(saved, capsys):
    assert cli.main(["diff", str(saved / "narrow"), str(saved / "narrow")]) == 0
    assert "can load" in capsys.readouterr().out
    assert cli.main(["diff", str(saved / "narrow"), str(saved / "wide")]) == 1
    assert "(4, 3) -> (6, 3)" in capsys.readouterr().out
    assert cli.main(["diff", "--json", str(saved / "narrow"), str(saved / "wide")]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "partly"


def test_a_damaged_file_is_one_message(tmp_path, capsys):
    (tmp_path / "bad").write_bytes(b"\0" * 100)
    assert cli.main(["summary", str(tmp_path / "bad")]) == 2
    assert capsys.readouterr().err.startswith("needle-lab: ")


# ------------------------------------------------------------------------------------------------- lab

@pytest.fixture
def clone(tmp_path) -> Path:
    lecture = tmp_path / "clone" / "notebooks" / cli.FIRST_LECTURE
    lecture.parent.mkdir(parents=True)
    lecture.write_text("{}", encoding="utf-8")
    return tmp_path / "clone"


def test_the_lectures_are_found_from_inside_a_clone(clone):
    deep = clone / "needle_lab" / "ops"
    deep.mkdir(parents=True)
    assert cli.find_notebooks(clone) == cli.find_notebooks(deep) == clone / "notebooks"


def test_lab_opens_the_first_lecture_without_pop_ups(clone, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    words = cli.lab_arguments(clone / "notebooks", ["--port", "8890"])
    assert f"--LabApp.default_url=/lab/tree/{cli.FIRST_LECTURE}" in words and words[-2:] == ["--port", "8890"]
    assert "--LabApp.news_url=None" in words
    assert "--allow-root" not in words


@needs("jupyterlab")
def test_options_after_lab_go_to_jupyterlab(clone, monkeypatch):
    import jupyterlab.labapp

    given = []
    monkeypatch.setattr(jupyterlab.labapp, "main", given.extend)
    monkeypatch.chdir(clone)
    assert cli.main(["lab", "--no-browser", "--port=8890"]) == 0
    assert given[-2:] == ["--no-browser", "--port=8890"]


def test_lab_hands_out_assignments_once_and_leaves_work_alone(clone, capsys):
    source = clone / "assignments" / "a1" / "a1.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text('{"cells": []}', encoding="utf-8")
    cli._hand_out(clone / "notebooks")
    copy = clone / "notebooks" / "assignments" / "a1.ipynb"
    copy.write_text("work", encoding="utf-8")
    cli._hand_out(clone / "notebooks")
    assert copy.read_text(encoding="utf-8") == "work"
    assert capsys.readouterr().out.count("new assignment") == 1


def test_root_is_allowed_only_for_root(clone, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert "--allow-root" in cli.lab_arguments(clone / "notebooks", [])


def test_lab_says_what_to_do_without_a_folder_of_lectures(tmp_path):
    with pytest.raises(MissingFileError, match="not a folder"):
        cli.lab_arguments(tmp_path / "nowhere", [])
