"""Fixtures: jobs that leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runner_kit import Job

from backends.runner import runner


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Makes jobs; afterwards nothing of them may be alive, and no supervisor may have crashed."""
    jobs: list[Job] = []

    def make(folder: Path | None = None) -> Job:
        number = len(jobs) + 1
        jobs.append(Job(folder or tmp_path / f"job{number}", f"test-{os.getpid()}-{tmp_path.name}-{number}"))
        return jobs[-1]

    yield make
    for job in jobs:
        assert runner.sweep(str(job.dir), job.key) == []
        log = job.dir / "runner.log"
        assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Job:
    return make_job()
