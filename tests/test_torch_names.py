"""Idioms: one line of a program, with PyTorch's module and with ours, gives the same values, shapes and dtypes; or an error
of ours that says which call is meant. What is found by its name alone stands in test_torch_samples.py."""

import inspect
import math

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab.errors import ArgumentError, DTypeError, GraphError, NeedleError, NotPartError, ShapeError
from needle_lab.refused import reason

torch = require("torch")

# T is the module; x (3, 4), y (3, 4), v (4,), s (4, 4) float32, i (3, 4) and k (5,) int64, m (3, 4) and row (3,) bool.
LINES = """
x.max(1)
x.max(1)[1]
x.max(dim=1, keepdim=True)
x.max(-1, True)
x.max()
T.max(x, 0)
T.max(x, y)
T.max(x, dim=0)[0]
x.min(0).indices
T.min(x, y)
i.max(1)
m.max(1)
x.argmax(1, keepdim=True)
x.argmax(dim=-1)
x.amax((0, 1))
x.amax([0, 1], keepdim=True)
x.aminmax(dim=1)
x.aminmax()
x.sort(1, True)
x.sort(dim=0, descending=True)
T.sort(x)
T.sort(i, stable=True)
x.argsort(1, descending=True)
x.topk(2)
x.topk(2, dim=0, largest=False)
x.topk(k=3, dim=1)[1]
x.kthvalue(2, 1)
x.median()
x.median(1)
x.median(dim=0).values
x.mode(1)
i.mode()
x.cummax(1)
x.cummin(0)
x.cumsum(1)
x.cumsum(-1, dtype=T.float64)
m.cumsum(1)
x.sum(1, keepdim=True)
x.sum((0, 1))
x.sum([0, 1])
x.sum(dim=(0, 1), dtype=T.float64)
m.sum()
i.sum(0)
i.float().mean(0)
i.prod(1)
x.mean(-1, True)
x.std()
x.std(1)
x.std(1, False)
x.std(False)
x.std(dim=1, unbiased=False, keepdim=True)
x.var(1, correction=0)
x.var((0, 1))
T.std_mean(x, dim=1)
T.var_mean(x, 0, unbiased=False)
x.norm()
x.norm(2, 1)
x.norm(p=1, dim=0, keepdim=True)
x.norm(dim=1)
x.logsumexp(1)
x.logsumexp((0, 1), True)
x.softmax(1)
x.softmax(dim=-1, dtype=T.float64)
T.softmax(x, 0)
x.log_softmax(-1)
x.all()
(x > 0).all(1)
(x > 0).any(dim=0, keepdim=True)
x.count_nonzero(1)
x.quantile(0.25, dim=1)
T.quantile(x, T.tensor([0.1, 0.5]), dim=0)
x.nansum(1)
x.nanmean()
x.logcumsumexp(1)
x.diff()
x.diff(dim=0)
T.diff(v, n=2)
T.trapezoid(v)
T.cov(x)
T.corrcoef(x)
T.dist(x, y)
T.histc(x, 5, -2, 2)
T.bincount(k)
T.bincount(k, minlength=9)
T.unique(i)
T.unique(i, return_inverse=True, return_counts=True)
T.unique(i, dim=0)
T.unique_consecutive(k)
T.searchsorted(v.sort()[0], x)
T.bucketize(x, v.sort().values, right=True)
T.isin(i, k)
x.nonzero()
m.nonzero(as_tuple=True)
T.where(m)
T.where(m, x, y)
T.where(x > 0, x, 0.)
T.where(m, 1, 0)
T.where(m, 1., 0)
T.where(m, 0.5, 1.5)
x.where(m, y)
T.argwhere(m)
x[m]
x[m.nonzero(as_tuple=True)]
x[row]
x[row, 1]
x[[0, 2]]
x[T.tensor([2, 0])]
x[:, None].shape
x[..., -1]
x[T.arange(3), T.tensor([1, 0, 3])]
x[:, T.tensor([1, 1])]
x.gather(1, i)
x.gather(dim=0, index=i.clamp(max=2))
T.gather(x, 1, i[:, :2])
x.scatter(1, i, y)
T.zeros(3, 4).scatter_(1, i, 1.0)
T.zeros(3, 4).scatter_(1, i[:, :1], 1)
T.zeros(3, 4, dtype=T.int64).scatter_(1, i, 1)
T.zeros(3, 4).scatter_(1, i, y, reduce="add")
T.zeros(3, 4).scatter(dim=1, index=i, value=2.5)
T.zeros(3, 4).scatter_add(1, i, y)
T.zeros(3, 4).scatter_add_(0, i.clamp(max=2), y)
T.ones(3, 4).scatter_reduce(1, i, y, reduce="amax")
T.ones(3, 4).scatter_reduce_(1, i, y, "mean", include_self=False)
x.index_select(0, T.tensor([2, 0]))
T.index_select(x, dim=1, index=T.tensor([3]))
x.index_add(0, T.tensor([0, 0]), y[:2])
x.clone().index_add_(0, T.tensor([0, 2]), y[:2], alpha=2)
x.index_copy(1, T.tensor([3, 1]), y[:, :2])
x.index_fill(1, T.tensor([0, 2]), -1.)
x.index_put((T.tensor([0, 1]), T.tensor([2, 3])), T.tensor([5., 6.]))
x.index_put((T.tensor([0, 0]),), T.tensor(1.), accumulate=True)
x.take(T.tensor([0, -1, 5]))
x.take_along_dim(x.argsort(1), 1)
x.masked_fill(m, 0)
x.masked_fill(m, float("-inf"))
x.masked_select(m)
x.masked_scatter(m, y)
x.select(1, 2)
x.narrow(1, 1, 2)
x.unfold(1, 2, 1)
x.diagonal()
s.diagonal(1)
T.diag(v)
T.diag(s, -1)
T.diag_embed(x).shape
T.diagflat(v, 1)
s.trace()
s.tril(-1)
T.triu(s, diagonal=1)
T.ones(2, 3, 4).diagonal(dim1=1, dim2=2)
T.arange(24.).reshape(2, 3, 4).diagonal()
x.flip(0)
x.flip(0, 1)
x.flip([1])
x.flip(dims=(0, 1))
x.roll(1, 0)
x.roll((1, 2), (0, 1))
x.roll(1)
T.rot90(x)
x.t()
x.T
x.mT
x.transpose(0, 1)
x.permute(1, 0)
x.permute((1, 0))
T.permute(x, (1, 0))
T.transpose(x, 0, 1)
x.movedim(0, 1)
T.movedim(T.ones(2, 3, 4), (0, 1), (2, 0)).shape
x.squeeze(0).shape
x[None].squeeze(0).shape
x[None, :, None].squeeze().shape
x.unsqueeze(-1).shape
x.unsqueeze(dim=1).shape
x.view(-1)
x.view(2, 6)
x.view(-1, 2, 2).shape
x.reshape((4, 3))
x.flatten()
T.flatten(T.ones(2, 3, 4), 1).shape
T.flatten(T.ones(2, 3, 4), start_dim=0, end_dim=1).shape
x.unflatten(1, (2, -1)).shape
x.expand(2, 3, 4).shape
x[:1].expand(5, -1)
x[:1].expand_as(x)
x.repeat(2, 1)
x.repeat(2, 1, 1).shape
x.tile((2,))
v.repeat_interleave(2)
x.repeat_interleave(2, dim=1)
x.repeat_interleave(T.tensor([1, 0, 2]), dim=0)
T.cat([x, y])
T.cat((x, y), dim=1)
T.cat([x, y], -1)
T.stack([x, y])
T.stack((x, y), dim=-1)
T.hstack([x, y])
T.vstack((v, v))
T.column_stack((v, v))
T.concatenate([x, y], dim=1)
x.split(2)
x.split([1, 3], dim=1)
T.split(x, 2, dim=1)
x.chunk(2, dim=1)
T.chunk(x, 3)
x.unbind()
T.unbind(x, dim=1)
[r.sum() for r in x]
T.tensor_split(v, 3)
T.meshgrid(T.arange(2), T.arange(3), indexing="ij")
T.meshgrid(T.arange(2), T.arange(3), indexing="xy")
T.cartesian_prod(T.arange(2), T.arange(3))
T.combinations(T.arange(4), 2)
T.block_diag(s, x)
T.kron(s[:2, :2], x)
T.outer(v, v)
T.dot(v, v)
x @ v
x.mm(y.T)
T.mv(x, v)
T.bmm(T.ones(2, 3, 4), T.ones(2, 4, 5)).shape
T.addmm(x[:, :3], x, y.T, beta=0.5, alpha=2)
T.baddbmm(T.ones(2, 3, 3), T.ones(2, 3, 4), T.ones(2, 4, 3))
T.einsum("ij,kj->ik", x, y)
T.tensordot(x, y, dims=([1], [1]))
T.inner(x, y)
T.cdist(x, y)
T.cdist(x, y, p=1)
T.cross(x[:, :3], y[:, :3], dim=1)
T.add(x, y, alpha=2)
T.sub(x, 1, alpha=2)
x.add(y, alpha=-1)
T.mul(x, 2)
T.div(x, y, rounding_mode="floor")
T.div(i, 3, rounding_mode="trunc")
T.true_divide(i, 2)
x // 0.5
x % 0.7
-7 % T.tensor([3, -3])
x.pow(2)
2 ** x
1 / x
1 - x
x ** 0.5
x.abs() ** 0.5
x.round(decimals=1)
x.clamp(-0.5, 0.5)
x.clamp(min=0)
x.clip(max=0.3)
T.clamp(x, min=v)
x.clamp_min(0.1)
x.sign()
x.frac()
x.trunc()
x.square()
T.lerp(x, y, 0.3)
T.addcmul(x, x, y, value=0.5)
T.addcdiv(x, x, y, value=0.5)
T.hypot(x, y)
T.atan2(x, y)
T.copysign(x, y)
T.logaddexp(x, y)
T.xlogy(x.abs(), y.abs())
T.erf(x)
T.erfc(x)
T.erfinv(x / 4)
T.lgamma(x.abs())
T.digamma(x.abs())
T.polygamma(1, x.abs())
T.exp2(x)
T.log10(x.abs())
T.expm1(x)
T.sigmoid(x)
T.logit(x.sigmoid(), eps=1e-3)
T.sinc(x)
T.nan_to_num(x / 0)
T.isclose(x, x + 1e-9)
T.allclose(x, x)
T.equal(x, x)
T.heaviside(x, v)
T.float_power(x.abs(), 2)
T.deg2rad(x)
T.fmod(x, 0.4)
T.remainder(x, -0.4)
T.maximum(x, y)
T.fmax(x, y)
T.logical_and(m, x > 0)
m & (x > 0)
m | ~m
m ^ m
~m
i & 1
i | 4
i << 1
i >> 1
5 & i
T.bitwise_xor(i, 1)
x.eq(y)
x == x
x.ne(0)
x.gt(0).float()
(x > 0).sum(1)
(x > 0).float().mean()
x.isnan().any()
T.zeros_like(x, dtype=T.int64)
T.ones_like(i)
T.full_like(x, 3)
T.full((2, 2), 7)
T.full((2,), 1.5)
T.zeros(2, 3)
T.zeros((2, 3), dtype=T.bool)
T.ones(3, dtype=T.long)
T.arange(5)
T.arange(1, 2, 0.25)
T.arange(0, 5, dtype=T.float32)
T.arange(end=4)
T.arange(start=1, end=7, step=2)
T.linspace(0, 1, 5)
T.linspace(start=0, end=1, steps=3)
T.logspace(0, 2, 3)
T.eye(3)
T.eye(2, 3)
T.tril_indices(3, 3)
T.triu_indices(3, 4, 1)
T.tensor(3)
T.tensor([1.5, 2])
T.tensor([True, False])
T.tensor([[1, 2], [3, 4]], dtype=T.float)
T.scalar_tensor(3)
T.as_tensor([1, 2])
x.new_zeros(2)
x.new_zeros((2, 3), dtype=T.int64)
x.new_ones(2, 2)
i.new_full((2,), 3)
x.new_tensor([1, 2])
x.long()
x.int()
x.double()
x.half()
x.bool()
i.float()
x.to(T.float64)
x.to(i)
x.type_as(i)
x.size()
x.size(1)
x.size(-1)
x.shape[0]
x.numel()
x.dim()
len(x)
x.is_floating_point()
T.is_tensor(x)
T.numel(x)
x.tolist()
x[0, 0].item()
x.sum().item()
x.abs().add(1).log()
x.broadcast_to((2, 3, 4)).shape
T.broadcast_shapes((3, 1), (4,))
T.broadcast_tensors(x, v)[1]
x.sum_to_size(1, 4)
x.contiguous().view(-1).shape
x.T.contiguous()
x.clone().add_(1)
x.clone().mul_(y)
x.clone().clamp_(0, 1)
x.clone().div_(2).sub_(y, alpha=2)
x.clone().zero_()
x.clone().fill_(2)
i.clone().fill_(2.7)
x.clone().copy_(y)
x.clone().copy_(v)
x.clone().masked_fill_(m, 0.)
x.clone().addcmul_(x, y, value=0.1)
x.clone().addcdiv_(x, y, value=-0.1)
x.clone().lerp_(y, 0.9)
x.clone().exp_()
x.clone().pow_(2)
x.clone().tril_()
x.clone().index_fill_(0, T.tensor([1]), 3)
s.clone().fill_diagonal_(0)
s.clone().diagonal().fill_(9)
T.nn.functional.one_hot(k)
T.nn.init.constant_(T.nn.Linear(2, 2).weight.data, 3.0)
T.nn.init.uniform_(T.empty(2), a=1.0, b=1.0)
x.cumprod(1)
x.prod()
x.prod(1)
x.prod(dim=0, keepdim=True)
T.multinomial(T.tensor([0., 1., 0.]), 3, replacement=True)
T.bernoulli(T.ones(3))
T.randint(3, 4, (2,))
T.randint(1, (2, 2))
T.randint(high=1, size=(2,))
T.rand(2, 3).shape
T.randn((2, 3)).shape
T.rand_like(x).shape
T.randn_like(x).dtype == T.float32
T.normal(0., 0., size=(2,))
T.normal(x, T.zeros(3, 4))
T.randperm(1)
T.empty(2, 3).shape
T.inf
T.pi
x.ravel()
x.nelement()
T.atleast_2d(v)
T.mm(x, y.t())
T.chain_matmul(x, y.T, x)
x.T @ y
sum(x)
sorted([3, 1])
3 in T.tensor([1, 3])
bool(T.tensor([1]))
int(T.tensor(3.7))
float(x[0, 0])
T.tensor(2) * 1.5
T.tensor([2]) / 2
T.tensor([7]) // 2
T.ones(2, dtype=T.int32) + T.ones(2, dtype=T.int64)
(T.ones(2, dtype=T.float16) + 1).dtype == T.float16
m.float() @ v
m + m
m * 2
i * m
i.float() / i.clamp(min=1)
i.remainder(3)
""".strip().splitlines()


