"""Every op at the edges of its domain and of its dtype, on every tier, forward and backward, against PyTorch and float64.

Each test is named by a kind of fault, and goes over all that could have it: the registry, the losses, the layers.
"""

import contextlib
import itertools
import math
import operator
import os
import sys
import warnings

import numpy as np
import pytest
from op_samples import SAMPLES, samples_of
from peers import needs, needs_torch, require, torch

import needle_lab as ndl
from needle_lab import nn
from needle_lab.core.graph import OPS
from needle_lab.errors import DTypeError, GraphError, NeedleError
from needle_lab.testing import assert_close
from needle_lab.testing.samples import is_real

F = torch.nn.functional if torch else None
if "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"              # as in test_ops.py
TIERS = ["definition", "numpy", pytest.param("fast", marks=needs("numba")), pytest.param("triton", marks=needs("triton"))]
HOST_TIERS = TIERS[:3]


@contextlib.contextmanager
def on(tier):
    """-> the device on which a tier computes; what is small is not left to the next tier."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if tier == "triton":
            require("triton")
            yield ndl.triton_cpu()
        else:
            with ndl.use_kernels(tier), pytest.MonkeyPatch.context() as patch:
                if tier == "fast":
                    from needle_lab.kernels.numba import attach
                    patch.setattr(attach, "LEAST", 1)
                yield ndl.cpu()


def tensors(arrays, device=None):
    return [ndl.Tensor(x.copy(), is_real(x), device) if isinstance(x, np.ndarray) else x for x in arrays]


def outputs_of(function, inputs, attrs):
    y = function(*inputs, **attrs)
    return [v for v in (y if isinstance(y, tuple) else (y,)) if v is not None]


def gradients(outputs, inputs):
    """Of the sum of all outputs, by each tensor that wants one."""
    leaves = [x for x in inputs if isinstance(x, ndl.Tensor) and x.requires_grad]
    kept = [y for y in outputs if y.requires_grad]
    if not kept or not leaves:
        return []
    found = ndl.grad(kept, leaves, [ndl.ones_like(y).detach() for y in kept], allow_unused=True)
    return [None if g is None else g.numpy() for g in found]


def by_torch(oracle, arrays, attrs):
    """-> (values, gradients) by PyTorch."""
    given = [torch.tensor(x, requires_grad=is_real(x)) if isinstance(x, np.ndarray) else x for x in arrays]
    y = oracle(*given, **attrs)
    leaves = [x for x in given if torch.is_tensor(x) and x.requires_grad]
    found = [None] * len(leaves)
    if y.requires_grad and "NotImplemented" not in type(y.grad_fn).__name__:
        found = torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)
    return [y.detach().numpy()], [None if g is None else g.numpy() for g in found]


def hold(ours, theirs, exact, what, where_nan=False):
    """Ours is as near to the exact value as PyTorch's is, to a few roundings; what is finite there is finite here.

    where_nan: places where an input is nan, whose gradient PyTorch sometimes has as 0 or 1.
    """
    eps, tiny, most = (float(getattr(np.finfo(ours.dtype), name)) for name in ("eps", "tiny", "max"))
    ours, theirs, exact = (np.asarray(x, np.float64) for x in (ours, theirs, exact))
    allowed = np.maximum(64 * eps * np.abs(exact), 4 * np.abs(theirs - exact)) + tiny
    near = (ours == theirs) | (ours == exact) | (np.abs(ours - exact) <= allowed)
    overflow = (np.abs(exact) > most * (1 - eps)) & (np.sign(exact) * ours >= most * (1 - 2 * eps))
    saturated = ((exact == 0) & (np.abs(ours) < 1e-16)) | (np.isnan(exact) & np.isnan(ours))          # in float64 too
    fine = near | overflow | saturated | np.isnan(theirs) | where_nan
    if not fine.all():
        place = tuple(int(i) for i in np.argwhere(~np.broadcast_to(fine, ours.shape))[0])
        raise AssertionError(f"{what} at {place}: {ours[place]}, PyTorch {theirs[place]}, exactly {exact[place]}; "
                             f"{(~fine).sum()} such places")

# --- saturation, special points: elementwise ops over the whole range of the dtype -----------------------------------------


def edges(dtype, few=False):
    """Zeros, subnormal and largest values, neighbours of 1, infinities, nan, where exponentials saturate; of both signs."""
    info = np.finfo(dtype)
    some = [0.0, info.tiny / 4, 1e-3, 0.5, 1.0, 2.0, 3.0, 20.0, info.max, np.inf]
    more = [info.smallest_subnormal, info.tiny, info.eps / 2, 0.1, 0.25, 0.75, 0.9, 1 - info.epsneg, 1 + info.eps, 1.5, 2.5,
            4, 5, 6, 8, 10, 15, 30, 50, 80, 87, 88, 89, 100, 103, 104, 110, 200, 300, 1e3, 1e4, info.max / 4]
    half = np.array(some if few else some + more).astype(dtype)
    return np.concatenate([half, -half, np.array([np.nan], dtype)])


def composed():
    """Functions made of ops, with PyTorch's."""
    return {"mish": (ndl.ops.mish, F.mish), "log_sigmoid": (ndl.ops.log_sigmoid, F.logsigmoid),
            "hardsigmoid": (ndl.ops.hardsigmoid, F.hardsigmoid), "relu6": (ndl.ops.relu6, F.relu6),
            "clip": (lambda x: ndl.clip(x, -1.0, 2.0), lambda x: torch.clamp(x, -1.0, 2.0))}


