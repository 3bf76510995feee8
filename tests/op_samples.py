"""For each op of the registry: sample inputs, and PyTorch's function for the same mathematics.

A sampler yields `case(*inputs, **attrs)`; floating inputs are float64 (the checks cast them), everything else is passed as
it is. An op without a sampler fails tests/test_ops.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from peers import torch

from needle_lab.core.graph import OPS
from needle_lab.testing import Sample, check_op

F = torch.nn.functional if torch else None

SAMPLES: dict[str, tuple[Callable[[np.random.Generator], Iterator[Sample]], Callable | None]] = {}


def case(*inputs, **attrs) -> Sample:
    return Sample(tuple(np.asarray(x) if isinstance(x, float) else x for x in inputs), attrs)   # numpy draws shape () as float


def samples(name: str, oracle: Callable | None = None):
    def add(sampler):
        SAMPLES[name] = (sampler, oracle)
        return sampler
    return add


def samples_of(name: str) -> list[Sample]:
    sampler, _ = SAMPLES[name]
    return list(sampler(np.random.default_rng(len(name))))


def check(name: str) -> None:
    """The check of one op, which the tests and the mutation run share; PyTorch is the oracle where it is installed."""
    _, oracle = SAMPLES[name]

    def by_torch(*inputs, **attrs):
        return oracle(*[torch.tensor(np.array(x)) if isinstance(x, np.ndarray) else x for x in inputs], **attrs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")              # PyTorch's variance of nothing
        check_op(OPS[name], samples_of(name), by_torch if torch and oracle else None)


SHAPES = [(3, 4), (5,), (), (2, 3, 1), (0, 3)]


def unary(name: str, oracle, low: float = -2.5, high: float = 2.5, **attrs) -> None:
    @samples(name, oracle)
    def sampler(rng):
        for shape in SHAPES:
            yield case(rng.uniform(low, high, shape), **attrs)
        yield case(rng.uniform(low, high, (4, 6))[::2, ::-1].T, **attrs)          # not contiguous


def binary(name: str, oracle, low: float = -2.5, high: float = 2.5) -> None:
    @samples(name, oracle)
    def sampler(rng):
        for a, b in [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1)), ((), (2, 3)), ((0, 3), (1, 3))]:
            yield case(rng.uniform(low, high, a), rng.uniform(low, high, b))


def t(name: str):
    """torch's function of that name, looked up when it is needed."""
    return lambda *args, **kwargs: getattr(torch, name)(*args, **kwargs)


def f(name: str):
    return lambda *args, **kwargs: getattr(F, name)(*args, **kwargs)


for _name in "neg abs square sign floor ceil round trunc exp expm1 sin cos tanh asinh sinh cosh erf relu sigmoid".split():
    unary(_name, t(_name))
for _name in "log log1p log2 sqrt rsqrt reciprocal".split():
    unary(_name, t(_name), 0.3, 3.0)
for _name in "asin acos atanh".split():
    unary(_name, t(_name), -0.9, 0.9)
for _name in "isnan isinf isfinite logical_not".split():
    unary(_name, t(_name))
@samples("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"))
def _(rng):
    yield case(rng.normal(scale=3, size=(4, 5)))
    yield case(rng.normal(size=(6, 4)).T)
    yield case(rng.normal(size=(0, 3)))


for _low, _high in ((-1.0, 1.0), (0.3, 2.0)):
    unary("hardtanh", f("hardtanh"), min_val=_low, max_val=_high)
unary("hardswish", f("hardswish"), -5.0, 5.0)


@samples("probability_losses", lambda x, target: F.binary_cross_entropy(x, target, reduction="none"))
def _(rng):
    for shape in SHAPES:
        yield case(rng.uniform(0.05, 0.95, shape), rng.uniform(0.0, 1.0, shape))


for _name in "softplus softsign leaky_relu elu selu celu silu gelu".split():
    unary(_name, f(_name))
unary("atan", t("atan"))
unary("tan", t("tan"), -1.2, 1.2)
unary("acosh", t("acosh"), 1.2, 3.0)
for _name in "add sub mul maximum minimum eq ne lt le gt ge atan2 logical_and logical_or logical_xor".split():
    binary(_name, t(_name))
for _name in "div fmod remainder floor_divide".split():
    binary(_name, t(_name), 0.5, 3.0)
binary("pow", t("pow"), 0.3, 2.0)
binary("clip_low", lambda x, low: torch.clamp(x, min=low))
binary("clip_high", lambda x, high: torch.clamp(x, max=high))


@samples("where", t("where"))
def _(rng):
    yield case(rng.random((3, 4)) < 0.5, rng.normal(size=(3, 4)), rng.normal(size=(4,)))
    yield case(rng.random((3, 1)) < 0.5, rng.normal(size=(2, 1, 4)), rng.normal(size=()))


