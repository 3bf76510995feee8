"""Every op of the registry, on its samples: gradients against finite differences, values and gradients against PyTorch."""

import contextlib
import os
import sys

import ml_dtypes
import numpy as np
import pytest
from conftest import assert_close
from op_samples import SAMPLES
from peers import needs_torch, require, torch

import needle_lab as ndl
from needle_lab.core.dtypes import is_floating
from needle_lab.core.graph import OPS

DIFFERENTIABLE = sorted(name for name, op in OPS.items() if op.gradient)


def cases(name: str):
    sampler, _ = SAMPLES[name]
    return list(sampler(np.random.default_rng(len(name))))


def is_float(x) -> bool:
    return isinstance(x, np.ndarray) and is_floating(x.dtype)


def as_tensors(inputs, dtype, requires_grad=True):
    return [ndl.tensor(x.astype(dtype), requires_grad=requires_grad) if is_float(x)
            else ndl.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]


def floating_outputs(y) -> list:
    return [v for v in (y if isinstance(y, tuple) else (y,)) if v is not None and is_floating(v.dtype)]


def test_every_op_has_samples():
    assert sorted(OPS) == sorted(SAMPLES), "each op needs a sampler in tests/op_samples.py, and each sampler an op"


def directional(name, inputs, attrs, rng):
    """A scalar function of float64 inputs: the op's outputs against fixed random weights."""
    first = floating_outputs(OPS[name](*as_tensors(inputs, np.float64, False), **attrs))
    weights = [ndl.tensor(rng.normal(size=y.shape)) for y in first]

    def function(*xs):
        total = 0.0
        for y, w in zip(floating_outputs(OPS[name](*xs, **attrs)), weights, strict=True):
            total = total + (y * w.astype(y.dtype)).sum()
        return total
    return function


def check_direction(function, inputs, rng, tolerance):
    """d/dt f(x + t v) by central differences, extrapolated, against the gradient dotted with v.  -> whether there was one"""
    tensors = as_tensors(inputs, np.float64)
    value = function(*tensors)
    leaves = [x for x in tensors if isinstance(x, ndl.Tensor) and x.requires_grad]
    if not isinstance(value, ndl.Tensor) or not value.requires_grad:
        return False
    gradients = ndl.grad(value, leaves, allow_unused=True)
    directions = [rng.normal(size=x.shape) if is_float(x) else None for x in inputs]

    def at(step):
        moved = [x if v is None else np.asarray(x + step * v) for x, v in zip(inputs, directions, strict=True)]
        return float(function(*as_tensors(moved, np.float64)).item())

    def difference(step):
        return (at(step) - at(-step)) / (2 * step)

    numeric = (4 * difference(1e-4) - difference(2e-4)) / 3
    analytic = sum(float((g.numpy() * v).sum()) for g, v in
                   zip(gradients, [v for v in directions if v is not None], strict=True) if g is not None)
    scale = max(abs(numeric), sum(np.abs(g.numpy()).max() if g is not None and g.size else 0.0 for g in gradients), 1e-3)
    assert abs(numeric - analytic) <= tolerance * scale, f"finite differences {numeric}, gradient {analytic}"
    return True


