"""Real JupyterLab in a real browser: what the browser test and the screenshots share."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
TOKEN = "needle"
PATIENCE = 300_000       # milliseconds that a page may take on a busy machine


def browser_path() -> str | None:
    """An installed Chromium or Chrome; Playwright's own download is not used."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def write_notebook(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@contextlib.contextmanager
def jupyterlab(folder: Path, dark: bool = False) -> Iterator[str]:
    """A server of `folder` with settings of its own; yields the address of its notebooks, without a path."""
    settings = folder / ".settings"
    for name, content in {"apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
                          "apputils-extension/themes": {"theme": f"JupyterLab {'Dark' if dark else 'Light'}"}}.items():
        file = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(settings), "PYTHONPATH": str(ROOT),
                   "JUPYTER_CONFIG_DIR": str(folder / ".config"), "IPYTHONDIR": str(folder / ".ipython"),
                   "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
                   "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
               "--LabApp.expose_app_in_browser=True"]
    with open(folder / "lab.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log,
                                  stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, folder / "lab.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(PATIENCE // 500):
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=20):
            return
        time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


@contextlib.contextmanager
def browser_page(width: int = 1200, height: int = 1400) -> Iterator:
    """A page of the installed browser; `page.problems` collects console errors and uncaught exceptions."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.problems = []
        page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(f"uncaught: {error}"))
        yield page
        browser.close()


def run_notebook(page, address: str, name: str, wanted: str, count: int) -> None:
    """Open a notebook alone in the window, run all of its cells, and wait until `count` elements `wanted` are there."""
    page.goto(f"{address}/doc/tree/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('notebook:run-all-cells')")
    page.evaluate("""async () => {
        const panel = window.jupyterapp.shell.currentWidget;
        await panel.context.ready; await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info;
        window.jupyterapp.commands.execute('notebook:run-all-cells');
    }""")
    failed = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
    page.wait_for_function(f"() => document.querySelectorAll('{wanted}').length >= {count} "
                           f"|| document.querySelector('{failed}')")
    if page.locator(failed).count():
        raise RuntimeError(f"a cell of {name} failed:\n{page.locator(failed).first.text_content()}")