for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    @samples(_name, t(_name))
    def _(rng):
        yield case(rng.integers(0, 100, (3, 4)), rng.integers(0, 100, 4))
        yield case(rng.random(5) < 0.5, rng.random(5) < 0.5)


@samples("bitwise_not", t("bitwise_not"))
def _(rng):
    yield case(rng.integers(0, 100, (3, 4)))

# --- reductions -----------------------------------------------------------------------------------------------------


def _torch_reduction(name: str):
    def oracle(x, axis=None, keepdims=False, **options):
        axis = tuple(range(x.ndim)) if axis is None else axis
        if isinstance(axis, tuple) and name in ("prod", "all", "any"):
            for a in sorted((a % x.ndim for a in axis), reverse=True):
                x = getattr(torch, name)(x, dim=a, keepdim=True)
            return x if keepdims else x.reshape([n for i, n in enumerate(x.shape)
                                                 if i not in [a % x.ndim for a in axis]])
        return getattr(torch, name)(x, dim=axis, keepdim=keepdims, **options)
    return oracle


def _reduction_cases(rng, empty=True, **attrs):
    yield case(rng.normal(size=(3, 4)), **attrs)
    yield case(rng.normal(size=(2, 3, 4)), axis=1, **attrs)
    yield case(rng.normal(size=(2, 3, 4)), axis=(-1, 0), keepdims=True, **attrs)
    yield case(rng.normal(size=(4, 5)).T[::2], axis=0, **attrs)
    if empty:
        yield case(rng.normal(size=(3, 0, 2)), axis=0, **attrs)


for _name, _torch in (("sum", "sum"), ("mean", "mean"), ("prod", "prod"), ("max", "amax"), ("min", "amin"),
                      ("logsumexp", "logsumexp"), ("all", "all"), ("any", "any")):
    SAMPLES[_name] = (_reduction_cases, _torch_reduction(_torch))


@samples("var", _torch_reduction("var"))
def _(rng):
    yield from _reduction_cases(rng)
    yield from _reduction_cases(rng, correction=0)


@samples("std", _torch_reduction("std"))
def _(rng):
    yield from _reduction_cases(rng)
    yield from _reduction_cases(rng, correction=0)


@samples("vector_norm", lambda x, ord=2, axis=None, keepdims=False: torch.linalg.vector_norm(x, ord, axis, keepdims))
def _(rng):
    for ord in (2, 1, 0, 3.0, 0.5, -1.5, float("inf"), -float("inf")):
        yield from _reduction_cases(rng, empty=ord == 2, ord=ord)


for _name in ("argmax", "argmin"):
    @samples(_name, lambda x, axis=None, keepdims=False, name=_name: getattr(torch, name)(x, dim=axis, keepdim=keepdims))
    def _(rng):
        yield case(rng.normal(size=(3, 4)), axis=1)
        yield case(rng.normal(size=(3, 4)), axis=0, keepdims=True)
        yield case(rng.normal(size=(3, 4)))


for _name in ("cumsum", "cumprod"):
    @samples(_name, lambda x, axis, name=_name: getattr(torch, name)(x, dim=axis))
    def _(rng):
        yield case(rng.normal(size=(3, 4)), axis=1)
        yield case(rng.normal(size=(2, 3, 4)), axis=0)
        yield case(rng.normal(size=(2, 0)), axis=1)


@samples("argsort", lambda x, axis=-1, descending=False: torch.argsort(x, dim=axis, descending=descending, stable=True))
def _(rng):
    yield case(rng.normal(size=(3, 4)), axis=0)
    yield case(rng.integers(0, 3, (4, 6)).astype(float), axis=-1, descending=True)      # ties

# --- moves ----------------------------------------------------------------------------------------------------------


@samples("reshape", lambda x, shape: x.reshape(shape))
def _(rng):
    yield case(rng.normal(size=(3, 4)), shape=(2, -1))
    yield case(rng.normal(size=(4, 6)).T, shape=(24,))
    yield case(rng.normal(size=(0, 3)), shape=(3, 0))


@samples("permute", lambda x, axes: x.permute(axes))
def _(rng):
    yield case(rng.normal(size=(2, 3, 4)), axes=(2, 0, 1))
    yield case(rng.normal(size=(2, 3, 4)), axes=(-1, 1, 0))


@samples("expand", lambda x, shape: x.expand(shape))
def _(rng):
    yield case(rng.normal(size=(3, 1)), shape=(2, 3, 4))
    yield case(rng.normal(size=(3, 1)), shape=(-1, 5))


@samples("flip", lambda x, axis: torch.flip(x, (axis,) if isinstance(axis, int) else axis))
def _(rng):
    yield case(rng.normal(size=(2, 3, 4)), axis=1)
    yield case(rng.normal(size=(2, 3, 4)), axis=(0, 2))


