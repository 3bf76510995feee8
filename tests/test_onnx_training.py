"""Training in the file: what Trainer does from TrainingInfoProto equals our optimizers' own steps."""

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import nn, ops, optim
from needle_lab.errors import ArgumentError, DTypeError, FileFormatError, GraphError, UnsupportedOnnxError

onnx = require("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "weight decay": lambda p: optim.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.01),
    "Adam, weight decay": lambda p: optim.Adam(p, lr=0.01, eps=1e-3, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.01),
}


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def convnet():
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(36, 3))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, 2, bidirectional=True), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0].mean(axis=0))


MODELS = {"MLP": (mlp, (6, 4)), "convnet": (convnet, (6, 1, 8, 8)), "LSTM": (Recurrent, (3, 6, 4))}


def made(name, mode=False):
    ndl.manual_seed(0)
    return MODELS[name][0]().train(mode)


def batch(name, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=MODELS[name][1]).astype("f"), rng.integers(0, 3, 6)


def own_step(model, loss, optimizer, x, y) -> float:
    optimizer.zero_grad()
    value = loss(model(ndl.tensor(x)), ndl.tensor(y))
    value.backward()
    optimizer.step()
    return value.item()


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_twenty_steps_equal_our_optimizer_s(name, kind):
    model, loss = made(name), nn.CrossEntropyLoss()
    optimizer = OPTIMIZERS[kind](model.parameters())
    trainer = ndl.onnx.Trainer(ndl.onnx.export_training(model, loss, optimizer, *batch(name, 0)))
    before = {path: p.numpy().copy() for path, p in model.named_parameters()}
    for i in range(20):
        x, y = batch(name, i)
        value = trainer.step(x, target=y)["loss"].item()
        assert value == pytest.approx(own_step(model, loss, optimizer, x, y), abs=1e-6)
    x, _ = batch(name, 99)
    rounded = 20 * np.finfo("f").eps                    # twenty steps round weights of order 1
    assert_close(trainer.model(x), model(ndl.tensor(x)), 1e-6, absolute=rounded)
    after = dict(model.named_parameters())
    assert all(np.abs(after[path].numpy() - value).max() > 1e-4 for path, value in before.items()), "all are trained"
    if kind != "SGD" or "step" in trainer.state:
        assert trainer.state["step"].dtype == np.int64 and trainer.state["step"].item() == 20


@pytest.mark.parametrize("kind", ["SGD", "nesterov", "Adam"])
@pytest.mark.parametrize("opset", [14, 20])
def test_batch_norm_in_training_mode_uses_the_batch_and_moves_its_statistics(kind, opset):
    model, loss = made("convnet", True), nn.CrossEntropyLoss()
    optimizer, statistics = OPTIMIZERS[kind](model.parameters()), getattr(model, "1")
    mean = statistics.running_mean.numpy().copy()
    proto = ndl.onnx.export_training(model, loss, optimizer, *batch("convnet", 0), opset=opset)
    np.testing.assert_array_equal(statistics.running_mean.numpy(), mean, "the export leaves the model as it was")
    trainer = ndl.onnx.Trainer(proto)
    for i in range(20):
        x, y = batch("convnet", i)
        assert trainer.step(x, y)["loss"].item() == pytest.approx(own_step(model, loss, optimizer, x, y), abs=1e-5)
    assert_close(trainer.state["1.running_mean"], statistics.running_mean, 1e-5)
    assert_close(trainer.state["1.running_var"], statistics.running_var, 1e-5)
    assert not np.allclose(mean, statistics.running_mean.numpy())
    x, _ = batch("convnet", 99)
    assert_close(trainer.model(x), model.eval()(ndl.tensor(x)), 1e-5)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss(), ops.l1_loss,
                                  lambda y, t: ops.huber_loss(y, t).sum()])
def test_losses_of_numbers(loss, rng):
    model = made("MLP")
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x, y = rng.normal(size=(6, 4)).astype("f"), rng.uniform(size=(6, 3)).astype("f")
    trainer = ndl.onnx.Trainer(ndl.onnx.export_training(model, loss, optimizer, x, y))
    for _ in range(5):
        assert trainer.step(x, y)["loss"].item() == pytest.approx(own_step(model, loss, optimizer, x, y), abs=1e-6)


