"""Libraries of other people: what the tests need of each, and how to get it. No test module needs one to be imported.

    torch = require("torch")        at the top of a module, or in a test: all that follows is skipped where it is missing
    @needs("sklearn")               one test
"""

import importlib.util

import pytest

REASONS = {
    "torch": "PyTorch is the oracle here; pip install torch==2.13.0",
    "expecttest": "PyTorch's samples need it; pip install expecttest scipy",
    "onnx": "the ONNX room needs onnx; pip install 'needle-lab[onnx]'",
    "onnxruntime": "onnxruntime is the oracle here; pip install onnxruntime",
    "onnxscript": "PyTorch's exporter needs it; pip install onnxscript",
    "numba": "Numba compiles the kernels of this test; pip install 'needle-lab[fast]'",
    "triton": "Triton runs the kernels of this test; pip install triton",
    "sklearn": "scikit-learn has the digits, and is the oracle here; pip install 'needle-lab[lab]'",
    "matplotlib": "matplotlib draws what is tested; pip install 'needle-lab[lab]'",
    "anywidget": "the live views are anywidgets; pip install 'needle-lab[lab]'",
    "jupyterlab": "this is about JupyterLab; pip install 'needle-lab[lab]'",
    "nbformat": "nbformat reads the notebooks; pip install 'needle-lab[lab]'",
    "IPython": "IPython runs the cells of a notebook that is graded; pip install 'needle-lab[lab]'",
    "safetensors": "safetensors is the oracle here; pip install safetensors",
}


def require(name: str):
    """The library, or a skip with the reason."""
    __tracebackhide__ = True                    # the place that is reported is the caller's
    return pytest.importorskip(name, reason=REASONS[name.partition(".")[0]])


def _found(name: str) -> bool:
    """Whether a library can be imported; a finder that refuses it counts as its absence."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def needs(*names: str) -> pytest.MarkDecorator:
    """The mark of a test that cannot do without these libraries."""
    missing = [REASONS[name] for name in names if not _found(name)]
    return pytest.mark.skipif(bool(missing), reason="; ".join(missing))


try:
    import torch
except ImportError:
    torch = None

needs_torch = needs("torch")
