"""How a command ends, and what the exit record says of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from runner_kit import Job

from backends.runner import runner


def test_success(job: Job) -> None:
    record = job.run('echo hello; echo oops >&2; echo "$PWD" > where; env > env')
    assert record["exit_code"] == 0
    assert [record[name] for name in ("signal", "failed_phase", "stopped_by", "pid")] == [None] * 4
    assert (job.log("stdout"), job.log("stderr")) == ("hello\n", "oops\n")
    assert Path((job.work / "where").read_text().strip()) == job.work.resolve()
    assert record["key"] == job.key
    assert record["log_bytes"] == {"setup": 0, "preflight": 0, "stdout": 6, "stderr": 5}
    assert record["started_at"] <= record["command_started_at"] <= record["ended_at"]
    assert record["disk_free_bytes"] > 0
    assert job.troubles() == ""


def test_nothing_but_the_base_environment_reaches_the_command(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODY_ELSES", "secret")
    job.run("env > env", env={"OMP_NUM_THREADS": "2"})
    names = {line.split("=")[0] for line in (job.work / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "OMP_NUM_THREADS", "GPUJOB_RUN", "GPUJOB_METRICS"}


def test_where_there_is_no_base_environment_the_machines_own_reaches_it(job: Job) -> None:
    """As on a rented machine: its PATH and settings, but nothing of the session that started it, and no credential."""
    there = {
        "PATH": os.environ["PATH"],
        "HF_HOME": "/data",
        "PWD": "/",
        "SSH_CLIENT": "1.2.3.4",
        "RUNPOD_API_KEY": "canary",
    }
    job.write("env", base_env=None).start(env=there)
    job.ended()
    lines = job.log().splitlines()
    assert "HF_HOME=/data" in lines
    assert not [line for line in lines if line.startswith(("SSH_CLIENT", "POD_KEY"))]


def test_the_record_has_every_key_from_the_beginning(job: Job) -> None:
    job.write("sleep 60").start()
    before = set(job.running())
    runner.request_stop(str(job.dir), "enough")
    assert set(job.ended()) == before


def test_exit_code(job: Job) -> None:
    record = job.run("exit 7")
    assert (record["exit_code"], record["signal"], record["failed_phase"]) == (7, None, "run")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_from_somebody_else(job: Job, number: int) -> None:
    job.write("exec sleep 60").start()
    os.kill(job.running()["pid"], number)
    record = job.ended()
    assert (record["exit_code"], record["signal"], record["stopped_by"]) == (None, number, None)
    assert record["failed_phase"] == "run"


def test_a_shell_reports_a_killed_child_as_137(job: Job) -> None:
    record = job.run("sh -c 'kill -9 $$'; code=$?; exit $code")
    assert (record["exit_code"], record["signal"]) == (137, None)


def test_a_command_that_cannot_start_is_explained(job: Job) -> None:
    record = job.run("true", env={"HUGE": "x" * 200_000, **{f"MORE{n}": "x" * 100_000 for n in range(60)}})
    assert (record["exit_code"], record["failed_phase"]) == (127, "run")
    assert "cannot be started" in job.log("stderr")


def test_descendants_left_behind_are_ended(job: Job) -> None:
    record = job.run("setsid sleep 600 & (sleep 600 & ) ; (env -i setsid sleep 601 &) ; echo done")
    assert record["exit_code"] == 0
    assert job.processes() == []


def test_a_descendant_that_ignores_sigterm_is_killed_after_grace(job: Job) -> None:
    left = "import signal,time; signal.signal(15, signal.SIG_IGN); open('ready','w').write('1'); time.sleep(600)"
    record = job.run(f'setsid $PYTHON -c "{left}" & while [ ! -s ready ]; do sleep 0.01; done', grace=0.2)
    assert (record["exit_code"], record["signal"]) == (0, None)
    assert job.processes() == []


def test_hostile_file_names(make_job, tmp_path: Path) -> None:
    job = make_job(tmp_path / "a b;'\"$(touch pwned)\n--%s [x]")
    record = job.run("pwd > where; touch -- \"-rf\" $'new\\nline' 'semi;colon'")
    assert record["exit_code"] == 0
    assert (job.work / "where").read_text().rstrip("\n") == str(job.work.resolve())
    assert len(list(job.work.iterdir())) == 4
    assert not (job.work / "pwned").exists()


def test_samples_are_lines_of_json(job: Job) -> None:
    record = job.run("sleep 0.4")
    lines = [json.loads(line) for line in (job.dir / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == record["sample_count"] > 2
    assert [set(line) for line in lines] == [{"t", "ram", "vram", "gpu", "cpu"}] * len(lines)
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)


def test_three_days_of_samples_stay_small(tmp_path: Path) -> None:
    file = runner.SampleFile(str(tmp_path / "samples.jsonl"), 0.25)
    sample = {"ram": 123_456_789_012, "vram": 12_345_678_901, "gpu": 100.0, "cpu": 1234.56789}
    for number in range(3 * 86400):
        file.add(number, sample)
    assert (tmp_path / "samples.jsonl").stat().st_size < 3_000_000


def test_a_line_of_samples_keeps_the_peak_between_lines(tmp_path: Path) -> None:
    file = runner.SampleFile(str(tmp_path / "samples.jsonl"), 10)
    for at, ram in ((0, 1), (5, 99), (10, 2)):
        file.add(at, {"ram": ram, "vram": None, "gpu": None, "cpu": None})
    last = json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[-1])
    assert (last["ram"], last["vram"]) == (99, None)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [('{"step_seconds": 0.42}', 0.42), ('{"step_seconds": NaN}', None), ("[1]", None), ("no", None)],
)
def test_the_command_may_tell_its_time_per_step(job: Job, told: str, seconds: float | None) -> None:
    assert job.run(f"echo '{told}' > $GPUJOB_METRICS")["step_seconds"] == seconds
