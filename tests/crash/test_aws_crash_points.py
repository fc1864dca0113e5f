"""The sweep of test_crash_points.py with an EC2 instance: at whatever point the worker dies, nothing rented is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_kit import BUDGET, INPUT, SUCCEEDS, check_over, check_success, crash_and_recover, sweep_with_own
from crash_kit import Place, Told, Zygote, stride

from orchestrator.config import Config
from tests.emulators.account_kit import Account, tell
from tests.emulators.aws import AwsEmulator
from tests.emulators.aws_account_kit import account, boxes_of

STRIDE = stride(12)

pytestmark = [pytest.mark.needs("guests"), pytest.mark.needs("moto"), pytest.mark.timeout(1800)]


@pytest.fixture
def aws() -> Iterator[AwsEmulator]:
    """The only account of every home, by its environment."""
    with AwsEmulator() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, text in {**cloud.env, "CRASH_SECRET": "a value that is gone at the end"}.items():
            patch.setenv(name, text)
        yield cloud


def settle_in(place: Place, cloud: AwsEmulator) -> None:
    """Whoever died before the answer to renting has to be waited for as long as lists may lag."""
    config = Config(place.home.config)
    for name, value in {**cloud.settings, "list_lag": "2s"}.items():
        config.set(f"aws.{name}", str(value))


def test_a_succeeding_job_on_an_ec2_instance(tmp_path: Path, aws: AwsEmulator, record_property: Told) -> None:
    accounts: list[Account] = []

    def crash(place: Place, zygote: Zygote, point: int | str) -> list[str]:
        settle_in(place, aws)
        job = place.submit(SUCCEEDS, {"input": INPUT}, BUDGET, ("aws",))
        reached = crash_and_recover(place, zygote, point)
        check_success(place, job)
        accounts.append(account(aws, place.home.root))
        check_over(place, job, accounts[-1], reached)
        assert not any(box.processes() for box in boxes_of(aws, place.home.root))
        assert [*(place.home.root / "aws").glob("ended/*"), *(place.home.root / "aws").glob("asked/*")] == []
        return reached

    deaths = sweep_with_own(tmp_path, crash, "aws.", every=STRIDE, preload="backends.aws.client")
    record_property("crash_points", deaths)
    tell(record_property, accounts)
    assert not [each for what in ("security_groups", "volumes", "key_pairs") for each in aws.left(what)]
