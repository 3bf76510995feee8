"""Module: one walk from which parameters, state, signature, printing and summary all derive; hooks; containers."""

import copy
import json
import pickle

import numpy as np
import pytest
from conftest import assert_close
from peers import needs_torch, torch
from small_models import Affine, Net, Norm, bits

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import ArgumentError, DTypeError, ShapeError, StateKeyError
from needle_lab.nn import Buffer, Module, ModuleDict, ModuleList, Parameter, Sequential


def torch_net(width=4):
    """The same names in PyTorch, whose containers must be ModuleList and ModuleDict."""
    net = torch.nn.Module()
    net.stem = torch.nn.Linear(3, width)
    net.blocks = torch.nn.ModuleList(torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU())
                                     for _ in range(3))
    net.tied = net.blocks[0]
    return net


class Twin(Module):
    """torch_net with plain lists."""

    def __init__(self, width=4):
        super().__init__()
        self.stem = Affine(3, width)
        self.blocks = [Sequential(Affine(width, width), Nothing()) for _ in range(3)]
        self.tied = self.blocks[0]


class Nothing(Module):
    def forward(self, x):
        return x


# --- the walk -----------------------------------------------------------------------------------------------------

@needs_torch
def test_paths_are_those_of_torch():
    ours, peer = Twin(), torch_net()
    assert [path for path, _ in ours.named_parameters()] == [path for path, _ in peer.named_parameters()]
    assert {path for path, _ in ours.named_modules()} == {path for path, _ in peer.named_modules()} - {"blocks"}
    assert [m.shape for m in ours.parameters()] == [tuple(p.shape) for p in peer.parameters()]


def test_everything_derives_from_one_walk():
    net = Net()
    state = {path for path, _ in net.named_parameters()} | {path for path, _ in net.named_buffers()}
    entries = set()

    def collect(node, prefix):
        entries.update(prefix + name for group in ("parameters", "buffers") for name in node[group])
        for name, child in node["children"].items():
            collect(child, f"{prefix}{name}.")

    collect(net.signature(), "")
    assert state == set(net.state_dict()) == entries
    assert "blocks.2.1.running_mean" in state and "heads.main.0.bias" in state
    assert net.summary()["parameters"] == sum(p.numel() for p in net.parameters())


def test_shared_state_appears_once_with_its_aliases():
    net = Net()
    assert not any(path.startswith("again") for path in net.state_dict())
    assert len({id(p) for p in net.parameters()}) == len(list(net.parameters()))
    entry = net.signature()["children"]["blocks"]["children"]["0"]["children"]["0"]["parameters"]["weight"]
    assert entry == {"shape": [4, 4], "dtype": "float32", "aliases": ["again.0.weight"]}
    assert net.signature()["children"]["again"]["alias_of"] == "blocks.0"

    tied = Sequential(Affine(4, 4), Affine(4, 4))
    tied[1].weight = tied[0].weight
    assert list(tied.state_dict()) == ["0.weight", "0.bias", "1.bias"]
    state = {**tied.state_dict(), "1.weight": tied[0].weight.detach()}      # as PyTorch writes it: under both names
    tied.load_state_dict(state)
    with pytest.raises(StateKeyError, match="shared with 0.weight, but the state gives them different values"):
        tied.load_state_dict({**state, "1.weight": np.zeros((4, 4), "float32")})


def test_sharing_many_times_over_does_not_explode():
    pair = Affine(2, 2)
    for _ in range(60):                                  # 2 ** 60 paths
        pair = Sequential(pair, pair)
    assert len(list(pair.parameters())) == 2
    assert len(pair.signature()["children"]) == 2


def test_a_child_that_holds_its_parent_is_visited_once():
    net = Net()
    net.stem.owner = net
    net.stem.relatives = [net.blocks[0], net]
    assert not any("owner" in entry.path for entry in net.walk())
    assert "owner" not in str(net)
    net.train().to(ndl.float64).eval()
    assert net.stem.weight.dtype == np.float64 and not net.stem.training


def test_deep_nesting_needs_no_recursion():
    net = Affine(1, 1)
    for _ in range(1100):                                # beyond Python's limit of 1000 calls
        net = Sequential(net)
    assert len(list(net.parameters())) == 2
    assert net.eval().training is False
    assert "Affine(in_features=1, out_features=1)" in str(net)


