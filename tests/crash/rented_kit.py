"""Homes whose jobs run on rented machines of the tests' own provider, and what must hold of every bill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from crash_kit import Place, eventually, processes_of

from orchestrator.clock import SystemClock, stamp
from orchestrator.lifecycle import registry
from orchestrator.records.attempts import open_attempt
from orchestrator.records.store import Store
from orchestrator.records.tables import Attempt

PROVIDER = Path(__file__).with_name("rented_cloud")


@contextmanager
def provider_installed() -> Iterator[None]:
    """The test's provider is found by its entry point, here and in every process that is started here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROVIDER))
        patch.setenv("PYTHONPATH", str(PROVIDER))
        registry._installed.cache_clear()
        yield
    registry._installed.cache_clear()
    sys.modules.pop("rented_cloud", None)


class Rented(Place):
    """A place whose jobs rent."""

    @property
    def cloud(self) -> Any:
        from rented_cloud import Cloud

        return Cloud(self.home.root / "rented")

    def rent(self, spec: dict[str, Any], files: dict[str, bytes] | None = None, budget: int = 10_000_000) -> str:
        """Submit to the test's provider alone."""
        return self.submit(spec, files, budget, ("rented",))

    def reserve(self, job: str, seconds: float, offer: str = "small", download: int = 0) -> str:
        """Open the job's next attempt by hand, with a time and a traffic of the test's choosing; its key."""
        from rented_cloud import BILLING, FAR, RATE

        from backends.billing import Price

        number = len(self.attempts(job)) + 1
        price = Price(RATE, FAR if offer == "far" else BILLING, egress_bytes=download)
        attempt = Attempt(
            job_id=job, number=number, key=f"{job}-a{number}", rank=number, backend="rented", offer=offer,
            variant="default", micros_per_hour=RATE, allowed_seconds=seconds, reserved_micros=price.micros(seconds),
            price=json.dumps(price.to_json()), started_at=stamp(SystemClock().now()),
        )  # fmt: skip
        store = Store(self.home.journal)
        open_attempt(store, attempt, f"attempt {number}: by the test", {"attempt": number, "why": "the test"})
        store.close()
        return attempt.key

    def machine(self, key: str) -> dict[str, Any]:
        """The provider's own record of a machine that is there."""
        return eventually(lambda: self.cloud.machine(key), f"a machine for {key}")

    def notes(self, job: str, kind: str) -> list[str]:
        return [row["text"] for row in self.rows("SELECT * FROM event WHERE job_id = ? AND kind = ?", job, kind)]


def check_nothing_rented(place: Rented) -> None:
    """No machine is left, none was rented twice under one key, and nothing runs anywhere."""
    machines = place.cloud.machines()
    assert [m["id"] for m in machines if m["state"] != "deleted"] == []
    assert len({m["key"] for m in machines}) == len(machines), "a machine was rented twice"
    assert [pid for m in machines for pid in place.cloud.processes(m)] == []
    assert processes_of(place) == []


def check_money(place: Rented, job: str) -> None:
    """Our books against the provider's meter: never below it, and both within what was reserved."""
    metered = {m["key"]: place.cloud.meter_micros(m) for m in place.cloud.machines()}
    attempts = place.attempts(job)
    for attempt in attempts:
        booked, theirs = attempt["cost_micros"], metered.get(attempt["key"], 0)
        assert theirs <= booked <= attempt["reserved_micros"], (attempt["key"], theirs, booked)
        charges = place.rows("SELECT sum(micros) AS all_of_it FROM charge WHERE attempt_id = ?", attempt["id"])
        assert charges[0]["all_of_it"] == booked
    assert sum(a["cost_micros"] for a in attempts) <= place.job(job)["budget_micros"]
