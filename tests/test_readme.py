"""The README's first example prints what the README says, and its pictures are there."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_example_prints_its_answer():
    blocks = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
    (language, program), (_, answer) = blocks[0], blocks[1]
    assert language == "python"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "README.md", "exec"), {})
    assert printed.getvalue() == answer


def test_links_and_pictures_are_there():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert any(target.endswith(".png") for target in links)
    for target in links + re.findall(r"`(notebooks/|assignments/a1/|tests/[\w.]+)`", README):
        assert (ROOT / target).exists(), target
