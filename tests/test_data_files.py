"""Datasets from files: what they hold comes out, what is damaged or hostile is refused, downloads survive interruptions."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import struct
import tarfile
import threading

import numpy as np
import pytest

from needle_lab.data import cifar10, fashion_mnist, images, mnist, read_idx
from needle_lab.data.download import cache_folder, fetch
from needle_lab.errors import ArgumentError, DownloadError, FileFormatError, MissingFileError, StorageError
from needle_lab.serialize.legacy import read_plain_pickle

# --- IDX ----------------------------------------------------------------------------------------------------------

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array, dtype="u1"):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[dtype], array.ndim, *array.shape) + array.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4, 2), (0, 7)])
def test_idx_there_and_back(tmp_path, rng, dtype, shape):
    array = rng.integers(0, 100, shape).astype(np.dtype(dtype).newbyteorder("="))
    (tmp_path / "a").write_bytes(idx(array, dtype))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array, dtype)))
    for name in ("a", "a.gz"):
        found = read_idx(tmp_path / name)
        assert found.dtype == array.dtype and np.array_equal(found, array) and found.shape == shape


WHOLE = idx(np.arange(24).reshape(4, 3, 2))
PACKED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize("content, message", [
    (b"", "begins with nothing"), (b"\0\0", "no IDX file"), (b"PK\x03\x04" + WHOLE, "begins with 50 4b 03 04"),
    (b"\0\0\x07" + WHOLE[3:], "no IDX file"), (b"\0\1" + WHOLE[2:], "no IDX file"), (WHOLE[:9], "within its header"),
    (WHOLE[:-1], "24 bytes; the file has only 23"), (WHOLE + b"\0", "the file has more"),
    (struct.pack(">BBBB3I", 0, 0, 8, 3, 4000, 3, 2) + WHOLE[16:], "24,000 bytes; the file has only 24"),
    (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3), "no dataset"), (b"\0\0\x08\xff" + b"\1" * 1020, "no dataset"),
    # mtime=0: the content is part of the test's name, which must be the same in every worker
    (PACKED[:-9], "damaged or truncated"), (PACKED[:20] + b"xx", "damaged or truncated"),
    (gzip.compress(WHOLE[:-1], mtime=0), "only 23"), (b"\x1f\x8bnonsense", "damaged or truncated"),
])
def test_idx_that_lies(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read_idx(tmp_path / "f")


def test_idx_places(tmp_path):
    with pytest.raises(MissingFileError):
        read_idx(tmp_path / "none")
    with pytest.raises(StorageError):
        read_idx(tmp_path)


def mnist_files(rng, n=6):
    pixels, labels = rng.integers(0, 256, (n, 28, 28)).astype("u1"), rng.integers(0, 10, n)
    return {"t10k-images-idx3-ubyte.gz": gzip.compress(idx(pixels)), "t10k-labels-idx1-ubyte.gz": gzip.compress(idx(labels)),
            }, pixels, labels


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_a_folder(tmp_path, rng, load, packed):
    files, pixels, labels = mnist_files(rng)
    for name, content in files.items():
        (tmp_path / (name if packed else name[:-3])).write_bytes(content if packed else gzip.decompress(content))
    dataset = load("test", folder=tmp_path)
    assert np.array_equal(dataset.arrays[0][:, 0], pixels) and np.array_equal(dataset.arrays[1], labels)
    assert dataset.arrays[0].dtype == np.uint8 and dataset.arrays[1].dtype == np.int64 and len(dataset.classes) == 10
    with pytest.raises(MissingFileError, match="has none of train-images-idx3-ubyte.gz, .*; it holds t10k-images"):
        load("train", folder=tmp_path)
    with pytest.raises(MissingFileError, match="there is no such folder"):
        load("train", folder=tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="'train' or 'test', got 'valid'"):
        load("valid", folder=tmp_path)


@pytest.mark.parametrize("name, array, message", [
    ("t10k-images-idx3-ubyte.gz", np.zeros((6, 27, 28)), r"\(N, 28, 28\) are expected, found uint8 \(6, 27, 28\)"),
    ("t10k-labels-idx1-ubyte.gz", np.zeros(5), r"6 labels .* found uint8 \(5,\)"),
    ("t10k-labels-idx1-ubyte.gz", np.full(6, 10), "up to 10"),
])
def test_mnist_files_that_do_not_fit_together(tmp_path, rng, name, array, message):
    for each, content in mnist_files(rng)[0].items():
        (tmp_path / each).write_bytes(content)
    (tmp_path / name).write_bytes(gzip.compress(idx(array)))
    with pytest.raises(FileFormatError, match=message):
        mnist("test", folder=tmp_path)


# --- CIFAR-10: pickles of Python 2, and of today ------------------------------------------------------------------

def python2_batch(pixels, labels):
    """The bytes that Python 2's cPickle wrote: protocol 2, every text and the array's content a `str`."""
    def text(value):
        value = value.encode("latin1")
        return b"U" + bytes([len(value)]) + value
    raw = pixels.tobytes()
    array = (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
             + b"M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
             + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89"
             + b"T" + struct.pack("<I", len(raw)) + raw + b"tb")
    return (b"\x80\x02}q\x01(" + text("batch_label") + b"q\x02" + text("testing batch 1 of 1")
            + text("labels") + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
            + text("data") + array + text("filenames") + b"](" + text("truck_s_0001\xe9.png") * len(labels) + b"eu.")


def batch_of(rng, n=20):
    return rng.integers(0, 256, (n, 3072)).astype("u1"), rng.integers(0, 10, n).tolist()


WRITERS = {
    "python 2": python2_batch,
    "python 3, text keys": lambda x, y: pickle.dumps({"data": x, "labels": y}, protocol=2),
    "python 3, bytes keys": lambda x, y: pickle.dumps({b"labels": y, b"data": x, b"filenames": [b"a\xff"] * len(y)}, 2),
    "protocol 5, fortran order": lambda x, y: pickle.dumps({"data": np.asfortranarray(x), "labels": y}, protocol=5),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_plain_pickles_agree_with_pickle(rng, writer):
    content = WRITERS[writer](*batch_of(rng))
    ours, oracle = read_plain_pickle(content), pickle.loads(content, encoding="latin1")
    assert list(ours) == list(oracle)
    for key, value in oracle.items():
        assert np.array_equal(ours[key], value) and type(ours[key]) is type(value)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("where", ["archive", "folder of the archive", "batches"])
def test_cifar_from_a_folder(tmp_path, rng, writer, where):
    names, batches = [*images.CIFAR10_BATCHES["train"], "test_batch"], []
    inside = tmp_path / images.CIFAR10_FOLDER
    inside.mkdir()
    for name in names:
        batches.append(batch_of(rng))
        (inside / name).write_bytes(WRITERS[writer](*batches[-1]))
    if where == "archive":
        with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(inside, images.CIFAR10_FOLDER)
    folder = inside if where == "batches" else tmp_path
    pixels, labels = cifar10("train", folder=folder).arrays
    assert pixels.shape == (100, 3, 32, 32) and pixels.dtype == np.uint8
    assert np.array_equal(pixels.reshape(100, -1), np.concatenate([x for x, _ in batches[:5]]))
    assert np.array_equal(labels, np.concatenate([y for _, y in batches[:5]]))
    assert np.array_equal(cifar10("test", folder=folder).arrays[1], batches[5][1])


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def written(tmp_path, content):
    (tmp_path / "test_batch").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_batch_executes_nothing(tmp_path, rng, protocol):
    x, y = batch_of(rng)
    value = {"data": x, "labels": y, "extra": Canary(str(tmp_path / "ran"))}
    with pytest.raises(FileFormatError, match="test_batch: refused"):
        cifar10("test", folder=written(tmp_path, pickle.dumps(value, protocol=protocol)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content, message", [
    (b"", "damaged|truncated"), (pickle.dumps([1, 2]), "'data'"), (pickle.dumps({"labels": [1]}), "found NoneType"),
    (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [1, 2]}), r"found float64 \(2, 3072\)"),
    (pickle.dumps({"data": np.zeros((2, 3071), "u1"), "labels": [1, 2]}), r"found uint8 \(2, 3071\)"),
    (pickle.dumps({"data": np.zeros((2, 3072), "u1"), "labels": [1]}), "a list of 2 numbers"),
    (pickle.dumps({"data": np.zeros((2, 3072), "u1"), "labels": [1, 10]}), "from 0 to 9"),
    (pickle.dumps({"data": np.zeros((2, 3072), "u1"), "labels": [1, True]}), "from 0 to 9"),
    (pickle.dumps({"data": np.zeros((2, 3072), "u1")}), "'labels'"),
    (b"\x80\x02cos\nsystem\nU\x02ls\x85R.", "os.system"), (b"\x80\x02U\x04data", "damaged"),
    (b"T\xff\xff\xff\x7f.", "damaged"),
    (python2_batch(np.zeros((2, 3072), "u1"), [1, 2]).replace(b"T\x00\x18", b"T\x00\x17", 1), "damaged|needs"),
    (b"}(U\x04dataX\x02\x00\x00\x00\xc4\x80u.", "found str"),
])
def test_batches_that_are_none(tmp_path, content, message):
    with pytest.raises(FileFormatError, match=message):
        cifar10("test", folder=written(tmp_path, content))


def test_archives_that_are_none(tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    for content in (b"", b"PK\x03\x04", gzip.compress(b"no tar"), gzip.compress(b"x" * 5000)[:-5]):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="is no archive with cifar-10-batches-py/test_batch"):
            cifar10("test", folder=tmp_path)
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo(f"{images.CIFAR10_FOLDER}/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(FileFormatError, match="no file of a plausible size"):
        cifar10("test", folder=tmp_path)


# --- downloads ----------------------------------------------------------------------------------------------------

class Server(http.server.ThreadingHTTPServer):
    """Files from a dict.  breaks: connections that end after 1,000 bytes; ranges: whether Range is understood."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.breaks, self.ranges, self.requests = {}, 0, True, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        content = server.files.get(self.path.lstrip("/"))
        if content is None:
            return self.send_error(404)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if begin >= len(content) > 0:
            return self.send_error(416)
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            self.wfile.write(content[begin:begin + 1000])
        else:
            self.wfile.write(content[begin:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def md5(content):
    return hashlib.md5(content).hexdigest()


CONTENT = np.random.default_rng(0).bytes(5000)


def test_fetch_once(server, tmp_path, capsys):
    server.files["f.bin"] = CONTENT
    path = tmp_path / "deep" / "f.bin"
    for _ in range(2):
        assert fetch(server.url + "f.bin", path, md5(CONTENT)).read_bytes() == CONTENT
    assert server.requests == [None] and os.listdir(path.parent) == ["f.bin"]
    assert "f.bin" in capsys.readouterr().err                         # a progress bar


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(server, tmp_path, ranges):
    server.files["f.bin"], server.breaks, server.ranges = CONTENT, 2, ranges
    assert fetch(server.url + "f.bin", tmp_path / "f.bin", md5(CONTENT), progress=False).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-", "bytes=2000-" if ranges else "bytes=1000-"]


def test_an_interrupted_download_is_continued_by_the_next_call(server, tmp_path):
    server.files["f.bin"], server.breaks = CONTENT, 4
    with pytest.raises(DownloadError, match=r"f.bin could not be fetched: .*4,000 of 5,000 bytes.*4,000 bytes are kept"):
        fetch(server.url + "f.bin", tmp_path / "f.bin", md5(CONTENT), progress=False)
    assert os.listdir(tmp_path) == ["f.bin.part"]
    fetch(server.url + "f.bin", tmp_path / "f.bin", md5(CONTENT), progress=False)
    assert server.requests[-1] == "bytes=4000-" and (tmp_path / "f.bin").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["f.bin"]


def test_a_part_that_was_complete_needs_no_more_than_its_checksum(server, tmp_path):
    server.files["f.bin"] = CONTENT
    (tmp_path / "f.bin.part").write_bytes(CONTENT)                    # killed before the rename
    fetch(server.url + "f.bin", tmp_path / "f.bin", md5(CONTENT), progress=False)
    assert server.requests == ["bytes=5000-"] and os.listdir(tmp_path) == ["f.bin"]


def test_wrong_content_is_thrown_away(server, tmp_path):
    server.files["f.bin"] = CONTENT
    for begun in (b"", b"other beginning"):
        (tmp_path / "f.bin.part").write_bytes(begun)
        expected = md5(CONTENT) if begun else "0" * 32
        with pytest.raises(DownloadError, match=f"expected {expected}; it was thrown away"):
            fetch(server.url + "f.bin", tmp_path / "f.bin", expected, progress=False)
        assert os.listdir(tmp_path) == []
    fetch(server.url + "f.bin", tmp_path / "f.bin", md5(CONTENT), progress=False)


def test_datasets_by_download(server, tmp_path, rng, monkeypatch):
    files, pixels, labels = mnist_files(rng)
    monkeypatch.setattr(images, "MNIST", images.MNIST._replace(
        url=server.url, files={name: md5(content) for name, content in files.items()}))
    with pytest.raises(MissingFileError, match=r"download=False; .*ndl.data.mnist\(folder=...\)"):
        mnist("test", root=tmp_path, download=False)
    with pytest.raises(DownloadError, match=r"the server answered 404 .*ndl.data.mnist\(folder=...\)"):
        mnist("test", root=tmp_path)
    server.files.update(files)
    monkeypatch.setenv("NEEDLE_LAB_DATA", str(tmp_path / "by environment"))
    for options in ({"root": tmp_path}, {}, {"root": tmp_path, "download": False}):
        assert np.array_equal(mnist("test", **options).arrays[0][:, 0], pixels)
    assert sorted(os.listdir(tmp_path / "by environment" / "mnist")) == sorted(files)

    x, y = batch_of(rng)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{images.CIFAR10_FOLDER}/test_batch")
        content = python2_batch(x, y)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    server.files["cifar-10-python.tar.gz"] = packed.getvalue()
    monkeypatch.setattr(images, "CIFAR10", images.CIFAR10._replace(
        url=server.url, files={"cifar-10-python.tar.gz": md5(packed.getvalue())}))
    assert np.array_equal(cifar10("test", root=tmp_path).arrays[1], y)


def test_no_network_and_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "FASHION_MNIST", images.FASHION_MNIST._replace(url="http://127.0.0.1:9/"))
    with pytest.raises(DownloadError, match=r"could not be fetched: .*name their folder: ndl.data.fashion_mnist\(folder="):
        fashion_mnist(root=tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="NEEDLE_LAB_DATA"):
        fashion_mnist(root=tmp_path / "file")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk(server, tmp_path):
    server.files["f.bin"] = CONTENT * 100
    (tmp_path / "f.bin.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left .*root="):
        fetch(server.url + "f.bin", tmp_path / "f.bin", md5(CONTENT), progress=False)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("NEEDLE_LAB_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "needle_lab" and cache_folder(tmp_path / "x") == tmp_path / "x"
