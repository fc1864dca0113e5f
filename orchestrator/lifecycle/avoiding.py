"""Machines that were lately paid for and never became usable: they are not tried again soon."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from backends.units import format_duration
from orchestrator.clock import moment, stamp
from orchestrator.planning.knowledge import TRIES, Avoided
from orchestrator.records.reading import Reader


@dataclass(frozen=True, slots=True)
class Unreachable:
    """One such machine: what was rented, and the data centre or zone where it was, if its provider said."""

    backend: str
    offer: str
    place: str | None
    seconds_ago: float


def recently_unreachable(reader: Reader, seconds: float, now: datetime) -> list[Unreachable]:
    """Those of all jobs in the last ``seconds``, newest first; the setting ``attempt.avoid`` says how many that are."""
    return [
        Unreachable(
            row["backend"],
            row["offer"],
            row["details"].get("place"),
            (now - moment(row["ended_at"])).total_seconds(),
        )
        for row in reader.unreachable(stamp(now - timedelta(seconds=seconds)))
    ]


def places_to_avoid(seen: Iterable[Unreachable], backend: str) -> frozenset[str]:
    """The places of ``backend`` among them."""
    return frozenset(each.place for each in seen if each.backend == backend and each.place)


def offers_to_avoid(seen: Iterable[Unreachable]) -> tuple[Avoided, ...]:
    """Offers that are not worth money for now. One that failed in a known place gets one more try, in another."""
    groups: dict[tuple[str, str], list[Unreachable]] = {}
    for each in seen:
        groups.setdefault((each.backend, each.offer), []).append(each)
    return tuple(
        Avoided(backend, offer, _story(machines))
        for (backend, offer), machines in groups.items()
        if len(machines) >= TRIES or not machines[0].place
    )


def _story(machines: list[Unreachable]) -> str:
    """``it was paid for and never became usable 40 min ago in EU-RO-1``, newest first."""
    when = (
        f"{format_duration(max(60.0, each.seconds_ago))} ago" + (f" in {each.place}" if each.place else "")
        for each in machines
    )
    return f"it was paid for and never became usable {', '.join(when)}"