UNARY = sorted(name for name, op in OPS.items() if op.elementwise and op.most_inputs == 1 and SAMPLES[name][1]
               and not name.startswith("bitwise"))
BINARY = sorted(name for name, op in OPS.items() if op.elementwise and op.most_inputs == 2 and SAMPLES[name][1]
                and not name.startswith("bitwise") and name not in ("probability_losses", "keep_some"))


@needs_torch
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", [*UNARY, "mish", "log_sigmoid", "hardsigmoid", "relu6", "clip"])
def test_saturation_of_one_value(name, dtype, tier):
    x = edges(dtype)
    attrs = samples_of(name)[0].attrs if name in OPS else {}
    function, oracle = (OPS[name], SAMPLES[name][1]) if name in OPS else composed()[name]
    with on(tier) as device:
        inputs = tensors([x], device)
        outputs = outputs_of(function, inputs, attrs)
        compare(name, [x], outputs, gradients(outputs, inputs), oracle, attrs)


@needs_torch
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", BINARY)
def test_saturation_of_two_values(name, dtype, tier):
    pairs = np.array(list(itertools.product(edges(dtype, few=True), repeat=2)))
    a, b = pairs.T.copy()
    with on(tier) as device:
        inputs = tensors([a, b], device)
        outputs = outputs_of(OPS[name], inputs, {})
        compare(name, [a, b], outputs, gradients(outputs, inputs), SAMPLES[name][1], {})


def compare(name, arrays, outputs, found, oracle, attrs, nan=None):
    values, slopes = by_torch(oracle, arrays, attrs)
    exact_values, exact_slopes = by_torch(oracle, [x.astype(np.float64) for x in arrays], attrs)
    nan = np.isnan(arrays).any(0) if nan is None else nan
    for y, t, e in zip(outputs, values, exact_values, strict=True):
        if t.dtype.kind == "b":
            np.testing.assert_array_equal(y.numpy(), t, name)
        else:
            hold(y.numpy(), t, e, f"{name}: value", where_nan=nan if name == "sign" else False)
    for g, t, e in zip(found, slopes, exact_slopes, strict=False):
        if g is not None and t is not None:
            hold(g, t, e, f"{name}: gradient", where_nan=nan)

# --- sums in float32 along leading axes lose their digits ------------------------------------------------------------------

REDUCED = {"sum": np.sum, "mean": np.mean, "var": lambda x, axis: np.var(x, axis, ddof=1),
           "std": lambda x, axis: np.std(x, axis, ddof=1), "norm": lambda x, axis: np.sqrt(np.sum(x * x, axis)),
           "logsumexp": lambda x, axis: np.log(np.sum(np.exp(x), axis))}
AXES = [((10_000_000,), None), ((2_000_000, 5), 0), ((2, 5_000_000), 1), ((250, 200, 200), 0), ((250, 200, 200), 1),
        ((50_000, 8, 25), (0, 2)), ((250, 200, 200), 2)]