def values(T):
    rng = np.random.default_rng(3)

    def real(*shape):
        return T.tensor(rng.normal(size=shape).astype("float32"))
    return {"T": T, "x": real(3, 4), "y": real(3, 4), "v": real(4), "s": real(4, 4),
            "i": T.tensor(rng.permuted(np.tile(np.arange(4), (3, 1)), axis=1)), "k": T.tensor(np.array([1, 0, 3, 3, 1])),
            "m": T.tensor(rng.random((3, 4)) < 0.5), "row": T.tensor(np.array([True, False, True]))}


def plain(y):
    """Tensors as arrays, whatever holds them; sizes as tuples."""
    if isinstance(y, (list, tuple)):
        return [plain(z) for z in y]
    return y.numpy() if hasattr(y, "numpy") else y


def same(ours, theirs, where):
    if isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), where
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, where)
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        assert_close(ours, theirs, 2e-6 if theirs.dtype.kind == "f" else None, where)
    else:
        assert ours == pytest.approx(theirs, nan_ok=True), where


@pytest.mark.parametrize("line", LINES)
def test_a_line_means_what_it_means_in_pytorch(line):
    same(plain(eval(line, values(ndl))), plain(eval(line, values(torch))), line)


def test_numpys_keyword_gives_numpys_result(rng):
    a = rng.normal(size=(3, 4)).astype("float32")
    x = ndl.tensor(a)
    assert_close(x.max(axis=1), a.max(axis=1))
    assert_close(x.min(axis=(0, 1), keepdims=True), a.min(axis=(0, 1), keepdims=True))
    assert_close(ndl.max(x, axis=0), a.max(axis=0))
    with pytest.raises(ShapeError, match="length 3"):
        x.squeeze(axis=0)                                   # PyTorch's call, squeeze(0), leaves the axis
    assert x.squeeze(0).shape == (3, 4)


