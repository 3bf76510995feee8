"""The examples in docstrings answer what they say, with the names that a user has: `ndl` and `np`."""

import doctest
import importlib
import pathlib

import numpy as np
import pytest

import needle_lab as ndl
from needle_lab.core.graph import OPS
from needle_lab.core.tiers import Tiered
from needle_lab.errors import MissingExtraError

ROOT = pathlib.Path(ndl.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
EXTRAS = {"anywidget", "graphviz", "ipywidgets", "matplotlib", "numba", "onnx", "sklearn", "triton"}


def module_of(path):
    """The module in a file; skips where it needs an extra that is not installed."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    try:
        return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    except MissingExtraError as error:
        pytest.skip(str(error))
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        pytest.skip(f"needs {error.name}, of an extra that is not installed")


@pytest.fixture
def own_ops():
    """An op that an example defines is gone afterwards."""
    before = dict(OPS)
    yield
    for name in set(OPS) - set(before):
        Tiered.living.discard(OPS.pop(name).compute)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples(path, tmp_path, monkeypatch, own_ops):
    module = module_of(path)
    monkeypatch.chdir(tmp_path)                         # what examples save
    ndl.manual_seed(0)
    found = [test for test in doctest.DocTestFinder().find(module, globs={"ndl": ndl, "np": np}) if test.examples]
    assert sum(len(test.examples) for test in found) == path.read_text(encoding="utf-8").count(">>> ")
    said = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in found:
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


WANTED = """
    ndl.tensor ndl.grad ndl.op ndl.kernel ndl.no_grad ndl.use_kernels ndl.conv2d ndl.einsum ndl.cross_entropy ndl.checkpoint
    ndl.plan ndl.program.trace ndl.nn.Module ndl.nn.Sequential ndl.nn.Linear ndl.nn.Conv2d state_dict ndl.save_state_dict
    ndl.load_state_dict ndl.save_checkpoint .summary ndl.optim.SGD ndl.optim.Adam ndl.data.DataLoader ndl.training.fit
    ndl.onnx.load ndl.onnx.export
""".split()


def test_the_main_things_have_an_example():
    lines = [line.strip() for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    examples = "\n".join(line for line in lines if line.startswith((">>> ", "... ")))
    assert [name for name in WANTED if name not in examples] == []
