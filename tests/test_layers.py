"""Every layer with weights copied from PyTorch's: output, input gradients and parameter gradients agree."""

import numpy as np
import pytest
from conftest import assert_close
from peers import needs_torch, torch

import needle_lab as ndl
from needle_lab import nn

CASES = {        # name: (arguments, keyword arguments, shapes of the inputs)
    "Linear": [((4, 5), {}, [(3, 4)]), ((4, 5), {"bias": False}, [(2, 3, 4)])],
    "Conv1d": [((4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, [(2, 4, 9)])],
    "Conv2d": [((3, 6, 3), {"padding": 1}, [(2, 3, 7, 8)]), ((4, 6, (2, 3)), {"stride": (2, 1), "dilation": (1, 2),
               "groups": 2}, [(2, 4, 7, 9)]), ((4, 4, 3), {"padding": "same", "padding_mode": "reflect"}, [(2, 4, 5, 6)]),
               ((4, 4, 3), {"padding": 1, "padding_mode": "circular"}, [(2, 4, 5, 6)]), ((3, 2, 3), {}, [(3, 5, 5)])],
    "Conv3d": [((2, 4, 2), {"stride": 2, "padding": 1}, [(1, 2, 5, 4, 6)])],
    "ConvTranspose1d": [((4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}, [(2, 4, 5)])],
    "ConvTranspose2d": [((4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, [(2, 4, 4, 5)]),
                        ((2, 3, (3, 2)), {"dilation": 2, "bias": False}, [(2, 2, 4, 5)])],
    "ConvTranspose3d": [((2, 3, 2), {"stride": 2}, [(1, 2, 3, 4, 2)])],
    "MaxPool1d": [((3,), {"stride": 2, "padding": 1}, [(2, 3, 9)])],
    "MaxPool2d": [((2,), {}, [(2, 3, 6, 8)]), ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, [(2, 3, 7, 8)]),
                  ((2,), {"dilation": 2, "stride": 1}, [(2, 3, 6, 8)])],
    "MaxPool3d": [((2,), {}, [(1, 2, 4, 4, 4)])],
    "AvgPool1d": [((3,), {"stride": 2, "padding": 1}, [(2, 3, 9)])],
    "AvgPool2d": [((2,), {}, [(2, 3, 6, 8)]), ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, [(2, 3, 7, 8)]),
                  ((3,), {"stride": 2, "padding": 1, "count_include_pad": False}, [(2, 3, 7, 8)])],
    "AvgPool3d": [((2,), {}, [(1, 2, 4, 4, 4)])],
    "AdaptiveAvgPool1d": [((3,), {}, [(2, 3, 7)])],
    "AdaptiveAvgPool2d": [((1,), {}, [(2, 3, 6, 8)]), (((3, 5),), {}, [(2, 3, 7, 8)]), (((None, 4),), {}, [(2, 3, 7, 8)])],
    "AdaptiveMaxPool1d": [((3,), {}, [(2, 3, 7)])],
    "AdaptiveMaxPool2d": [(((3, 5),), {}, [(2, 3, 7, 8)])],
    "BatchNorm1d": [((4,), {}, [(6, 4)]), ((4,), {"momentum": None, "affine": False}, [(3, 4, 5)])],
    "BatchNorm2d": [((4,), {}, [(3, 4, 5, 6)]), ((4,), {"track_running_stats": False}, [(3, 4, 5, 6)])],
    "BatchNorm3d": [((2,), {"eps": 1e-3}, [(2, 2, 3, 4, 2)])],
    "LayerNorm": [((6,), {}, [(3, 6)]), (((4, 5),), {"bias": False}, [(2, 4, 5)])],
    "RMSNorm": [((6,), {}, [(3, 6)])],
    "GroupNorm": [((2, 4), {}, [(3, 4, 5)])],
    "InstanceNorm1d": [((4,), {"affine": True}, [(3, 4, 5)])],
    "InstanceNorm2d": [((4,), {}, [(3, 4, 5, 6)])],
    "PReLU": [((), {}, [(3, 4)]), ((4,), {}, [(3, 4, 5)])],
    "RNN": [((4, 5), {}, [(6, 3, 4)]), ((4, 5, 2), {"nonlinearity": "relu", "bidirectional": True}, [(6, 3, 4)])],
    "LSTM": [((4, 5), {}, [(6, 3, 4)]), ((4, 5, 2), {"bidirectional": True, "batch_first": True}, [(3, 6, 4)]),
             ((4, 5), {"bias": False}, [(6, 4)])],
    "GRU": [((4, 5), {}, [(6, 3, 4)]), ((4, 5, 2), {"bidirectional": True, "batch_first": True}, [(3, 6, 4)])],
    "MultiheadAttention": [((8, 2), {}, [(5, 3, 8)] * 3), ((8, 4), {"batch_first": True}, [(3, 5, 8), (3, 6, 8), (3, 6, 8)])],
    "TransformerEncoderLayer": [((8, 2, 16, 0.0), {}, [(5, 3, 8)]),
                                ((8, 2, 16, 0.0), {"norm_first": True, "batch_first": True, "activation": "gelu"}, [(3, 5, 8)])],
    "TransformerDecoderLayer": [((8, 2, 16, 0.0), {}, [(5, 3, 8), (6, 3, 8)])],
}
for _name in ("ReLU ReLU6 LeakyReLU ELU CELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Softplus Softsign Hardtanh "
              "Hardsigmoid Hardswish Identity").split():
    CASES[_name] = [((), {}, [(3, 7)])]