def test_values_and_indices_have_names_and_gradients(rng):
    x = ndl.tensor(rng.normal(size=(3, 5)), requires_grad=True)
    for found in (x.max(1), x.min(dim=1), x.sort(1), x.topk(2), x.median(1), x.kthvalue(2), x.mode(1), x.cummax(1)):
        values, indices = found
        assert found.values is values and found.indices is indices and indices.dtype == np.int64
        assert not indices.requires_grad
        (g,) = ndl.grad(values.sum(), x)
        assert_close(g.sum(), float(values.numel()), 1e-12)

# --- what is no call of ours says so --------------------------------------------------------------------------------------

FLOATS, WHOLE = np.ones((3, 4), "float32"), np.arange(12).reshape(3, 4)


@pytest.mark.parametrize(("call", "kind", "words"), [
    (lambda x, i: i.add_(0.6), DTypeError, ["float32", "int64"]),
    (lambda x, i: i.__iadd__(0.6), DTypeError, ["float32", "int64"]),
    (lambda x, i: i.__itruediv__(2), DTypeError, ["float32", "int64"]),
    (lambda x, i: i.mul_(x), DTypeError, ["float32", "int64"]),
    (lambda x, i: (x > 0).add_(i), DTypeError, ["int64", "bool"]),
    (lambda x, i: i.sqrt_(), DTypeError, ["float32", "int64"]),
    (lambda x, i: x.add_(ndl.ones(2, 3, 4)), ShapeError, ["(2, 3, 4)", "(3, 4)"]),
    (lambda x, i: x[ndl.ones(3, dtype="uint8")], DTypeError, ["uint8", ".bool()", ".long()"]),
    (lambda x, i: x.__setitem__(ndl.ones(3, dtype="uint8"), 0), DTypeError, ["uint8", ".bool()"]),
    (lambda x, i: x[:, np.ones(4, "uint8")], DTypeError, ["uint8"]),
    (lambda x, i: x.masked_fill(i, 0.0), DTypeError, ["int64", "bool"]),
    (lambda x, i: x.masked_select(i), DTypeError, ["int64", "bool"]),
    (lambda x, i: ndl.scaled_dot_product_attention(x, x, x, ndl.ones(3, 3, dtype="uint8")), DTypeError, ["uint8", "bool"]),
    (lambda x, i: x.gather(1, i - 1), ShapeError, ["-1", "0 to 3"]),
    (lambda x, i: x.gather(1, i), ShapeError, ["11", "0 to 3"]),
    (lambda x, i: x.scatter(1, i - 2, 1.0), ShapeError, ["-2"]),
    (lambda x, i: x.scatter_add(1, i - 2, x), ShapeError, ["-2"]),
    (lambda x, i: x.scatter_reduce(1, i - 2, x, "amax"), ShapeError, ["-2"]),
    (lambda x, i: x.index_select(0, ndl.tensor([-1])), ShapeError, ["-1", "0 to 2"]),
    (lambda x, i: x.index_add(0, ndl.tensor([-1]), x[:1]), ShapeError, ["-1"]),
    (lambda x, i: x.index_copy(0, ndl.tensor([3]), x[:1]), ShapeError, ["3"]),
    (lambda x, i: x.index_fill(0, ndl.tensor([-4]), 0), ShapeError, ["-4"]),
    (lambda x, i: ndl.nn.Embedding(5, 2)(ndl.tensor([-1])), ShapeError, ["-1", "0 to 4"]),
    (lambda x, i: ndl.nn.Embedding(5, 2)(ndl.tensor([-100])), ShapeError, ["-100"]),
    (lambda x, i: ndl.nn.functional.embedding(ndl.tensor([5]), ndl.ones(5, 2)), ShapeError, ["5", "0 to 4"]),
    (lambda x, i: ndl.nn.functional.one_hot(ndl.tensor([-1]), 3), NeedleError, ["-1"]),
    (lambda x, i: x.scatter(1, i[:, :2] * 0, i), DTypeError, ["int64", "float32"]),
    (lambda x, i: x[:1].expand(3, 4).add_(1), ArgumentError, ["expanded", ".clone()"]),
    (lambda x, i: x[:0].median(0), ShapeError, ["no values"]),
    (lambda x, i: x.max((0, 1)), ArgumentError, ["one axis", "amax"]),
    (lambda x, i: x.topk(5), ArgumentError, ["k=5"]),
    (lambda x, i: x.kthvalue(0), ArgumentError, ["k=0", "from 1"]),
    (lambda x, i: x.mm(x[0]), ShapeError, ["mm", "(3, 4)", "(4,)"]),
    (lambda x, i: x.bmm(x), ShapeError, ["bmm", "(3, 4)"]),
    (lambda x, i: x.repeat(2), ShapeError, ["repeat", "tile"]),
    (lambda x, i: x.narrow(1, 2, 3), ShapeError, ["2 to 5", "length 4"]),
    (lambda x, i: x.std(1, correction=1, unbiased=False), ArgumentError, ["correction", "unbiased"]),
    (lambda x, i: x.sum(1, axis=0), ArgumentError, ["axis"]),
    (lambda x, i: x.flatten(beginning=1), ArgumentError, ["flatten", "beginning"]),
    (lambda x, i: ndl.cat(x), ArgumentError, ["list"]),
    (lambda x, i: ndl.div(x, 2, rounding_mode="up"), ArgumentError, ["up", "trunc"]),
    (lambda x, i: x.view_as_real(), NotPartError, ["fourier"]),
    (lambda x, i: x.transpose_(0, 1), NotPartError, ["in place"]),
    (lambda x, i: ndl.save, NotPartError, ["save_state_dict"]),
    (lambda x, i: ndl.fft.rfft, NotPartError, ["fourier"]),
])
def test_what_would_mean_something_else_is_an_error(call, kind, words):
    with pytest.raises(kind) as caught:
        call(ndl.tensor(FLOATS), ndl.tensor(WHOLE))
    assert all(word in str(caught.value) for word in words), str(caught.value)

