"""An op on a device: its kernel there, or for want of one its definition on the host, the result copied back.

The second is logged once for each op, counted in `device_report()`, and an error under `strict_devices()`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.calls import rounded
from ..core.device import Device, to_device
from ..core.dtypes import promote
from ..core.graph import Op
from ..errors import DeviceError

logger = logging.getLogger("needle_lab")
_fallbacks: Counter[tuple[str, str]] = Counter()


class strict_devices:
    """While active, an op without a kernel for its device raises DeviceError instead of running on the host."""

    active = 0

    def __enter__(self):
        strict_devices.active += 1
        return self

    def __exit__(self, *exc) -> None:
        strict_devices.active -= 1


def device_report(reset: bool = False) -> dict[str, dict[str, int]]:
    """How often which op ran on the host for want of a kernel: {device: {op: calls}}."""
    report: dict[str, dict[str, int]] = {}
    for (device, name), calls in sorted(_fallbacks.items()):
        report.setdefault(device, {})[name] = calls
    if reset:
        _fallbacks.clear()
    return report


def run(op: Op, device: Device, arrays: list, attrs: dict[str, Any]) -> Any:
    """The device's kernel, or the op on the host where it has none or declines."""
    form = op.compute.kernels.get(device.backend)
    answer = form(*arrays, **attrs) if form else NotImplemented
    if answer is not NotImplemented:
        return answer

    def on_host(*arrays, **attrs):                       # kernels widen float16 and bfloat16 themselves; here, we do
        inputs, narrow = promote(list(arrays), op.promote, op.index_inputs, True) if op.promote else (arrays, None)
        result = op.compute(*inputs, **attrs)
        if narrow is None:
            return result
        return rounded(result, narrow) if type(result) is tuple else rounded((np.asarray(result),), narrow)[0]
    return host_fallback(op.name, on_host, device, arrays, attrs)


def write(data: Any, value: Any, index: Any, device: Device) -> None:
    """data[index] = value, in place."""
    if data.write(value, index) is NotImplemented:
        data.write(host_fallback("write", _put, device, [data, value], {"index": index}))


def _put(x: np.ndarray, value: Any, *, index: Any) -> np.ndarray:
    y = x.copy()
    y[index] = value
    return y


def host_fallback(name: str, definition: Callable, device: Device, arrays: list, attrs: dict):
    """Run an op's definition on host copies of its inputs and move the result back."""
    if strict_devices.active:
        raise DeviceError(f"{name} has no kernel for {device} (these inputs), and strict_devices() forbids the host")
    if not _fallbacks[str(device), name]:
        logger.warning("%s has no kernel for %s: it runs on the host (ndl.device_report() counts such calls)",
                       name, device)
    _fallbacks[str(device), name] += 1
    result = definition(*[a.numpy() if hasattr(a, "data_ptr") else a for a in arrays], **attrs)
    if type(result) is tuple:
        return tuple(None if r is None else to_device(np.asarray(r), device) for r in result)
    return to_device(np.asarray(result), device)
