"""A job's life in the journal: every change is one fenced transaction with the event that tells of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from orchestrator.records.errors import StaleRecord
from orchestrator.records.states import FINAL_JOB_STATES, JOB_MOVES, AttemptState, JobState
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Event, Job


def add_job(store: Store, job: Job, text: str, told: Sequence[tuple[str, str, Mapping[str, Any]]] = ()) -> None:
    """Record a new job, queued; with what is ``told`` of it before it begins: kind, text and numbers of each event."""
    with store.write() as session:
        session.add(job)
        session.flush()
        for kind, words, data in told:
            add_event(session, job.id, job.created_at, kind, words, data)
        add_event(session, job.id, job.created_at, "submitted", text)


def get_job(store: Store, job_id: str) -> Job:
    """The job as it stands."""
    with store.read() as session:
        return session.exec(select(Job).where(Job.id == job_id)).one()


def unfinished_jobs(store: Store, limit: int) -> list[str]:
    """Ids of jobs that need a worker, oldest first."""
    waiting = (JobState.QUEUED, JobState.RUNNING)
    with store.read() as session:
        query = select(Job.id).where(col(Job.state).in_(waiting)).order_by(col(Job.created_at), col(Job.id))
        return list(session.exec(query.limit(limit)))


def start_job(store: Store, job_id: str, at: str) -> None:
    """Queued or already running becomes running: a worker has taken it up."""
    with store.write() as session:
        job = session.exec(select(Job).where(Job.id == job_id)).one()
        move_job(session, job_id, JobState.RUNNING, started_at=job.started_at or at)


def request_cancel(store: Store, job_id: str, at: str) -> bool:
    """Ask for the job's end. True if it had not ended yet; asking twice is harmless."""
    with store.write() as session:
        unfinished = update(Job).where(col(Job.id) == job_id, col(Job.state).not_in(FINAL_JOB_STATES))
        asked = session.exec(unfinished.where(col(Job.cancel_requested).is_(False)).values(cancel_requested=True))
        if cast("CursorResult[Any]", asked).rowcount:
            add_event(session, job_id, at, "cancel", "cancel requested")
        job = session.exec(select(Job).where(Job.id == job_id)).one()
        return job.state not in FINAL_JOB_STATES


def requeue(store: Store, job_id: str, attempts_before: int, at: str) -> None:
    """The user asked to go on with a job that failed or was cancelled; earlier attempts no longer decide its end."""
    with store.write() as session:
        job = session.exec(select(Job).where(Job.id == job_id)).one()
        options = json.dumps({**json.loads(job.options), "attempts_before": attempts_before})
        fresh = {"outcome": None, "summary": "", "ended_at": None, "cancel_requested": False, "options": options}
        move_job(session, job_id, JobState.QUEUED, **fresh)
        add_event(session, job_id, at, "resumed", "resumed by the user")


def save_plan(store: Store, job_id: str, plan: Mapping[str, Any]) -> None:
    """Keep the newest plan with the job."""
    with store.write() as session:
        session.exec(update(Job).where(col(Job.id) == job_id).values(plan=json.dumps(plan)))


def finish_job(store: Store, job_id: str, state: JobState, outcome: str, summary: str, at: str) -> None:
    """The job is over."""
    with store.write() as session:
        move_job(session, job_id, state, outcome=outcome, summary=summary, ended_at=at)
        add_event(session, job_id, at, "finished", summary, {"state": state.value, "outcome": outcome})


def open_attempt_of(store: Store, job_id: str) -> Attempt | None:
    """The attempt that is under way, if one is."""
    with store.read() as session:
        query = select(Attempt).where(Attempt.job_id == job_id, Attempt.state == AttemptState.OPEN)
        return session.exec(query).one_or_none()


def attempts_of(store: Store, job_id: str) -> list[Attempt]:
    """All attempts, oldest first."""
    with store.read() as session:
        return list(session.exec(select(Attempt).where(Attempt.job_id == job_id).order_by(col(Attempt.number))))


def note(store: Store, job_id: str, at: str, kind: str, text: str, data: Mapping[str, Any] | None = None) -> None:
    """Tell whoever follows the job."""
    with store.write() as session:
        add_event(session, job_id, at, kind, text, data)


def add_event(
    session: Session, job_id: str, at: str, kind: str, text: str, data: Mapping[str, Any] | None = None
) -> None:
    """An event within a transaction that changes what it tells of."""
    session.add(Event(job_id=job_id, at=at, kind=kind, text=text, data=json.dumps(data or {})))


def move_job(session: Session, job_id: str, to: JobState, **values: Any) -> None:
    """The fenced change of state. Raises StaleRecord if the job is not in a state that ``to`` is entered from."""
    fenced = update(Job).where(col(Job.id) == job_id, col(Job.state).in_(JOB_MOVES[to])).values(state=to, **values)
    if cast("CursorResult[Any]", session.exec(fenced)).rowcount != 1:
        raise StaleRecord(f"job {job_id} could not become {to}: it has moved on")
