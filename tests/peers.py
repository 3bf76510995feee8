"""PyTorch, where it is installed: `torch` (None otherwise) and the mark for tests that cannot do without it."""

import pytest

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is the oracle here; pip install torch==2.13.0")
