"""Functions made of ops, against PyTorch: values and gradients."""

import math

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl

torch = require("torch")
F = torch.nn.functional


def N(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


POSITIVE, INDEX = np.abs(N(3, 4)) + 0.1, np.array([[0, 2], [1, 0], [3, 3]])
PROBABILITIES = np.random.default_rng(1).dirichlet(np.ones(4), 3).astype(np.float32)
CASES = {        # name: (inputs, ours, PyTorch's)
    "std": ([N(3, 4)], lambda x: ndl.std(x, axis=1), lambda x: x.std(1)),
    "norm": ([N(3, 4)], lambda x: ndl.norm(x, 3, axis=1), lambda x: torch.linalg.vector_norm(x, 3, 1)),
    "norm inf": ([N(3, 4)], lambda x: ndl.norm(x, math.inf, axis=0), lambda x: torch.linalg.vector_norm(x, math.inf, 0)),
    "sort": ([N(3, 4)], lambda x: ndl.sort(x, 0, True)[0], lambda x: torch.sort(x, 0, True)[0]),
    "topk": ([N(3, 6)], lambda x: ndl.topk(x, 2)[0], lambda x: torch.topk(x, 2)[0]),
    "topk smallest": ([N(3, 6)], lambda x: x.topk(3, 0, False)[0], lambda x: torch.topk(x, 3, 0, False)[0]),
    "clip": ([N(3, 4)], lambda x: x.clip(-0.5, 0.5), lambda x: x.clamp(-0.5, 0.5)),
    "clip tensor": ([N(3, 4), N(4, seed=1)], lambda x, m: ndl.clamp(x, min=m), lambda x, m: torch.clamp(x, min=m)),
    "masked_fill": ([N(3, 4)], lambda x: x.masked_fill(x > 0, -1.0), lambda x: x.masked_fill(x > 0, -1.0)),
    "repeat_interleave": ([N(3, 4)], lambda x: x.repeat_interleave(2, 1), lambda x: x.repeat_interleave(2, 1)),
    "chunk": ([N(5, 4)], lambda x: x.chunk(3)[1], lambda x: x.chunk(3)[1]),
    "split sizes": ([N(5, 4)], lambda x: x.split([1, 4], 0)[1], lambda x: x.split([1, 4], 0)[1]),
    "stack": ([N(3, 4), N(3, 4, seed=1)], lambda a, b: ndl.stack([a, b], -1), lambda a, b: torch.stack([a, b], -1)),
    "unbind": ([N(3, 4)], lambda x: x.unbind(1)[2], lambda x: x.unbind(1)[2]),
    "movedim": ([N(2, 3, 4)], lambda x: x.movedim(0, -1), lambda x: x.movedim(0, -1)),
    "flatten": ([N(2, 3, 4)], lambda x: x.flatten(1), lambda x: x.flatten(1)),
    "tril": ([N(4, 5)], lambda x: x.tril(-1), lambda x: x.tril(-1)),
    "triu": ([N(2, 4, 5)], lambda x: x.triu(1), lambda x: x.triu(1)),
    "diagonal": ([N(2, 4, 5)], lambda x: x.diagonal(1), lambda x: x.diagonal(1)),
    "diagonal below": ([N(4, 3)], lambda x: x.diagonal(-1), lambda x: x.diagonal(-1)),
    "trace": ([N(4, 4)], lambda x: x.trace(), lambda x: x.trace()),
    "gather": ([N(4, 5)], lambda x: x.gather(1, ndl.tensor(INDEX)), lambda x: x.gather(1, torch.tensor(INDEX))),
    "outer": ([N(3), N(4, seed=1)], lambda a, b: a.outer(b), lambda a, b: a.outer(b)),
    "normalize": ([N(3, 4)], ndl.normalize, lambda x: F.normalize(x, dim=-1)),
    "cosine_similarity": ([N(3, 4), N(3, 4, seed=1)], ndl.cosine_similarity, lambda a, b: F.cosine_similarity(a, b, -1)),
    "einsum implicit": ([N(2, 3, 4), N(2, 4, 5, seed=1)], lambda a, b: ndl.einsum("bij,bjk", a, b),
                        lambda a, b: torch.einsum("bij,bjk", a, b)),
    "einsum dots": ([N(2, 3, 4), N(2, 4, 5, seed=1)], lambda a, b: ndl.einsum("...ij,...jk->...ik", a, b),
                    lambda a, b: torch.einsum("...ij,...jk->...ik", a, b)),
    "pad reflect": ([N(2, 3, 5)], lambda x: ndl.pad(x, (2, 1), "reflect"), lambda x: F.pad(x, (2, 1), "reflect")),
    "pad replicate": ([N(1, 2, 4, 5)], lambda x: ndl.pad(x, (2, 1, 0, 3), "replicate"),
                      lambda x: F.pad(x, (2, 1, 0, 3), "replicate")),
    "pad circular": ([N(2, 3, 5)], lambda x: ndl.pad(x, (2, 1), "circular"), lambda x: F.pad(x, (2, 1), "circular")),
    "pad crop": ([N(2, 5)], lambda x: ndl.pad(x, (-1, 2), value=3.0), lambda x: F.pad(x, (-1, 2), value=3.0)),
    "prelu": ([N(3, 4, 2), N(4, seed=1)], ndl.prelu, lambda x, w: F.prelu(x, w)),
    "relu6": ([N(3, 4) * 6], ndl.relu6, F.relu6), "hardtanh": ([N(3, 4)], ndl.hardtanh, F.hardtanh),
    "hardswish": ([N(3, 4) * 3], ndl.hardswish, F.hardswish), "mish": ([N(3, 4)], ndl.mish, F.mish),
    "log_sigmoid": ([N(3, 4) * 50], ndl.log_sigmoid, F.logsigmoid),
    "gelu tanh": ([N(3, 4)], ndl.gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
    "rms_norm": ([N(3, 4), N(4, seed=1)], lambda x, w: ndl.rms_norm(x, 4, w, 1e-6), lambda x, w: F.rms_norm(x, (4,), w, 1e-6)),
    "instance_norm": ([N(2, 3, 5)], ndl.instance_norm, F.instance_norm),
    "conv same": ([N(2, 3, 7), N(4, 3, 4, seed=1)], lambda x, w: ndl.conv(x, w, padding="same"),
                  lambda x, w: F.conv1d(x, w, padding="same")),
    "lp_pool": ([np.abs(N(1, 2, 6, 6)) + 0.1], lambda x: ndl.lp_pool(x, 3, 2), lambda x: F.lp_pool2d(x, 3, 2)),
    "global_max_pool": ([N(2, 3, 4, 5)], ndl.global_max_pool, lambda x: x.amax((2, 3), keepdim=True)),
    "attention": ([N(2, 3, 5, 4), N(2, 3, 6, 4, seed=1), N(2, 3, 6, 4, seed=2)], ndl.scaled_dot_product_attention,
                  F.scaled_dot_product_attention),
    "causal attention": ([N(2, 5, 4), N(2, 5, 4, seed=1), N(2, 5, 4, seed=2)],
                         lambda q, k, v: ndl.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
                         lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)),
    "masked attention": ([N(2, 5, 4), N(2, 6, 4, seed=1), N(2, 6, 4, seed=2)],
                         lambda q, k, v: ndl.scaled_dot_product_attention(q, k, v, ndl.tensor(N(5, 6, seed=3) > -1)),
                         lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.tensor(N(5, 6, seed=3) > -1))),
    "kl_div": ([np.log(PROBABILITIES)], lambda x: ndl.kl_div(x, ndl.tensor(PROBABILITIES[::-1].copy()), "batchmean"),
               lambda x: F.kl_div(x, torch.tensor(PROBABILITIES[::-1].copy()), reduction="batchmean")),
    "margin_ranking_loss": ([N(5), N(5, seed=1)], lambda a, b: ndl.margin_ranking_loss(a, b, ndl.tensor(np.sign(N(5, seed=2))), 0.3),
                            lambda a, b: F.margin_ranking_loss(a, b, torch.tensor(np.sign(N(5, seed=2))), 0.3)),
    "bce pos_weight": ([N(3, 4)], lambda x: ndl.binary_cross_entropy_with_logits(x, ndl.tensor(PROBABILITIES), pos_weight=ndl.tensor(POSITIVE[0])),
                       lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(PROBABILITIES), pos_weight=torch.tensor(POSITIVE[0]))),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_function_agrees_with_torch(name):
    inputs, ours, theirs = CASES[name]
    xs, zs = [ndl.tensor(a, requires_grad=True) for a in inputs], [torch.tensor(a, requires_grad=True) for a in inputs]
    y, z = ours(*xs), theirs(*zs)
    assert_close(y, z, 1e-6, name)
    weight = np.random.default_rng(9).normal(size=y.shape).astype(np.float32)
    y.backward(ndl.tensor(weight)), z.backward(torch.tensor(weight))
    for x, w in zip(xs, zs, strict=True):
        assert_close(x.grad, w.grad, 2e-6, f"gradient of {name}")


