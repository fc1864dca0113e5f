"""Fixtures of the crash tests, and the table of the crash loop at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_kit import Place, end_all


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
