"""Looking at a model: what it is made of, what it costs, and how fast this machine could be."""

from ..nn.summary import Summary, SummaryRow, summary
from .roofline import LayerCost, Roofline, Seconds, layer_costs, measure, measure_roofline

__all__ = ["LayerCost", "Roofline", "Seconds", "Summary", "SummaryRow", "layer_costs", "measure", "measure_roofline",
           "summary"]
