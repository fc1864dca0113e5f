"""Started once, found again, outliving its parent, and leaving nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runner_kit import Job, eventually, python38

from backends.runner import RUNNER_PATH, runner


def test_absent_until_started(job: Job) -> None:
    assert job.status() == {"phase": "absent", "record": {}}
    job.write("true")
    assert job.status() == {"phase": "absent", "record": {}}


def test_start_returns_while_the_command_runs(job: Job) -> None:
    started = job.write("sleep 600").start()
    assert (started.returncode, started.stdout) == (0, "started\n")
    assert job.status()["phase"] in ("starting", "running")
    claim = json.loads((job.dir / "claim").read_text())
    assert claim["pid"] == job.running()["supervisor_pid"]
    assert claim["boot_id"] == runner.boot_id()


def test_a_second_start_finds_the_first(job: Job) -> None:
    job.write("echo x >> ran; sleep 600").start()
    job.made("ran")
    again = job.start()
    assert (again.returncode, again.stdout) == (0, "already started\n")
    runner.request_stop(str(job.dir), "enough")
    job.ended()
    assert job.start().stdout == "already started\n"
    assert (job.work / "ran").read_text() == "x\n"


def test_two_starts_at_once_run_the_command_once(make_job) -> None:
    for _ in range(5):
        job = make_job().write("echo x >> ran")
        starts = [
            subprocess.Popen(job.command("start"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        answers = sorted(start.communicate()[0] for start in starts)
        assert answers == ["already started\n"] * 3 + ["started\n"]
        assert job.ended()["exit_code"] == 0
        assert (job.work / "ran").read_text() == "x\n"


def test_looking_all_the_time_does_not_disturb_a_start(make_job) -> None:
    looking = "import sys; sys.path.insert(0, sys.argv[1]); import runner\nwhile True: runner.lock_is_held(sys.argv[2])"
    job = make_job().write("true")
    (job.dir / "lock").touch()
    looker = subprocess.Popen([sys.executable, "-c", looking, str(RUNNER_PATH.parent), str(job.dir)])
    try:
        assert job.start().stdout == "started\n"
    finally:
        looker.kill()
        looker.wait()
    assert job.ended()["exit_code"] == 0


def test_the_run_survives_its_parents_death(job: Job) -> None:
    job.write("echo 1 > ready; while [ ! -e go ]; do sleep 0.01; done; echo done")
    parent = subprocess.Popen(
        ["sh", "-c", '"$@" < /dev/null; sleep 600', "sh", *job.command("start")], start_new_session=True
    )
    job.made("ready")
    os.killpg(parent.pid, signal.SIGHUP)
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    (job.work / "go").touch()
    assert job.ended()["exit_code"] == 0
    assert job.log() == "done\n"


def test_a_killed_supervisor_is_lost_and_sweeping_leaves_nothing(job: Job) -> None:
    job.write("setsid sleep 600 & (setsid setsid sleep 600 &) ; echo 1 > ready; sleep 600; true").start()
    job.made("ready")
    record = job.running()
    os.kill(record["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: job.status()["phase"] == "lost", "lost")
    assert job.processes()  # the kernel ends the direct child only
    done = subprocess.run(job.command("sweep"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "nothing is left of the run\n")
    assert job.processes() == []
    assert job.status()["phase"] == "lost"
    assert job.start().stdout == "already started\n"


@pytest.mark.skipif(not runner.LINUX, reason="PDEATHSIG is Linux's")
def test_the_command_dies_with_its_supervisor(job: Job) -> None:
    job.write("exec sleep 600").start()
    record = job.running()
    os.kill(record["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: job.processes() == [], "the command's death")


def test_sweeping_a_living_run_ends_it_with_a_record(job: Job) -> None:
    job.write("setsid sleep 600 & sleep 600").start()
    job.running()
    assert runner.sweep(str(job.dir), job.key) == []
    assert job.status()["phase"] == "ended"
    assert job.record()["stopped_by"] in ("request", None)


def test_sweeping_ends_a_supervisor_that_is_stopped(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SWEEP_PATIENCE_SECONDS", 0.1)
    job.write("sleep 600").start()
    os.kill(job.running()["supervisor_pid"], signal.SIGSTOP)
    assert runner.sweep(str(job.dir), job.key) == []
    assert job.status()["phase"] == "lost"


def test_sweeping_touches_nothing_of_another_run(make_job) -> None:
    one, other = make_job(), make_job()
    for job in (one, other):
        job.write("sleep 600").start()
        job.running()
    runner.sweep(str(one.dir), one.key)
    assert one.processes() == []
    assert other.processes()
    assert other.status()["phase"] == "running"


def test_a_torn_record_is_no_record(job: Job) -> None:
    job.run("true")
    (job.dir / "status.json").write_text('{"phase": "en')
    assert job.status() == {"phase": "lost", "record": {}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"version": 1}',
        '{"version": 1, "key": "k"}',
        '{"version": 1, "key": "k", "run": "true", "env": {"A": 2}}',
    ],
)
def test_a_bad_job_is_refused_and_may_be_started_when_mended(job: Job, text: str) -> None:
    job.work.mkdir(parents=True)
    (job.dir / "job.json").write_text(text)
    refused = job.start()
    assert refused.returncode == 2
    assert "job.json" in refused.stdout
    assert job.status()["phase"] == "absent"
    assert job.run("true")["exit_code"] == 0


def test_a_missing_secret_is_refused_by_name(job: Job) -> None:
    refused = job.write("true", secret_names=["HF_TOKEN"]).start()
    assert refused.returncode == 2
    assert "HF_TOKEN" in refused.stdout
    assert job.status()["phase"] == "absent"


def test_the_command_line(job: Job) -> None:
    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(RUNNER_PATH), *argv], capture_output=True, text=True)

    assert call().returncode == 2
    assert "JOB_DIR" in call("nonsense").stderr
    job.write("sleep 600").start()
    job.running()
    assert json.loads(call("status", str(job.dir)).stdout)["phase"] == "running"
    assert call("stop", str(job.dir), "--reason", "by hand").returncode == 0
    assert job.ended()["stop_reason"] == "by hand"


@pytest.mark.parametrize("stdin", ["{", "[]", '{"TOKEN": 1}', '{"TOKEN": "canary-12", "OTHER": null}'])
def test_bad_secrets_are_refused_and_not_shown(job: Job, stdin: str) -> None:
    refused = subprocess.run(job.write("true").command("start"), input=stdin, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "standard input" in refused.stdout
    assert "canary" not in refused.stdout + job.troubles()


def test_where_there_is_no_proc_the_same_holds(make_job, tmp_path: Path) -> None:
    text = RUNNER_PATH.read_text().replace('LINUX = sys.platform.startswith("linux")', "LINUX = False")
    carried = tmp_path / "runner.py"
    carried.write_text(text)

    def run(command: str, **given: object) -> dict[str, object]:
        job = make_job().write(command, **given)
        start = [sys.executable, str(carried), "start", str(job.dir)]
        assert subprocess.run(start, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout == "started\n"
        record = job.ended()
        assert job.processes() == []
        assert job.troubles() == ""
        return record

    assert run("setsid sleep 600 & sleep 600 & exit 3")["exit_code"] == 3
    assert run("exec sleep 600", limits={"runtime": 0.3})["stopped_by"] == "deadline"
    hungry = '$PYTHON -c "import time; held = bytearray(80000000); time.sleep(600)"'
    record = run(f"{hungry}; true", cap=64_000_000, means=["watch"])
    assert record["stopped_by"] == "memory_cap"


@pytest.mark.skipif(python38() is None, reason="NO PYTHON 3.8 HERE: that the runner works with it stays unproven")
def test_python_3_8_is_enough(make_job, tmp_path: Path) -> None:
    python = python38()
    assert python
    job = make_job().write(
        "echo $GREETING; setsid sleep 600 &", cap=200_000_000, secret_names=["TOKEN"], env={"GREETING": "abc-secret"}
    )
    assert job.start({"TOKEN": "secret"}, python=python).returncode == 0
    assert job.ended()["exit_code"] == 0
    assert job.log() == "abc-***\n"
    environment = tmp_path / "env"
    setup = {"command": "echo ok", "environment": str(environment), "python": python, "system_site_packages": False}
    job = make_job().write("python -c 'import sys; print(sys.version_info[:2])'", setup=setup)
    assert job.start(python=python).returncode == 0
    assert job.ended()["exit_code"] == 0
    assert "(3, 8)" in job.log()