def test_large_plain_containers_are_no_state():
    net = Net()
    net.vocabulary = {f"word {i}": i for i in range(50_000)}
    net.samples = list(range(100))
    net.few = [1, 2]
    assert net.signature()["config"] == {"few": [1, 2]}
    assert list(net.state_dict()) == list(Net().state_dict())


@pytest.mark.parametrize("held, message", [
    ({"a.b": Affine(1, 1)}, "a.b"), ({1: Affine(1, 1), "1": Affine(1, 1)}, "'1'"), ({"": Affine(1, 1)}, "''"),
    ({Affine(1, 1)}, "in a set"), ([ndl.tensor([1.0], requires_grad=True)], "Parameter"),
], ids=["dot", "twice", "empty", "set", "tensor"])
def test_state_without_a_sound_name_is_refused(held, message):
    net = Net()
    net.held = held
    with pytest.raises(ArgumentError, match=message):
        net.state_dict()


def test_configuration_is_what_changes_the_mathematics():
    net = Affine(2, 3)
    net.stride, net.p, net.mode, net.bias_init, net._calls = (1, 2), np.float64(0.5), "zeros", None, 7
    net.device, net.table, net.f = "cpu", np.zeros(3), len
    assert net.signature()["config"] == {"in_features": 2, "out_features": 3, "stride": [1, 2], "p": 0.5,
                                         "mode": "zeros", "bias_init": None}
    assert json.loads(json.dumps(net.signature())) == net.signature()


