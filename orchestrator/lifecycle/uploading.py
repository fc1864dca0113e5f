"""What is sent to a machine before a run: the user's files, the last checkpoints, ``job.json``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from backends.base import Lease, Machine
from backends.runner import INPUTS_PATH, TRACING_PATH
from orchestrator.home import Home
from orchestrator.lifecycle.environments import environment_name
from orchestrator.lifecycle.jobfile import TRACE_FILE, build_jobfile, input_list
from orchestrator.records.jobs import attempts_of
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job
from orchestrator.spec.model import JobSpec, ResolvedVariant


def upload_all(
    home: Home,
    store: Store,
    job: Job,
    spec: JobSpec,
    variant: ResolvedVariant,
    attempt: Attempt,
    lease: Lease,
    machine: Machine,
) -> int:
    """Send everything the run needs; bytes of the user's files. Doing it again sends only what is missing."""
    sent = _Counter()
    work = f"{attempt.key}/work"
    source = home.source(job.id)
    machine.push(source, work, sent)
    if checkpoints := _newest_checkpoints(home, store, job.id, spec, attempt.number):
        machine.push(checkpoints, work, _Counter())
    outgoing = home.attempt(job.id, attempt.number) / "outgoing"
    outgoing.mkdir(parents=True, exist_ok=True)
    trace = json.loads(job.options).get("traces", {}).get(variant.name)
    jobfile = build_jobfile(
        spec, variant, attempt, lease, _base_env(job, lease), setup_of(variant, source, lease), preflight=bool(trace)
    )
    if spec.inputs:
        (outgoing / "inputs.json").write_text(json.dumps(input_list(spec, lease), indent=1), encoding="utf-8")
        shutil.copyfile(INPUTS_PATH, outgoing / INPUTS_PATH.name)
    if trace:
        (outgoing / TRACE_FILE).write_text(json.dumps(trace), encoding="utf-8")
        unbuilt = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TRACING_PATH, outgoing / TRACING_PATH.name, ignore=unbuilt, dirs_exist_ok=True)
    (outgoing / "job.json").write_text(json.dumps(jobfile, indent=1), encoding="utf-8")
    machine.push(outgoing, attempt.key, _Counter())
    return sent.bytes


class _Counter:
    """Progress that is only counted."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, done: int, total: int) -> None:
        self.bytes = max(done, total)


def _base_env(job: Job, lease: Lease) -> dict[str, str]:
    """This machine's environment for a job that runs here; elsewhere the machine has its own."""
    if not lease.details.get("own_machine"):
        return {}
    kept = json.loads(job.options)["environment"]
    return {**kept["values"], **{name: os.environ[name] for name in kept["withheld"] if name in os.environ}}


def setup_of(variant: ResolvedVariant, source: Path, lease: Lease) -> dict[str, Any] | None:
    """How the runner prepares the machine for files as in ``source``; None without a setup."""
    if variant.setup is None:
        return None
    python = str(lease.details.get("python", "python3"))
    shared = environment_name(variant.setup, source, python)
    own = f"{lease.details['jobs']}/{lease.key}/environment"
    return {
        "command": variant.setup,
        "environment": f"{lease.details['environments']}/{shared}" if shared else own,
        "python": python,
        "system_site_packages": not lease.details.get("own_machine", False),
    }


def _newest_checkpoints(home: Home, store: Store, job: str, spec: JobSpec, before: int) -> Path | None:
    """The folder of the latest earlier attempt that left checkpoints; only they are in it."""
    for attempt in reversed(attempts_of(store, job)):
        folder = home.checkpoints(job, attempt.number)
        if attempt.number < before and spec.checkpoints and folder.is_dir() and any(folder.iterdir()):
            return folder
    return None