@samples("clone", t("clone"))
def _(rng):
    yield case(rng.normal(size=(2, 3, 4))[:, ::2])


@samples("cast", lambda x, dtype: x.to(getattr(torch, str(dtype))))
def _(rng):
    yield case(rng.normal(size=(2, 3)), dtype=np.dtype("float64"))
    yield case(rng.normal(size=(2, 3)), dtype=np.dtype("int32"))


@samples("roll", lambda x, shifts, axis: torch.roll(x, shifts, axis))
def _(rng):
    yield case(rng.normal(size=(2, 5)), shifts=2, axis=1)
    yield case(rng.normal(size=(3, 5)), shifts=(1, -2), axis=(0, 1))


@samples("tile", lambda x, repeats: torch.tile(x, repeats))
def _(rng):
    yield case(rng.normal(size=(2, 3)), repeats=(2, 1))
    yield case(rng.normal(size=(2, 3)), repeats=(2, 3, 2))
    yield case(rng.normal(size=(2, 3)), repeats=(3,))


@samples("pad_constant", lambda x, widths, value=0.0: F.pad(x, [n for w in widths[::-1] for n in w], value=value))
def _(rng):
    yield case(rng.normal(size=(3, 4)), widths=((1, 2), (0, 3)), value=1.5)
    yield case(rng.normal(size=(3, 5)), widths=((1, -1), (-2, 0)))


@samples("concatenate", lambda *x, axis=0: torch.cat(x, axis))
def _(rng):
    yield case(rng.normal(size=(3, 4)), rng.normal(size=(2, 4)))
    yield case(rng.normal(size=(3, 4)), rng.normal(size=(3, 0)), rng.normal(size=(3, 1)), axis=-1)


@samples("getitem", lambda x, index: x[index])
def _(rng):
    yield case(rng.normal(size=(4, 5)), index=(slice(None, None, 2), 1))
    yield case(rng.normal(size=(4, 5)), index=np.array([3, 0, 3, 3]))              # repeats add up in the gradient
    yield case(rng.normal(size=(4, 5)), index=(..., None, np.array([[1, -1]])))
    yield case(rng.normal(size=(4, 5)), index=rng.random((4, 5)) < 0.5)


def _torch_index_add(x, shape, index):
    if isinstance(index, slice):
        return _torch_index_put(torch.zeros(shape, dtype=x.dtype), x, index)
    return torch.zeros(shape, dtype=x.dtype).index_put((torch.tensor(index),), x, True)


def _torch_index_put(x, value, index):
    y = x.clone()
    y[index] = value
    return y


@samples("add_at", _torch_index_add)
def _(rng):
    yield case(rng.normal(size=(4, 5)), shape=(3, 5), index=np.array([2, 0, 2, 2]))
    yield case(rng.normal(size=(2, 5)), shape=(4, 5), index=slice(None, None, 2))


@samples("index_put", _torch_index_put)
def _(rng):
    yield case(rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), index=slice(1, 4, 2))
    yield case(rng.normal(size=(4, 5)), rng.normal(size=(2, 5)), index=np.array([2, 0]))
    yield case(rng.normal(size=(4, 5)), rng.normal(size=()), index=np.array([1, 3]))


@samples("take_along_axis", lambda x, index, axis: torch.gather(x, axis, index))
def _(rng):
    yield case(rng.normal(size=(4, 5)), rng.integers(0, 5, (4, 3)), axis=1)
    yield case(rng.normal(size=(4, 5)), rng.integers(0, 4, (6, 5)), axis=0)


@samples("scatter", lambda x, index, source, axis: torch.scatter(x, axis, index, source))
def _(rng):
    index = np.stack([rng.permutation(5)[:3] for _ in range(4)])
    yield case(rng.normal(size=(4, 5)), index, rng.normal(size=(4, 3)), axis=1)
    yield case(rng.normal(size=(6, 5)), index, rng.normal(size=(4, 3)), axis=1)


@samples("scatter_add", lambda x, index, source, axis: torch.scatter_add(x, axis, index, source))
def _(rng):
    yield case(rng.normal(size=(4, 5)), rng.integers(0, 4, (3, 5)), rng.normal(size=(3, 5)), axis=0)


@samples("index_select", lambda x, index, axis=0: torch.index_select(x, axis, index.reshape(-1)).reshape(
    x.shape[:axis] + index.shape + x.shape[axis + 1:]))
def _(rng):
    yield case(rng.normal(size=(4, 5)), np.array([[3, 0, 3], [1, 1, 1]]))
    yield case(rng.normal(size=(4, 5, 2)), np.array([3, 0, 3]), axis=1)


