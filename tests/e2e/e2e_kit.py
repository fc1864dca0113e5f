"""gpujob as its user types it: the real command, a home of its own, real workers, runners, jobs and kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.runner import runner

COMMAND = (sys.executable, "-m", "orchestrator.cli.main")
REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds until something that must happen counts as not happening."""


def eventually(what: Callable[[], Any], why: str) -> Any:
    """The first true value of ``what``."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError(f"never: {why}")


@dataclass
class Gpujob:
    """One user: a home, a folder to stand in, and what they type there."""

    home: Path
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "GPUJOB_RUN")}
        return kept | {"GPUJOB_HOME": str(self.home)} | self.env | more

    def run(self, *typed: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Type a command and wait; its exit code must be ``code``, and it must never show a traceback."""
        done = subprocess.run(
            [*COMMAND, *typed], cwd=self.cwd, env=self.environment(**env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE * 2,
        )  # fmt: skip
        assert done.returncode == code, f"{typed}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def text(self, *typed: str, code: int = 0, **env: str) -> str:
        return self.run(*typed, code=code, **env).stdout

    def json(self, *typed: str, code: int = 0, **env: str) -> Any:
        return json.loads(self.run(*typed, "--json", code=code, **env).stdout)

    def refused(self, *typed: str, code: int = 2, **env: str) -> str:
        """A command that must be refused: its message on standard error, whole, and no other output."""
        done = self.run(*typed, code=code, **env)
        assert done.stdout == ""
        return " ".join(done.stderr.replace("│", " ").split())

    def submit(self, spec: str, *options: str, code: int = 0, **env: str) -> dict[str, Any]:
        """Submit, wait, and everything recorded of it."""
        detail: dict[str, Any] = self.json("submit", spec, "--budget", "1", *options, code=code, **env)
        return detail

    def detached(self, spec: str, *options: str, **env: str) -> str:
        """Submit and return at once; the job's id."""
        return str(self.json("submit", spec, "--budget", "1", "--detach", *options, **env)["id"])

    def start(self, *typed: str, **env: str) -> subprocess.Popen[str]:
        """Type a command and go on."""
        return subprocess.Popen(
            [*COMMAND, *typed], cwd=self.cwd, env=self.environment(**env), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def write(self, name: str, text: str) -> str:
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    def job(self, run: str, *more: str, name: str = "job") -> str:
        """Write a spec whose command is the script ``run``; the spec's file name."""
        self.write(f"{name}/run.sh", run)
        lines = [f"name: {name}", "run: sh run.sh", "results: [out/]", *more]
        return self.write(f"{name}/job.yaml", "\n".join(lines) + "\n")

    def show(self, job: str) -> dict[str, Any]:
        detail: dict[str, Any] = self.json("show", job)
        return detail

    def ended(self, job: str) -> dict[str, Any]:
        """The job once it is over."""
        eventually(lambda: self.show(job)["ended_at"], f"the end of {job}")
        return self.show(job)

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("ls")
        return found

    # what is alive

    def keys(self) -> list[str]:
        """The key of every attempt that left a trace in this home."""
        attempts = self.home.glob("jobs/*/attempt-*")
        return [f"{path.parent.name}-a{path.name.removeprefix('attempt-')}" for path in attempts]

    def runs(self) -> list[int]:
        """Every process of a job of this home."""
        return [pid for key in self.keys() for pid in runner.carriers(key)]

    def programs(self) -> list[int]:
        """Every process of ours on this home: workers and commands."""
        return processes_with(f"GPUJOB_HOME={self.home}")

    def stop_workers(self, number: int = signal.SIGTERM) -> None:
        runner.send(self.programs(), number)
        eventually(lambda: not self.programs(), "the end of the workers")


@contextmanager
def user_in(folder: Path) -> Iterator[Gpujob]:
    """A user whose jobs must all be over at the end, and whose workers end when told to."""
    user = Gpujob(folder / "home", folder / "here")
    user.cwd.mkdir()
    try:
        yield user
        eventually(lambda: not user.runs(), f"the end of processes {user.runs()} of {user.keys()}")
    finally:
        user.stop_workers()
        runner.send(user.runs(), 9)


def processes_with(setting: str) -> list[int]:
    """Live processes with that setting in their environment."""
    proc = Path("/proc")
    if not proc.joinpath("self/environ").exists():
        listing = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True).stdout
        return [int(line.split()[0]) for line in listing.splitlines() if setting in line.split()]
    return [int(path.name) for path in proc.glob("[0-9]*") if setting.encode() in _environment(path)]


def _environment(process: Path) -> list[bytes]:
    try:
        return process.joinpath("environ").read_bytes().split(b"\0")
    except OSError:
        return []