@pytest.mark.parametrize("shape, axis", AXES)
def test_digits_of_reductions_of_ten_million_values(shape, axis):
    x = np.random.default_rng(0).random(shape, np.float32) + np.float32(0.1)
    exact = {name: reduce(x.astype(np.float64), axis=axis) for name, reduce in REDUCED.items()}
    for tier in ("definition", "numpy"):
        with ndl.use_kernels(tier):
            for name, expected in exact.items():
                assert_close(getattr(ndl, name)(ndl.tensor(x), axis=axis), expected, 1e-6, f"{name}, {tier}")


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("axis", [0, 1])
def test_digits_along_an_axis_that_stays(axis, tier):
    x = np.random.default_rng(0).random((1_000_000, 2) if axis == 0 else (2, 1_000_000), np.float32) + np.float32(0.1)
    wide = x.astype(np.float64)
    weights = np.exp(wide) / np.exp(wide).sum(axis, keepdims=True)
    with on(tier):
        assert_close(ndl.cumsum(ndl.tensor(x), axis=axis), wide.cumsum(axis), 1e-6)
        assert_close(ndl.softmax(ndl.tensor(x), axis=axis), weights, 1e-5)
        assert_close(ndl.log_softmax(ndl.tensor(x), axis=axis), np.log(weights), 1e-6)


def test_digits_of_the_issue_s_examples():
    x = np.random.default_rng(0).random((50_000, 32, 3), np.float32)
    assert_close(ndl.mean(ndl.tensor(x), axis=(0, 1)), x.mean((0, 1), np.float64), 1e-6)
    near = np.random.default_rng(0).random((500_000, 2), np.float32) + np.float32(100)
    assert_close(ndl.std(ndl.tensor(near), axis=0), near.astype(np.float64).std(0, ddof=1), 1e-6)
    assert_close(ndl.einsum("ijk->k", ndl.tensor(x)), x.sum((0, 1), dtype=np.float64), 1e-6)


def test_digits_of_a_long_row_on_a_device():
    with on("triton") as device:
        x = ndl.tensor(np.full((1, 1 << 20), 0.1, np.float32), device=device)
        assert_close(x.sum(axis=1), np.array([2**20 * float(np.float32(0.1))]), 1e-6)


def constant(*shape):
    return ndl.tensor(np.full(shape, 0.1, np.float32))


TENTH = float(np.float32(0.1))
LAYERS = {           # what is trained, and the gradient of the sum of the outputs, each times 0.1
    "a sum": lambda b: constant(500_000, 3) + b,
    "linear": lambda b: ndl.linear(constant(500_000, 2), ndl.ones(3, 2), b),
    "linear over two axes": lambda b: ndl.linear(constant(500, 1000, 2), ndl.ones(3, 2), b),
    "convolution": lambda b: ndl.conv2d(constant(20_000, 2, 6, 6), ndl.ones(3, 2, 2, 2), b),
    "batch norm of a table": lambda b: ndl.batch_norm(normal(300_000, 3), None, None, None, b, training=True),
    "batch norm of maps": lambda b: ndl.batch_norm(normal(50_000, 3, 2, 3), None, None, None, b, training=True),
    "batch norm, given statistics": lambda b: ndl.batch_norm(normal(300_000, 3), ndl.zeros(3), ndl.ones(3), None, b),
    "layer norm": lambda b: ndl.layer_norm(normal(500_000, 3), (3,), None, b),
}


def normal(*shape):
    return ndl.tensor(np.random.default_rng(0).standard_normal(shape, np.float32))


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("name", LAYERS)
def test_digits_of_a_bias_gradient(name, tier):
    with on(tier):
        bias = ndl.zeros(3, requires_grad=True)
        y = LAYERS[name](bias)
        (y * 0.1).sum().backward()
    assert_close(bias.grad, np.full(3, y.numel() / 3 * TENTH), 5e-6)


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("shape", [(300_000, 3), (50_000, 3, 2, 3), (40, 3, 5000)])
def test_digits_of_batch_statistics_and_of_the_weight_s_gradient(shape, tier):
    x = np.random.default_rng(0).random(shape, np.float32) + np.float32(2)
    axes, wide = (0, *range(2, x.ndim)), x.astype(np.float64)
    mean, var, weight = ndl.zeros(3), ndl.ones(3), ndl.ones(3, requires_grad=True)
    with on(tier):
        y = ndl.batch_norm(ndl.tensor(x), mean, var, weight, training=True, momentum=1.0, eps=0.0)
        (y * y).sum().backward()
    assert_close(mean, wide.mean(axes), 1e-6)
    assert_close(var, wide.var(axes, ddof=1), 1e-6)
    assert_close(weight.grad, np.full(3, 2 * x.size / 3), 5e-6)


