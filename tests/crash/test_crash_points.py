"""Kill the worker with SIGKILL at its first failpoint, then the second, ... until a run completes; start it again.

Whatever the point, the job must end as if nothing had happened. The points are not listed anywhere: a new one in the
product is covered by being there. One attempt that succeeds is killed at every point; what comes after it in the other
jobs is made of the same steps, so there every fourth or sixth point is enough until `make reliability` takes them all.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, Told, Zygote, check_whole, eventually, interrupted_by, stride, sweep

INPUT = bytes(range(256)) * 64

SUCCEEDS = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir -p results/deep checkpoints; cp input results/deep/copy;"
    " cksum < input > results/sum; echo half > checkpoints/state; echo done",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "secrets": ["CRASH_SECRET"],
    "limits": {"runtime": "1m"},
}

FALLS_BACK = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir -p results checkpoints; sh -c {command}",
    "results": ["results/"],
    "checkpoints": ["checkpoints/"],
    "needs": {"gpu": "none", "ram": "60 MB"},
    "params": {"command": "unset"},
    "limits": {"runtime": "1m"},
    "variants": [
        {
            "name": "hungry",
            "params": {"command": "echo half > checkpoints/state; head -c 300000000 /dev/zero | tail"},
        },
        {"name": "modest", "params": {"command": "cat checkpoints/state > results/state"}, "quality": 0.9},
    ],
}

WAITS = {
    "run": "mkdir -p results; echo part > results/part; echo $GPUJOB_RUN >> $RUNS; exec sleep 100",
    "results": ["results/"],
    "limits": {"runtime": "2m"},
}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRASH_SECRET", "a value that is gone at the end")


def crash_and_recover(place: Place, zygote: Zygote, number: int) -> bool:
    """True if the worker died at its ``number``-th point; then another has finished its work."""
    status = zygote.worker(place, number)
    if status == 0:
        return False
    assert status == -signal.SIGKILL
    assert len(place.trace()) == number
    assert zygote.worker(place) == 0, (place.home.root / "worker.out").read_text()
    return True


def check_record_of_crash(place: Place, job: str, number: int) -> None:
    interrupted = [row for row in place.tries(job) if row["state"] == "interrupted"]
    assert len(interrupted) == interrupted_by(place.trace()[:number]), place.trace()[:number]
    saved = place.trace().count("local.lease:saved")
    assert saved == 2 * len(place.attempts(job)), "each lease is begun once and ended once"


def test_a_succeeding_job(tmp_path: Path, record_property: Told) -> None:
    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        place.price("0.50")
        job = place.submit(SUCCEEDS, {"input": INPUT})
        crashed = crash_and_recover(place, zygote, number)
        assert place.job(job)["state"] == "succeeded"
        assert place.outcomes(job) == ["succeeded"]
        assert place.runs() == [f"{job}-a1"]
        results = place.results(job, 1)
        assert results["results/deep/copy"] == INPUT
        assert results["results/sum"].endswith(b" 16384\n")
        assert sorted(results) == ["results/deep/copy", "results/sum"]
        assert (place.home.checkpoints(job, 1) / "checkpoints/state").read_bytes() == b"half\n"
        assert place.attempts(job)[0]["cost_micros"] > 0
        check_whole(place, job)
        if crashed:
            check_record_of_crash(place, job, number)
        return crashed

    record_property("crash_points", sweep(tmp_path, crash))


def test_a_job_killed_for_memory_that_falls_back(tmp_path: Path, record_property: Told) -> None:
    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        job = place.submit(FALLS_BACK)
        crashed = crash_and_recover(place, zygote, number)
        assert place.job(job)["state"] == "succeeded"
        assert place.outcomes(job) == ["oom_host", "succeeded"]
        assert [a["variant"] for a in place.attempts(job)] == ["hungry", "modest"]
        assert place.runs() == [f"{job}-a1", f"{job}-a2"]
        assert place.results(job, 2) == {"results/state": b"half\n"}
        check_whole(place, job)
        if crashed:
            check_record_of_crash(place, job, number)
        return crashed

    record_property("crash_points", sweep(tmp_path, crash, first=2, every=stride(9)))


def test_a_cancelled_job(tmp_path: Path, record_property: Told) -> None:
    def crash(place: Place, zygote: Zygote, number: int) -> bool:
        job = place.submit(WAITS)
        with ThreadPoolExecutor(1) as pool:
            died = threading.Event()
            cancelled = pool.submit(cancel_while_it_runs, place, job, died)
            status = zygote.worker(place, number)
            died.set()
            cancelled.result()
        if status:
            assert status == -signal.SIGKILL
            assert zygote.worker(place) == 0
        assert (place.job(job)["state"], place.job(job)["outcome"]) == ("cancelled", "cancelled")
        assert place.outcomes(job) in ([], ["cancelled"])
        if place.runs():
            assert place.results(job, 1) == {"results/part": b"part\n"}, "what a cancelled run produced comes home"
        check_whole(place, job)
        return status != 0

    record_property("crash_points", sweep(tmp_path, crash, every=stride(7)))


def cancel_while_it_runs(place: Place, job: str, died: threading.Event) -> None:
    eventually(lambda: place.runs() or died.is_set(), "the run, or the worker's death")
    place.cancel(job)


def test_the_points_are_those_of_a_real_worker(tmp_path: Path) -> None:
    """The workers above are forked from a warm process; here is one by the command line, with the same points."""
    place = Place(tmp_path / "real")
    job = place.submit(SUCCEEDS, {"input": INPUT})
    point: Any = {"GPUJOB_CRASH_AT": "9", "GPUJOB_CRASH_TRACE": str(place.trace_file)}
    assert place.call("worker", "--until-idle", **point).returncode == -signal.SIGKILL
    assert len(place.trace()) == 9
    assert place.call("worker", "--until-idle").returncode == 0
    assert place.job(job)["state"] == "succeeded"
    check_whole(place, job)
