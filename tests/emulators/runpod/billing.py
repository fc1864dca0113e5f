"""What each pod costs, metered by the emulator itself: per second, compute and disk, by calendar buckets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

MONTH_SECONDS = 30 * 24 * 3600
CONTAINER_DISK_USD = 0.10
VOLUME_USD = 0.10
VOLUME_STOPPED_USD = 0.20
"""Per GB and month."""


@dataclass(frozen=True)
class Rates:
    """USD per second."""

    gpu: float = 0.0
    cpu: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class Amounts:
    """USD."""

    gpu: float = 0.0
    cpu: float = 0.0
    disk: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.gpu + self.cpu + self.disk

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.gpu + other.gpu, self.cpu + other.cpu, self.disk + other.disk)

    def document(self) -> dict[str, float]:
        """As the contract writes it."""
        return {"totalAmount": self.total, "gpuAmount": self.gpu, "cpuAmount": self.cpu, "diskAmount": self.disk}


@dataclass(frozen=True)
class Span:
    """A time at constant rates; ``end`` None while it lasts."""

    start: float
    rates: Rates
    end: float | None = None

    def amounts(self, start: float, end: float, now: float) -> Amounts:
        """What of it falls into a window."""
        seconds = max(0.0, min(end, now if self.end is None else self.end) - max(start, self.start))
        return Amounts(self.rates.gpu * seconds, self.rates.cpu * seconds, self.rates.disk * seconds)


class Meter:
    """One pod's bill."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def switch(self, rates: Rates, now: float) -> None:
        """Other rates from now on."""
        if self.spans and self.spans[-1].end is None:
            self.spans[-1] = replace(self.spans[-1], end=now)
        if rates != Rates():
            self.spans.append(Span(now, rates))

    def amounts(self, now: float, start: float = float("-inf"), end: float = float("inf")) -> Amounts:
        """USD until now, or in a window."""
        return sum((span.amounts(start, end, now) for span in self.spans), Amounts())

    def seconds(self, now: float) -> float:
        """How long it has been billed for compute."""
        billed = [span for span in self.spans if span.rates.gpu or span.rates.cpu]
        return sum((now if span.end is None else span.end) - span.start for span in billed)


def disk_rate(container_gb: int, volume_gb: int, *, stopped: bool) -> float:
    """USD per second. A stopped pod pays double for its volume, and nothing for its wiped container disk."""
    monthly = volume_gb * VOLUME_STOPPED_USD if stopped else container_gb * CONTAINER_DISK_USD + volume_gb * VOLUME_USD
    return monthly / MONTH_SECONDS


def bucket_start(moment: float, size: str) -> datetime:
    """The start of the hour, day, week, month or year (UTC) that ``moment`` lies in."""
    at = datetime.fromtimestamp(moment, UTC).replace(minute=0, second=0, microsecond=0)
    if size == "hour":
        return at
    day = at.replace(hour=0)
    if size == "week":
        return day - timedelta(days=day.weekday())
    return {"day": day, "month": day.replace(day=1), "year": day.replace(month=1, day=1)}[size]


def bucket_end(start: datetime, size: str) -> datetime:
    """The start of the bucket after the one that begins at ``start``."""
    if size == "month":
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    if size == "year":
        return start.replace(year=start.year + 1)
    return start + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}[size]


def buckets(start: float, end: float, size: str) -> list[tuple[float, float]]:
    """The buckets that a window touches."""
    found = []
    at = bucket_start(start, size)
    while at.timestamp() < end:
        after = bucket_end(at, size)
        found.append((at.timestamp(), after.timestamp()))
        at = after
    return found
