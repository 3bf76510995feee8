"""Every layer with weights copied from PyTorch's: output, input gradients and parameter gradients agree."""

import copy
import inspect
import pickle

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
CASES |= {
    "Bilinear": [((3, 4, 5), {}, [(2, 6, 3), (2, 6, 4)])], "PixelShuffle": [((2,), {}, [(2, 8, 3, 4)])],
    "PixelUnshuffle": [((2,), {}, [(8, 4, 6)])], "ChannelShuffle": [((3,), {}, [(2, 6, 3, 3)])],
    "Unfold": [(((2, 3),), {"stride": 2, "padding": 1}, [(2, 3, 6, 7)])], "LocalResponseNorm": [((3,), {}, [(2, 5, 4, 3)])],
    "Fold": [(((6, 7), (2, 3)), {"padding": 1, "stride": 2}, [(2, 18, 16)])], "Softmin": [((1,), {}, [(3, 7)])],
    "Softmax2d": [((), {}, [(2, 3, 4, 4)])], "GLU": [((1,), {}, [(2, 6, 3)])], "Threshold": [((0.3, -2.0), {}, [(3, 7)])],
    "Softplus": [((2.0, 1.0), {}, [(3, 7)])], "LeakyReLU": [((0.3,), {"inplace": True}, [(3, 7)])],
    "Upsample": [((), {"size": (5, 9)}, [(2, 3, 4, 6)]), ((), {"scale_factor": 2.5, "mode": "bilinear"}, [(2, 3, 4, 6)]),
                 ((), {"scale_factor": (0.7, 1.5), "mode": "bicubic", "align_corners": True}, [(2, 3, 7, 6)]),
                 ((7,), {"mode": "linear"}, [(2, 3, 4)])],
    "UpsamplingBilinear2d": [((), {"scale_factor": 2}, [(2, 3, 4, 5)])],
    "UpsamplingNearest2d": [((7,), {}, [(1, 2, 4, 5)])],
    "LPPool2d": [((2, 3), {"stride": 2, "ceil_mode": True}, [(2, 3, 8, 7)])],
    "AdaptiveMaxPool3d": [((2,), {}, [(2, 5, 4, 3)])],
    "InstanceNorm3d": [((2,), {"affine": True, "track_running_stats": True, "bias": False}, [(3, 2, 3, 4, 2)])],
    "ReflectionPad1d": [((2,), {}, [(2, 3, 5)])], "ReplicationPad2d": [(((1, 2, 3, 0),), {}, [(2, 3, 4, 5)])],
    "CircularPad3d": [((1,), {}, [(2, 1, 3, 4, 2)])], "ConstantPad2d": [(((1, -1, 2, 0), 3.5), {}, [(2, 3, 4, 5)])],
    "ZeroPad1d": [((1,), {}, [(2, 3)])], "RNNCell": [((4, 5), {"nonlinearity": "relu"}, [(3, 4), (3, 5)])],
    "GRUCell": [((4, 5), {}, [(3, 4)])], "LSTMCell": [((4, 5), {"bias": False}, [(4,)])],
    "CosineSimilarity": [((2,), {}, [(2, 3, 4), (2, 3, 4)])],
    "PairwiseDistance": [((3.0,), {"keepdim": True}, [(3, 4), (3, 4)])],
    "Transformer": [((8, 2, 2, 2, 16, 0.0), {"batch_first": True, "activation": "gelu"}, [(3, 5, 8), (3, 4, 8)])]}
CASES["BatchNorm2d"].append(((4,), {"bias": False}, [(3, 4, 5, 6)]))
CASES["GroupNorm"].append(((2, 4), {"bias": False}, [(3, 4, 5)]))
CASES["LSTM"] += [((4, 5, 2), {"proj_size": 3, "bidirectional": True}, [(6, 3, 4)])]
CASES["MultiheadAttention"] += [
    ((8, 4), {"kdim": 6, "vdim": 5, "add_bias_kv": True, "add_zero_attn": True}, [(5, 3, 8), (4, 3, 6), (4, 3, 5)]),
    ((8, 2), {"bias": False}, [(5, 8), (4, 8), (4, 8)])]
