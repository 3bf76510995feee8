"""Every op of the registry as ONNX: what it writes runs in onnxruntime with the op's values, or it is named here."""

import numpy as np
import pytest
from conftest import assert_close
from op_samples import samples_of
from peers import require

import needle_lab as ndl
from needle_lab.core.graph import OPS
from needle_lab.errors import UnsupportedOnnxError

require("onnx")
runtime = require("onnxruntime")

NONE = {
    "transferred": "moves between devices", "keep_some": "draws random numbers", "lstm_sequence": "nn.LSTM is one operator",
    "gru_sequence": "nn.GRU is one operator", "attention": "written by its parts",
    **dict.fromkeys(("class_losses", "layer_norm", "lstm_cell"), "its second result is for its gradient"),
    **dict.fromkeys(("bitwise_left_shift", "bitwise_right_shift"), "BitShift is for unsigned integers"),
    **dict.fromkeys(("digamma", "lgamma", "polygamma", "erfinv", "gcd", "lcm", "logcumsumexp", "running_places"),
                    "no operator, and no short form by others"),
    **dict.fromkeys(("cholesky", "eigh", "inv", "pinv", "qr", "slogdet", "solve", "svd"), "no operator factorises a matrix"),
    **dict.fromkeys(("index_select_grad", "add_at", "convolution_weight", "to_winners", "from_winners", "spread_windows"),
                    "only in gradients"),
}


def cases(name):
    """Samples with something in them, in float32; what is no array stands in the function."""
    for one in samples_of(name):
        arrays = [x for x in one.arrays(np.float32) if isinstance(x, np.ndarray)]
        if arrays and all(x.size for x in arrays):
            yield one, arrays


@pytest.mark.parametrize("name", sorted(set(OPS) - set(NONE)))
def test_the_op_as_onnx(name):
    tried = 0
    for one, arrays in cases(name):
        places = [i for i, x in enumerate(one.inputs) if isinstance(x, np.ndarray)]

        def function(*given, one=one, places=places):
            inputs = list(one.inputs)
            for i, x in zip(places, given, strict=True):
                inputs[i] = x
            return OPS[name](*inputs, **one.attrs)
        with np.errstate(all="ignore"):
            expected = function(*map(ndl.tensor, arrays))
            expected = [y for y in (expected if isinstance(expected, tuple) else (expected,)) if y is not None]
        try:
            proto = ndl.onnx.export(function, tuple(arrays))
        except UnsupportedOnnxError as error:
            assert "no simple ONNX form" in str(error) or "cannot" in str(error), f"{name}({one}): {error}"
            continue
        session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        found = session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)})
        for y, z in zip(expected, found, strict=True):
            assert z.shape == y.shape and z.dtype == y.dtype, f"{name}({one}): {z.dtype} {z.shape}, {y.dtype} {y.shape}"
            assert_close(z, y, 1e-4, f"{name}({one})")
        tried += 1
    assert tried, "no sample could be written"


def test_what_has_no_form_says_so():
    for name in NONE:
        assert name in OPS, f"{name} is no op any more"
