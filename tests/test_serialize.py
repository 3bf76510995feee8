"""Saving and loading: round trips, resuming, the signature and device rules, and what a kill in the middle leaves."""

import json
import os
import random
import signal
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from peers import needs, torch
from small_models import Affine, Momentum, Net, bits

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import ArgumentError, DeviceError, FileFormatError, SignatureMismatch, StorageError
from needle_lab.nn import Buffer, Module, Parameter, Sequential
from needle_lab.serialize import (
    atomic,
    load_checkpoint,
    load_state_dict,
    load_tensors,
    save_checkpoint,
    save_state_dict,
    tensorfile,
)
from needle_lab.serialize.save import KEY

DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
          "uint64", "bool", "float8_e4m3fn", "float8_e5m2"]

needs_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes, pipes, links and permissions of POSIX")


def as_dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))


class Zoo(Module):
    """One buffer of every dtype and of many shapes; not contiguous, empty, without axes."""

    def __init__(self, rng):
        super().__init__()
        for name in DTYPES:
            setattr(self, name, Buffer(rng.integers(0, 2, (3, 5)).astype(as_dtype(name))))
        self.turned = Parameter(rng.normal(size=(4, 6)).astype("float32").T)
        self.strided = Parameter(rng.normal(size=(4, 6)).astype("float32")[::2, ::-2])
        self.scalar, self.empty = Parameter(np.float32(rng.normal())), Parameter(np.zeros((0, 3), "float32"))
        self.odd = Buffer(np.array([np.nan, -0.0, np.inf, 1e-45], "float32"))


def rewrite(path, change):
    """Save the file again with its needle_lab metadata changed (and a correct checksum)."""
    file = tensorfile.read(path)
    about = json.loads(file.metadata[KEY])
    change(about)
    tensorfile.write(path, file.arrays, {KEY: json.dumps(about)})


# --- round trips --------------------------------------------------------------------------------------------------

def test_every_dtype_and_layout_comes_back_bit_for_bit(tmp_path, rng):
    zoo, other = Zoo(rng), Zoo(rng)
    assert bits(zoo) != bits(other)
    save_state_dict(zoo, tmp_path / "zoo.safetensors")
    report = load_state_dict(other, tmp_path / "zoo.safetensors")
    assert bits(zoo) == bits(other)
    assert report.complete and sorted(report.loaded) == sorted(zoo.state_dict())


@needs("safetensors")
def test_the_safetensors_library_reads_what_is_written(tmp_path, rng):
    import safetensors

    zoo = Zoo(rng)
    save_state_dict(zoo, tmp_path / "zoo.safetensors")
    content = (tmp_path / "zoo.safetensors").read_bytes()
    entries = dict(safetensors.deserialize(content))
    assert {name: bytes(entry["data"]) for name, entry in entries.items()} == \
        {path: value.numpy().tobytes() for path, value in zoo.state_dict().items()}
    with safetensors.safe_open(tmp_path / "zoo.safetensors", "np") as file:
        assert json.loads(file.metadata()[KEY])["signature"] == zoo.signature()
        assert json.loads(file.metadata()[KEY])["device"] == "cpu"


@needs("safetensors", "torch")
def test_the_safetensors_library_reads_bfloat16_for_torch(tmp_path, rng):
    import safetensors.torch as peer
    zoo = Zoo(rng)
    save_state_dict(zoo, tmp_path / "zoo.safetensors")
    assert torch.equal(peer.load_file(tmp_path / "zoo.safetensors")["bfloat16"],
                       torch.tensor(zoo.bfloat16.numpy().astype("float32")).to(torch.bfloat16))


@needs("safetensors")
def test_files_of_the_safetensors_library_are_read(tmp_path, rng):
    import safetensors.numpy

    arrays = {"w": rng.normal(size=(3, 4)).astype("float32"), "n": np.arange(5), "h": np.ones(3, "float16"),
              "zero": np.zeros((2, 0), "float64")}
    safetensors.numpy.save_file(arrays, tmp_path / "foreign.safetensors", metadata={"format": "np"})
    loaded = load_tensors(tmp_path / "foreign.safetensors")
    assert {name: (x.dtype, x.tolist()) for name, x in loaded.items()} == \
        {name: (x.dtype, x.tolist()) for name, x in arrays.items()}