def test_signature_names_of_the_original_needle():
    class ConvBN(Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = Affine(2, 2), Norm(2)

    class Two(Module):
        def __init__(self):
            super().__init__()
            self.blocks, self.fc, self.last = [ConvBN()], Affine(2, 2), ConvBN()
            self.weights = [Parameter([1.0]), Parameter([2.0, 3.0])]

    signature = Two().signature(signature_names=True)
    children = signature["children"]
    assert list(signature["parameters"]) == ["Parameter-1", "Parameter-2"]
    assert list(children) == ["ConvBN-1", "Affine-1", "ConvBN-2"]
    assert list(children["ConvBN-2"]["children"]) == ["Affine-1", "Norm-1"]


# --- assignment ---------------------------------------------------------------------------------------------------

def test_forgetting_super_init_is_harmless():
    class Forgetful(Module):
        def __init__(self):
            self.fc = Affine(2, 2)

        def forward(self, x):
            return self.fc(x)

    net = Forgetful()
    assert net.training and not net.eval().training
    assert len(net.state_dict()) == 2 and net(ndl.ones(1, 2)).shape == (1, 2)


def test_a_tensor_that_would_be_lost_is_refused():
    net = Net()
    with pytest.raises(ArgumentError, match="Parameter"):
        net.extra = ndl.tensor([1.0], requires_grad=True)
    with pytest.raises(ArgumentError, match="is a Parameter and would no longer be trained"):
        net.stem.weight = ndl.zeros(4, 3)
    net.mask = ndl.ones(3)                               # a constant
    net.last = net.stem(ndl.ones(1, 3))                  # a result kept for looking at
    assert "mask" not in net.state_dict() and "last" not in net.state_dict()


def test_a_buffer_stays_a_buffer():
    norm = Norm(3)
    norm.running_mean = 0.9 * norm.running_mean + ndl.ones(3)
    assert isinstance(norm.running_mean, Buffer)
    assert norm.state_dict()["running_mean"].tolist() == [1.0, 1.0, 1.0]
    norm.bias = None
    norm.weight = None                                   # switching a parameter off is allowed
    assert "weight" not in norm.state_dict()


def test_forward_missing():
    with pytest.raises(NotImplementedError, match="Nameless has no forward"):
        type("Nameless", (Module,), {})()(1)


# --- changes to the whole -----------------------------------------------------------------------------------------

def test_to_keeps_the_tensors_and_their_gradients():
    net = Net()
    weight = net.stem.weight
    net(ndl.ones(2, 3)).sum().backward()
    net.to(ndl.float64)
    assert net.stem.weight is weight and weight.dtype == np.float64 and weight.grad.dtype == np.float64
    assert net.blocks[0][1].batches.dtype == np.int64    # an integer buffer stays one
    assert net.to("cpu").to(ndl.cpu()) is net
    with pytest.raises(DTypeError, match="floating dtype"):
        net.to(ndl.int32)
    y = net(ndl.ones(2, 3, dtype=ndl.float64))
    net.to(ndl.float32)
    with pytest.raises(ndl.errors.GraphError, match="changed in place"):
        y.sum().backward()                               # the graph read the float64 values


def test_train_eval_apply_freeze_zero_grad():
    net, seen = Net(), []
    assert all(not m.training for m in net.eval().modules()) and all(m.training for m in net.train().modules())
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen[-1] == "Net" and len(seen) == len(list(net.modules()))
    net(ndl.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())


def test_deepcopy_and_pickle_keep_sharing(rng):
    net = Net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert bits(twin) == bits(net) and twin.again is twin.blocks[0]
        assert isinstance(twin.stem.weight, Parameter) and isinstance(twin.blocks[0][1].batches, Buffer)
        with ndl.no_grad():
            twin.stem.weight.fill_(7)
        assert bits(twin) != bits(net)


# --- load_state_dict ----------------------------------------------------------------------------------------------

@needs_torch
def test_load_from_torch(rng):
    ours, peer = Twin(), torch_net()
    report = ours.load_state_dict(peer.state_dict())     # it lists shared weights under both names
    assert report.complete and len(report.loaded) == len(list(ours.parameters()))
    x = rng.normal(size=(5, 3)).astype("float32")
    assert_close(ours.stem(ndl.tensor(x)), peer.stem(torch.tensor(x)))


@pytest.mark.parametrize("change, error, message", [
    (lambda s: s.pop("stem.bias"), StateKeyError, "stem.bias   missing"),
    (lambda s: s.update({"stem.bais": s["stem.bias"]}), StateKeyError, "stem.bais   unexpected"),
    (lambda s: s.update({"stem.bias": np.zeros(5, "float32")}), ShapeError, r"stem.bias   state \(5,\)   model \(4,\)"),
    (lambda s: s.update({"stem.bias": np.zeros(4, "int64")}), DTypeError, "state int64   model float32"),
    (lambda s: s.update({"blocks.0.1.batches": np.array(0.5)}), DTypeError, "state float64   model int64"),
], ids=["missing", "unexpected", "shape", "dtype", "integer"])
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    net, state = Net(), {path: value.numpy() + 1 for path, value in Net().state_dict().items()}
    before = bits(net)
    change(state)
    with pytest.raises(error, match=message):
        net.load_state_dict(state)
    assert bits(net) == before
    report = net.load_state_dict(state, strict=False)
    assert not report.complete and len(report.loaded) >= len(before) - 1 and bits(net) != before


def test_an_interrupt_while_writing_changes_nothing(monkeypatch):
    net, state = Net(), {path: value.numpy() + 1 for path, value in Net().state_dict().items()}
    before, calls, copy_ = bits(net), [], ndl.Tensor.copy_

    def interrupted(tensor, value):
        calls.append(tensor)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return copy_(tensor, value)

    monkeypatch.setattr(ndl.Tensor, "copy_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.load_state_dict(state)
    assert len(calls) > 5 and bits(net) == before


# --- hooks --------------------------------------------------------------------------------------------------------

def test_forward_hooks_see_and_replace():
    layer, seen = Affine(3, 2), []
    x = ndl.ones(1, 3)
    plain = layer(x).tolist()
    before = layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    after = layer.register_forward_hook(lambda m, args, y: seen.append((args[0].tolist(), y.tolist())))
    doubled = layer(x).tolist()
    assert seen == [([[2.0, 2.0, 2.0]], doubled)] and doubled != plain
    before.remove()
    after.remove()
    assert layer(x).tolist() == plain and len(seen) == 1
    with layer.register_forward_hook(lambda m, args, y: y * 0):
        assert layer(x).tolist() == [[0.0, 0.0]]
    assert layer(x).tolist() == plain
    with pytest.raises(ArgumentError, match="a hook is a function"):
        layer.register_forward_hook(3)


class TwoInTwoOut(Module):
    def forward(self, a, b):
        return a * b, a + b


def torch_two_in_two_out():
    net = torch.nn.Module()
    net.forward = lambda a, b: (a * b, a + b)
    return net


@needs_torch
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("change", [False, True])
def test_backward_hooks_agree_with_torch(rng, needs, change):
    a, b = rng.normal(size=(2, 4, 3)).astype("float32")
    seen = {"ours": [], "torch": []}

    def hook(key):
        def record(module, grad_input, grad_output):
            seen[key].append([None if g is None else np.array(g.numpy()) for g in (*grad_input, *grad_output)])
            return tuple(None if g is None else g * 3 for g in grad_input) if change else None
        return record

    results = {}
    for key, module, make in (("ours", TwoInTwoOut(), lambda x, r: ndl.tensor(x, requires_grad=r)),
                              ("torch", torch_two_in_two_out(), lambda x, r: torch.tensor(x, requires_grad=r))):
        module.register_full_backward_hook(hook(key))
        x, y = make(a, needs[0]), make(b, needs[1])
        u, v = module(x, y)
        (u.sum() + (v * v).sum() + (x * y).sum()).backward()     # the inputs are used outside as well
        results[key] = [x.grad, y.grad]
    assert len(seen["ours"]) == len(seen["torch"]) == 1
    for ours, oracle in zip(seen["ours"][0] + results["ours"], seen["torch"][0] + results["torch"], strict=True):
        if ours is None:                                 # where PyTorch fills in zeros for "no gradient needed"
            assert oracle is None or not np.any(oracle)
        else:
            assert_close(ours, oracle)


def test_backward_hook_of_a_first_layer_and_removal():
    layer, seen = Affine(3, 2), []
    handle = layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, [g.shape for g in go])))
    layer(ndl.ones(4, 3)).sum().backward()
    assert seen == [((None,), [(4, 2)])]                 # data needs no gradient
    with ndl.no_grad():
        layer(ndl.ones(4, 3))
    handle.remove()
    layer(ndl.ones(4, 3)).sum().backward()
    assert len(seen) == 1
    layer.register_full_backward_hook(lambda m, gi, go: (None, None))
    with pytest.raises(ArgumentError, match="returned 2 gradients for 1 input"):
        layer(ndl.ones(4, 3)).sum().backward()


