"""Mutated ONNX files: none may crash, hang, or raise anything but an error of needle_lab.

    python tests/fuzz_onnx.py --minutes 10 needle_lab/models/pretrained/digits_convnet.onnx

Without files, small models are exported and built here. A mutant is a file with flipped, cut or repeated bytes, or one whose
parts changed places: attributes, names, shapes, operators. It is loaded, reported and run in a worker process with a limit
of memory; an alarm ends what takes too much processor time, and the parent sees a worker that dies. Each mutant follows from
its number: `--first N --count 1` repeats one.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import needle_lab as ndl
from needle_lab import nn
from needle_lab.errors import NeedleError

SECONDS = 10                                # of processor time for one mutant
PATIENCE = 300                              # seconds until a worker that says nothing is taken for hanging
MEMORY = 6 * 2**30                          # address space of a worker
EXTREMES = [0, 1, -1, 2, 3, 7, -7, 255, 2**31 - 1, -2**31, 2**31, 2**62, -2**63, 2**63 - 1]
SHOWN = [".", "..", "", "x", "\0", "weight", "../../etc/passwd", "NOTSET", "SAME_UPPER", "linear", "nearest"]

# --- files to start from ------------------------------------------------------------------------------------------------


def _model(nodes, inputs, outputs, weights=(), opset=20) -> bytes:
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
                              [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
                              [numpy_helper.from_array(np.asarray(a), n) for n, a in weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9).SerializeToString()


def _control_flow() -> bytes:
    """A Loop with an If inside, shape arithmetic, and operators that make tensors from shapes."""
    def value(name, kind=1):
        return helper.make_tensor_value_info(name, kind, None)
    node = helper.make_node
    then = helper.make_graph([node("Relu", ["s"], ["a"])], "then", [], [value("a")])
    other = helper.make_graph([node("Neg", ["s"], ["b"])], "else", [], [value("b")])
    body = helper.make_graph([node("Add", ["state", "x"], ["s"]),
                              node("If", ["go"], ["out"], then_branch=then, else_branch=other),
                              node("Identity", ["go"], ["still"])], "body", [value("i", 7), value("go", 9), value("state")],
                             [value("still", 9), value("out"), value("out")])
    nodes = [node("Loop", ["n", "", "x"], ["last", "all"], body=body), node("Shape", ["all"], ["shape"]),
             node("ConstantOfShape", ["shape"], ["zeros"]), node("Concat", ["zeros", "all"], ["both"], axis=0),
             node("Tile", ["both", "r"], ["tiled"]), node("Pad", ["tiled", "pads"], ["padded"]),
             node("Slice", ["padded", "starts", "ends"], ["cut"]), node("Expand", ["last", "big"], ["wide"]),
             node("Range", ["zero", "n", "one"], ["range"]), node("OneHot", ["range", "n", "values"], ["hot"]),
             node("Resize", ["image", "", "scales"], ["resized"], mode="linear")]
    weights = [("n", np.int64(3)), ("zero", np.int64(0)), ("one", np.int64(1)), ("r", np.array([1, 2, 1])),
               ("pads", np.array([0, 1, 0, 0, 1, 0])), ("starts", np.array([0, 0])), ("ends", np.array([2, 9])),
               ("big", np.array([2, 2, 3])), ("values", np.float32([0, 1])), ("scales", np.float32([1, 1, 2, 1.5]))]
    return _model(nodes, [("x", 1, [2, 3]), ("image", 1, [1, 2, 4, 4])], ["cut", "wide", "hot", "resized"], weights)


def _operators() -> bytes:
    """Operators that no exported module has."""
    node = helper.make_node
    nodes = [node("TopK", ["x", "k"], ["v", "i"]), node("GatherND", ["x", "at"], ["g"]),
             node("Einsum", ["x", "x"], ["e"], equation="ij,kj->ik"),
             node("ScatterElements", ["x", "i", "v"], ["s"], axis=1),
             node("CumSum", ["s", "axis"], ["c"]), node("QuantizeLinear", ["x", "scale", "zp"], ["q"]),
             node("DequantizeLinear", ["q", "scale", "zp"], ["d"]), node("GridSample", ["image", "grid"], ["p"]),
             node("RoiAlign", ["image", "rois", "batch"], ["r"], output_height=2, output_width=2),
             node("LSTM", ["seq", "w", "rec"], ["y", "h", ""], hidden_size=2),
             node("ConvTranspose", ["image", "kernel"], ["t"], strides=[2, 2]),
             node("Split", ["x"], ["a", "b"], axis=0, num_outputs=2), node("SplitToSequence", ["x"], ["parts"]),
             node("SequenceAt", ["parts", "axis"], ["part"]), node("Det", ["e"], ["det"]), node("Unique", ["x"], ["u"]),
             node("Cast", ["x"], ["cast"], to=7), node("Constant", [], ["text"], value_string="hello"),
             node("RegexFullMatch", ["text"], ["match"], pattern="h.*"), node("HannWindow", ["k"], ["hann"]),
             node("DFT", ["seq"], ["f"], axis=1)]
    f = np.random.default_rng(0).normal(size=400).astype("f")
    weights = [("k", np.array([2])), ("at", np.array([[0, 1], [1, 2]])), ("axis", np.int64(0)), ("scale", np.float32(0.1)),
               ("zp", np.int8(0)), ("rois", np.float32([[0, 0, 3, 3]])), ("batch", np.array([0])),
               ("grid", f[:18].reshape(1, 3, 3, 2)), ("w", f[:8].reshape(1, 8, 1)), ("rec", f[:16].reshape(1, 8, 2)),
               ("kernel", f[:36].reshape(2, 2, 3, 3))]
    outputs = ["c", "g", "d", "r", "p", "y", "t", "a", "part", "det", "u", "hann", "f"]
    return _model(nodes, [("x", 1, [3, 3]), ("image", 1, [1, 2, 4, 4]), ("seq", 1, [3, 2, 1])], outputs, weights)


def start_files() -> list[bytes]:
    """Small real files: exports of modules, and two models of operators that modules do not have."""
    ndl.manual_seed(0)
    modules = [(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                              nn.Linear(8, 3)).eval(), np.zeros((1, 1, 4, 4), "f")),
               (nn.LSTM(3, 4), np.zeros((2, 1, 3), "f")),
               (nn.TransformerEncoderLayer(4, 2, 8).eval(), np.zeros((1, 3, 4), "f"))]
    files = [_control_flow(), _operators()]
    with tempfile.TemporaryDirectory() as folder:
        for i, (module, x) in enumerate(modules):
            ndl.onnx.export(module, (ndl.tensor(x),), f"{folder}/{i}.onnx")
            files.append(Path(f"{folder}/{i}.onnx").read_bytes())
    return files

# --- mutations ----------------------------------------------------------------------------------------------------------


def of_bytes(content: bytes, r: random.Random) -> bytes:
    """Some bytes changed, cut out, repeated, inserted; or the end cut off."""
    data = bytearray(content)
    for _ in range(r.choice([1, 1, 2, 5, 20])):
        at = r.randrange(len(data)) if data else 0
        length = r.choice([1, 1, 2, 8, 64])
        kind = r.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << r.randrange(8)
        elif kind == 1 and data:
            data[at] = r.choice([0, 1, 127, 128, 255])
        elif kind == 2:
            del data[at:at + length]
        elif kind == 3:
            data[at:at] = data[at:at + length]
        elif kind == 4:
            data[at:at] = r.randbytes(length)
        elif r.random() < 0.2:
            del data[at:]
    return bytes(data)


def of_structure(content: bytes, r: random.Random) -> bytes:
    """A few changes that keep the file a protobuf message."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(r.choice([1, 1, 1, 2, 4])):
        graphs = [model.graph]
        for graph in graphs:
            graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
        graph = r.choice(graphs)
        nodes = [n for g in graphs for n in g.node]
        if nodes:
            r.choice(CHANGES)(model, graph, r.choice(nodes), nodes, r)
    return model.SerializeToString()


