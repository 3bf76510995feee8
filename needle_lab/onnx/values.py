"""ONNX's dtypes and constants as ours."""

from __future__ import annotations

import numpy as np
from onnx import helper

from ..core.tensor import Tensor
from ..errors import UnsupportedOnnxError


def numpy_dtype(element_type: int) -> np.dtype:
    """ONNX's number for a dtype -> numpy dtype."""
    try:
        return helper.tensor_dtype_to_np_dtype(element_type)
    except KeyError as error:
        raise UnsupportedOnnxError(f"element type {element_type} is unknown") from error


def value_of(array: np.ndarray) -> Tensor | np.ndarray:
    """A constant as a value of the graph: a tensor; text stays a numpy array of str."""
    if array.dtype.kind in "OSU":
        texts = [t.decode("utf-8") if isinstance(t, bytes) else str(t) for t in array.reshape(-1)]
        return np.array(texts, dtype=object).reshape(array.shape)
    return Tensor(np.array(array))
