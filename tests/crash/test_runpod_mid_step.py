"""The worker is killed with half a big file on its way to a pod, or home: the copy goes on, the run is not repeated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, check_whole, eventually, kill

from backends.runner.parcels import PART
from tests.emulators.account_kit import account, pods_of, tell
from tests.emulators.runpod import Pod, RunPodEmulator

BIG = 100_000_000

COPIES: dict[str, Any] = {
    "run": "echo $GPUJOB_RUN >> /root/runs; mkdir results; mv big results/big; cp /root/runs results/",
    "results": ["results/"],
    "limits": {"runtime": "1m"},
    "needs": {"gpu": "L4"},
    "duration": {"on": "L4", "minutes": 0.2},
}

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("step", ["upload", "fetch"])
def test_half_a_big_file_on_its_way(
    place: Place, cloud: RunPodEmulator, step: str, record_property: Callable[[str, object], None]
) -> None:
    data = os.urandom(BIG)
    job = place.submit(COPIES, {"big": data}, budget=3_000_000)
    with place.worker() as worker:
        pod: Pod = eventually(lambda: pods_of(cloud, place.home.root), "a pod")[0]
        eventually(lambda: pod.container, "its container")
        assert pod.container
        there = pod.container.folder / "root/root/gpujob"
        eventually(lambda: under_way(there if step == "upload" else place.home.jobs, step), f"half a file in {step}")
        pod.ssh.stall()
        kill(worker)
    pod.ssh.resume()
    pod.ssh.cut()
    done = place.call("worker", "--until-idle")
    assert done.returncode == 0, done.stderr
    assert place.outcomes(job) == ["succeeded"]
    assert [row["state"] for row in place.tries(job) if row["step"] == step] == ["interrupted", "done"]
    assert place.results(job, 1) == {"results/big": data, "results/runs": f"{job}-a1\n".encode()}
    check_whole(place, job)
    closed = account(cloud, place.home.root)
    tell(record_property, [closed])
    assert closed.clean, closed
    assert closed.machines == 1


def under_way(top: Path, step: str) -> bool:
    """Whether some bytes of the big file have come there, and not all."""
    folder = "*/work" if step == "upload" else "*/attempt-1/files/results"
    return any(0 < path.stat().st_size < BIG for path in top.glob(f"{folder}/{PART}*"))