def test_hooks_leave_second_derivatives_alone():
    x = ndl.tensor([2.0], requires_grad=True)
    cube = type("Cube", (Module,), {"forward": lambda self, x: x * x * x})()
    cube.register_full_backward_hook(lambda m, gi, go: None)
    (first,) = ndl.grad(cube(x), x, create_graph=True)
    (second,) = ndl.grad(first, x)
    assert (first.item(), second.item()) == (12.0, 12.0)


# --- printing and summary -----------------------------------------------------------------------------------------

@needs_torch
def test_repr_has_the_lines_of_torch():
    class Linear(Affine):
        def extra_repr(self):
            return f"in_features={self.in_features}, out_features={self.out_features}, bias=True"

    ours = Sequential({"a": Linear(3, 4), "list": ModuleList([Linear(4, 4), Linear(4, 4)]), "empty": Sequential()})
    peer = torch.nn.Sequential()
    peer.add_module("a", torch.nn.Linear(3, 4))
    peer.add_module("list", torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)]))
    peer.add_module("empty", torch.nn.Sequential())
    assert repr(ours) == repr(peer)


def test_summary_prints_a_tree_and_returns_json(capsys):
    net = Net()
    net.blocks[0].eval()
    modes, before = [m.training for m in net.modules()], bits(net)
    info = net.summary((5, 3))
    printed = capsys.readouterr().out
    assert [m.training for m in net.modules()] == modes and bits(net) == before     # batch norm did not see the zeros
    assert json.loads(json.dumps(info)) == info
    rows = {row["path"]: row for row in info["rows"]}
    assert rows["stem"]["output"] == [5, 4] and rows[""]["output"] == [5, 2]
    assert rows["stem"]["parameters"] == 16 and rows["again"]["shared_with"] == "blocks.0"
    assert sum(rows[name]["parameters"] for name in ("stem", "blocks", "heads", "again")) + 1 == info["parameters"]
    assert "output shape" in printed and "parameters   share (%)" in printed and "MiB" in printed
    assert printed.isascii()
    assert net.summary(ndl.ones(5, 3))["rows"] == info["rows"]
    with pytest.raises(ArgumentError, match="shape such as"):
        net.summary("x")