CASES["GELU"].append(((), {"approximate": "tanh"}, [(3, 7)]))
CASES |= {"Softmax": [((1,), {}, [(3, 7)])], "LogSoftmax": [((0,), {}, [(3, 7)])], "Flatten": [((), {}, [(2, 3, 4)])],
          "Unflatten": [((1, (2, 3)), {}, [(4, 6, 2)])]}


def pairs(name, rng):
    for args, options, shapes in CASES[name]:
        theirs = getattr(torch.nn, name)(*args, **options)
        ours = getattr(nn, name)(*args, **options)
        ours.load_state_dict({path: value.detach().numpy() for path, value in theirs.state_dict().items()})
        arrays = [rng.normal(1.0, 2.0, shape).astype(np.float32) for shape in shapes]
        yield ours, theirs, arrays


@needs_torch
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", sorted(CASES))
def test_layer_agrees_with_torch(name, training, rng):
    for ours, theirs, arrays in pairs(name, rng):
        for batch in range(2):                   # the second batch sees the running statistics that the first one moved
            ours.train(training or batch == 0), theirs.train(training or batch == 0)
            ours.zero_grad(), theirs.zero_grad()
            xs = [ndl.tensor(a + batch, requires_grad=True) for a in arrays]
            zs = [torch.tensor(a + batch, requires_grad=True) for a in arrays]
            y, z = ours(*xs), theirs(*zs)
            y, z = (y[0], z[0]) if isinstance(y, tuple) else (y, z)
            assert_close(y, z, 1e-6, name)
            weight = rng.normal(size=y.shape).astype(np.float32)
            y.backward(ndl.tensor(weight)), z.backward(torch.tensor(weight))
            for x, w in zip(xs, zs, strict=True):
                assert_close(x.grad, w.grad, 5e-6, f"{name}: input gradient")
            gradients = {path: p.grad for path, p in theirs.named_parameters()}
            for path, p in ours.named_parameters():
                assert_close(p.grad, gradients[path], 5e-6, f"{name}: gradient of {path}")
        for path, value in theirs.state_dict().items():
            assert_close(ours.state_dict()[path], value, 1e-6, f"{name}: {path} after training")


@needs_torch
def test_embedding_agrees_with_torch(rng):
    for padding_idx in (None, 2):
        theirs = torch.nn.Embedding(7, 3, padding_idx=padding_idx)
        ours = nn.Embedding(7, 3, padding_idx=padding_idx)
        ours.load_state_dict({"weight": theirs.weight.detach().numpy()})
        index = rng.integers(0, 7, (4, 5))
        y, z = ours(ndl.tensor(index)), theirs(torch.tensor(index))
        assert_close(y, z)
        weight = rng.normal(size=y.shape).astype(np.float32)
        y.backward(ndl.tensor(weight)), z.backward(torch.tensor(weight))
        assert_close(ours.weight.grad, theirs.weight.grad)


