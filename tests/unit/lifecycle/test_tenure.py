"""How long a lease may be held, by which clock, and at what price."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backends.base import Billing, Fate, Gone, Lease
from backends.billing import Price
from backends.local import LocalBackend
from orchestrator.lifecycle.avoiding import Unreachable, offers_to_avoid, places_to_avoid
from orchestrator.lifecycle.endings import StepFailed, over, verdict_of_failure
from orchestrator.lifecycle.outcome import Outcome
from orchestrator.lifecycle.patience import PatientBackend
from orchestrator.lifecycle.tenure import Tenure, price_of_attempt
from orchestrator.records.tables import Attempt

BORN = datetime(2026, 11, 28, 12, tzinfo=UTC)
PRICE = Price(3_600_000, Billing(disk_micros_per_gb_month=73_000_000), disk_bytes=36 * 10**9)


class Standing:
    """A clock that the test sets."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return BORN + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def attempt(allowed: float = 600.0, price: Price | None = PRICE) -> Attempt:
    return Attempt(
        job_id="j", number=1, key="j-a1", rank=1, backend="rented", offer="small", variant="v",
        micros_per_hour=PRICE.micros_per_hour, allowed_seconds=allowed, reserved_micros=PRICE.micros(allowed),
        price=json.dumps(price.to_json()) if price else "{}", started_at="",
    )  # fmt: skip


@pytest.fixture
def unmetered(tmp_path: Path) -> PatientBackend:
    """A backend that knows nothing of the lease, and so has no clock for it."""
    return PatientBackend(LocalBackend(tmp_path), lambda _: None)


def tenure(backend: PatientBackend, clock: Standing, **details: object) -> Tenure:
    lease = Lease("j-a1", "rented", "m-1", BORN, details)
    return Tenure(backend, clock, attempt(), lease, BORN + timedelta(seconds=600))


def test_the_hour_of_the_end_counts_and_not_the_birth(unmetered: PatientBackend) -> None:
    held = tenure(unmetered, Standing(530.0))
    assert held.seconds_left == 70
    assert not held.run_is_over
    late = tenure(unmetered, Standing(545.0))
    assert (late.run_is_over, late.is_over) == (True, False)
    over = tenure(unmetered, Standing(585.0))
    assert (over.is_over, over.fetch_is_over) == (True, False), "what the run has left may still come home"
    assert tenure(unmetered, Standing(595.0)).fetch_is_over
    assert not tenure(unmetered, Standing(10**6), own_machine=True).fetch_is_over
    assert tenure(unmetered, Standing(10**6)).seconds_left < 0


def test_a_dearer_machine_is_held_for_less_and_a_cheaper_one_not_for_more(unmetered: PatientBackend) -> None:
    dear = tenure(unmetered, Standing(), micros_per_hour=2 * PRICE.micros_per_hour)
    assert dear.price.micros(dear.allowed_seconds) <= attempt().reserved_micros
    assert dear.price.micros(dear.allowed_seconds + 1) > attempt().reserved_micros
    assert dear.seconds_left == pytest.approx(dear.allowed_seconds)
    cheap = tenure(unmetered, Standing(), micros_per_hour=1)
    assert cheap.allowed_seconds == 600
    assert cheap.price.micros(600) < attempt().reserved_micros


def test_what_a_rented_machine_is_told(unmetered: PatientBackend) -> None:
    until = tenure(unmetered, Standing(100.0)).until
    assert until is not None
    assert (until.seconds, until.ends_at, until.wind_down) == (500, BORN + timedelta(seconds=600), 60)
    assert tenure(unmetered, Standing(), own_machine=True).until is None


def test_wall_time_is_bounded_by_the_reservation(unmetered: PatientBackend) -> None:
    assert tenure(unmetered, Standing(-5.0)).held_seconds == 0
    assert tenure(unmetered, Standing(99.0)).billed_seconds == 99
    assert tenure(unmetered, Standing(10**6)).billed_seconds == 600


def test_an_attempt_of_an_older_program_is_charged_by_its_rate() -> None:
    assert price_of_attempt(attempt(price=None), None) == Price(PRICE.micros_per_hour)
    assert price_of_attempt(attempt(), None) == PRICE


def seen(*offers: tuple[str, str | None]) -> Iterable[Unreachable]:
    return [Unreachable("rented", offer, place, 2400.0) for offer, place in offers]


def test_an_offer_gets_one_more_try_elsewhere_if_its_place_is_known() -> None:
    assert offers_to_avoid(seen(("A40", "EU-1"))) == ()
    assert places_to_avoid(seen(("A40", "EU-1"), ("L4", None)), "rented") == {"EU-1"}
    assert places_to_avoid(seen(("A40", "EU-1")), "other") == frozenset()
    (unknown,) = offers_to_avoid(seen(("A40", None)))
    assert unknown.why == "it was paid for and never became usable 40 min ago"
    (twice,) = offers_to_avoid(seen(("A40", "EU-1"), ("A40", "EU-2")))
    assert twice.why == "it was paid for and never became usable 40 min ago in EU-1, 40 min ago in EU-2"


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("NeverReachable", Outcome.UNREACHABLE), ("TakenBack", Outcome.PREEMPTED), ("MachineGone", Outcome.LOST),
        ("TimeUp", Outcome.DEADLINE), ("Lost", Outcome.LOST), ("NoCapacity", Outcome.NO_CAPACITY),
        ("Cancelled", Outcome.CANCELLED), ("Rejected", Outcome.FAILED),
    ],
)  # fmt: skip
def test_what_a_failed_step_means(kind: str, outcome: Outcome) -> None:
    verdict = verdict_of_failure(StepFailed("upload", kind, "the words", "the advice"))
    assert verdict.outcome is outcome
    assert "the words" in verdict.summary


def test_a_machine_that_is_over_was_taken_back_or_is_gone() -> None:
    assert type(over(Gone("it is", Fate.PREEMPTED))).__name__ == "TakenBack"
    assert {type(over(Gone("it is", fate))).__name__ for fate in (Fate.ENDED, Fate.GONE)} == {"MachineGone"}
