"""Looking at a model: what it is made of and what it costs."""

from .summary import Summary, SummaryRow, summary

__all__ = ["Summary", "SummaryRow", "summary"]
