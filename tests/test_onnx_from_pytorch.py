"""What PyTorch exports, imported: onnxruntime and PyTorch are the oracles for values, PyTorch for training."""

import io

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import optim

require("onnx")
require("onnxruntime")
torch = require("torch")
require("onnxscript")

from test_onnx import as_tuple, runtime  # noqa: E402


class TorchLanguageModel(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.recurrent = getattr(torch.nn, kind)(8, 16, 2)
        self.linear = torch.nn.Linear(16, 20)

    def forward(self, tokens):
        y, state = self.recurrent(self.embedding(tokens))
        return self.linear(y.reshape(-1, 16)), *as_tuple(state)


class TorchBlock(torch.nn.Module):
    def __init__(self, planes, stride=1):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(planes[0], planes[1], 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(planes[1])
        self.conv2 = torch.nn.Conv2d(planes[1], planes[1], 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(planes[1])
        self.downsample = None
        if stride != 1 or planes[0] != planes[1]:
            self.downsample = torch.nn.Sequential(torch.nn.Conv2d(*planes, 1, stride, bias=False),
                                                  torch.nn.BatchNorm2d(planes[1]))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet18(torch.nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = torch.nn.BatchNorm2d(64), torch.nn.MaxPool2d(3, 2, 1)
        widths = [(64, 64), (64, 128), (128, 256), (256, 512)]
        for i, w in enumerate(widths, start=1):
            setattr(self, f"layer{i}", torch.nn.Sequential(TorchBlock(w, 1 if i == 1 else 2), TorchBlock((w[1], w[1]))))
        self.avgpool, self.fc = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(512, num_classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def randomized(model, seed=0):
    """Running statistics and affine parameters away from 0 and 1, so that a mix-up shows."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2.0)
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)):
            torch.nn.init.normal_(module.weight, 1.0, 0.1), torch.nn.init.normal_(module.bias, 0.0, 0.1)
    return model.eval()


EXPORTS = {
    "block": (lambda: TorchBlock((4, 6), 2), lambda rng: rng.normal(size=(2, 4, 9, 8)).astype("f")),
    "resnet18": (TorchResNet18, lambda rng: rng.normal(size=(1, 3, 64, 64)).astype("f")),
    "rnn": (lambda: TorchLanguageModel("RNN"), lambda rng: rng.integers(0, 20, (5, 2))),
    "lstm": (lambda: TorchLanguageModel("LSTM"), lambda rng: rng.integers(0, 20, (5, 2))),
    "gru": (lambda: TorchLanguageModel("GRU"), lambda rng: rng.integers(0, 20, (5, 2))),
    "convnet": (lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
                                            torch.nn.Flatten(), torch.nn.Linear(36, 10)),
                lambda rng: rng.normal(size=(2, 1, 8, 8)).astype("f")),
    "encoder": (lambda: torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
                lambda rng: rng.normal(size=(2, 5, 8)).astype("f")),
}


@pytest.fixture(scope="module", params=sorted(EXPORTS))
def exported(request, tmp_path_factory):
    """(name, PyTorch model, path of its export, example input)"""
    make, draw = EXPORTS[request.param]
    model, x = randomized(make()), draw(np.random.default_rng(0))
    path = tmp_path_factory.mktemp("exports") / f"{request.param}.onnx"
    torch.onnx.export(model, (torch.tensor(x),), path, verbose=False, external_data=False)
    return request.param, model, path, x


def test_import_equals_onnxruntime_and_torch(exported):
    name, theirs, path, x = exported
    model = ndl.onnx.load(path)
    ours = as_tuple(model(x))
    for y, z, w in zip(ours, runtime(path, x), as_tuple(theirs(torch.tensor(x))), strict=True):
        assert_close(y, z, 1e-5, name)
        assert_close(y, w, 1e-5, name)


def test_every_parameter_of_an_import_gets_a_gradient(exported):
    name, _, path, x = exported
    model = ndl.onnx.load(path)
    sum((y * y).sum() for y in as_tuple(model(x))).backward()
    without = [path for path, p in model.named_parameters() if p.grad is None]
    assert not without and list(model.parameters()), name


# Not here: models with batch norm, which PyTorch's exporter folds into the convolutions (the parameters are others),
# and nn.RNN, which it unrolls with the first hidden state's share computed ahead as a constant.
@pytest.mark.parametrize("name", ["convnet", "lstm", "gru"])
def test_ten_training_steps_equal_torch(name, tmp_path):
    make, draw = EXPORTS[name]
    theirs, x = randomized(make()), draw(np.random.default_rng(0))
    torch.onnx.export(theirs, (torch.tensor(x),), tmp_path / "m.onnx", verbose=False, external_data=False)
    model = ndl.onnx.load(tmp_path / "m.onnx")
    ours, his = optim.SGD(model.parameters(), lr=0.05), torch.optim.SGD(theirs.parameters(), lr=0.05)
    for _ in range(10):
        ours.zero_grad(), his.zero_grad()
        y, z = as_tuple(model(x))[0], as_tuple(theirs(torch.tensor(x)))[0]
        (y * y).mean().backward(), (z * z).mean().backward()
        ours.step(), his.step()
    assert_close(as_tuple(model(x))[0], as_tuple(theirs(torch.tensor(x)))[0], 1e-4, name)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_dynamic_shapes():
    theirs = randomized(torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    buffer = io.BytesIO()
    torch.onnx.export(theirs, (torch.zeros(2, 5, 8),), buffer, verbose=False, dynamic_shapes=({0: "n", 1: "t"},))
    model = ndl.onnx.load(buffer.getvalue())
    x = np.random.default_rng(0).normal(size=(3, 7, 8)).astype("f")
    assert_close(model(x), theirs(torch.tensor(x)), 1e-5)