# --- in place ------------------------------------------------------------------------------------------------------------


def test_in_place_forms_write_into_the_same_memory():
    x = ndl.ones(3)
    view, before = x[:2], x.numpy()
    assert x.add_(1).mul_(2) is x and x.numpy() is before and view.tolist() == [4, 4]
    y = ndl.tensor([5, 7])
    z = y
    y //= 2
    y **= 2
    y <<= 1
    assert z is y and z.tolist() == [8, 18]


@pytest.mark.parametrize("change", [lambda x: x.add_(1), lambda x: x.exp_(), lambda x: x.clamp_(0, 1),
                                    lambda x: x.normal_()])
def test_in_place_forms_keep_to_the_rules_of_the_graph(change):
    w = ndl.ones(3, requires_grad=True)
    for x in (w, w * 2):
        with pytest.raises(GraphError):
            change(x)
    with ndl.no_grad():
        change(w)
    x = ndl.ones(3)
    y = (w * x).sum()
    change(x)
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()
    with pytest.raises(GraphError):
        ndl.ones(3).add_(w)                                 # would cut off w's gradient


def test_random_in_place_forms_draw_what_they_say(rng):
    g = ndl.Generator(0)
    x = ndl.empty(20_000)
    assert abs(x.normal_(3, 2, generator=g).mean().item() - 3) < 0.1 and abs(x.std().item() - 2) < 0.1
    assert x.uniform_(-1, 5, generator=g).min().item() >= -1 and abs(x.mean().item() - 2) < 0.1
    assert abs(x.bernoulli_(0.3).mean().item() - 0.3) < 0.02 and set(x.unique().tolist()) == {0, 1}
    assert abs(x.exponential_(2).mean().item() - 0.5) < 0.02
    assert set(ndl.empty(1000, dtype="int64").random_(3, 6).unique().tolist()) == {3, 4, 5}
    drawn = ndl.multinomial(ndl.tensor([[1.0, 0.0, 3.0]]), 20_000, replacement=True)
    assert abs((drawn == 2).float().mean().item() - 0.75) < 0.02 and not (drawn == 1).any()
    assert sorted(ndl.multinomial(ndl.tensor([1.0, 2.0, 3.0]), 3).tolist()) == [0, 1, 2]

