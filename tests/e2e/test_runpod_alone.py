"""One of the two guards is dead, us or the pod's own: the other ends the pod within what was reserved for it."""

from __future__ import annotations

import importlib.util
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import eventually
from renter_kit import ON_L4, QUICK, Renter, disk, outcomes

from backends.runner import runner
from orchestrator.clock import moment
from tests.emulators.account_kit import pods_of, rows, spent
from tests.emulators.runpod import Pod, RunPodEmulator, fleet

LEFT_SECONDS = 20.0
"""Of its reservation, once the clocks of a pod and of the meter have been moved on."""

SLEEPS = "echo at work; sleep 600"
BIG_BYTES = 200_000_000


@pytest.fixture(scope="module")
def faketime() -> Path:
    found = importlib.util.find_spec("libfaketime")
    library = next(Path(found.origin).parent.rglob("libfaketime.so.1"), None) if found and found.origin else None
    if library is None:
        pytest.skip("NOT TESTED: moving the clock needs libfaketime (pip install libfaketime)")
    return library


def believing(library: str, clock: str) -> dict[str, str]:
    """The environment of programs whose wall clock is off by what the file ``clock`` says."""
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": clock,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


@pytest.fixture
def clocks(cloud: RunPodEmulator, faketime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pod has a wall clock of its own, in a file on its disk."""
    (tmp_path / "clock").write_text("+0\n")
    monkeypatch.setitem(fleet.FILES, "/var/faketime.so", (str(faketime), 0o755))
    monkeypatch.setitem(fleet.FILES, "/var/clock", (str(tmp_path / "clock"), 0o644))
    cloud.settings.image_env = believing("/var/faketime.so", "/var/clock")


def move_on(cloud: RunPodEmulator, seconds: float) -> None:
    """Time passes for every pod and for the meter, none for us."""
    for pod in cloud.pods():
        (disk(pod) / "var/clock").write_text(f"+{seconds:.0f}s\n")
    cloud.advance(seconds)


def seconds_left(renter: Renter) -> float:
    """Until the first reservation is used up."""
    ends = min(moment(row["ends_at"]) for row in rows(renter.home, "SELECT ends_at FROM lease"))
    return (ends - datetime.now(UTC)).total_seconds()


def attempt_of(renter: Renter, job: str) -> dict[str, Any]:
    return rows(renter.home, "SELECT * FROM attempt WHERE job_id = ?", job)[0]


def pod_of(renter: Renter, cloud: RunPodEmulator, job: str) -> Pod:
    return eventually(lambda: pods_of(cloud, renter.home, f"{job}-a1"), f"the pod of {job}")[0]  # type: ignore[no-any-return]


def until_uploading(pod: Pod) -> None:
    """Wait for the first bytes, then let no more through."""
    eventually(lambda: pod.container, "a container")
    eventually(lambda: any(disk(pod).glob("root/gpujob/**/data*")), "an upload under way")
    pod.ssh.stall()


@pytest.mark.usefixtures("clocks")
def test_the_laptop_dies_for_good_in_the_middle(renter: Renter, cloud: RunPodEmulator) -> None:
    """One pod at work; one in the middle of its upload, where no runner is yet but the guard it was born with."""
    renter.laptop_is_dead = True
    (renter.cwd / "uploading").mkdir()
    (renter.cwd / "uploading" / "data").write_bytes(os.urandom(BIG_BYTES))
    uploading = renter.rent_detached(renter.job(SLEEPS, *ON_L4, name="uploading"))
    until_uploading(pod_of(renter, cloud, uploading))
    working = renter.rent_detached(renter.job(SLEEPS, *ON_L4, name="working"))
    renter.until_said(working, 1, "at work")
    renter.stop_workers(signal.SIGKILL)
    assert not list(disk(pod_of(renter, cloud, uploading)).glob("root/gpujob/*/job.json")), "no runner is there"
    assert len(cloud.pods()) == 2
    move_on(cloud, seconds_left(renter) - LEFT_SECONDS)
    eventually(lambda: not cloud.pods(), "the end of both pods, by themselves")
    for job in (uploading, working):
        attempt = attempt_of(renter, job)
        assert attempt["state"] == "open"
        cost = spent(cloud, renter.home, attempt["key"])
        assert 0.7 * attempt["reserved_micros"] < cost <= attempt["reserved_micros"]


def test_the_laptop_dies_for_good_and_nothing_is_left_to_do(renter: Renter, cloud: RunPodEmulator) -> None:
    """One pod sits idle until its run is ended for that, then both wait in vain for somebody to fetch."""
    renter.laptop_is_dead = True
    renter.set(attempt_linger="5s")
    idle = "limits: {runtime: 10m, idle: 5s}"
    sleeping = renter.rent_detached(renter.job(SLEEPS, "needs: {gpu: L4}", ON_L4[2], idle, name="idle"))
    renter.until_said(sleeping, 1, "at work")
    renter.stop_workers(signal.SIGKILL)
    eventually(lambda: not cloud.pods(), "the end of the pod, by itself")
    attempt = attempt_of(renter, sleeping)
    assert spent(cloud, renter.home, attempt["key"]) < 0.8 * attempt["reserved_micros"]


def test_results_that_waited_too_long_are_not_taken_for_success(renter: Renter, cloud: RunPodEmulator) -> None:
    """The laptop comes back after the pod has ended itself: the job is made again, and says why."""
    renter.set(attempt_linger="5s")
    job = renter.rent_detached(renter.job("sleep 2; " + QUICK, *ON_L4))
    up = disk(renter.up())
    eventually(lambda: any(up.glob("root/gpujob/*/claim")), "the runner")
    renter.stop_workers(signal.SIGKILL)
    eventually(lambda: not cloud.pods(), "the end of the pod, by itself")
    renter.run("resume", job)
    detail = renter.show(job)
    assert outcomes(detail) == ["lost", "succeeded"]


def test_we_end_the_pod_whose_own_guards_are_dead(
    renter: Renter, cloud: RunPodEmulator, faketime: Path, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    renter.env |= believing(str(faketime), str(clock))
    job = renter.rent_detached(renter.job(SLEEPS, *ON_L4))
    renter.until_said(job, 1, "at work")
    disable_guards(renter.pod())
    passed = seconds_left(renter) - LEFT_SECONDS
    clock.write_text(f"+{passed:.0f}s\n")
    cloud.advance(passed)
    detail = renter.ended(job)
    assert outcomes(detail) == ["budget"]
    assert len(renter.pods()) == 1


def disable_guards(pod: Pod) -> None:
    """Kill the boot guard and the runner's watchdog in a pod; let its supervisor and process 1 stand still."""
    table = runner.processes(pod.processes())
    first = next(pid for pid in table if table[pid].parent not in table)
    words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in table}
    guards = [pid for pid in table if table[pid].parent == first and words[pid] == words[first]]
    watchdogs = [pid for pid in table if b"watch" in words[pid]]
    supervisors = [pid for pid in table if b"supervise" in words[pid]]
    assert guards, words
    assert watchdogs, words
    assert supervisors, words
    runner.send([*guards, *watchdogs], signal.SIGKILL)
    runner.send([first, *supervisors], signal.SIGSTOP)