@samples("index_select_grad", None)
def _(rng):
    yield case(rng.normal(size=(2, 3, 5)), np.array([[3, 0, 3], [1, 1, 1]]), shape=(4, 5), axis=0)
    yield case(rng.normal(size=(4, 3)), np.array([3, 0, 3]), shape=(4, 5), axis=1)


@samples("transferred", None)
def _(rng):
    from needle_lab import cpu
    yield case(rng.normal(size=(2, 3)), device=cpu(), source=cpu())


@samples("nonzero", t("nonzero"))
def _(rng):
    yield case(rng.integers(0, 2, (3, 4)))
    yield case(rng.normal(size=(2, 0)))


@samples("ones_at", lambda index, num_classes: F.one_hot(index, num_classes).float())
def _(rng):
    yield case(rng.integers(0, 5, (2, 3)), num_classes=5)


unary("zeros_like", t("zeros_like"))
unary("ones_like", t("ones_like"))

# --- products -------------------------------------------------------------------------------------------------------


@samples("matmul", t("matmul"))
def _(rng):
    for a, b in [((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (4,)),
                 ((5, 1, 3, 4), (2, 4, 3)), ((4,), (2, 4, 5)), ((3, 0), (0, 2)), ((0, 4), (4, 2))]:
        yield case(rng.normal(size=a), rng.normal(size=b))
    yield case(rng.normal(size=(4, 3)).T, rng.normal(size=(8, 5))[::2])


@samples("einsum", lambda *x, equation: torch.einsum(equation, *x))
def _(rng):
    for equation, *shapes in [("ij,jk->ik", (3, 4), (4, 5)), ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)), ("ij->j", (3, 4)),
                              ("i,j->ij", (3,), (4,)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij,ij,j->", (3, 4), (3, 4), (4,)),
                              ("abc->cab", (2, 3, 4)), ("ij,kl->k", (2, 3), (4, 5))]:
        yield case(*(rng.normal(size=s) for s in shapes), equation=equation if "->" in equation else equation + "->")

# --- matrices -------------------------------------------------------------------------------------------------------
#
# Always a batch of them: of one, the layout that repeats its first row would be singular.


def linalg(name: str):
    return lambda *args, **kwargs: getattr(torch.linalg, name)(*args, **kwargs)


