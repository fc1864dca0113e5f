"""Fixtures: jobs that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runner_kit import Job, jobs_that_leave_nothing


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    with jobs_that_leave_nothing(tmp_path) as make:
        yield make


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Job:
    return make_job()
