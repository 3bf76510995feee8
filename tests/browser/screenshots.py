"""Write the pictures of the README: each view, light and dark, from real JupyterLab.

    python tests/browser/screenshots.py docs/images

The light pictures are <view>.png, the dark ones <view>_dark.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import lab

CELLS = ["""
import numpy as np
import needle_lab as ndl
from needle_lab import models, widgets

ndl.manual_seed(0)
x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype("float32")
widgets.show(models.ResNet9(), x)
""", "widgets.diff(models.ResNet9(), models.ResNet9_2())", """
ndl.onnx.export(models.ResNet9().eval(), ndl.tensor(x), "resnet9.onnx")
widgets.onnx_graph("resnet9.onnx")
""", """
imported = ndl.onnx.load("resnet9.onnx")
with ndl.no_grad():
    next(p for name, p in imported.named_parameters() if p.ndim == 2)[3] += 0.05       # one row of the first Linear
widgets.compare(imported, "resnet9.onnx", x)
"""]
KEYS = {"tree": ["ArrowDown", "ArrowDown", "ArrowDown"], "diff": ["n", "n"], "graph": ["n", "n", "n"], "compare": []}
BOX = {"graph": ".ndl-canvas"}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for dark in (False, True):
        with tempfile.TemporaryDirectory() as work:
            lab.write_notebook(Path(work) / "views.ipynb", CELLS)
            with lab.jupyterlab(Path(work), dark) as address, lab.browser_page(width=1160, height=1600) as page:
                lab.run_notebook(page, address, "views.ipynb", ".ndl-live", len(CELLS))
                for name, keys in KEYS.items():
                    view = page.locator(f".ndl-{name}.ndl-live").first
                    view.scroll_into_view_if_needed()
                    view.locator(BOX.get(name, ".ndl-box")).focus()
                    for key in keys:
                        page.keyboard.press(key)
                    page.evaluate("() => document.activeElement.blur()")
                    page.wait_for_timeout(400)
                    view.screenshot(path=folder / f"{name}{'_dark' if dark else ''}.png")
                print(*page.problems or ["no problems in the console"], sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
