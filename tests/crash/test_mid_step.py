"""Killed in the middle of things: half a file copied, a command at work, the runner itself gone."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from crash_kit import PATIENCE, Place, check_whole, eventually, kill, processes_of, supervisor_of

from backends.channels.local import PART

BIG = 100_000_000
"""Bytes, few of them on disk: long enough to copy that the kill comes in between."""

COPIES = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir results; mv big results/big; cksum < results/big > results/sum",
    "results": ["results/"],
    "limits": {"runtime": "1m"},
}

TWICE = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir results; echo out > results/out;"
    " test $(wc -l < $RUNS) -gt 1 || { sleep 100 & exec sleep 100; }",
    "results": ["results/"],
    "limits": {"runtime": "2m"},
}

WAITS_FOR_WORD = {
    "run": "echo $GPUJOB_RUN >> $RUNS; until test -e $RUNS.go; do sleep 0.02; done; mkdir results; touch results/out",
    "results": ["results/"],
    "limits": {"runtime": "1m"},
}


def finish(place: Place) -> None:
    done = place.call("worker", "--until-idle")
    assert done.returncode == 0, done.stderr


def copy_under_way(folder: str, place: Place) -> bool:
    top = place.home.root / folder
    return any(top.glob(f"*/work/{PART}")) or any(top.glob(f"*/attempt-1/files/results/{PART}"))


@pytest.mark.parametrize(("step", "folder"), [("upload", "local"), ("fetch", "jobs")])
def test_half_a_big_file_copied(place: Place, step: str, folder: str) -> None:
    with (place.folder / "spec-big").open("wb") as file:
        file.truncate(BIG)
    (place.folder / "spec").mkdir()
    (place.folder / "spec-big").rename(place.folder / "spec" / "big")
    job = place.submit(COPIES)
    with place.worker() as worker:
        eventually(lambda: copy_under_way(folder, place), f"half a file during {step}")
        kill(worker)
    finish(place)
    assert place.outcomes(job) == ["succeeded"]
    assert [row["state"] for row in place.tries(job) if row["step"] == step] == ["interrupted", "done"]
    assert (place.home.fetched(job, 1) / "results/big").stat().st_size == BIG
    assert place.runs() == [f"{job}-a1"]
    check_whole(place, job)


def test_the_worker_dies_while_the_command_works(place: Place) -> None:
    job = place.submit(WAITS_FOR_WORD)
    for number in range(1, 4):
        with place.worker() as worker:
            eventually(lambda: place.runs() and executions(place, job) == number, "the command at work")  # noqa: B023
            kill(worker)
        assert len(processes_of(place)) >= 2, "the runner and the command go on by themselves"
    (place.folder / "runs.go").touch()
    finish(place)
    assert place.outcomes(job) == ["succeeded"]
    assert place.runs() == [f"{job}-a1"]
    tries = [row["state"] for row in place.tries(job) if row["step"] == "execute"]
    assert tries == ["interrupted"] * 3 + ["done"]
    check_whole(place, job)


def executions(place: Place, job: str) -> int:
    return sum(row["step"] == "execute" for row in place.tries(job))


@pytest.mark.parametrize("worker_too", [False, True])
def test_the_runner_is_killed(place: Place, worker_too: bool) -> None:
    job = place.submit(TWICE)
    with place.worker() as worker:
        eventually(place.runs, "the first run")
        if worker_too:
            kill(worker)
        os.kill(supervisor_of(place, f"{job}-a1"), signal.SIGKILL)
        if not worker_too:
            assert worker.wait(PATIENCE) == 0
    finish(place)
    assert place.outcomes(job) == ["lost", "succeeded"]
    assert place.runs() == [f"{job}-a1", f"{job}-a2"]
    check_whole(place, job)


@pytest.mark.parametrize("seed", range(4))
def test_killed_again_and_again_at_any_time(place: Place, seed: int) -> None:
    """Kills that no failpoint names. The seed fixes the delays, the machine's speed what they hit."""
    chance = random.Random(seed)
    job = place.submit(TWICE | {"run": TWICE["run"].replace("sleep 100", "sleep 0.5")}, {"data": bytes(3_000_000)})
    for _ in range(6):
        with place.worker() as worker:
            time.sleep(chance.uniform(0.3, 1.3))
            kill(worker)
    finish(place)
    assert place.outcomes(job) == ["succeeded"]
    assert place.runs() == [f"{job}-a1"]
    assert place.results(job, 1) == {"results/out": b"out\n"}
    check_whole(place, job)


def test_everything_stands_still_for_a_while(place: Place) -> None:
    """A suspended laptop: the worker, the runner and the command stop, and go on where they were."""
    job = place.submit(WAITS_FOR_WORD)
    with place.worker() as worker:
        eventually(place.runs, "the command at work")
        pids = [worker.pid, *(int(line.partition(":")[0]) for line in processes_of(place))]
        send(pids, signal.SIGSTOP)
        time.sleep(2.5)
        (place.folder / "runs.go").touch()
        send(pids, signal.SIGCONT)
        assert worker.wait(PATIENCE) == 0
    assert place.outcomes(job) == ["succeeded"]
    assert place.runs() == [f"{job}-a1"]
    check_whole(place, job)


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # one of the command's short sleeps, over by now
            continue