def _positive(rng, *shape):
    x = rng.normal(size=shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


for _name in ("inv", "det", "slogdet"):
    @samples(_name, linalg(_name))
    def _(rng):
        for shape in ((1, 3, 3), (2, 3, 4, 4), (1, 1, 1), (2, 0, 0), (0, 3, 3)):
            yield case(rng.normal(size=shape) + 2 * np.eye(shape[-1]))


@samples("solve", linalg("solve"))
def _(rng):
    for a, b in (((1, 3, 3), (1, 3, 2)), ((2, 3, 3), (3, 1)), ((1, 1, 1), (1, 1, 1)), ((0, 2, 2), (0, 2, 1))):
        yield case(rng.normal(size=a) + 2 * np.eye(a[-1]), rng.normal(size=b))


@samples("cholesky", lambda x: torch.linalg.cholesky(0.5 * (x + x.mT)))
def _(rng):
    for shape in ((1, 3, 3), (2, 4, 4), (1, 1, 1), (0, 3, 3)):
        yield case(_positive(rng, *shape))


@samples("qr", linalg("qr"))
def _(rng):
    for shape in ((1, 3, 3), (1, 5, 3), (2, 4, 2)):
        yield case(rng.normal(size=shape), mode="reduced")


@samples("svd", None)                                                    # of which the signs of U and V are free
def _(rng):
    for shape in ((1, 3, 3), (1, 5, 3), (2, 2, 4)):
        yield case(rng.normal(size=shape), full=False)


@samples("eigh", lambda x: torch.linalg.eigh(0.5 * (x + x.mT))[0])
def _(rng):
    for shape in ((1, 3, 3), (2, 4, 4), (1, 1, 1)):
        yield case(_positive(rng, *shape))


@samples("pinv", lambda x, atol, rtol: torch.linalg.pinv(x, atol=atol, rtol=rtol))
def _(rng):
    for shape in ((1, 3, 3), (1, 5, 3), (2, 2, 4)):
        yield case(rng.normal(size=shape), atol=0.0, rtol=1e-12)


# --- convolution ----------------------------------------------------------------------------------------------------


def _conv_cases(rng):
    """(x shape, weight shape, geometry) in 1, 2 and 3 dimensions: strides, borders, dilation, groups, odd sizes."""
    for x, w, stride, pad, dilation, groups in [
            ((2, 3, 7), (4, 3, 3), (1,), (1,), (1,), 1), ((2, 4, 9), (6, 2, 2), (2,), (0,), (3,), 2),
            ((2, 3, 6, 5), (4, 3, 3, 2), (1, 2), (1, 0), (1, 1), 1), ((1, 4, 7, 7), (4, 1, 3, 3), (2, 2), (1, 1), (1, 1), 4),
            ((3, 2, 5, 4), (5, 2, 1, 1), (1, 1), (0, 0), (1, 1), 1), ((2, 2, 8, 6), (4, 1, 3, 3), (1, 1), (2, 2), (2, 1), 2),
            ((1, 2, 4, 5, 3), (2, 2, 2, 3, 2), (1, 2, 1), (1, 1, 0), (1, 1, 1), 1), ((0, 3, 5, 5), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
            ((2, 2, 7, 6), (3, 2, 3, 2), (1, 2), ((2, 0), (-1, 2)), (1, 1), 1), ((1, 4, 8), (4, 2, 3), (1,), ((-1, -2),), (1,), 2),
            ((1, 2, 4, 4, 4), (4, 1, 2, 2, 2), (1, 1, 1), ((0, 1), (1, 0), (-1, 1)), (1, 2, 1), 2)]:
        pads = tuple(p if isinstance(p, tuple) else (p, p) for p in pad)
        yield x, w, dict(stride=stride, pads=pads, dilation=dilation, groups=groups)


def _padded(x, pads):
    return F.pad(x, [n for pair in pads[::-1] for n in pair])             # negative ones crop


def _torch_conv(x, w, bias=None, *, pads, **geometry):
    return getattr(F, f"conv{x.ndim - 2}d")(_padded(x, pads), w, bias, **geometry)


def _torch_conv_gradient(of, shape, other, g, **geometry):
    """By PyTorch's own backward of the convolution: of input (0) or weight (1)."""
    wanted = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    y = _torch_conv(*((wanted, other) if of == 0 else (other, wanted)), **geometry)
    return torch.autograd.grad(y, wanted, g)[0]


def _out(x, w, stride, pads, dilation, groups):
    from needle_lab.ops.windows import output_size
    return output_size(x[2:], w[2:], stride, pads, dilation)


@samples("convolution", _torch_conv)
def _(rng):
    for x, w, geometry in _conv_cases(rng):
        yield case(rng.normal(size=x), rng.normal(size=w) / 4, **geometry)
        yield case(rng.normal(size=x), rng.normal(size=w) / 4, rng.normal(size=w[0]), **geometry)
    yield case(rng.normal(size=(2, 6, 5, 3)).transpose(0, 3, 1, 2), rng.normal(size=(2, 3, 3, 3)) / 4, stride=(1, 1),
               pads=((0, 0), (1, 1)), dilation=(1, 1), groups=1)


@samples("convolution_input", lambda g, w, size, **geometry: _torch_conv_gradient(
    0, (g.shape[0], w.shape[1] * geometry["groups"], *size), w, g, **geometry))
def _(rng):
    for x, w, geometry in _conv_cases(rng):
        yield case(rng.normal(size=(x[0], w[0], *_out(x, w, **geometry))), rng.normal(size=w) / 4, size=x[2:], **geometry)


@samples("convolution_weight", lambda x, g, kernel, **geometry: _torch_conv_gradient(
    1, (g.shape[1], x.shape[1] // geometry["groups"], *kernel), x, g, **geometry))
def _(rng):
    for x, w, geometry in _conv_cases(rng):
        yield case(rng.normal(size=x) / 4, rng.normal(size=(x[0], w[0], *_out(x, w, **geometry))), kernel=w[2:], **geometry)

# --- pooling --------------------------------------------------------------------------------------------------------

_WINDOWS = [((2, 3, 7), dict(kernel=(3,), stride=(2,), pads=((1, 1),)), (1,)),
            ((2, 3, 6, 5), dict(kernel=(2, 3), stride=(2, 1), pads=((1, 1), (0, 0))), (1, 1)),
            ((2, 2, 7, 7), dict(kernel=(3, 2), stride=(1, 2), pads=((0, 0), (1, 1))), (2, 1)),
            ((1, 2, 4, 5, 3), dict(kernel=(2, 2, 2), stride=(2, 2, 1), pads=((0, 0),) * 3), (1, 1, 1))]


@samples("max_windows", lambda x, kernel, stride, pads, dilation: getattr(F, f"max_pool{len(kernel)}d")(
    x, kernel, stride, tuple(b for b, _ in pads), dilation))
def _(rng):
    for shape, window, dilation in _WINDOWS:
        yield case(rng.normal(size=shape), **window, dilation=dilation)


def _torch_sum_windows(x, kernel, stride, pads, dilation):
    """A convolution of each channel with ones."""
    weight = torch.ones((x.shape[1], 1, *kernel), dtype=x.dtype)
    return getattr(F, f"conv{len(kernel)}d")(x, weight, None, stride, tuple(b for b, _ in pads), dilation, x.shape[1])


@samples("sum_windows", _torch_sum_windows)
def _(rng):
    for shape, window, dilation in _WINDOWS:
        yield case(rng.normal(size=shape), **window, dilation=dilation)


@samples("spread_windows", None)
def _(rng):
    from needle_lab.ops.windows import output_size
    for shape, window, dilation in _WINDOWS:
        out = output_size(shape[2:], window["kernel"], window["stride"], window["pads"], dilation)
        yield case(rng.normal(size=shape[:2] + out), size=shape[2:], **window, dilation=dilation)


for _name in ("to_winners", "from_winners"):
    @samples(_name, None)
    def _(rng, to=_name == "to_winners"):
        from needle_lab.ops.pool import max_windows
        for shape, window, dilation in _WINDOWS:
            # integers: finite differences do not move them, so the winners stay while the values change
            x = rng.permutation(int(np.prod(shape))).reshape(shape)
            y = max_windows.definition(x, **window, dilation=dilation)
            yield case(rng.normal(size=y.shape if to else shape), x, **window, dilation=dilation)

# --- normalisation, softmax, recurrent cells ------------------------------------------------------------------------


def _torch_standardize(x, axes, eps):
    mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps), mean, var


@samples("standardize", _torch_standardize)
def _(rng):
    yield case(rng.normal(2.0, 3.0, (4, 3, 5)), axes=(0, 2), eps=1e-5)
    yield case(rng.normal(-1.0, 0.5, (4, 3, 5)), axes=(2,), eps=1e-3)
    yield case(rng.normal(size=(6, 4)).T, axes=(0,), eps=1e-5)


for _name in ("softmax", "log_softmax"):
    @samples(_name, lambda x, axis=-1, name=_name: getattr(F, name)(x, dim=axis))
    def _(rng):
        yield case(rng.normal(size=(3, 4)))
        yield case(rng.normal(scale=30, size=(2, 5, 3)), axis=1)
        yield case(rng.normal(size=(0, 4)))


def _torch_attention(q, k, v, scale, causal):
    scores = q @ k.mT * scale
    if causal:
        scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)


@samples("attention", _torch_attention)
def _(rng):
    for lead, length, source, causal in (((2, 3), 4, 4, True), ((), 3, 5, False), ((2,), 5, 3, True), ((1, 2), 70, 70, True)):
        shapes = (*lead, length, 3), (*lead, source, 3), (*lead, source, 2)
        yield case(*(rng.normal(size=shape) for shape in shapes), scale=0.7, causal=causal)
    q = rng.normal(size=(2, 4, 3, 5)).transpose(0, 2, 1, 3)                      # heads of one projection
    yield case(q, q[..., ::-1, :], q, scale=0.5, causal=False)


@samples("class_losses", lambda x, target, reduction: (F.cross_entropy(x, target, reduction=reduction), torch.logsumexp(x, 1)))
def _(rng):
    yield case(rng.normal(scale=5, size=(4, 6)), rng.integers(0, 6, 4), reduction="none")
    yield case(rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5)), reduction="none")
    yield case(rng.normal(size=(2, 3, 4)), rng.integers(0, 3, (2, 4)), reduction="mean")
    yield case(rng.normal(size=(5, 3)).T, rng.integers(0, 5, 3), reduction="sum")


def _torch_lstm_cell(gates, c):
    i, f_, g, o = gates.chunk(4, -1)
    new = torch.sigmoid(f_) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new), new