@pytest.mark.parametrize("tier", HOST_TIERS)
def test_digits_of_losses_over_many_rows(tier):
    rng = np.random.default_rng(0)
    logits, targets = rng.random((200_000, 5), np.float32), rng.integers(0, 5, 200_000)
    wide = logits.astype(np.float64)
    each = np.log(np.exp(wide).sum(1)) - wide[np.arange(len(wide)), targets]
    with on(tier):
        assert_close(ndl.cross_entropy(ndl.tensor(logits), ndl.tensor(targets)), each.mean(), 1e-6)
        assert_close(ndl.mse_loss(ndl.tensor(logits), ndl.zeros(200_000, 5)), (wide * wide).mean(), 1e-6)

# --- derivatives at special points -----------------------------------------------------------------------------------------

SPECIAL = {          # (ours, PyTorch's, inputs): values and gradients as PyTorch has them
    "std of equal values": ("std", "std", [[2.0, 2.0, 2.0]]), "std of zeros": ("std", "std", [[0.0, 0.0]]),
    **{f"norm {p} of {v}": (lambda x, p=p: ndl.norm(x, p), lambda x, p=p: torch.linalg.vector_norm(x, p), [v])
       for p in (1, 2, 3, 0.5, -1, math.inf, -math.inf) for v in ([0.0, 0.0], [1.0, 0.0, -2.0], [3.0, -3.0, 3.0])},
    "norm 0": (lambda x: ndl.norm(x, 0) + x.sum(), lambda x: torch.norm(x, 0) + x.sum(), [[0.0, 3.0]]),
    "atan2 at the origin": ("atan2", "atan2", [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    "prod with a zero": ("prod", "prod", [[0.0, 2.0, 3.0]]), "prod with zeros": ("prod", "prod", [[0.0, 0.0, 3.0]]),
    "prod with infinity": ("prod", "prod", [[math.inf, 2.0, 3.0]]),
    "smooth_l1, beta 0": (lambda x, t: ndl.smooth_l1_loss(x, t, beta=0.0, reduction="sum"),
                          lambda x, t: F.smooth_l1_loss(x, t, beta=0.0, reduction="sum"), [[0.0, 1.0, -2.0], [0.0] * 3]),
    "sqrt at 0": ("sqrt", "sqrt", [[0.0, 4.0]]), "pow 0.5 at 0": (lambda x: x ** 0.5, lambda x: x ** 0.5, [[0.0, 4.0]]),
    "pow 0 at 0": (lambda x: x ** 0, lambda x: x ** 0, [[0.0, 4.0]]), "abs at 0": ("abs", "abs", [[0.0, -0.0, 1.0]]),
    "amax, ties": (lambda x: ndl.amax(x, axis=0), lambda x: torch.amax(x, 0), [[3.0, 1.0, 3.0]]),
    "amin, ties": (lambda x: ndl.amin(x, axis=0), lambda x: torch.amin(x, 0), [[1.0, 1.0, 3.0]]),
    "maximum, ties": ("maximum", "maximum", [[1.0, 2.0], [1.0, 1.0]]),
    "minimum, ties": ("minimum", "minimum", [[1.0], [1.0]]),
    "clamp at its bounds": (lambda x: ndl.clip(x, 0.0, 1.0), lambda x: torch.clamp(x, 0.0, 1.0), [[0.0, 1.0, 0.5, 2.0]]),
    "max_pool, ties": (lambda x: ndl.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), [[[[[1.0, 5.0], [5.0, 5.0]]]]]),
    "max_pool of -inf, padded": (lambda x: ndl.max_pool1d(x, 3, padding=1), lambda x: F.max_pool1d(x, 3, padding=1),
                                 [[[[-math.inf, -math.inf, -math.inf]]]]),
    "adaptive_max_pool, ties": (lambda x: ndl.adaptive_max_pool2d(x, 1), lambda x: F.adaptive_max_pool2d(x, 1),
                                [[[[[0.0, 5.0], [5.0, 0.0]]]]]),
    "cosine_similarity of zeros": ("cosine_similarity", F and F.cosine_similarity, [[[0.0, 0.0]], [[1.0, 2.0]]]),
    "normalize zeros": ("normalize", F and F.normalize, [[[0.0, 0.0]]]),
    "binary_cross_entropy at 0 and 1": (
        lambda x, t: ndl.binary_cross_entropy(x, t.detach(), reduction="sum"),
        lambda x, t: F.binary_cross_entropy(x, t.detach(), reduction="sum") + 0 * t.sum(),
        [[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]),
    "binary_cross_entropy of a saturated sigmoid": (
        lambda x: ndl.binary_cross_entropy(ndl.sigmoid(x), ndl.ones_like(x).detach(), reduction="sum"),
        lambda x: F.binary_cross_entropy(torch.sigmoid(x), torch.ones_like(x), reduction="sum"), [[-20.0, 30.0, 0.0, 20.0]]),
    "binary_cross_entropy_with_logits": (
        lambda x: ndl.binary_cross_entropy_with_logits(x, ndl.ones_like(x).detach(), reduction="sum"),
        lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="sum"),
        [[-100.0, 100.0, -20.0, 20.0]]),
}


@needs_torch
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", SPECIAL)
def test_derivatives_at_special_points(name, tier):
    ours, theirs, values = SPECIAL[name]
    ours = getattr(ndl, ours) if isinstance(ours, str) else ours
    theirs = getattr(torch, theirs) if isinstance(theirs, str) else theirs
    arrays = [np.array(v, np.float32) for v in values]
    with on(tier) as device:
        inputs = tensors(arrays, device)
        outputs = outputs_of(ours, inputs, {})
        compare(name, arrays, outputs, gradients(outputs, inputs), theirs, {}, nan=False)

# --- softmax over nothing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("kind", ["bool", "float", "bool and causal"])
def test_a_query_that_may_see_no_key_gets_zeros(kind, tier):
    rng = np.random.default_rng(0)
    seen = np.array([[True, False, True], [False, False, False], [True, True, True]])
    if kind == "bool and causal":
        seen[0, 0] = False                                              # of which the first query sees key 0 alone
    mask = np.where(seen, 0, -np.inf).astype(np.float32) if kind == "float" else seen
    with on(tier) as device:
        inputs = tensors([rng.normal(size=(2, 3, 4)).astype(np.float32) for _ in range(3)], device)
        y = ndl.scaled_dot_product_attention(*inputs, ndl.tensor(mask, device=device), is_causal=kind == "bool and causal")
        found = gradients([y], inputs)
    dark = [0, 1] if kind == "bool and causal" else [1]
    assert (y.numpy()[:, dark] == 0).all() and (found[0][:, dark] == 0).all()
    if torch:
        given = [torch.tensor(x.detach().numpy(), requires_grad=True) for x in inputs]
        allowed = torch.tensor(seen).tril() if kind == "bool and causal" else torch.tensor(seen)
        expected = F.scaled_dot_product_attention(*given, allowed)
        expected.sum().backward()
        assert_close(y, expected, 1e-5)
        for g, x in zip(found, given, strict=True):
            assert_close(g, x.grad, 1e-5, absolute=1e-6)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kind", ["padding", "mask"])
def test_a_transformer_whose_sample_is_all_padding_trains(kind, need_weights):
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    layers = [kind(8, 2, 16, 0.0, batch_first=True) for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)]
    x = ndl.randn(2, 3, 8)
    padding = ndl.tensor(np.array([[True, True, True], [False, False, True]]))
    mask = ndl.tensor(np.array([[False, True, True], [True, True, True], [False, False, False]]))
    how = {"key_padding_mask": padding} if kind == "padding" else {"attn_mask": mask}
    y, weights = attention(x, x, x, need_weights=need_weights, **how)
    how = {"src_key_padding_mask": padding} if kind == "padding" else {"src_mask": mask}
    encoded = layers[0](x, **how)
    how = {"memory_key_padding_mask": padding} if kind == "padding" else {"memory_mask": mask}
    decoded = layers[1](x, encoded, **how)
    (y.sum() + encoded.sum() + (decoded * decoded).sum()).backward()
    if need_weights:
        assert (weights.numpy()[0 if kind == "padding" else (slice(None), 1)] == 0).all()
    for layer in (attention, *layers):
        for path, p in layer.named_parameters():
            assert np.isfinite(p.grad.numpy()).all(), path