def _any_name(nodes, r) -> str:
    return r.choice([*(name for n in nodes for name in (*n.input, *n.output)), "", "nobody"])


def attribute_number(model, graph, node, nodes, r):
    for a in r.sample(list(node.attribute), min(1, len(node.attribute))):
        if a.ints and r.random() < 0.7:
            a.ints[r.randrange(len(a.ints))] = r.choice(EXTREMES)
        elif a.ints:
            a.ints.extend([r.choice(EXTREMES)]) if r.random() < 0.5 else a.ints.pop()
        elif a.type == a.INT:
            a.i = r.choice(EXTREMES)
        elif a.type == a.FLOAT:
            a.f = r.choice([0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-30])
        elif a.type == a.STRING:
            a.s = r.choice([*(s.encode() for s in SHOWN), b"\xff\xfe"])


def attribute_type(model, graph, node, nodes, r):
    for a in r.sample(list(node.attribute), min(1, len(node.attribute))):
        a.type = r.choice([*a.AttributeType.values()])


def attribute_from_elsewhere(model, graph, node, nodes, r):
    other = r.choice(nodes)
    for a in r.sample(list(other.attribute), min(1, len(other.attribute))):
        copy = onnx.AttributeProto()
        copy.CopyFrom(a)                        # first: a message copied into a part of itself ends the process
        node.attribute.append(copy)


