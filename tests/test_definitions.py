"""The textbook alone, `ndl.use_kernels("definition")`: whole models train with it, to the numbers of the other tiers; and a
reader who steps through a convolution meets few functions."""

import pathlib
import sys

import numpy as np
import pytest
from conftest import assert_close
from peers import needs

import needle_lab as ndl
from needle_lab import models, nn, optim
from needle_lab.nn import functional as F


def convnet():
    """Convolution, batch norm, pooling, dropout; (8, 2, 12, 12) -> 3 classes."""
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1),
                         nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 3))


MODELS = {
    "convnet": (convnet, lambda rng: rng.normal(size=(8, 2, 12, 12)).astype("float32"), 3),
    "lstm": (lambda: models.LanguageModel(12, 20, 16, num_layers=2), lambda rng: rng.integers(0, 20, (9, 4)), 20),
    "gpt": (lambda: models.GPT(20, 16, embed_dim=24, num_layers=2, num_heads=4), lambda rng: rng.integers(0, 20, (3, 16)),
            20)}


def trained(name: str, level: str):
    """-> losses of a few steps, and what each parameter's last gradient was."""
    make, draw, classes = MODELS[name]
    ndl.manual_seed(0)
    rng = np.random.default_rng(0)
    with ndl.use_kernels(level):
        model, x = make(), draw(rng)
        optimizer, losses = optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []
        for _ in range(4):
            y = model(ndl.tensor(x))
            y = (y[0] if isinstance(y, tuple) else y).reshape(-1, classes)
            loss = F.cross_entropy(y, ndl.tensor(np.arange(len(y)) % classes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, {path: p.grad.numpy() for path, p in model.named_parameters()}


@pytest.mark.parametrize("level", ["numpy", pytest.param("fast", marks=needs("numba"))])
@pytest.mark.parametrize("name", MODELS)
def test_models_train_with_the_definitions_to_the_numbers_of_the_other_tiers(name, level):
    losses, gradients = trained(name, "definition")
    assert losses[-1] < losses[0]
    others, theirs = trained(name, level)
    assert_close(np.array(others), np.array(losses), 1e-5)                 # steps of SGD, whose rounding stays small
    for path, g in gradients.items():
        assert_close(theirs[path], g, 1e-3, path, absolute=1e-6)


COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}          # frames of their own, up to Python 3.11
LEFT_OUT = COMPREHENSIONS | {"Tensor.shape", "Tensor.ndim"}


def entered(run) -> list[str]:
    """The package's own functions that a call enters, each once; comprehensions and a tensor's plain facts (x.shape,
    x.ndim) are no functions that a reader steps into, lambdas are."""
    room, seen = str(pathlib.Path(ndl.__file__).parent), {}

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(room) and not {code.co_name, code.co_qualname} & LEFT_OUT:
            seen[code] = f"{pathlib.Path(code.co_filename).relative_to(room)}:{code.co_qualname}"
    run()                                                                   # what is done once is done
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return sorted(seen.values())


# At the door arguments get their names, errors their words; a module adds its call and forward.
@pytest.mark.parametrize(("how", "most"), [("F.conv2d", 28), ("nn.Conv2d", 29)])
def test_a_convolution_is_few_functions_from_call_to_gradient(how, most, capsys):
    layer = nn.Conv2d(3, 4, 3, padding=1)
    x = ndl.tensor(np.ones((2, 3, 6, 5), "float32"), requires_grad=True)
    g = ndl.tensor(np.ones((2, 4, 6, 5), "float32"))

    def step():
        y = layer(x) if how == "nn.Conv2d" else F.conv2d(x, layer.weight, layer.bias, padding=1)
        y.backward(g)
        x.grad = layer.weight.grad = layer.bias.grad = None
    with ndl.use_kernels("definition"):
        functions = entered(step)
    with capsys.disabled():
        print(f"\n{how}, forward and backward at the definition tier: {len(functions)} functions")
    assert len(functions) <= most, functions
