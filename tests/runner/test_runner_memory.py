"""The memory cap by each means, the kernel's evidence, and what RAM is measured."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from runner_kit import Job, eventually

from backends.runner import runner

MB = 1_000_000
HUNGRY = """exec $PYTHON -c "
import time
held = []
while True:
    held.append(bytearray(4000000))
    time.sleep(0.005)" """


def works(open_means: Callable[[str, int], runner.Cap | None]) -> bool:
    cap = open_means(f"gpujob-test-trial-{os.getpid()}", 64 * MB)
    if cap:
        cap.remove()
    return cap is not None


needs_cgroup1 = pytest.mark.skipif(
    not works(runner.open_cgroup1), reason="NO WRITABLE CGROUP V1 MEMORY HERE: its cap stays untested"
)
needs_cgroup2 = pytest.mark.skipif(
    not works(runner.open_cgroup2), reason="NO WRITABLE CGROUP V2 MEMORY HERE: its cap stays untested"
)
needs_systemd = pytest.mark.skipif(
    not works(runner.open_systemd), reason="NO USER SERVICE MANAGER HERE: systemd-run's cap stays untested"
)


@pytest.mark.parametrize(
    "means",
    [
        pytest.param("cgroup1", marks=needs_cgroup1),
        pytest.param("cgroup2", marks=needs_cgroup2),
        pytest.param("systemd", marks=needs_systemd),
    ],
)
def test_the_kernel_kills_at_the_cap_and_says_so(job: Job, means: str) -> None:
    record = job.run(HUNGRY, cap=64 * MB, means=[means])
    assert (record["memory_cap_means"], record["memory_cap_bytes"]) == (means, 64 * MB)
    assert (record["exit_code"], record["signal"], record["stopped_by"]) == (None, signal.SIGKILL, None)
    assert record["oom_kills_in_cap"] >= 1
    assert record["oom_kills_on_machine"] >= 1
    assert 60 * MB <= record["peak_ram_bytes"] <= 64 * MB
    assert not record["memory_cap_cgroup"] or not Path(record["memory_cap_cgroup"]).exists()


@needs_cgroup1
def test_the_kernel_kills_below_a_shell_that_reports_137(job: Job) -> None:
    record = job.run(f"({HUNGRY}); code=$?; echo $code; exit $code", cap=64 * MB, means=["cgroup1"])
    assert (record["exit_code"], record["signal"], record["stopped_by"]) == (137, None, None)
    assert record["oom_kills_in_cap"] == 1


@needs_cgroup1
def test_a_run_below_the_cap_has_no_kills(job: Job) -> None:
    record = job.run("exit 3", cap=64 * MB, means=["cgroup1"])
    assert (record["exit_code"], record["oom_kills_in_cap"]) == (3, 0)


@needs_cgroup1
def test_page_cache_is_not_the_jobs_memory(job: Job) -> None:
    record = job.run("head -c 150000000 /dev/zero > big; cat big > copy; sleep 0.2", cap=64 * MB, means=["cgroup1"])
    assert (record["exit_code"], record["oom_kills_in_cap"]) == (0, 0)
    assert record["peak_ram_bytes"] < 20 * MB


@needs_cgroup1
def test_setup_is_not_under_the_cap(job: Job) -> None:
    setup = {"command": '$PYTHON -c "bytearray(150000000)"', "environment": None}
    record = job.run("true", cap=64 * MB, means=["cgroup1"], setup=setup)
    assert (record["exit_code"], record["failed_phase"]) == (0, None)
    assert (record["peak_ram_bytes"] or 0) < 64 * MB


@needs_cgroup1
def test_sweeping_after_a_lost_supervisor_removes_the_group(job: Job) -> None:
    job.write("env -i setsid sleep 600 & echo 1 > ready; sleep 600", cap=64 * MB, means=["cgroup1"]).start()
    job.made("ready")
    record = job.running()
    group = Path(record["memory_cap_cgroup"])
    assert group.is_dir()
    runner.send([record["supervisor_pid"]], signal.SIGKILL)
    eventually(lambda: job.status()["phase"] == "lost", "lost")
    assert runner.sweep(str(job.dir), job.key) == []
    assert not group.exists()


