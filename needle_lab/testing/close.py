"""When two results are the same: to rounding, measured against the scale of the expected one."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ..errors import CheckError


def assert_close(ours: Any, oracle: Any, tolerance: float | None = None, what: str = "", *, absolute: float = 0.0) -> None:
    """CheckError unless the largest difference is at most `tolerance` times the oracle's largest value, plus `absolute`.

    ours, oracle: tensors or arrays of one shape; nan and inf in the same places, integers and bools equal.
    tolerance: by default ten roundings of the coarser dtype of the two (1.2e-6 in float32, 2.2e-15 in float64). A longer
    computation names its own. absolute: for an oracle that is zero up to rounding, where nothing is relative to anything.
    """
    finfo: Any = ml_dtypes.finfo                                 # which comes without types
    ours, oracle = on_host(ours), on_host(oracle)
    if ours.shape != oracle.shape:
        raise CheckError(f"{what}: shape {oracle.shape} was expected, {ours.shape} came")
    eps = max(0.0 if a.dtype.kind in "biu" else float(finfo(a.dtype).eps) for a in (ours, oracle))
    if eps:
        ours, oracle = ours.astype(np.float64), oracle.astype(np.float64)
    with np.errstate(invalid="ignore"):                          # inf - inf
        same = (ours == oracle) | ((ours != ours) & (oracle != oracle))
        error = np.nan_to_num(np.where(same, 0, np.abs(np.subtract(ours, oracle, dtype=float))), nan=np.inf)
    scale = np.abs(oracle[np.isfinite(oracle)]).max(initial=0.0) if eps else 0.0
    allowed = ((10 * eps if tolerance is None else tolerance) * scale + absolute) if eps else 0.0
    if error.max(initial=0.0) > allowed:
        place = np.unravel_index(error.argmax(), error.shape)
        raise CheckError(f"{what}: {oracle[place]} was expected, {ours[place]} came, at {[int(i) for i in place]}; "
                         f"{error.max():.2e} away, {allowed:.2e} is allowed at a scale of {scale:.2e}")


def on_host(x: Any) -> np.ndarray:
    """A tensor of ours or of PyTorch, an array of any device, or a number, as an array of NumPy."""
    x = x.detach() if hasattr(x, "detach") else x
    return np.asarray(x.numpy() if hasattr(x, "numpy") else x)
