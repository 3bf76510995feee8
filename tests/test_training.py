"""Models learn what they should: digits, spirals, a text.  And the loop, its numbers and its pictures are right."""

import time

import numpy as np
import pytest
from peers import require

import needle_lab as ndl
from needle_lab import nn, plots
from needle_lab.data import ArrayDataset, DataLoader, alice, batchify, digits, shapes, spirals
from needle_lab.errors import ArgumentError, ShapeError
from needle_lab.models import GPT, LanguageModel
from needle_lab.optim import SGD, Adam, AdamW, CosineAnnealingLR
from needle_lab.training import History, confusion_matrix, evaluate, fit, fit_language_model, perplexity

matplotlib = require("matplotlib")
matplotlib.use("Agg")
metrics = require("sklearn.metrics")


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 2 * 2, 10))


def mlp(width=32):
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))


# --- what the models learn ----------------------------------------------------------------------------------------

def test_a_convnet_reads_digits():
    """98 % of the held-out third is asked for (linear models reach 96 to 97 %)."""
    ndl.manual_seed(0)
    model, begun = convnet(), time.perf_counter()
    loader = DataLoader(digits("train"), 32, shuffle=True, seed=0)
    optimizer = Adam(model.parameters(), lr=2e-3)
    fit(model, loader, optimizer, epochs=8, schedule=CosineAnnealingLR(optimizer, 8 * len(loader)), progress=False)
    result = evaluate(model, digits("test"))
    print(f"digits: {result.accuracy:.2%} of {len(result.labels)} held-out images, {time.perf_counter() - begun:.1f} s")
    assert result.accuracy >= 0.98


def test_an_mlp_separates_spirals_and_a_linear_model_cannot():
    ndl.manual_seed(0)
    train, test = spirals(600, seed=0), spirals(300, seed=1)
    accuracy = []
    for model in (mlp(), nn.Linear(2, 3)):
        fit(model, DataLoader(train, 50, shuffle=True, seed=0), Adam(model.parameters(), lr=1e-2), epochs=30, progress=False)
        accuracy.append(evaluate(model, test).accuracy)
    assert accuracy[0] > 0.97 and accuracy[1] < 0.7


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
def test_a_language_model_learns_a_small_corpus(kind):
    """Perplexity on unseen text falls below a quarter of the untrained one."""
    ndl.manual_seed(0)
    corpus = alice("char")
    train, test = batchify(corpus.train, 16), batchify(corpus.test, 16)
    model = LanguageModel(32, len(corpus.dictionary), 64, kind=kind)
    untrained, begun = perplexity(model, test), time.perf_counter()
    fit_language_model(model, train, Adam(model.parameters(), lr=1e-2), epochs=1, progress=False)
    trained = perplexity(model, test)
    print(f"{kind}: perplexity {untrained:.1f} -> {trained:.1f}, {time.perf_counter() - begun:.1f} s")
    assert untrained > 0.8 * len(corpus.dictionary) and trained < untrained / 4
    written = corpus.decode(model.generate(corpus.encode("Alice ").tolist(), 50, generator=ndl.Generator(0)))
    assert len(written) == 50


def test_gpt_learns_a_tiny_batch_by_heart():
    ndl.manual_seed(0)
    corpus = alice("char")
    pieces = corpus.train[:8 * 33].reshape(8, 33)
    model = GPT(len(corpus.dictionary), context=32, embed_dim=32, num_layers=2, num_heads=4)
    history = fit(model, DataLoader(ArrayDataset(pieces[:, :-1], pieces[:, 1:]), 8), AdamW(model.parameters(), lr=1e-2),
                  loss=lambda logits, y: ndl.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1)),
                  epochs=90, progress=False)
    assert history.loss[0] > 4 and history.loss[-1] < 0.05
    begin = corpus.train[:8].tolist()
    assert model.generate(begin, 24, temperature=0) == corpus.train[8:32].tolist()


# --- the loop -----------------------------------------------------------------------------------------------------

def linear(seed=0):
    ndl.manual_seed(seed)
    return nn.Linear(2, 3)


