"""Saving and loading: signatures and their differences, weight files, checkpoints, files of the original Needle."""

from .diff import DiffRow, SignatureDiff, signature_diff
from .legacy import NeedleCheckpoint, load_needle_npy
from .save import (
    Checkpoint,
    load_checkpoint,
    load_state_dict,
    load_tensors,
    save_checkpoint,
    save_state_dict,
)

__all__ = ["Checkpoint", "DiffRow", "NeedleCheckpoint", "SignatureDiff", "load_checkpoint", "load_needle_npy",
           "load_state_dict", "load_tensors", "save_checkpoint", "save_state_dict", "signature_diff"]
