"""Datasets, loaders and transforms: nothing lost, nothing twice, and the same numbers for the same seed."""

import numpy as np
import pytest
from peers import needs, require

import needle_lab as ndl
from needle_lab.data import (
    ArrayDataset,
    BatchSampler,
    Compose,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Normalize,
    OneHot,
    RandomCrop,
    RandomFlipHorizontal,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    ToFloat,
    Transform,
    WeightedRandomSampler,
    digits,
    mnist1d,
    random_split,
    shapes,
    spirals,
)
from needle_lab.errors import ArgumentError, ShapeError


def counted(n=23):
    """Examples that carry their own number."""
    return ArrayDataset(np.arange(n, dtype="float32")[:, None], np.arange(n))


def passes(loader, times=1):
    return [[y.numpy() for _, y in loader] for _ in range(times)]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# --- datasets -----------------------------------------------------------------------------------------------------

class Squares(Dataset):
    """A dataset that computes its examples one by one."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return np.float32([index, index**2]), index


def test_datasets_hold_examples(rng):
    x = rng.normal(size=(7, 2)).astype("float32")
    dataset = TensorDataset(ndl.tensor(x), np.arange(7))
    assert len(dataset) == 7 and np.array_equal(dataset[3][0], x[3]) and dataset[3][1] == 3
    for made in (dataset, Subset(dataset, [4, 2, 2, 0])):
        whole = made.batch(range(len(made)))
        for i in range(len(made)):
            assert all(np.array_equal(part[i], alone) for part, alone in zip(whole, made[i], strict=True))
    squares, numbers = Squares().batch([3, 1])
    assert np.array_equal(squares, [[3, 9], [1, 1]]) and np.array_equal(numbers, [3, 1])
    assert repr(spirals(9)) == "9 examples of (float32 (2,), int64 ()), 3 classes"


@pytest.mark.parametrize("lengths", [[10, 10, 3], [0.5, 0.25, 0.25], [23], [1.0], [0, 23]])
def test_random_split_deals_out_every_example_once(lengths):
    parts = random_split(counted(), lengths, seed=5)
    numbers = [np.sort([int(y) for _, y in part]) if len(part) else np.array([], int) for part in parts]
    assert np.array_equal(np.sort(np.concatenate(numbers)), np.arange(23))
    assert all(len(part) == k if isinstance(k, int) else abs(len(part) - 23 * k) < len(lengths)
               for part, k in zip(parts, lengths, strict=True))
    again, other = random_split(counted(), lengths, seed=5), random_split(counted(), lengths, seed=6)
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(parts, again, strict=True))
    assert not all(np.array_equal(a.indices, b.indices) for a, b in zip(parts, other, strict=True))


@pytest.mark.parametrize("call, error, message", [
    (lambda: ArrayDataset(np.ones(3), np.ones(4)), ShapeError, "lengths 3, 4"),
    (lambda: ArrayDataset(), ArgumentError, "arrays are needed"),
    (lambda: ArrayDataset(np.float32(1)), ArgumentError, "first axis"),
    (lambda: Subset(counted(), [0, 23]), ArgumentError, "index 23 lies outside a dataset of 23"),
    (lambda: random_split(counted(), [10, 10]), ArgumentError, r"\[10, 10\] sum to 20, the dataset has 23"),
    (lambda: random_split(counted(), [0.5, 0.4]), ArgumentError, "sum to 1"),
    (lambda: Subset(counted(), np.ones(22, bool)), ShapeError, "one bool for each of 23"),
    (lambda: Subset(counted(), [0.5]), ArgumentError, "integers or a mask"),
    (lambda: ConcatDataset([]), ArgumentError, "at least one"),
    (lambda: DataLoader(7), ArgumentError, "arrays .x, y., or a list of examples; got int"),
    (lambda: DataLoader(counted(), seed=-1), ArgumentError, "seed is an integer of 0 or more, got -1"),
    (lambda: DataLoader(counted(), shuffle=RandomSampler(counted())), ArgumentError, "sampler=..."),
    (lambda: DataLoader(counted(), shuffle=True, sampler=[0]), ArgumentError, "from shuffle or from sampler"),
    (lambda: DataLoader(Stream(), num_workers=2), ArgumentError, "own order"),
    (lambda: len(DataLoader(Stream())), TypeError, "no length"),
    (lambda: WeightedRandomSampler([0, 0], 2), ArgumentError, "not all 0"),
    (lambda: WeightedRandomSampler([1, 0], 2, replacement=False), ArgumentError, "num_samples=2 of 1"),
    (lambda: DataLoader(counted(), 0), ArgumentError, "batch_size is an integer of 1 or more, got 0"),
    (lambda: DataLoader(counted(), 2.5), ArgumentError, "got 2.5"),
    (lambda: DataLoader(counted(), workers=-1), ArgumentError, "workers"),
    (lambda: DataLoader(counted()).load_state_dict({"epoch": 1}), ArgumentError, "state_dict"),
    (lambda: DataLoader(counted(), 23).load_state_dict({"seed": 1, "epoch": 1, "batch": 1}), ArgumentError, "1 batches"),
    (lambda: digits("validation"), ArgumentError, "'train', 'test' or 'all', got 'validation'"),
    (lambda: spirals(0), ArgumentError, "n is a positive integer"),
    (lambda: shapes(5, size=4), ArgumentError, "8 or more"),
    (lambda: mnist1d(2.0), ArgumentError, "n is a positive integer"),
])
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_examples_that_do_not_stack():
    class Ragged(Squares):
        def __getitem__(self, index):
            return np.ones(index + 1), index

    with pytest.raises(ShapeError, match=r"examples of different shapes .*\(1,\).*collate_fn"):
        next(iter(DataLoader(Ragged(), 3)))


class Stream(IterableDataset):
    """Examples that come one after the other."""

    def __iter__(self):
        return iter(range(7))


# --- the loader ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 3])
def test_every_example_once(batch_size, drop_last, workers):
    loader = DataLoader(counted(), batch_size, shuffle=True, seed=1, drop_last=drop_last, workers=workers)
    batches = passes(loader)[0]
    assert len(batches) == len(loader) == (23 // batch_size if drop_last else -(-23 // batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    seen = np.concatenate(batches) if batches else np.array([], int)
    assert len(set(seen.tolist())) == len(seen) == (23 - 23 % batch_size if drop_last else 23)


def test_order():
    assert np.array_equal(np.concatenate(passes(DataLoader(counted(), 4))[0]), np.arange(23))
    first, second = passes(DataLoader(counted(), 4, shuffle=True, seed=1), 2)
    assert not same(first, second)                                       # each pass has its own order
    assert same(first + second, sum(passes(DataLoader(counted(), 4, shuffle=True, seed=1, workers=3), 2), []))
    assert not same(first, passes(DataLoader(counted(), 4, shuffle=True, seed=2))[0])
    drawn = []
    for _ in range(2):
        ndl.manual_seed(3)
        drawn.append(passes(DataLoader(counted(), 4, shuffle=True))[0])
    assert same(*drawn)
    assert same(*(passes(DataLoader(counted(), 4, shuffle=True, seed=ndl.Generator(9)))[0] for _ in range(2)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(1, 7))
def test_continuing_where_it_stopped(workers, stop):
    """A loader restored in the middle of epoch 2 gives the batches that were still to come, and then epoch 3."""
    def made():
        return DataLoader(counted(), 4, shuffle=True, seed=1, workers=workers,
                          transform=lambda x: x, target_transform=None)
    oracle = sum(passes(made(), 3), [])
    loader, twin, seen = made(), made(), passes(made())[0]
    passes(loader)
    for number, (_, y) in enumerate(loader, start=1):
        seen.append(y.numpy())
        if number == stop:
            twin.load_state_dict(loader.state_dict())
            break
    while len(seen) < len(oracle):
        seen += passes(twin)[0]
    assert same(seen, oracle)


def test_a_broken_off_pass_starts_over():
    loader = DataLoader(counted(), 4, seed=0)
    assert next(iter(loader))[1].tolist() == next(iter(loader))[1].tolist() == [0, 1, 2, 3]
    assert [len(batches) for batches in passes(loader, 2)] == [6, 6]


def test_batches_are_tensors_and_transforms_do_not_depend_on_workers():
    def run(workers):
        loader = DataLoader(shapes(599), 64, shuffle=True, seed=4, workers=workers,
                            transform=Compose(RandomCrop(2), RandomFlipHorizontal()), target_transform=OneHot(3))
        return [(x, y) for _ in range(2) for x, y in loader]
    alone, helped = run(0), run(3)
    assert isinstance(alone[0][0], ndl.Tensor) and alone[0][0].shape == (64, 1, 16, 16) and alone[0][1].shape == (64, 3)
    assert all(np.array_equal(a.numpy(), b.numpy()) for p, q in zip(alone, helped, strict=True)
               for a, b in zip(p, q, strict=True))
    assert not np.array_equal(alone[0][0].numpy(), alone[10][0].numpy())


def test_an_error_in_a_worker_reaches_the_caller():
    def fails(x):
        raise ArithmeticError("from the transform")
    for workers in (0, 2):
        with pytest.raises(ArithmeticError, match="from the transform"):
            list(DataLoader(counted(), 4, workers=workers, transform=fails))


def test_progress_bar(capsys):
    for _ in DataLoader(counted(), 4, progress="reading"):
        pass
    assert "reading" in capsys.readouterr().err


# --- transforms ---------------------------------------------------------------------------------------------------

def test_to_float_normalize_one_hot(rng):
    x = rng.integers(0, 256, (5, 3, 4, 6)).astype("uint8")
    scaled = ToFloat()(x)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, x / 255, rtol=1e-6)
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    normal = Compose([ToFloat(), Normalize(mean, std)])(x)
    np.testing.assert_allclose(normal.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normal.std((0, 2, 3)), 1, rtol=1e-4)
    np.testing.assert_allclose(Normalize(0.5, 0.25)(scaled[0]), (scaled[0] - 0.5) / 0.25)
    labels = rng.integers(0, 4, 9)
    assert np.array_equal(OneHot(4)(labels), np.eye(4)[labels])


def test_flip(rng):
    x = rng.normal(size=(200, 2, 3, 5)).astype("float32")
    flipped = RandomFlipHorizontal()(x, np.random.default_rng(0))
    mirrored = np.array([np.array_equal(a, b[..., ::-1]) for a, b in zip(flipped, x, strict=True)])
    assert all(m or np.array_equal(a, b) for m, a, b in zip(mirrored, flipped, x, strict=True))
    assert 70 < mirrored.sum() < 130
    assert np.array_equal(RandomFlipHorizontal(1)(x), x[..., ::-1]) and np.array_equal(RandomFlipHorizontal(0)(x), x)
    assert np.array_equal(RandomFlipHorizontal(1)(x[0]), x[0, ..., ::-1])


def test_crop(rng):
    """Each image equals some shift of the padded original; all shifts occur."""
    x = rng.normal(size=(300, 2, 4, 5)).astype("float32")
    cropped, padded, shifts = RandomCrop(1)(x, np.random.default_rng(0)), np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), set()
    for i in range(len(x)):
        shifts.add(next((r, c) for r in range(3) for c in range(3)
                        if np.array_equal(padded[i, :, r:r + 4, c:c + 5], cropped[i])))
    assert len(shifts) == 9 and np.array_equal(RandomCrop(0)(x), x) and RandomCrop(2)(x[0]).shape == x[0].shape


def test_random_transforms_draw_from_the_default_generator_unless_given_one(rng):
    x = rng.normal(size=(50, 1, 8, 8)).astype("float32")
    for transform in (RandomCrop(2), RandomFlipHorizontal()):
        results = []
        for seed in (1, 1, 2):
            ndl.manual_seed(seed)
            results.append(transform(x))
        assert np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("transform, x, error, message", [
    (Normalize(0.5, 0.5), np.zeros((1, 2, 2), "uint8"), ArgumentError, r"got uint8; put ToFloat\(\) before it"),
    (Normalize([0, 0], 1), np.zeros((1, 3, 2, 2), "float32"), ShapeError, "mean has 2 values"),
    (OneHot(3), np.array([0, 3]), ArgumentError, "from 0 to 2 are needed, got int64 from 0 to 3"),
    (OneHot(3), np.ones(2), ArgumentError, "got float64"),
    (RandomCrop(1), np.zeros((4, 4)), ShapeError, r"RandomCrop: images .* got shape \(4, 4\)"),
    (Transform(), np.zeros(2), NotImplementedError, "must define forward"),
])
def test_transforms_refuse(transform, x, error, message):
    with pytest.raises(error, match=message):
        transform(x)


def test_settings_of_transforms_are_checked():
    for make, message in ((lambda: Normalize(0, 0), "positive"), (lambda: RandomFlipHorizontal(1.5), "probability"),
                          (lambda: RandomCrop(-1), "negative")):
        with pytest.raises(ArgumentError, match=message):
            make()


# --- the datasets themselves --------------------------------------------------------------------------------------

@needs("sklearn")
def test_digits_are_those_of_scikit_learn_and_a_third_is_held_out():
    from sklearn.datasets import load_digits

    images, labels = digits("all").arrays
    original = load_digits()
    assert repr(digits("test")) == "599 examples of (float32 (1, 8, 8), int64 ()), 10 classes"
    assert images.shape == (1797, 1, 8, 8) and images.dtype == np.float32 and labels.dtype == np.int64
    assert np.array_equal(images[:, 0] * 16, original.images) and np.array_equal(labels, original.target)
    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1198, 599)
    together = np.concatenate([train.arrays[0], test.arrays[0]]).reshape(1797, -1)
    assert np.array_equal(np.sort(together, axis=0), np.sort(images.reshape(1797, -1), axis=0))
    assert (abs(np.bincount(test.arrays[1]) - np.bincount(labels) / 3) < 1).all()
    assert np.array_equal(digits("test", seed=0).arrays[0], test.arrays[0])
    assert not np.array_equal(digits("test", seed=1).arrays[1], test.arrays[1])


@needs("sklearn")
@pytest.mark.parametrize("make, shape, classes", [(spirals, (2,), 3), (shapes, (1, 16, 16), 3), (mnist1d, (40,), 10)])
def test_synthetic_sets_are_seeded_balanced_and_need_more_than_a_linear_model(make, shape, classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    x, y = make(1200, seed=1).arrays
    assert x.shape == (1200, *shape) and x.dtype == np.float32 and y.dtype == np.int64 and np.isfinite(x).all()
    assert (np.bincount(y) == 1200 // classes).all() and len(make(9).classes) == classes
    assert np.array_equal(make(1200, seed=1).arrays[0], x) and not np.array_equal(make(1200, seed=2).arrays[0], x)
    x = x.reshape(1200, -1)
    linear = LogisticRegression(max_iter=300).fit(x[:900], y[:900]).score(x[900:], y[900:])
    near = KNeighborsClassifier(1).fit(x[:900], y[:900]).score(x[900:], y[900:])
    assert linear < 0.8 < near


# --- what PyTorch's loader takes ------------------------------------------------------------------------------------------


def told(batches):
    return [np.asarray(batch).tolist() for batch in batches]


@pytest.mark.parametrize("data", [[3, 1, 4, 1, 5], np.array([3, 1, 4, 1, 5]), Subset(counted(), np.arange(23) < 5)])
def test_a_list_is_a_dataset(data):
    first = next(iter(DataLoader(data, 2)))
    assert len(first) == 2


def test_examples_of_any_structure_are_stacked_like_pytorchs():
    torch = require("torch")
    examples = [{"x": np.ones(2, "float32") * i, "y": (i, i % 2 == 0), "name": f"n{i}"} for i in range(5)]
    ours = list(DataLoader(examples, 2))
    theirs = list(torch.utils.data.DataLoader(examples, 2))
    for a, b in zip(ours, theirs, strict=True):
        assert a["name"] == b["name"] and a["x"].shape == tuple(b["x"].shape)
        assert told(a["y"]) == told(b["y"]) and a["y"][1].dtype == bool and a["y"][0].dtype == np.int64
    assert next(iter(DataLoader([(0.5, 1)], 1)))[0].dtype == np.float32                        # a Python float


def test_collate_fn_makes_the_batch():
    batches = list(DataLoader([[1], [2, 3], [4]], 2, collate_fn=lambda examples: sum(examples, [])))
    assert batches == [[1, 2, 3], [4]]


def test_single_examples_without_a_batch_size():
    assert told(DataLoader([3, 1, 4], batch_size=None)) == [3, 1, 4]


def test_concatenated_datasets():
    both = Subset(counted(), range(3)) + counted()
    assert len(both) == 26 and told(both[-1])[1] == 22 and [told(both[i])[1] for i in (0, 2, 3)] == [0, 2, 0]
    with pytest.raises(IndexError):
        both[26]
    assert len(list(DataLoader(both, 4))) == 7


def test_a_stream_of_examples():
    assert told(DataLoader(Stream(), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert told(DataLoader(Stream(), 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]


def test_weights_say_how_often_an_example_comes():
    chosen = np.array(list(WeightedRandomSampler([1, 0, 3], 4000, generator=ndl.Generator(0))))
    counts = np.bincount(chosen, minlength=3)
    assert counts[1] == 0 and abs(counts[2] / 4000 - 0.75) < 0.04          # six standard deviations
    assert sorted(WeightedRandomSampler([1, 2, 3], 3, replacement=False)) == [0, 1, 2]
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9] and list(SequentialSampler("abc")) == [0, 1, 2]
    assert len(list(RandomSampler(range(3), num_samples=8))) == 8
    assert list(BatchSampler(SequentialSampler("abcde"), 2, True)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("options", [{"sampler": RandomSampler(range(23))}, {"shuffle": True},
                                     {"sampler": WeightedRandomSampler(np.arange(23), 30)},
                                     {"batch_sampler": BatchSampler(RandomSampler(range(23)), 4)}])
@pytest.mark.parametrize("workers", [{}, {"workers": 2}, {"num_workers": 2}])
def test_a_pass_is_continued_where_it_stopped(options, workers):
    size = {} if "batch_sampler" in options else {"batch_size": 4}

    def made():
        return DataLoader(counted(), seed=5, **options, **workers, **size)
    whole = [y.tolist() for _, y in made()]
    half = made()
    passing = iter(half)
    begun = [next(passing)[1].tolist() for _ in range(2)]
    rest = made()
    rest.load_state_dict(half.state_dict())
    passing.close()
    assert begun + [y.tolist() for _, y in rest] == whole


def test_a_loader_of_processes_gives_the_same():
    plain, processes = DataLoader(counted(), 5, shuffle=True, seed=2), DataLoader(counted(), 5, True, 2, num_workers=2)
    for _ in range(2):
        assert [told(b) for b in plain] == [told(b) for b in processes]
