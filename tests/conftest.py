"""Shared by all tests: seeded random numbers and one way to compare with an oracle."""

import numpy as np
import pytest


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(list(request.node.name.encode()))


def assert_close(ours, oracle, tolerance: float = 1e-6, what: str = "") -> None:
    """Largest difference relative to the oracle's scale (at least 1), nan and inf in the same places."""
    ours = np.asarray(ours.numpy() if hasattr(ours, "numpy") else ours)
    oracle = np.asarray(oracle.detach().numpy() if hasattr(oracle, "detach") else oracle)
    assert ours.shape == oracle.shape, f"{what}: shape {ours.shape}, oracle {oracle.shape}"
    if ours.dtype == bool or oracle.dtype == bool or not oracle.size:
        np.testing.assert_array_equal(ours, oracle, err_msg=what)
        return
    ours, oracle = ours.astype(np.float64), oracle.astype(np.float64)
    finite = np.isfinite(oracle)
    np.testing.assert_array_equal(ours[~finite], oracle[~finite], err_msg=what)
    if finite.any():
        scale = max(np.abs(oracle[finite]).max(), 1.0)
        error = np.abs(ours[finite] - oracle[finite]).max() / scale
        assert error <= tolerance, f"{what}: relative error {error:.2e} > {tolerance:.0e}"
