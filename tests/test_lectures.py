"""The lectures as files: what a learner finds in each, checked without running them (nbval runs them)."""

import ast
import re
from pathlib import Path

import pytest
from peers import require

nbformat = require("nbformat")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
LECTURES = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
LONGEST_HELPER = 10          # lines; a longer function belongs in the package
LINK = re.compile(r"\]\(([^)#]+)")


@pytest.fixture(params=LECTURES, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook):
    """(cell id, its syntax tree) of every code cell."""
    return [(cell.id, ast.parse(cell.source)) for cell in notebook.cells if cell.cell_type == "code"]


def test_the_lectures_are_numbered_without_a_gap():
    assert LECTURES and [path.name[:2] for path in LECTURES] == [f"{i:02}" for i in range(1, len(LECTURES) + 1)]


def test_a_lecture_is_committed_as_it_was_written(notebook):
    """No outputs and no run counters: a diff shows what changed in the lesson, nothing else."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"{cell.id} has outputs; clear them before committing"
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata, "the state of widgets is an output too"


def test_cells_have_ids_that_say_what_they_are(path, notebook):
    """Ids made by hand stay the same when a cell is edited, and a failing test names the lesson."""
    ids = [cell.id for cell in notebook.cells]
    number = int(path.name[:2])
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"l{number}-[a-z0-9-]+", name) for name in ids), ids


def test_first_cell_has_title_contents_and_time_and_the_last_a_way_on(path, notebook):
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    assert first.source.startswith(f"# Lecture {int(path.name[:2])}: ")
    assert "you will learn" in first.source and "*Time: " in first.source
    assert last.source.startswith("## What you learned")
    for following in LECTURES[LECTURES.index(path) + 1:][:1]:
        assert following.name in LINK.findall(last.source), f"the last cell does not link to {following.name}"


def test_links_lead_somewhere(notebook):
    """Relative links point at files; assignments are handed out into notebooks/assignments by `make lab`."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for link in LINK.findall(cell.source):
                if not link.startswith(("http:", "https:", "mailto:")):
                    handed_out = list(ROOT.glob(f"assignments/*/{Path(link).name}")) if "assignments/" in link else []
                    assert (FOLDER / link).exists() or handed_out, f"{cell.id}: {link}"


def test_a_lecture_asks_and_asserts_what_it_teaches(notebook):
    questions = sum(cell.source.count("**Predict.**") for cell in notebook.cells if cell.cell_type == "markdown")
    asserts = sum(isinstance(node, ast.Assert) for _, tree in code_of(notebook) for node in ast.walk(tree))
    assert questions >= 5 and asserts >= questions / 2, f"{questions} questions, {asserts} asserts"


def test_helpers_in_a_lecture_are_short(notebook):
    for name, tree in code_of(notebook):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= LONGEST_HELPER, f"{name}: {node.name} has {lines} lines; the package is the place for it"
