"""Programs as people write them in PyTorch, with only the import lines changed: the same numbers from the same weights."""

import re
import types
from pathlib import Path

import numpy as np
import pytest
from peers import require

import needle_lab as ndl

torch = require("torch")
PROGRAMS = {path.stem: path for path in sorted((Path(__file__).parent / "programs").glob("*.py"))}
# What is added up a thousand times over differs in its last digits: 1e-5 of the largest number of a program.
TOLERANCE = 1e-5


def changed(source: str) -> str:
    """The program with its import lines changed, and nothing else."""
    lines = []
    for line in source.splitlines():
        if re.match(r"(import|from) torch\b", line):
            line = re.sub(r"\btorch\.utils\.data\b", "needle_lab.data", line)
            line = re.sub(r"^import torch$", "import needle_lab as torch", line)
            line = re.sub(r"\btorch\b(?=[. ])", "needle_lab", line) if " as torch" not in line else line
        lines.append(line)
    return "\n".join(lines)


def run(source, arrays, start):
    module = types.ModuleType("program")
    exec(compile(source, "program", "exec"), vars(module))
    return module.main(arrays, start)


def data(name):
    rng = np.random.default_rng(0)
    if name == "mnist_convnet":
        x, y = ndl.data.shapes(96, size=12).arrays
        return {"images": (255 * x[:, 0]).astype("uint8"), "labels": y}
    if name == "char_rnn":
        return {"lines": [rng.integers(1, 20, n) for n in (7, 12, 4, 9, 12)]}
    if name == "gan":
        return {"real": rng.uniform(-1, 1, (5, 6, 1, 8, 8)).astype("float32"),
                "noise": rng.normal(size=(5, 6, 6)).astype("float32")}
    if name == "mini_gpt":
        return {"tokens": np.cumsum(rng.integers(0, 3, 300)) % 24, "starts": rng.integers(0, 280, (12, 4))}
    return {"images": rng.random((6, 10, 8, 8)).astype("float32"), "eps": rng.normal(size=(6, 10, 4)).astype("float32")}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    source, weights = PROGRAMS[name].read_text(encoding="utf-8"), {}

    def note(model):
        weights.update({key: value.detach().numpy().copy() for key, value in model.state_dict().items()})

    def same(model):
        model.load_state_dict({key: ndl.tensor(value) for key, value in weights.items()})
    torch.manual_seed(0)
    theirs = run(source, data(name), note)
    ours = run(changed(source), data(name), same)
    assert len(ours) == len(theirs) and weights
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * np.abs(theirs).max())


def test_only_the_import_lines_change():
    for path in PROGRAMS.values():
        before = path.read_text(encoding="utf-8").splitlines()
        after = changed("\n".join(before)).splitlines()
        different = [line for line, other in zip(before, after, strict=True) if line != other]
        assert different and all(re.match(r"(import|from) torch", line) for line in different)
