"""Idioms: one line of a program, with PyTorch's module and with ours, gives the same values, shapes and dtypes; or an error
of ours that says which call is meant. What is found by its name alone stands in test_torch_samples.py."""

import numpy as np
import pytest
from conftest import assert_close
from peers import require

import needle_lab as ndl
from needle_lab.errors import DTypeError, GraphError, NeedleError, NotPartError, ShapeError

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
    make = lambda a: T.tensor(a)
    return {"T": T, "x": make(rng.normal(size=(3, 4)).astype("float32")), "y": make(rng.normal(size=(3, 4)).astype("float32")),
            "v": make(rng.normal(size=4).astype("float32")), "s": make(rng.normal(size=(4, 4)).astype("float32")),
            "i": make(rng.permuted(np.tile(np.arange(4), (3, 1)), axis=1)), "k": make(np.array([1, 0, 3, 3, 1])),
            "m": make(rng.random((3, 4)) < 0.5), "row": make(np.array([True, False, True]))}


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
