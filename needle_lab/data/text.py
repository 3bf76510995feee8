"""Text as numbers: dictionaries, corpora, and the batches that a recurrent network reads.

    corpus = ndl.data.alice("char")                          or Corpus(text), Corpus.from_file(path, "word")
    batches = batchify(corpus.train, batch_size)             (T, N): N columns, each a piece of the text, read downwards
    data, target = get_batch(batches, i, bptt)               (bptt, N) and (bptt * N,): target is the token that follows
"""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.device import Device
from ..core.tensor import Tensor
from ..errors import ArgumentError, FileFormatError, MissingFileError, StorageError

UNKNOWN = "<unk>"
_WORDS = re.compile(r"\w+(?:[-']\w+)*|\n|[^\w\s]")          # don't and daisy-chain are words; so is each sign


class Dictionary:
    """Tokens, each with its number, in order of first appearance.

    With `<unk>` among them, tokens that are not known get its number; without it they are an error.
    """

    def __init__(self, tokens: Iterable[str] = ()):
        self.tokens: list[str] = []
        self.number: dict[str, int] = {}
        for token in tokens:
            self.add(token)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self.number

    def add(self, token: str) -> int:
        """The number of a token, a new one if it is new."""
        if token not in self.number:
            self.number[token] = len(self.tokens)
            self.tokens.append(token)
        return self.number[token]

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Numbers (int64) of tokens."""
        unknown = self.number.get(UNKNOWN)
        numbers = []
        for token in tokens:
            number = self.number.get(token, unknown)
            if number is None:
                raise ArgumentError(f"the token {token!r} is not among the {len(self):,} of this dictionary; use "
                                    f"tokens it knows, or build it with {UNKNOWN!r} in it")
            numbers.append(number)
        return np.array(numbers, np.int64)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Tokens of numbers."""
        numbers = [int(i) for i in numbers]
        outside = [i for i in numbers if not 0 <= i < len(self)]
        if outside:
            raise ArgumentError(f"{outside[0]} is no token; this dictionary has the numbers 0 to {len(self) - 1}")
        return [self.tokens[i] for i in numbers]


class Corpus:
    """A text, its dictionary, and its numbers: `train`, and `test`, the last part, which is held out.

    level: "char" (each character is a token) or "word" (words, signs and line ends are). held_out: the share of test.
    min_count: rarer words become `<unk>` (word level). dictionary: of another corpus, to number tokens alike.
    """

    def __init__(self, text: str, level: str = "char", held_out: float = 0.1, min_count: int = 1,
                 dictionary: Dictionary | None = None):
        if level not in ("char", "word"):
            raise ArgumentError(f"Corpus: level is 'char' or 'word', got {level!r}")
        if not 0 <= held_out < 1:
            raise ArgumentError(f"Corpus: held_out is a share from 0 up to 1, got {held_out}")
        self.level = level
        tokens = self.tokenize(text)
        if not tokens:
            raise ArgumentError("Corpus: the text has no tokens")
        self.dictionary = dictionary or _dictionary(tokens, min_count)
        numbers = self.dictionary.encode(tokens)
        cut = len(numbers) - int(len(numbers) * held_out)
        self.train, self.test = numbers[:cut], numbers[cut:]

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], level: str = "char", **options: Any) -> Corpus:
        """A corpus from a file of UTF-8 text."""
        try:
            with open(path, encoding="utf-8") as file:
                return cls(file.read(), level, **options)
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no file {os.fspath(path)}") from error
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{os.fspath(path)} is no UTF-8 text: byte {error.start:,} does not fit") from error
        except OSError as error:
            raise StorageError(f"{os.fspath(path)} could not be read: {error.strerror or error}") from error

    def __repr__(self) -> str:
        return (f"{self.level} corpus: {len(self.train):,} tokens to train, {len(self.test):,} to test, "
                f"{len(self.dictionary):,} different")

    def tokenize(self, text: str) -> list[str]:
        """The text's characters, or its words and signs."""
        return list(text) if self.level == "char" else _WORDS.findall(text)

    def encode(self, text: str) -> np.ndarray:
        """Numbers of a text (int64)."""
        return self.dictionary.encode(self.tokenize(text))

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of numbers; of words, with a space before each but not before a sign."""
        tokens = self.dictionary.decode(numbers)
        if self.level == "char":
            return "".join(tokens)
        return re.sub(r" ?\n ?", "\n", re.sub(r" ([,.;:!?)])", r"\1", " ".join(tokens)))


def _dictionary(tokens: list[str], min_count: int) -> Dictionary:
    counts: dict[str, int] = {}
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    kept = [token for token, count in counts.items() if count >= min_count]
    return Dictionary(kept if len(kept) == len(counts) else [UNKNOWN, *kept])


def alice(level: str = "char", **options: Any) -> Corpus:
    """The first four chapters of Alice's Adventures in Wonderland (Lewis Carroll, 1865), 46,000 characters."""
    text = (importlib.resources.files(__package__) / "alice.txt").read_text(encoding="utf-8")
    return Corpus(text, level, **options)


def batchify(tokens: Sequence[int] | np.ndarray, batch_size: int, device: Device | str | None = None) -> Tensor:
    """Cut a long sequence into `batch_size` pieces of equal length, as columns: (T, batch_size) int64.

    What does not fill a row is left out. Columns are read in parallel; row t + 1 follows row t.
    """
    tokens = np.asarray(tokens, np.int64)
    if batch_size < 1 or len(tokens) < 2 * batch_size:
        raise ArgumentError(f"batchify: {len(tokens):,} tokens do not make {batch_size} columns of two or more")
    rows = len(tokens) // batch_size
    return Tensor(np.ascontiguousarray(tokens[:rows * batch_size].reshape(batch_size, rows).T), device=device)


def get_batch(batches: Tensor, i: int, bptt: int) -> tuple[Tensor, Tensor]:
    """Rows i to i + bptt, and the tokens that follow each: data (T, N), target (T * N,); T <= bptt at the end.

    As in the Needle report. Walk with `for i in range(0, len(batches) - 1, bptt)`.
    """
    if not 0 <= i < len(batches) - 1 or bptt < 1:
        raise ArgumentError(f"get_batch: rows 0 to {len(batches) - 2} have a row after them, and bptt is 1 or more; "
                            f"got row {i}, bptt={bptt}")
    length = min(bptt, len(batches) - 1 - i)
    return batches[i:i + length], batches[i + 1:i + 1 + length].reshape(-1)
