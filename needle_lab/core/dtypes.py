"""The dtypes, and the one rule by which an op brings its inputs to a common one.

Kinds rank bool < integer < float, as in PyTorch: an integer tensor with a float32 tensor gives float32, never float64.
Python scalars, NumPy's, and tensors without axes adapt to the tensor beside them. float16 and bfloat16 are stored narrow
and computed in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import DTypeError

float32, float64, float16 = np.dtype("float32"), np.dtype("float64"), np.dtype("float16")
bfloat16 = np.dtype(ml_dtypes.bfloat16)
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
bool_ = np.dtype("bool")

FLOATS = {dtype.num for dtype in (float32, float64, float16, bfloat16)}     # comparing numbers is fast
NARROW = (float16, bfloat16)
_WIDE = (float32, float64)


def as_dtype(dtype: Any) -> np.dtype:
    """np.dtype of a name ("bfloat16"), a numpy type, or a dtype; DTypeError for anything else."""
    if isinstance(dtype, str) and hasattr(ml_dtypes, dtype):
        dtype = getattr(ml_dtypes, dtype)
    try:
        found: np.dtype = np.dtype({float: "float32", int: "int64", bool: "bool"}.get(dtype, dtype))
        return found
    except TypeError as error:
        raise DTypeError(f"{dtype!r} is not a dtype; use ndl.float32, 'int64', numpy's types, ...") from error


def is_floating(dtype: np.dtype) -> bool:
    """float16, bfloat16, float32 or float64: the dtypes that can require a gradient."""
    return dtype.num in FLOATS


def machine_epsilon(dtype: np.dtype) -> float:
    """The distance from 1 to the next number of a floating dtype, bfloat16 included."""
    finfo: Any = ml_dtypes.finfo                        # which comes without types
    return float(finfo(dtype).eps)


@functools.cache
def result_type(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype of an op on two tensors: the higher kind wins; within a kind, the one that holds both."""
    if a == b:
        return a
    if is_floating(a) != is_floating(b):
        return a if is_floating(a) else b
    common = float32 if {a, b} == set(NARROW) else np.promote_types(a, b)
    # numpy sends uint64 with int64 to float64; integers stay integers here
    return int64 if is_floating(common) and not is_floating(a) else common


def common_dtype(values: Iterable[Any]) -> np.dtype | None:
    """The dtype that these arrays (anything with dtype and shape; the rest does not count) are brought to, None of none.

    An array without axes is weaker than one with: it only decides where its kind is higher.  torch.result_type.
    """
    found: list[np.dtype | None] = [None, None]                    # of arrays without axes, of arrays with
    for x in values:
        if hasattr(x, "dtype"):
            before, place = found[x.shape != ()], x.shape != ()
            found[place] = x.dtype if before is None else result_type(before, x.dtype)
    single, many = found
    return many if single is None or (many is not None and kind_rank(single) <= kind_rank(many)) else single


def kind_rank(dtype: np.dtype) -> int:
    return 2 if is_floating(dtype) else int(dtype.kind != "b")


def promote(arrays: list[Any], rule: str, skip: tuple[int, ...], widen: bool) -> tuple[list[Any], np.dtype | None]:
    """Bring arrays to one dtype.  -> (arrays, narrow dtype to round float32 results to, or None).

    skip: positions left alone. widen: compute float16/bfloat16 in float32 (numpy; GPU kernels widen in registers).
    """
    counted = [x for i, x in enumerate(arrays) if i not in skip]
    common = common_dtype(counted)
    if common is None or (common in _WIDE and all(not hasattr(x, "dtype") or x.dtype == common for x in counted)):
        return arrays, None
    fractions = any(type(x) is float for x in arrays)
    if not is_floating(common) and (rule == "float" or fractions):
        common = float32
    narrow = common if common in NARROW and widen else None
    target = float32 if narrow is not None else common
    arrays = [x.astype(target) if i not in skip and hasattr(x, "dtype") and x.dtype != target else x
              for i, x in enumerate(arrays)]
    return arrays, narrow
