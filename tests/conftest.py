"""Shared by all tests: seeded random numbers, one way to compare with an oracle, and `--no-skips`."""

import sys

import numpy as np
import pytest

import needle_lab as ndl
from needle_lab.testing import assert_close  # noqa: F401    the tests' way to compare with an oracle


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
