"""``gpujob resume``: jobs that go on, and the files they go on with."""

from __future__ import annotations

import filecmp
import json
import os
from contextlib import suppress
from pathlib import Path

from orchestrator.cli.running import watch
from orchestrator.cli.screen import counted, say, warned, wrapped
from orchestrator.cli.submitting import say_submitted
from orchestrator.clock import SystemClock, stamp
from orchestrator.home import Home
from orchestrator.lifecycle.journal import Journal
from orchestrator.lifecycle.selecting import files_to_send
from orchestrator.lifecycle.vault import Vault
from orchestrator.lifecycle.waking import ensure_worker
from orchestrator.records.errors import StaleRecord
from orchestrator.records.jobs import attempts_of, get_job, open_attempt_of, requeue
from orchestrator.records.reading import Reader
from orchestrator.records.states import JobState
from orchestrator.records.store import Store
from orchestrator.redaction import Redactor
from orchestrator.spec.model import JobSpec
from orchestrator.spec.problems import SpecError

MOST_NAMED = 3
"""Changed files that are named; more are counted."""


def resume_job(home: Home, job: str, *, detach: bool) -> int:
    """Go on with one job, also one that failed or was cancelled."""
    store = Store(home.journal)
    row = get_job(store, job)
    state, seen = JobState(row.state), 0
    if state is JobState.SUCCEEDED:
        say(f"{job} has succeeded already. `gpujob results {job} .` copies its results.")
        return 0
    spec = JobSpec.from_json(json.loads(row.spec))
    Vault(home).keep(job, spec.secrets, {**Vault(home).kept(job), **_given(spec.secrets)})
    if state.final:
        _say_what_changed(changed_files(home, spec, home.source(job)), spec)
        seen = Reader(home.journal).events(job)[-1]["id"]
        with suppress(StaleRecord):  # somebody else has just resumed it: then there is only to watch
            _reopen(store, job)
    ensure_worker(home)
    if detach:
        say_submitted(job, as_json=False)
        return 0
    return watch(home, store, job, after=seen)


def resume_all(home: Home, reader: Reader) -> int:
    """Make sure that a worker carries every unfinished job."""
    count = reader.unfinished()
    if not count:
        say("No unfinished jobs.")
        return 0
    ensure_worker(home)
    say(f"{counted(count, 'unfinished job')}; a worker carries {'them' if count > 1 else 'it'}.")
    return 0


def changed_files(home: Home, spec: JobSpec, source: Path) -> list[str]:
    """Names of the files that were changed, added or removed in workdir since they were copied to ``source``."""
    try:
        now = {str(file.path) for file in files_to_send(spec, home)}
    except (SpecError, OSError):  # the folder is gone, or holds what could not be uploaded: nothing to compare
        return []
    then = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    _, differing, unreadable = filecmp.cmpfiles(spec.workdir, source, now & then, shallow=False)
    return sorted({*(now ^ then), *differing, *unreadable})


def _say_what_changed(names: list[str], spec: JobSpec) -> None:
    if not names:
        return
    named = ", ".join(names[:MOST_NAMED])
    spec_file = os.path.relpath(spec.spec_path) if spec.spec_path else "SPEC"
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    text = (
        f"It goes on with the files and the spec as they were submitted. Changed since: {named}{more}. "
        f"To run what is there now: gpujob submit {spec_file} --budget USD"
    )
    say(f"{warned('!')} {wrapped(text, 2).lstrip()}")


def _reopen(store: Store, job: str) -> None:
    """Queue the job again; attempts made so far no longer decide how it ends, but what they taught stays."""
    if attempt := open_attempt_of(store, job):
        Journal(store, SystemClock(), Redactor()).reopen(attempt.id or 0)
    ended = sum(1 for attempt in attempts_of(store, job) if attempt.state == "ended")
    requeue(store, job, ended, stamp(SystemClock().now()))


def _given(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}
