"""The textbook: each op's definition, gradient rule and ONNX name, side by side in the file of its family.

A definition is the formula in plain NumPy, as one would write it on a board. Nothing here is fast; what is, stands in
`needle_lab.kernels`, and is compared with the definitions by the tests.
"""

# ruff: noqa: I001    names side by side: these lists are read as a table of contents

from .activations import (
    celu, elu, gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, log_sigmoid, log_softmax, mish, prelu,
    relu, relu6, selu, sigmoid, silu, softmax, softplus, softsign,
)
from .arrange import (
    atleast_1d, atleast_2d, atleast_3d, broadcast_shapes, broadcast_tensors, broadcast_to, cartesian_prod, column_stack,
    combinations, diagflat, dsplit, dstack, expand_as, fliplr, flipud, hsplit, hstack, meshgrid, narrow, ravel, repeat,
    reshape_as, rot90, row_stack, select, sum_to_size, t, tensor_split, unflatten, unfold, unravel_index, vsplit, vstack,
)
from .convolutions import conv, conv1d, conv2d, conv3d, conv_transpose, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .dot_product import scaled_dot_product_attention
from .elementwise import (
    abs, acos, acosh, add, allclose, asin, asinh, atan, atan2, atanh, bitwise_and, bitwise_not, bitwise_or, bitwise_xor,
    ceil, clamp, clamp_max, clamp_min, clip, cos, cosh, div, eq, erf, exp, expm1, floor, floor_divide, fmod, ge, gt,
    isfinite, isinf, isnan, le, log, log10, log1p, log2, logical_and, logical_not, logical_or, logical_xor, lt,
    masked_fill, maximum, minimum, mul, ne, neg, pow, reciprocal, remainder, round, rsqrt, sign, sin, sinh, sqrt, square,
    sub, tan, tanh, trunc, where,
)
from .formulas import (
    addcdiv, addcmul, bitwise_left_shift, bitwise_right_shift, copysign, deg2rad, equal, fill, float_power, fmax, fmin,
    frac, gcd, heaviside, is_floating_point, is_tensor, isclose, isneginf, isposinf, lcm, ldexp, lerp, nan_to_num, numel,
    positive, rad2deg, rsub, signbit,
)
from .indexing import (
    embedding, gather, index_put, index_select, nonzero, one_hot, pad, repeat_interleave, scatter, scatter_add,
    take_along_axis,
)
from .linalg import cosine_similarity, dot, einsum, linear, matmul, normalize, outer, trace
from .loss import (
    binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, hinge_loss, huber_loss, kl_div, l1_loss,
    mse_loss, nll_loss, smooth_l1_loss,
)
from .margins import margin_ranking_loss
from .matrices import cholesky, det, inverse, logdet, matrix_power, norm, pinverse, slogdet
from .noise import dropout, feature_dropout
from .normalization import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from .order import (
    amax, amin, aminmax, bincount, bucketize, cummax, cummin, histc, histogram, isin, kthvalue, median, mode, msort,
    nanmedian, nanquantile, quantile, searchsorted, sort, topk, unique, unique_consecutive,
)
from .pool import (
    adaptive_avg_pool, adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool,
    adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d, avg_pool, avg_pool1d, avg_pool2d, avg_pool3d,
    global_avg_pool, global_max_pool, lp_pool, max_pool, max_pool1d, max_pool2d, max_pool3d,
)
from .products import (
    addbmm, addmm, addmv, addr, baddbmm, block_diag, bmm, cdist, chain_matmul, cross, ger, inner, kron, mm, mv,
    tensordot, vdot,
)
from .reduce import all, any, argmax, argmin, argsort, cumprod, cumsum, logsumexp, max, mean, min, prod, std, sum, var
from .places import (
    argwhere, index_add, index_copy, index_fill, masked_scatter, masked_select, put, scatter_reduce, take,
    take_along_dim,
)
from .shape import (
    cast, cat, chunk, clone, concat, concatenate, diag, diag_embed, diagonal, expand, flatten, flip, moveaxis, movedim,
    ones_like, permute, reshape, roll, split, split_with_sizes, squeeze, stack, swapaxes, swapdims, tile, transpose,
    tril, triu, unbind, unsqueeze, zeros_like,
)
from .special import (
    digamma, entr, erfc, erfinv, exp2, hypot, lgamma, logaddexp, logaddexp2, logit, mvlgamma, ndtr, polygamma, sinc,
    xlog1py, xlogy,
)
from .spectral import fourier
from .statistics import (
    corrcoef, count_nonzero, cov, cumulative_trapezoid, dist, logcumsumexp, nanmean, nansum, renorm, std_mean,
    trapezoid, trapz, var_mean,
)
from ..core.explain import at_the_door as _at_the_door
from . import methods as _methods       # gives tensors their operators and methods, which are the functions above

