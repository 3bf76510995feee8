"""Shared by all tests: seeded random numbers, one way to compare with an oracle, and `--no-skips`."""

import sys

import ml_dtypes
import numpy as np
import pytest

import needle_lab as ndl


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run: in CI every peer is installed")


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")          # the workers of xdist have none
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    skipped = len(terminalreporter.stats.get("skipped", ()))
    if config.getoption("--no-skips") and skipped:
        terminalreporter.write_line(f"--no-skips: {skipped} skipped, so the run has failed", red=True)


@pytest.hookimpl(tryfirst=True)                     # before fixtures, which draw weights too
def pytest_runtest_setup():
    """Each test draws the same numbers on every run, whatever ran before it."""
    ndl.manual_seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(list(request.node.name.encode()))


def assert_close(ours, oracle, tolerance: float | None = None, what: str = "", *, absolute: float = 0.0) -> None:
    """The largest difference is at most `tolerance` times the oracle's largest value, plus `absolute`.

    ours, oracle: tensors or arrays of one shape; nan and inf in the same places, integers and bools equal.
    tolerance: by default ten roundings of the coarser dtype of the two (1.2e-6 in float32, 2.2e-15 in float64). A longer
    computation names its own.
    absolute: for an oracle that is zero up to rounding, where nothing is relative to anything. The default asks for zeros.
    """
    ours = np.asarray(ours.numpy() if hasattr(ours, "numpy") else ours)
    oracle = np.asarray(oracle.detach().numpy() if hasattr(oracle, "detach") else oracle)
    assert ours.shape == oracle.shape, f"{what}: shape {ours.shape}, oracle {oracle.shape}"
    eps = max((float(ml_dtypes.finfo(a.dtype).eps) for a in (ours, oracle) if a.dtype.kind not in "biu"), default=0.0)
    if not eps or not oracle.size:
        np.testing.assert_array_equal(ours, oracle, err_msg=what)
        return
    tolerance = 10 * eps if tolerance is None else tolerance
    ours, oracle = ours.astype(np.float64), oracle.astype(np.float64)
    finite = np.isfinite(oracle)
    np.testing.assert_array_equal(ours[~finite], oracle[~finite], err_msg=what)
    if finite.any():
        scale = np.abs(oracle[finite]).max()
        error = np.abs(ours[finite] - oracle[finite]).max()
        assert error <= tolerance * scale + absolute, (
            f"{what}: {error:.2e} away from an oracle of scale {scale:.2e}, allowed {tolerance:.0e} of it + {absolute:.0e}")