# --- containers ---------------------------------------------------------------------------------------------------

def test_module_list_and_sequential_behave_like_lists():
    layers = [Affine(2, 2) for _ in range(4)]
    for kind in (lambda *x: Sequential(*x), lambda *x: ModuleList(x)):
        net = kind(*layers[:2])
        net.append(layers[2])
        net.insert(0, layers[3])
        expected = [layers[3], *layers[:3]]
        assert list(net) == expected and len(net) == 4 and layers[0] in net
        assert [path for path, _ in net.named_children()] == ["0", "1", "2", "3"]
        assert net[-1] is layers[2] and list(net[1:3]) == expected[1:3] and type(net[1:3]) is type(net)
        del net[0]
        net[0] = layers[3]
        assert list(net) == [layers[3], *layers[1:3]] and list(net.state_dict())[0] == "0.weight"
        with pytest.raises(IndexError, match="layer 9"):
            net[9]


def test_sequential_applies_in_order():
    a, b = Affine(2, 3), Affine(3, 1)
    x = ndl.ones(2, 2)
    assert Sequential(a, b)(x).tolist() == b(a(x)).tolist() == Sequential({"one": a, "two": b})(x).tolist()


def test_module_dict():
    a, b = Affine(1, 1), Affine(1, 1)
    net = ModuleDict({"a": a})
    net["b"] = b
    assert net.keys() == ["a", "b"] and net["b"] is b and "a" in net and len(net) == 2
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert net.pop("a") is a and list(net) == ["b"] and net.items() == [("b", b)] and net.values() == [b]
    with pytest.raises(KeyError, match="this ModuleDict has 'b'"):
        net["a"]


@pytest.mark.parametrize("make, message", [
    (lambda: Sequential(Affine(1, 1), abs), "write a Module around it"),
    (lambda: Sequential(Affine), "was it meant to be called"),
    (lambda: ModuleList([Affine(1, 1), 3]), "entry '1' is a int"),
    (lambda: ModuleDict({"keys": Affine(1, 1)}), "attribute of ModuleDict"),
    (lambda: ModuleDict({"a.b": Affine(1, 1)}), "without dots"),
])
def test_containers_refuse_what_is_no_layer(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_parameter_and_buffer():
    assert Parameter([1.0]).requires_grad and not Parameter([1.0], requires_grad=False).requires_grad
    assert not Buffer([1.0]).requires_grad and "Parameter containing" in repr(Parameter([1.0]))
    with pytest.raises(DTypeError):
        Parameter(np.arange(3))
    assert nn.Parameter(ndl.ones(2, dtype=ndl.bfloat16)).dtype == ndl.bfloat16


@needs_torch
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_state_of_pytorchs_tensors_loads(dtype):
    """With gradients, as `dict(net.named_parameters())` gives them, in any floating dtype, and not contiguous."""
    theirs = torch.nn.Linear(3, 2).to(getattr(torch, dtype))
    ours = nn.Linear(3, 2)
    ours.load_state_dict({**dict(theirs.named_parameters()), "weight": theirs.weight.t().contiguous().t()})
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().float().numpy())
    made = ndl.tensor(theirs.bias)
    assert made.dtype == dtype and made.is_leaf and not made.requires_grad


@needs_torch
def test_a_state_that_is_none_of_numbers_is_an_error_of_ours():
    with pytest.raises(ndl.errors.NeedleError, match="weight|numbers"):
        nn.Linear(3, 2).load_state_dict({"weight": object(), "bias": [1.0, 2.0]})

# --- an override that the walk meets -------------------------------------------------------------------------------------


