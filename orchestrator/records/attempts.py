"""Attempts, their leases and their money. Reserving and settling are one transaction each."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, case, update
from sqlmodel import Session, col, func, select

from backends.base import Lease
from backends.units import format_usd
from orchestrator.clock import moment, stamp
from orchestrator.records.errors import StaleRecord
from orchestrator.records.jobs import add_event
from orchestrator.records.states import AttemptState, LeaseState
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Charge, Job, LeaseRow, Observation


class OverBudget(Exception):
    """The reservation does not fit in what is left of the budget; nothing was reserved."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Everything that is recorded when an attempt ends. Seconds are of the lease's own clock."""

    outcome: str
    summary: str
    evidence: Sequence[str]
    exit_code: int | None
    signal: int | None
    peak_ram_bytes: int | None
    peak_vram_bytes: int | None
    held_seconds: float
    run_seconds: float
    run_micros: int
    idle_micros: int
    observation: Observation | None
    wasted: bool = False
    """The machine never became reachable: what it cost besides is ``waste`` and not ``idle``."""


def open_attempt(store: Store, attempt: Attempt, text: str, data: Mapping[str, Any]) -> int:
    """Reserve the worst case and write the intent to rent, in one transaction. Raises OverBudget."""
    with store.write() as session:
        job = session.exec(select(Job).where(Job.id == attempt.job_id)).one()
        left = job.budget_micros - _committed_micros(session, attempt.job_id)
        if attempt.reserved_micros > left:
            raise OverBudget(
                f"{format_usd(attempt.reserved_micros)} would be reserved, but only "
                f"{format_usd(max(left, 0))} of {format_usd(job.budget_micros)} is left"
            )
        session.add(attempt)
        session.flush()
        attempt_id = cast("int", attempt.id)
        session.add(
            LeaseRow(key=attempt.key, attempt_id=attempt_id, backend=attempt.backend, created_at=attempt.started_at)
        )
        add_event(session, attempt.job_id, attempt.started_at, "attempt", text, data)
    return attempt_id


def _committed_micros(session: Session, job_id: str) -> int:
    """What ended attempts have cost and what open ones may still cost."""
    committed = case((col(Attempt.state) == AttemptState.OPEN, Attempt.reserved_micros), else_=Attempt.cost_micros)
    return int(session.exec(select(func.coalesce(func.sum(committed), 0)).where(Attempt.job_id == job_id)).one())


def begin_lease(store: Store, key: str, ends_at: str) -> None:
    """Before the provider is called: the moment when the reservation under ``key`` will be used up."""
    with store.write() as session:
        session.exec(
            update(LeaseRow)
            .where(col(LeaseRow.key) == key, col(LeaseRow.state) == LeaseState.INTENDED)
            .values(ends_at=ends_at)
        )


def lease_row(store: Store, key: str) -> LeaseRow:
    """What is recorded of the lease under ``key``."""
    with store.read() as session:
        return session.exec(select(LeaseRow).where(LeaseRow.key == key)).one()


def lease_is_live(store: Store, lease: Lease) -> None:
    """Remember the provider's name for the machine, as soon as it is known."""
    with store.write() as session:
        session.exec(
            update(LeaseRow)
            .where(col(LeaseRow.key) == lease.key, col(LeaseRow.state) != LeaseState.GONE)
            .values(
                state=LeaseState.LIVE,
                lease_id=lease.id,
                created_at=stamp(lease.created_at),
                details=json.dumps(dict(lease.details)),
            )
        )


def recorded_lease(store: Store, key: str) -> Lease | None:
    """The lease under ``key`` as recorded; None before the provider ever answered."""
    row = lease_row(store, key)
    if row.lease_id is None:
        return None
    return Lease(row.key, row.backend, row.lease_id, moment(row.created_at), json.loads(row.details))


def lease_is_gone(store: Store, key: str, at: str) -> None:
    """The provider says that nothing is rented under ``key`` any more."""
    with store.write() as session:
        session.exec(
            update(LeaseRow)
            .where(col(LeaseRow.key) == key, col(LeaseRow.state) != LeaseState.GONE)
            .values(state=LeaseState.GONE, deleted_at=at)
        )


def backends_used(store: Store) -> set[str]:
    """Names of the backends that anything was ever rented from, or is about to be."""
    with store.read() as session:
        return set(session.exec(select(LeaseRow.backend).distinct()))


def known_keys(store: Store, keys: Collection[str]) -> set[str]:
    """Those of ``keys`` under which this journal has rented, or meant to."""
    with store.read() as session:
        return set(session.exec(select(LeaseRow.key).where(col(LeaseRow.key).in_(keys))))


def leases_not_gone(store: Store) -> list[LeaseRow]:
    """Every lease that is recorded as rented or perhaps rented."""
    with store.read() as session:
        return list(
            session.exec(select(LeaseRow).where(col(LeaseRow.state).in_((LeaseState.INTENDED, LeaseState.LIVE))))
        )


def settle(store: Store, attempt: Attempt, ending: Ending, at: str) -> None:
    """The attempt is over: its outcome, evidence, charges and observation, all or nothing."""
    attempt_id = cast("int", attempt.id)
    with store.write() as session:
        fenced = (
            update(Attempt)
            .where(col(Attempt.id) == attempt_id, col(Attempt.state) == AttemptState.OPEN)
            .values(
                state=AttemptState.ENDED,
                outcome=ending.outcome,
                summary=ending.summary,
                evidence=json.dumps(list(ending.evidence)),
                exit_code=ending.exit_code,
                signal=ending.signal,
                peak_ram_bytes=ending.peak_ram_bytes,
                peak_vram_bytes=ending.peak_vram_bytes,
                cost_micros=ending.run_micros + ending.idle_micros,
                ended_at=at,
            )
        )
        if cast("CursorResult[Any]", session.exec(fenced)).rowcount != 1:
            raise StaleRecord(f"attempt {attempt.key} was settled by another worker")
        for kind, micros, seconds in _charges(ending):
            session.add(
                Charge(attempt_id=attempt_id, job_id=attempt.job_id, kind=kind, micros=micros, seconds=seconds, at=at)
            )
        if ending.observation is not None:
            session.add(ending.observation)
        text = f"attempt {attempt.number}: {ending.summary}"
        data = {"outcome": ending.outcome, "evidence": list(ending.evidence), "attempt": attempt.number}
        add_event(session, attempt.job_id, at, "outcome", text, data)


def _charges(ending: Ending) -> list[tuple[str, int, float]]:
    """Kind, micro-dollars, seconds: of each attempt what its run took, and what the rest of its lease took."""
    rest = max(0.0, ending.held_seconds - ending.run_seconds)
    return [
        ("run", ending.run_micros, ending.run_seconds),
        ("waste" if ending.wasted else "idle", ending.idle_micros, rest),
    ]


def spent_micros(store: Store, job_id: str) -> int:
    """What ended attempts of the job have cost."""
    with store.read() as session:
        total = session.exec(
            select(func.coalesce(func.sum(Attempt.cost_micros), 0)).where(Attempt.job_id == job_id)
        ).one()
    return int(total)