@pytest.mark.parametrize("kind", ["momentum", "Adam"])
def test_training_goes_on_where_it_was_saved(kind, tmp_path):
    """Saved by the trainer, and exported in the middle of our own training: both go on as if nothing had been."""
    model, loss = made("LSTM"), nn.CrossEntropyLoss()
    optimizer = OPTIMIZERS[kind](model.parameters())
    path = tmp_path / "model.onnx"
    trainer = ndl.onnx.Trainer(ndl.onnx.export_training(model, loss, optimizer, *batch("LSTM", 0), path))
    for i in range(5):
        trainer.step(*batch("LSTM", i))
        own_step(model, loss, optimizer, *batch("LSTM", i))
    trainer.save(path)
    again = ndl.onnx.Trainer(path)
    exported = ndl.onnx.Trainer(ndl.onnx.export_training(model, loss, optimizer, *batch("LSTM", 0)))
    for i in range(5, 10):
        expected = own_step(model, loss, optimizer, *batch("LSTM", i))
        for t in (trainer, again, exported):
            assert t.step(*batch("LSTM", i))["loss"].item() == pytest.approx(expected, abs=1e-6)
    assert again.state["step"].item() == 10
    again.initialize()
    moments = [value.numpy() for name, value in again.state.items() if name.endswith(("buffer", "avg"))]
    assert again.state["step"].item() == 0 and moments and not any(m.any() for m in moments)


def test_frozen_parameters_and_groups_keep_their_settings():
    model, loss = made("MLP"), nn.CrossEntropyLoss()
    first, last = getattr(model, "0"), getattr(model, "2")
    first.bias.requires_grad_(False)
    optimizer = optim.SGD([{"params": first.parameters(), "lr": 0.01}, {"params": [last.weight], "momentum": 0.9}], lr=0.2)
    trainer = ndl.onnx.Trainer(ndl.onnx.export_training(model, loss, optimizer, *batch("MLP", 0)))
    assert {name for name in trainer.state if "." not in name or name.count(".") == 1} == {"0.weight", "2.weight", "step"}
    for i in range(5):
        assert trainer.step(*batch("MLP", i))["loss"].item() == pytest.approx(
            own_step(model, loss, optimizer, *batch("MLP", i)), abs=1e-6)


def test_a_dynamic_batch_trains(rng):
    model, loss = made("MLP"), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    axes = {"input": {0: "batch"}, "target": {0: "batch"}}
    trainer = ndl.onnx.Trainer(ndl.onnx.export_training(model, loss, optimizer, *batch("MLP", 0), dynamic_axes=axes))
    for n in (1, 9):
        x, y = rng.normal(size=(n, 4)).astype("f"), rng.integers(0, 3, n)
        assert trainer.step(x, y)["loss"].item() == pytest.approx(own_step(model, loss, optimizer, x, y), abs=1e-6)


def test_the_file_is_as_onnx_asks():
    """The comments on TrainingInfoProto: who may read whom, which names bindings may have, the inference graph alone."""
    model = made("convnet")
    proto = ndl.onnx.export_training(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()), *batch("convnet", 0))
    onnx.checker.check_model(proto, full_check=True)
    plain = ndl.onnx.export(model, batch("convnet", 0)[0])
    assert proto.graph == plain.graph, "the inference graph does not know of training"
    info = proto.training_info[0]
    weights = [t.name for g in (proto.graph, info.algorithm) for t in g.initializer]
    keys = [b.key for b in info.update_binding]
    assert len(set(keys)) == len(keys) and set(keys) <= set(weights) and len(set(weights)) == len(weights)
    assert {b.value for b in info.update_binding} <= {o.name for o in info.algorithm.output}
    assert not info.initialization.input and {b.value for b in info.initialization_binding} \
        == {o.name for o in info.initialization.output}
    assert [i.name for i in info.algorithm.input] == ["target"] and info.algorithm.output[0].name == "loss"


def by_hand(xs=("w", "x"), **changed):
    """w <- w - 0.5 d/dw (w x)^2, written by hand, without an optimizer node.  xs: what Gradient differentiates by."""
    scalar = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Mul", ["w", "x"], ["y"])], "g", [scalar("x", 1, [])], [scalar("y", 1, [])],
                              [numpy_helper.from_array(np.array(3, "f"), "w")])
    nodes = [helper.make_node("Mul", ["y", "y"], ["square"]),
             helper.make_node("Gradient", list(xs), ["dw"], domain="ai.onnx.preview.training", xs=list(xs[:1]),
                              zs=list(xs[1:]) or None, y="square"),
             helper.make_node("Mul", ["dw", "rate"], ["change"]), helper.make_node("Sub", ["w", "change"], ["w.next"])]
    step = helper.make_graph(nodes, "step", [], [scalar("square", 1, []), scalar("w.next", 1, [])],
                             [numpy_helper.from_array(np.array(0.5, "f"), "rate")])
    start = helper.make_graph([helper.make_node("Constant", [], ["seven"], value_float=7.0)], "start", [],
                              [scalar("seven", 1, [])])
    info = onnx.TrainingInfoProto(algorithm=step, initialization=start)
    info.update_binding.add(key=changed.get("key", "w"), value=changed.get("value", "w.next"))
    info.initialization_binding.add(key="w", value="seven")
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17),
                                                                  helper.make_opsetid("ai.onnx.preview.training", 1)])
    model.training_info.extend([info] * changed.get("times", 1))
    return model


