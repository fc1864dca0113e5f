"""A look before the run: only its clear word forbids the run, and nothing else that it does."""

from __future__ import annotations

from typing import Any

import pytest
from runner_kit import Job, eventually

from backends.runner import runner


def preflight(command: str, seconds: float = 60) -> dict[str, Any]:
    return {"preflight": {"command": command, "seconds": seconds}}


def test_it_runs_before_the_command_with_a_log_of_its_own(job: Job) -> None:
    record = job.run("cat before; echo run", **preflight("echo looked | tee before; echo aside >&2"))
    assert (record["exit_code"], record["failed_phase"], record["preflight_exit_code"]) == (0, None, 0)
    assert sorted(job.log("preflight").split()) == ["aside", "looked"]
    assert job.log().split() == ["looked", "run"]
    assert record["setup_seconds"] > 0
    assert record["preflight_vram_bytes"] is None


def test_its_word_forbids_the_run(job: Job) -> None:
    said = """echo '{"vram_bytes": 12345}' > ../preflight.json; echo too large; exit 69"""
    record = job.run("touch began", **preflight(said))
    assert not (job.work / "began").exists()
    assert (record["phase"], record["failed_phase"], record["exit_code"]) == ("ended", "preflight", 69)
    assert record["preflight_vram_bytes"] == 12345
    assert record["command_started_at"] is None
    assert job.log("preflight") == "too large\n"


@pytest.mark.parametrize(
    ("command", "code"), [("exit 1", 1), ("kill -9 $$", -9), ("no-such-program", 127), ("exit 137", 137)]
)
def test_its_troubles_do_not(job: Job, command: str, code: int) -> None:
    record = job.run("echo run", **preflight(command))
    assert (record["exit_code"], record["failed_phase"], record["preflight_exit_code"]) == (0, None, code)
    assert job.log() == "run\n"


def test_it_has_its_time_and_no_more(job: Job) -> None:
    record = job.run("echo run", **preflight("trap '' TERM; echo $$ > pid; exec sleep 600", seconds=2))
    assert (record["exit_code"], record["preflight_exit_code"]) == (0, -9)
    assert job.log() == "run\n"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"vram_bytes": -1}', '{"vram_bytes": "much"}', '{"vram_bytes": 1e99}']
)
def test_nonsense_that_it_leaves_is_not_taken_for_a_size(job: Job, text: str) -> None:
    record = job.run("true", **preflight(f"echo '{text}' > ../preflight.json; exit 69"))
    assert (record["failed_phase"], record["preflight_vram_bytes"]) == ("preflight", None)


def test_it_is_stopped_like_anything_else(job: Job) -> None:
    job.write("touch began", **preflight("touch looking; exec sleep 600")).start()
    eventually((job.work / "looking").exists, "a preflight under way")
    runner.request_stop(str(job.dir), "cancelled")
    record = job.ended()
    assert (record["stopped_by"], record["failed_phase"]) == ("request", "preflight")
    assert not (job.work / "began").exists()


def test_it_comes_after_setup_and_not_at_all_if_that_fails(job: Job) -> None:
    setup = {"command": "exit 3", "environment": None, "python": None, "system_site_packages": False}
    record = job.run("true", setup=setup, **preflight("touch looked"))
    assert (record["failed_phase"], record["preflight_exit_code"]) == ("setup", None)
    assert not (job.work / "looked").exists()