CASES["MaxPool2d"].append(((2,), {"return_indices": True}, [(3, 6, 8)]))
CASES["AvgPool2d"].append(((2,), {"divisor_override": 3, "padding": 1}, [(2, 3, 6, 8)]))
for _name in ("ReLU ReLU6 LeakyReLU ELU CELU SELU GELU SiLU Mish Sigmoid LogSigmoid Tanh Softplus Softsign Hardtanh "
              "Hardsigmoid Hardswish Tanhshrink Softshrink Hardshrink Identity").split():
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


LOSSES = {        # name: (keyword arguments, shapes of the floating inputs, the target)
    "SoftMarginLoss": [({}, [(4, 5)], "sign")], "HingeEmbeddingLoss": [({"margin": 0.7}, [(4, 5)], "sign")],
    "MarginRankingLoss": [({"margin": 0.2}, [(6,), (6,)], "sign 6")],
    "MultiMarginLoss": [({"p": 2, "margin": 0.5}, [(4, 5)], "class")],
    "MultiLabelMarginLoss": [({}, [(4, 5)], "labels")], "MultiLabelSoftMarginLoss": [({}, [(4, 5)], "bits")],
    "CosineEmbeddingLoss": [({"margin": 0.1}, [(4, 5), (4, 5)], "sign 4")],
    "TripletMarginLoss": [({"swap": True}, [(4, 5)] * 3, None), ({"p": 3.0, "margin": 0.4}, [(4, 5)] * 3, None)],
    "PoissonNLLLoss": [({"full": True}, [(4, 5)], "counts"), ({"log_input": False}, [(4, 5)], "counts")],
    "KLDivLoss": [({"log_target": True}, [(4, 5), (4, 5)], None)], "NLLLoss": [({}, [(5,)], "one class")],
    "BCEWithLogitsLoss": [({"pos_weight": 5, "weight": 5}, [(4, 5)], "bits")]}


def target_of(kind, rng):
    return {"sign": lambda: np.sign(rng.normal(size=(4, 5))).astype(np.float32), "class": lambda: rng.integers(0, 5, 4),
            "sign 6": lambda: np.sign(rng.normal(size=6)).astype(np.float32), "one class": lambda: np.array(3),
            "sign 4": lambda: np.float32([1, -1, -1, 1]), "bits": lambda: rng.integers(0, 2, (4, 5)).astype(np.float32),
            "labels": lambda: np.array([[3, 0, -1, 1, 2], [-1, 0, 0, 0, 0], [4, 3, 2, 1, 0], [1, -1, 1, -1, 1]]),
            "counts": lambda: rng.poisson(2.0, (4, 5)).astype(np.float32)}[kind]()


