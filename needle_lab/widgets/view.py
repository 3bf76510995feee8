"""What a person sees of one thing, three times: as text, as a static page, as a live widget.

A `View` subclass gives `text()` (ASCII, for terminals and logs), `page()` (HTML that needs no kernel and no script:
nbconvert, print, a mail) and `data()` (plain JSON that the script `static/<script>.js` draws). All three are made from
the same rows, so they cannot disagree. The live widget is one anywidget; where anywidget is not installed the notebook
shows the static page instead, and the text says so.
"""

from __future__ import annotations

import functools
import html
import importlib.resources
import importlib.util
from typing import Any, ClassVar

from ..untrusted import printable, printable_data
from .families import FAMILIES, palette_css

WIDGET = "application/vnd.jupyter.widget-view+json"
NO_LIVE = "(static view; for the live one: pip install 'needle-lab[lab]')"


class View:
    """The common behaviour of tree, diff, graph and compare.  `print(view)` and a notebook cell both work.

    `view.live` is the widget itself (an `anywidget.AnyWidget`, made once), whose `selected` is the row in focus;
    `view.save(path)` writes the static page as a file of its own.
    """

    script: ClassVar[str]
    title: str

    def text(self) -> str:
        """The view as plain text."""
        raise NotImplementedError

    def page(self) -> str:
        """The view as HTML without a script."""
        raise NotImplementedError

    def data(self) -> dict[str, Any]:
        """What the live widget draws, as JSON."""
        raise NotImplementedError

    @functools.cached_property
    def live(self) -> Any:
        """The live widget, or None where anywidget is not installed."""
        if not has_anywidget():
            return None
        families = {key: {"glyph": family.glyph, "title": family.title} for key, family in FAMILIES.items()}
        return live_class(self.script)(data={"families": families} | printable_data(self.data()))

    def static_html(self) -> str:
        """The page with its style: one HTML element, no script, no network."""
        return (f'<div class="ndl ndl-static ndl-{self.script}"><style>{style(self.script)}</style>'
                f"{printable(self.page(), lines=True)}</div>")

    def save(self, path: str) -> None:
        """Write the static view as an HTML file that any browser shows."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(self.title)}</title>'
                       f"<body>{self.static_html()}</body></html>")

    def __str__(self) -> str:
        return printable(self.text(), lines=True)

    def __repr__(self) -> str:
        return str(self) if has_anywidget() else f"{self}\n{NO_LIVE}"

    def _repr_html_(self) -> str:
        return self.static_html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self.static_html()}
        if self.live is not None:
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": self.live.model_id}
        return bundle


def has_anywidget() -> bool:
    """Whether live widgets can be shown here."""
    return importlib.util.find_spec("anywidget") is not None


def asset(name: str) -> str:
    """A file of the folder `static`."""
    return (importlib.resources.files(__package__) / "static" / name).read_text(encoding="utf-8")


@functools.cache
def style(script: str) -> str:
    """The CSS of one widget: what all share, the family colours, its own."""
    return asset("common.css") + palette_css() + asset(f"{script}.css")


@functools.cache
def live_class(script: str) -> type:
    """The anywidget class of one view.  Its module is common.js followed by <script>.js: no build step, no network."""
    import anywidget
    import traitlets

    return type(f"Live{script.title()}", (anywidget.AnyWidget,), {
        "_esm": asset("common.js") + "\n" + asset(f"{script}.js"),
        "_css": style(script),
        "data": traitlets.Dict().tag(sync=True),
        "selected": traitlets.Unicode("").tag(sync=True),
        "__doc__": f"The live {script} view: `data` is what it draws, `selected` the row in focus.",
    })
