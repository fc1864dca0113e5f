"""The tables. Times are UTC text (sortable), money is integer micro-dollars, structures are readable JSON text."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, CheckConstraint, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from orchestrator.records.states import AttemptState, JobState, LeaseState, StepState, TryState


def _one_of(column: str, states: type[JobState | AttemptState | LeaseState | StepState | TryState]) -> CheckConstraint:
    """An illegal state cannot be stored, whoever writes."""
    allowed = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_known")


class Job(SQLModel, table=True):
    """What a user submitted, and how it stands."""

    __tablename__: ClassVar[str] = "job"
    __table_args__ = (
        _one_of("state", JobState),
        Index("job_by_age", "created_at", "id"),
        Index("job_by_state", "state", "created_at"),
    )

    id: str = Field(primary_key=True)
    name: str
    state: str = JobState.QUEUED
    outcome: str | None = None
    summary: str = ""
    budget_micros: int = Field(sa_type=BigInteger)
    priority: str
    spec: str = Field(sa_type=Text)
    options: str = Field(sa_type=Text)
    plan: str | None = Field(default=None, sa_type=Text)
    cancel_requested: bool = False
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None


class Attempt(SQLModel, table=True):
    """One rung of the ladder, tried: what was reserved for it, what happened, what it cost."""

    __tablename__: ClassVar[str] = "attempt"
    __table_args__ = (_one_of("state", AttemptState), UniqueConstraint("job_id", "number"))

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    number: int
    key: str = Field(unique=True)
    rank: int
    backend: str
    offer: str
    gpu: str | None = None
    variant: str
    state: str = AttemptState.OPEN
    outcome: str | None = None
    summary: str = ""
    evidence: str = Field(default="[]", sa_type=Text)
    exit_code: int | None = None
    signal: int | None = None
    peak_ram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    peak_vram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    ram_cap_bytes: int | None = Field(default=None, sa_type=BigInteger)
    micros_per_hour: int = Field(sa_type=BigInteger)
    allowed_seconds: float
    reserved_micros: int = Field(sa_type=BigInteger)
    cost_micros: int = Field(default=0, sa_type=BigInteger)
    started_at: str
    ended_at: str | None = None
    price: str = Field(default="{}", sa_type=Text)
    """As ``Price.to_json`` gives it; empty in attempts of older programs, which were charged by their rate alone."""


class Step(SQLModel, table=True):
    """One of an attempt's steps; ``result`` is what later steps and a restart read."""

    __tablename__: ClassVar[str] = "step"
    __table_args__ = (_one_of("state", StepState), UniqueConstraint("attempt_id", "name"))

    id: int | None = Field(default=None, primary_key=True)
    attempt_id: int = Field(foreign_key="attempt.id", index=True)
    name: str
    position: int
    state: str = StepState.RUNNING
    result: str | None = Field(default=None, sa_type=Text)


class StepTry(SQLModel, table=True):
    """Every try of every step: when, how long, what error, what was done about it."""

    __tablename__: ClassVar[str] = "step_try"
    __table_args__ = (_one_of("state", TryState), UniqueConstraint("step_id", "number"))

    id: int | None = Field(default=None, primary_key=True)
    step_id: int = Field(foreign_key="step.id", index=True)
    number: int
    state: str = TryState.RUNNING
    started_at: str
    seconds: float | None = None
    error: str | None = None
    action: str | None = None


class LeaseRow(SQLModel, table=True):
    """A machine that is, was or may have been rented, under the attempt's key. ``ends_at`` is when its reservation is
    used up; None where time counts by the machine's own clock alone.
    """

    __tablename__: ClassVar[str] = "lease"
    __table_args__ = (_one_of("state", LeaseState), Index("lease_by_state", "state"))

    key: str = Field(primary_key=True)
    attempt_id: int = Field(foreign_key="attempt.id", index=True)
    backend: str
    lease_id: str | None = None
    state: str = LeaseState.INTENDED
    created_at: str
    deleted_at: str | None = None
    details: str = Field(default="{}", sa_type=Text)
    ends_at: str | None = None


class Charge(SQLModel, table=True):
    """Money spent by an attempt: ``run`` while the user's command ran, ``idle`` for the rest of the lease, or ``waste``
    where the machine was paid for and never became reachable.
    """

    __tablename__: ClassVar[str] = "charge"
    __table_args__ = (UniqueConstraint("attempt_id", "kind"), Index("charge_by_job", "job_id"))

    id: int | None = Field(default=None, primary_key=True)
    attempt_id: int = Field(foreign_key="attempt.id")
    job_id: str = Field(foreign_key="job.id")
    kind: str
    micros: int = Field(sa_type=BigInteger)
    seconds: float
    at: str


class Bill(SQLModel, table=True):
    """The provider's own account of a lease that is over, beside ours. ``provider_micros`` is None until it shows;
    ``final`` says that it will not change any more, so that nobody need ask again.
    """

    __tablename__: ClassVar[str] = "bill"
    __table_args__ = (Index("bill_by_final", "final"),)

    key: str = Field(primary_key=True, foreign_key="lease.key")
    attempt_id: int = Field(foreign_key="attempt.id", index=True, unique=True)
    backend: str
    provider_micros: int | None = Field(default=None, sa_type=BigInteger)
    asked_at: str | None = None
    final: bool = False


class Event(SQLModel, table=True):
    """What a person following the job is told, in plain words, with the numbers as JSON."""

    __tablename__: ClassVar[str] = "event"
    __table_args__ = (Index("event_by_job", "job_id", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="job.id")
    attempt_id: int | None = None
    at: str
    kind: str
    text: str
    data: str = Field(default="{}", sa_type=Text)


class Observation(SQLModel, table=True):
    """What an ended attempt taught, here or at somebody who shared it: ``attempt_id`` is None for the latter.

    ``*_above_bytes``: the run was out of that memory, and needed more than so much. ``predicted_*`` is what the
    formulas said before calibration, ``family`` what they took the job for.
    """

    __tablename__: ClassVar[str] = "observation"
    __table_args__ = (
        UniqueConstraint("attempt_id"),
        UniqueConstraint("content_id"),
        Index("observation_by_job", "name", "variant"),
        Index("observation_by_age", "at", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    attempt_id: int | None = Field(default=None, foreign_key="attempt.id")
    content_id: str = ""
    name: str
    variant: str
    spec_digest: str
    family: str = ""
    backend: str
    offer: str
    gpu: str | None = None
    outcome: str
    peak_ram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    load_ram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    peak_vram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    device_vram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    ram_above_bytes: int | None = Field(default=None, sa_type=BigInteger)
    vram_above_bytes: int | None = Field(default=None, sa_type=BigInteger)
    ram_capacity_bytes: int | None = Field(default=None, sa_type=BigInteger)
    vram_capacity_bytes: int | None = Field(default=None, sa_type=BigInteger)
    vram_usable_bytes: int | None = Field(default=None, sa_type=BigInteger)
    predicted_ram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    predicted_vram_bytes: int | None = Field(default=None, sa_type=BigInteger)
    setup_seconds: float | None = None
    run_seconds: float | None = None
    step_seconds: float | None = None
    versions: str = Field(default="{}", sa_type=Text)
    at: str
