"""The sweep of test_crash_points.py with pods: whatever the point at which the worker dies, nothing rented is lost.

The emulated cloud is shared by all homes, so each home's pods lie among the others', which it must not touch.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, Told, Zygote, check_whole, interrupted_by, stride, sweep

from tests.emulators.account_kit import Account, account, pods_of, tell
from tests.emulators.runpod import RunPodEmulator

SIDE_BY_SIDE = 2
"""More would only wait for each other on a small machine."""

STRIDE = stride(6)

SHORT_LAG = '[runpod]\nlist_lag = "2s"\n'
"""Whoever died before the answer to renting has to be waited for so long."""

BUDGET = 3_000_000
INPUT = bytes(range(256)) * 64

SUCCEEDS: dict[str, Any] = {
    "run": "echo $GPUJOB_RUN >> /root/runs; mkdir -p results checkpoints; cp input results/copy;"
    " cp /root/runs results/runs; echo half > checkpoints/state",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "secrets": ["CRASH_SECRET"],
    "limits": {"runtime": "1m"},
    "needs": {"gpu": "L4"},
    "duration": {"on": "L4", "minutes": 0.2},
}

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


def crash_and_recover(place: Place, zygote: Zygote, number: int) -> bool:
    """True if the worker died at its ``number``-th point; then another has finished its work."""
    status = zygote.worker(place, number)
    if status == 0:
        return False
    assert status == -signal.SIGKILL, (place.home.root / "worker.out").read_text()
    assert len(place.trace()) == number
    assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    return True


def check_over(cloud: RunPodEmulator, place: Place, job: str, number: int, *, crashed: bool) -> Account:
    """What holds of any rented job that is over."""
    check_whole(place, job)
    if crashed:
        interrupted = [row for row in place.tries(job) if row["state"] == "interrupted"]
        assert len(interrupted) == interrupted_by(place.trace()[:number]), place.trace()[:number]
    closed = account(cloud, place.home.root)
    assert closed.clean, (number, closed)
    assert closed.unbooked == 0, (number, closed)
    assert closed.pods == len(place.attempts(job)), "a pod that was rented is adopted, never rented again"
    assert not any(pod.processes() for pod in pods_of(cloud, place.home.root))
    assert [*(place.home.root / "runpod").glob("ended/*"), *(place.home.root / "runpod").glob("unheard/*")] == []
    return closed


def test_a_succeeding_job_on_a_pod(tmp_path: Path, cloud: RunPodEmulator, record_property: Told) -> None:
    accounts: list[Account] = []

    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        place.home.config.write_text(SHORT_LAG)
        job = place.submit(SUCCEEDS, {"input": INPUT}, BUDGET)
        crashed = crash_and_recover(place, zygote, number)
        assert place.outcomes(job) == ["succeeded"]
        assert place.results(job, 1) == {"results/copy": INPUT, "results/runs": f"{job}-a1\n".encode()}
        assert (place.home.checkpoints(job, 1) / "checkpoints/state").read_bytes() == b"half\n"
        accounts.append(check_over(cloud, place, job, number, crashed=crashed))
        return crashed

    record_property("crash_points", sweep(tmp_path, crash, first=5, every=STRIDE, side_by_side=SIDE_BY_SIDE))
    tell(record_property, accounts)


def test_a_job_out_of_vram_that_falls_back(tmp_path: Path, cloud: RunPodEmulator, record_property: Told) -> None:
    accounts: list[Account] = []

    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        place.home.config.write_text(SHORT_LAG)
        job = place.submit(FALLS_BACK, {"input": INPUT}, BUDGET)
        crashed = crash_and_recover(place, zygote, number)
        assert place.outcomes(job) == ["oom_gpu", "succeeded"]
        assert [attempt["variant"] for attempt in place.attempts(job)] == ["hungry", "modest"]
        for attempt in (1, 2):
            assert place.results(job, attempt)["results/runs"] == f"{job}-a{attempt}\n".encode()
        assert place.results(job, 2)["results/state"] == b"half\n"
        accounts.append(check_over(cloud, place, job, number, crashed=crashed))
        return crashed

    record_property("crash_points", sweep(tmp_path, crash, first=2, every=STRIDE, side_by_side=SIDE_BY_SIDE))
    tell(record_property, accounts)
