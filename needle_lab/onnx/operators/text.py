"""ONNX operators on text.  Text is a numpy array of Python strings; numbers that come out are tensors."""

# ruff: noqa: N802    functions are named after ONNX operators

import numpy as np

from ... import Tensor
from ...errors import ArgumentError, MissingExtraError
from ..limits import limits
from .table import since


def _each(function, *arrays):
    """function on each element, as an array of the broadcast shape."""
    broadcast = np.broadcast_arrays(*arrays)
    values = [function(*texts) for texts in zip(*(b.reshape(-1) for b in broadcast), strict=True)]
    result = np.empty(len(values), object)
    result[:] = values
    return result.reshape(broadcast[0].shape)


@since(20)
def StringConcat(a, b):
    return _each(lambda x, y: x + y, a, b)


@since(20)
def StringSplit(x, *, delimiter=None, maxsplit=None):
    """-> (pieces, padded with "" along a last axis; how many there are)."""
    pieces = [text.split(delimiter or None, -1 if maxsplit is None else maxsplit) for text in x.reshape(-1)]
    counts = np.array([len(p) for p in pieces], np.int64).reshape(x.shape)
    longest = max([len(p) for p in pieces], default=0)
    table = np.array([p + [""] * (longest - len(p)) for p in pieces], dtype=object).reshape(*x.shape, longest)
    return table, Tensor(counts)


@since(20)
def RegexFullMatch(x, *, pattern):
    """Whether the pattern, in RE2's syntax, matches the whole of each text.

    RE2 itself, in a time linear in the text; Python's `re` tries one way after another, and (a+)+b takes it twice as long
    for each further a. No back references and no looking around. Raises ArgumentError for a pattern that RE2 refuses.
    """
    try:
        import re2
    except ImportError as error:
        raise MissingExtraError("RegexFullMatch needs RE2: pip install 'needle-lab[onnx]'") from error
    options = re2.Options()
    options.log_errors = False                            # they are raised here
    try:
        matches = re2.compile(pattern, options).fullmatch
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace")
        raise ArgumentError(f"RegexFullMatch: {pattern!r} is no regular expression of RE2: {reason}") from error
    return Tensor(_each(lambda text: matches(text) is not None, x).astype(bool))


@since(10)
def StringNormalizer(x, *, case_change_action="NONE", is_case_sensitive=0, locale="", stopwords=()):
    """Drops stopwords from a list of texts (C) or (1, C) and changes their case."""
    change = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}[case_change_action]
    same = str if is_case_sensitive else str.lower
    stop = {same(word) for word in stopwords}
    kept = [change(text) for text in x.reshape(-1) if same(text) not in stop] or [""]
    return np.array(kept, dtype=object).reshape((1, -1) if x.ndim == 2 else -1)


@since(9)
def TfIdfVectorizer(x, *, max_gram_length, max_skip_count, min_gram_length, mode, ngram_counts, ngram_indexes,
                    pool_int64s=None, pool_strings=None, weights=None):
    """Counts the n-grams of a pool in each row (values at a distance of 1 to max_skip_count + 1 from one another)."""
    values = x.numpy() if isinstance(x, Tensor) else x
    rows = values.reshape(1, -1) if values.ndim == 1 else values
    pool = list(pool_strings if pool_strings is not None else pool_int64s)
    known, place, number = {}, 0, 0
    for n, start in enumerate(ngram_counts, start=1):
        end = ngram_counts[n] if n < len(ngram_counts) else len(pool)
        for place in range(start, end, n):
            known[tuple(pool[place:place + n])] = number
            number += 1
    counts = np.zeros(limits.check_shape("TfIdfVectorizer", [len(rows), max(ngram_indexes) + 1]), np.float32)
    scale = np.ones(number, np.float32) if weights is None else np.asarray(weights, np.float32)
    factors = np.ones(counts.shape[1], np.float32)
    for i, column in enumerate(ngram_indexes):
        factors[column] = scale[i]
    for row, line in zip(counts, rows.tolist(), strict=True):
        for n in range(min_gram_length, max_gram_length + 1):
            for step in range(1, max_skip_count + 2 if n > 1 else 2):
                for first in range(len(line) - (n - 1) * step):
                    found = known.get(tuple(line[first:first + n * step:step]))
                    if found is not None:
                        row[ngram_indexes[found]] += 1
    if mode in ("IDF", "TFIDF"):
        counts = ((counts > 0) if mode == "IDF" else counts) * factors
    return Tensor((counts[0] if values.ndim == 1 else counts).astype(np.float32))
