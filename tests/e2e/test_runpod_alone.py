"""Nobody watches: pods end themselves within what was reserved for them, whatever their run is doing."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import eventually
from renter_kit import L4, ON_L4, Renter, disk

from tests.emulators.account_kit import pods_of, rows, spent
from tests.emulators.runpod import Pod, RunPodEmulator

LEFT_SECONDS = 45.0
"""Of its reservation, when a pod is rented by a worker whose clock is late; the rest is made up for on the meter."""

DISK_USD_H = 30 * 0.10 / 730

SLEEPS = "echo at work; sleep 600"
BIG_BYTES = 300_000_000


def faked(file: Path) -> dict[str, str]:
    """The environment of programs whose wall clock is off by what ``file`` says."""
    found = importlib.util.find_spec("libfaketime")
    library = next(Path(found.origin).parent.rglob("libfaketime.so.1"), None) if found and found.origin else None
    if library is None:
        pytest.skip("NOT TESTED: moving the clock needs libfaketime (pip install libfaketime)")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }


def kill_worker(renter: Renter) -> None:
    renter.stop_workers(signal.SIGKILL)


def attempt_of(renter: Renter, job: str) -> dict[str, Any]:
    return eventually(lambda: rows(renter.home, "SELECT * FROM attempt WHERE job_id = ?", job), f"{job} reserved")[0]  # type: ignore[no-any-return]


def pod_of(renter: Renter, cloud: RunPodEmulator, job: str) -> Pod:
    return eventually(lambda: pods_of(cloud, renter.home, f"{job}-a1"), f"the pod of {job}")[0]  # type: ignore[no-any-return]


def test_the_laptop_dies_for_good(renter: Renter, cloud: RunPodEmulator, tmp_path: Path) -> None:
    """One pod in the middle of its run, one in the middle of its upload, where only its boot guard is there."""
    renter.laptop_is_dead = True
    late = reserved_seconds(renter, cloud) - LEFT_SECONDS
    clock = tmp_path / "clock"
    clock.write_text(f"-{late:.0f}s\n")
    cloud.clock.skew = -late
    renter.env |= faked(clock)
    running = renter.rent_detached(renter.job(SLEEPS, *ON_L4, name="running"))
    (renter.cwd / "uploading").mkdir()
    with (renter.cwd / "uploading" / "data").open("wb") as file:
        file.write(os.urandom(BIG_BYTES))
    uploading = renter.rent_detached(renter.job(SLEEPS, *ON_L4, name="uploading"))
    pod = pod_of(renter, cloud, uploading)
    eventually(lambda: pod.container and any(disk(pod).glob("root/gpujob/**/data*")), "an upload under way")
    pod.ssh.stall()
    renter.until_said(running, 1, "at work")
    kill_worker(renter)
    assert not list(disk(pod).glob("root/gpujob/*/job.json")), "no runner is there"
    cloud.advance(late)
    assert len(cloud.pods()) == 2
    eventually(lambda: not cloud.pods(), "the end of both pods, by themselves")
    for job in (running, uploading):
        attempt = attempt_of(renter, job)
        assert attempt["state"] == "open"
        assert (
            0.8 * attempt["reserved_micros"] < spent(cloud, renter.home, attempt["key"]) <= attempt["reserved_micros"]
        )


def reserved_seconds(renter: Renter, cloud: RunPodEmulator) -> float:
    """How long a job like these may hold its pod: the plan says what that costs at worst."""
    plan = renter.json("plan", renter.job(SLEEPS, *ON_L4, name="trial"), "--budget", "1", "--backend", "runpod")
    gpu = cloud.catalog.gpu(L4)
    assert gpu
    assert gpu.secure
    return float(plan["ladder"][0]["worst_case_usd"]) / (gpu.secure + DISK_USD_H) * 3600
