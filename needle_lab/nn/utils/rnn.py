"""Sequences of different lengths as one tensor: padded with zeros, or packed one time after another.  torch.nn.utils.rnn.

Packed, the sequences stand longest first: batch_sizes[t] of them have a value at time t, and data holds those of time 0,
then those of time 1, and so on; sorted_indices says which sequence stands where, unsorted_indices the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import ops
from ...core.tensor import Tensor
from ...errors import ArgumentError, ShapeError


class PackedSequence(NamedTuple):
    """Sequences packed time by time; RNN, LSTM and GRU take and return them.  torch.nn.utils.rnn.PackedSequence."""

    data: Tensor                                     # (sum of the lengths, *features)
    batch_sizes: Tensor                              # (longest,) int64
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Of the sequences in their packed order, the longest first."""
        sizes = self.batch_sizes.numpy()
        return np.asarray((sizes[:, None] > np.arange(sizes[0] if len(sizes) else 0)).sum(0))

    def to(self, *target: Any, **options: Any) -> PackedSequence:
        """The data on a device or in a dtype."""
        return self._replace(data=self.data.to(*target, **options))


def _places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(time, sequence) of each packed value, for sequences in their packed order."""
    times, sequences = np.nonzero(np.arange(lengths.max(initial=0))[:, None] < lengths)
    return times, sequences


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """input (T, N, *features), or (N, T, *features) with batch_first, packed; lengths (N,) of integers above 0.

    enforce_sorted: the sequences come longest first, else an error; False: they are sorted here.
    """
    x, counts = input.transpose(0, 1) if batch_first else input, np.asarray(lengths).reshape(-1).astype(np.int64)
    if counts.shape != x.shape[1:2] or counts.min(initial=1) < 1 or counts.max(initial=1) > x.shape[0]:
        raise ShapeError(f"pack_padded_sequence: input {input.shape} needs {x.shape[1]} lengths from 1 to {x.shape[0]}, "
                         f"got {counts.tolist()}")
    order = None
    if not enforce_sorted:
        order = np.argsort(-counts, kind="stable")
    elif (np.diff(counts) > 0).any():
        raise ArgumentError(f"pack_padded_sequence: the lengths {counts.tolist()} are not sorted, longest first; "
                            "enforce_sorted=False sorts them")
    times, sequences = _places(counts if order is None else counts[order])
    data = x[times, sequences if order is None else order[sequences]]
    sizes = Tensor(np.bincount(times, minlength=counts.max(initial=0)).astype(np.int64))
    if order is None:
        return PackedSequence(data, sizes)
    return PackedSequence(data, sizes, Tensor(order), Tensor(np.argsort(order)))


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """-> (sequences (T, N, *features) in their first order, padding_value behind their ends; their lengths (N,))."""
    lengths = sequence.lengths
    longest = int(lengths.max(initial=0))
    if total_length is not None and total_length < longest:
        raise ArgumentError(f"pad_packed_sequence: total_length={total_length} is below {longest}, the longest sequence")
    padded = unpacked(sequence, total_length or longest, padding_value)
    if sequence.unsorted_indices is not None:
        back = sequence.unsorted_indices.numpy()
        padded, lengths = ops.index_select(padded, back, axis=1), lengths[back]
    return padded.transpose(0, 1) if batch_first else padded, Tensor(lengths.astype(np.int64))


def unpacked(sequence: PackedSequence, length: int, padding_value: float = 0.0) -> Tensor:
    """(length, N, *features), the sequences in their packed order."""
    data, lengths = sequence.data, sequence.lengths
    full = Tensor(np.full((length, len(lengths), *data.shape[1:]), padding_value, data.dtype), device=data.device)
    return ops.index_put(full, data, index=_places(lengths))


def repacked(sequence: PackedSequence, y: Tensor) -> PackedSequence:
    """y (T, N, *features), in the packed order, packed as the sequence is."""
    return sequence._replace(data=y[_places(sequence.lengths)])


def pad_sequence(sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Tensors (length, *features) side by side, filled up to the longest: (T, N, *features)."""
    if not len(sequences) or padding_side not in ("left", "right"):
        raise ArgumentError(f"pad_sequence: at least one tensor is needed, and 'left' or 'right', not {padding_side!r}")
    longest = max(len(x) for x in sequences)

    def filled(x: Tensor) -> Tensor:
        more = longest - len(x)
        ends = (0, more) if padding_side == "right" else (more, 0)
        return ops.pad(x, (ends, *((0, 0),) * (x.ndim - 1)), value=padding_value)
    return ops.stack([filled(x) for x in sequences], 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The tensors that `pad_sequence` has put together."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [x[i, :int(n)] for i, n in enumerate(np.asarray(lengths).reshape(-1))]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (length, *features) packed."""
    return pack_padded_sequence(pad_sequence(sequences), [len(x) for x in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The tensors that `pack_sequence` has packed."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
