"""Every op of the registry, on its samples: against PyTorch, finite differences, and other devices."""

import contextlib
import os
import sys

import numpy as np
import pytest
from conftest import assert_close
from op_samples import SAMPLES, check, samples_of
from peers import require

import needle_lab as ndl
from needle_lab.core.graph import OPS
from needle_lab.errors import CheckError
from needle_lab.testing import check_kernel, check_op, sample


def test_every_op_has_samples():
    assert sorted(OPS) == sorted(SAMPLES), "each op needs a sampler in tests/op_samples.py, and each sampler an op"


@pytest.mark.parametrize("level", ["definition", ndl.use_kernels.level])
@pytest.mark.parametrize("name", sorted(OPS))
def test_op(name, level):
    """The textbook's formula, and what computes by default: to 1e-12 of PyTorch in float64."""
    with ndl.use_kernels(level):
        check(name)


# --- the check finds what is wrong -----------------------------------------------------------------------------------------

X = np.array([[0.5, -1.5, 2.0]])


def sine(function=np.sin, rule=lambda g, x: g * ndl.cos(x), **options):
    def wave(x):
        return function(x)
    return ndl.core.graph.Op(wave, gradient=rule, **options)


@pytest.mark.parametrize("op, message", [
    (sine(lambda x: 1.001 * np.sin(x)), "was expected"), (sine(lambda x: np.sin(x).astype("float64")), "is float64"),
    (sine(rule=lambda g, x: 1.001 * g * ndl.cos(x)), "gradient by input 0"),
    (sine(rule=lambda g, x: g.detach() * ndl.cos(x)), "second derivative by the incoming gradient 0.*detached"),
    (sine(rule=lambda g, x: g * ndl.cos(x.detach())), "second derivative by input 0"),
    (sine(rule=lambda g, x: g * ndl.cos(x) + 1e-6), "second derivative|not linear|finite differences"),
    (sine(rule=lambda g, x: g * ndl.cos(x) * ndl.exp(g * 0.01) * 1e-9 + g * ndl.cos(x)), "second derivative|not linear"),
    (sine(lambda x: np.sin(x, out=x) if x.flags.c_contiguous else np.sin(x)), "expected|changed|writes"),
    (sine(lambda x: np.sin(np.ascontiguousarray(x).reshape(-1)[:x.size]).reshape(x.shape[::-1])), "shape"),
    (sine(rule=None), "no gradient rule")])
def test_a_wrong_op_is_found(op, message):
    check_op(sine(), [X], oracle=np.sin)
    with pytest.raises(CheckError, match=message):
        check_op(op, [X, np.ones((2, 3))], oracle=np.sin)


def test_the_smallest_sample_is_named():
    with pytest.raises(CheckError, match=r"wave\(\[0.2, 0.3\]\)"):
        check_op(sine(np.cos), [X, np.array([0.2, 0.3]), sample(np.ones((4, 5)))], oracle=np.sin)

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
    add_at cast ceil celu clip_high clip_low clone concatenate cos cosh div elu eq erf exp expand expm1 flip floor
    floor_divide fmod ge gelu gelu_tanh getitem gt hardswish hardtanh index_put index_select isfinite isinf isnan
    keep_some le leaky_relu linear log log10 log1p log2 log_softmax logical_and logical_not logical_or logical_xor
    logsumexp lt matmul max maximum mean min minimum mul ne neg ones_like pad_constant permute pow probability_losses
    reciprocal relu remainder reshape round rsqrt scatter_add selu sigmoid sign silu sin sinh softmax softplus softsign
    sqrt square sub sum take_along_axis tan tanh tile transferred trunc where zeros_like
""".split())
def test_the_ops_that_have_kernels(triton_cpu):
    have = {name for name, op in OPS.items() if "triton" in op.compute.kernels}
    assert have >= KERNELS, f"kernels were lost: {KERNELS - have}"
    assert have == KERNELS, f"add to KERNELS, so that they are tested: {have - KERNELS}"


@pytest.mark.parametrize("name", sorted(set(OPS) - {"transferred"}))
def test_devices_agree(name, triton_cpu):
    """Values and gradients in all dtypes, by kernels, or on the host where there is none."""
    with forward_on_device(name):
        check_op(OPS[name], samples_of(name), devices=[triton_cpu])


@pytest.mark.parametrize("name", sorted(KERNELS - {"transferred"}))
def test_a_kernel_of_the_device_computes_what_its_definition_does(name, triton_cpu):
    check_kernel(OPS[name], "triton", samples_of(name), device=triton_cpu)


@contextlib.contextmanager
def forward_on_device(name):
    """The gradient may use ops that have no kernel; an op that has one may run on the host for indices that hold arrays."""
    before = dict(ndl.device_report().get("triton_cpu", {}))
    yield
    after = ndl.device_report().get("triton_cpu", {})
    on_host = {op for op in after if after[op] != before.get(op)}
    assert name not in on_host or name not in KERNELS or name in {"getitem", "add_at", "index_put"}


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