@needs_torch
def test_attention_masks_agree_with_torch(rng):
    theirs, ours = torch.nn.MultiheadAttention(8, 2, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    x = rng.normal(size=(3, 5, 8)).astype(np.float32)
    padding = np.zeros((3, 5), bool)
    padding[1, 3:] = True
    blocked = np.triu(np.ones((5, 5), bool), 1)
    for need_weights in (True, False):
        y, w = ours(ndl.tensor(x), key_padding_mask=ndl.tensor(padding), attn_mask=ndl.tensor(blocked), need_weights=need_weights)
        z, v = theirs(*[torch.tensor(x)] * 3, key_padding_mask=torch.tensor(padding), attn_mask=torch.tensor(blocked),
                      need_weights=need_weights)
        assert_close(y, z)
        assert (w is None) == (v is None)
        if w is not None:
            assert_close(w, v)
    causal, _ = ours(ndl.tensor(x), is_causal=True)
    masked, _ = ours(ndl.tensor(x), attn_mask=ndl.tensor(blocked))
    assert_close(causal, masked.numpy())


@needs_torch
def test_stacked_transformer_agrees_with_torch(rng):
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0), 3, enable_nested_tensor=False)
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0), 3)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    x = rng.normal(size=(5, 3, 8)).astype(np.float32)
    assert_close(ours(ndl.tensor(x)), theirs(torch.tensor(x)))


@needs_torch
@pytest.mark.parametrize("name", ["MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss", "BCELoss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_agree_with_torch(name, reduction, rng):
    x = rng.uniform(0.05, 0.95, (4, 5)).astype(np.float32) * (1 if name == "BCELoss" else 3)
    target = rng.random((4, 5)).astype(np.float32)
    a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = getattr(nn, name)(reduction=reduction)(a, ndl.tensor(target))
    z = getattr(torch.nn, name)(reduction=reduction)(b, torch.tensor(target))
    assert_close(y, z)
    y.sum().backward(), z.sum().backward()
    assert_close(a.grad, b.grad)


@needs_torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"weight": True}, {"label_smoothing": 0.1},
                                     {"weight": True, "label_smoothing": 0.2, "ignore_index": 1}, {"soft": True},
                                     {"soft": True, "label_smoothing": 0.1, "weight": True}])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5)])
def test_cross_entropy_agrees_with_torch(shape, options, reduction, rng):
    options = dict(options)
    x = rng.normal(size=shape).astype(np.float32)
    target = rng.integers(0, 4, shape[:1] + shape[2:])
    if options.pop("soft", False):
        target = rng.random(shape).astype(np.float32)
        target /= target.sum(1, keepdims=True)
    weight = rng.random(4).astype(np.float32) if options.pop("weight", False) else None
    a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = ndl.cross_entropy(a, ndl.tensor(target), None if weight is None else ndl.tensor(weight), reduction=reduction, **options)
    z = torch.nn.functional.cross_entropy(b, torch.tensor(target), None if weight is None else torch.tensor(weight),
                                          reduction=reduction, **options)
    assert_close(y, z)
    y.sum().backward(), z.sum().backward()
    assert_close(a.grad, b.grad)


def test_wrong_inputs_name_what_was_expected():
    x = ndl.randn(2, 3, 8, 8)
    for call, words in [(lambda: nn.Linear(4, 5)(ndl.randn(2, 3)), ["Linear", "4", "(2, 3)"]),
                        (lambda: nn.Conv2d(4, 5, 3)(x), ["channels", "(2, 3, 8, 8)"]),
                        (lambda: nn.Conv2d(3, 5, 11)(x), ["11", "does not fit"]),
                        (lambda: nn.BatchNorm2d(4)(x), ["BatchNorm2d", "4", "(2, 3, 8, 8)"]),
                        (lambda: nn.LSTM(4, 5)(ndl.randn(2, 2, 3)), ["LSTM", "4", "(2, 2, 3)"]),
                        (lambda: nn.GroupNorm(2, 3), ["divisible", "3", "2"]),
                        (lambda: nn.Embedding(4, 2)(ndl.tensor([[0, 4]])), ["4", "out of range"]),
                        (lambda: nn.Embedding(4, 2)(ndl.tensor([0.0])), ["integers", "float32"]),
                        (lambda: nn.MaxPool2d(9)(x), ["9", "does not fit"]),
                        (lambda: ndl.cross_entropy(ndl.randn(2, 3), ndl.tensor([0, 3])), ["3", "0..2"]),
                        (lambda: ndl.cross_entropy(ndl.randn(2, 3), ndl.tensor([0, 1, 2])), ["(2, 3)", "(3,)"]),
                        (lambda: ndl.mse_loss(ndl.randn(2), ndl.randn(3)), ["(2,)", "(3,)"])]:
        with pytest.raises(ndl.errors.NeedleError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), caught.value