def attribute_gone(model, graph, node, nodes, r):
    if node.attribute:
        del node.attribute[r.randrange(len(node.attribute))]


def input_renamed(model, graph, node, nodes, r):
    if node.input:
        node.input[r.randrange(len(node.input))] = _any_name(nodes, r)


def output_renamed(model, graph, node, nodes, r):
    if node.output:
        node.output[r.randrange(len(node.output))] = _any_name(nodes, r)


def input_gone_or_more(model, graph, node, nodes, r):
    if node.input and r.random() < 0.5:
        node.input.pop()
    else:
        node.input.append(_any_name(nodes, r))


def operator(model, graph, node, nodes, r):
    node.op_type = r.choice([*ndl.onnx.operators.supported(), r.choice(nodes).op_type]).rpartition("::")[2]


def node_moved(model, graph, node, nodes, r):
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    if r.random() < 0.5 and graph.node:
        graph.node.pop(r.randrange(len(graph.node)))
    graph.node.append(copy)


def weight(model, graph, node, nodes, r):
    tensors = [*model.graph.initializer, *(a.t for n in nodes for a in n.attribute if a.HasField("t"))]
    if not tensors:
        return
    t, kind = r.choice(tensors), r.randrange(5)
    if kind == 0 and t.dims:
        t.dims[r.randrange(len(t.dims))] = r.choice(EXTREMES)
    elif kind == 1:
        t.data_type = r.choice([*TensorProto.DataType.values(), 99])
    elif kind == 2:
        t.raw_data = t.raw_data[:r.randrange(len(t.raw_data) + 1)]
    elif kind == 3:
        t.dims.append(r.choice(EXTREMES))
    elif t.data_type == TensorProto.INT64:
        count = max(int(np.prod(t.dims)), 0)
        if count < 100:
            t.ClearField("int64_data")
            t.raw_data = np.array([r.choice(EXTREMES) for _ in range(count)], np.int64).tobytes()


def interface(model, graph, node, nodes, r):
    values = [*graph.input, *graph.output]
    for v in r.sample(values, min(1, len(values))):
        kind = r.randrange(4)
        if kind == 0:
            v.name = _any_name(nodes, r)
        elif kind == 1:
            v.type.tensor_type.elem_type = r.choice([*TensorProto.DataType.values(), 99])
        elif kind == 2 and v.type.tensor_type.shape.dim:
            r.choice(v.type.tensor_type.shape.dim).dim_value = r.choice([0, 1, 2, 5, -1])
        else:
            v.type.tensor_type.shape.dim.add().dim_value = r.choice([0, 1, 2])


def version(model, graph, node, nodes, r):
    r.choice(model.opset_import).version = r.choice([*range(1, 28), 0, -1, 10**9])


def domain(model, graph, node, nodes, r):
    node.domain = r.choice(["ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training", "", "\0"])


def nested(model, graph, node, nodes, r):
    """The whole graph once more as an attribute of a node."""
    inner = node.attribute.add(name=r.choice(["body", "then_branch", "else_branch"]), type=onnx.AttributeProto.GRAPH)
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    inner.g.CopyFrom(copy)


def function(model, graph, node, nodes, r):
    """A node becomes a call of a function of the model, which may call itself."""
    f = model.functions.add(name=node.op_type + "F", domain="own", input=list(node.input), output=list(node.output))
    f.opset_import.extend(model.opset_import)
    copy = f.node.add()
    copy.CopyFrom(node)
    node.op_type, node.domain = f.name, "own"
    if r.random() < 0.5:
        model.opset_import.add(domain="own", version=1)
    if r.random() < 0.3:
        copy.op_type, copy.domain = f.name, "own"
    del node.attribute[:]


