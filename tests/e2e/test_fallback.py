"""Every way in which an attempt ends, with small jobs: what falls back, what stops, and what comes home."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import pytest
from e2e_kit import Gpujob

VARIANTS = (
    "params: {how: big}",
    "variants: [{name: big}, {name: small, params: {how: small}, quality: 0.9}]",
    "env: {HOW: '{how}'}",
    "limits: {runtime: 60s}",
)
PYTHON = shlex.quote(sys.executable)
HOG = f"""
mkdir -p out ck; echo $HOW > out/how; cat ck/at > out/resumed 2>&1; echo step-7 > ck/at
[ $HOW = small ] && exit 0
exec {PYTHON} -S -c 'held = [b"x" * 10_000_000 for _ in range(100)]'
"""


def outcomes(detail: dict[str, Any]) -> list[tuple[str, str]]:
    return [(attempt["variant"], attempt["outcome"]) for attempt in detail["attempts"]]


def fetched(user: Gpujob, detail: dict[str, Any], number: int, name: str) -> str:
    return (user.home / "jobs" / detail["id"] / f"attempt-{number}" / "files" / name).read_text()


def test_a_kill_for_memory_falls_to_the_next_variant_with_the_checkpoint(user: Gpujob) -> None:
    detail = user.submit(user.job(HOG, *VARIANTS, "needs: {ram: 60 MB}", "checkpoints: [ck/]"))
    assert outcomes(detail) == [("big", "oom_host"), ("small", "succeeded")]
    first, second = detail["attempts"]
    assert (first["signal"], first["exit_code"]) == (9, None)
    assert (second["signal"], second["exit_code"]) == (None, 0)
    assert first["ram_cap_bytes"] == 60_000_000
    assert any("SIGKILL" in line or "killed" in line for line in first["evidence"])
    assert fetched(user, detail, 1, "out/how") == "big\n"
    assert fetched(user, detail, 2, "out/resumed") == "step-7\n"
    assert "big ran out of RAM with 60 MB in attempt 1" in detail["plan"]["ladder"][0]["reasons"][0]


def test_no_fallback_is_made_that_the_spec_does_not_allow(user: Gpujob) -> None:
    spec = user.job(HOG, *VARIANTS, "needs: {ram: 60 MB}", "on_oom: {allow: []}")
    detail = user.submit(spec, code=1)
    assert outcomes(detail) == [("big", "oom_host")]
    assert (detail["state"], detail["outcome"]) == ("failed", "oom_host")
    assert "on_oom.allow" in detail["summary"]
    assert {no["code"] for no in detail["plan"]["rejected"]} >= {"fallback_not_allowed"}


CUDA_OOM = """Traceback (most recent call last):
  File "train.py", line 12, in <module>
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB of \
which 1.12 GiB is free. Process 9 has 14.65 GiB memory in use."""

ENDINGS = {
    "cuda": (f"cat >&2 <<'END'\n{CUDA_OOM}\nEND\nexit 1", "oom_gpu"),
    "python": (f"{PYTHON} -S -c 'raise MemoryError'", "oom_host"),
    "unexplained": ("kill -9 $$", "killed"),
    "through a shell": ("sh -c 'kill -9 $$'; exit $?", "killed"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_speaks_for_too_little_memory_falls_back(user: Gpujob, ending: str) -> None:
    command, outcome = ENDINGS[ending]
    detail = user.submit(user.job(f"[ $HOW = small ] && exit 0\n{command}", *VARIANTS))
    assert outcomes(detail) == [("big", outcome), ("small", "succeeded")]
    assert detail["attempts"][0]["evidence"]


def test_an_unexplained_kill_stops_where_the_spec_says_so(user: Gpujob) -> None:
    spec = user.job("kill -9 $$", *VARIANTS, "on_oom: {unexplained_sigkill: fail}")
    assert outcomes(user.submit(spec, code=1)) == [("big", "killed")]


def test_a_plain_failure_stops_and_shows_its_last_words(user: Gpujob) -> None:
    spec = user.job("mkdir out; echo half > out/part; echo 'ValueError: no such column' >&2; exit 3", *VARIANTS)
    screen = user.text("submit", spec, "--budget", "1", code=1)
    assert "ValueError: no such column" in screen
    assert "exit code 3" in screen or "code 3" in screen
    detail = user.show("job")
    assert outcomes(detail) == [("big", "failed")]
    assert detail["attempts"][0]["exit_code"] == 3
    assert fetched(user, detail, 1, "out/part") == "half\n"


def test_a_run_that_takes_too_long_is_ended(user: Gpujob) -> None:
    spec = user.job("mkdir out; echo so far > out/part; sleep 600", "limits: {runtime: 1s}")
    detail = user.submit(spec, code=1)
    assert outcomes(detail) == [("default", "deadline")]
    assert (detail["state"], detail["outcome"]) == ("failed", "deadline")
    assert fetched(user, detail, 1, "out/part") == "so far\n"


def test_max_runtime_shortens_the_spec(user: Gpujob) -> None:
    detail = user.submit(user.job("sleep 600", "limits: {runtime: 1h}"), "--max-runtime", "1s", code=1)
    assert outcomes(detail) == [("default", "deadline")]


def test_setup_that_fails_stops_and_is_shown(user: Gpujob) -> None:
    spec = user.job("true", "setup: echo no such package >&2; exit 4", *VARIANTS)
    assert "no such package" in user.text("submit", spec, "--budget", "1", code=1)


def test_attempts_are_limited(user: Gpujob) -> None:
    variants = "variants: [{name: a}, {name: b, quality: 0.9}, {name: c, quality: 0.8}]"
    spec = user.job("kill -9 $$", variants, "limits: {runtime: 60s, attempts: 2}")
    assert outcomes(user.submit(spec, code=1)) == [("a", "killed"), ("b", "killed")]


def test_what_one_job_learned_the_next_one_knows(user: Gpujob) -> None:
    spec = user.job(HOG, *VARIANTS, "needs: {ram: 60 MB}")
    assert len(user.submit(spec)["attempts"]) == 2
    assert outcomes(user.submit(spec)) == [("small", "succeeded")]


def test_a_home_inside_the_workdir_is_not_part_of_the_job(user: Gpujob) -> None:
    spec = user.job("ls -A; test ! -e .gpujob", "limits: {runtime: 60s}")
    inside = Gpujob(user.cwd / "job" / ".gpujob", user.cwd)
    try:
        assert inside.submit(spec)["state"] == "succeeded"
        assert inside.json("validate", spec)["files"] == 2
    finally:
        inside.stop_workers()
