"""Machines that were lately paid for and never became reachable: they are not tried again soon."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backends.units import format_duration
from orchestrator.clock import moment, stamp
from orchestrator.config import Config
from orchestrator.planning.knowledge import Avoided
from orchestrator.records.attempts import unreachable_leases
from orchestrator.records.store import Store


@dataclass(frozen=True, slots=True)
class Unreachable:
    """One such machine: what was rented, and the data centre or zone where it was, if its provider said."""

    backend: str
    offer: str
    place: str | None
    seconds_ago: float


def recently_unreachable(store: Store, config: Config, now: datetime) -> list[Unreachable]:
    """Those of the time that the setting ``attempt.avoid`` says, of all jobs; newest first."""
    since = stamp(now - timedelta(seconds=config.get("attempt.avoid")))
    return [
        Unreachable(
            attempt.backend,
            attempt.offer,
            json.loads(lease.details).get("place"),
            (now - moment(attempt.ended_at or since)).total_seconds(),
        )
        for attempt, lease in unreachable_leases(store, since)
    ]


def places_to_avoid(seen: Iterable[Unreachable], backend: str) -> frozenset[str]:
    """The places of ``backend`` among them."""
    return frozenset(each.place for each in seen if each.backend == backend and each.place)


def offers_to_avoid(seen: Iterable[Unreachable]) -> tuple[Avoided, ...]:
    """The same as knowledge for a plan."""
    return tuple(
        Avoided(
            each.backend,
            each.offer,
            f"it was paid for and never became reachable {format_duration(max(60.0, each.seconds_ago))} ago"
            + (f" in {each.place}" if each.place else ""),
        )
        for each in seen
    )
