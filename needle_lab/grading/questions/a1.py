"""Assignment 1: gradient rules, the order of a graph, and backward over it. Plain Python and NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from needle_lab.grading.compare import valid_order
from needle_lab.grading.question import Case, Question

Graph = Mapping[Any, tuple[Any, ...]]        # node -> its inputs, or the slope of each

# ---------------------------------------------------------------- q1: vector-Jacobian products


def sigmoid_vjp(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """g times the slope of the sigmoid at x."""
    s = np.exp(-np.logaddexp(0, -x))
    return g * s * (1 - s)


def mul_vjp(g: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """g times the slopes of x * y, for x and for y, in their shapes."""
    return _sum_to(g * y, np.shape(x)), _sum_to(g * x, np.shape(y))


def _sum_to(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    stretched = tuple(range(g.ndim - len(shape)))
    stretched += tuple(len(stretched) + i for i, n in enumerate(shape) if n == 1)
    return g.sum(axis=stretched, keepdims=True).reshape(shape)


def _vjp_cases(rng: np.random.Generator) -> Iterator[Case]:
    def draw(*shape: int) -> np.ndarray:
        return np.asarray(rng.integers(-9, 10, shape) / 4)      # quarters: exact in binary, easy on paper

    yield Case("sigmoid_vjp", (np.ones(()), np.zeros(())), "at 0",
               "sigmoid has the slope s * (1 - s); at x = 0, s is 1/2")
    yield Case("sigmoid_vjp", (draw(2) + 0.125, draw(2)), "two numbers, and a gradient that is not 1",
               "a vector-Jacobian product multiplies the slope by the gradient g that comes from above")
    yield Case("sigmoid_vjp", (draw(2, 3), draw(2, 3)), "a matrix", "sigmoid acts on each element by itself")
    yield Case("mul_vjp", (draw(1), draw(1), draw(1)), "one number",
               "for z = x * y: dz/dx is y, dz/dy is x, each times g; return the two in the order of the inputs")
    yield Case("mul_vjp", (draw(2, 2), draw(2, 2), draw(2, 2)), "two matrices of the same shape")
    yield Case("mul_vjp", (draw(3), draw(3), draw()), "a vector times a scalar",
               "y was used 3 times, once for each element: its gradient is the sum of the 3 contributions, of shape ()")
    yield Case("mul_vjp", (draw(2, 3), draw(2, 3), draw(3)), "a matrix times a row: y gets a new axis in front",
               "y was stretched along axis 0, which it does not have: sum over that axis")
    yield Case("mul_vjp", (draw(2, 3), draw(2, 1), draw(1, 3)), "a column times a row: both are stretched",
               "an axis of length 1 that was stretched is summed with keepdims=True, so that it stays in the shape")
    yield Case("mul_vjp", (draw(4, 2, 3), draw(2, 1), draw(4, 1, 3)), "both at once: new axes and stretched axes",
               "first sum away the axes in front that the input lacks, then the axes where the input has length 1")
    yield Case("mul_vjp", (draw(0, 3), draw(0, 3), draw(1, 3)), "an empty batch",
               "no rows contribute: the gradient of y is a row of zeros, of shape (1, 3)")


# ---------------------------------------------------------------- q2: an iterative topological order


def topological_order(graph: Graph) -> list[Any]:
    """The nodes of graph (node -> its inputs), each behind its inputs."""
    order: list[Any] = []
    done: set[Any] = set()
    for start in graph:
        stack = [(start, False)]
        while stack:
            node, inputs_done = stack.pop()
            if inputs_done:
                order.append(node)
            elif node not in done:
                done.add(node)
                stack.append((node, True))
                stack.extend((source, False) for source in graph[node])
    return order


CHAIN = 100_000         # far deeper than Python's recursion limit of 1,000


def _graph_cases(rng: np.random.Generator) -> Iterator[Case]:
    def shuffled(graph: Graph) -> Graph:
        keys = list(graph)
        rng.shuffle(keys)
        return {k: graph[k] for k in keys}

    def case(graph: Graph, note: str, hint: str = "") -> Case:
        return Case("topological_order", (graph,), note, hint)

    yield case({"b": ("a",), "a": ()}, "two nodes, the later one named first",
               "the order in which the dictionary names the nodes is not the order that is asked for")
    yield case({"c": ("b", "b"), "b": ("a", "a"), "a": ()}, "c = b + b, b = a + a",
               "b feeds c twice and still stands in the list once")
    yield case({"d": ("b", "c"), "b": ("a",), "c": ("b", "a"), "a": ()}, "a diamond with a short cut",
               "a node may follow only when all of its inputs stand in the list, not when the first one does")
    yield case({"z": (), "y": ("x",), "x": ()}, "two pieces that are not connected",
               "start from every node, not from one output")
    layers = 30
    lattice = {f"{i}{s}": (f"{i - 1}l", f"{i - 1}r") if i else () for i in range(layers) for s in "lr"}
    yield case(shuffled(lattice), f"{layers} layers of two nodes: 2**{layers} paths",
               "a node that was visited must not be visited again: there are more paths than you can walk")
    n = 200
    random = {i: tuple(int(j) for j in rng.choice(i, min(i, 3), replace=False)) if i else () for i in range(n)}
    yield case(shuffled(random), f"{n} nodes wired at random")
    chain = {i: (i - 1,) if i else () for i in range(CHAIN)}
    yield case(dict(reversed(chain.items())), f"a chain of {CHAIN:,} nodes",
               "Python allows about 1,000 nested calls: keep a list of work to do instead of recursion. And each step "
               "must be cheap: `in` on a list looks at every entry, `in` on a set or dict does not")


# ---------------------------------------------------------------- q3: backward


def backward(graph: Graph, slopes: Graph, order: list[Any]) -> dict[Any, float]:
    """The gradient of the last node of order with respect to every node."""
    gradient = dict.fromkeys(order, 0.0)
    gradient[order[-1]] = 1.0
    for node in reversed(order):
        for source, slope in zip(graph[node], slopes[node], strict=True):
            gradient[source] += gradient[node] * slope
    return gradient


def _backward_cases(rng: np.random.Generator) -> Iterator[Case]:
    def case(graph: Graph, slopes: Graph, note: str, hint: str = "") -> Case:
        return Case("backward", (graph, slopes, list(graph)), note, hint)

    def quarter() -> float:
        return int(rng.integers(1, 9)) / 4

    yield case({"a": ()}, {"a": ()}, "a alone", "the output's gradient with respect to itself is 1")
    yield case({"a": (), "b": ("a",)}, {"a": (), "b": (quarter(),)}, "one step",
               "chain rule: the gradient of an input is the gradient of the node times the slope")
    yield case({"a": (), "b": ("a", "a"), "c": ("b", "b")}, {"a": (), "b": (1.0, 1.0), "c": (1.0, 1.0)},
               "b = a + a, c = b + b: a gets 4",
               "an input that is used twice gets two contributions: add them, do not overwrite")
    yield case({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")},
               {"a": (), "b": (quarter(),), "c": (quarter(),), "d": (quarter(), -1.0)}, "a diamond",
               "go through the order from the back: a node passes on its gradient when all of it has arrived")
    yield case({"a": (), "x": (), "b": ("a",)}, {"a": (), "x": (), "b": (2.0,)}, "x does not reach the output",
               "a node that the output does not depend on has gradient 0, and stands in the result")
    n = 50
    graph = {0: (), **{i: tuple(int(j) for j in rng.choice(i, min(i, 2), replace=False)) for i in range(1, n)}}
    slopes = {i: tuple(int(rng.integers(-3, 4)) / 4 for _ in inputs) for i, inputs in graph.items()}
    yield case(graph, slopes, f"{n} nodes wired at random")
    n = CHAIN // 5
    yield case({i: (i - 1,) if i else () for i in range(n)}, {i: (1.0,) if i else () for i in range(n)},
               f"a chain of {n:,} nodes", "one pass over the order is enough")


QUESTIONS = (
    Question("a1.q1", "vector-Jacobian products", 4, "a1-q1",
             {"sigmoid_vjp": sigmoid_vjp, "mul_vjp": mul_vjp}, _vjp_cases),
    Question("a1.q2", "an iterative topological order", 3, "a1-q2",
             {"topological_order": topological_order}, _graph_cases, compare=valid_order),
    Question("a1.q3", "backward over the order", 3, "a1-q3", {"backward": backward}, _backward_cases),
)