CHANGES = [attribute_number, attribute_number, attribute_number, attribute_type, attribute_from_elsewhere, attribute_gone,
           input_renamed, input_renamed, output_renamed, input_gone_or_more, operator, operator, node_moved, weight, weight,
           weight, interface, version, domain, nested, function]


def mutant(number: int, files: list[bytes]) -> bytes:
    r = random.Random(number)
    content = r.choice(files)
    return of_structure(content, r) if r.random() < 0.7 else of_bytes(content, r)

# --- one mutant, many mutants -------------------------------------------------------------------------------------------


class Slow(BaseException):
    """The alarm rang. No `except` of the package may swallow it."""


def ring(*_):
    raise Slow


def inputs_of(model: ndl.onnx.OnnxModule) -> list:
    """Small random inputs of the types and shapes that the file declares."""
    rng, values = np.random.default_rng(0), []
    for name in model.input_names:
        kind = model._input_types[name]
        tensor = kind.tensor_type if kind.HasField("tensor_type") else TensorProto.FLOAT
        if not kind.HasField("tensor_type"):
            values.append(None if kind.HasField("optional_type") else [])
            continue
        shape = [min(max(d.dim_value, 0), 8) or 1 for d in tensor.shape.dim]
        if tensor.elem_type == TensorProto.STRING:
            values.append(np.full(shape, "text", object))
            continue
        dtype = ndl.onnx.values.numpy_dtype(tensor.elem_type) if tensor.elem_type else np.dtype(np.float32)
        values.append(rng.uniform(0, 2, shape).astype(np.float32).astype(dtype))
    return values


def outcome(content: bytes) -> str:
    """"ran", "refused", "refused when run", or what went wrong."""
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    stage = "refused"
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), ndl.onnx.limits.set(memory=2**28, loop_iterations=500):
            warnings.simplefilter("ignore")
            with contextlib.suppress(NeedleError):
                str(ndl.onnx.inspect(content))
            model = ndl.onnx.load(content)
            stage = "refused when run"
            model(*inputs_of(model))
        return "ran"
    except NeedleError:
        return stage
    except Slow:
        return f"longer than {SECONDS} s: " + "".join(traceback.format_exc(limit=-3))
    except Exception:                           # anything else is what this program looks for
        return "".join(traceback.format_exc(limit=-4))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def work(files: list[bytes], first: int, count: int, report) -> None:
    """Try the mutants first, first + 1, ...; one line of JSON before each, and one after it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, first + count):
        print(json.dumps([number, None]), file=report, flush=True)
        print(json.dumps([number, outcome(mutant(number, files))]), file=report, flush=True)


def fuzz(files: list[str], seconds: float, first: int = 0, count: int = 10**9) -> dict:
    """-> {"tried": n, "ran": ..., "refused": ..., "findings": {number: what went wrong}}."""
    end, number, last = time.monotonic() + seconds, first, first + count
    result: dict = {"tried": 0, "ran": 0, "refused": 0, "refused when run": 0, "findings": {}}
    while number < last and time.monotonic() < end:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--worker", "--first", str(number), "--count", str(last - number), *files]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        watchdog = None
        try:
            current, buffer, alive = number, b"", time.monotonic()
            while time.monotonic() < end:
                ready, _, _ = select.select([worker.stdout], [], [], 0.5)
                chunk = os.read(worker.stdout.fileno(), 2**16) if ready else b""
                if chunk:
                    alive = time.monotonic()
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        current, what = json.loads(line)
                        if what is not None:
                            result["tried"] += 1
                            if what in result:
                                result[what] += 1
                            else:
                                result["findings"][current] = what
                            current += 1
                elif ready:                                    # the end of its output
                    if worker.wait():
                        watchdog = f"the process died with {worker.returncode}"
                    break
                elif time.monotonic() - alive > PATIENCE:
                    watchdog = "hangs where no alarm is heard"
                    break
            if watchdog:
                result["findings"][current] = watchdog
                current += 1
            number = current
        finally:
            worker.kill()
            worker.wait()
            worker.stdout.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="models to mutate, besides those made here")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work([*start_files(), *(Path(f).read_bytes() for f in given.files)], given.first, given.count, sys.stdout)
        return
    result = fuzz(given.files, given.minutes * 60, given.first, given.count)
    findings = result.pop("findings")
    for number, what in findings.items():
        print(f"--- mutant {number}\n{what}")
    print(f"{result}, findings: {len(findings)}")
    raise SystemExit(bool(findings))


if __name__ == "__main__":
    main()
