"""Reading the original Needle's .npy checkpoints: the same values as unpickling gives, without ever unpickling."""

import collections
import io
import os
import pickle
import struct

import numpy as np
import pytest
from small_models import Net, bits

from needle_lab.errors import FileFormatError, MissingFileError, StorageError
from needle_lab.serialize import load_needle_npy

OBJECT_HEADER = io.BytesIO()
np.lib.format.write_array_header_1_0(OBJECT_HEADER, {"descr": "|O", "fortran_order": False, "shape": ()})


def write(path, pickled):
    path.write_bytes(OBJECT_HEADER.getvalue() + pickled)
    return path


def boxed(value, protocol):
    """The pickle that np.save makes of a Python object."""
    box = np.empty((), object)
    box[()] = value
    return pickle.dumps(box, protocol=protocol)


def test_what_the_original_wrote(tmp_path):
    net, twin = Net(), Net()
    state = {path: value.numpy() for path, value in net.state_dict().items()}
    np.save(tmp_path / "c.npy", {"state_dict": state, "signature": "ResNet9(...)", "device": "cpu()"})
    found = load_needle_npy(tmp_path / "c.npy")
    assert (found.signature, found.device, found.other) == ("ResNet9(...)", "cpu()", {})
    twin.load_state_dict(found.state_dict)
    assert bits(twin) == bits(net)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_nested_structures_agree_with_pickle(tmp_path, rng, protocol):
    same = rng.normal(size=(2, 3)).astype("float32")
    value = {"list": [same, {"b": rng.normal(size=(3, 2)).T}], "tuple": (np.arange(3), np.bool_(True), np.float16(2)),
             "ordered": collections.OrderedDict(x=same, y=np.zeros((0, 2))), 3: np.asfortranarray(np.eye(3, 2)),
             "big endian": np.arange(4, dtype=">i4"), "number": 0.5, "count": 7, "flag": True, "one": np.ones(()),
             "large": rng.integers(0, 255, 70_000).astype("uint8")}
    found = load_needle_npy(write(tmp_path / "c.npy", boxed(value, protocol))).state_dict
    oracle = {"list.0": same, "list.1.b": value["list"][1]["b"], "tuple.0": value["tuple"][0], "tuple.1": True,
              "tuple.2": np.float16(2), "ordered.x": same, "ordered.y": np.zeros((0, 2)), "3": value[3],
              "big endian": np.arange(4, dtype="int32"), "number": 0.5, "count": 7, "flag": True, "one": np.ones(()),
              "large": value["large"]}
    assert list(found) == list(oracle)
    for path, expected in oracle.items():
        expected = np.asarray(expected)
        assert found[path].dtype == expected.dtype and found[path].flags.writeable
        np.testing.assert_array_equal(found[path], expected)


class Canary:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("where", [lambda c: c, lambda c: {"w": c}, lambda c: {"state_dict": {"w": [c, np.ones(2)]}}])
def test_nothing_is_executed(tmp_path, protocol, where):
    ran = tmp_path / "ran"
    for call in ((os.mkdir, (str(ran),)), (eval, (f"__import__('os').mkdir({str(ran)!r})",)),
                 (os.system, (f"mkdir {ran}",)), (getattr, (os, "mkdir"))):
        if call[0] is getattr:
            continue                                     # a module cannot be pickled at all
        name = f"{call[0].__module__}.{call[0].__name__}"
        name = name.replace("builtins", "(builtins|__builtin__)").replace("posix", "(posix|os|nt)")
        with pytest.raises(FileFormatError, match=f"refused: it asks for {name}, which .* could run code"):
            load_needle_npy(write(tmp_path / "c.npy", boxed(where(Canary(call)), protocol)))
    assert not ran.exists()


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


