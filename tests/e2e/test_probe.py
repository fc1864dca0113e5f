"""``gpujob probe`` as its user types it: real tiny runs, what is kept of them, and who believes it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from e2e_kit import Gpujob, eventually

from backends.runner import runner

TRAIN = """\
import sys, time
batch, steps = int(sys.argv[1]), int(sys.argv[2])
print(f"batch {batch}, {steps} steps")
for _ in range(steps):
    memory = bytearray(40_000_000 + batch * 10_000_000)
    memory[::4096] = b"1" * len(memory[::4096])
    time.sleep(0.5)
    del memory
"""
PROBE = "probe: {batch_param: batch, batches: [2, 10], params: {steps: 2}, timeout: 90s}"


def spec(user: Gpujob, *more: str, train: str = TRAIN, probe: str = PROBE) -> str:
    user.write("own/train.py", train)
    lines = ["name: own", "run: python3 train.py {batch} {steps}", "params: {batch: 50, steps: 100000}"]
    return user.write("own/job.yaml", "\n".join([*lines, "needs: {gpu: none}", probe, *more]) + "\n")


def test_two_tiny_runs_tell_what_the_full_batch_takes(user: Gpujob) -> None:
    path = spec(user)
    assert "gpujob probe" in user.refused("estimate", path)
    found = user.json("probe", path)
    assert [run["batch"] for run in found["runs"]] == [2, 10]
    assert (found["batch"], found["vram"], found["gpu"]) == (50, None, None)
    assert found["ram"]["each_bytes"] == pytest.approx(10_000_000, rel=0.25)
    assert found["ram"]["p05"] < found["ram"]["p50"] < found["ram"]["p95"]
    estimate = user.json("estimate", path)
    assert estimate["ram"]["peak_bytes"] == sum(estimate["ram"]["terms"].values()) == found["ram"]["p50"]
    assert "probed on" in estimate["notes"][0]
    assert "at batch 50" in user.text("probe", path)
    assert user.json("reap") == []
    assert [each.name for each in (user.home / "local").iterdir() if each.name.startswith("probe-")] == []


def test_a_plan_believes_it_for_any_batch_but_only_of_the_same_files(user: Gpujob) -> None:
    path = spec(user)
    user.run("probe", path)

    def said(*options: str) -> str:
        return json.dumps(user.json("plan", path, "--budget", "0", "--backend", "local", *options)["ladder"])

    assert "extrapolated to 50" in said()
    assert "extrapolated to 20" in said("--param", "batch=20")
    assert "RAM predicted" in said()
    spec(user, train=TRAIN + "\n# another program\n")
    assert "extrapolated" not in said()


def test_what_has_really_run_is_believed_before_it(user: Gpujob) -> None:
    path = spec(user, "limits: {runtime: 90s}")
    text = (user.cwd / path).read_text().replace("steps: 100000", "steps: 2")
    (user.cwd / path).write_text(text)
    user.run("probe", path)
    assert user.submit(path)["state"] == "succeeded"
    plan = json.dumps(user.json("plan", path, "--budget", "0", "--backend", "local")["ladder"])
    assert "extrapolated" not in plan
    assert "used at most" in plan


def test_forgetting_history_forgets_probes(user: Gpujob) -> None:
    path = spec(user)
    user.run("probe", path)
    assert "1 probe of jobs named own forgotten" in user.text("history", "reset", "--job", "own", "--yes")
    user.refused("estimate", path)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("raise SystemExit('no such column')", "no such column"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import time; time.sleep(600)", "its allowed time was over"),
        ("x = bytearray(900_000_000); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(60)", "Out of memory"),
    ],
)
def test_a_run_that_fails_explains_itself_and_leaves_nothing(user: Gpujob, train: str, words: str) -> None:
    bounds = "timeout: 8s, memory: 300 MB"
    path = spec(user, train=train, probe=f"probe: {{batch_param: batch, batches: [2, 10], {bounds}}}")
    said = user.refused("probe", path, code=1)
    assert "the run with batch 2 did not go through" in said
    assert words in said
    assert list(user.home.glob("probes/*")) == []
    assert user.json("reap") == []


def test_what_it_needs_of_the_spec(user: Gpujob) -> None:
    assert "no probe section" in user.refused("probe", spec(user, probe="env: {A: b}"))
    wrong = spec(user, probe="probe: {batch_param: bacth}")
    assert "'bacth' is not among params" in user.refused("probe", wrong)
    down = spec(user, probe="probe: {batch_param: batch, batches: [4, 2]}")
    assert "the smaller one first" in user.refused("probe", down)


def test_a_gpu_that_is_not_here(user: Gpujob, tmp_path: Path) -> None:
    path = spec(user)
    text = (user.cwd / path).read_text().replace("gpu: none", "gpu: H100")
    (user.cwd / path).write_text(text)
    assert "needs 1 x H100, which this machine has not" in user.refused("probe", path, code=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_probe_that_is_ended_leaves_nothing_that_is_not_found_again(user: Gpujob, number: int) -> None:
    path = spec(user, probe="probe: {batch_param: batch}")
    probing = user.start("probe", path)
    key = eventually(lambda: next((each.name for each in user.home.glob("local/probe-*")), ""), "a tiny run")
    eventually(lambda: runner.carriers(key), "its processes")
    probing.send_signal(number)
    probing.communicate(timeout=60)
    user.run("reap", "--yes")
    eventually(lambda: not runner.carriers(key), "the end of its processes")
    assert list(user.home.glob("local/probe-*")) == []
    assert user.json("reap") == []
