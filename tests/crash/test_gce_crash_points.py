"""The sweep of test_crash_points.py with a Compute Engine instance: at whatever point the worker dies, nothing rented is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_kit import BUDGET, INPUT, SUCCEEDS, check_over, check_success, crash_and_recover, sweep_with_own
from crash_kit import Place, Told, Zygote, stride

from orchestrator.config import Config
from tests.emulators.account_kit import Account, tell
from tests.emulators.gce import GceEmulator
from tests.emulators.gce_account_kit import account, boxes_of

STRIDE = stride(12)

pytestmark = [pytest.mark.needs("guests"), pytest.mark.needs("googleapiclient"), pytest.mark.timeout(1800)]


@pytest.fixture
def gce() -> Iterator[GceEmulator]:
    """The only account of every home, by its environment."""
    with GceEmulator() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, text in {**cloud.env, "CRASH_SECRET": "a value that is gone at the end"}.items():
            patch.setenv(name, text)
        yield cloud


def settle_in(place: Place, cloud: GceEmulator) -> None:
    """Whoever died before the answer to renting has to be waited for as long as lists may lag."""
    config = Config(place.home.config)
    for name, value in {**cloud.settings, "list_lag": "2s"}.items():
        config.set(f"gce.{name}", str(value))


def test_a_succeeding_job_on_a_compute_engine_instance(tmp_path: Path, gce: GceEmulator, record_property: Told) -> None:
    accounts: list[Account] = []

    def crash(place: Place, zygote: Zygote, point: int | str) -> list[str]:
        settle_in(place, gce)
        job = place.submit(SUCCEEDS, {"input": INPUT}, BUDGET, ("gce",))
        reached = crash_and_recover(place, zygote, point)
        check_success(place, job)
        accounts.append(account(gce, place.home.root))
        check_over(place, job, accounts[-1], reached)
        assert not any(box.processes() for box in boxes_of(gce, place.home.root))
        assert [*(place.home.root / "gce").glob("ended/*"), *(place.home.root / "gce").glob("asked/*")] == []
        return reached

    deaths = sweep_with_own(tmp_path, crash, "gce.", every=STRIDE, preload="backends.gce.client")
    record_property("crash_points", deaths)
    tell(record_property, accounts)
    assert not gce.left()