@pytest.mark.parametrize("code, message", [
    (b"cos\nsystem\n(X\x01\x00\x00\x00xtR.", "os.system"),
    (b"(ios\nsystem\nX\x01\x00\x00\x00x.", "INST"), (b"(cos\nsystem\no.", "os.system"),
    (b"cnumpy\nndarray\n)\x81.", "NEWOBJ"), (b"\x82\x01.", "EXT1"), (b"Pid\n.", "PERSID"), (b"K\x01Q.", "BINPERSID"),
    (b"\x97.", "NEXT_BUFFER"), (b"\x8f.", "EMPTY_SET"),
    (b"\x80\x04" + text("os") + text("system") + b"\x93.", "os.system"),
    (b"\x80\x04" + text("numpy") + text("ndarray.__reduce__") + b"\x93.", "numpy.ndarray.__reduce__"),
    (b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R}b.", "BUILD"), (b"}}b.", "BUILD"),
    (b"cnumpy\ndtype\nX\x03\x00\x00\x00S99\x85R.", "dtype"), (b"cnumpy\ndtype\n]R.", "no known function"),
    (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "call of _codecs.encode"),
    (b"cnumpy\nndarray\n)R.", "call of numpy.ndarray"), (b"cnumpy\nndarray\n.", "function or a dtype"),
    (b"}", "truncated|damaged"), (b"", "truncated|damaged"), (b".", "damaged|made up"), (b"0.", "POP"),
    (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "damaged"),       # a bytearray of a terabyte, it says
    (b"\x8e" + struct.pack("<Q", 2**62) + b".", "damaged"), (b"\x8b\xff\xff\xff\x7f.", "damaged"),
    (b"]r\xff\xff\xff\x7f.", "a checkpoint is a dict"),                   # memo entry two thousand million
    (b"}\x94K\x01h\x00s.", "not an array|damaged|entries"),               # a dict that holds itself
    (b"]\x94h\x00a.", "a checkpoint is a dict"),
    (b"(d.", None), (b"].", "a checkpoint is a dict, found list"),
    (b"}" + text("a") + b"Ns.", "NoneType, not an array"),
    (b"}" + text("a") + text("b") + b"s.", "str, not an array"), (b"}" + text("a") + b"s.", "damaged|SETITEM"),
    (b"}]" + text("x") + b"s.", "SETITEM"), (b"}" + text("x") + b"a.", "APPEND to something"),
    (b"t.", "damaged|made up"),
])
def test_other_instructions_are_refused(tmp_path, code, message):
    write(tmp_path / "c.npy", code)
    if message is None:
        assert load_needle_npy(tmp_path / "c.npy").state_dict == {}
        return
    with pytest.raises(FileFormatError, match=message):
        load_needle_npy(tmp_path / "c.npy")


def test_a_file_that_unfolds_beyond_measure_is_refused(tmp_path):
    """Lists of lists of lists: 10^30 entries in 1,000 bytes; arrays that share one block of a megabyte."""
    value = [1.0]
    for _ in range(30):
        value = [value] * 10
    with pytest.raises(FileFormatError, match="more than 100,000 entries"):
        load_needle_npy(write(tmp_path / "c.npy", boxed({"w": value}, 4)))
    raw = pickle.dumps(np.ones(1 << 17), protocol=4)[2:-1]
    block = raw.index(b"B\x00\x00\x10\x00")
    array = raw[:block + 5 + (1 << 20)] + b"q\xee" + raw[block + 5 + (1 << 20) + 1:]       # remember the block
    again = raw[:block] + b"h\xee" + raw[block + 5 + (1 << 20) + 1:]
    code = b"\x80\x04]" + array + b"a" + (again + b"a") * 50 + b"."
    with pytest.raises(FileFormatError, match="larger than the file|damaged|refused"):
        load_needle_npy(write(tmp_path / "c.npy", code))


def test_damaged_checkpoints_give_one_kind_of_error(tmp_path, rng):
    content = OBJECT_HEADER.getvalue() + boxed({"state_dict": {"w": np.arange(5.0), "b": [np.ones(2)]},
                                                "signature": "s", "device": "d"}, 4)
    path = tmp_path / "c.npy"
    for length in range(0, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="c.npy"):
            load_needle_npy(path)
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 3))):
            damaged[int(rng.integers(len(content)))] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            load_needle_npy(path)
        except FileFormatError:
            pass


def test_other_npy_files_and_places(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(FileFormatError, match=r"an? .*array of <f8 \(3,\).* np.load"):
        load_needle_npy(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{"a": 1}, None], object), allow_pickle=True)
    with pytest.raises(FileFormatError, match="not a checkpoint"):
        load_needle_npy(tmp_path / "b.npy")
    with pytest.raises(FileFormatError, match="no .npy file"):
        load_needle_npy(__file__)
    with pytest.raises(MissingFileError):
        load_needle_npy(tmp_path / "none.npy")
    with pytest.raises(StorageError, match="is a folder"):
        load_needle_npy(tmp_path)
