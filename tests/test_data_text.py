"""Text as numbers, and the batches that a recurrent network reads."""

import collections

import numpy as np
import pytest

from needle_lab.data import Corpus, Dictionary, alice, batchify, get_batch
from needle_lab.errors import ArgumentError, FileFormatError, MissingFileError, StorageError

TEXT = "the cat saw the dog; the dog didn't.\nA well-known end!\n"


def test_dictionary():
    words = Dictionary("b a b c".split())
    assert words.tokens == ["b", "a", "c"] and len(words) == 3 and "a" in words and "z" not in words
    assert words.add("a") == 1 and words.add("d") == 3
    assert words.encode(["d", "b"]).tolist() == [3, 0] and words.decode([3, 0]) == ["d", "b"]
    with pytest.raises(ArgumentError, match="'z' is not among the 4"):
        words.encode(["a", "z"])
    assert Dictionary(["<unk>", "a"]).encode(["a", "z"]).tolist() == [1, 0]
    for number in (-1, 4):
        with pytest.raises(ArgumentError, match=f"{number} is no token"):
            words.decode([number])


@pytest.mark.parametrize("level", ["char", "word"])
def test_corpus_there_and_back(level):
    corpus = Corpus(TEXT, level, held_out=0.25)
    numbers = np.concatenate([corpus.train, corpus.test])
    assert corpus.decode(numbers) == TEXT and np.array_equal(corpus.encode(TEXT), numbers)
    assert len(corpus.test) == len(numbers) // 4 and set(numbers) == set(range(len(corpus.dictionary)))
    assert np.array_equal(Corpus("the dog", level, dictionary=corpus.dictionary, held_out=0).train, corpus.encode("the dog"))


def test_words_and_rare_words():
    assert Corpus(TEXT, "word").tokenize(TEXT) == ["the", "cat", "saw", "the", "dog", ";", "the", "dog", "didn't", ".", "\n",
                                                   "A", "well-known", "end", "!", "\n"]
    corpus = Corpus(TEXT, "word", min_count=2)
    assert set(corpus.dictionary.tokens) == {"<unk>", "the", "dog", "\n"}
    assert corpus.decode(corpus.encode("the zebra")) == "the <unk>"


def test_alice():
    corpus = alice("char")
    text = corpus.decode(np.concatenate([corpus.train, corpus.test]))
    assert text.startswith("CHAPTER I. Down the Rabbit-Hole\n\nAlice was beginning") and 20_000 < len(text) < 60_000
    assert len(alice("word").dictionary) > 1000 > len(alice("word", min_count=3).dictionary)
    counts = collections.Counter(alice("word").tokenize(text))
    assert counts["Alice"] > 80 and counts["Rabbit"] > 10
    assert repr(corpus) == "char corpus: 41,292 tokens to train, 4,587 to test, 66 different"


def test_corpus_from_file(tmp_path):
    (tmp_path / "a.txt").write_text("Grüße\n", encoding="utf-8")
    corpus = Corpus.from_file(tmp_path / "a.txt", held_out=0)
    assert corpus.decode(corpus.train) == "Grüße\n"
    (tmp_path / "b.txt").write_bytes(b"ab\xff")
    with pytest.raises(FileFormatError, match=r"b.txt is no UTF-8 text: byte 2"):
        Corpus.from_file(tmp_path / "b.txt")
    with pytest.raises(MissingFileError, match="none.txt"):
        Corpus.from_file(tmp_path / "none.txt")
    with pytest.raises(StorageError, match="could not be read"):
        Corpus.from_file(tmp_path)


@pytest.mark.parametrize("n, batch_size", [(26, 4), (24, 4), (7, 1), (9, 4)])
def test_columns_are_pieces_of_the_text(n, batch_size):
    """batchify of a..z with four columns: a g m s / b h n t / ...; y and z are left out."""
    batches = batchify(np.arange(n), batch_size)
    assert batches.shape == (n // batch_size, batch_size)
    assert np.array_equal(batches.numpy().T.reshape(-1), np.arange(n // batch_size * batch_size))


@pytest.mark.parametrize("bptt", [1, 3, 5, 100])
def test_targets_are_the_following_tokens(rng, bptt):
    tokens = rng.integers(0, 50, 43)
    batches, targets = batchify(tokens, 4), []
    for i in range(0, len(batches) - 1, bptt):
        data, target = get_batch(batches, i, bptt)
        assert data.shape[0] <= bptt and target.shape == (data.numel(),)
        assert np.array_equal(data.numpy(), batches.numpy()[i:i + len(data)])
        targets.append(target.numpy().reshape(-1, 4))
    assert np.array_equal(np.concatenate(targets), batches.numpy()[1:])     # every row but the first, once


@pytest.mark.parametrize("call, message", [
    (lambda: Corpus("", "char"), "no tokens"), (lambda: Corpus("a", "byte"), "'char' or 'word', got 'byte'"),
    (lambda: Corpus("a", held_out=1.0), "held_out"), (lambda: batchify([1, 2, 3], 2), "3 tokens do not make 2 columns"),
    (lambda: batchify([1, 2, 3], 0), "0 columns"), (lambda: get_batch(batchify(range(8), 2), 3, 2), "row 3, bptt=2"),
    (lambda: get_batch(batchify(range(8), 2), 0, 0), "bptt=0"),
])
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
