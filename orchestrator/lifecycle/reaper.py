"""Nothing rented is lost sight of: what is recorded against what the providers list, both ways."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlmodel import col, select

from backends.base import Backend, BackendError, Lease, NotYetGone
from orchestrator.clock import stamp
from orchestrator.home import Home
from orchestrator.lifecycle.locks import is_held
from orchestrator.lifecycle.registry import backend_names
from orchestrator.lifecycle.tools import Tools
from orchestrator.records.attempts import backends_used, known_keys, lease_is_gone, leases_not_gone
from orchestrator.records.states import AttemptState, JobState
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job, LeaseRow

STRAY_SECONDS = 3600.0
"""What no job owns is left alone for so long: its submission may be under way."""


class Finding(StrEnum):
    """What is wrong with a lease."""

    ORPHAN = "orphan"
    """It exists at the provider, but no attempt that is under way owns it."""
    GHOST = "ghost"
    """It is recorded as rented for an attempt that has ended, but the provider does not have it."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One difference between the records and a provider."""

    finding: Finding
    backend: str
    key: str
    lease: Lease | None
    text: str
    ours: bool = True
    """Whether it can only be of this home: its key is in this journal, or it is this machine's."""


def discrepancies(tools: Tools, names: Iterable[str] = ()) -> tuple[list[Discrepancy], dict[str, str]]:
    """Every difference, over the named backends (all, if none is named); and why which of them could not be asked.

    One without a key, without its package or out of reach says nothing of the others.
    """
    found: list[Discrepancy] = []
    unasked = {}
    for name in list(names) or backend_names():
        try:
            found += _compare(tools.home, tools.store, tools.backends.get(name))
        except BackendError as error:
            unasked[name] = str(error)
    return found, unasked


def reap(tools: Tools) -> Iterator[str]:
    """Mend by ourselves what is wrong at the backends that this journal has rented from; what was done, in words.

    A machine that this journal knows nothing of may be another computer's that shares the account: it is told of, and
    given back only by `gpujob reap --yes`.
    """
    found, unasked = discrepancies(tools, sorted(backends_used(tools.store) | {"local"}))
    yield from (f"{name} could not be asked: {why}" for name, why in unasked.items())
    for each in found:
        try:
            yield f"{each.text}: {mend(tools, each) if each.ours else 'left alone'}"
        except BackendError as error:
            yield f"{each.text}: {error}"


def mend(tools: Tools, found: Discrepancy) -> str:
    """Give back what nobody owns, close the record of what is gone; what was done, in words."""
    if found.lease is not None:
        try:
            tools.backends.get(found.backend).delete(found.lease)
        except NotYetGone:
            return "being deleted"
    lease_is_gone(tools.store, found.key, stamp(tools.clock.now()))
    return "given back" if found.lease else "record closed"


def _compare(home: Home, store: Store, backend: Backend) -> Iterable[Discrepancy]:
    """Differences of one backend. A tiny run belongs to whoever watches it, as long as that program lives.

    Owners are asked for last: whatever was listed had its owner recorded before.
    """
    owned = {lease.key: lease for lease in backend.owned()}
    recorded = leases_not_gone(store)
    owners = _open_keys(store)
    known = known_keys(store, owned)
    for key, lease in sorted(owned.items()):
        if key not in owners and not is_held(home.tiny_lock(key)):
            text = f"{backend.name} {lease.id} ({key}) is rented, but no attempt that is under way owns it"
            ours = key in known or bool(lease.details.get("own_machine"))
            text += "" if ours else "; this journal does not know it: another computer of yours may be using it"
            yield Discrepancy(Finding.ORPHAN, backend.name, key, lease, text, ours)
    for row in recorded:
        if row.backend == backend.name and row.key not in owners and row.key not in owned:
            text = f"{backend.name} {row.lease_id or '(unnamed)'} ({row.key}) is recorded as rented, but does not exist"
            yield Discrepancy(Finding.GHOST, backend.name, row.key, None, text)


def _open_keys(store: Store) -> frozenset[str]:
    """Keys of attempts that are under way. One whose job has ended still owns this machine's folder, where results
    may wait for `resume`, but nothing that is rented.
    """
    query = (
        select(Attempt.key, Job.state, LeaseRow.details)
        .join(Job, col(Job.id) == col(Attempt.job_id))
        .join(LeaseRow, col(LeaseRow.key) == col(Attempt.key))
        .where(col(Attempt.state) == AttemptState.OPEN)
    )
    with store.read() as session:
        rows = session.exec(query).all()
    return frozenset(
        key for key, state, details in rows if not JobState(state).final or json.loads(details).get("own_machine")
    )


def forget_strays(tools: Tools) -> None:
    """Remove what a `submit` that was killed half-way left, and secrets that no job waits for any more."""
    oldest = time.time() - STRAY_SECONDS
    for path in (*tools.home.jobs.iterdir(), *tools.home.secrets.iterdir()):
        with suppress(FileNotFoundError):  # gone since it was listed: its job has ended
            if path.stat().st_mtime < oldest and _is_stray(tools.store, path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_stray(store: Store, path: Path) -> bool:
    """Whether no job owns it: a folder of a job never recorded, or secrets of one that is not, or no more, to run."""
    with store.read() as session:
        job = session.get(Job, path.name.removesuffix(".json"))
        if job is None or path.is_dir():
            return job is None
        open_attempts = select(Attempt.id).where(Attempt.job_id == job.id, Attempt.state == AttemptState.OPEN)
        return JobState(job.state).final and session.exec(open_attempts).first() is None
