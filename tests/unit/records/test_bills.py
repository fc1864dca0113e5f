"""Providers' own accounts: asked for until they do not change, and given up after a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.records.attempts import open_attempt
from orchestrator.records.bills import bills_to_ask, close_bill, expect_bill, keep_bill
from orchestrator.records.jobs import add_job
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt, Job

AT, LATER, LATEST = (f"2026-11-28T1{hour}:00:00.000000Z" for hour in (0, 1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "journal.sqlite")
    add_job(store, Job(id="j", name="j", budget_micros=9, priority="cost", spec="{}", options="{}", created_at=AT), "")
    attempt = Attempt(
        job_id="j", number=1, key="j-a1", rank=1, backend="rented", offer="small", variant="v", micros_per_hour=0,
        allowed_seconds=1.0, reserved_micros=0, started_at=AT,
    )  # fmt: skip
    expect_bill(store, "j-a1", open_attempt(store, attempt, "", {}), "rented")
    return store


def asked(store: Store, before: str = LATEST) -> list[int | None]:
    return [bill.provider_micros for bill in bills_to_ask(store, before)]


def shows(store: Store, micros: int | None) -> None:
    keep_bill(store, "j-a1", micros, AT, may_be_final=True)


def test_a_bill_is_final_when_it_shows_the_same_twice(store: Store) -> None:
    assert asked(store, AT) == [None], "it was never asked for"
    shows(store, None)
    assert asked(store, AT) == []
    assert asked(store, LATER) == [None]
    for micros in (5, 7):
        shows(store, micros)
        assert asked(store) == [micros]
    shows(store, None)
    assert asked(store) == [7], "what was shown once is not forgotten"
    shows(store, 7)
    assert asked(store) == []


def test_a_bill_that_may_still_grow_is_never_final(store: Store) -> None:
    for _ in range(3):
        keep_bill(store, "j-a1", 7, AT, may_be_final=False)
    assert asked(store) == [7]


def test_expecting_it_twice_changes_nothing(store: Store) -> None:
    shows(store, 5)
    expect_bill(store, "j-a1", 1, "rented")
    assert asked(store) == [5]


def test_a_bill_that_never_shows_is_given_up(store: Store) -> None:
    close_bill(store, "j-a1")
    assert asked(store) == []