@needs_torch
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_with_margins_and_weights_agree_with_torch(name, reduction, rng):
    for options, shapes, kind in LOSSES[name]:
        arrays = [np.abs(rng.normal(size=s)).astype(np.float32) for s in shapes]
        last = [] if kind is None else [target_of(kind, rng)]
        weights = {k: rng.random(v).astype(np.float32) for k, v in options.items() if "weight" in k}
        ours = getattr(nn, name)(reduction=reduction, **options | {k: ndl.tensor(v) for k, v in weights.items()})
        theirs = getattr(torch.nn, name)(reduction=reduction, **options | {k: torch.tensor(v) for k, v in weights.items()})
        xs, zs = [ndl.tensor(a, requires_grad=True) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
        y, z = ours(*xs, *map(ndl.tensor, last)), theirs(*zs, *map(torch.tensor, last))
        assert_close(y, z, 2e-6, name)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        y.sum().backward(), z.sum().backward()
        for x, w in zip(xs, zs, strict=True):
            assert_close(x.grad, w.grad, 5e-6, f"{name}: gradient")


@needs_torch
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc_agrees_with_torch(reduction, joined, zero_infinity, rng):
    """Repeated letters, an empty text, a text too long for its times, different lengths of both."""
    x = rng.normal(size=(7, 4, 5))
    texts, spans, lengths = np.array([[1, 1, 2], [3, 0, 0], [4, 2, 4], [1, 1, 1]]), [7, 5, 6, 4], [3, 0, 2, 3]
    given = np.concatenate([t[:n] for t, n in zip(texts, lengths, strict=True)]) if joined else texts
    a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    options = {"reduction": reduction, "zero_infinity": zero_infinity}
    y = nn.CTCLoss(**options)(a.log_softmax(-1), ndl.tensor(given), ndl.tensor(spans), ndl.tensor(lengths))
    z = torch.nn.CTCLoss(**options)(b.log_softmax(-1), torch.tensor(given), torch.tensor(spans), torch.tensor(lengths))
    assert_close(y, z, 1e-9)
    if zero_infinity:
        y.sum().backward(), z.sum().backward()
        assert_close(a.grad, b.grad, 1e-9)


@needs_torch
def test_embedding_options_and_bags_agree_with_torch(rng):
    weight, index = rng.normal(size=(7, 3)).astype(np.float32) * 2, rng.integers(0, 7, 11)
    for name, options, more in (("Embedding", {"max_norm": 1.0}, {}),
                                ("Embedding", {"scale_grad_by_freq": True, "padding_idx": 2}, {}),
                                ("EmbeddingBag", {}, {}), ("EmbeddingBag", {"mode": "max", "padding_idx": 1}, {}),
                                ("EmbeddingBag", {"mode": "sum"}, {"per_sample_weights": 11}),
                                ("EmbeddingBag", {"include_last_offset": True, "max_norm": 2.0, "norm_type": 1.0}, {})):
        ours, theirs = getattr(nn, name)(7, 3, **options), getattr(torch.nn, name)(7, 3, **options)
        for layer in (ours, theirs):
            layer.load_state_dict({"weight": weight.copy() if layer is ours else torch.tensor(weight)})
        offsets = np.array([0, 3, 3, 9] + [11] * bool(options.get("include_last_offset")))
        given = [index] if name == "Embedding" else [index, offsets]
        extra = {k: rng.random(n).astype(np.float32) for k, n in more.items()}
        y = ours(*map(ndl.tensor, given), **{k: ndl.tensor(v) for k, v in extra.items()})
        z = theirs(*map(torch.tensor, given), **{k: torch.tensor(v) for k, v in extra.items()})
        assert_close(y, z, 1e-6, f"{name} {options}")
        g = rng.normal(size=y.shape).astype(np.float32)
        y.backward(ndl.tensor(g)), z.backward(torch.tensor(g))
        assert_close(ours.weight.grad, theirs.weight.grad, 1e-6, f"{name} {options}")
        assert_close(ours.weight, theirs.weight, 1e-6)


@needs_torch
@pytest.mark.parametrize("name", [name for name in nn.__all__ if name.startswith("Lazy")])
def test_a_lazy_layer_learns_its_length_and_an_optimizer_may_hold_it_before(name, rng):
    dims = 1 if name == "LazyLinear" else int(name[-2])
    args = () if "Norm" in name else (5,) if name == "LazyLinear" else (6, 2)
    x = rng.normal(size=(3, 4, *(5,) * (dims if name != "LazyLinear" else 0))).astype(np.float32)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    optimizer, kind = ndl.optim.SGD([*ours.parameters(), ndl.zeros(1)], lr=0.1), name.removeprefix("Lazy")
    theirs(torch.tensor(x))
    start = {k: v.detach().numpy().copy() for k, v in theirs.state_dict().items()}
    assert ours(ndl.tensor(x)).shape == theirs(torch.tensor(x)).shape and type(ours) is getattr(nn, kind)
    ours.load_state_dict(start)
    fresh = getattr(nn, name)(*args)
    fresh.load_state_dict(start)                         # the state says how long it is
    assert type(fresh) is getattr(nn, kind) and repr(fresh) == repr(ours)
    before = [p.numpy().copy() for p in ours.parameters()]
    (ours(ndl.tensor(x)) ** 2).sum().backward()
    optimizer.step()
    assert all(not np.array_equal(a, b.numpy()) for a, b in zip(before, ours.parameters(), strict=True))


@needs_torch
def test_unpooling_puts_values_back_where_pooling_found_them(rng):
    x = rng.normal(size=(2, 3, 7, 6)).astype(np.float32)
    a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = (room.MaxUnpool2d(2)(*room.MaxPool2d(2, return_indices=True)(t), output_size=(7, 6))
            for room, t in ((nn, a), (torch.nn, b)))
    assert_close(y, z)
    y.backward(ndl.tensor(x)), z.backward(torch.tensor(x))
    assert_close(a.grad, b.grad)


def test_a_query_that_may_see_no_key_gets_zeros_and_finite_gradients():
    layer, x = nn.MultiheadAttention(8, 2, batch_first=True), ndl.randn(2, 4, 8, requires_grad=True)
    padding = ndl.tensor([[True] * 4, [False, False, True, True]])
    for need_weights in (True, False):
        y, weights = layer(x, key_padding_mask=padding, need_weights=need_weights)
        assert np.isfinite(y.numpy()).all() and (weights is None or not weights.numpy()[0].any())
        (y * y).sum().backward()
        assert all(np.isfinite(p.grad.numpy()).all() for p in (x, *layer.parameters()))
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder(x, src_key_padding_mask=padding).sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in encoder.parameters())


