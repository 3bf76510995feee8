"""Files that are not what they should be: each gives a clear error, nothing changes, and nothing is executed."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from peers import needs, needs_torch, torch
from small_models import Momentum, Net, bits
from test_serialize import in_child, needs_posix, rewrite, unprivileged

import needle_lab as ndl
from needle_lab.errors import FileFormatError, MissingFileError, NeedleError, SignatureMismatch, StorageError
from needle_lab.nn import Module, Parameter
from needle_lab.serialize import (
    load_checkpoint,
    load_needle_npy,
    load_state_dict,
    load_tensors,
    save_checkpoint,
    save_state_dict,
    signature_diff,
    tensorfile,
)
from needle_lab.serialize.save import KEY


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(path, error=FileFormatError, message="", strict=(True, False)):
    """Every reader refuses the file; model, optimizer, generator and file are as before."""
    net = Net()
    optimizer = Momentum(net.parameters())
    before, state, random = bits(net), optimizer.velocity, ndl.get_rng_state()
    content = path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else None
    for flag in strict:
        with pytest.raises(error, match=message):
            load_state_dict(net, path, strict=flag)
    with pytest.raises(NeedleError):
        load_checkpoint(path, model=net, optimizer=optimizer)
    with pytest.raises(error):
        load_state_dict(net, path)
    assert bits(net) == before and optimizer.velocity is state and ndl.get_rng_state() == random
    assert content is None or path.read_bytes() == content


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good"
    save_state_dict(Net(), path)
    return path


def header_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8:8 + length]), content[8 + length:]


def with_header(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


# --- damage -------------------------------------------------------------------------------------------------------

def test_truncated_anywhere(good, tmp_path):
    content, cut, net = good.read_bytes(), tmp_path / "cut", Net()
    before = bits(net)
    for length in [*range(0, 32), *range(32, len(content), 64), len(content) - 1]:
        cut.write_bytes(content[:length])
        for strict in (True, False):
            with pytest.raises(FileFormatError, match="empty|truncated|bytes"):
                load_state_dict(net, cut, strict=strict)
    assert bits(net) == before
    cut.write_bytes(content + b"\0")
    refused(cut, message="bytes at its end that nothing names")


def test_one_flipped_bit_anywhere(good, tmp_path, rng):
    content, net = good.read_bytes(), Net()
    before = bits(net)
    flipped = tmp_path / "flipped"
    for at in [*range(16), *range(16, len(content), 11)]:
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        flipped.write_bytes(damaged)
        with pytest.raises(FileFormatError):
            load_state_dict(net, flipped, strict=bool(at % 2))
    assert bits(net) == before


def test_one_flipped_bit_in_a_checkpoint(tmp_path, rng):
    net = Net()
    optimizer, path = Momentum(net.parameters()), tmp_path / "c"
    save_checkpoint(path, model=net, optimizer=optimizer, history=[0.25])
    content = path.read_bytes()
    for at in rng.integers(0, len(content), 150):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError):
            load_checkpoint(path, model=net, optimizer=optimizer)


def test_random_bytes_and_mutations_never_give_another_kind_of_error(good, tmp_path, rng):
    content, path = good.read_bytes(), tmp_path / "junk"
    for i in range(300):
        damaged = bytearray(content if i % 2 else rng.bytes(int(rng.integers(0, 300))))
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(0, len(damaged) + 1))
            damaged[at:at + int(rng.integers(0, 5))] = rng.bytes(int(rng.integers(0, 5)))
        path.write_bytes(damaged)
        for read in (load_tensors, load_needle_npy, lambda p: load_state_dict(Net(), p, strict=False)):
            try:
                read(path)
            except FileFormatError as error:
                assert "junk" in str(error)
            else:
                assert bytes(damaged) == content


# --- other formats ------------------------------------------------------------------------------------------------

def make_torch(path):
    torch.save({"w": torch.ones(3)}, path)


def make_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")


@pytest.mark.parametrize("make, message", [
    (lambda p: p.write_bytes(b""), r"is empty \(0 bytes\)"),
    (lambda p: p.write_bytes(b"hello"), "it has 5 bytes"),
    (lambda p: p.write_text("hello, this is a text and no weights"), "another format"),
    pytest.param(make_torch, "torch.save.*not opened.*safetensors", marks=needs_torch), (make_zip, "zip archive"),
    (lambda p: np.savez(p.open("wb"), x=np.ones(3)), "zip archive"),
    (lambda p: np.save(p.open("wb"), np.ones(3)), r"load_needle_npy\(path\)"),
    (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "HDF5"),
    (lambda p: p.write_bytes(b"GGUF" + bytes(50)), "GGUF"),
    (lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(9)), "ndl.onnx.load"),
])
def test_other_formats_are_recognised(tmp_path, make, message):
    make(tmp_path / "f")
    refused(tmp_path / "f", message=message)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_are_recognised_and_never_executed(tmp_path, protocol):
    for value in (Canary(tmp_path / "ran"), {"w": Canary(tmp_path / "ran")}):
        (tmp_path / "f").write_bytes(pickle.dumps(value, protocol=protocol))
        refused(tmp_path / "f", message="pickle|another format|perhaps")
        with pytest.raises(FileFormatError):
            load_needle_npy(tmp_path / "f")
    if torch is not None:
        torch.save({"w": Canary(tmp_path / "ran")}, tmp_path / "t", pickle_protocol=max(protocol, 2))
        refused(tmp_path / "t", message="zip archive")
    assert not (tmp_path / "ran").exists()


@needs("safetensors")
def test_a_foreign_safetensors_file(tmp_path):
    import safetensors.numpy

    path, net = tmp_path / "foreign", Net()
    arrays = {"stem.weight": np.full((4, 3), 7, "float32"), "stem.bias": np.zeros(9, "float32"), "x": np.ones(1)}
    safetensors.numpy.save_file(arrays, path)
    refused(path, message="not written by needle_lab.*strict=False.*load_tensors", strict=(True,))
    report = load_state_dict(net, path, strict=False)
    assert report.loaded == ["stem.weight"] and net.stem.weight.numpy().min() == 7
    assert report.unexpected == ["x"] and list(report.mismatched) == ["stem.bias"] and len(report.missing) > 5
    with pytest.raises(FileFormatError, match="holds no signature"):
        signature_diff(path, net)
    with pytest.raises(FileFormatError, match="another program: ndl.load_tensors"):
        load_checkpoint(path)


# --- headers that lie ---------------------------------------------------------------------------------------------

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize("content, message", [
    (with_header(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                 b'"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "names 'w' twice"),
    (with_header(b'{"__metadata__":{"a":"1","a":"2"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
     "names 'a' twice"),
    (with_header(b'{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "'dtype' twice"),
    ((2**63).to_bytes(8, "little") + b"{}", "claims 9,223,372,036,854,775,808 bytes, the limit"),
    ((50_000_000).to_bytes(8, "little") + b"{}      ", "claims 50,000,000 bytes, the file has"),
    (with_header(b"{not json}"), "no JSON"), (with_header(b'{"w": NaN}'), "must have dtype, shape and data_offsets"),
    (with_header(b"{" + b'"a":{' * 50_000), "no JSON"), (with_header(b'{"\xff": 1}'), "no JSON"),
    (with_header(b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'), "no JSON"),
    (with_header({"w": {**ONE, "dtype": "F31"}}, bytes(8)), "unknown variant `F31`, expected one of .*`F32`"),
    (with_header({"w": {**ONE, "dtype": "C64", "shape": [1]}}, bytes(8)), "has the dtype C64; known are"),
    (with_header({"w": {**ONE, "dtype": ["F32"]}}, bytes(8)), "invalid type: sequence"),
    (with_header({"w": {**ONE, "shape": [-2]}}, bytes(8)), "integer `-2`, expected usize"),
    (with_header({"w": {**ONE, "shape": [2.0]}}, bytes(8)), "point `2.0`, expected usize"),
    (with_header({"w": {**ONE, "shape": [True]}}, bytes(8)), "boolean `true`, expected usize"),
    (with_header({"w": {**ONE, "shape": 2}}, bytes(8)), "integer `2`, expected a sequence"),
    (with_header({"w": {**ONE, "shape": [3]}}, bytes(8)), "invalid shape, data type, or offset"),
    (with_header({"w": {**ONE, "shape": [2**40, 2**40]}}, bytes(8)), "overflow"),
    (with_header({"w": {**ONE, "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}), "no array can have"),
    (with_header({"w": {**ONE, "shape": [1] * 65, "dtype": "F64"}}, bytes(8)), "no array can have"),
    (with_header({"w": {**ONE, "data_offsets": [8, 0]}}, bytes(8)), "invalid offset for tensor `w`"),
    (with_header({"w": {**ONE, "data_offsets": [0, 4, 8]}}, bytes(8)), "length 3, expected 2"),
    (with_header({"w": {**ONE, "data_offsets": [4, 12]}}, bytes(12)), "invalid offset for tensor `w`"),
    (with_header({"w": ONE, "v": ONE}, bytes(8)), "invalid offset for tensor"),
    (with_header({"w": ONE}, bytes(7)), "is truncated: the header describes 8 bytes of data, the file has 7"),
    (with_header({"w": ONE}, bytes(9)), "bytes at its end"),
    (with_header({"w": {**ONE, "more": 1}}, bytes(8)), "must have dtype, shape and data_offsets"),
    (with_header({"w": 3}), "must have dtype, shape and data_offsets"),
    (with_header({"__metadata__": {"a": 1}}), "expected a string"),
    (with_header({"__metadata__": []}), "expected a map"),
    (with_header({"w": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\x01\x02"), "other than 0 and 1"),
])
def test_a_lying_header(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    refused(tmp_path / "f", message=message)
    with pytest.raises(FileFormatError, match=message):
        load_tensors(tmp_path / "f")


def test_three_hundred_thousand_empty_tensors_are_refused(tmp_path):
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    (tmp_path / "f").write_bytes(with_header({f"w{i}": empty for i in range(300_000)}))
    refused(tmp_path / "f", message="300,000 tensors, the limit is 100,000")
    disguised = json.dumps({f"w{i}": empty for i in range(100_001)}).replace("data_offsets", "data\\u005foffsets")
    (tmp_path / "f").write_bytes(with_header(disguised.encode()))
    with pytest.raises(FileFormatError, match="100,001 tensors, the limit is 100,000"):
        load_state_dict(Net(), tmp_path / "f")
    many = Module()
    many.state = [Parameter(np.zeros(0, "float32")) for _ in range(100_001)]
    with pytest.raises(NeedleError, match="100,001 arrays are more than a file may hold"):
        save_state_dict(many, tmp_path / "g")
    assert not (tmp_path / "g").exists()


# --- our own metadata, altered by somebody who can compute a checksum ------------------------------------------------

@pytest.mark.parametrize("change, message", [
    (lambda a: a.update(format=2), "newer needle_lab.*upgrade"),
    (lambda a: a.pop("format"), "damaged needle_lab metadata"),
    (lambda a: a.pop("signature"), "damaged"), (lambda a: a.update(kind=3), "damaged"),
    (lambda a: a.update(kind="checkpoint"), "no tree as"), (lambda a: a.update(device=3), "damaged"),
    (lambda a: a["signature"].update(children=[]), 'a dict "children" is needed'),
    (lambda a: a["signature"]["parameters"].pop("scale"), "contradicts itself"),
    (lambda a: a["signature"]["parameters"].update(x={"shape": [1], "dtype": "float32"}), "contradicts itself"),
    (lambda a: a["signature"]["parameters"]["scale"].update(shape=[2]), r"says scale \(2,\), its data \(1,\)"),
])
def test_altered_metadata(good, change, message):
    rewrite(good, change)
    refused(good, message=message)


def test_metadata_that_is_no_json_or_has_lost_its_checksum(good):
    file = tensorfile.read(good)
    for text in ("", "[", "[]", "3", "[" * 100_000):
        tensorfile.write(good, file.arrays, {KEY: text})
        refused(good, message="damaged needle_lab metadata")
    header, data = header_of(good.read_bytes())
    header["__metadata__"] = {KEY: file.metadata[KEY]}
    good.write_bytes(with_header(header, data))
    refused(good, message="lost its checksum")


@pytest.mark.parametrize("tree", [{}, {"optimizer": {"$array": "none"}, "history": 1, "rng": {}, "aux": {}},
                                  {"optimizer": None, "history": {"$what": 1}, "rng": {}, "aux": {}},
                                  {"optimizer": None, "history": {"$dict": [1]}, "rng": {}, "aux": {}},
                                  {"optimizer": None, "history": {"$dict": [[[1], 1]]}, "rng": {}, "aux": {}},
                                  {"optimizer": None, "history": {"$tensor": "x"}, "rng": {}, "aux": {}},
                                  {"optimizer": None, "history": 1, "rng": {"default": {"state": 3}}, "aux": {}},
                                  {"optimizer": None, "history": 1, "rng": [], "aux": 3},
                                  {"optimizer": None, "history": json.loads("[" * 400 + "]" * 400), "rng": {},
                                   "aux": {}}])
def test_an_altered_checkpoint_tree(tmp_path, tree):
    net, other = Net(), Net()
    save_checkpoint(tmp_path / "c", model=net, x=np.ones(2))
    rewrite(tmp_path / "c", lambda about: about.update(tree=tree))
    before, state = bits(other), ndl.get_rng_state()
    with pytest.raises(NeedleError):
        load_checkpoint(tmp_path / "c", model=other)
    assert bits(other) == before and ndl.get_rng_state() == state


# --- places -------------------------------------------------------------------------------------------------------

def test_missing_file_and_similar_names(good, tmp_path):
    refused(tmp_path / "goood", MissingFileError, "there is no file .*goood; similar names there: good")
    refused(tmp_path / "none" / "w", MissingFileError, "there is no folder")
    with pytest.raises(FileNotFoundError):
        load_state_dict(Net(), "weights.safetensors")


@needs_posix
def test_a_folder_a_pipe_and_a_device(tmp_path):
    refused(tmp_path, StorageError, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", StorageError, "no regular file")        # opening a pipe would wait for ever
    with pytest.raises(StorageError, match="no regular file"):
        load_state_dict(Net(), "/dev/zero")


@needs_posix
def test_no_permission(good):
    os.chmod(good, 0)

    def load():
        unprivileged()
        load_state_dict(Net(), good)

    assert in_child(load) == f"StorageError: {good} could not be read: Permission denied"
    os.chmod(good, 0o600)


def test_wrong_signature_leaves_everything(tmp_path):
    save_state_dict(Net(7), tmp_path / "w")
    refused(tmp_path / "w", SignatureMismatch, "entries differ", strict=(True,))
