"""What comes home after a run: results and checkpoints under their own paths, logs and the runner's record."""

from __future__ import annotations

from pathlib import Path

from backends.base import Machine
from orchestrator.home import Home
from orchestrator.lifecycle.journal import Json
from orchestrator.lifecycle.logs import LOGS
from orchestrator.spec.model import JobSpec

RECORDS = (*LOGS, "status.json", "samples.jsonl", "runner.log")


def fetch_all(machine: Machine, key: str, spec: JobSpec, home: Home, job: str, number: int) -> Json:
    """Fetch everything, also from a run that failed: what was produced is not lost. Doing it again is harmless."""
    missing = _pull(machine, key, spec.results, home.fetched(job, number))
    _pull(machine, key, spec.checkpoints, home.checkpoints(job, number))
    for name in RECORDS:
        machine.pull(f"{key}/{name}", home.attempt(job, number) / name, _unwatched)
    return {"missing": missing}


def _pull(machine: Machine, key: str, paths: tuple[str, ...], folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return [path for path in paths if not machine.pull(f"{key}/work/{path}", folder / path, _unwatched)]


def _unwatched(done: int, total: int) -> None:
    del done, total
