"""Losses of class numbers."""

# ruff: noqa: N802    functions are named after ONNX operators

from ... import nn, ops
from ...errors import UnsupportedOnnxError
from .table import since, writes, writes_layer


@since(13, family="pool")
def SoftmaxCrossEntropyLoss(scores, labels, weights=None, *, reduction="mean", ignore_index=-100, outputs=1):
    loss = ops.cross_entropy(scores, labels, weights, ignore_index, reduction)
    return loss if outputs == 1 else (loss, ops.log_softmax(scores, axis=1))


@since(13, family="pool")
def NegativeLogLikelihoodLoss(x, target, weight=None, *, reduction="mean", ignore_index=-100):
    return ops.nll_loss(x, target, weight, ignore_index, reduction)


@writes("class_losses")
def _class_losses(w, x, target, *, reduction):
    return w.SoftmaxCrossEntropyLoss(x, target, reduction=reduction), ""


@writes("probability_losses")
def _probability_losses(w, x, target):
    one, least = w.name(1.0, x.dtype), w.name(-100.0, x.dtype)
    hit = w.Mul(target, w.Max(w.Log(x), least))
    return w.Neg(w.Add(hit, w.Mul(w.Sub(one, target), w.Max(w.Log(w.Sub(one, x)), least))))


@writes_layer(nn.NLLLoss, nn.CrossEntropyLoss)
def _loss(w, layer, x, target):
    if getattr(layer, "label_smoothing", 0.0):
        raise UnsupportedOnnxError("export: ONNX's cross entropy has no label smoothing; pass probabilities as the target")
    operator = w.SoftmaxCrossEntropyLoss if isinstance(layer, nn.CrossEntropyLoss) else w.NegativeLogLikelihoodLoss
    return operator(x, target, layer.weight, reduction=layer.reduction, ignore_index=layer.ignore_index)
