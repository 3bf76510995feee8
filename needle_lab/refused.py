"""What PyTorch has and needle_lab does not, on purpose, and what to use instead: the table behind the errors."""

from __future__ import annotations

from .errors import NotPartError

# Names as PyTorch has them, "Tensor.x" for methods; a name with a dot at its end stands for all that begins so.
REFUSED: dict[str, str] = {
    "sparse.": "tensors are dense; a mask, or index_select and index_add, do what most programs need",
    "masked.": "masks are bool tensors beside the values: ndl.where, x.masked_fill and x[mask]",
    "save": "weights go into a file with their signature: ndl.save_state_dict(model, path), or ndl.save_checkpoint",
    "load": "ndl.load_state_dict(model, path), ndl.load_checkpoint, or ndl.load_tensors(path)",
    "compile": "ndl.plan(model, x) is a model prepared for inference; kernels are chosen by ndl.use_kernels",
    "autograd.": "ndl.grad, ndl.jacobian, ndl.hessian, ndl.vjp, ndl.jvp; a function with a rule of its own is an @ndl.op",
    "func.": "ndl.vmap, ndl.jacobian, ndl.hessian, ndl.vjp and ndl.jvp stand at the top",
    "utils.": "torch.utils.data is needle_lab.data, and checkpoint is ndl.checkpoint",
    "backends.": "there are no global switches; see ndl.use_kernels and ndl.set_num_threads",
    "amp.": "convert what should be narrow: model.to('bfloat16'); sums and products are accumulated in float32",
    "set_default_dtype": "float32 is the default; give dtype= where another is wanted, or model.to('float64')",
    "set_default_device": "a device is a value, never a global; give device=, or model.to(device)",
    "jit.": "a model as data is ndl.program.trace(model, x), which prints, runs and goes out as ONNX",
    "Tensor.to_sparse": "tensors are dense; a mask, or index_select and index_add, do what most programs need",
    "optim.SparseAdam": "gradients are dense; use Adam",
    "optim.swa_utils.": "a mean of weights is a line in the loop: for p, m in zip(...): m.lerp_(p, 0.001)",
    "nn.AdaptiveLogSoftmaxWithLoss": "a softmax for very large vocabularies on small machines; use nn.CrossEntropyLoss",
}


def reason(name: str) -> str | None:
    """Why the thing that PyTorch calls `name` is not part of needle_lab; None for a name that the table does not have."""
    parts = name.split(".")
    return next((REFUSED[key] for key in (name, *(".".join(parts[:n]) + "." for n in range(len(parts), 0, -1)))
                 if key in REFUSED), None)


def missing(place: str, name: str) -> AttributeError:
    """The error for a name that a module or a tensor does not have.  place: "nn", "Tensor", ..., or "" for needle_lab."""
    full = f"{place}.{name}" if place else name
    said = reason(full)
    if said is None:
        return AttributeError(f"'{place}' has no attribute {name!r}" if place else
                              f"module 'needle_lab' has no attribute {name!r}")
    return NotPartError(f"ndl.{full}: not part of needle_lab; {said}")
