"""Single calls: passing trouble is waited out, everything else goes straight through."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends.base import Lease, LeaseRequest, NoCapacity, Offer, Transient
from backends.local import LocalBackend
from orchestrator.lifecycle.patience import CALL_TRIES, LONGEST_ASKED_WAIT, LONGEST_WAIT, PatientBackend

OFFER = Offer("local", "cpu", 8 * 10**9, 10**9, 2, 0, shared=True)


class Stumbling(LocalBackend):
    """The local backend behind a bad line: each call fails as often as ``faults`` says."""

    def __init__(self, root: Path, faults: Iterator[Exception | None]) -> None:
        super().__init__(root)
        self._faults = faults
        self.calls = 0

    def create(self, request: LeaseRequest) -> Lease:
        self.calls += 1
        if fault := next(self._faults, None):
            raise fault
        return super().create(request)


def patient(tmp_path: Path, *faults: Exception) -> tuple[Stumbling, PatientBackend, list[float]]:
    inner = Stumbling(tmp_path, iter(faults))
    waits: list[float] = []
    return inner, PatientBackend(inner, waits.append), waits


def test_passing_trouble_is_waited_out(tmp_path):
    inner, backend, waits = patient(tmp_path, Transient("503"), Transient("503"))
    assert backend.create(LeaseRequest("k", OFFER)).key == "k"
    assert inner.calls == 3
    assert len(waits) == 2
    assert all(wait > 0 for wait in waits)


def test_trouble_that_stays_is_given_up_with_its_own_word(tmp_path):
    inner, backend, waits = patient(tmp_path, *(Transient(f"fault {n}") for n in range(10)))
    with pytest.raises(Transient, match=f"fault {CALL_TRIES - 1}"):
        backend.create(LeaseRequest("k", OFFER))
    assert (inner.calls, len(waits)) == (CALL_TRIES, CALL_TRIES - 1)


def test_a_refusal_is_not_asked_again(tmp_path):
    inner, backend, waits = patient(tmp_path, NoCapacity("none left"))
    with pytest.raises(NoCapacity):
        backend.create(LeaseRequest("k", OFFER))
    assert (inner.calls, waits) == (1, [])


def test_the_power_to_measure_is_passed_through(tmp_path):
    _, backend, _ = patient(tmp_path)
    lease = backend.create(LeaseRequest("k", OFFER))
    assert backend.metered is not None
    assert backend.metered.held_seconds(lease) >= 0
    gone = Lease("other", "local", "other", datetime(2026, 11, 21, tzinfo=UTC))
    assert backend.metered.held_seconds(gone) is None


def test_a_provider_that_says_how_long_to_wait_is_believed_within_reason(tmp_path):
    _, backend, waits = patient(
        tmp_path, Transient("429", retry_after=7.0), Transient("429", retry_after=3600.0), Transient("503")
    )
    backend.create(LeaseRequest("k", OFFER))
    assert 7.0 <= waits[0] <= 7.0 + LONGEST_WAIT
    assert LONGEST_ASKED_WAIT <= waits[1] <= LONGEST_ASKED_WAIT + LONGEST_WAIT
    assert waits[2] <= LONGEST_WAIT