def rounding_of_a_sum(x, weight) -> float:
    """How far a gradient may be from an oracle's where values of x were broadcast: each is a sum of products with the
    incoming gradient, in any order, and the terms may cancel."""
    weight = np.asarray(weight, np.float64)
    eps = max(float(ml_dtypes.finfo(x.dtype).eps), 2**-52)
    return eps * np.abs(weight).sum() / x.size if 0 < x.size < weight.size else 0.0


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_in_a_random_direction(name, rng):
    tested = [check_direction(directional(name, sample.inputs, sample.attrs, rng), sample.inputs, rng, 1e-6)
              for sample in cases(name)]
    assert any(tested)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_order_in_a_random_direction(name, rng):
    for sample in cases(name):
        first = directional(name, sample.inputs, sample.attrs, rng)
        weights = {}

        def slope(*xs, first=first, weights=weights, rng=rng):
            leaves = [x for x in xs if isinstance(x, ndl.Tensor) and x.requires_grad]
            value = first(*xs)
            if not isinstance(value, ndl.Tensor) or not value.requires_grad:
                return ndl.zeros()
            total = ndl.zeros(dtype=np.float64)
            for i, g in enumerate(ndl.grad(value, leaves, create_graph=True, allow_unused=True)):
                if g is not None and g.requires_grad:
                    w = weights.setdefault(i, ndl.tensor(rng.normal(size=g.shape)))
                    total = total + (g * w).sum()
            return total
        check_direction(slope, sample.inputs, rng, 2e-5)


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if "numpy" in OPS[name].gradient.compute.kernels])
def test_the_gradient_as_one_function_equals_the_rule(name, rng, monkeypatch):
    """Through each output alone, and to each input alone: what is not needed may be left out, nothing else changes."""
    calls = []
    kernel = OPS[name].gradient.compute.kernels["numpy"]
    monkeypatch.setitem(OPS[name].gradient.compute.kernels, "numpy", lambda *args: calls.append(r := kernel(*args)) or r)
    OPS[name].gradient.compute.arrange()
    for sample in cases(name):
        for i in range(len(floating_outputs(OPS[name](*as_tensors(sample.inputs, np.float64, False), **sample.attrs)))):
            tensors = as_tensors(sample.inputs, np.float64)
            y = floating_outputs(OPS[name](*tensors, **sample.attrs))[i]
            if not y.requires_grad:
                continue
            seed = ndl.tensor(rng.normal(size=y.shape))
            leaves = [x for x in tensors if isinstance(x, ndl.Tensor) and x.requires_grad]
            for wanted in (leaves, *([x] for x in leaves)):
                options = dict(gradients=seed, retain_graph=True, allow_unused=True)
                fused = ndl.grad(y, wanted, **options)
                for a, b in zip(fused, ndl.grad(y, wanted, create_graph=True, **options), strict=True):
                    assert (a is None) == (b is None)
                    if a is not None:
                        assert_close(a, b, 1e-12, f"{name} {sample}")
    assert any(r is not NotImplemented for r in calls)


@needs_torch
@pytest.mark.parametrize("name", sorted(name for name, (_, oracle) in SAMPLES.items() if oracle is not None))
def test_value_and_gradient_agree_with_torch(name, rng):
    _, oracle = SAMPLES[name]
    for sample in cases(name):
        ours_in = as_tensors(sample.inputs, np.float32)
        torch_in = [torch.tensor(np.array(x, np.float32), requires_grad=True) if is_float(x)
                    else torch.tensor(x) if isinstance(x, np.ndarray) else x for x in sample.inputs]
        ours, theirs = OPS[name](*ours_in, **sample.attrs), oracle(*torch_in, **sample.attrs)
        ours = ours if isinstance(ours, tuple) else (ours,)
        theirs = theirs if isinstance(theirs, (tuple, list)) else (theirs,)
        for y, z in zip(ours, theirs, strict=False):          # an op may return more than PyTorch shows
            assert_close(y, z, 1e-6, f"{name} {sample}")
        if not (ours[0].requires_grad and theirs[0].requires_grad):
            continue
        weight = rng.normal(size=ours[0].shape).astype(np.float32)
        ours[0].backward(ndl.tensor(weight.astype(ours[0].dtype)))
        theirs[0].backward(torch.tensor(weight).to(theirs[0].dtype))
        for x, z in zip(ours_in, torch_in, strict=True):
            if isinstance(x, ndl.Tensor) and x.requires_grad and z.grad is not None:
                assert_close(x.grad if x.grad is not None else np.zeros(x.shape), z.grad, 1e-6,
                             f"gradient of {name} {sample}", absolute=rounding_of_a_sum(x, weight))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_narrow_floats_round_once(name, dtype):
    """float16 and bfloat16 results are float32 results of the rounded inputs, rounded."""
    for sample in cases(name):
        narrow = as_tensors(sample.inputs, ndl.core.dtypes.as_dtype(dtype))
        wide = [x.astype(np.float32) if isinstance(x, ndl.Tensor) and is_floating(x.dtype) else x for x in narrow]
        ours, exact = OPS[name](*narrow, **sample.attrs), OPS[name](*wide, **sample.attrs)
        for y, z in zip(floating_outputs(ours), floating_outputs(exact), strict=True):
            if "dtype" not in sample.attrs:
                assert str(y.dtype) in (dtype, "float32")
                np.testing.assert_array_equal(y.numpy().astype(np.float32), z.numpy().astype(y.dtype).astype(np.float32))


