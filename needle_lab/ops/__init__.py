"""The textbook: each op's definition, gradient rule and ONNX name, side by side in the file of its family.

A definition is the formula in plain NumPy, as one would write it on a board. Nothing here is fast; what is, stands in
`needle_lab.kernels`, and is compared with the definitions by the tests.
"""

# ruff: noqa: I001    names side by side: these lists are read as a table of contents

from .activations import (
    celu, elu, gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, log_sigmoid, log_softmax, mish, prelu,
    relu, relu6, selu, sigmoid, silu, softmax, softplus, softsign,
)
from .convolutions import conv, conv1d, conv2d, conv3d, conv_transpose, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .dot_product import scaled_dot_product_attention
from .elementwise import (
    abs, acos, acosh, add, allclose, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_not, bitwise_or, bitwise_xor,
    ceil, clamp, clip, cos, cosh, div, eq, erf, exp, expm1, floor, floor_divide, fmod, ge, gt, isfinite, isinf, isnan,
    le, log, log1p, log2, logical_and, logical_not, logical_or, logical_xor, lt, masked_fill, maximum, minimum, mul, ne,
    neg, pow, reciprocal, remainder, round, rsqrt, sign, sin, sinh, sqrt, square, sub, tan, tanh, trunc, where,
)
from .indexing import (
    diagonal, embedding, gather, index_put, index_select, nonzero, one_hot, pad, repeat_interleave, scatter, scatter_add,
    take_along_axis,
)
from .linalg import cosine_similarity, dot, einsum, linear, matmul, normalize, outer, trace
from .loss import (
    binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, hinge_loss, huber_loss, kl_div, l1_loss,
    mse_loss, nll_loss, smooth_l1_loss,
)
from .margins import margin_ranking_loss
from .noise import dropout, feature_dropout
from .normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from .pool import (
    adaptive_avg_pool, adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool,
    adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d, avg_pool, avg_pool1d, avg_pool2d, avg_pool3d,
    global_avg_pool, global_max_pool, lp_pool, max_pool, max_pool1d, max_pool2d, max_pool3d,
)
from .reduce import (
    all, amax, amin, any, argmax, argmin, argsort, cumprod, cumsum, logsumexp, max, mean, min, norm, prod, sort, std,
    sum, topk, var,
)
from .shape import (
    cast, cat, chunk, clone, concat, concatenate, expand, flatten, flip, movedim, ones_like, permute, reshape, roll,
    split, squeeze, stack, swapaxes, tile, transpose, tril, triu, unbind, unsqueeze, zeros_like,
)
from .spectral import fourier
from . import methods as _methods       # gives tensors their operators and methods, which are the functions above

# The public names; what else a file of ops holds, ops are made of, and kernels and layers import it from there.
__all__ = [
    "abs", "acos", "acosh", "adaptive_avg_pool", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "all", "allclose",
    "amax", "amin", "any", "argmax", "argmin", "argsort", "asin", "asinh", "atan", "atan2", "atanh", "avg_pool",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "cast", "cat", "ceil", "celu", "chunk", "clamp", "clip",
    "clone", "concat", "concatenate", "conv", "conv1d", "conv2d", "conv3d", "conv_transpose", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "cos", "cosh", "cosine_similarity", "cross_entropy", "cumprod", "cumsum",
    "diagonal", "div", "dot", "dropout", "einsum", "elu", "embedding", "eq", "erf", "exp", "expand", "expm1",
    "feature_dropout", "flatten", "flip", "floor", "floor_divide", "fmod", "fourier", "gather", "ge", "gelu",
    "gelu_tanh", "global_avg_pool", "global_max_pool", "group_norm", "gt", "hardsigmoid", "hardswish", "hardtanh",
    "hinge_loss", "huber_loss", "index_put", "index_select", "instance_norm", "isfinite", "isinf", "isnan", "kl_div",
    "l1_loss", "layer_norm", "le", "leaky_relu", "linear", "log", "log1p", "log2", "log_sigmoid", "log_softmax",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logsumexp", "lp_pool", "lt", "margin_ranking_loss",
    "masked_fill", "matmul", "max", "max_pool", "max_pool1d", "max_pool2d", "max_pool3d", "maximum", "mean", "min",
    "minimum", "mish", "movedim", "mse_loss", "mul", "ne", "neg", "nll_loss", "nonzero", "norm", "normalize", "one_hot",
    "ones_like", "outer", "pad", "permute", "pow", "prelu", "prod", "reciprocal", "relu", "relu6", "remainder",
    "repeat_interleave", "reshape", "rms_norm", "roll", "round", "rsqrt", "scaled_dot_product_attention", "scatter",
    "scatter_add", "selu", "sigmoid", "sign", "silu", "sin", "sinh", "smooth_l1_loss", "softmax", "softplus", "softsign",
    "sort", "split", "sqrt", "square", "squeeze", "stack", "std", "sub", "sum", "swapaxes", "take_along_axis", "tan",
    "tanh", "tile", "topk", "trace", "transpose", "tril", "triu", "trunc", "unbind", "unsqueeze", "var", "where",
    "zeros_like",
]
