"""Real job directories, run by the real runner in real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backends.runner import RUNNER_PATH, runner

PATIENCE = 30.0
"""Seconds until something that must happen counts as not happening."""


def eventually(what: Callable[[], Any], why: str) -> Any:
    """The first true value of ``what``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.005)
    raise AssertionError(f"never: {why}")


def python38() -> str | None:
    """A Python 3.8 that really starts: a version manager may leave a name on PATH that leads nowhere."""
    known = [str(path) for path in Path.home().glob(".pyenv/versions/3.8*/bin/python")]
    for python in (*known, shutil.which("python3.8")):
        if python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    return None


class Job:
    """One job directory and what a test does to it."""

    def __init__(self, folder: Path, key: str) -> None:
        self.dir = folder
        self.key = key
        self.work = folder / "work"

    def write(self, run: str, *, cap: int | None = None, means: list[str] | None = None, **given: Any) -> Job:
        self.work.mkdir(parents=True, exist_ok=True)
        limits = {"runtime": 60, "lease": None, "idle": None, **given.pop("limits", {})}
        job = {
            "version": 1, "key": self.key, "run": run, "env": {"PYTHON": sys.executable}, "secret_names": [],
            "base_env": {"PATH": os.environ["PATH"]}, "setup": None, "limits": limits,
            "memory": {"cap_bytes": cap, "means": means or []}, "gpus": [], "grace": 5, "sample_every": 0.05,
        }  # fmt: skip
        (self.dir / "job.json").write_text(json.dumps(job | given))
        return self

    def command(self, verb: str, python: str = sys.executable) -> list[str]:
        return [python, "-I", "-S", str(RUNNER_PATH), verb, str(self.dir)]

    def start(
        self, secrets: dict[str, str] | None = None, python: str = sys.executable, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("start", python), input=json.dumps(secrets or {}), env=env, text=True, capture_output=True
        )

    def run(self, command: str, secrets: dict[str, str] | None = None, **given: Any) -> dict[str, Any]:
        """Write, start, and wait for the exit record."""
        self.write(command, **given)
        started = self.start(secrets)
        assert started.returncode == 0, started
        return self.ended()

    def status(self) -> dict[str, Any]:
        return runner.read_status(str(self.dir))

    def record(self) -> dict[str, Any]:
        return self.status()["record"]

    def over(self) -> bool:
        return self.status()["phase"] in ("ended", "lost")

    def ended(self) -> dict[str, Any]:
        eventually(self.over, f"the end of {self.status()}")
        assert self.status()["phase"] == "ended", (self.dir / "runner.log").read_text()
        return self.record()

    def running(self) -> dict[str, Any]:
        return eventually(lambda: self.record().get("phase") == "running" and self.record(), "running")

    def made(self, name: str) -> str:
        """Content of a file that the command writes into its working directory."""
        return eventually(lambda: (self.work / name).exists() and (self.work / name).read_text(), name)

    def log(self, name: str = "stdout") -> str:
        return (self.dir / f"{name}.log").read_bytes().decode()

    def troubles(self) -> str:
        return (self.dir / "runner.log").read_text()

    def processes(self) -> list[int]:
        return runner.carriers(self.key)


@contextmanager
def jobs_that_leave_nothing(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Makes jobs; afterwards nothing of them may be alive, and no supervisor may have crashed."""
    jobs: list[Job] = []

    def make(folder: Path | None = None) -> Job:
        number = len(jobs) + 1
        jobs.append(Job(folder or tmp_path / f"job{number}", f"test-{os.getpid()}-{tmp_path.name}-{number}"))
        return jobs[-1]

    yield make
    for job in jobs:
        assert runner.sweep(str(job.dir), job.key) == []
        log = job.dir / "runner.log"
        assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()
