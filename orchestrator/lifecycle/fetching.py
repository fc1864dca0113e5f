"""What comes home after a run: results and checkpoints under their own paths, logs and the runner's record."""

from __future__ import annotations

from pathlib import Path

from backends.base import Machine
from orchestrator.lifecycle.context import Context
from orchestrator.lifecycle.following import Transfer
from orchestrator.lifecycle.journal import Json
from orchestrator.lifecycle.keeping import mend_checkpoints
from orchestrator.lifecycle.logs import LOGS

RECORDS = (*LOGS, "status.json", "samples.jsonl", "runner.log")


def fetch_all(context: Context, machine: Machine) -> Json:
    """Fetch everything, also from a run that failed: what was produced is not lost. Doing it again is harmless."""
    key, home, job, number = context.key, context.tools.home, context.job.id, context.attempt.number
    mend_checkpoints(home.checkpoints(job, number))
    came = context.fetch(machine)
    missing = _pull(machine, key, context.spec.results, home.fetched(job, number), came)
    _pull(machine, key, context.spec.checkpoints, home.checkpoints(job, number), came)
    for name in RECORDS:
        machine.pull(f"{key}/{name}", context.folder / name, came)
    context.traffic.heard(machine)
    return {"missing": missing, "bytes": came.bytes}


def _pull(machine: Machine, key: str, paths: tuple[str, ...], folder: Path, came: Transfer) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return [path for path in paths if not machine.pull(f"{key}/work/{path}", folder / path, came)]