# --- pieces are views, and one step of the graph --------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [lambda x: x.unbind(0), lambda x: x.split(1), lambda x: list(x), lambda x: x.chunk(3),
                                 lambda x: x.tensor_split(3), lambda x: (x.diagonal(), x.select(0, 1), x.narrow(1, 0, 2))])
def test_pieces_share_memory_and_are_watched(cut):
    x = ndl.tensor(np.arange(12.0).reshape(3, 4))
    pieces = cut(x)
    pieces[1].fill_(-1.0)
    assert (x == -1.0).any()
    w = ndl.ones(3, 4, dtype="float64", requires_grad=True)
    y = (w * x).sum()
    pieces[0].zero_()
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


def test_pieces_are_one_step_of_the_graph(rng):
    x = ndl.tensor(rng.normal(size=(7, 3)), requires_grad=True)
    assert len({id(row.node) for row in x}) == len({id(part.node) for part in x.split(2)}) == 1
    rows = list(x)
    (g,) = ndl.grad((rows[1] * rows[4]).sum(), x)
    expected = np.zeros((7, 3))
    expected[1], expected[4] = x.numpy()[4], x.numpy()[1]
    assert_close(g, expected)
    (g,) = ndl.grad(ndl.stack([row * 2.0 for row in x]).sum(), x)
    assert_close(g, np.full((7, 3), 2.0))


