"""``gpujob submit --smoke-first``: the job's own code, tiny and here, before anything is rented or recorded."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import Gpujob, eventually

from backends.runner import runner

LIMITS = "limits: {runtime: 90s}"
SMOKE = "smoke: {params: {steps: 2}, env: {SIZE: tiny}, timeout: 60s, memory: 200 MB}"


def spec(user: Gpujob, train: str = "true", smoke: str = SMOKE, *more: str) -> str:
    user.write("own/run.sh", train)
    how = "echo $SIZE {steps}; mkdir -p out; echo $SIZE {steps} > out/how; sh run.sh {steps}"
    lines = ["name: own", f"run: '{how}'", "results: [out/]", "params: {steps: 100}", "env: {SIZE: full}"]
    return user.write("own/job.yaml", "\n".join([*lines, "needs: {gpu: none}", LIMITS, smoke, *more]) + "\n")


def untouched(user: Gpujob) -> bool:
    """Nothing was recorded, nothing is held, nothing lies about."""
    assert user.jobs() == []
    assert user.json("report")["total"]["attempts"] == 0
    assert user.json("reap") == []
    return not [each.name for each in user.home.glob("local/smoke-*")]


def test_the_smoke_run_comes_first_and_the_job_tells_of_it(user: Gpujob) -> None:
    said = user.text("submit", spec(user), "--budget", "0", "--smoke-first")
    assert "tiny 2" in said.splitlines()
    assert said.index("tiny 2") < said.index("submitted\n")
    (job,) = user.jobs()
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    detail = user.show(job["id"])
    (note,) = [note for note in detail["notes"] if note["kind"] == "smoke"]
    assert "the smoke run of default went through on this machine" in note["text"]
    assert note["attempt"] is None
    assert "smoke run of default went through" in " ".join(user.text("show", job["id"]).split())
    assert (user.home / "jobs" / job["id"] / "attempt-1" / "files" / "out" / "how").read_text() == "full 100\n"
    assert user.json("report")["total"]["attempts"] == 1


def test_a_failure_stops_it_with_its_last_words_and_nothing_spent(user: Gpujob) -> None:
    user.run("config", "set", "local.price_per_hour", "3.60")
    path = spec(user, "echo no such column: lable >&2; exit 7")
    said = user.text("submit", path, "--budget", "1", "--smoke-first", "--yes", code=1)
    assert "the smoke run of default did not go through: The command exited with code 7" in " ".join(said.split())
    assert "Nothing was submitted, rented or spent" in said
    assert said.splitlines()[-1].strip() == "no such column: lable"
    assert untouched(user)


def failed(user: Gpujob, path: str, *options: str) -> dict[str, Any]:
    done = user.run("submit", path, "--budget", "0", "--smoke-first", "--json", *options, code=1)
    smoke: dict[str, Any] = json.loads(done.stdout)["smoke"]
    assert untouched(user)
    return smoke


def test_json_and_detach(user: Gpujob) -> None:
    done = user.run("submit", spec(user), "--budget", "0", "--smoke-first", "--detach", "--json")
    assert "tiny 2" in done.stderr.splitlines()  # standard output stays whole
    job = json.loads(done.stdout)["id"]
    assert "smoke" in {note["kind"] for note in user.ended(job)["notes"]}


def test_what_a_failure_looks_like_in_json(user: Gpujob) -> None:
    smoke = failed(user, spec(user, "echo before; echo KeyError >&2; exit 1"), "--detach")
    assert (smoke["variant"], smoke["outcome"]) == ("default", "failed")
    assert smoke["last_lines"] == ["tiny 2", "before", "KeyError"]
    assert smoke["summary"] == "The command exited with code 1 (stderr: KeyError)"


GREEDY = "exec python3 -c \"x = bytearray(900_000_000); x[::4096] = b'1' * len(x[::4096])\""


@pytest.mark.parametrize(
    ("train", "smoke", "words"),
    [
        ("sleep 600", "smoke: {params: {steps: 2}, timeout: 5s}", "allowed time"),
        (GREEDY, SMOKE, "memory"),
    ],
    ids=["time", "memory"],
)
def test_time_and_memory_are_bounded(user: Gpujob, train: str, smoke: str, words: str) -> None:
    assert words in failed(user, spec(user, train, smoke))["summary"]


def test_a_setup_that_fails_is_found_here_too(user: Gpujob) -> None:
    smoke = failed(user, spec(user, "true", SMOKE, "setup: echo no such package >&2; exit 3"))
    assert "no such package" in smoke["last_lines"]


def test_the_first_variant_of_the_plan_is_tried(user: Gpujob) -> None:
    variants = "variants: [{name: big, needs: {ram: 900 TB}}, {name: small, params: {steps: 5}, quality: 0.9}]"
    said = user.text("submit", spec(user, "true", SMOKE, variants), "--budget", "0", "--smoke-first")
    assert "Smoke run of small" in said


def test_a_spec_without_smoke_is_told_so_before_anything_runs(user: Gpujob) -> None:
    path = spec(user, smoke="")
    said = user.refused("submit", path, "--budget", "0", "--smoke-first")
    assert "own/job.yaml: the spec has no smoke section" in said
    assert "without --smoke-first" in said
    assert untouched(user)
    assert "has no smoke section" in user.text("validate", path)
    assert user.json("validate", path)["smoke"] is None


def test_validate_shows_what_the_smoke_run_would_run(user: Gpujob) -> None:
    path = spec(user)
    assert "submit --smoke-first tries this" in user.text("validate", path)
    assert "sh run.sh 2" in user.json("validate", path)["smoke"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_smoke_run_that_is_ended_leaves_nothing_that_is_not_found_again(user: Gpujob, number: int) -> None:
    path = spec(user, "sleep 600")
    submitting = user.start("submit", path, "--budget", "0", "--smoke-first")
    key = eventually(lambda: next((each.name for each in user.home.glob("local/smoke-*")), ""), "the smoke run")
    eventually(lambda: runner.carriers(key), "its processes")
    assert user.json("reap", "--yes") == []  # it has an owner while it is watched
    assert runner.carriers(key)
    submitting.send_signal(number)
    output, _ = submitting.communicate(timeout=60)
    if number == signal.SIGINT:
        assert submitting.returncode == 130
        assert "nothing was submitted" in output
    user.run("reap", "--yes")
    eventually(lambda: not runner.carriers(key), "the end of its processes")
    assert untouched(user)


def test_secrets_reach_it_and_not_its_output(user: Gpujob, tmp_path: Path) -> None:
    path = spec(user, 'echo "the key is $TOKEN"', SMOKE, "secrets: [TOKEN]")
    lacking = user.run("submit", path, "--budget", "0", "--smoke-first", code=2)
    assert "The secret TOKEN has no value" in lacking.stderr
    done = user.run("submit", path, "--budget", "0", "--smoke-first", TOKEN="correcthorsebattery")
    assert "the key is" in done.stdout
    assert "correcthorsebattery" not in done.stdout + done.stderr
    kept = [path for path in user.home.rglob("*") if path.is_file() and b"correcthorsebattery" in path.read_bytes()]
    assert kept == []