class Frozen(nn.BatchNorm1d):
    """A batch norm that stays as it is: every change to the whole passes it by, or is noted."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked = []

    def train(self, mode=True):
        self.asked.append("train")
        return super().train(False)

    def requires_grad_(self, flag=True):
        self.asked.append("requires_grad_")
        return super().requires_grad_(False)

    def to(self, *args, **kwargs):
        self.asked.append("to")
        return self

    def apply(self, function):
        self.asked.append("apply")
        return self


@pytest.mark.parametrize("hold", [lambda m: nn.Sequential(nn.Linear(2, 3), m), lambda m: Holding((nn.Sequential(m, m), m)),
                                  lambda m: nn.Sequential(nn.Sequential(m), nn.ReLU()),
                                  lambda m: Holding([{"a": m}, nn.Linear(1, 1)])])
def test_what_changes_the_whole_goes_through_the_methods_of_the_parts(hold):
    frozen = Frozen(3)
    frozen.inner = nn.Dropout(0.5)                        # below it, its own train() decides
    model, seen = hold(frozen), []
    assert model.train() is model and model.training and not frozen.training and not frozen.inner.training
    model.eval().train()
    assert frozen.asked == ["train"] * 3
    model.requires_grad_(True)
    assert not frozen.weight.requires_grad and frozen.asked.count("requires_grad_") == 1
    assert all(p.requires_grad for name, p in model.named_parameters() if p is not frozen.weight and p is not frozen.bias)
    model.to(dtype="float64")
    assert frozen.weight.dtype == np.float32 and frozen.asked.count("to") == 1
    assert all(p.dtype == np.float64 for p in model.parameters() if p is not frozen.weight and p is not frozen.bias)
    model.apply(seen.append)
    assert frozen not in seen and frozen.inner not in seen and seen[-1] is model and frozen.asked.count("apply") == 1
    plain = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    plain[1].train = lambda mode=True: seen.append("mine")  # set on one object
    plain.eval()
    assert seen[-1] == "mine" and plain[1].training


class Holding(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.held = held


def test_a_slice_of_a_sequential_keeps_its_names_and_lists_of_parameters_are_trained():
    whole = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert list(whole[1:].state_dict()) == ["2.weight", "2.bias"] == [n for n in whole.state_dict() if n[0] == "2"]
    assert list(nn.Sequential({"a": nn.ReLU(), "b": nn.Linear(1, 1)})[-1:].state_dict()) == ["b.weight", "b.bias"]
    assert [name for name, _ in whole[1:].append(nn.Tanh()).named_children()] == ["1", "2", "3"]      # overwrites nothing
    assert [name for name, _ in nn.ModuleList([nn.ReLU(), nn.Tanh()])[1:].named_children()] == ["0"]
    several = nn.ParameterList([ndl.ones(2), nn.Parameter(ndl.zeros(1))])
    several.append(ndl.ones(3))
    assert [tuple(p.shape) for p in several] == [(2,), (1,), (3,)] and list(several[1:].state_dict()) == ["0", "1"]
    named = nn.ParameterDict({"a": ndl.ones(2)})
    named["b"] = ndl.zeros(1)
    assert all(isinstance(p, nn.Parameter) for p in (*several, *named.values())) and list(named.state_dict()) == ["a", "b"]
    for call, words in ((lambda: several.append(3), "a int, not a tensor"), (lambda: several(1), "is not called"),
                        (lambda: named.update({"keys": ndl.ones(1)}), "attribute of ParameterDict itself")):
        with pytest.raises(ArgumentError, match=words):
            call()


def test_what_people_of_pytorch_call_on_a_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", ndl.ones(2), persistent=False)
            self.register_buffer("mean", ndl.zeros(2))
            self.register_parameter("scale", nn.Parameter(ndl.ones(2)))
            self.add_module("body", nn.Sequential(nn.Linear(2, 2)))

        def forward(self, x):
            return self.body(x) * self.scale * self.mask
    net = copy.deepcopy(Net())
    assert list(net.state_dict()) == ["mean", "scale", "body.0.weight", "body.0.bias"]
    assert [name for name, _ in net.named_buffers()] == ["mask", "mean"] and "mask" not in net.signature()["buffers"]
    net.load_state_dict(Net().state_dict())
    net.mask = ndl.zeros(2)
    assert "mask" not in net.state_dict() and not pickle.loads(pickle.dumps(net.mask)).persistent
    assert net.get_submodule("body.0") is net.body[0] and net.get_parameter("body.0.bias") is net.body[0].bias
    with pytest.raises(AttributeError, match="nothing at 'body.1'"):
        net.get_submodule("body.1")
    assert [name for name, _ in net.named_parameters("net", recurse=False)] == ["net.scale"]
    assert [len(list(m.parameters(recurse=False))) for m in net.modules()] == [1, 0, 2]
    assert net.double().scale.dtype == net.mask.dtype == np.float64 and net.half().mean.dtype == np.float16
    net.float()(input=ndl.ones(1, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0, 0]