# The public names; what else a file of ops holds, ops are made of, and kernels and layers import it from there.
__all__ = [
    "abs", "acos", "acosh", "adaptive_avg_pool", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "addbmm",
    "addcdiv", "addcmul", "addmm", "addmv", "addr", "all", "allclose", "amax", "amin", "aminmax", "any", "argmax",
    "argmin", "argsort", "argwhere", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d", "atleast_2d",
    "atleast_3d", "avg_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d", "baddbmm", "batch_norm",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "bincount", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "block_diag", "bmm", "broadcast_shapes",
    "broadcast_tensors", "broadcast_to", "bucketize", "cartesian_prod", "cast", "cat", "cdist", "ceil", "celu",
    "chain_matmul", "cholesky", "chunk", "clamp", "clamp_max", "clamp_min", "clip", "clone", "column_stack",
    "combinations", "concat", "concatenate", "conv", "conv1d", "conv2d", "conv3d", "conv_transpose",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "copysign", "corrcoef", "cos", "cosh",
    "cosine_similarity", "count_nonzero", "cov", "cross", "cross_entropy", "cummax", "cummin", "cumprod", "cumsum",
    "cumulative_trapezoid", "deg2rad", "det", "diag", "diag_embed", "diagflat", "diagonal", "digamma", "dist", "div",
    "dot", "dropout", "dsplit", "dstack", "einsum", "elu", "embedding", "entr", "eq", "equal", "erf", "erfc", "erfinv",
    "exp", "exp2", "expand", "expand_as", "expm1", "feature_dropout", "fill", "flatten", "flip", "fliplr", "flipud",
    "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "fourier", "frac", "gather", "gcd", "ge", "gelu",
    "gelu_tanh", "ger", "global_avg_pool", "global_max_pool", "group_norm", "gt", "hardsigmoid", "hardswish",
    "hardtanh", "heaviside", "hinge_loss", "histc", "histogram", "hsplit", "hstack", "huber_loss", "hypot",
    "index_add", "index_copy", "index_fill", "index_put", "index_select", "inner", "instance_norm", "inverse",
    "is_floating_point", "is_tensor", "isclose", "isfinite", "isin", "isinf", "isnan", "isneginf", "isposinf",
    "kl_div", "kron", "kthvalue", "l1_loss", "layer_norm", "lcm", "ldexp", "le", "leaky_relu", "lerp", "lgamma",
    "linear", "log", "log10", "log1p", "log2", "log_sigmoid", "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp",
    "logdet", "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logsumexp", "lp_pool", "lt",
    "margin_ranking_loss", "masked_fill", "masked_scatter", "masked_select", "matmul", "matrix_power", "max",
    "max_pool", "max_pool1d", "max_pool2d", "max_pool3d", "maximum", "mean", "median", "meshgrid", "min", "minimum",
    "mish", "mm", "mode", "moveaxis", "movedim", "mse_loss", "msort", "mul", "mv", "mvlgamma", "nan_to_num", "nanmean",
    "nanmedian", "nanquantile", "nansum", "narrow", "ndtr", "ne", "neg", "nll_loss", "nonzero", "norm", "normalize",
    "numel", "one_hot", "ones_like", "outer", "pad", "permute", "pinverse", "polygamma", "positive", "pow", "prelu",
    "prod", "put", "quantile", "rad2deg", "ravel", "reciprocal", "relu", "relu6", "remainder", "renorm", "repeat",
    "repeat_interleave", "reshape", "reshape_as", "rms_norm", "roll", "rot90", "round", "row_stack", "rsqrt", "rsub",
    "scaled_dot_product_attention", "scatter", "scatter_add", "scatter_reduce", "searchsorted", "select", "selu",
    "sigmoid", "sign", "signbit", "silu", "sin", "sinc", "sinh", "slogdet", "smooth_l1_loss", "softmax", "softplus",
    "softsign", "sort", "split", "split_with_sizes", "sqrt", "square", "squeeze", "stack", "std", "std_mean", "sub",
    "sum", "sum_to_size", "swapaxes", "swapdims", "t", "take", "take_along_axis", "take_along_dim", "tan", "tanh",
    "tensor_split", "tensordot", "tile", "topk", "trace", "transpose", "trapezoid", "trapz", "tril", "triu", "trunc",
    "unbind", "unflatten", "unfold", "unique", "unique_consecutive", "unravel_index", "unsqueeze", "var", "var_mean",
    "vdot", "vsplit", "vstack", "where", "xlog1py", "xlogy", "zeros_like",
]

_at_the_door(globals(), __all__)
