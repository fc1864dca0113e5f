"""For all tests: what this machine lacks is said, not hidden."""

from __future__ import annotations

import importlib.util
import shutil

import pytest


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
