"""The parts of `make docs` that need no Sphinx: the reference names everything once, and the check of the site can fail."""

import importlib.util
import inspect
import re

import pytest

import needle_lab as ndl
from docs import checks, reference

every_room = pytest.mark.skipif(importlib.util.find_spec("onnx") is None,
                                reason="the reference describes all rooms; pip install 'needle-lab[lab]'")


@every_room
def test_the_reference_has_one_place_for_every_public_name():
    pages = reference.pages()
    places = re.findall(r"auto(?:function|class):: needle_lab\.([\w.]+)", "".join(pages.values()))
    assert len(places) == len(set(places)) > 300
    described = {name.rpartition(".")[2] for name in places}
    public = [name for name, value in vars(ndl).items()
              if name[0] != "_" and callable(value) and str(getattr(value, "__module__", "")).startswith("needle_lab.")]
    assert set(public) <= described and set(ndl.nn.__all__) - {"functional", "init", "utils"} <= described
    assert all(f"<{name.removesuffix('.rst')}>`" in pages["index.rst"] for name in pages if name != "index.rst")


@every_room
def test_a_class_is_described_with_its_methods_and_a_chapter_with_its_file():
    text = reference.pages()["nn.rst"]
    assert ".. autoclass:: needle_lab.nn.Conv2d\n    :members:" in text
    assert "\nconv\n----\n\n" in text and reference.first_sentence(inspect.getmodule(ndl.nn.Conv2d)) in text


@pytest.mark.parametrize("plain, rst", [("`a * b` and c*", r"``a * b`` and c\*"), ("x_ |y|", r"x\_ \|y\|"),
                                        ("``code``", "``code``")])
def test_plain_text_means_what_it_shows(plain, rst):
    assert reference.escaped(plain) == rst


@pytest.mark.parametrize("body, problem", [
    ('<a href="none.html">x</a>', "no file none.html"), ('<a href="#none">x</a>', "no such place #none"),
    ('<a href="b.html#there">x</a>', "no such place b.html#there"), ('<img src="none.png">', "no file none.png"),
    ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js"),
    ('<link rel="stylesheet" href="//example.org/x.css">', "loads //example.org/x.css")])
def test_the_site_is_checked(tmp_path, body, problem):
    good = '<a href="b.html#here">x</a><a href="https://example.org">far away</a><a href="#top" id="top">x</a>'
    (tmp_path / "a.html").write_text(good, encoding="utf-8")
    (tmp_path / "b.html").write_text('<p id="here">', encoding="utf-8")
    assert checks.problems_of(tmp_path) == []
    (tmp_path / "c.html").write_text(good + body, encoding="utf-8")
    assert checks.problems_of(tmp_path) == [f"c.html: {problem}"]