def test_a_file_that_others_wrote():
    trainer = ndl.onnx.Trainer(by_hand())
    w = 3.0
    for x in (0.5, 0.25):
        assert trainer.step(np.float32(x)) == {"square": pytest.approx((w * x) ** 2)}
        w -= 0.5 * 2 * w * x * x
        assert trainer.state["w"].item() == pytest.approx(w)
        assert trainer.model(np.float32(1)).item() == pytest.approx(w)
    trainer.initialize()
    assert trainer.state["w"].item() == 7


def test_what_a_trainer_refuses(tmp_path):
    model = made("MLP")
    x, y = batch("MLP", 0)
    ndl.onnx.export(model, x, tmp_path / "plain.onnx")
    with pytest.raises(FileFormatError, match="no training_info.*export_training"):
        ndl.onnx.Trainer(tmp_path / "plain.onnx")
    for changed, words in [({"key": "v"}, "'v', which is no initialiser"), ({"value": "dw"}, "'dw', which is no output"),
                           ({"times": 2}, "two update_bindings change 'w'")]:
        with pytest.raises(FileFormatError, match=words):
            ndl.onnx.Trainer(by_hand(**changed))
    with pytest.raises(UnsupportedOnnxError, match="by 'y', a value inside the graph"):
        ndl.onnx.Trainer(by_hand(xs=("y",)))
    trainer = ndl.onnx.Trainer(ndl.onnx.export_training(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), x, y))
    before = {name: value.numpy().copy() for name, value in trainer.state.items()}
    for call, kind, words in [(lambda: trainer.step(x), ArgumentError, "'target' is missing; a step takes input, target"),
                              (lambda: trainer.step(x, y, y), ArgumentError, "got 3 inputs"),
                              (lambda: trainer.step(x, label=y), ArgumentError, "'label' is unknown"),
                              (lambda: trainer.step(x, y, input=x), ArgumentError, "'input' is given twice"),
                              (lambda: trainer.step(x, y.astype("f")), DTypeError, "'target'.*int64.*float32"),
                              (lambda: trainer.step(x, y + 3), ndl.errors.NeedleError, "target class")]:
        with pytest.raises(kind, match=words):
            call()
    assert all(np.array_equal(before[name], value.numpy()) for name, value in trainer.state.items())


def test_what_cannot_be_exported_for_training():
    model, (x, y) = made("MLP"), batch("MLP", 0)
    sgd, loss = optim.SGD(model.parameters()), nn.CrossEntropyLoss()

    class Own(optim.SGD):
        def _update(self, p, g, state, group):
            return p - 1e-3 * ops.sign(g)

    dropping = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train()
    each = nn.CrossEntropyLoss(reduction="none")
    for call, kind, words in [
            (lambda: ndl.onnx.export_training(model, each, sgd, x, y), ArgumentError, "one number"),
            (lambda: ndl.onnx.export_training(model, loss, Own(model.parameters()), x, y), UnsupportedOnnxError, "got Own"),
            (lambda: ndl.onnx.export_training(model, loss, optim.SGD(made("MLP").parameters()), x, y), ArgumentError,
             "none of the optimizer's parameters"),
            (lambda: ndl.onnx.export_training(lambda x: x, loss, sgd, x, y), ArgumentError, "a Module and an optimizer"),
            (lambda: ndl.onnx.export_training(model, lambda y, t: (y * y).mean(), sgd, x, y), UnsupportedOnnxError,
             "does not depend on 'target'"),
            (lambda: ndl.onnx.export_training(dropping, loss, optim.SGD(dropping.parameters()), x, y), GraphError,
             "random numbers"),
            (lambda: ndl.onnx.export_training(made("convnet", True), loss, sgd, *batch("convnet", 0), opset=13),
             UnsupportedOnnxError, "opset=14 or more")]:
        with pytest.raises(kind, match=words):
            call()


def test_gradient_by_a_value_inside_the_graph():
    """y = exp(2 x)^2: by h = exp(2 x) it is 2 h, by x it is 4 h^2; also where x itself requires a gradient."""
    make = onnx.helper.make_node
    info = onnx.helper.make_tensor_value_info
    nodes = [make("Add", ["x", "x"], ["d"]), make("Exp", ["d"], ["h"]), make("Mul", ["h", "h"], ["y"]),
             make("Gradient", ["h"], ["dh"], domain="ai.onnx.preview.training", xs=["h"], y="y")]
    graph = onnx.helper.make_graph(nodes, "g", [info("x", 1, [3])], [info("dh", 1, [3])])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("ai.onnx.preview.training", 1)]
    model = ndl.onnx.load(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
    x = np.random.default_rng(0).normal(size=3).astype("float32")
    for given in (ndl.tensor(x), ndl.tensor(x, requires_grad=True)):
        assert_close(model(given), 2 * np.exp(2 * x), 1e-6)