def test_fit_is_the_loop_one_would_write():
    train, ours, theirs = spirals(60), linear(), linear()
    optimizer, seen = SGD(ours.parameters(), lr=0.1, momentum=0.9), []
    history = fit(ours, DataLoader(train, 8, shuffle=True, seed=3), optimizer, epochs=2, test=train, progress=False,
                  after_epoch=lambda h: seen.append(len(h.loss)), schedule=CosineAnnealingLR(optimizer, 16))
    optimizer, losses = SGD(theirs.parameters(), lr=0.1, momentum=0.9), []
    schedule, loader = CosineAnnealingLR(optimizer, 16), DataLoader(train, 8, shuffle=True, seed=3)
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            loss = ndl.cross_entropy(theirs(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    assert history.batch_loss == losses and np.allclose(history.loss, [np.mean(losses[:8]), np.mean(losses[8:])])
    assert all(np.array_equal(p.numpy(), q.numpy()) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert seen == [1, 2] and len(history.accuracy) == len(history.seconds) == 2
    assert repr(history).startswith("History: 2 epochs in ") and repr(History()) == "History: no epochs"
    assert History(**history.to_dict()) == history
    fit(ours, loader, optimizer, history=history, progress=False)
    assert len(history.loss) == 3 and len(history.batch_loss) == 24


def test_progress_shows_loss_and_accuracy(capsys):
    model, train = linear(), spirals(30)
    fit(model, DataLoader(train, 8), SGD(model.parameters(), lr=0.1), test=train)
    shown = capsys.readouterr().err
    assert "training" in shown and "loss=" in shown and "accuracy=" in shown


def test_a_loss_that_explodes_is_reported():
    model = nn.Sequential(nn.Linear(2, 1))
    data = ArrayDataset(np.full((8, 2), 1e3, "float32"), np.ones((8, 1), "float32"))
    with pytest.raises(ArgumentError, match="the loss became (inf|nan) at step .* smaller learning rate than 1,? ?"), \
            np.errstate(all="ignore"):
        fit(model, DataLoader(data, 8), SGD(model.parameters(), lr=1.0), loss=ndl.mse_loss, epochs=50, progress=False)


def test_max_norm_limits_each_step():
    model, data = nn.Linear(1, 1, bias=False), ArrayDataset(np.full((4, 1), 100, "float32"), np.zeros((4, 1), "float32"))
    with ndl.no_grad():
        model.weight.fill_(1.0)
    fit(model, DataLoader(data, 4), SGD(model.parameters(), lr=0.5), loss=ndl.mse_loss, max_norm=0.1, progress=False)
    assert abs(model.weight.item() - 0.95) < 1e-5


def test_evaluate_is_in_eval_mode_records_nothing_and_puts_modes_back():
    model = convnet()
    model[1].eval()                                                     # somebody froze this batch norm
    modes = [module.training for module in model.modules()]
    before = model[4].running_mean.numpy().copy()
    result, again = evaluate(model, digits("test")), evaluate(model, DataLoader(digits("test"), 50))
    assert [module.training for module in model.modules()] == modes and True in modes and False in modes
    assert np.array_equal(model[4].running_mean.numpy(), before)
    assert np.array_equal(result.predictions, again.predictions) and result.accuracy == again.accuracy
    assert result.accuracy == metrics.accuracy_score(result.labels, result.predictions)
    np.testing.assert_allclose(result.probabilities.sum(1), 1, atol=1e-5)
    wrong = result.wrong
    assert len(wrong) == round((1 - result.accuracy) * 599) and (result.predictions[wrong] != result.labels[wrong]).all()
    assert (np.diff(result.probabilities[wrong].max(1)) <= 0).all()
    assert repr(result) == f"Evaluation: {result.accuracy:.2%} of 599 right, {len(wrong)} wrong"
    with pytest.raises(ArgumentError, match="no examples"):
        evaluate(model, ArrayDataset(np.zeros((0, 1, 8, 8), "float32"), np.zeros(0, int)))
    with pytest.raises(ShapeError, match=r"got \(60, 3\) for \(60, 2\)"):
        evaluate(linear(), ArrayDataset(spirals(60).arrays[0], spirals(60).arrays[0]))


def test_confusion_matrix_agrees_with_scikit_learn(rng):
    truth, guess = rng.integers(0, 7, (2, 200))
    assert np.array_equal(confusion_matrix(truth, guess, 7), metrics.confusion_matrix(truth, guess, labels=range(7)))
    assert confusion_matrix([0, 2], [2, 2]).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]
    with pytest.raises(ShapeError, match=r"labels \(2,\) and predictions \(3,\)"):
        confusion_matrix([0, 1], [0, 1, 2])
    for wrong in ([0, 5], [0, -1]):
        with pytest.raises(ArgumentError, match="classes are 0 to 2"):
            confusion_matrix([0, 1], wrong, 3)


def test_perplexity_of_a_model_that_knows_nothing_is_the_size_of_the_vocabulary():
    model = LanguageModel(4, 11, 5, kind="rnn")
    with ndl.no_grad():
        for p in model.parameters():
            p.zero_()
    assert abs(perplexity(model, batchify(np.arange(90) % 11, 3), bptt=7) - 11) < 1e-4


# --- pictures -----------------------------------------------------------------------------------------------------

def drawn(ax):
    ax.figure.canvas.draw()                                             # layout and text are made only now
    matplotlib.pyplot.close(ax.figure)
    return ax


def test_pictures_hold_what_they_were_given():
    history = History([2.0, 1.0, 0.5, 0.25], [1.5, 0.375], [0.5, 0.75], [1.0, 1.0])
    loss, accuracy = plots.plot_history(history, goal=0.7)
    assert np.array_equal(loss.lines[0].get_xydata(), [[0.5, 2], [1, 1], [1.5, 0.5], [2, 0.25]])
    assert np.array_equal(accuracy.lines[0].get_ydata(), [50, 75]) and accuracy.lines[1].get_ydata()[0] == 70
    drawn(loss)
    matrix = np.array([[5, 0, 1], [0, 6, 0], [2, 0, 3]])
    ax = drawn(plots.show_confusion(matrix, ["a", "b", "c"]))
    assert {(t.get_position(), t.get_text()) for t in ax.texts} == {((j, i), str(matrix[i, j])) for i in range(3)
                                                                    for j in range(3) if matrix[i, j]}
    images = shapes(5).arrays[0]
    axes = plots.show_images(images, titles=range(5), columns=3)
    assert axes.shape == (2, 3) and [ax.get_title() for ax in axes.flat] == ["0", "1", "2", "3", "4", ""]
    assert np.array_equal(axes[0, 1].images[0].get_array(), images[1, 0])
    drawn(axes[0, 0])
    drawn(plots.show_images(np.repeat(images, 3, 1))[0, 0])


def test_decisions_are_the_models():
    """The left half-plane is class 0, the right class 1: so are the colours."""
    model = nn.Linear(2, 2)
    with ndl.no_grad():
        model.weight.copy_([[-50, 0], [50, 0]])
        model.bias.zero_()
    ax = drawn(plots.show_decisions(model, ArrayDataset(np.float32([[-1, 0], [1, 0]]), np.array([0, 1])), resolution=20))
    image = ax.images[0].get_array()
    left, right = image[:, 0], image[:, -1]
    assert (left == left[0]).all() and (right == right[0]).all() and (left[0] != right[0]).any()


def test_live_loss_redraws_after_each_epoch():
    live, figures = plots.LiveLoss(goal=0.9), []
    model, train = linear(), spirals(30)
    fit(model, DataLoader(train, 8), SGD(model.parameters(), lr=0.1), epochs=3, test=train, progress=False,
        after_epoch=lambda h: (live(h), figures.append(live.figure)))
    assert [len(figure.axes[0].lines[1].get_xdata()) for figure in figures] == [1, 2, 3]


@pytest.mark.parametrize("call, message", [
    (lambda: plots.show_images(np.zeros((2, 4, 3, 3))), r"got \(2, 4, 3, 3\)"),
    (lambda: plots.show_confusion(np.zeros((2, 3))), "square matrix"),
    (lambda: plots.show_confusion(np.zeros((2, 2)), ["a"]), "1 names"),
    (lambda: plots.show_decisions(linear(), ArrayDataset(np.zeros((2, 3)), np.zeros(2, int))), r"points \(N, 2\)"),
    (lambda: plots.show_decisions(linear(), ArrayDataset(np.zeros((2, 2)), np.array([0, 8]))), "at most 8 classes"),
])
def test_pictures_refuse(call, message):
    with pytest.raises((ShapeError, ArgumentError), match=message):
        call()
