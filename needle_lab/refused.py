"""What PyTorch has and needle_lab does not, on purpose, and what to use instead: the table behind the errors."""

from __future__ import annotations

from .errors import NotPartError

# Names as PyTorch has them, "Tensor.x" for methods; a name with a dot at its end stands for all that begins so.
REFUSED: dict[str, str] = {
    "sparse.": "tensors are dense; a mask, or index_select and index_add, do what most programs need",
    "masked.": "masks are bool tensors beside the values: ndl.where, x.masked_fill and x[mask]",
    "jit.": "a model as data is ndl.program.trace(model, x), which prints, runs and goes out as ONNX",
    "Tensor.to_sparse": "tensors are dense; a mask, or index_select and index_add, do what most programs need",
    "optim.SparseAdam": "gradients are dense; use Adam",
    "optim.swa_utils.": "a mean of weights is a line in the loop: for p, m in zip(...): m.lerp_(p, 0.001)",
    **dict.fromkeys(("nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d", "nn.FractionalMaxPool2d",
                     "nn.FractionalMaxPool3d"), "windows of random sizes are hardly used; use adaptive max pooling"),
    **dict.fromkeys(("nn.functional.linear_cross_entropy", "nn.LinearCrossEntropyLoss"),
                    "two calls in one, to save memory; use cross_entropy(linear(x, weight, bias), target)"),
    "nn.functional.multi_head_attention_forward": "use nn.MultiheadAttention, or F.scaled_dot_product_attention",
    **dict.fromkeys(("nn.AdaptiveLogSoftmaxWithLoss", "nn.functional.adaptive_log_softmax_with_loss"),
                    "a softmax for very large vocabularies on small machines; use nn.CrossEntropyLoss"),
    **dict.fromkeys(("nn.DataParallel", "nn.SyncBatchNorm", "nn.parallel."), "one process computes on one device"),
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