def test_the_runners_own_watch_kills_at_once_and_says_so(job: Job) -> None:
    record = job.run(f"trap '' TERM; {HUNGRY}", cap=64 * MB, means=["watch"], grace=600)
    assert (record["memory_cap_means"], record["stopped_by"]) == ("watch", "memory_cap")
    assert record["signal"] == signal.SIGKILL
    assert record["peak_ram_bytes"] > 64 * MB
    assert "64000000" in record["stop_reason"]


def test_the_watch_sees_the_whole_tree(job: Job) -> None:
    half = '$PYTHON -c "import time; held = bytearray(40000000); time.sleep(600)"'
    record = job.run(f"{half} & setsid {half} & wait", cap=64 * MB, means=["watch"])
    assert record["stopped_by"] == "memory_cap"
    assert job.processes() == []


def test_memory_shared_by_a_fork_is_counted_once(job: Job) -> None:
    fork = """exec $PYTHON -c "
import os, time
held = bytearray(b'x' * 60000000)
for _ in range(4):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
time.sleep(1)" """
    record = job.run(fork, cap=150 * MB, means=["watch"])
    assert (record["exit_code"], record["stopped_by"]) == (0, None)
    assert 60 * MB <= record["peak_ram_bytes"] < 150 * MB


@pytest.mark.parametrize("means", ["watch", pytest.param("cgroup1", marks=needs_cgroup1)])
def test_peak_ram_is_the_jobs_own(job: Job, means: str) -> None:
    hold = 'exec $PYTHON -c "import time; held = bytearray(80000000); time.sleep(0.5)"'
    record = job.run(hold, cap=400 * MB, means=[means])
    assert 80 * MB <= record["peak_ram_bytes"] <= 110 * MB


def test_means_that_do_not_work_here_fall_through_to_the_watch(job: Job) -> None:
    record = job.run("true", cap=64 * MB, means=["no-such-means"])
    assert (record["memory_cap_means"], record["memory_cap_bytes"]) == ("watch", 64 * MB)


def test_no_cap_no_means(job: Job) -> None:
    record = job.run("true")
    assert (record["memory_cap_means"], record["memory_cap_bytes"]) == (None, None)


def test_systemd_is_tried_first_and_then_runs_the_command(job: Job, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "systemd-run"
    tool.parent.mkdir()
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    path = {"PATH": f"{tool.parent}:/usr/bin:/bin", "XDG_RUNTIME_DIR": "/run/user/0"}
    job.write("echo $XDG_RUNTIME_DIR", cap=64 * MB, means=["systemd"], base_env=path).start(env=path)
    record = job.ended()
    assert (record["memory_cap_means"], record["exit_code"]) == ("systemd", 0)
    trial, real = (tmp_path / "calls").read_text().splitlines()
    assert trial.endswith("-- true")
    assert "--user --scope" in real
    assert "-p MemoryMax=64000000 -p MemorySwapMax=0" in real
    assert "-trial.scope" in trial
    assert "-trial.scope" not in real


@pytest.mark.parametrize(
    ("files", "ram", "kills"),
    [
        ({"memory.stat": "anon 70\nfile 900\nshmem 30\n", "memory.events": "oom 2\noom_kill 1\n"}, 100, 1),
        ({"memory.stat": "", "memory.events": "low 0\n"}, 0, None),
    ],
)
def test_the_figures_of_cgroup_2(tmp_path: Path, files: dict[str, str], ram: int, kills: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = runner.Cgroup(str(tmp_path), 2)
    assert (group.ram(), group.oom_kills()) == (ram, kills)


def test_ps_tells_of_the_same_processes_as_proc() -> None:
    by_proc, by_ps = runner.processes_by_proc(), runner.processes_by_ps()
    shared = set(by_proc) & set(by_ps)
    assert shared
    assert all(by_proc[pid].parent == by_ps[pid].parent for pid in shared)


def test_ps_tells_who_carries_a_key(job: Job) -> None:
    job.write("exec sleep 600").start()
    pid = job.running()["pid"]
    assert pid in runner.carriers_by_ps(job.key)
    assert runner.carriers_by_proc(job.key) == runner.carriers_by_ps(job.key)


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:01", 1), ("1:02.50", 62.5), ("01:00:00", 3600), ("2-00:00:01", 172801)]
)
def test_the_clock_of_ps(text: str, seconds: float) -> None:
    assert runner.ps_seconds(text) == seconds