@samples("lstm_cell", _torch_lstm_cell)
def _(rng):
    yield case(rng.normal(size=(3, 20)), rng.normal(size=(3, 5)))
    yield case(rng.normal(size=(1, 4)), rng.normal(size=(1, 1)))


def _torch_sequence(kind, x_part, weight_hh, states, bias_hh, reverse):
    """PyTorch's own layer; x_part goes in through an input weight of ones and zeros."""
    gates = weight_hh.shape[0]
    x_part, eye = x_part.flip(0) if reverse else x_part, torch.eye(gates, dtype=x_part.dtype)
    bias = torch.zeros(gates, dtype=x_part.dtype) if bias_hh is None else bias_hh
    batches = states if kind == "lstm" else states[0]
    layer = torch._VF.lstm if kind == "lstm" else torch._VF.gru
    y, *last = layer(x_part, tuple(s[None] for s in batches) if kind == "lstm" else batches[None],
                     [eye, weight_hh, torch.zeros_like(bias), bias], True, 1, 0.0, False, False, False)
    return (y.flip(0) if reverse else y), last[-1][0]


@samples("lstm_sequence", lambda x, w, h, c, reverse=False: _torch_sequence("lstm", x, w, (h, c), None, reverse))
def _(rng):
    for length, n, size, reverse in ((4, 3, 2, False), (3, 1, 5, True), (1, 2, 1, False)):
        yield case(rng.normal(size=(length, n, 4 * size)), rng.normal(size=(4 * size, size)), rng.normal(size=(n, size)),
                   rng.normal(size=(n, size)), reverse=reverse)


