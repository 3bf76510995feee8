"""Tensors that a module holds: Parameters are trained, Buffers are not; both are saved and moved with it."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..core.types import DeviceLike, DTypeLike


class Parameter(Tensor):
    """A tensor that is trained: an optimizer changes it, a state dict saves it.  torch.nn.Parameter.

    data: as for Tensor; memory is shared with it. requires_grad=False freezes it (it is still saved).
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, device: DeviceLike = None, dtype: DTypeLike | None = None):
        super().__init__(data, requires_grad, device, dtype)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that is moved with its module and, if persistent, saved, but never trained.  torch.nn.Buffer."""

    __slots__ = ("persistent",)

    def __init__(self, data: Any, device: DeviceLike = None, dtype: DTypeLike | None = None, persistent: bool = True):
        super().__init__(data, False, device, dtype)
        self.persistent = persistent

    def __deepcopy__(self, memo: Any) -> Tensor:
        twin = super().__deepcopy__(memo)
        twin.persistent = is_saved(self)               # type: ignore[attr-defined]  # a Buffer too
        return twin

    def __reduce__(self) -> Any:
        return *super().__reduce__(), (None, {"persistent": is_saved(self)})


def is_saved(value: Tensor) -> bool:
    """Whether a parameter or buffer belongs into a state dict."""
    return getattr(value, "persistent", True)
