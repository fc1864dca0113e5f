"""Commands that act on jobs under way: follow, cancel, resume, worker, reap."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from e2e_kit import Gpujob, eventually

WAITING = """
mkdir -p out; echo so far > out/part; echo begun
while [ ! -e "$GATE" ]; do sleep 0.05; done
echo ended
"""


def waiting(user: Gpujob, *more: str) -> str:
    """A job that runs until :func:`open_gate`."""
    return user.job(WAITING, f"env: {{GATE: {user.cwd}/gate}}", "limits: {runtime: 5m}", *more)


def open_gate(user: Gpujob) -> None:
    (user.cwd / "gate").touch()


def begun(user: Gpujob, job: str = "job") -> str:
    """The id of the job, once its command has begun."""
    eventually(lambda: user.jobs() and "begun" in user.text("logs", job), "the beginning of the job")
    return str(user.show(job)["id"])


def stored(user: Gpujob, job: str) -> str:
    (row,) = user.json("results", job)
    return Path(row["stored_at"]).read_text()


def test_a_detached_job_is_followed_to_its_end(user: Gpujob) -> None:
    job = user.detached(waiting(user))
    following = user.start("logs", "-f", job)
    assert following.stdout is not None
    assert following.stdout.readline() == "begun\n" or following.stdout.readline() == "begun\n"
    assert user.show(job)["state"] == "running"
    assert user.json("doctor")["worker_running"] is True
    open_gate(user)
    assert following.communicate(timeout=60)[0] == "ended\n"
    assert following.returncode == 0
    assert user.ended(job)["state"] == "succeeded"


def test_cancel_brings_home_what_there_is(user: Gpujob) -> None:
    submitting = user.start("submit", waiting(user), "--budget", "1", "--json")
    job = begun(user)
    assert "being cancelled" in user.text("cancel", job)
    detail = json.loads(submitting.communicate(timeout=60)[0])
    assert submitting.returncode == 130
    assert (detail["state"], detail["outcome"]) == ("cancelled", "cancelled")
    assert detail["attempts"][0]["outcome"] == "cancelled"
    assert stored(user, job) == "so far\n"
    assert user.runs() == []
    assert "over already" in user.text("cancel", job)


def test_cancel_of_a_job_that_waits_for_its_place(user: Gpujob) -> None:
    user.run("config", "set", "local.slots", "1")
    first = user.detached(waiting(user))
    begun(user, first)
    second = user.detached(user.job("true", name="second"))
    row = eventually(lambda: next(row for row in user.jobs() if row["waiting"]), "the word that it waits")
    assert row["id"] == second
    assert row["waiting"].startswith("waiting for local: ")
    assert "waiting for local" in user.text("ls")
    user.run("cancel", second)
    detail = user.ended(second)
    assert [(note["kind"], note["attempt"]) for note in detail["notes"]] == [("waiting", 1), ("cancel", 1)]
    shown = user.text("show", second)
    assert shown.index("Attempt 1") < shown.index("waiting for local") < shown.index("cancel requested")
    assert not any(row["waiting"] for row in user.jobs())
    assert detail["state"] == "cancelled"
    assert all(step["name"] != "execute" for attempt in detail["attempts"] for step in attempt["steps"])
    open_gate(user)
    assert user.ended(first)["state"] == "succeeded"


def test_resume_after_the_cause_is_mended(user: Gpujob) -> None:
    spec = user.job('cat "$NEEDED"', f"env: {{NEEDED: {user.cwd}/needed}}")
    job = user.submit(spec, code=1)["id"]
    (user.cwd / "needed").write_text("here\n")
    assert "succeeded" in user.text("resume", job)
    detail = user.show(job)
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["failed", "succeeded"]
    assert (detail["state"], user.text("logs", job)) == ("succeeded", "here\n")
    assert "succeeded already" in user.text("resume", job)


def test_resume_shows_what_is_new_and_says_which_files_it_does_not_take(user: Gpujob) -> None:
    user.submit(user.job("exit 5"), code=1)
    assert "Changed since" not in user.text("resume", "job", code=1)
    user.job("echo mended")
    screen = " ".join(user.text("resume", "job", code=1).split())
    assert "Attempt 3" in screen
    assert "Attempt 2" not in screen
    assert "Changed since: run.sh. To run what is there now: gpujob submit job/job.yaml" in screen


def test_resume_after_a_cancel(user: Gpujob) -> None:
    job = user.detached(waiting(user))
    begun(user)
    user.run("cancel", job)
    user.ended(job)
    open_gate(user)
    user.run("resume", job)
    assert user.show(job)["state"] == "succeeded"


def test_resume_after_the_worker_was_killed(user: Gpujob) -> None:
    job = user.detached(waiting(user))
    begun(user)
    user.stop_workers(signal.SIGKILL)
    assert "no worker is running" in user.text("ls")
    assert "no worker is running" in user.text("show", job)
    open_gate(user)
    assert "1 unfinished job" in user.text("resume")
    detail = user.ended(job)
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["succeeded"]
    states = {step["name"]: [t["state"] for t in step["tries"]] for step in detail["attempts"][0]["steps"]}
    assert states["execute"] == ["interrupted", "done"]
    assert user.text("logs", job) == "begun\nended\n"


def test_logs_that_are_followed_wake_a_worker(user: Gpujob) -> None:
    job = user.detached(waiting(user))
    begun(user)
    user.stop_workers(signal.SIGKILL)
    following = user.start("logs", "-f", job)
    open_gate(user)
    assert following.communicate(timeout=60)[0] == "begun\nended\n"
    assert user.show(job)["state"] == "succeeded"


def test_a_job_that_is_resumed_twice_at_once_goes_on_once(user: Gpujob) -> None:
    job = user.submit(user.job('cat "$NEEDED"', f"env: {{NEEDED: {user.cwd}/needed}}"), code=1)["id"]
    (user.cwd / "needed").write_text("here\n")
    both = [user.start("resume", job) for _ in range(2)]
    told = [each.communicate(timeout=60)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    detail = user.show(job)
    assert [attempt["outcome"] for attempt in detail["attempts"]] == ["failed", "succeeded"]
    assert [note["kind"] for note in detail["notes"]] == ["resumed"]


def test_a_job_that_is_waited_for_runs_on_after_ctrl_c(user: Gpujob) -> None:
    submitting = user.start("submit", waiting(user), "--budget", "1", "--json")
    job = begun(user)
    submitting.send_signal(signal.SIGINT)
    told = submitting.communicate(timeout=60)[0]
    assert submitting.returncode == 0
    assert json.loads(told[: told.index("}") + 1]) == {"id": job}
    assert f"{job} runs on by itself" in told
    assert user.show(job)["state"] == "running"
    open_gate(user)
    assert user.ended(job)["state"] == "succeeded"


def test_a_worker_in_the_foreground_ends_when_no_job_is_left(user: Gpujob) -> None:
    job = user.detached(waiting(user))
    begun(user)
    user.stop_workers(signal.SIGKILL)
    open_gate(user)
    user.run("worker", "--until-idle")
    assert user.show(job)["state"] == "succeeded"
    assert user.programs() == []


def test_a_worker_that_is_told_to_stop_leaves_its_runs_alone(user: Gpujob) -> None:
    job = user.detached(waiting(user))
    begun(user)
    user.stop_workers(signal.SIGTERM)
    assert user.runs()
    open_gate(user)
    user.run("resume", job)
    assert len(user.show(job)["attempts"]) == 1


def test_reap_gives_back_what_nobody_owns(user: Gpujob) -> None:
    user.submit(user.job("true"))
    user.stop_workers()
    lease = {
        "key": "stray-a1", "offer": "cpu", "gpus": [], "ram_bytes": 1, "created_at": "2026-01-01T00:00:00+00:00",
        "boot": "another", "began": 0.0, "ended": None,
    }  # fmt: skip
    (user.home / "local" / "leases" / "stray-a1.json").write_text(json.dumps(lease))
    (found,) = user.json("reap")
    assert (found["finding"], found["backend"], found["key"], found["done"]) == ("orphan", "local", "stray-a1", None)
    assert "reap --yes" in user.text("reap")
    (found,) = user.json("reap", "--yes")
    assert found["done"] == "given back"
    assert user.json("reap") == []


@pytest.mark.parametrize("options", [["--json", "--detach"], ["--detach"]])
def test_detached_submissions_return_at_once(user: Gpujob, options: list[str]) -> None:
    user.run("submit", user.job("true"), "--budget", "1", *options)
    assert user.ended("job")["state"] == "succeeded"