@samples("gru_sequence", lambda x, w, h, b=None, reverse=False: _torch_sequence("gru", x, w, (h,), b, reverse)[:1])
def _(rng):
    for length, n, size, reverse in ((4, 3, 2, False), (3, 1, 5, True), (1, 2, 1, False)):
        given = [rng.normal(size=(length, n, 3 * size)), rng.normal(size=(3 * size, size)), rng.normal(size=(n, size))]
        yield case(*given, rng.normal(size=3 * size), reverse=reverse)
        yield case(*given, reverse=reverse)


@samples("keep_some", lambda x, keep, scale: x * keep * scale)
def _(rng):
    yield case(rng.normal(size=(3, 4)), rng.random((3, 4)) > 0.4, scale=1.5)
    yield case(rng.normal(size=(2, 3, 4)), rng.random((2, 3, 1)) > 0.4, scale=2.0)


@samples("linear", lambda x, w, b=None: F.linear(x, w, b))
def _(rng):
    yield case(rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=5))
    yield case(rng.normal(size=(2, 3, 4)), rng.normal(size=(5, 4)))
    yield case(rng.normal(size=4), rng.normal(size=(5, 4)), rng.normal(size=5))
    yield case(rng.normal(size=(0, 4)), rng.normal(size=(5, 4)), rng.normal(size=5))


def _torch_batch_norm(x, weight=None, bias=None, eps=0):
    axes = (0, *range(2, x.ndim))
    return F.batch_norm(x, None, None, weight, bias, True, eps=eps), x.mean(axes), x.var(axes, correction=0)


@samples("batch_norm", _torch_batch_norm)
def _(rng):
    yield case(rng.normal(2.0, 3.0, (4, 3, 5)), rng.normal(size=3), rng.normal(size=3), eps=1e-5)
    yield case(rng.normal(size=(3, 2, 2, 7)), rng.normal(size=2), eps=1e-3)
    yield case(rng.normal(size=(6, 4)), eps=1e-5)
    yield case(rng.normal(size=(4, 6, 3)).transpose(0, 2, 1), rng.normal(size=3), rng.normal(size=3), eps=1e-5)
    yield case(rng.normal(size=(3, 2, 5, 4)).transpose(3, 0, 1, 2), rng.normal(size=3), rng.normal(size=3), eps=1e-5)


def _torch_layer_norm(x, weight=None, bias=None, axes=1, eps=0):
    last = tuple(range(-axes, 0))
    y = F.layer_norm(x, x.shape[-axes:], weight, bias, eps)
    return y, x.mean(last, keepdim=True), torch.rsqrt(x.var(last, correction=0, keepdim=True) + eps)


@samples("layer_norm", _torch_layer_norm)
def _(rng):
    yield case(rng.normal(2.0, 3.0, (4, 3, 5)), rng.normal(size=5), rng.normal(size=5), axes=1, eps=1e-5)
    yield case(rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), axes=2, eps=1e-3)
    yield case(rng.normal(size=(6, 4)), axes=1, eps=1e-5)
    yield case(rng.normal(size=(5, 6, 3)).transpose(0, 2, 1), rng.normal(size=6), axes=1, eps=1e-5)


@samples("apply_batch_norm", lambda x, mean, var, weight=None, bias=None, eps=0: (
    (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + eps) * (1 if weight is None else weight[:, None, None])
    + (0 if bias is None else bias[:, None, None])))
def _(rng):
    x, mean, var = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=3), rng.uniform(0.5, 2.0, 3)
    yield case(x, mean, var, eps=1e-5)
    yield case(x, mean, var, rng.normal(size=3), rng.normal(size=3), eps=1e-3)
    yield case(rng.normal(size=(3, 4, 5, 2)).transpose(3, 0, 1, 2), mean, var, rng.normal(size=3), eps=1e-3)


def _torch_fourier(x, axis, inverse=False):
    transform = torch.fft.ifft if inverse else torch.fft.fft
    return torch.view_as_real(transform(torch.view_as_complex(x), dim=axis % x.ndim))


@samples("fourier", _torch_fourier)
def _(rng):
    yield case(rng.normal(size=(3, 5, 2)), axis=1)
    yield case(rng.normal(size=(4, 3, 2)), axis=0, inverse=True)

# --- PyTorch's surface ------------------------------------------------------------------------------------------------

