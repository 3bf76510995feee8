"""nn.utils: packed sequences through recurrent layers, vectors of parameters, weight and spectral norm; against PyTorch."""

import copy

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import NeedleError

torch = require("torch")
rnn, theirs_rnn = nn.utils.rnn, torch.nn.utils.rnn


def same_packed(a, b):
    assert_close(a.data, b.data, 1e-6)
    assert a.batch_sizes.tolist() == b.batch_sizes.tolist()
    for mine, his in ((a.sorted_indices, b.sorted_indices), (a.unsorted_indices, b.unsorted_indices)):
        assert mine is None and his is None or sorted(mine.tolist()) == sorted(his.tolist())


@pytest.mark.parametrize("lengths", [[5, 3, 3, 1], [2, 5, 1, 4], [5, 5, 5, 5]])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("kind", "options"), [("LSTM", {"num_layers": 2, "bidirectional": True}),
                                               ("LSTM", {"proj_size": 2}),
                                               ("GRU", {"bidirectional": True, "bias": False}),
                                               ("RNN", {"num_layers": 2, "nonlinearity": "relu"})])
def test_packed_sequences_run_as_long_as_they_are(kind, options, batch_first, lengths, rng):
    x = rng.normal(size=(4, 5, 3) if batch_first else (5, 4, 3)).astype(np.float32)
    theirs = getattr(torch.nn, kind)(3, 4, batch_first=batch_first, **options)
    ours = getattr(nn, kind)(3, 4, batch_first=batch_first, **options)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ordered = sorted(lengths, reverse=True) == lengths
    p = rnn.pack_padded_sequence(a, lengths, batch_first, enforce_sorted=ordered)
    q = theirs_rnn.pack_padded_sequence(b, torch.tensor(lengths), batch_first, enforce_sorted=ordered)
    same_packed(p, q)
    rows = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    starts = [rng.normal(size=(rows, 4, options.get("proj_size", 4) if i == 0 else 4)).astype(np.float32) for i in (0, 1)]
    starts = starts if kind == "LSTM" else starts[:1]
    for given in ((), tuple(starts)):
        results = []
        for layer, packed, room in ((ours, p, ndl), (theirs, q, torch)):
            start = tuple(map(room.tensor, given))
            results.append(layer(packed, *([start if kind == "LSTM" else start[0]] if given else [])))
        (y, s), (z, r) = results
        same_packed(y, z)
        for mine, his in zip(s if kind == "LSTM" else (s,), r if kind == "LSTM" else (r,), strict=True):
            assert_close(mine, his, 2e-6)
    (padded, n), (filled, m) = (room.pad_packed_sequence(packed, batch_first, -1.0, 7)
                                for room, packed in ((rnn, y), (theirs_rnn, z)))
    assert_close(padded, filled, 1e-6)
    assert n.tolist() == m.tolist() == lengths
    weight = rng.normal(size=padded.shape).astype(np.float32)
    (padded * weight).sum().backward(), (filled * torch.tensor(weight)).sum().backward()
    assert_close(a.grad, b.grad, 5e-6)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, gradients[name], 1e-5, name)


def test_padding_and_packing_lists(rng):
    parts = [rng.normal(size=(n, 2)).astype(np.float32) for n in (2, 4, 1)]
    ours, theirs = list(map(ndl.tensor, parts)), list(map(torch.tensor, parts))
    for options in ({}, {"batch_first": True, "padding_value": 3.0}, {"padding_side": "left"}):
        assert_close(rnn.pad_sequence(ours, **options), theirs_rnn.pad_sequence(theirs, **options))
    same_packed(rnn.pack_sequence(ours, False), theirs_rnn.pack_sequence(theirs, False))
    for mine, his in zip(rnn.unpack_sequence(rnn.pack_sequence(ours, False)), parts, strict=True):
        assert_close(mine, his)
    for mine, his in zip(rnn.unpad_sequence(rnn.pad_sequence(ours), [2, 4, 1]), parts, strict=True):
        assert_close(mine, his)
    for call, words in ((lambda: rnn.pack_sequence(ours), "enforce_sorted=False"),
                        (lambda: rnn.pad_sequence([]), "at least one"),
                        (lambda: rnn.pack_padded_sequence(ndl.ones(3, 2), [3]), "needs 2 lengths"),
                        (lambda: rnn.pack_padded_sequence(ndl.ones(3, 2), [3, 0]), "lengths from 1 to 3"),
                        (lambda: rnn.pad_packed_sequence(rnn.pack_sequence(ours, False), total_length=3), "below 4")):
        with pytest.raises(NeedleError, match=words):
            call()


def test_parameters_as_a_vector_and_back():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    vector = nn.utils.parameters_to_vector(model.parameters())
    assert vector.requires_grad and vector.shape == (11,)
    nn.utils.vector_to_parameters(ndl.arange(11).float(), model.parameters())
    assert model[0].bias.tolist() == [6, 7] and model[1].bias.tolist() == [10]
    with pytest.raises(NeedleError, match="11 values"):
        nn.utils.vector_to_parameters(ndl.ones(3), model.parameters())


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "ConvTranspose2d"])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
@pytest.mark.filterwarnings("ignore")
def test_normalised_weights_agree_with_torch(norm, name, rng):
    args, shape = ((4, 3), (2, 4)) if name == "Linear" else ((4, 3, 2), (2, 4, 5, 5))
    ours, theirs = (getattr(room.utils, norm)(getattr(room, name)(*args)) for room in (nn, torch.nn))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    ours = copy.deepcopy(ours)
    x = rng.normal(size=shape).astype(np.float32)
    for training in (True, True, False):
        y, z = ours.train(training)(ndl.tensor(x)), theirs.train(training)(torch.tensor(x))
        assert_close(y, z, 1e-5)
    ours.zero_grad(), theirs.zero_grad()
    (y * y).sum().backward(), (z * z).sum().backward()
    gradients = {path: p.grad for path, p in theirs.named_parameters()}
    for path, p in ours.named_parameters():
        assert_close(p.grad, gradients[path], 2e-5, path)
    getattr(nn.utils, f"remove_{norm}")(ours)
    assert set(ours.state_dict()) == {"weight", "bias"}
    assert_close(ours(ndl.tensor(x)), y, 1e-6)
    with pytest.raises(NeedleError, match="not normalised"):
        getattr(nn.utils, f"remove_{norm}")(ours)
    with pytest.raises(NeedleError, match="no parameter 'kernel'"):
        getattr(nn.utils, norm)(nn.Linear(2, 2), "kernel")
