"""From an agreed plan to a recorded job: secrets kept, files copied, the row written."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil

from backends.units import format_usd
from orchestrator.cli.submitting import Prepared, Wish
from orchestrator.clock import SystemClock, stamp
from orchestrator.home import Home, HomeError
from orchestrator.lifecycle.jobfile import kept_environment
from orchestrator.lifecycle.memory_needs import requests_for_traces
from orchestrator.lifecycle.planning import recordable
from orchestrator.lifecycle.smoking import Smoked
from orchestrator.lifecycle.vault import Vault
from orchestrator.records.jobs import add_job
from orchestrator.records.store import Store
from orchestrator.records.tables import Job
from orchestrator.spec.files import snapshot


def record(home: Home, store: Store, wish: Wish, prepared: Prepared, smoked: Smoked | None = None) -> str:
    """Keep secrets, snapshot the files, record the job; its id. The job exists only once all of it is safe.

    A smoke run that went through is told with it, in the same transaction.
    """
    spec = prepared.spec
    job_id = f"{spec.name}-{_suffix()}"
    options = {
        "backends": list(wish.backends),
        "digest": prepared.digest,
        "environment": kept_environment(os.environ),
        "attempts_before": 0,
        "predicted": recordable(prepared.predicted),
        "traces": requests_for_traces(spec, home.hub),
    }
    job = Job(
        id=job_id,
        name=spec.name,
        budget_micros=wish.budget_micros,
        priority=wish.priority,
        spec=json.dumps(spec.to_json()),
        options=json.dumps(options),
        plan=json.dumps(prepared.plan.to_json()),
        created_at=stamp(SystemClock().now()),
    )
    try:
        Vault(home).keep(job_id, spec.secrets, os.environ)
        snapshot(spec.workdir, prepared.files, home.source(job_id))
        told = [("smoke", smoked.note, smoked.to_json())] if smoked else []
        add_job(store, job, f"submitted with a budget of {format_usd(wish.budget_micros)}", told)
    except BaseException as error:
        Vault(home).forget(job_id)
        shutil.rmtree(home.folder(job_id), ignore_errors=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise HomeError(
                f"No space left in {home.root} for a copy of the job's files. Nothing was submitted. Free some disk "
                "space, exclude files in .gpujobignore, or point GPUJOB_HOME to a bigger disk."
            ) from error
        raise
    return job_id


def _suffix() -> str:
    """Five characters that are easy to read aloud; the journal's primary key settles the rare collision."""
    return "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(5))