@pytest.mark.parametrize("shape", [(2, 32, 28, 28), (4, 40, 15, 17), (2, 33, 60, 21)])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_winograd_is_the_same_convolution(shape, padding):
    """Within a few 1e-6 of the direct sum, gradients included; off where it is forbidden."""
    x, w = N(*shape), N(48, shape[1], 3, 3, seed=1) / 20
    results = {}
    for allowed in (True, False):
        a, b = ndl.tensor(x, requires_grad=True), ndl.tensor(w, requires_grad=True)
        with ndl.use_kernels(ndl.use_kernels.level, without=() if allowed else "winograd"):
            y = ndl.conv2d(a, b, padding=padding)
            (y * y).sum().backward()
        results[allowed] = y.numpy(), a.grad.numpy(), b.grad.numpy()
    assert not np.array_equal(results[True][0], results[False][0]), "the other algorithm ran"
    for fast, direct in zip(results[True], results[False], strict=True):
        assert_close(fast, direct, 1e-5)


def test_dropout_keeps_the_mean_and_repeats_with_its_seed():
    x = ndl.ones(100_000)
    y = ndl.dropout(x, 0.3, generator=ndl.Generator(0))
    kept = y.numpy() != 0
    assert abs(kept.mean() - 0.7) < 0.01 and np.allclose(y.numpy()[kept], 1 / 0.7)
    np.testing.assert_array_equal(y.numpy(), ndl.dropout(x, 0.3, generator=ndl.Generator(0)).numpy())
    assert ndl.dropout(x, 0.3, training=False) is x and not ndl.dropout(x, 1.0).any()
    channels = ndl.feature_dropout(ndl.ones(8, 16, 3, 3), 0.5, generator=ndl.Generator(1)).numpy()
    assert all(len(np.unique(c)) == 1 for c in channels.reshape(-1, 9)) and len(np.unique(channels)) == 2


