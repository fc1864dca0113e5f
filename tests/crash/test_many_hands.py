"""Two workers and many terminals on one home."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from crash_kit import PATIENCE, Place, check_whole, end_all, eventually, kill

from orchestrator.lifecycle.waking import worker_runs

QUICK = {
    "run": "echo $GPUJOB_RUN >> $RUNS; mkdir results; echo out > results/out",
    "results": ["results/"],
    "limits": {"runtime": "1m"},
}
SLOW = {"run": "echo $GPUJOB_RUN >> $RUNS; until test -e $RUNS.go; do sleep 0.02; done", "limits": {"runtime": "1m"}}
JOBS = 20


def states(place: Place) -> Counter[str]:
    return Counter(row["state"] for row in place.rows("SELECT state FROM job"))


def test_two_workers_share_twenty_jobs(place: Place) -> None:
    jobs = [place.submit(QUICK) for _ in range(JOBS)]
    with place.worker() as one, place.worker() as two:
        for worker in (one, two):
            _, said = worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 0, said
            assert "locked" not in said
    assert states(place) == {"succeeded": JOBS}
    assert sorted(place.runs()) == sorted(f"{job}-a1" for job in jobs)
    assert all(row["number"] == 1 and row["state"] == "done" for job in jobs for row in place.tries(job))


def test_twenty_terminals_submit_at_once(place: Place) -> None:
    place.submit(QUICK)
    place.home.config.write_text('[worker]\nidle = "1s"\n')
    spec = str(place.folder / "spec" / "job.yaml")
    submits = [place.spawn("submit", spec, "--budget", "1", "--detach") for _ in range(JOBS)]
    for submit in submits:
        out, err = submit.communicate(timeout=PATIENCE * 2)
        assert submit.returncode == 0, err
        assert "is on its way" in out
    eventually(lambda: states(place) == {"succeeded": JOBS + 1}, "all recorded and done")
    assert len(set(place.runs())) == len(place.runs()) == JOBS + 1
    eventually(lambda: not worker_runs(place.home), "background workers leave when idle")
    log = place.home.worker_log.read_text()
    assert "locked" not in log
    assert "Traceback" not in log


def test_a_stopped_worker_keeps_its_job_and_a_dead_one_does_not(place: Place) -> None:
    job = place.submit(SLOW)
    with place.worker() as first:
        eventually(place.runs, "the run")
        first.send_signal(signal.SIGSTOP)
        with place.worker() as second:
            assert second.wait(PATIENCE) == 0, "nothing is left for the second: the job is in a living worker's hands"
        with place.worker("--background") as second:
            time.sleep(2.5)  # longer than it waits between two looks at the lock
            assert len([row for row in place.tries(job) if row["step"] == "execute"]) == 1
            kill(first)
            eventually(lambda: len(place.tries(job)) > 3, "the job taken over")
            (place.folder / "runs.go").touch()
            eventually(lambda: place.job(job)["state"] == "succeeded", "the end")
    assert place.runs() == [f"{job}-a1"]
    states_of = [row["state"] for row in place.tries(job) if row["step"] == "execute"]
    assert states_of == ["interrupted", "done"]
    check_whole(place, job)


def test_a_stopped_worker_that_wakes_up_late_changes_nothing(place: Place) -> None:
    """Fencing: a step that another worker has finished refuses a second end."""
    job = place.submit(SLOW)
    with place.worker() as first:
        eventually(place.runs, "the run")
        first.send_signal(signal.SIGSTOP)
        place.home.job_lock(job).unlink()  # as if the lock had been lost with a network file system
        (place.folder / "runs.go").touch()
        assert place.call("worker", "--until-idle").returncode == 0
        before = (place.job(job), place.attempts(job), place.tries(job))
        first.send_signal(signal.SIGCONT)
        assert first.wait(PATIENCE) == 0
    assert before == (place.job(job), place.attempts(job), place.tries(job))
    assert place.runs() == [f"{job}-a1"]
    place.home.live(job).unlink(missing_ok=True)  # its last look; not a record
    check_whole(place, job)


def test_resume_after_a_crash(place: Place) -> None:
    job = place.submit(SLOW)
    place.home.config.write_text('[worker]\nidle = "1s"\n')
    with place.worker() as worker:
        eventually(place.runs, "the run")
        kill(worker)
    (place.folder / "runs.go").touch()
    resumed = place.call("resume", job)
    assert resumed.returncode == 0, resumed.stderr
    assert place.job(job)["state"] == "succeeded"
    check_whole(place, job)
    eventually(lambda: not worker_runs(place.home), "the background worker leaves")


def test_no_job_is_left_behind_by_a_worker_that_is_leaving(place: Place) -> None:
    """Workers leave the moment they are idle, terminals look all the time, and nothing is resumed by hand."""
    place.submit(QUICK)
    place.home.config.write_text('[worker]\nidle = "0s"\n')
    spec = str(place.folder / "spec" / "job.yaml")
    done = 1
    with place.worker("--background") as first:
        assert first.wait(PATIENCE) == 0
        for _ in range(3):
            looks = [place.spawn("ls") for _ in range(2)]
            assert place.call("submit", spec, "--budget", "1", "--detach").returncode == 0
            done += 1
            for look in looks:
                look.communicate(timeout=PATIENCE)
            eventually(lambda: states(place)["succeeded"] >= done - 1, "the job before")  # noqa: B023
    eventually(lambda: states(place) == {"succeeded": done}, "no job is left behind")
    eventually(lambda: not worker_runs(place.home), "the background worker leaves")


def test_one_worker_is_started_however_many_ask(place: Place) -> None:
    program = (
        "from orchestrator.home import Home; from orchestrator.lifecycle.waking import ensure_worker;"
        "[ensure_worker(Home.locate()) for _ in range(20)]"
    )
    asking = [
        subprocess.Popen([sys.executable, "-c", program], env=place.environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in asking:
        assert process.communicate(timeout=PATIENCE)[1] == ""
    eventually(lambda: worker_runs(place.home), "a worker")
    assert len(workers_of(place)) == 1
    end_all(place)


def workers_of(place: Place) -> list[str]:
    """Pids of living background workers of this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = f"GPUJOB_HOME={place.home.root}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if ours and b"--background" in (folder / "cmdline").read_bytes():
                found.append(folder.name)
    return found
