"""How long a machine has been held, how long it may be held, and what that costs: one lease's time and money."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backends.base import Lease
from backends.billing import Price
from orchestrator.clock import Clock
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.records.tables import Attempt

WIND_DOWN_SECONDS = 60.0
"""Kept of a paid lease for ending the program, fetching what it left, and giving the machine back."""

LAST_SECONDS = 20.0
"""Kept of a rented lease for its end: nothing else begins or goes on by then, but fetching what a run has left."""

GIVING_BACK_SECONDS = 8.0
"""Kept for giving the machine back: fetching may take all but these."""


@dataclass(frozen=True, slots=True)
class Until:
    """How long a rented machine may still be held: in seconds, and as an hour. ``wind_down`` is kept of it at the end
    for what follows the run.
    """

    seconds: float
    ends_at: datetime
    wind_down: float


def price_of_attempt(attempt: Attempt, lease: Lease | None) -> Price:
    """What the attempt was planned with, at the rate that the provider really takes where its lease says one."""
    kept = json.loads(attempt.price)
    price = Price.from_json(kept) if kept else Price(attempt.micros_per_hour)
    rate = lease.details.get("micros_per_hour") if lease else None
    return price if rate is None else replace(price, micros_per_hour=int(rate))


class Tenure:
    """One lease's time. ``ends_at`` is when a rented machine's reservation is used up.

    This machine counts by its own clock, which no one can set; a rented one by the hour that it was told at its birth,
    so that a worker that was dead or asleep knows at once where it stands.
    """

    def __init__(
        self, backend: PatientBackend, clock: Clock, attempt: Attempt, lease: Lease, ends_at: datetime | None
    ) -> None:
        self._metered = backend.metered
        self._clock = clock
        self._lease = lease
        self.price = price_of_attempt(attempt, lease)
        self.own_machine = bool(lease.details.get("own_machine"))
        self.allowed_seconds = self._allowed(attempt)
        shortened = attempt.allowed_seconds - self.allowed_seconds
        self.ends_at = None if self.own_machine or ends_at is None else ends_at - timedelta(seconds=shortened)

    def _allowed(self, attempt: Attempt) -> float:
        """Less than planned where the machine costs more than planned: what is reserved is what may be spent."""
        if "micros_per_hour" not in self._lease.details or self.price.free:
            return attempt.allowed_seconds
        return min(attempt.allowed_seconds, self.price.seconds_for(attempt.reserved_micros))

    @property
    def held_seconds(self) -> float:
        """By the backend's own clock where it has one; else wall time, which the reservation bounds."""
        measured = self._metered.held_seconds(self._lease) if self._metered else None
        if measured is not None:
            return measured
        wall = (self._clock.now() - self._lease.created_at).total_seconds()
        return min(max(wall, 0.0), self.allowed_seconds)

    @property
    def billed_seconds(self) -> float:
        """What the lease took. This machine costs only while the runner may run: not while files wait on it."""
        return min(self.held_seconds, self.allowed_seconds) if self.own_machine else self.held_seconds

    @property
    def seconds_left(self) -> float:
        """Until the reservation is used up; negative after that."""
        if self.ends_at is None:
            return self.allowed_seconds - self.held_seconds
        return (self.ends_at - self._clock.now()).total_seconds()

    @property
    def wind_down_seconds(self) -> float:
        """What is kept for everything after the run: at most half of the time there is."""
        return min(WIND_DOWN_SECONDS, self.allowed_seconds / 2)

    @property
    def until(self) -> Until | None:
        """What a rented machine is told; None for this one."""
        if self.own_machine:
            return None
        ends_at = self.ends_at or self._clock.now() + timedelta(seconds=self.seconds_left)
        return Until(max(0.0, self.seconds_left), ends_at, self.wind_down_seconds)

    @property
    def run_is_over(self) -> bool:
        """Whether the run must end now, so that everything after it is still within the reservation."""
        return self.seconds_left < (0.0 if self.own_machine else self.wind_down_seconds)

    @property
    def is_over(self) -> bool:
        """Whether a rented machine must be given back now. This machine may go on: waiting costs nothing here."""
        return not self.own_machine and self.seconds_left < min(LAST_SECONDS, self.wind_down_seconds / 3)

    @property
    def fetch_is_over(self) -> bool:
        """Whether what is not at home by now is lost with a rented machine."""
        return not self.own_machine and self.seconds_left < self.giving_back_seconds

    @property
    def giving_back_seconds(self) -> float:
        """What giving the machine back takes."""
        return min(GIVING_BACK_SECONDS, self.wind_down_seconds / 6)
