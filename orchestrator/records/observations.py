"""What attempts have taught, here and elsewhere: recorded, and forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sqlalchemy import CursorResult, delete
from sqlmodel import col, select

from orchestrator.records.store import Store
from orchestrator.records.tables import Observation


def add_observations(store: Store, observations: Iterable[Observation]) -> int:
    """Record those that are not known yet, all or nothing; how many that were."""
    with store.write() as session:
        known = set(session.exec(select(Observation.content_id)))
        fresh = {each.content_id: each for each in observations if each.content_id not in known}
        session.add_all(fresh.values())
        return len(fresh)


def forget_observations(store: Store, name: str | None) -> int:
    """Drop what was learned, of jobs with that name or of all; how many observations that were."""
    query = delete(Observation) if name is None else delete(Observation).where(col(Observation.name) == name)
    with store.write() as session:
        return int(cast("CursorResult[Any]", session.exec(query)).rowcount)
