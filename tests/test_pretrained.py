"""The models that come with the package: found by name, small, and as good as promised."""

import pytest
from peers import require

import needle_lab as ndl
from needle_lab.errors import MissingFileError
from needle_lab.training import evaluate

require("onnx")
require("sklearn")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(MissingFileError, match="'vgg'.*digits_convnet"):
        ndl.models.pretrained_path("vgg")
    for name in ndl.models.pretrained_names():
        assert ndl.models.pretrained_path(name).is_file()


def test_digits_convnet_reads_the_held_out_third():
    model = ndl.onnx.load(ndl.models.pretrained_path("digits_convnet"))
    assert evaluate(model, ndl.data.digits("test")).accuracy >= 0.98
    assert [path for path, _ in model.named_parameters()] == [
        f"{layer}.{kind}" for layer in ("stem", "block.conv1", "block.conv2", "widen", "head")
        for kind in ("weight", "bias")]


def test_digits_convnet_is_small_and_tells_nothing_of_where_it_was_made():
    content = ndl.models.pretrained_path("digits_convnet").read_bytes()
    assert len(content) < 100_000
    for trace in (b"site-packages", b"stack_trace", b".py"):
        assert trace not in content
