"""How Sphinx makes the site from the pages that build.py lays out.  Nothing on it is loaded from the network."""

import inspect
import re
import sys
from pathlib import Path

import needle_lab

sys.path.insert(0, str(Path(__file__).parent))
from reference import escaped  # noqa: E402

project, author = "needle_lab", "needle_lab authors"
copyright = "needle_lab authors, MIT licence"
version = release = needle_lab.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["README.md"]         # its parts stand in other pages
nitpicky = False                       # types in signatures need not be pages of this site
suppress_warnings = ["mystnb.unknown_mime_type"]       # what a notebook can show and a page cannot has another form too

# --- lectures ---------------------------------------------------------------------------------------------------------

nb_execution_mode = "cache"            # an output is kept as long as lecture and package stay the same (see build.py)
nb_execution_timeout = 300
nb_execution_raise_on_error = nb_execution_show_tb = True
nb_execution_excludepatterns = ["notebooks/assignments/*"]         # the exercises are not solved yet
nb_merge_streams = True
nb_ipywidgets_js = {}                  # a live widget needs a kernel; its static twin stands on the page
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
highlight_language = "none"            # what is Python says so

# --- the look ---------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"needle_lab {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {"footer_icons": []}

# --- the reference ----------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "none"             # they stand in the source; a signature is read for its names and defaults
autosummary_generate = False
add_module_names = False


def as_rst(app, what, name, obj, options, lines: list[str]) -> None:
    """Our docstrings are plain text: keep their lines and letters, show their code as code.

    An indented block is a literal block, and so is an example (>>>). A line that begins with `name: ` or `name, name: ` is
    an entry of a list, and the lines behind it belong to it.
    """
    out: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc("\n".join(lines))):
        if paragraph.startswith((" ", ">>> ")):
            language = "pycon" if paragraph.startswith(">>> ") else "default"
            out += [f".. code-block:: {language}", "", *("    " + line for line in paragraph.splitlines())]
        else:
            listed = False
            for line in paragraph.splitlines():
                if re.match(r"[a-z_]\w*(, \w+)*: ", line):
                    out += [] if listed else [""]
                    listed = True
                    out.append("* " + escaped(line))
                else:
                    out.append("  " * listed + escaped(line.strip()))
        out.append("")
    lines[:] = out


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", as_rst)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