def test_comparisons_between_numpy_and_torch_indexing(rng):
    x = rng.normal(size=(4, 5, 6)).astype(np.float32)
    t = ndl.tensor(x)
    mask = x > 0
    for index in (0, -1, slice(1, 3), (slice(None), None, 2), (..., -1), ([0, 2], slice(None), [1, 5]), mask,
                  (np.array([[0], [3]]), np.array([1, 2])), (slice(None, None, -1),)):
        np.testing.assert_array_equal(t[index].numpy(), x[index])
    t[1:3, ::2] = 7.0
    x[1:3, ::2] = 7.0
    t[mask] = 0.0
    x[mask] = 0.0
    np.testing.assert_array_equal(t.numpy(), x)


def test_erf_and_gelu_of_float32_are_within_their_bounds(rng):
    x = np.concatenate([np.linspace(-12, 12, 100_001), np.logspace(-30, 30, 601), -np.logspace(-30, 30, 601)]).astype("float32")
    exact = torch.tensor(x.astype("float64"), requires_grad=True)
    wanted = F.gelu(exact)
    wanted.sum().backward()
    ours = ndl.tensor(x, requires_grad=True)
    with ndl.use_kernels("numpy"):
        y = ndl.gelu(ours)
        y.sum().backward()
    assert np.abs(ndl.erf(ndl.tensor(x)).numpy() - torch.erf(exact).detach().numpy()).max() < 2e-7
    assert (np.abs(y.numpy() - wanted.detach().numpy()) / np.maximum(1, np.abs(x))).max() < 2e-7
    assert np.abs(ours.grad.numpy() - exact.grad.numpy()).max() < 3e-7
    tiny = x[(x != 0) & (np.abs(x) < 1e-3)]                      # where erf(x) is 2 x / sqrt(pi): no digits are lost
    np.testing.assert_allclose(ndl.erf(ndl.tensor(tiny)).numpy(), 2 / np.sqrt(np.pi) * tiny.astype("float64"), rtol=5e-7)


