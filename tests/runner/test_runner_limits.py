"""Deadline, lease, idleness and requests: who ended the run, and that it ended."""

from __future__ import annotations

import os
import signal
import time

import pytest
from runner_kit import Job, eventually

from backends.runner import runner

STUBBORN = """$PYTHON -c "
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('ready', 'w').write('1')
time.sleep(600)" """


@pytest.mark.parametrize(
    ("limits", "stopped_by"),
    [
        ({"runtime": 0.2}, "deadline"),
        ({"lease": 0.2}, "lease"),
        ({"lease": 100.0, "lease_began_monotonic": time.monotonic() - 99.7}, "lease"),
        ({"lease": 0.2, "lease_began_monotonic": time.monotonic() + 1e9}, "lease"),  # restarted since
        ({"lease_ends_utc": time.time() - 1}, "lease"),
        ({"idle": 0.4}, "idle"),
    ],
)
def test_a_limit_ends_the_run(job: Job, limits: dict[str, float], stopped_by: str) -> None:
    record = job.run("exec sleep 600", limits=limits)
    assert record["stopped_by"] == stopped_by
    assert record["stop_reason"]
    assert (record["signal"], record["failed_phase"]) in [(signal.SIGTERM, "run"), (None, "run")]
    assert job.processes() == []


def test_an_over_lease_never_starts_the_command(job: Job) -> None:
    record = job.run("touch ran", limits={"lease_ends_utc": 1.0})
    assert (record["stopped_by"], record["exit_code"]) == ("lease", None)
    assert not (job.work / "ran").exists()


def test_a_busy_run_is_not_idle(job: Job) -> None:
    record = job.run("end=$((SECONDS+6)); while [ $SECONDS -lt $end ]; do :; done", limits={"idle": 4})
    assert (record["exit_code"], record["stopped_by"]) == (0, None)
    assert record["cpu_percent"] > runner.IDLE_PERCENT


def test_a_request_ends_the_run_and_its_descendants(job: Job) -> None:
    job.write("setsid sleep 600 & sleep 600 & touch ready; echo 1 > ready; wait").start()
    job.made("ready")
    runner.request_stop(str(job.dir), "the user cancelled")
    runner.request_stop(str(job.dir), "the user cancelled")
    record = job.ended()
    assert (record["stopped_by"], record["stop_reason"]) == ("request", "the user cancelled")
    assert job.processes() == []


def test_a_request_before_the_start_ends_it_at_once(job: Job) -> None:
    job.write("touch ran")
    runner.request_stop(str(job.dir), "changed my mind")
    job.start()
    assert job.ended()["stop_reason"] == "changed my mind"
    assert not (job.work / "ran").exists()


def test_a_program_may_save_its_work_when_asked_to_end(job: Job) -> None:
    job.write("trap 'echo saved > saved; exit 0' TERM; echo 1 > ready; while :; do sleep 0.01; done").start()
    job.made("ready")
    runner.request_stop(str(job.dir), "enough")
    record = job.ended()
    assert (record["exit_code"], record["stopped_by"], record["failed_phase"]) == (0, "request", "run")
    assert (job.work / "saved").read_text() == "saved\n"


def test_sigterm_ignored_is_followed_by_sigkill(job: Job) -> None:
    job.write(f"exec {STUBBORN}", grace=0.2).start()
    job.made("ready")
    runner.request_stop(str(job.dir), "enough")
    record = job.ended()
    assert (record["signal"], record["stopped_by"]) == (signal.SIGKILL, "request")


def test_who_ends_it_is_on_record_before_the_signal(job: Job) -> None:
    job.write(f"exec {STUBBORN}", grace=600).start()
    job.made("ready")
    runner.request_stop(str(job.dir), "enough")
    record = eventually(lambda: job.record()["stopped_by"] and job.record(), "stopped_by")
    assert (record["phase"], record["stopped_by"]) == ("running", "request")


def test_a_machine_that_shuts_down_is_on_record(job: Job) -> None:
    job.write("sleep 600").start()
    os.kill(job.running()["supervisor_pid"], signal.SIGTERM)
    record = job.ended()
    assert record["stopped_by"] == "shutdown"
    assert "SIGTERM" in record["stop_reason"]


def test_a_stopped_process_ends_too(job: Job) -> None:
    job.write("exec sleep 600", grace=0.2).start()
    os.kill(job.running()["pid"], signal.SIGSTOP)
    runner.request_stop(str(job.dir), "enough")
    assert job.ended()["signal"] in (signal.SIGTERM, signal.SIGKILL)
