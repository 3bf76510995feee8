"""`make docs`: lay out the pages, let Sphinx make the site, and look at what came out.

The pages lie in docs/_build/source as the files lie in the repository, so that their links hold in both places: README,
CONTRIBUTING, CHANGELOG, the lectures, the student's copy of each assignment, the figures, and a page of reference for each
room. Lectures are run; an output is kept as long as the lecture and the package stay what they are.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import reference
from checks import problems_of
from sphinx.cmd.build import build_main

from needle_lab.grading import release

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "docs" / "_build"
SOURCE, SITE = BUILD / "source", BUILD / "html"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "notebooks/*.ipynb", "benchmarks/results/*", "docs/images/*")


def main() -> int:
    lay_out()
    outputs = BUILD / "outputs" / fingerprint()
    for old in outputs.parent.glob("*"):
        if old != outputs:
            shutil.rmtree(old)
    failed = build_main(["-W", "--keep-going", "-b", "html", "-c", str(ROOT / "docs"), "-d", str(BUILD / "doctrees"),
                         "-D", f"nb_execution_cache_path={outputs}", "-q", *sys.argv[1:], str(SOURCE), str(SITE)])
    if failed:
        return failed
    problems = problems_of(SITE)
    print("\n".join(problems) or f"the site: {SITE / 'index.html'}")
    return bool(problems)


def lay_out() -> None:
    """Fill SOURCE; a file that is as it was keeps its time, so that only what has changed is made again."""
    wanted = {path.relative_to(ROOT): path.read_bytes() for pattern in PAGES for path in sorted(ROOT.glob(pattern))}
    wanted |= {path.relative_to(ROOT / "docs" / "pages"): path.read_bytes() for path in ROOT.glob("docs/pages/*.md")}
    wanted |= {Path("api", name): text.encode() for name, text in reference.pages().items()}
    exercises = BUILD / "exercises"
    shutil.rmtree(exercises, ignore_errors=True)
    for assignment in ROOT.glob("assignments/*/*.ipynb"):
        copy = release(assignment, exercises)
        wanted[Path("notebooks", "assignments", copy.name)] = copy.read_bytes()
    for path in [path for path in SOURCE.rglob("*") if path.is_file() and path.relative_to(SOURCE) not in wanted]:
        path.unlink()
    for name, content in wanted.items():
        path = SOURCE / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def fingerprint() -> str:
    """One name for the package as it is: what lectures print depends on it."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "needle_lab").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
