"""The job's own environment: built once, shared, rebuilt after a crash."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from runner_kit import Job, eventually

from backends.runner import runner


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    return tmp_path / "environments" / "abc123"


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python whose environments are made in a moment, because nobody installs into them."""
    tool = tmp_path / "quick-python"
    tool.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -m venv --without-pip "$@"\n')
    tool.chmod(0o755)
    return str(tool)


def setup(environment: Path | None, command: str, python: str = sys.executable) -> dict[str, object]:
    place = str(environment) if environment else None
    return {"command": command, "environment": place, "python": python, "system_site_packages": False}


def test_the_command_runs_in_the_environment(job: Job, environment: Path) -> None:
    where = "import sys; print(sys.prefix)"
    record = job.run(f'python -c "{where}"; echo $VIRTUAL_ENV', setup=setup(environment, f'python -c "{where}"'))
    assert record["exit_code"] == 0
    assert (job.log("setup") + job.log()).split() == [str(environment)] * 3
    assert record["setup_seconds"] > 0
    assert (environment / runner.COMPLETE).exists()


def test_two_runs_at_once_build_it_once(make_job, environment: Path, tmp_path: Path, python: str) -> None:
    jobs = [
        make_job().write("command -v python", setup=setup(environment, f"echo x >> {tmp_path}/built", python))
        for _ in "ab"
    ]
    for job in jobs:
        assert job.start().returncode == 0
    assert [job.ended()["exit_code"] for job in jobs] == [0, 0]
    assert (tmp_path / "built").read_text() == "x\n"
    assert {job.log().split()[-1] for job in jobs} == {str(environment / "bin" / "python")}


def test_a_half_built_one_is_built_again(make_job, environment: Path, python: str) -> None:
    crashed = make_job().write(
        "true", setup=setup(environment, "touch $VIRTUAL_ENV/half; echo 1 > half; sleep 600; true", python)
    )
    crashed.start()
    crashed.made("half")
    os.kill(crashed.record()["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: crashed.status()["phase"] == "lost", "lost")
    runner.sweep(str(crashed.dir), crashed.key)
    record = make_job().run("test ! -e $VIRTUAL_ENV/half", setup=setup(environment, "true", python))
    assert (record["exit_code"], record["failed_phase"]) == (0, None)


def test_nobody_rebuilds_while_orphans_of_a_crash_still_build(make_job, environment: Path, python: str) -> None:
    crashed = make_job().write(
        "true", setup=setup(environment, "(sleep 600; true) & echo 1 > building; wait; true", python)
    )
    crashed.start()
    crashed.made("building")
    os.kill(crashed.record()["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: crashed.status()["phase"] == "lost", "lost")
    assert crashed.processes()
    record = make_job().run("true", setup=setup(environment, "true", python), limits={"runtime": 0.5})
    assert (record["stopped_by"], record["failed_phase"], record["exit_code"]) == ("deadline", "setup", None)


def test_a_run_that_waits_for_another_can_be_stopped(make_job, environment: Path, python: str) -> None:
    builder = make_job().write("true", setup=setup(environment, "echo 1 > building; sleep 600; true", python))
    builder.start()
    builder.made("building")
    waiter = make_job().write("touch ran", setup=setup(environment, "true", python))
    waiter.start()
    eventually(lambda: waiter.record().get("phase") == "setup", "setup")
    runner.request_stop(str(waiter.dir), "enough")
    assert waiter.ended()["stopped_by"] == "request"
    assert not (waiter.work / "ran").exists()


def test_setup_that_fails_is_told_apart(job: Job, environment: Path, python: str) -> None:
    record = job.run("touch ran", setup=setup(environment, "echo no such package >&2; exit 3", python))
    assert (record["failed_phase"], record["exit_code"]) == ("setup", 3)
    assert record["command_started_at"] is None
    assert "no such package" in job.log("setup")
    assert not (job.work / "ran").exists()
    assert not (environment / runner.COMPLETE).exists()


def test_setup_counts_in_the_allowed_time(job: Job) -> None:
    record = job.run("touch ran", setup=setup(None, "sleep 600; true"), limits={"runtime": 0.3})
    assert (record["stopped_by"], record["failed_phase"]) == ("deadline", "setup")
    assert not (job.work / "ran").exists()


def test_setup_is_never_idle(job: Job) -> None:
    record = job.run("echo ran", setup=setup(None, "sleep 5"), limits={"idle": 4})  # echo itself may wait for a core
    assert (record["stopped_by"], job.log()) == (None, "ran\n")


def test_secrets_in_setup_are_replaced(job: Job) -> None:
    job.run("true", setup=setup(None, "echo index $TOKEN"), secrets={"TOKEN": "canary-55"}, secret_names=["TOKEN"])
    assert job.log("setup") == "index ***\n"


def test_a_missing_python_is_explained(job: Job, environment: Path) -> None:
    record = job.run("true", setup=setup(environment, "true", python="/no/such/python"))
    assert (record["failed_phase"], record["exit_code"]) == ("setup", 127)
    assert "/no/such/python cannot be started" in job.log("setup")


def test_an_environment_that_cannot_be_made_is_explained(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    record = job.run("true", setup=setup(tmp_path / "file" / "env", "true"))
    assert (record["failed_phase"], record["exit_code"]) == ("setup", 127)
    assert "environment of the job cannot be made" in job.log("setup")
