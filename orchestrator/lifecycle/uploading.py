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
from orchestrator.lifecycle.context import Context
from orchestrator.lifecycle.environments import environment_name
from orchestrator.lifecycle.jobfile import TRACE_FILE, build_jobfile, input_list
from orchestrator.records.jobs import attempts_of
from orchestrator.records.store import Store
from orchestrator.records.tables import Job
from orchestrator.spec.model import JobSpec, ResolvedVariant


def upload_all(context: Context, machine: Machine) -> int:
    """Send everything the run needs; bytes of the user's files. Doing it again sends only what is missing.

    ``job.json`` is written when the rest is there: what it says of the time that is left is then true.
    """
    home, job, spec, attempt = context.tools.home, context.job, context.spec, context.attempt
    work, source = f"{context.key}/work", home.source(job.id)
    sent = context.upload()
    machine.push(source, work, sent)
    of_the_user = sent.bytes
    if checkpoints := _newest_checkpoints(home, context.tools.store, job.id, spec, attempt.number):
        machine.push(checkpoints, work, sent)
    outgoing = context.folder / "outgoing"
    outgoing.mkdir(parents=True, exist_ok=True)
    if spec.inputs:
        (outgoing / "inputs.json").write_text(json.dumps(input_list(spec, context.lease), indent=1), encoding="utf-8")
        shutil.copyfile(INPUTS_PATH, outgoing / INPUTS_PATH.name)
    trace = _trace_of(context)
    if trace:
        (outgoing / TRACE_FILE).write_text(json.dumps(trace), encoding="utf-8")
        unbuilt = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TRACING_PATH, outgoing / TRACING_PATH.name, ignore=unbuilt, dirs_exist_ok=True)
    (outgoing / "job.json").write_text(json.dumps(_jobfile(context, source), indent=1), encoding="utf-8")
    machine.push(outgoing, context.key, context.upload())
    return of_the_user


def _trace_of(context: Context) -> Any:
    """What the tracer is to be asked before the run; None where the variant wants no preflight."""
    return json.loads(context.job.options).get("traces", {}).get(context.variant.name)


def _jobfile(context: Context, source: Path) -> dict[str, Any]:
    lease, variant = context.lease, context.variant
    return build_jobfile(
        context.spec, variant, context.attempt, lease, _base_env(context.job, lease), setup_of(variant, source, lease),
        until=context.tenure.until, linger=context.tools.setting("attempt.linger"), preflight=bool(_trace_of(context)),
        keep_every=context.tools.setting("attempt.keep_every"),
    )  # fmt: skip


def _base_env(job: Job, lease: Lease) -> dict[str, str] | None:
    """This machine's environment for a job that runs here; elsewhere None: the machine's own."""
    if not lease.details.get("own_machine"):
        return None
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
