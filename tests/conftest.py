"""Fixtures that several chapters share: tiny random models, built from configs, offline."""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["generated_25m", "tiny_run"]

# a machine that is busy is no finding; how many examples is said here, in one place
settings.register_profile(
    "ours",
    max_examples=int(os.environ.get("ILM_EXAMPLES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize="ILM_EXAMPLES" not in os.environ,
    database=None,
)
settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the whole suite."""
    parser.addoption("--write-faults", action="store_true", help="write docs/faults.md from what the tests see")