def test_gelu_meets_odd_values():
    x = ndl.tensor([np.nan, np.inf, 0.0, -0.0])
    np.testing.assert_array_equal(ndl.gelu(x).numpy(), np.float32([np.nan, np.inf, 0, -0.0]))
    np.testing.assert_array_equal(ndl.erf(ndl.tensor([np.nan, np.inf, -np.inf])).numpy(), np.float32([np.nan, 1, -1]))

# --- nn.functional: what takes PyTorch's arguments -------------------------------------------------------------------------

G = ndl.nn.functional
SIZES = [(1, 1), (1, 5), (5, 1), (3, 7), (7, 3), (10, 6), (6, 10), (12, 7), (9, 14), (25, 31), (49, 50)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{"mode": "nearest"}, {"mode": "nearest-exact"}, {"mode": "area"}, {"mode": "linear"},
                                     {"mode": "linear", "align_corners": True}])
def test_interpolation_along_one_axis_at_many_sizes(options, dtype):
    """Among them those at which a place falls between two values, where rounding decides."""
    for n, m in SIZES:
        x = N(2, 3, n).astype(dtype)
        assert_close(G.interpolate(ndl.tensor(x), m, **options), F.interpolate(torch.tensor(x), m, **options), 1e-5, f"{n} -> {m}")
        if options["mode"] != "area":
            for factor in (0.31, 0.5, 1.0, 1.7, 2.0, 3.3):
                if int(n * factor):
                    for again in (None, True):
                        given = {"scale_factor": factor, "recompute_scale_factor": again, **options}
                        y, z = G.interpolate(ndl.tensor(x), **given), F.interpolate(torch.tensor(x), **given)
                        assert_close(y, z, 1e-5, f"{n} times {factor}, {again}")


@pytest.mark.parametrize("options", [{"mode": "bilinear"}, {"mode": "bicubic"}, {"mode": "bicubic", "align_corners": True},
                                     {"mode": "bilinear", "antialias": True}, {"mode": "bicubic", "antialias": True}])
def test_interpolation_of_images_and_its_gradient(options):
    for size in ((3, 5), (13, 20), (4, 9), (8, 8)):
        x = N(2, 3, 8, 9)
        a, b = ndl.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = G.interpolate(a, size, **options), F.interpolate(b, size, **options)
        assert_close(y, z, 1e-5, f"{size}")
        g = N(*y.shape, seed=1)
        y.backward(ndl.tensor(g)), z.backward(torch.tensor(g))
        assert_close(a.grad, b.grad, 1e-5)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_sampling_on_a_turned_grid(mode, padding_mode, align):
    x, theta = N(2, 3, 5, 6), N(2, 2, 3, seed=1) * 0.7
    leaves, results = [], []
    for room, functions in ((ndl, G), (torch, F)):
        a, t = (room.tensor(v, requires_grad=True) for v in (x, theta))
        y = functions.grid_sample(a, functions.affine_grid(t, (2, 3, 4, 7), align_corners=align), mode, padding_mode, align)
        y.backward(room.tensor(N(2, 3, 4, 7, seed=2)))
        leaves.append((a, t)), results.append(y)
    assert_close(*results, 1e-5)
    for mine, his in zip(*leaves, strict=True):
        found = np.zeros(mine.shape, np.float32) if mine.grad is None else mine.grad          # "nearest" has no slope
        assert_close(found, his.grad, 2e-5)


