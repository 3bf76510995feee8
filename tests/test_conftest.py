"""The comparison that the other tests make: what it lets pass and what it does not."""

import ml_dtypes
import numpy as np
import pytest
from conftest import assert_close

import needle_lab as ndl

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_measure_is_the_oracle_s_own_scale_and_its_dtype(dtype, scale, rng):
    oracle = (scale * rng.uniform(0.5, 1, (3, 4))).astype(dtype)
    largest = float(np.abs(oracle.astype(np.float64)).max())
    eps = float(ml_dtypes.finfo(dtype).eps)
    wide = oracle.astype(np.float64)
    assert_close(ndl.tensor(oracle), wide)
    assert_close(oracle, wide + 9 * eps * largest)
    with pytest.raises(AssertionError):
        assert_close(oracle, wide + 12 * eps * largest)
    for wrong in (np.zeros_like(oracle), -oracle, oracle[::-1]):
        with pytest.raises(AssertionError):
            assert_close(wrong, wide, 1e-3)


def test_small_values_do_not_pass_as_zeros():
    with pytest.raises(AssertionError, match="scale of 9.00e-07"):
        assert_close(np.zeros(3, "float32"), np.full(3, 9e-7, "float32"))


def test_an_oracle_of_zeros_asks_for_zeros_unless_told():
    zeros, noise = np.zeros(3, "float32"), np.full(3, 1e-9, "float32")
    assert_close(zeros, zeros)
    assert_close(noise, zeros, absolute=2e-9)
    for wrong in ({}, {"absolute": 5e-10}):
        with pytest.raises(AssertionError):
            assert_close(noise, zeros, **wrong)


@pytest.mark.parametrize(("ours", "oracle"), [
    ([1, 2], [1, 3]), ([True], [False]), ([1.0, np.nan], [1.0, 2.0]), ([1.0, 2.0], [1.0, np.nan]), ([np.inf], [-np.inf]),
    ([1.0], [[1.0]]), ([], [1.0])])
def test_other_values_places_of_nan_and_shapes_are_refused(ours, oracle):
    assert_close(np.array(oracle), np.array(oracle))
    with pytest.raises(AssertionError):
        assert_close(np.array(ours), np.array(oracle), 0.1)