# --- rows that do not count ------------------------------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bad", [-np.inf, np.inf, np.nan])
@pytest.mark.parametrize("targets", [[0, -100, 2], [-100, -100, -100]])
def test_an_ignored_row_reaches_nothing(targets, bad, smoothing, reduction, tier):
    logits = np.array([[1, 2, 3], [bad, 0, 1], [0, 0, 1]], np.float32)
    if targets[0] == -100:
        logits[1] = 0
    with on(tier):
        x, z = ndl.tensor(logits, requires_grad=True), ndl.tensor(logits, requires_grad=True)
        loss = ndl.cross_entropy(x, ndl.tensor(np.array(targets)), reduction=reduction, label_smoothing=smoothing)
        loss.sum().backward()
        plain = ndl.nll_loss(z, ndl.tensor(np.array(targets)), reduction=reduction)
        plain.sum().backward()
    clean = torch.tensor(np.where(np.isfinite(logits), logits, 0), requires_grad=True)
    expected = F.cross_entropy(clean, torch.tensor(targets), reduction=reduction, label_smoothing=smoothing)
    expected.sum().backward()
    ignored = np.array(targets) == -100
    slopes = clean.grad.numpy().copy()
    slopes[ignored] = 0
    assert_close(loss, expected, 1e-6)
    assert_close(x.grad, slopes, 1e-6)
    assert (x.grad.numpy()[ignored] == 0).all() and (z.grad.numpy()[ignored] == 0).all()

