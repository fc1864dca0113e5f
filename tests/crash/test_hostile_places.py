"""Disks that are full or read-only: a clear word, nothing lost, and `resume` goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from crash_kit import Place, check_whole, end_all, eventually, processes_of

from orchestrator.lifecycle.waking import worker_runs

MIB = 1 << 20
PRODUCES = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir results; head -c 3000000 /dev/urandom > results/out;"
    " cksum < results/out > results/sum; until test -e $RUNS.go; do sleep 0.02; done",
    "results": ["results/"],
    "limits": {"runtime": "2m"},
}

SmallDisk = Callable[[int], Place]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Makes a place whose home is a disk of the given size in bytes."""
    mounted: list[Place] = []

    def make(size: int) -> Place:
        place = Place(tmp_path / "place")
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "gpujob-test", str(place.home.root)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("NOT TESTED: mounting a small disk needs root")
        mounted.append(place)
        place.home.ensure()
        place.home.config.write_text('[worker]\nidle = "1s"\n')
        return place

    yield make
    for place in mounted:
        end_all(place)
        subprocess.run(["umount", "--lazy", str(place.home.root)], check=True)


def fill(place: Place, leave: int) -> Path:
    """Take all but ``leave`` bytes."""
    filler = place.home.root / "filler"
    disk = os.statvfs(place.home.root)
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        file.write(bytes(max(0, disk.f_bavail * disk.f_frsize - leave)))
    return filler


def resume(place: Place, job: str) -> None:
    (place.folder / "runs.go").touch()
    done = place.call("resume", job)
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.job(job)["state"] == "succeeded"
    eventually(lambda: not worker_runs(place.home), "the background worker leaves")
    number = len(place.attempts(job))
    results = place.results(job, number)
    summed = subprocess.run(["cksum"], input=results["results/out"], capture_output=True).stdout
    assert summed == results["results/sum"]
    check_whole(place, job)


def test_full_at_the_upload(small_disk: SmallDisk) -> None:
    place = small_disk(32 * MIB)
    job = place.submit(PRODUCES, {"data": bytes(6 * MIB)})
    filler = fill(place, 4 * MIB)
    assert place.call("worker", "--until-idle").returncode == 0
    found = place.job(job)
    assert (found["state"], found["outcome"]) == ("failed", "disk_full")
    assert "No space left" in found["summary"]
    assert place.runs() == []
    filler.unlink()
    resume(place, job)
    assert place.outcomes(job) == ["disk_full", "succeeded"]


def test_full_at_the_fetch(small_disk: SmallDisk) -> None:
    """The results wait where they are, also where this machine's time has a price."""
    place = small_disk(24 * MIB)
    place.price("0.10")
    job = place.submit(PRODUCES)
    with place.worker() as worker:
        eventually(lambda: any(place.home.local.glob("*/work/results/sum")), "the results")
        filler = fill(place, MIB)
        (place.folder / "runs.go").touch()
        _, said = worker.communicate(timeout=60)
        assert worker.returncode == 0, said
    found = place.job(job)
    assert (found["state"], found["outcome"]) == ("failed", "fetch")
    assert "No space left" in found["summary"]
    assert f"gpujob resume {job}" in found["summary"]
    filler.unlink()
    place.home.config.write_text('[worker]\nidle = "1s"\n')
    resume(place, job)
    assert place.outcomes(job) == ["succeeded"]
    assert place.runs() == [f"{job}-a1"], "only the fetch is done again"


def test_full_while_the_command_works(small_disk: SmallDisk) -> None:
    """Whether or not that can still be recorded, the worker says so; the run goes on and nothing of it is lost."""
    place = small_disk(24 * MIB)
    job = place.submit(PRODUCES)
    with place.worker() as worker:
        eventually(lambda: any(place.home.local.glob("*/work/results/sum")), "the results")
        filler = fill(place, 0)
        (place.folder / "runs.go").touch()
        _, said = worker.communicate(timeout=60)
    assert "Traceback" not in said
    if worker.returncode == 0:  # the journal still had room of its own to say it in
        assert place.job(job)["outcome"] == "fetch"
    else:
        assert "no room left to write the journal" in said
        assert "gpujob resume" in said
    filler.unlink()
    eventually(lambda: processes_of(place) == [], "the run ends by itself")
    resume(place, job)
    assert place.outcomes(job) == ["succeeded"]
    assert place.runs() == [f"{job}-a1"]


def test_full_at_the_submission(small_disk: SmallDisk) -> None:
    place = small_disk(48 * MIB)
    job = place.submit(PRODUCES, {"data": bytes(6 * MIB)})
    filler = fill(place, 2 * MIB)
    again = place.call("submit", str(place.folder / "spec" / "job.yaml"), "--budget", "1", "--detach")
    assert again.returncode == 1
    assert f"No space left in {place.home.root}" in again.stderr
    assert "Traceback" not in again.stderr
    assert [row["id"] for row in place.rows("SELECT id FROM job")] == [job]
    filler.unlink()
    resume(place, job)


@pytest.mark.parametrize("command", [("worker", "--until-idle"), ("submit",), ("ls",), ("cancel", "crash")])
def test_a_read_only_disk_is_named(small_disk: SmallDisk, command: tuple[str, ...]) -> None:
    place = small_disk(16 * MIB)
    place.submit(PRODUCES)
    more = (str(place.folder / "spec" / "job.yaml"), "--budget", "1", "--detach") if command == ("submit",) else ()
    remount(place, "ro")
    try:
        refused = place.call(*command, *more)
    finally:
        remount(place, "rw")
    assert refused.returncode == 1
    assert str(place.home.root) in refused.stderr
    assert "GPUJOB_HOME" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "internal error" not in refused.stderr


def remount(place: Place, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place.home.root)], check=True)