@pytest.mark.parametrize("zeros", [(), (2,), (0,), (5,), (1, 4), (0, 1, 2)])
def test_the_gradient_of_cumprod_with_zeros(zeros, rng):
    a = rng.normal(size=(6, 3))
    a[list(zeros), 1] = 0.0
    g = rng.normal(size=(6, 3))
    x, t = ndl.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    (ours,) = ndl.grad(x.cumprod(0), x, gradients=ndl.tensor(g), create_graph=True)
    (theirs,) = torch.autograd.grad(t.cumprod(0), t, torch.tensor(g), create_graph=True)
    assert_close(ours, theirs.detach(), 1e-12)
    assert_close(ndl.grad((ours * ours).sum(), x)[0], torch.autograd.grad((theirs * theirs).sum(), t)[0], 1e-11)


def test_topk_takes_the_first_of_equals_and_nan_as_the_largest(rng):
    x = ndl.tensor(rng.integers(0, 3, 1000).astype("float32"))
    values, places = x.topk(5)
    assert places.tolist() == np.flatnonzero(x.numpy() == 2)[:5].tolist() and values.tolist() == [2] * 5
    x[700] = math.nan
    assert x.topk(1).indices.tolist() == [700] and x.max(0).indices.item() == 700 and math.isnan(x.median().item())
    assert x.kthvalue(1).values.item() == 0 and not math.isnan(x.nanmedian().item())

