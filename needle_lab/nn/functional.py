"""PyTorch's place for the functions behind the layers, `import needle_lab.nn.functional as F`: they are `needle_lab.ops`."""

from ..ops import *  # noqa: F403
from ..refused import missing as _missing


def __getattr__(name: str) -> None:
    raise _missing("nn.functional", name)