def test_random_functions_keep_what_they_promise():
    _, x = ndl.manual_seed(0), ndl.randn(200_000)
    y = G.alpha_dropout(x, 0.3, training=True)
    assert abs(float(y.mean())) < 0.02 and abs(float(y.std()) - 1) < 0.02
    assert G.alpha_dropout(x, 0.3) is x and not np.isnan(G.alpha_dropout(x, 1.0, True).numpy()).any()
    for function, shape, channels in ((G.dropout1d, (6, 50), 6), (G.dropout2d, (3, 4, 5, 5), 12), (G.dropout3d, (4, 2, 3, 3), 4)):
        kept = function(ndl.ones(*shape), 0.5).numpy().reshape(channels, -1)
        assert (kept == kept[:, :1]).all() and set(np.unique(kept)) <= {0.0, 2.0}
    slopes = -G.rrelu(-ndl.ones(1000), training=True).numpy()
    assert 1 / 8 <= slopes.min() < slopes.max() <= 1 / 3 and np.allclose(G.rrelu(-ndl.ones(3)).numpy(), -(1 / 8 + 1 / 3) / 2)
    logits = ndl.tensor(np.log(np.tile([0.2, 0.8], (20_000, 1))), requires_grad=True)
    drawn = G.gumbel_softmax(logits, tau=0.5, hard=True)
    assert set(np.unique(drawn.numpy().round(12))) == {0.0, 1.0} and abs(float(drawn[:, 1].mean()) - 0.8) < 0.01
    drawn[:, 0].sum().backward()
    assert np.isfinite(logits.grad.numpy()).all() and logits.grad.numpy().any()


def test_arguments_by_pytorchs_names():
    x = ndl.tensor(N(3, 4))
    assert_close(G.relu(input=x, inplace=True), F.relu(torch.tensor(N(3, 4))))
    assert x.numpy().min() < 0                                    # what is promised of memory is not needed: x stays
    assert G.softmax(x, dim=0, dtype=ndl.float64).dtype == np.float64 and G.one_hot(ndl.tensor([0, 2])).dtype == np.int64
    assert_close(G.max_pool2d(input=x.reshape(1, 3, 4), kernel_size=2), F.max_pool2d(torch.tensor(N(3, 4)).reshape(1, 3, 4), 2))
    assert_close(G.normalize(x.reshape(3, 2, 2)), F.normalize(torch.tensor(N(3, 4)).reshape(3, 2, 2)))
    for call, words in ((lambda: G.softmax(ndl.ones(2, 3, 4)), "say which axis"), (lambda: G.gelu(x, approximate="erf"), "'erf'"),
                        (lambda: G.interpolate(x.reshape(1, 3, 4), 5, mode="bilinear"), "there are nearest"),
                        (lambda: G.interpolate(x.reshape(1, 3, 4)), "size or scale_factor"),
                        (lambda: G.pixel_shuffle(ndl.ones(1, 6, 2, 2), 2), "divisible"),
                        (lambda: G.fold(ndl.ones(1, 12, 5), 4, 2), "(1, 12, 5)"), (lambda: G.linear_cross_entropy, "cross_entropy(linear"),
                        (lambda: G.multi_head_attention_forward, "nn.MultiheadAttention")):
        with pytest.raises(ndl.errors.NeedleError, match=words.replace("(", r"\(").replace(")", r"\)")):
            call()
