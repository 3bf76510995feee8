"""Other people's files that are pickles: read without running what is in them."""

from .needle_npy import NeedleCheckpoint, load_needle_npy
from .plain_pickle import read_plain_pickle

__all__ = ["NeedleCheckpoint", "load_needle_npy", "read_plain_pickle"]