def test_loaded_weights_are_the_models_own_memory(tmp_path):
    net = Net()
    weight, data = net.stem.weight, net.stem.weight.data
    save_state_dict(net, tmp_path / "w")
    load_state_dict(net, tmp_path / "w")
    assert net.stem.weight is weight and weight.data is data and data.flags.writeable


def test_shared_weights_are_saved_once_and_stay_shared(tmp_path):
    net, twin = Net(), Net()
    save_state_dict(net, tmp_path / "w")
    load_state_dict(twin, tmp_path / "w")
    assert bits(net) == bits(twin) and twin.again is twin.blocks[0]
    assert not any(name.startswith("again") for name in load_tensors(tmp_path / "w"))


@needs_posix
def test_links_and_permissions_survive(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    os.chmod(tmp_path / "real", 0o640)
    os.symlink(tmp_path / "real", tmp_path / "link")
    save_state_dict(Net(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    load_state_dict(Net(), tmp_path / "real")
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


# --- the signature and the device ---------------------------------------------------------------------------------

def test_another_architecture_is_refused_with_the_differing_paths(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_state_dict(Net(4), path)
    net = Net(6)
    before = bits(net)
    with pytest.raises(SignatureMismatch) as caught:
        load_state_dict(net, path)
    lines = str(caught.value).splitlines()
    differing = sum(a.shape != b.shape for a, b in zip(Net(4).state_dict().values(), net.state_dict().values(),
                                                       strict=True))
    assert lines[0] == (f"weights.safetensors was saved from Net, this model is Net; {differing} of "
                        f"{len(before)} entries differ:")
    assert "  stem.weight         file (4, 3)   model (6, 3)" in lines
    assert lines[-2] == f'  ... {differing - 5} more: ndl.diff(model, "{path}") shows all'
    assert lines[-1] == "To load the entries that fit: ndl.load_state_dict(model, path, strict=False)"
    assert bits(net) == before


def test_resnet9_and_resnet9_2_of_the_needle_report(tmp_path):
    a, same, b = ndl.models.ResNet9(), ndl.models.ResNet9(), ndl.models.ResNet9_2()
    path = tmp_path / "resnet9.safetensors"
    save_state_dict(a, path)
    load_state_dict(same, path)
    assert bits(a) == bits(same)
    before = bits(b)
    with pytest.raises(SignatureMismatch, match="saved from ResNet9, this model is ResNet9_2; 21 of 60 entries differ"):
        load_state_dict(b, path)
    assert bits(b) == before


def test_not_strict_loads_what_fits_and_says_what_did_not(tmp_path):
    saved, net = Net(4), Net(4)
    del net.heads
    net.stem, net.new = Affine(5, 4), Affine(1, 1)
    save_state_dict(saved, tmp_path / "w")
    before = bits(net)
    report = load_state_dict(net, tmp_path / "w", strict=False)
    after = bits(net)
    assert report.missing == ["new.weight", "new.bias"] and report.mismatched.keys() == {"stem.weight"}
    assert report.unexpected == ["heads.main.0.weight", "heads.main.0.bias"]
    assert all(after[path] == bits(saved)[path] for path in report.loaded) and "stem.bias" in report.loaded
    assert all(after[path] == before[path] for path in [*report.missing, "stem.weight"])
    assert "stem.weight   state (4, 3)   model (4, 5)" in str(report)


@pytest.mark.parametrize("change, message", [
    (lambda net: setattr(net.blocks[1][1], "eps", 1e-3), r"blocks.1.1 .* eps: 1e-05 -> 0.001"),
    (lambda net: setattr(net, "__class__", type("Renamed", (Net,), {})), "class Net -> Renamed"),
    (lambda net: net.to(ndl.float64), "file float32   model float64"),
    (lambda net: setattr(net, "again", net.blocks[1]), "shared"),
], ids=["configuration", "class", "dtype", "sharing"])
def test_weights_that_fit_but_mean_something_else_are_refused(tmp_path, change, message):
    save_state_dict(Net(), tmp_path / "w")
    net = Net()
    change(net)
    before = bits(net)
    with pytest.raises(SignatureMismatch, match=message):
        load_state_dict(net, tmp_path / "w")
    assert bits(net) == before


def test_another_device_is_refused_unless_mapped(tmp_path):
    path, saved = tmp_path / "w", Net()
    save_state_dict(saved, path)
    rewrite(path, lambda about: about.update(device="cuda:0"))
    net = Net()
    before = bits(net)
    for wrong in (None, "cuda", {"cuda:1": "cpu"}, {"cuda:0": "cuda:1"}):
        for strict in (True, False):
            with pytest.raises(DeviceError, match="saved on cuda:0.*model is on cpu.*\n.*map_device='cpu'"):
                load_state_dict(net, path, map_device=wrong, strict=strict)
    assert bits(net) == before
    for right in ("cpu", ndl.cpu(), {"cuda": "cpu"}, {"cuda:0": ndl.cpu()}):
        load_state_dict(net, path, map_device=right)
    assert bits(net) == bits(saved)

    rewrite(path, lambda about: about.update(device={"stem.weight": "cuda:1"}))
    with pytest.raises(DeviceError, match=r"saved on cuda:1.*\(stem.weight\)"):
        load_state_dict(net, path)
    load_state_dict(net, path, map_device={"cuda:1": "cpu"})


# --- checkpoints --------------------------------------------------------------------------------------------------

def train(net, optimizer, steps, history):
    for _ in range(steps):
        x = ndl.randn(8, 3)                              # data from the default generator: its state must be restored
        loss = ((net(x) - x[:, :2]) ** 2).mean()
        net.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())


OPTIMIZERS = {"least": Momentum, "SGD": ndl.optim.SGD, "Adam": ndl.optim.Adam, "AdamW": ndl.optim.AdamW,
              "Nesterov": lambda p, lr=0.1: ndl.optim.SGD(p, lr, momentum=0.9, nesterov=True, weight_decay=1e-3)}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 7])
def test_resuming_gives_the_bits_of_never_stopping(tmp_path, steps, make):
    ndl.manual_seed(1)
    net = Net()
    optimizer, history = make(net.parameters()), []
    train(net, optimizer, steps, history)
    save_checkpoint(tmp_path / "c", model=net, optimizer=optimizer, history=history, epoch=steps)
    train(net, optimizer, 10, history)

    ndl.manual_seed(2)
    resumed = Net()
    assert bits(resumed) != bits(net)
    again = make(resumed.parameters(), lr=9.0)
    checkpoint = load_checkpoint(tmp_path / "c", model=resumed, optimizer=again)
    assert checkpoint["epoch"] == steps and checkpoint.restored == ("model", "optimizer", "rng")
    train(resumed, again, 10, checkpoint.history)
    assert bits(resumed) == bits(net) and checkpoint.history == history


def test_a_whole_model_resumes_with_schedule_and_dropout(tmp_path):
    """Language model with dropout, AdamW with two groups, a schedule, clipping: interrupted and not, the same bits."""
    def make():
        model = ndl.nn.Sequential(ndl.nn.Embedding(11, 6), ndl.nn.Dropout(0.3), ndl.nn.Flatten(),
                                  ndl.nn.Linear(24, 16), ndl.nn.BatchNorm1d(16), ndl.nn.ReLU(), ndl.nn.Linear(16, 11))
        optimizer = ndl.optim.AdamW([{"params": [model[0].weight], "lr": 0.01},
                                     {"params": list(model[3:].parameters())}], lr=0.02)
        return model, optimizer, ndl.optim.CosineAnnealingLR(optimizer, T_max=20)

    def steps(model, optimizer, schedule, count):
        for _ in range(count):
            x = ndl.randint(0, 11, (8, 5))
            loss = ndl.nn.CrossEntropyLoss()(model(x[:, :4]), x[:, 4])
            model.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    ndl.manual_seed(5)
    whole = make()
    steps(*whole, 6)
    save_checkpoint(tmp_path / "c", model=whole[0], optimizer=whole[1], schedule=whole[2])
    steps(*whole, 6)
    ndl.manual_seed(6)
    resumed = make()
    checkpoint = load_checkpoint(tmp_path / "c", model=resumed[0], optimizer=resumed[1], schedule=resumed[2])
    assert checkpoint.restored == ("model", "optimizer", "schedule", "rng")
    steps(*resumed, 6)
    assert bits(resumed[0]) == bits(whole[0]) and resumed[1].lr == whole[1].lr

    sgd = ndl.optim.SGD(resumed[0].parameters(), 0.1)
    with pytest.raises(ArgumentError, match="saved from AdamW, this optimizer is SGD"):
        load_checkpoint(tmp_path / "c", model=resumed[0], optimizer=sgd)
    assert bits(resumed[0]) == bits(whole[0]) and sgd.lr == 0.1


def test_a_checkpoint_holds_nested_values_exactly(tmp_path):
    extras = {"none": None, "nested": {"a": [1, (2.5, True)], 3: "three", "$x": "dollar", (1, 2): []},
              "nan": float("nan"), "inf": float("-inf"), "third": 1 / 3, "big": 2**200, "text": "\u00e9\n\"",
              "array": np.arange(6, dtype="int16").reshape(2, 3), "tensor": ndl.tensor([1.5], dtype=ndl.bfloat16),
              "number": np.float32(0.1), "same": {1: np.ones(1), "1": np.zeros(2)}}
    save_checkpoint(tmp_path / "c", history={"loss": [0.5]}, extras=extras)
    found = load_checkpoint(tmp_path / "c")["extras"]
    assert repr(found.pop("array")) == repr(extras.pop("array"))
    assert found["tensor"].dtype == ndl.bfloat16 and found.pop("tensor").tolist() == extras.pop("tensor").tolist()
    assert [x.size for x in found.pop("same").values()] == [x.size for x in extras.pop("same").values()]
    assert repr(found) == repr({**extras, "number": float(np.float32(0.1))})


def test_generators_are_saved_and_restored(tmp_path):
    mine, loader = ndl.Generator(3), ndl.Generator(4)
    save_checkpoint(tmp_path / "c", rng={"mine": mine, "loader": loader})
    first = [ndl.rand(2).tolist(), *(ndl.rand(2, generator=g).tolist() for g in (mine, loader))]
    load_checkpoint(tmp_path / "c", rng={"loader": loader, "mine": mine})
    assert first == [ndl.rand(2).tolist(), *(ndl.rand(2, generator=g).tolist() for g in (mine, loader))]
    with pytest.raises(ArgumentError, match="without the generator 'generator'; it has 'default', 'mine', 'loader'"):
        load_checkpoint(tmp_path / "c", rng=mine)


def test_weights_can_be_loaded_from_a_checkpoint(tmp_path):
    net, twin = Net(), Net()
    save_checkpoint(tmp_path / "c", model=net, optimizer=Momentum(net.parameters()))
    load_state_dict(twin, tmp_path / "c")
    assert bits(twin) == bits(net)


def test_a_checkpoint_that_fails_half_way_changes_nothing(tmp_path):
    net, twin = Net(), Net()
    optimizer = Momentum(net.parameters())
    net(ndl.ones(4, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "c", model=net, optimizer=optimizer)

    class Picky(Momentum):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            if "lr" in state["config"] and state["config"]["lr"] != 7:
                raise ArgumentError("another optimizer")

    other = Picky(twin.parameters(), lr=7)
    before, rng_state = bits(twin), ndl.get_rng_state()
    with pytest.raises(ArgumentError, match="another optimizer"):
        load_checkpoint(tmp_path / "c", model=twin, optimizer=other)
    assert bits(twin) == before and other.config["lr"] == 7 and ndl.get_rng_state() == rng_state
    assert not any(v.numpy().any() for v in other.velocity.values())
    with pytest.raises(SignatureMismatch):
        load_checkpoint(tmp_path / "c", model=Net(5), optimizer=other)
    assert other.config["lr"] == 7


def itself():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize("save, load, error, message", [
    (lambda p: save_checkpoint(p, model=Net()), lambda p: load_checkpoint(p, optimizer=Momentum([])), ArgumentError,
     "saved without an optimizer"),
    (lambda p: save_checkpoint(p), lambda p: load_checkpoint(p, model=Net()), ArgumentError, "saved without a model"),
    (lambda p: save_checkpoint(p), lambda p: load_state_dict(Net(), p), ArgumentError, "saved without a model"),
    (lambda p: save_state_dict(Net(), p), lambda p: load_checkpoint(p), FileFormatError, "saved weights"),
    (lambda p: save_checkpoint(p, f=len), None, ArgumentError, "aux/f is a builtin_function_or_method"),
    (lambda p: save_checkpoint(p, x=[np.array([None])]), None, ArgumentError, "aux/x/0: arrays of object"),
    (lambda p: save_state_dict(p, Net()), None, ArgumentError, r"the order is save_state_dict\(module, path\)"),
    (lambda p: save_checkpoint(p, model=3), None, ArgumentError, "a Module is needed, got int"),
    (lambda p: save_checkpoint(p), lambda p: load_checkpoint(p)["x"], KeyError, "no extras"),
    (lambda p: save_checkpoint(p, x=itself()), None, ArgumentError, "does it contain itself"),
])
def test_misuse_says_what_is_needed(tmp_path, save, load, error, message):
    path = tmp_path / "c"
    if load is None:
        with pytest.raises(error, match=message):
            save(path)
        assert os.listdir(tmp_path) == []
    else:
        save(path)
        with pytest.raises(error, match=message):
            load(path)


# --- interrupted and refused writes -------------------------------------------------------------------------------

class Wide(Module):
    """Every value is the number of the save it belongs to: a mixture of two saves would show."""

    def __init__(self):
        super().__init__()
        self.layers = [Parameter(np.zeros((64, 64), "float32")) for _ in range(40)]

    def fill(self, number):
        with ndl.no_grad():
            for layer in self.layers:
                layer.fill_(number)

    def number(self):
        found = {float(x) for layer in self.layers for x in np.unique(layer.numpy())}
        assert len(found) == 1, f"weights of several saves in one file: {found}"
        return found.pop()


@needs_posix
def test_kill_during_save_never_leaves_a_broken_or_missing_file(tmp_path):
    """200 processes that save without pause, each killed at a random moment of its own processor time: it comes however busy
    the machine is."""
    path, seed = tmp_path / "weights.safetensors", random.Random(0)
    writer, reader = Wide(), Wide()
    save_state_dict(writer, path)
    last, unfinished = 0.0, 0
    for _ in range(200):
        moment = seed.uniform(0.001, 0.03)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGPROF, signal.SIG_DFL)              # which ends the process, as SIGKILL does
            signal.setitimer(signal.ITIMER_PROF, moment)
            number = last
            while True:
                number += 1
                writer.fill(number)
                save_state_dict(writer, path)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGPROF
        unfinished += any(name.endswith(".needle-tmp") for name in os.listdir(tmp_path))
        load_state_dict(reader, path)
        assert reader.number() >= last
        last = reader.number()
    assert unfinished and last > 0                       # some kills did hit a save in the middle, some saves finished
    save_state_dict(writer, path)
    assert os.listdir(tmp_path) == [path.name]           # what the killed ones left is cleaned up


def test_a_save_does_not_remove_the_file_of_a_living_one(tmp_path):
    with atomic.replacing(tmp_path / "w") as slow:
        slow.write(b"slow")
        save_state_dict(Net(), tmp_path / "w")           # a second save, of another thread or process
        load_state_dict(Net(), tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == b"slow" and os.listdir(tmp_path) == ["w"]


def test_without_file_locks_a_file_is_closed_before_it_is_renamed(tmp_path, monkeypatch):
    """Windows has no fcntl, and no new name for a file that is open."""
    rename, closed = os.replace, []
    monkeypatch.setattr(atomic, "fcntl", None)
    with atomic.replacing(tmp_path / "w") as file:
        monkeypatch.setattr(os, "replace", lambda *paths: (closed.append(file.closed), rename(*paths)))
        file.write(b"new")
    assert closed == [True] and (tmp_path / "w").read_bytes() == b"new" and os.listdir(tmp_path) == ["w"]


@needs_posix
def test_a_file_that_is_replaced_while_it_is_opened_is_not_mixed_with_the_other(tmp_path, monkeypatch):
    """The header is checked by a library that opens the file again, by its name."""
    path, net, library = tmp_path / "w", Net(), tensorfile.safe_open
    save_state_dict(Net(), path)
    before = bits(net)

    def late(*args):
        save_state_dict(Net(), path)                     # another process saves between the two openings
        return library(*args)

    monkeypatch.setattr(tensorfile, "safe_open", late)
    with pytest.raises(StorageError, match="was replaced while it was opened; load it again"):
        load_state_dict(net, path)
    assert bits(net) == before


def in_child(function):
    """Run in a forked process; -> the text it returns."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = function()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, str(answer).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


@needs_posix
def test_no_room_for_the_file(tmp_path):
    import resource
    path = tmp_path / "w"
    save_state_dict(Net(), path)
    before = path.read_bytes()

    def save_too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        save_state_dict(Wide(), path)

    assert in_child(save_too_much).startswith(f"StorageError: {path} could not be written: File too large. What was "
                                              "there before is unchanged")
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["w"]


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_a_full_disk_at_any_step(tmp_path, monkeypatch, call):
    path = tmp_path / "w"
    save_state_dict(Net(), path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        for save in (lambda: save_state_dict(Net(), path), lambda: save_checkpoint(path, model=Net())):
            with pytest.raises(StorageError, match="could not be written: No space left on device"):
                save()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["w"]


def unprivileged():
    if os.geteuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)


@needs_posix
def test_places_that_cannot_be_written(tmp_path):
    os.mkdir(tmp_path / "folder")
    os.mkdir(tmp_path / "closed", 0o500)
    (tmp_path / "closed" / "w").write_bytes(b"old") if os.geteuid() == 0 else None
    os.mkfifo(tmp_path / "pipe")
    net = Net()
    for path, message in [(tmp_path / "folder", "it is a folder"), (tmp_path / "none" / "w", "No such file"),
                          (tmp_path / "pipe", "no regular file")]:
        with pytest.raises(StorageError, match=message):
            save_state_dict(net, path)

    def save_closed():
        unprivileged()
        save_state_dict(net, tmp_path / "closed" / "w")

    assert in_child(save_closed).startswith("StorageError")
    assert sorted(os.listdir(tmp_path)) == ["closed", "folder", "pipe"] and os.listdir(tmp_path / "folder") == []


def test_an_error_inside_a_module_list_reaches_no_file(tmp_path):
    net = Sequential(Affine(2, 2))
    net.bad = {1: Affine(1, 1), "1": Affine(1, 1)}
    with pytest.raises(ArgumentError):
        save_state_dict(net, tmp_path / "w")
    assert os.listdir(tmp_path) == []


# --- files of earlier versions ------------------------------------------------------------------------------------

DATA = Path(__file__).parent / "data"      # written by needle_lab 0.1.0


def test_weights_saved_by_version_0_1_0_are_read():
    class Zoo(Module):
        def __init__(self):
            super().__init__()
            for name in DTYPES:
                setattr(self, name, Buffer(np.zeros(3, as_dtype(name))))
            self.scalar, self.empty = Parameter(np.float32(0)), Parameter(np.zeros((0, 3), "float32"))

    zoo = Zoo()
    assert load_state_dict(zoo, DATA / "weights_of_0.1.0.safetensors").complete
    for name in DTYPES:
        found = getattr(zoo, name).numpy()
        assert found.dtype == as_dtype(name) and found.tolist() == np.arange(3).astype(as_dtype(name)).tolist()
    assert zoo.scalar.item() == 0.5


def test_a_checkpoint_saved_by_version_0_1_0_is_resumed():
    """A model, its momentum, extras, and the default generator, whose next numbers are known."""
    model = ndl.nn.Linear(2, 1)
    optimizer = ndl.optim.SGD(model.parameters(), 1.0)
    checkpoint = load_checkpoint(DATA / "checkpoint_of_0.1.0.safetensors", model=model, optimizer=optimizer)
    assert (checkpoint.history, checkpoint["epoch"]) == ([0.25], 3)
    assert checkpoint["note"]["caf\u00e9"][1].tolist() == [0, 1]
    assert optimizer.state_dict()["state"]["1"]["momentum_buffer"].tolist() == [1.0]
    assert ndl.rand(2).tolist() == [0.26978665590286255, 0.3078293800354004]


@pytest.mark.parametrize("name", ["\u6a21" * 80 + ".safetensors", "a" * 243 + ".safetensors", "\u00e9" * 121 + ".safetens"],
                         ids=["CJK", "ASCII", "accents"])
def test_any_name_that_the_file_system_takes_can_be_saved_to(tmp_path, name):
    """Up to 255 bytes, which 84 Chinese characters fill; the temporary file beside it has a shorter one."""
    assert 240 <= len(name.encode()) <= 255
    model = nn.Linear(2, 2)
    save_state_dict(model, tmp_path / name)
    save_state_dict(model, tmp_path / name)
    assert load_state_dict(nn.Linear(2, 2), tmp_path / name).complete and [p.name for p in tmp_path.iterdir()] == [name]


def test_a_file_of_another_float_dtype_loads_what_fits(tmp_path):
    narrow, model = nn.Linear(3, 2), nn.Linear(3, 2)
    save_state_dict(narrow.to("float16"), tmp_path / "half")
    with pytest.raises(SignatureMismatch):
        load_state_dict(model, tmp_path / "half")
    assert load_state_dict(model, tmp_path / "half", strict=False).loaded == ["weight", "bias"]
    np.testing.assert_array_equal(model.weight.numpy(), narrow.weight.numpy())
