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
    """What is missing: for ``pods`` and ``memory limit`` of the RunPod emulator, a Python package, or a program."""
    if tool in ("pods", "memory limit"):
        from tests.emulators.runpod.container import why_no_memory_limit, why_no_pods

        return why_no_pods() if tool == "pods" else why_no_memory_limit()
    if shutil.which(tool) or importlib.util.find_spec(tool):
        return None
    return f"{tool} is not installed"