for _name, _low, _high in (("log10", 0.3, 3.0), ("erfc", -2.5, 2.5), ("erfinv", -0.9, 0.9), ("lgamma", 0.3, 6.0),
                           ("digamma", 0.3, 6.0), ("signbit", -2.5, 2.5)):
    unary(_name, t(_name), _low, _high)
for _name in ("hypot", "logaddexp"):
    binary(_name, t(_name))


@samples("polygamma", lambda x, n: torch.special.zeta(
    n + 1, x) * (-1) ** (n + 1) * math.factorial(n))          # torch.polygamma(1, x) itself is right to 5e-10
def _(rng):
    for n, shape in ((1, (3, 4)), (2, (5,)), (3, (0, 2)), (1, ())):
        yield case(rng.uniform(0.3, 20.0, shape), n=n)


for _name in ("gcd", "lcm", "bitwise_left_shift", "bitwise_right_shift"):
    @samples(_name, t(_name))
    def _(rng):
        yield case(rng.integers(0, 60, (3, 4)), rng.integers(1, 9, 4))


@samples("logcumsumexp", lambda x, axis: torch.logcumsumexp(x, axis))
def _(rng):
    yield case(rng.normal(size=(3, 4)), axis=1)
    yield case(rng.normal(size=(2, 3, 4)), axis=0)
    yield case(rng.normal(size=(2, 0)), axis=1)


@samples("running_places", lambda x, axis, largest: (torch.cummax if largest else torch.cummin)(x, axis).indices)
def _(rng):
    for largest in (True, False):
        yield case(rng.normal(size=(3, 5)), axis=1, largest=largest)
        yield case(rng.integers(0, 3, (6, 2)).astype(float), axis=0, largest=largest)          # ties


@samples("argtopk", lambda x, k, axis, largest: torch.argsort(
    x, dim=axis, descending=largest, stable=True).narrow(axis, 0, k))
def _(rng):
    for largest in (True, False):
        yield case(rng.normal(size=(3, 40)), k=4, axis=1, largest=largest)
        yield case(rng.normal(size=(40, 2)), k=3, axis=0, largest=largest)
        yield case(rng.integers(0, 4, (2, 40)).astype(float), k=4, axis=-1, largest=largest)   # ties at the last place
        yield case(rng.normal(size=(3, 0)), k=0, axis=1, largest=largest)


@samples("argkth", lambda x, k, axis: torch.kthvalue(x, k + 1, axis, keepdim=True).indices)
def _(rng):
    yield case(rng.normal(size=(3, 40)), k=4, axis=1)
    yield case(rng.normal(size=(5, 2)), k=0, axis=0)


@samples("scatter_extreme", lambda x, index, source, axis, how: torch.scatter_reduce(x, axis, index, source, how))
def _(rng):
    for how in ("prod", "amax", "amin"):
        yield case(rng.normal(size=(4, 5)), rng.integers(0, 4, (3, 5)), rng.normal(size=(3, 5)), axis=0, how=how)
        yield case(rng.normal(size=(4, 5)), rng.integers(0, 5, (3, 4)), rng.normal(size=(4, 6)), axis=1, how=how)


@samples("diagonal", lambda x, offset, axes: torch.diagonal(x, offset, *axes))
def _(rng):
    yield case(rng.normal(size=(4, 5)), offset=1, axes=(0, 1))
    yield case(rng.normal(size=(2, 4, 3)), offset=-2, axes=(2, 1))
    yield case(rng.normal(size=(3, 3)), offset=5, axes=(0, 1))


@samples("from_diagonal", lambda x, shape, offset, axes: torch.diagonal_scatter(
    torch.zeros(shape, dtype=x.dtype), x, offset, *axes))
def _(rng):
    yield case(rng.normal(size=4), shape=(4, 5), offset=1, axes=(0, 1))
    yield case(rng.normal(size=(4, 2)), shape=(3, 4, 3), offset=-1, axes=(2, 0))


@samples("stack", lambda *x, axis: torch.stack(x, axis))
def _(rng):
    yield case(rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), axis=0)
    yield case(rng.normal(size=3), rng.normal(size=3), rng.normal(size=3), axis=-1)


@samples("split", lambda x, ends, axis: torch.tensor_split(x, ends[1:-1], axis))
def _(rng):
    yield case(rng.normal(size=(5, 3)), ends=(0, 2, 2, 5), axis=0)
    yield case(rng.normal(size=(2, 4)), ends=(0, 4), axis=1)


@samples("unbind", lambda x, axis: torch.unbind(x, axis))
def _(rng):
    yield case(rng.normal(size=(3, 4)), axis=1)
    yield case(rng.normal(size=3), axis=0)
    yield case(rng.normal(size=(1, 2, 2)), axis=0)