# --- the same ops on another device: Triton's kernels, in Triton's interpreter ---------------------------------------------

# Triton chooses between interpreter and compiler when it is first imported; PyTorch's ONNX exporter, in other tests of this
# process, may import it first.
if "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="module")
def triton_cpu():
    """The device; kernels that leave their arrays, or write one place from two programs, raise."""
    require("triton")
    device = ndl.triton_cpu()
    from needle_lab.kernels.triton import interpreter
    with interpreter.checks():
        yield device


KERNELS = set("""
    abs acos acosh add all any argmax argmin asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor
    cast ceil celu clip_high clip_low clone concatenate cos cosh div elu eq erf exp expand expm1 flip floor floor_divide
    fmod ge gelu gelu_tanh getitem gt index_add index_put index_select isfinite isinf isnan keep_some le leaky_relu
    linear log log1p log2 log_softmax logical_and logical_not logical_or logical_xor logsumexp lt matmul max maximum
    mean min minimum mul ne neg ones_like pad_constant permute pow reciprocal relu remainder reshape round rsqrt
    scatter_add selu sigmoid sign silu sin sinh softmax softplus softsign sqrt square sub sum take_along_axis tan tanh
    tile transferred trunc where zeros_like
""".split())
CASES_ON_HOST = {"getitem", "index_add", "index_put"}          # some of their indices hold arrays


def on_device(tensors: list, device) -> list:
    return [x.detach().to(device).requires_grad_(x.requires_grad) if isinstance(x, ndl.Tensor) else x for x in tensors]


def run_and_differentiate(name, inputs, attrs, weight):
    with np.errstate(all="ignore"):                        # the mean of nothing
        y = OPS[name](*inputs, **attrs)
    if y.requires_grad:
        y.backward(ndl.tensor(weight(y), device=y.device))
    return y, [x.grad for x in inputs if isinstance(x, ndl.Tensor)]


