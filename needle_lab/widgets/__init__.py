"""Views: the signature tree, the diff of two architectures, the drawn graph, the layer by layer comparison.

Each is one object with a text form (`print(view)`), a static page (nbconvert, print) and a live widget (a notebook).
"""

from .compare import CompareView, compare
from .diff import DiffView, diff
from .families import FAMILIES, Family, family_of
from .graph import GraphView, autograd_graph, onnx_graph, program_graph
from .tree import TreeView, show
from .view import View

__all__ = ["FAMILIES", "CompareView", "DiffView", "Family", "GraphView", "TreeView", "View", "autograd_graph",
           "compare", "diff", "family_of", "onnx_graph", "program_graph", "show"]
