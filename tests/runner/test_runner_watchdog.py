"""The watchdog ends a rented machine by itself: here a `stop` command that leaves a mark stands for the provider's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runner_kit import Job, eventually

from backends.runner import RUNNER_PATH, runner

LONG = 100_000
"""Seconds that no test lasts."""


class Machine:
    """What `stop` commands have done."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "ended"

    def section(self, **given: Any) -> dict[str, Any]:
        end = f"echo $PPID >> {self.mark}"
        return {"stop": [end], "stop_pid1": None, "linger": LONG, "ends_utc": None, "lease": None, **given}

    def ended(self) -> bool:
        return self.mark.exists()

    def wait(self) -> None:
        eventually(self.ended, "the end of the machine")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def watchdog(job: Job) -> dict[str, Any]:
    return runner.read_record(str(job.dir / "watchdog.json"))


def start(job: Job) -> None:
    assert job.start().returncode == 0, job.troubles()


def test_the_machine_ends_when_its_seconds_are_over(job: Job, machine: Machine) -> None:
    start(job.write("sleep 100", machine=machine.section(lease=1.0)))
    machine.wait()
    assert "paid for are over" in watchdog(job)["ending"]
    assert watchdog(job)["tries"] >= 1
    assert "ending this machine" in job.troubles()


def test_the_machine_ends_at_its_hour_even_if_its_own_seconds_are_not_over(job: Job, machine: Machine) -> None:
    start(job.write("sleep 100", machine=machine.section(lease=LONG, ends_utc=time.time() + 1)))
    machine.wait()
    assert "paid for until" in watchdog(job)["ending"]


def test_a_clock_set_back_by_a_day_buys_no_time(job: Job, machine: Machine) -> None:
    """The hour is a day away by this clock; the seconds of the steady one are over."""
    start(job.write("sleep 100", machine=machine.section(lease=1.0, ends_utc=time.time() + 86400)))
    machine.wait()


def test_the_machine_ends_when_nobody_comes_for_the_results(job: Job, machine: Machine) -> None:
    job.run("echo done > result", machine=machine.section(linger=1.0))
    machine.wait()
    assert "nobody came" in watchdog(job)["ending"]
    assert job.made("result") == "done\n"


def test_the_machine_waits_while_the_command_works_and_while_results_may_be_fetched(job: Job, machine: Machine) -> None:
    start(job.write("sleep 3; echo done > result", machine=machine.section(linger=LONG)))
    job.made("result")
    job.ended()
    eventually(lambda: watchdog(job)["waiting_since"], "the watchdog to see the end")
    assert not machine.ended()


def test_the_machine_ends_once_everything_is_fetched(job: Job, machine: Machine) -> None:
    job.run("true", machine=machine.section())
    assert not machine.ended()
    runner.request_stop(str(job.dir), runner.FETCHED)
    machine.wait()
    assert "fetched" in watchdog(job)["ending"]


def test_a_request_to_end_the_run_is_not_taken_for_fetched(job: Job, machine: Machine) -> None:
    start(job.write("sleep 100", machine=machine.section()))
    job.running()
    runner.request_stop(str(job.dir), "cancelled")
    assert job.ended()["stop_reason"] == "cancelled"
    eventually(lambda: watchdog(job)["waiting_since"], "the watchdog to see the end")
    assert not machine.ended()


def test_an_idle_run_is_ended_and_then_its_machine(job: Job, machine: Machine) -> None:
    start(job.write("sleep 100", limits={"idle": 1}, machine=machine.section(linger=1.0)))
    assert job.ended()["stopped_by"] == "idle"
    machine.wait()


def test_a_killed_supervisor_leaves_a_machine_that_ends(job: Job, machine: Machine) -> None:
    start(job.write("sleep 100", machine=machine.section(linger=1.0)))
    job.running()
    os.kill(job.record()["supervisor_pid"], signal.SIGKILL)
    machine.wait()
    assert "lost" in watchdog(job)["ending"]


