"""The sweep of test_crash_points.py with pods: whatever the point at which the worker dies, nothing rented is lost.

The emulated cloud is shared by all homes, so each home's pods lie among the others', which it must not touch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cloud_kit import BUDGET, INPUT, SIDE_BY_SIDE, SUCCEEDS, check_over, check_success, crash_and_recover
from crash_kit import Place, Told, Zygote, stride, sweep

from tests.emulators.account_kit import Account, account, pods_of, tell
from tests.emulators.runpod import RunPodEmulator

STRIDE = stride(11)

SHORT_LAG = '[runpod]\nlist_lag = "2s"\n'
"""Whoever died before the answer to renting has to be waited for so long."""

FALLS_BACK: dict[str, Any] = SUCCEEDS | {
    "run": "echo $GPUJOB_RUN >> /root/runs; mkdir -p results checkpoints; cp /root/runs results/; sh -c {command}",
    "secrets": [],
    "params": {"command": "unset"},
    "variants": [
        {
            "name": "hungry",
            "params": {"command": "echo half > checkpoints/state; echo CUDA out of memory >&2; exit 1"},
        },
        {"name": "modest", "params": {"command": "cat checkpoints/state > results/state"}, "quality": 0.9},
    ],
}

pytestmark = pytest.mark.timeout(1800)


def check_pods(cloud: RunPodEmulator, place: Place, job: str, reached: list[str]) -> Account:
    """What holds of any job on pods that is over."""
    closed = account(cloud, place.home.root)
    check_over(place, job, closed, reached)
    assert not any(pod.processes() for pod in pods_of(cloud, place.home.root))
    assert [*(place.home.root / "runpod").glob("ended/*"), *(place.home.root / "runpod").glob("unheard/*")] == []
    return closed


def test_a_succeeding_job_on_a_pod(tmp_path: Path, cloud: RunPodEmulator, record_property: Told) -> None:
    accounts: list[Account] = []

    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        place.home.config.write_text(SHORT_LAG)
        job = place.submit(SUCCEEDS, {"input": INPUT}, BUDGET)
        reached = crash_and_recover(place, zygote, number)
        check_success(place, job)
        accounts.append(check_pods(cloud, place, job, reached))
        return bool(reached)

    record_property("crash_points", sweep(tmp_path, crash, first=5, every=STRIDE, side_by_side=SIDE_BY_SIDE))
    tell(record_property, accounts)


def test_a_job_out_of_vram_that_falls_back(tmp_path: Path, cloud: RunPodEmulator, record_property: Told) -> None:
    accounts: list[Account] = []

    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        place.home.config.write_text(SHORT_LAG)
        job = place.submit(FALLS_BACK, {"input": INPUT}, BUDGET)
        reached = crash_and_recover(place, zygote, number)
        assert place.outcomes(job) == ["oom_gpu", "succeeded"]
        assert [attempt["variant"] for attempt in place.attempts(job)] == ["hungry", "modest"]
        for attempt in (1, 2):
            assert place.results(job, attempt)["results/runs"] == f"{job}-a{attempt}\n".encode()
        assert place.results(job, 2)["results/state"] == b"half\n"
        accounts.append(check_pods(cloud, place, job, reached))
        return bool(reached)

    record_property("crash_points", sweep(tmp_path, crash, first=2, every=STRIDE, side_by_side=SIDE_BY_SIDE))
    tell(record_property, accounts)
