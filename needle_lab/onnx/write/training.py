"""Training in the file: the loss, its gradients and the optimizer's step as ONNX's TrainingInfoProto.

    graph             the inference model, as `export` writes it; its initialisers are what is trained
    initialization    the optimizer's state at the start: zeros, and step 0
    algorithm         one step: the loss, a Gradient node, the optimizer's arithmetic, new values as outputs
    update_binding    which initialiser each new value replaces, all at once, after the step

Momentum of ai.onnx.preview.training is SGD with momentum as PyTorch and we define it (its beta is 1 - dampening, which
the first step does not apply), so it is used. Its Adam is not: it adds epsilon before the bias correction of the second
moment, we add it after; so Adam, AdamW and plain SGD are written by ordinary operators, in our order of operations.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...core.dtypes import is_floating
from ...core.tensor import Tensor
from ...errors import ArgumentError, UnsupportedOnnxError
from ...nn import Module
from ...nn.norm import _BatchNorm
from ...optim import SGD, Adam, AdamW, Optimizer
from ...program.program import Program
from ..operators.shape import ConstantOfShape
from ..operators.training import Gradient, Momentum
from ..read.training import combined
from . import saving
from .export import (
    OPSET,
    as_tensors,
    check_opset,
    check_size,
    dynamic,
    graph_of,
    names_of,
    numbered,
    recorded,
    unread_inputs,
)
from .tidy import tidy
from .writer import Origin, Writer

DOMAIN = "ai.onnx.preview.training"


def export_training(model: Module, loss: Callable, optimizer: Optimizer,
                    example_inputs: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
                    example_target: Tensor | np.ndarray | Sequence[Tensor | np.ndarray],
                    path: str | os.PathLike | None = None, *, opset: int = OPSET,
                    dynamic_axes: dict[str, Any] | None = None, names: dict[str, Sequence[str]] | None = None,
                    external_data: bool | None = None) -> onnx.ModelProto:
    """Write a model together with its training: `ndl.onnx.Trainer` (or another executor) goes on from there.

    loss(model(*inputs), *targets) is one number; optimizer: SGD, Adam or AdamW over parameters of the model, the
    others stay as they are. Its present state (moments, step count) is the file's. A step gives the output "loss" and is
    equal to our optimizer's own step: SGD with momentum by ONNX's Momentum, all else by ordinary operators.

    The algorithm's forward has the model's present mode: in training mode, batch norm uses the batch and moves its
    running statistics (opset 14 or more); dropout is refused, as its random numbers are drawn by nobody in the file.
    Other arguments as for `export`; the targets are named "target", or "target_0", "target_1", ...

    Raises ArgumentError and UnsupportedOnnxError as `export` does, also for a loss that is not one number.
    """
    inputs, targets = as_tensors(example_inputs, "example_inputs"), as_tensors(example_target, "example_target")
    if not isinstance(model, Module) or not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"export_training: a Module and an optimizer are needed, got {type(model).__name__} and "
                            f"{type(optimizer).__name__}")
    check_opset(opset)
    named, results = names_of(model, len(inputs), names, None, None)
    wanted = ["target"] if len(targets) == 1 else [f"target_{i}" for i in range(len(targets))]
    axes = dynamic(dynamic_axes or {}, named + wanted, inputs + targets, results)
    count, modules = len(inputs), {}
    if isinstance(loss, Module):
        modules = {f"loss.{path}".removesuffix("."): m for path, m in loss.named_modules()}

    def call(*xs: Tensor):
        result = model(*xs[:count])
        return result, loss(result, *xs[count:])
    with _kept(model):
        recording = recorded(call, model, named + wanted, inputs + targets, axes, training=True, also=modules)
    program = recording.program
    _check_loss(program)
    *outputs, measure = program.results
    results = numbered(results, len(outputs), named + wanted)

    own = any(isinstance(m, _BatchNorm) and m.training for m in model.modules())
    evaluated = recorded(model, model, named, inputs, axes) if own else None
    inference = evaluated.program if evaluated else program.part(program.inputs[:count], outputs)
    writer = Writer(model, opset, {*named, *results, *wanted, "loss"})
    written = graph_of(writer, inference, named, results, axes)
    for given, expected in (evaluated or recording).runs[1:]:
        check_size(saving.model_of(written, opset), named, given[:count], expected[:len(outputs)])

    after = Writer(model, opset, set(), "training_", training=own)
    after.reserved = {*writer.reserved, *writer.initializers, *(name for node in writer.nodes for name in node.output)}
    after.names = {key: name for key, name in writer.names.items() if name in writer.initializers
                   and isinstance(key, tuple) and key[0] == "weight"}
    step = _Step(after, writer)
    if own:
        step.forward(program.part(program.inputs, [measure]), named + wanted, [*named, *wanted])
    else:
        known = [*outputs, *program.inputs]
        step.forward(program.part(known, [measure]), [*results, *named, *wanted], [*named, *wanted])
    step.update(optimizer)
    info = step.info([helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), [
        axes.get(name, {}).get(i, n) for i, n in enumerate(x.shape)]) for name, x in zip(wanted, targets, strict=True)])
    proto = saving.model_of(written, opset, helper.make_opsetid(DOMAIN, 1))
    proto.training_info.append(info)
    saving.checked(proto)
    saving.checked(combined(proto, info, []))
    if path is not None:
        saving.write(proto, path, external_data)
    return proto


@contextlib.contextmanager
def _kept(model: Module) -> Iterator[None]:
    before = [(b, b.detach().clone()) for b in model.buffers()]
    try:
        yield
    finally:
        for b, value in before:
            b.detach().copy_(value)


def _check_loss(program: Program) -> None:
    y = program.results[-1]
    if y.size != 1 or not is_floating(y.dtype) or y.known:
        raise ArgumentError(f"export_training: the loss must be one number that depends on the model's outputs, got "
                            f"{y.dtype}{list(y.shape)}; use reduction='mean' or 'sum'")
    unread = unread_inputs(program.part(program.inputs, [y]))
    if unread:
        raise UnsupportedOnnxError(f"export_training: the loss does not depend on {unread[0]!r} through recorded ops")


class _Step:
    """The algorithm graph as it comes to be: loss, gradients, new values."""

    def __init__(self, writer: Writer, inference: Writer):
        self.w, self.inference = writer, inference
        self.states: dict[str, np.ndarray] = {}                # the algorithm's own variables
        self.updates: dict[str, str] = {}                      # variable -> its new value
        self.weights: dict[str, Origin] = {}
        self.inputs: list[str] = []

    def forward(self, program: Program, known: list[str], inputs: list[str]) -> None:
        """The loss, from values with known names."""
        self.inputs = inputs
        for x, name in zip(program.inputs, known, strict=True):
            self.w.names.setdefault(x, name)
        self.w.write(program)
        self.w.Identity(program.results[0], output="loss")
        self.weights = {name: origin for w in (self.inference, self.w) for name, origin in w.origins.items()
                        if name in w.initializers}
        for buffer, new in self.w.updates.items():
            name = next(n for n, (of, _) in self.weights.items() if len(of) == 1 and of[0] is buffer)
            self.updates[name] = new

    def update(self, optimizer: Optimizer) -> None:
        """New values of all parameters and of the optimizer's state."""
        kind = type(optimizer)
        if kind not in (SGD, Adam, AdamW):
            raise UnsupportedOnnxError(f"export_training: SGD, Adam and AdamW can be written, got {kind.__name__}")
        groups = [self._trained(group) for group in optimizer.param_groups]
        trained = [name for names in groups for name in names]
        if not trained:
            raise ArgumentError("export_training: the loss depends on none of the optimizer's parameters; "
                                "make it with model.parameters()")
        inputs = [name for name in self.inputs if name in self._ancestors()]
        gradients = self.w.emit(Gradient.__name__, [*trained, *inputs], outputs=len(trained), domain=DOMAIN, xs=trained,
                                zs=inputs, y="loss")
        found = dict(zip(trained, gradients if len(trained) > 1 else (gradients,), strict=True))
        steps = {int(s.get("step", "momentum_buffer" in s)) for s in optimizer.state.values()} or {0}
        if len(steps) > 1:
            raise UnsupportedOnnxError(f"export_training: parameters have made different numbers of steps ({sorted(steps)})")
        counter = self._state("step", np.array(steps.pop(), np.int64))
        self.updates[counter] = self.w.Add(counter, self.w.constant(np.array(1)))
        for group, names in zip(optimizer.param_groups, groups, strict=True):
            if names and kind is SGD:
                self._sgd(optimizer, group, names, found, counter)
            elif names:
                self._adam(optimizer, group, names, found, self.updates[counter])

    def info(self, targets: list[onnx.ValueInfoProto]) -> onnx.TrainingInfoProto:
        """The whole, with its bindings."""
        w, outputs, bindings = self.w, ["loss"], {}
        for variable, new in self.updates.items():
            bindings[variable] = w.Identity(new, output=self._free(f"{variable}.next"))
        outputs += bindings.values()
        w.reserved |= set(outputs)
        for name, array in self.states.items():
            w.initializers[name], w.origins[name] = numpy_helper.from_array(array, name), ((), np.asarray)
        tidy(w, outputs)
        kinds = {name: t for of in (self.inference, w) for name, t in of.initializers.items()}
        made = [helper.make_tensor_value_info(new, kinds[x].data_type, kinds[x].dims) for x, new in bindings.items()]
        loss = helper.make_tensor_value_info("loss", self.dtype, [])
        algorithm = helper.make_graph(w.nodes, "step", targets, [loss, *made], list(w.initializers.values()))
        for node in (n for n in w.nodes if n.op_type == Gradient.__name__):           # whose results ONNX does not infer
            xs = next(list(a.strings) for a in node.attribute if a.name == "xs")
            algorithm.value_info.extend(helper.make_tensor_value_info(g, kinds[x.decode()].data_type, kinds[x.decode()].dims)
                                        for g, x in zip(node.output, xs, strict=True))
        info = onnx.TrainingInfoProto(algorithm=algorithm, initialization=self._initialization())
        for pairs, field in ((bindings.items(), info.update_binding),
                             (((name, f"{name}.initial") for name in self.states), info.initialization_binding)):
            for key, value in pairs:
                field.add(key=key, value=value)
        return info

    @property
    def dtype(self) -> int:
        return helper.np_dtype_to_tensor_dtype(self.w.program.results[0].dtype)

    def _initialization(self) -> onnx.GraphProto:
        """Zeros for every variable of the optimizer."""
        nodes, outputs = [], []
        for name, value in self.states.items():
            nodes.append(helper.make_node(ConstantOfShape.__name__, [f"{name}.shape"], [f"{name}.initial"],
                                          name=f"{name}.zeros", value=numpy_helper.from_array(np.zeros(1, value.dtype))))
            outputs.append(helper.make_tensor_value_info(f"{name}.initial", helper.np_dtype_to_tensor_dtype(value.dtype),
                                                         value.shape))
        shapes = [numpy_helper.from_array(np.array(v.shape, np.int64), f"{name}.shape") for name, v in self.states.items()]
        return helper.make_graph(nodes, "start", [], outputs, shapes)

    def _trained(self, group: dict[str, Any]) -> list[str]:
        """The initialisers of one group of the optimizer on which the loss depends."""
        own, reached = {id(p) for p in group["params"] if p.requires_grad}, self._ancestors()
        names = []
        for name, (parameters, _) in self.weights.items():
            inside = [id(p) in own for p in parameters]
            if any(inside) and name in reached:
                if not all(inside):
                    raise UnsupportedOnnxError(f"export_training: {name!r} is made of several parameters, of which the "
                                               "optimizer has some or in several groups; train all alike, or none")
                names.append(name)
        found = [id(p) for name in names for p in self.weights[name][0]]
        if len(found) != len(set(found)):
            raise UnsupportedOnnxError("export_training: a parameter is used in two layouts, which the file would train "
                                       "apart; export with a newer opset")
        return names

    def _ancestors(self) -> set[str]:
        """All names on which the loss depends."""
        reached = {"loss"}
        for node in reversed([*self.inference.nodes, *self.w.nodes]):
            if reached.intersection(node.output):
                reached.update(node.input)
        return reached

    def _state(self, name: str, value: np.ndarray) -> str:
        name = self._free(name)
        self.states[name] = value
        self.w.reserved.add(name)
        return name

    def _free(self, name: str) -> str:
        while name in self.w.reserved or name in self.states:
            name += "_"
        return name

    def _moments(self, optimizer: Optimizer, name: str, of: str) -> str:
        """A state of the optimizer, arranged as the initialiser is; zeros before the first step."""
        parameters, arranged = self.weights[name]
        found = [optimizer.state.get(p, {}).get(of) for p in parameters]
        arrays = [np.zeros(p.shape, p.dtype) if s is None else s.numpy() for p, s in zip(parameters, found, strict=True)]
        return self._state(f"{name}.{of}", np.ascontiguousarray(arranged(*arrays)))

    def _sgd(self, optimizer, group, names, gradients, counter) -> None:
        w = self.w
        dtype = self.weights[names[0]][0][0].dtype
        if not group["momentum"]:
            for x in names:
                g = gradients[x]
                if group["weight_decay"]:
                    g = w.Add(g, w.Mul(x, w.name(group["weight_decay"], dtype)))
                self.updates[x] = w.Sub(x, w.Mul(g, w.name(group["lr"], dtype)))
            return
        velocities = [self._moments(optimizer, x, "momentum_buffer") for x in names]
        inputs = [w.name(group["lr"], dtype), counter, *names, *(gradients[x] for x in names), *velocities]
        made = w.emit(Momentum.__name__, inputs, outputs=2 * len(names), domain=DOMAIN, alpha=float(group["momentum"]),
                      beta=1.0 - group["dampening"], mode="nesterov" if group["nesterov"] else "standard",
                      norm_coefficient=float(group["weight_decay"]))
        self.updates |= dict(zip([*names, *velocities], made, strict=True))

    def _adam(self, optimizer, group, names, gradients, step) -> None:
        w, lr, (beta1, beta2) = self.w, group["lr"], group["betas"]
        dtype = self.weights[names[0]][0][0].dtype

        def number(value: float) -> str:
            return w.name(value, dtype)
        t, one = w.cast(step, np.float64), w.name(1.0, np.float64)           # 1 - 0.999^t would lose digits in float32
        left = [w.Sub(one, w.Pow(w.name(b, np.float64), t)) for b in (beta1, beta2)]
        rate = w.cast(w.Div(w.name(lr, np.float64), left[0]), dtype)
        scale = w.cast(w.Sqrt(left[1]), dtype)
        for x in names:
            value, g = x, gradients[x]
            if group["weight_decay"] and optimizer.decoupled:
                value = w.Mul(x, number(1 - lr * group["weight_decay"]))
            elif group["weight_decay"]:
                g = w.Add(g, w.Mul(x, number(group["weight_decay"])))
            m, v = (self._moments(optimizer, x, of) for of in ("exp_avg", "exp_avg_sq"))
            self.updates[m] = w.Add(w.Mul(m, number(beta1)), w.Mul(g, number(1 - beta1)))
            square = w.Mul(w.Mul(g, number(1 - beta2)), g)
            self.updates[v] = w.Add(w.Mul(v, number(beta2)), square)
            length = w.Add(w.Div(w.Sqrt(self.updates[v]), scale), number(group["eps"]))
            change = w.Div(w.Mul(self.updates[m], rate), length)
            self.updates[x] = w.Sub(value, change)
