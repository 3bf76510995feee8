"""The four views in real JupyterLab, driven by keyboard alone: what a learner does, in one session of one minute."""

import importlib.util

import pytest

missing = [name for name in ("playwright", "jupyterlab", "anywidget", "nbformat") if not importlib.util.find_spec(name)]
if missing:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)

from browser import lab  # noqa: E402

pytestmark = pytest.mark.browser

CELLS = ["""
import numpy as np, onnx, ipywidgets, traitlets
from onnx import TensorProto, helper, numpy_helper
import needle_lab as ndl
from needle_lab import nn, widgets

def net(width, classes=10):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 64, 3), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))

x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype("float32")
tree = widgets.show(net(16), x)
tree
""", "widgets.diff(net(16), net(32))", """
w = numpy_helper.from_array(np.ones((4, 3, 3, 3), "float32"), "w")
nodes = [helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
         helper.make_node("Relu", ["c"], ["r"]), helper.make_node("GlobalMaxPool", ["r"], ["y"])]
graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 9])],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 1, 1])], [w])
widgets.onnx_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
""", """
a, b = net(16), net(16)
b.load_state_dict(a.state_dict())
with ndl.no_grad():
    list(b.parameters())[4][0] += 1           # the second convolution
widgets.compare(a, b, x)
""", """
many = {"class": "Many", "config": {}, "parameters": {}, "buffers": {}, "children": {
    f"part{i}": {"class": f"Part{i}", "config": {}, "buffers": {}, "children": {},
                 "parameters": {"w": {"shape": [i + 1], "dtype": "float32"}}} for i in range(1000)}}
widgets.show(many)
""", """
label = ipywidgets.Label()
traitlets.dlink((tree.live, "selected"), (label, "value"))
label
"""]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if lab.browser_path() is None:
        pytest.skip(f"no browser: none of {', '.join(lab.BROWSERS)} is installed")
    folder = tmp_path_factory.mktemp("lab")
    lab.write_notebook(folder / "views.ipynb", CELLS)
    with lab.jupyterlab(folder) as address, lab.browser_page() as page:
        lab.run_notebook(page, address, "views.ipynb", ".ndl-live", 5)
        page.wait_for_selector(".widget-label", state="attached")
        yield page


def selected(box):
    return box.locator("[aria-selected=true]")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def test_tree_by_keyboard(page):
    view = page.locator(".ndl-tree").first
    box = view.get_by_role("tree")
    items = box.get_by_role("treeitem")
    box.focus()
    assert items.first.get_attribute("aria-level") == "1" and items.first.get_attribute("aria-expanded") == "true"
    press(page, "ArrowDown", "ArrowRight", "ArrowDown")
    assert selected(box).get_attribute("aria-label").startswith("weight")
    page.wait_for_function("() => document.querySelector('.widget-label').textContent === '0.weight'")    # in Python
    press(page, "c")
    assert items.count() == 9                                  # the root and its eight layers
    press(page, "e")
    assert items.count() > 9
    press(page, "Home", "ArrowLeft")
    assert items.count() == 1
    press(page, "/")
    page.keyboard.type("batchnorm")
    assert view.locator(".ndl-found").text_content() == "1 of 1"
    assert selected(box).get_attribute("aria-label").startswith("1: BatchNorm2d")
    press(page, "Escape", "c", "End")
    assert selected(box).get_attribute("aria-label").startswith("7: Linear")


def test_diff_by_keyboard(page):
    view = page.locator(".ndl-diff")
    box = view.get_by_role("treegrid")
    assert view.get_by_role("status").text_content().startswith("\N{CIRCLE WITH LEFT HALF BLACK} partly")
    box.focus()
    press(page, "Home", "n")
    first = selected(box).text_content()
    press(page, "n")
    assert selected(box).text_content() != first
    press(page, "p")
    assert selected(box).text_content() == first
    assert "16\N{RIGHTWARDS ARROW}32" in first
    folded = box.locator(".ndl-fold").count()
    assert folded
    press(page, "o")
    assert box.locator(".ndl-fold").count() == 0 and view.get_by_role("button", name="only changes").get_attribute(
        "aria-pressed") == "true"
    press(page, "o", "e")
    assert box.locator(".ndl-fold").count() == 0
    press(page, "c")
    assert box.locator(".ndl-fold").count() == folded


def test_graph_by_keyboard(page):
    view = page.locator(".ndl-graph")
    canvas = view.get_by_role("listbox")
    assert canvas.get_by_role("option").count() == 5
    canvas.focus()
    press(page, "ArrowDown")
    assert selected(canvas).get_attribute("aria-label") == "Conv, W (4, 3, 3, 3)"
    assert "kernel_shape" in view.locator(".ndl-detail").text_content()
    before = canvas.locator("svg").bounding_box()["width"]
    press(page, "+")
    assert canvas.locator("svg").bounding_box()["width"] > before
    press(page, "0", "/")
    page.keyboard.type("relu")
    assert selected(canvas).get_attribute("aria-label") == "Relu"
    press(page, "Escape")


def test_compare_by_keyboard(page):
    view = page.locator(".ndl-compare")
    box = view.get_by_role("grid")
    assert view.get_by_role("status").text_content().startswith("\N{MULTIPLICATION X}3 (Conv2d) is the first layer")
    box.focus()
    press(page, "Home")
    assert selected(box).text_content().startswith("\N{BLACK SQUARE}0Conv2d")
    press(page, "n")
    assert selected(box).text_content().startswith("\N{BLACK SQUARE}3Conv2d")
    assert view.locator("canvas").count() == 3 and view.locator(".ndl-detail svg").count() == 1


def test_two_thousand_nodes_take_few_rows_of_the_page(page):
    box = page.locator(".ndl-tree").last.get_by_role("tree")
    box.scroll_into_view_if_needed()
    box.focus()
    press(page, "e", "End")
    assert selected(box).get_attribute("aria-label").startswith("w: parameter")
    assert box.get_by_role("treeitem").count() < 60
    assert box.evaluate("e => e.scrollHeight") >= 2001 * 24


def test_the_notebook_felt_nothing_of_all_those_keys(page):
    """`c`, `e`, `n`, arrows ... are also JupyterLab's; cells are neither moved, copied, added nor deleted."""
    assert page.locator(".jp-Notebook .jp-CodeCell").count() == len(CELLS)
    assert page.problems == []