# --- a method or function of PyTorch's is there, or says why it is not ----------------------------------------------------


def names_of(place):
    """What a room of PyTorch's offers: functions, and classes of layers."""
    return [name for name in dir(place) if name[0] != "_" and callable(getattr(place, name))
            and (inspect.isclass if place is torch.nn else inspect.isroutine)(getattr(place, name))]


@pytest.mark.parametrize("room", ["", "nn", "nn.functional", "linalg"])
def test_every_name_of_a_room_is_there_or_refused(room):
    theirs, ours = torch, ndl
    for part in filter(None, room.split(".")):
        theirs, ours = getattr(theirs, part), getattr(ours, part)
    prefix = f"{room}." if room else ""
    assert [n for n in names_of(theirs) if not hasattr(ours, n) and not reason(prefix + n)] == []


def test_every_method_of_a_tensor_is_there_or_refused():
    mine = ndl.ones(2)
    names = [name for name in dir(torch.Tensor) if name[0] != "_"]
    assert [n for n in names if not hasattr(ndl.Tensor, n) and n not in dir(mine) and not reason(f"Tensor.{n}")] == []


def test_a_refusal_is_for_what_is_not_there():
    from needle_lab.refused import REFUSED
    there = [key for key in REFUSED if not set(key) & set("*.[") and hasattr(ndl, key)]
    there += [key for key in REFUSED if key.startswith("Tensor.") and "*" not in key and hasattr(ndl.ones(1), key[7:])]
    assert there == []


