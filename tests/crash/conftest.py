"""Fixtures of the crash tests, and the table of the crash loop at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_kit import environment
from crash_kit import Place, end_all

from tests.emulators.runpod import RunPodEmulator, why_no_guests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform != "linux":
        for item in items:
            item.add_marker(pytest.mark.skip(reason="NOT TESTED: looking for processes left behind needs /proc"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home of the test's own."""
    place = Place(tmp_path / "place")
    yield place
    end_all(place)


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunPodEmulator]:
    """The only cloud of every home in a module, by its environment."""
    if reason := why_no_guests():
        pytest.skip(f"NOT TESTED: {reason}")
    with RunPodEmulator() as emulator:
        found_by = {"RUNPOD_API_BASE_URL": emulator.url, "RUNPOD_API_KEY": emulator.key}
        with environment(found_by):
            yield emulator


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many points the worker was killed at, by kind of job; each was recovered, or its test failed."""
    rows = [
        (report.nodeid.rpartition("::")[2], dict(report.user_properties))
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if dict(report.user_properties).get("crash_points")
    ]
    if rows:
        terminalreporter.section("the worker was killed and its job recovered")
    for name, properties in sorted(rows):
        terminalreporter.write_line(f"{properties['crash_points']:>4} points  {name}")
