"""What only the channel to this machine does: dying at any file, and sweeping up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from channels_kit import content, silent

from backends.base import Lost, Transient
from backends.channels import local
from backends.channels.local import PART, LocalMachine
from tests.runner.runner_kit import Job


@pytest.fixture
def machine(root: Path) -> LocalMachine:
    return LocalMachine(root)


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path, tree: Path) -> None:
    info = (tree / "train.sh").stat()
    (tree / "train.sh").write_text("grown since it was listed")
    with pytest.raises(Transient, match="changed while"):
        local._copy(tree / "train.sh", tmp_path / "copy", info, "push:file")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_transfer_survives_a_crash_at_every_file(root: Path, tree: Path, tmp_path: Path, verb: str) -> None:
    (tree / "link").unlink()
    source, dest = (tree, root / "job") if verb == "push" else (root / "job", tmp_path / "home")
    machine = LocalMachine(root)
    if verb == "pull":
        machine.push(tree, "job", silent)
    call = f"m.push(Path({str(tree)!r}), 'job', p)" if verb == "push" else f"m.pull('job', Path({str(dest)!r}), p)"
    program = (
        "from pathlib import Path; from backends.channels.local import LocalMachine; p = lambda *_: None; "
        f"m = LocalMachine(Path({str(root)!r})); {call}"
    )
    crashes = 0
    for point in range(1, 10):
        env = {**os.environ, "GPUJOB_CRASH_AT": "1", "PYTHONPATH": str(Path(local.__file__).parents[2])}
        done = subprocess.run([sys.executable, "-c", program], env={**env, "GPUJOB_CRASH_AT": str(point)})
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        assert len(list(dest.rglob(PART))) == 1
        crashes += 1
        if verb == "push":
            machine.push(source, "job", silent)
        else:
            machine.pull("job", dest, silent)
        assert content(dest) == content(source)
        for path in dest.rglob("*"):
            if path.is_file():
                path.unlink()
    assert crashes == 2


def test_a_runner_that_does_not_answer_is_lost(
    make_job, root: Path, machine: LocalMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(root / "j1").write("true")
    monkeypatch.setattr(local, "START_TIMEOUT", 0.0)
    with pytest.raises(Lost):
        machine.start("j1", {})


def test_the_runner_inherits_no_secrets_of_ours(
    make_job, root: Path, machine: LocalMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_TOKEN", "canary-77")
    job = make_job(root / "j1").write("sleep 600")
    machine.start("j1", {})
    pid = json.loads((job.dir / "claim").read_text())["pid"]
    assert b"canary-77" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_sweep(make_job, root: Path, machine: LocalMachine) -> None:
    job: Job = make_job(root / "j1").write("sleep 600")
    machine.start("j1", {})
    job.running()
    machine.sweep("j1", job.key)
    assert job.processes() == []
    machine.sweep("j1", job.key)