def test_a_supervisor_that_stands_still_does_not_keep_an_idle_machine(
    job: Job, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, whose patience can be shortened, on a real run whose supervisor is really stopped."""
    start(job.write("sleep 100", limits={"idle": LONG}))
    pid = job.running() and job.record()["supervisor_pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(runner, "SILENT_SECONDS", 0.5)
        described = runner.load_job(str(job.dir))
        described["limits"]["idle"] = 1.0
        described["machine"] = machine.section(linger=0.5)
        looking = runner.Watchdog(str(job.dir), described)
        reason = eventually(looking._why_end, "a reason to end the machine")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "nobody came" in reason


def test_a_command_that_fails_is_followed_by_the_next_and_all_are_tried_again(job: Job, machine: Machine) -> None:
    refused = machine.mark.with_name("refused")
    stop = [f"echo no >> {refused}; exit 1", *(f"{end}; exit 1" for end in machine.section()["stop"])]
    start(job.write("sleep 100", machine=machine.section(lease=0.5, stop=stop)))
    eventually(lambda: machine.ended() and machine.mark.read_text().count("\n") >= 2, "a second round")
    assert refused.read_text().count("no") >= 2


def test_starting_again_leaves_one_watchdog_and_brings_back_a_dead_one(job: Job, machine: Machine) -> None:
    start(job.write("sleep 100", machine=machine.section()))
    job.running()
    first = watchdog(job)
    start(job)
    assert watchdog(job)["pid"] == first["pid"]
    os.kill(first["pid"], signal.SIGKILL)
    eventually(lambda: not runner.watchdog_of(str(job.dir)), "the watchdog's death")
    start(job)
    second = watchdog(job)
    assert second["pid"] != first["pid"]
    assert second["began"] == first["began"], "the seconds that are paid for go on counting"


def test_the_watchdog_is_no_part_of_the_run(job: Job, machine: Machine) -> None:
    """It ends neither with the run nor by what ends the run, and the kernel does not take it first."""
    start(job.write("kill -9 -$$; sleep 100", machine=machine.section()))
    job.ended()
    pid = watchdog(job)["pid"]
    assert runner.watchdog_of(str(job.dir)) == [pid]
    assert pid not in job.processes()
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGHUP)
    if os.geteuid() == 0 and sys.platform == "linux":
        score = Path(f"/proc/{pid}/oom_score_adj").read_text()
        assert int(score) <= 0
    time.sleep(0.1)
    assert runner.watchdog_of(str(job.dir)) == [pid]


def test_no_run_is_started_where_the_watchdog_cannot_be(job: Job) -> None:
    job.write("echo ran > ran", machine={"stop": "halt"})
    started = job.start()
    assert started.returncode == 2
    assert "list of commands" in started.stdout
    assert job.status()["phase"] == "absent"


def test_a_machine_that_is_not_rented_has_no_watchdog(job: Job) -> None:
    job.run("true")
    assert not (job.dir / "watchdog.json").exists()


def test_process_1_is_left_alone_unless_it_is_the_rented_container() -> None:
    said = runner.end_process_1("GPUJOB_KEY=certainly-not-this")
    assert "left alone" in said or "cannot be looked at" in said


def can_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="NOT TESTED: ending process 1 needs root and `unshare --pid`")
def test_a_container_ends_by_its_process_1(make_job: Callable[..., Job], machine: Machine) -> None:
    job = make_job()
    job.write("sleep 100", machine=machine.section(stop=[], stop_pid1="GPUJOB_KEY=it", lease=1.0))
    script = f"{sys.executable} -I -S {RUNNER_PATH} start {job.dir} < /dev/null; sleep 1000; exit 0"
    container = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "env", "GPUJOB_KEY=it", "sh", "-c", script],
        stdout=subprocess.DEVNULL,
    )
    try:
        container.wait(60)
    finally:
        container.kill()
        container.wait()
    assert json.loads((job.dir / "watchdog.json").read_text())["ending"]
    assert "paid for are over" in watchdog(job)["ending"]
