"""PyTorch's own sample inputs (they come with its wheel), run on needle_lab: ops, modules, optimizers.

    python tests/torch_samples.py ops|modules|optimizers [REGEX]        what is wrong or missing, one line each, and counts

A name is looked for where a person who knows PyTorch would: nn.functional.relu in ndl.nn.functional, linalg.inv in
ndl.linalg, amax in ndl, else among the methods of Tensor. Right is what gives PyTorch's value (float32, to 1e-5 of the
scale), shape and dtype at every sample, and its gradients (float64, to 1e-7). Left out are samples with what needle_lab
does not have by design (complex numbers, sparse tensors, memory formats, out=), and random ones.
"""

from __future__ import annotations

import collections
import contextlib
import re
import sys
import warnings
from dataclasses import dataclass

import numpy as np
import torch

import needle_lab as ndl
from needle_lab.refused import reason

DTYPES = {getattr(torch, name): name for name in
          "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()}
RANDOM = re.compile(r"normal|uniform|rand|bernoulli|multinomial|dropout|cauchy|exponential|geometric|rrelu|^(new_)?empty|"
                    "zero_$|fill_$")
MOST = 30                       # samples of one function
SLOW = {"nn.TransformerEncoder": 4, "nn.TransformerDecoder": 4}
# Samples that PyTorch's tests hand over in another order than its function takes them.
ORDER = {
    "where": lambda f: lambda x, condition, other: f(condition, x, other),
    "einsum": lambda f: lambda tensors, equation: f(equation, *tensors),
    "nn.functional.embedding": lambda f: lambda weight, indices, **k: f(indices, weight, **k),
    "nn.functional.embedding_bag": lambda f: lambda weight, indices, *a, **k: f(indices, weight, *a, **k),
    "linalg.lstsq grad_oriented": lambda f: lambda a, b, driver=None: f(a, b, driver=driver)[:2],
    "linalg.pinv singular": lambda f: lambda a, b: f(a @ b.mT)}


class LeftOut(Exception):
    """A sample that needle_lab does not try."""


@dataclass
class Row:
    name: str
    state: str                  # right, wrong, missing, or nothing to try
    why: str = ""               # the first sample that is wrong


def found(name):
    """What needle_lab offers under a name of PyTorch's, or None."""
    for path in [name, name.split(".")[-1]] if name.startswith("special.") else [name]:
        place = ndl
        with contextlib.suppress(AttributeError):
            for part in path.split("."):
                place = getattr(place, part)
            if callable(place):
                return place
    method = getattr(ndl.Tensor, name, None) if "." not in name else None
    return (lambda x: getattr(x, name)) if isinstance(method, property) else method


# --- from PyTorch to needle_lab, and back ----------------------------------------------------------------------------------


def ours(x, leaves=None):
    """An argument of PyTorch's as ours. Tensors that require a gradient become leaves, noted as (theirs, ours)."""
    if isinstance(x, torch.Tensor):
        if x.is_complex() or x.layout is not torch.strided or x.is_quantized or x.dtype not in DTYPES:
            raise LeftOut
        wants = leaves is not None and x.requires_grad
        if wants and (known := [mine for theirs, mine in leaves if theirs is x]):
            return known[0]                                    # one tensor as two arguments
        made = ndl.tensor(plain(x).copy(), dtype=DTYPES[x.dtype], requires_grad=wants)
        if wants:
            leaves.append((x, made))
        return made
    if isinstance(x, (torch.memory_format, torch.layout, torch.Generator, complex, torch.nn.Module)):
        raise LeftOut
    if isinstance(x, torch.dtype):
        if x not in DTYPES:
            raise LeftOut
        return DTYPES[x]
    if isinstance(x, torch.device):
        return "cpu"
    if isinstance(x, dict):
        return {key: ours(value, leaves) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return (list if type(x) is list else tuple)(ours(value, leaves) for value in x)
    if callable(x) and not isinstance(x, type):
        return getattr(ndl.nn.functional, getattr(x, "__name__", ""), x)
    return x


def keywords(given, leaves=None):
    if given.get("out") is not None or given.get("dropout_p") or {"memory_format", "layout", "generator",
                                                                  "pin_memory"} & set(given):
        raise LeftOut
    return {key: ours(value, leaves) for key, value in given.items() if key != "device"}


def flat(y):
    if isinstance(y, dict):
        y = list(y.values())
    return [z for x in y for z in flat(x)] if isinstance(y, (list, tuple)) else [] if y is None else [y]


def plain(y):
    if isinstance(y, torch.Tensor):
        if y.is_complex() or y.layout is not torch.strided:
            raise LeftOut
        y = y.detach()
        if y.dtype is torch.bfloat16:
            return y.float().numpy().astype(ndl.bfloat16)
    return np.asarray(y.numpy() if hasattr(y, "numpy") else y)


def difference(want, got, tolerance):
    """What is wrong with `got`, in words; None if nothing is."""
    want, got = flat(want), flat(got)
    if len(want) != len(got):
        return f"{len(got)} results, PyTorch {len(want)}"
    for a, b in zip(map(plain, want), map(plain, got), strict=True):
        if a.shape != b.shape:
            return f"shape {b.shape}, PyTorch {a.shape}"
        if a.dtype != b.dtype and not (a.dtype.kind == b.dtype.kind and a.ndim == 0):
            return f"{b.dtype}, PyTorch {a.dtype}"
        if a.dtype.kind not in "fV":
            if not np.array_equal(a, b):
                return "other values"
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
            return "nan or inf elsewhere"
        error = np.abs(a - b)[finite].max(initial=0) / max(np.abs(a[finite]).max(initial=0), 1e-6)
        if error > tolerance:
            return f"error {error:.1e}"
    return None


def attempt(call):
    """What `call` finds wrong; an error of needle_lab is a finding too."""
    try:
        return call()
    except Exception as error:          # of any kind: that is what is asked
        return f"{type(error).__name__}: {str(error)[:150]}"


def shown(x):
    if isinstance(x, torch.Tensor):
        return f"{str(x.dtype)[6:]}{list(x.shape)}"
    return f"[{', '.join(map(shown, x))}]" if isinstance(x, (list, tuple)) else repr(x)[:40]


def judged(name, results):
    """A row from an iterator of (sample in words, what is wrong with it or None)."""
    tried = 0
    for sample, wrong in results:
        tried += 1
        if wrong:
            return Row(name, "wrong", f"{sample}: {wrong}")
    return Row(name, "right" if tried else "nothing to try")

# --- ops -------------------------------------------------------------------------------------------------------------------


def ops():
    """-> (name, a function that gives its Row), for each op of PyTorch's."""
    from torch.testing._internal.common_methods_invocations import op_db
    for info in op_db:
        name = f"{info.name} {info.variant_test_name}".strip()
        yield name, lambda info=info, name=name: op_row(name, info)


def op_row(name, info):
    function = found(info.name)
    if RANDOM.search(info.name):
        return Row(name, "nothing to try")
    if function is None:
        return Row(name, "missing", reason(info.name) or "")
    order = ORDER.get(name) or ORDER.get(info.name, lambda f: f)
    return judged(name, op_results(info, order(function)))


def op_results(info, function):
    kind = next((d for d in (torch.float32, torch.int64, torch.bool) if d in info.dtypes), None)
    if kind is None:
        return
    for sample, args, given, _ in op_samples(info, kind, False):
        with contextlib.suppress(LeftOut):
            want = op_value(info, sample)
            process = sample.output_process_fn_grad           # what is free, such as the sign of an eigenvector
            yield said(sample), attempt(lambda a=args, g=given, w=want, p=process: difference(w, p(function(*a, **g)), 1e-5))
    if not info.supports_autograd or torch.float64 not in info.dtypes:
        return
    for sample, args, given, leaves in op_samples(info, torch.float64, True):
        with contextlib.suppress(LeftOut):
            want = [y for y in flat(op_value(info, sample)) if isinstance(y, torch.Tensor) and y.requires_grad]
            if want and leaves:
                again = lambda a=args, g=given, p=sample.output_process_fn_grad: p(function(*a, **g))
                yield f"gradient, {said(sample)}", gradients_differ(want, leaves, again, 1e-7)


def op_samples(info, dtype, requires_grad):
    torch.manual_seed(0)
    np.random.seed(0)
    for sample, _ in zip(info.sample_inputs("cpu", dtype, requires_grad=requires_grad), range(MOST), strict=False):
        leaves = []
        with contextlib.suppress(LeftOut):
            args = [ours(sample.input, leaves), *ours(list(sample.args), leaves)]
            yield sample, args, keywords(sample.kwargs, leaves), leaves


def op_value(info, sample):
    """PyTorch's answer, if it is the same twice."""
    try:
        torch.manual_seed(1)
        want = info.op(sample.input, *sample.args, **sample.kwargs)
        torch.manual_seed(2)
        again = info.op(sample.input, *sample.args, **sample.kwargs)
    except (RuntimeError, NotImplementedError) as error:
        raise LeftOut from error
    if difference(want, again, 1e-9):
        raise LeftOut
    return sample.output_process_fn_grad(want)


def said(sample):
    given = "".join(f", {key}={shown(value)}" for key, value in sample.kwargs.items())
    return f"({', '.join(map(shown, [sample.input, *sample.args]))}{given})"


def gradients_differ(want, leaves, call, tolerance):
    rng = np.random.default_rng(len(leaves))
    seeds = [rng.standard_normal(tuple(y.shape)).astype(str(y.dtype)[6:]) for y in want]
    try:
        given = [torch.tensor(g.astype(float)).to(y.dtype) for g, y in zip(seeds, want, strict=True)]
        wanted = torch.autograd.grad(want, [x for x, _ in leaves], given, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        raise LeftOut from error
    wanted = [torch.zeros_like(x) if g is None else g for g, (x, _) in zip(wanted, leaves, strict=True)]

    def compare():
        got = [y for y in flat(call()) if getattr(y, "requires_grad", False)]
        if len(got) != len(want):
            return f"{len(got)} differentiable results, PyTorch {len(want)}"
        gradients = ndl.grad(got, [x for _, x in leaves], [ndl.tensor(g) for g in seeds], allow_unused=True)
        gradients = [ndl.zeros_like(x) if g is None else g for g, (_, x) in zip(gradients, leaves, strict=True)]
        # that of a float32 tensor beside float64 ones (weights of cov) is rounded to float32, and may cancel to that
        return next((d for a, b in zip(wanted, gradients, strict=True)
                     if (a.dtype is torch.float64 or tolerance > 1e-6) and (d := difference(a, b, tolerance))), None)
    return attempt(compare)

# --- modules ---------------------------------------------------------------------------------------------------------------


def modules():
    """-> (name, a function that gives its Row), for each module of PyTorch's."""
    from torch.testing._internal.common_modules import module_db
    for info in module_db:
        yield info.name, lambda info=info: module_row(info)


def module_row(info):
    made = found(info.name)
    if made is None:
        return Row(info.name, "missing", reason(info.name) or "")
    return judged(info.name, (result for training in (False, True) for result in module_results(info, made, training)))


def module_results(info, made, training):
    torch.manual_seed(0)
    most = SLOW.get(info.name, MOST)
    for sample in info.module_inputs_func(info, "cpu", torch.float32, True, training)[:most]:
        build, given, leaves = sample.constructor_input, sample.forward_input, []
        with contextlib.suppress(LeftOut):
            if given is None:
                continue
            args, named = ours(list(build.args)), keywords({k: v for k, v in build.kwargs.items() if k != "dtype"})
            x, x_named = ours(list(given.args), leaves), keywords(given.kwargs, leaves)
            try:
                theirs = info.module_cls(*build.args, **build.kwargs).float().train(training)
                torch.manual_seed(1)
                want = theirs(*given.args, **given.kwargs)
            except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
                raise LeftOut from error
            if training and any(getattr(m, "p", 0) > 0 for m in theirs.modules() if "Dropout" in type(m).__name__):
                continue
            what = f"{'training' if training else 'eval'}, {build.args} {build.kwargs}"[:200]

            def call(args=args, named=named, x=x, x_named=x_named, theirs=theirs):
                mine = made(*args, **named).train(training)
                if theirs.state_dict():
                    mine.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
                return mine(*x, **x_named)
            wrong = attempt(lambda w=want, call=call: difference(w, call(), 1e-5))
            differentiable = [y for y in flat(want) if y.requires_grad]
            if not wrong and leaves and differentiable:
                wrong = gradients_differ(differentiable, leaves, call, 1e-4)
            yield what, wrong

# --- optimizers ------------------------------------------------------------------------------------------------------------


def optimizers():
    """-> (name, a function that gives its Row), for each optimizer of PyTorch's."""
    from torch.testing._internal.common_optimizers import optim_db
    for info in optim_db:
        yield info.optim_cls.__name__, lambda info=info: optimizer_row(info)


def optimizer_row(info):
    name = info.optim_cls.__name__
    if not hasattr(ndl.optim, name):
        return Row(name, "missing", reason(f"optim.{name}") or "")
    return judged(name, optimizer_results(info, getattr(ndl.optim, name)))


def optimizer_results(info, made):
    technical = {"foreach", "fused", "capturable", "differentiable"}
    for sample in info.optim_inputs_func(device="cpu")[:MOST]:
        given = {key: value for key, value in sample.kwargs.items() if key not in technical}
        if "foreach" in sample.kwargs or any(isinstance(value, torch.Tensor) for value in given.values()):
            continue
        yield repr(given), attempt(lambda given=given: steps_differ(info.optim_cls, made, given))


def steps_differ(theirs, ours, given):
    rng = np.random.default_rng(0)
    # From one push to the next, L-BFGS takes rounding errors for curvature: float32 then contradicts float64, PyTorch's too.
    dtype = "float64" if theirs is torch.optim.LBFGS else "float32"
    start = [rng.standard_normal(shape).astype(dtype) for shape in ((3, 4), (5,), (1,))]
    if theirs is torch.optim.Muon:                             # it takes matrices only
        start = start[:1]
    a, b = [torch.nn.Parameter(torch.tensor(x)) for x in start], [ndl.nn.Parameter(x.copy()) for x in start]
    first, second = theirs(a, **given), ours(b, **given)
    for _ in range(5):
        pushes = [rng.standard_normal(x.shape).astype(dtype) for x in start]

        def loss(optimizer, parameters, tensor, pushes=pushes):
            optimizer.zero_grad()
            total = sum((p * tensor(g)).sum() + (p * p).sum() for p, g in zip(parameters, pushes, strict=True))
            total.backward()
            return total
        if theirs is torch.optim.LBFGS:
            first.step(lambda loss=loss: loss(first, a, torch.tensor))
            second.step(lambda loss=loss: loss(second, b, ndl.tensor))
        else:
            loss(first, a, torch.tensor)
            loss(second, b, ndl.tensor)
            first.step()
            second.step()
    return difference([p.detach() for p in a], [p.detach() for p in b], 1e-4 if theirs is torch.optim.LBFGS else 1e-5)

# --- all of them -----------------------------------------------------------------------------------------------------------


def score(what, pattern=""):
    """The rows of one kind whose name fits the pattern."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [row() for name, row in {"ops": ops, "modules": modules, "optimizers": optimizers}[what]()
                if re.search(pattern, name)]


if __name__ == "__main__":
    rows = score(*sys.argv[1:])
    for row in rows:
        if row.state in ("wrong", "missing"):
            print(f"{row.state:8}{row.name}  {row.why}")
    print(*(f"{count} {state}" for state, count in collections.Counter(row.state for row in rows).items()), sep=", ")
