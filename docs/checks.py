"""What came out of a build: no link leads nowhere, and no page asks the network for anything."""

from __future__ import annotations

import functools
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


def problems_of(site: Path) -> list[str]:
    """One line for each link to nowhere and each thing that a browser would fetch from another machine."""
    return [problem for path in sorted(site.rglob("*.html")) for problem in _problems(site, path)]


def _problems(site: Path, path: Path) -> list[str]:
    where, page = path.relative_to(site), _read(path)
    problems = [f"{where}: loads {target[:100]}" for target in page.loads if urlsplit(target).netloc]
    for target in page.links + page.loads:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not there.exists():
            problems.append(f"{where}: no file {target}")
        elif parts.fragment and there.suffix == ".html" and unquote(parts.fragment) not in _read(there).places:
            problems.append(f"{where}: no such place {target}")
    return problems


class _Page(HTMLParser):
    """What a page points to, what it loads, and the names of its places."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a":
            self.links += [found["href"]] if "href" in found else []
        else:
            self.loads += [found[name] for name in ("src", "href", "data", "poster") if name in found]


@functools.cache
def _read(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))