def test_a_layer_made_from_a_function_is_a_class_like_any_other():
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)" and nn.ReLU(inplace=True).signature()["config"] == {}
    assert nn.Softplus().signature()["config"] == {} and nn.Softplus(2).signature()["config"] == {"beta": 2}
    assert isinstance(copy.deepcopy(nn.GELU("tanh")), nn.GELU) and pickle.loads(pickle.dumps(nn.ELU(2.0))).alpha == 2.0
    assert "torch.nn.Hardshrink" in nn.Hardshrink.__doc__ and str(inspect.signature(nn.Hardshrink)) == "(lambd=0.5)"

    class Twice(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)
    assert Twice()(ndl.tensor([-1.0, 3.0])).tolist() == [0, 6]
    for call, words in ((lambda: nn.ReLU(slope=1), "ReLU.*slope"), (lambda: nn.PixelShuffle(), "upscale_factor"),
                        (lambda: nn.GaussianNLLLoss(True), "too many positional"),
                        (lambda: nn.Softmax()(ndl.ones(2, 3, 4)), "which axis")):
        with pytest.raises(ndl.errors.ArgumentError, match=words):
            call()


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
    ours = nn.TransformerEncoder(encoder_layer=nn.TransformerEncoderLayer(8, 2, 16, 0.0), num_layers=3, enable_nested_tensor=False)
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


def test_every_layer_is_made_where_and_as_asked():
    """PyTorch's factory arguments: device= and dtype= in every constructor."""
    for made in (nn.Linear(3, 2, device="cpu", dtype=ndl.float64), nn.Conv2d(3, 4, 3, dtype="float64"),
                 nn.LSTM(3, 4, device=ndl.cpu(), dtype=ndl.float64), nn.BatchNorm1d(3, dtype="float64", device=None),
                 nn.MultiheadAttention(4, 2, dtype="float64"), nn.Embedding(5, 3, dtype="float64")):
        assert {p.dtype for p in made.parameters()} == {np.dtype("float64")}
    with pytest.raises(ndl.errors.NeedleError, match="gpu"):
        nn.Linear(3, 2, device="gpu")
