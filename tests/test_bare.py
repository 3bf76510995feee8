"""With the package's own dependencies and pytest, and nothing else: all tests are collected, all rooms open.

A finder of modules, in a process of its own, sees of all that is installed only what pyproject.toml names as needed. What it
does not see is, for all code, not installed.
"""

import functools
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import needle_lab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FINDER = """
import importlib.machinery, sys

class Bare(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
        installed = any("site-packages" in place or "dist-packages" in place for place in places)
        return None if installed and name.partition(".")[0] not in SEEN else spec

sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, Bare]
"""


def needed(distributions: list[str]) -> set[str]:
    """These distributions and all that they need, without extras."""
    found, left = set(), list(distributions)
    while left:
        requirement = left.pop()
        name = re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        if "extra ==" in requirement or name in found:
            continue
        try:
            left += importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:           # for another system: colorama
            continue
        found.add(name)
    return found


@functools.cache
def seen() -> set[str]:
    """The installed modules that may be imported."""
    wanted = needed([*PROJECT["dependencies"], "pytest"])
    return {module for module, distributions in importlib.metadata.packages_distributions().items()
            if wanted & {name.lower().replace("_", "-") for name in distributions}} | {"needle_lab"}


def bare(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in such an environment, at the root of the project."""
    program = f"SEEN = {seen()!r}\n{FINDER}\n{code}"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, encoding="utf-8", cwd=ROOT)


def test_the_environment_is_bare():
    done = bare("import importlib.util, numpy; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])",
                "torch", "onnx", "numba", "triton", "matplotlib", "sklearn", "IPython", "anywidget", "playwright", "pytest")
    assert done.stdout == "['pytest']\n", done.stderr


def test_every_test_module_is_collected():
    """Each is read; those that need a library are skipped, and say which."""
    done = bare("import os, pytest; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'; sys.exit(pytest.main(sys.argv[1:]))",
                "--collect-only", "-q", "-rs", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    collected = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    skipped = dict(re.findall(r"^SKIPPED \[\d+\] (tests[\w/]+\.py):\d+: (.+)$", done.stdout, re.MULTILINE))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert collected | set(skipped) == modules and not collected & set(skipped)
    assert all("install" in reason for reason in skipped.values()), skipped
    assert len(collected) > len(modules) / 2


def test_every_room_opens_or_names_the_extra_that_it_needs():
    done = bare("""
import importlib, json, pkgutil, needle_lab

said = {}
for room in pkgutil.iter_modules(needle_lab.__path__):
    try:
        importlib.import_module(f"needle_lab.{room.name}")
    except needle_lab.errors.MissingExtraError as error:
        said[room.name] = str(error)
print(json.dumps(said))
""")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"onnx": "ndl.onnx needs the package onnx: pip install 'needle-lab[onnx]'"}


@pytest.mark.parametrize(("call", "extra"), [
    ("ndl.onnx", "onnx"), ('ndl.use_kernels("fast")', "fast"),
    ("ndl.data.digits()", "lab"), ("ndl.plots.show_times({'a': 1.0})", "lab"), ("ndl.tensor(1.0, device='cuda')", "gpu"),
    ("ndl.tensor(1.0, device=ndl.triton_cpu())", "gpu"), ("ndl.widgets.onnx_graph(path)", "onnx"),
    ("ndl.widgets.show(path, x)", "onnx"), ("ndl.widgets.compare(path, path, x)", "onnx"),
    ("ndl.grading.grade(path, 'a1')", "lab"),
])
def test_what_needs_an_extra_names_it(call, extra):
    assert extra in EXTRAS
    path = Path(needle_lab.__file__).parent / "models" / "pretrained" / "digits_convnet.onnx"
    done = bare(f"import numpy as np, needle_lab as ndl; path = {str(path)!r}; x = np.zeros((1, 1, 8, 8), 'float32')\n"
                f"try: {call}\nexcept ndl.errors.NeedleError as error: print(error)")
    assert f"pip install 'needle-lab[{extra}]'" in done.stdout, done.stdout + done.stderr


def test_a_model_trains_is_saved_and_shown():
    done = bare("""
import tempfile, os, needle_lab as ndl
from needle_lab import cli
ndl.manual_seed(0)
model, x = ndl.nn.Sequential(ndl.nn.Conv2d(1, 2, 3), ndl.nn.Flatten(), ndl.nn.Linear(8, 2)), ndl.randn(3, 1, 4, 4)
optimizer, losses = ndl.optim.Adam(model.parameters(), 0.05), []
for _ in range(20):
    optimizer.zero_grad()
    loss = ndl.cross_entropy(model(x), ndl.tensor([0, 1, 0]))
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 2
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "w.safetensors")
    ndl.save_state_dict(model, path)
    ndl.load_state_dict(model, path)
    assert set(ndl.show(path)._repr_mimebundle_()) == {"text/plain", "text/html"}
print(cli.main(["doctor"]))
""")
    assert done.returncode == 0 and done.stdout.endswith("\n0\n"), done.stderr