def test_the_ops_that_have_kernels(triton_cpu):
    have = {name for name, op in OPS.items() if "triton" in op.compute.kernels}
    assert have >= KERNELS, f"kernels were lost: {KERNELS - have}"
    assert have == KERNELS, f"add to KERNELS, so that they are tested: {have - KERNELS}"


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("name", sorted(KERNELS - {"transferred"}))
def test_devices_agree(name, dtype, triton_cpu, rng):
    """Forward and gradient; float64 to its own precision; narrow floats up to one rounding."""
    tolerance = {"float32": 1e-6, "float64": 1e-14, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for sample in cases(name)[:None if dtype == "float32" else 2]:
        on_cpu = as_tensors(sample.inputs, ndl.core.dtypes.as_dtype(dtype))
        on_gpu = on_device(on_cpu, triton_cpu)
        weights = rng.normal(size=1000)

        def weight(y, weights=weights):
            return np.resize(weights, y.shape).astype(y.dtype)

        expected, expected_gradients = run_and_differentiate(name, on_cpu, sample.attrs, weight)
        with contextlib.nullcontext() if name in CASES_ON_HOST or dtype != "float32" else forward_on_device():
            y, gradients = run_and_differentiate(name, on_gpu, sample.attrs, weight)
        assert y.dtype == expected.dtype and y.device == triton_cpu
        assert_close(y, expected, tolerance, f"{name} {sample}")
        leaves = [x for x in on_cpu if isinstance(x, ndl.Tensor)]
        for x, g, e in zip(leaves, gradients, expected_gradients, strict=True):
            assert (g is None) == (e is None)
            if e is not None:
                assert g.dtype == e.dtype
                assert_close(g, e, (4 if "16" in dtype else 1) * tolerance, f"gradient of {name} {sample}",
                             absolute=rounding_of_a_sum(x, weight(y)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(set(OPS) - KERNELS))
def test_ops_without_a_kernel_run_on_the_host_with_the_same_answer(name, dtype, triton_cpu):
    for sample in cases(name):
        on_cpu = as_tensors(sample.inputs, ndl.core.dtypes.as_dtype(dtype))
        expected = OPS[name](*on_cpu, **sample.attrs)
        y = OPS[name](*on_device(on_cpu, triton_cpu), **sample.attrs)
        for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (y, expected)), strict=True):
            if b is not None:
                assert a.device == triton_cpu and a.dtype == b.dtype
                np.testing.assert_array_equal(a.numpy().astype(np.float64), b.numpy().astype(np.float64))


@contextlib.contextmanager
def forward_on_device():
    """The gradient may use ops that have no kernel yet; the op itself may not run on the host."""
    before = dict(ndl.device_report().get("triton_cpu", {}))
    yield
    after = ndl.device_report().get("triton_cpu", {})
    assert set(k for k in after if after[k] != before.get(k)) <= {"index_select_grad"}


INTEGERS = [np.array([[-7, 3, 0], [5, -1, 100]]), np.array([2, -3, 0])]


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", "add sub mul maximum floor_divide remainder fmod eq lt logical_and bitwise_xor sign abs "
                         "neg sum max min any argmax mean softmax where".split())
def test_devices_agree_on_integers(name, dtype, triton_cpu):
    """Same values, same dtype, same refusals: numpy subtracts no bools, and integers wrap."""
    arrays = [a.astype(dtype) for a in INTEGERS][:OPS[name].most_inputs]
    if name == "where":
        arrays = [INTEGERS[0] > 0, *arrays]
    with np.errstate(all="ignore"):
        try:
            expected = OPS[name](*map(ndl.tensor, arrays))
        except ndl.errors.DTypeError:
            with pytest.raises(ndl.errors.DTypeError):
                OPS[name](*(ndl.tensor(a, device=triton_cpu) for a in arrays))
            return
        y = OPS[name](*(ndl.tensor(a, device=triton_cpu) for a in arrays))
    assert y.dtype == expected.dtype
    assert_close(y, expected)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5, 88.0, -88.0], np.float32)


UNARY = [name for name, op in OPS.items() if op.elementwise and op.most_inputs == 1 and not name.startswith("bitwise")]


@pytest.mark.parametrize("name", [*sorted(UNARY), "max", "min", "argmax", "logsumexp", "softmax"])
def test_devices_agree_on_nan_and_infinity(name, triton_cpu):
    with np.errstate(all="ignore"):
        expected = OPS[name](ndl.tensor(SPECIAL))
    assert_close(OPS[name](ndl.tensor(SPECIAL, device=triton_cpu)), expected)


@pytest.mark.parametrize("name", "maximum minimum pow floor_divide remainder fmod div eq lt atan2".split())
def test_devices_agree_on_pairs_of_nan_and_infinity(name, triton_cpu):
    a, b = SPECIAL[:, None], SPECIAL[None]
    with np.errstate(all="ignore"):
        expected = OPS[name](ndl.tensor(a), ndl.tensor(b))
    assert_close(OPS[name](ndl.tensor(a, device=triton_cpu), ndl.tensor(b, device=triton_cpu)), expected)