# --- numbers, slices and lists in one index -------------------------------------------------------------------------------

ALL = slice(None)


@pytest.mark.parametrize("shape, index", [
    ((4, 3, 3), (0, ALL, [0, 1, 2])), ((4, 3, 2), (0, ALL, [1, 0])), ((4, 3, 2), (0, ..., [1, 0])),
    ((4, 3, 2), (0, None, [1, 2])), ((2, 3, 4, 5), (ALL, 0, ALL, [1, 2])), ((2, 3, 4, 5), (0, ALL, ALL, [[1, 2]])),
    ((4, 3, 3), (-1, ALL, [True, False, True])),
    ((2, 3, 4, 5), (1, [0, 2])), ((2, 3, 4, 5), ([0, 1], 2)), ((2, 3, 4, 5), (0, [0, 1], slice(1, 3), [1, 2])),
    ((2, 3, 4), ([[True] * 3] * 2, 1)), ((4, 3, 2), (0, ALL, 1)), ((4, 3), ([0, 2],)), ((4, 3), (2, []))])
def test_numbers_in_an_index_come_before_its_lists(shape, index, rng):
    """Reading, its gradient, and writing: where NumPy would put the axis of the list first."""
    array, pick = rng.normal(size=shape), lambda lib: tuple(lib.tensor(i, dtype=None if i else lib.int64)
                                                            if isinstance(i, list) else i for i in index)
    ours, theirs = ndl.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    y, t = ours[pick(ndl)], theirs[pick(torch)]
    assert tuple(y.shape) == tuple(t.shape) and np.array_equal(y.detach().numpy(), t.detach().numpy())
    g = rng.normal(size=tuple(t.shape))
    y.backward(ndl.tensor(g))
    t.backward(torch.tensor(g))
    assert np.array_equal(ours.grad.numpy(), theirs.grad.numpy())
    a, b = ours.detach().clone(), theirs.detach().clone()
    a[pick(ndl)], b[pick(torch)] = ndl.tensor(g), torch.tensor(g)
    assert np.array_equal(a.numpy(), b.numpy())


def test_an_index_that_changes_before_backward_has_been_read():
    x, i = ndl.tensor(np.arange(5.0), requires_grad=True), ndl.tensor([0, 2])
    y = x[i]
    i.fill_(4)
    y.sum().backward()
    assert x.grad.tolist() == [1, 0, 1, 0, 0]


def test_what_flips_is_a_copy():
    x = ndl.ones(2, 3)
    for made in (x.flip(0), x.flip((0, 1)), ndl.fliplr(x), ndl.rot90(x)):
        made.zero_()
    assert x.sum().item() == 6


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "NAdam", "Rprop"])
def test_a_setting_may_be_a_tensor(name):
    p, q = (ndl.nn.Parameter(np.ones(2, "float32")) for _ in range(2))
    for parameter, lr in ((p, 0.1), (q, ndl.tensor(0.1))):
        optimizer = getattr(ndl.optim, name)([parameter], lr=lr)
        for _ in range(2):
            optimizer.zero_grad()
            (parameter * parameter).sum().backward()
            optimizer.step()
            optimizer.param_groups[0]["lr"] = ndl.tensor(0.05) if parameter is q else 0.05
    assert np.allclose(p.numpy(), q.numpy(), rtol=1e-6) and p.numpy()[0] < 1
    for wrong in ("0.1", True, None):
        with pytest.raises(ndl.errors.ArgumentError, match="lr is a number"):
            ndl.optim.SGD([p], lr=wrong)


def test_a_name_that_is_taken_is_not_given_again():
    layer = ndl.nn.Linear(2, 2)
    for call in (lambda: layer.register_buffer("weight", ndl.ones(2, 2)), lambda: layer.add_module("weight", ndl.nn.ReLU()),
                 lambda: layer.register_buffer("a.b", ndl.ones(1)), lambda: layer.register_parameter("forward", None)):
        with pytest.raises(ndl.errors.ArgumentError, match="give the"):
            call()
    assert len(list(layer.parameters())) == 2
    missing, unexpected = layer.load_state_dict({"other": ndl.ones(1)}, strict=False)
    assert missing == ["weight", "bias"] and unexpected == ["other"]