# --- dtypes from NumPy's scalars -------------------------------------------------------------------------------------------

NUMBERS = [np.float64(3), np.sqrt(64), np.float32(2), np.float16(2), np.int64(2), np.array(2.0), np.array(2)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", NUMBERS, ids=lambda x: f"{type(x).__name__} {x.dtype}")
@pytest.mark.parametrize("tier", HOST_TIERS)
def test_numbers_of_numpy_change_no_dtype(tier, number, dtype):
    x = ndl.ones(2, 3, dtype=dtype)
    for scalar in (number, ndl.tensor(number)):
        with on(tier):
            for name in "add sub mul truediv floordiv mod pow".split():
                f = getattr(operator, name)
                assert f(x, scalar).dtype == f(scalar, x).dtype == dtype, name
            for name in "lt le gt ge eq ne".split():
                assert getattr(operator, name)(x, scalar).dtype == getattr(operator, name)(scalar, x).dtype == "bool", name
            for y in (ndl.clip(x, scalar, scalar), ndl.where(x > 0, x, scalar), ndl.where(x > 0, scalar, x),
                      ndl.maximum(x, scalar), ndl.masked_fill(x, x > 0, scalar), ndl.atan2(x, scalar)):
                assert y.dtype == dtype
    traced = ndl.program.trace(lambda x: x * number + number, x)
    assert_close(traced(x), x * number + number)
    assert ndl.tensor(np.float64(3)).dtype == "float64"                   # alone it keeps its own


@needs_torch
def test_tensors_without_axes_promote_as_in_pytorch():
    dtypes = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64"]
    for a, b, s, t in itertools.product(dtypes, dtypes, [(), (2,)], [(), (2,)]):
        y = ndl.mul(ndl.ones(*s, dtype=a), ndl.ones(*t, dtype=b))
        expected = torch.result_type(torch.ones(s, dtype=getattr(torch, a)), torch.ones(t, dtype=getattr(torch, b)))
        assert str(expected) == f"torch.{y.dtype}", (a, s, b, t)


def test_integers_stay_integers_where_nothing_is_divided():
    for dtype in ("uint8", "int32", "int64"):
        x = ndl.ones(3, dtype=dtype)
        for function in (ndl.round, ndl.floor, ndl.ceil, ndl.trunc, ndl.abs, ndl.neg, ndl.square):
            assert function(x).dtype == dtype, function
        with pytest.raises(DTypeError, match="floats"):
            ndl.ops.dropout(x, 0.5)

# --- float16 that is computed in float32 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", TIERS)
def test_float16_sums_in_float32(tier):
    with on(tier) as device:
        far = ndl.tensor(np.array([300, 400], np.float16), device=device, requires_grad=True)
        ndl.norm(far).backward()
        assert float(ndl.norm(far)) == 500
        assert_close(far.grad, np.array([0.6, 0.8]), 1e-3)
        many = ndl.tensor(np.full((3, 4096), 10, np.float16), device=device)
        assert (many.mean(axis=1).numpy() == 10).all() and (many[:, :4000].sum(axis=1).numpy() == 40000).all()
        apart = ndl.tensor(np.array([[-400, 400] * 50], np.float16), device=device)
        assert_close(ndl.std(apart, axis=1), np.array([402.0151]), 1e-3)                  # whose variance is inf in float16
        large = ndl.tensor(np.full((2, 4), 1000, np.float16), device=device)
        assert_close(ndl.rms_norm(large, 4), np.ones((2, 4)), 1e-3)

# --- emptiness -------------------------------------------------------------------------------------------------------------


# Emptied axis by axis, their inputs and attributes no longer fit together, of which not all ask.
OF_ONE_SHAPE = {"convolution_input", "convolution_weight", "lstm_cell", "pad_constant", "scatter_extreme", "lstm_sequence",
                "gru_sequence"}


def emptied(one):
    """The sample with each length that some axis has made 0, wherever it occurs in the inputs."""
    for n in sorted({n for x in one.inputs if isinstance(x, np.ndarray) for n in x.shape} - {0}):
        yield n, [x[tuple(slice(0, 0) if m == n else slice(None) for m in x.shape)] if isinstance(x, np.ndarray) else x
                  for x in one.inputs]


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("name", sorted(set(OPS) - {"transferred"} - OF_ONE_SHAPE))
def test_nothing_has_a_gradient_of_nothing(name, tier):
    """Where PyTorch answers for an axis of length 0, every tier does, and backward with it."""
    oracle = SAMPLES[name][1]
    for one in samples_of(name):
        for n, arrays in emptied(one):
            arrays = [x.astype(np.float32) if is_real(x) else x for x in arrays]
            with on(tier):
                inputs = tensors(arrays)
                try:
                    outputs = outputs_of(OPS[name], inputs, one.attrs)
                except NeedleError:
                    if torch and oracle:
                        with pytest.raises((RuntimeError, IndexError, ValueError, AssertionError)):
                            oracle(*[torch.tensor(x) if isinstance(x, np.ndarray) else x for x in arrays], **one.attrs)
                    continue
                found = gradients(outputs, inputs)
            leaves = [x for x in inputs if isinstance(x, ndl.Tensor) and x.requires_grad]
            for x, g in zip(leaves, found, strict=False):
                assert g is None or (g.shape == x.shape and np.isfinite(g).all()), (n, one)


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate", "constant"])
def test_padding_of_no_samples_has_a_gradient(mode):
    for tier in ("definition", "numpy"):
        with ndl.use_kernels(tier):
            x = ndl.zeros(0, 3, 5, 5, requires_grad=True)
            ndl.ops.pad(x, (1, 1, 2, 1), mode=mode).sum().backward()
            assert x.grad.shape == x.shape


@pytest.mark.parametrize("tier", HOST_TIERS)
def test_products_over_nothing_have_gradients(tier):
    with on(tier):
        for a, b in [((5, 5, 0), (0, 5)), ((0, 3), (3, 2)), ((2, 0, 3), (3, 2)), ((2, 3), (3, 0)), ((0,), (0,)),
                     ((2, 3, 0), (0,))]:
            x, y = ndl.zeros(*a, requires_grad=True), ndl.zeros(*b, requires_grad=True)
            (x @ y).sum().backward()
            assert x.grad.shape == a and y.grad.shape == b
        for a, b in [((0, 3), (4, 3)), ((2, 0), (4, 0)), ((2, 3), (0, 3)), ((2, 0, 3), (4, 3)), ((2, 3, 0), (4, 0))]:
            x, w = ndl.zeros(*a, requires_grad=True), ndl.zeros(*b, requires_grad=True)
            bias = ndl.zeros(b[0], requires_grad=True)
            ndl.linear(x, w, bias).sum().backward()
            assert x.grad.shape == a and w.grad.shape == b and bias.grad.shape == b[:1]
    assert ndl.ops.index_select(ndl.zeros(3, 0), ndl.tensor(np.array([0, 2])), axis=0).shape == (2, 0)


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_sequences_of_no_samples(kind, tier):
    with on(tier):
        layer, x = kind(3, 5), ndl.zeros(4, 0, 3, requires_grad=True)
        y = layer(x)[0]
        y.sum().backward()
    assert y.shape == (4, 0, 5) and x.grad.shape == x.shape
    assert all((p.grad.numpy() == 0).all() for p in layer.parameters())


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0)])
def test_batch_norm_of_no_samples(shape):
    layer = nn.BatchNorm2d(3) if len(shape) == 4 else nn.BatchNorm1d(3)
    x = ndl.zeros(*shape, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert (layer.weight.grad.numpy() == 0).all() and (layer.bias.grad.numpy() == 0).all()
    assert (layer.running_mean.numpy() == 0).all() and (layer.running_var.numpy() == 1).all()

# --- what is changed in place before backward -----------------------------------------------------------------------------

TIED = set(OPS) - {"transferred"}


class Call:
    """A call that can be made again with fresh inputs: -> (inputs, outputs)."""

    def __init__(self, op, arrays, attrs):
        self.op, self.arrays, self.attrs = op, arrays, attrs

    def of(self, inputs):
        return outputs_of(self.op, inputs, self.attrs)

    def __call__(self):
        inputs = tensors(self.arrays)
        return inputs, self.of(inputs)


def each_call(name, tier):
    """(output number, a fresh call): each output of each sample of an op."""
    for one in samples_of(name):
        arrays = [x.astype(np.float32) if is_real(x) else x for x in one.inputs]
        if not all(x.size for x in arrays if isinstance(x, np.ndarray)):
            continue

        call = Call(OPS[name], arrays, one.attrs)
        with on(tier):
            inputs, outputs = call()
            for i, y in enumerate(outputs):
                if y.requires_grad and y.numel() and y.data.flags.writeable:
                    yield i, call


def overwrite(x):
    x.detach().copy_(np.full(x.shape, 0.123, x.dtype))


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("name", sorted(TIED))
def test_an_output_changed_before_backward_is_noticed_or_is_not_read(name, tier):
    """By the rule, or by the quicker form that stands for it: GraphError, or the same gradient. A copy stops nothing."""
    for i, call in each_call(name, tier):
        inputs, outputs = call()
        expected = gradients(outputs, inputs)
        inputs, outputs = call()
        shares = any(np.shares_memory(outputs[i].data, x.data) for x in inputs if isinstance(x, ndl.Tensor))
        overwrite(outputs[i])
        try:
            found = gradients(outputs, inputs)
        except GraphError:
            assert OPS[name].gradient.reads_output or shares, f"{name}: nobody reads output {i}"
        else:
            for g, e in zip(found, expected, strict=True):
                assert (g is None) == (e is None) and (g is None or np.array_equal(g, e, equal_nan=True)), f"{name}: {i}"


@pytest.mark.parametrize("tier", HOST_TIERS)
@pytest.mark.parametrize("name", sorted(TIED))
def test_an_input_changed_before_backward_is_noticed_or_is_not_read(name, tier):
    for _, call in each_call(name, tier):
        inputs, outputs = call()
        expected = gradients(outputs, inputs)
        for k, x in enumerate(inputs):
            if not isinstance(x, ndl.Tensor) or not x.requires_grad or any(y.data is x.data for y in outputs):
                continue
            again, outputs = call()
            overwrite(again[k])
            with contextlib.suppress(GraphError):
                found = gradients(outputs, again)
                for g, e in zip(found, expected, strict=True):
                    assert (g is None) == (e is None) and (g is None or np.array_equal(g, e, equal_nan=True)), f"{name}: {k}"


@pytest.mark.parametrize("name", sorted(TIED))
def test_only_real_views_share_changes(name):
    """Changing a result stops the backward of an earlier use of the input where they share memory, and nowhere else."""
    for i, call in each_call(name, "definition"):
        inputs, _ = call()
        for k, x in enumerate(inputs):
            if isinstance(x, ndl.Tensor) and x.requires_grad:
                inputs = tensors(call.arrays)
                use, y = (inputs[k] * inputs[k]).sum(), call.of(inputs)[i]
                shares = np.shares_memory(y.data, inputs[k].data)
                overwrite(y)
                if shares:
                    with pytest.raises(GraphError, match="changed in place"):
                        use.backward()
                else:
                    use.backward()
