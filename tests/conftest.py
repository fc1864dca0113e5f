"""For all tests: what this machine lacks is said, not hidden."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

NO_AWS = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}

settings.register_profile("gpujob", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gpujob")  # no test fails because a machine is slow, or passes only sometimes


def pytest_configure() -> None:
    """Whoever runs the tests may be signed in to AWS, or be on a machine of it: no test may ask that account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(NO_AWS, AWS_EC2_METADATA_DISABLED="true")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """``@pytest.mark.needs(tool)`` skips, loudly, where the tool is missing."""
    for mark in item.iter_markers("needs"):
        if lack := why_not(mark.args[0]):
            pytest.skip(f"NOT TESTED: {lack}")


def why_not(tool: str) -> str | None:
    """What is missing: for ``guests`` and ``memory limit`` of emulated machines, a Python package, or a program."""
    if tool in ("guests", "memory limit"):
        from tests.emulators.guest.container import why_no_guests, why_no_memory_limit

        return why_no_guests() if tool == "guests" else why_no_memory_limit()
    if shutil.which(tool) or importlib.util.find_spec(tool):
        return None
    return f"{tool} is not installed"
