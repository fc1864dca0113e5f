"""The sweep of test_crash_points.py with EC2: wherever the worker dies, nothing rented is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_kit import Provider, environment
from crash_kit import Told, stride

from tests.emulators.aws import AwsEmulator
from tests.emulators.aws_account_kit import account

STRIDE = stride(30)
NOTHING_CAME = ["aws.create:marked"]
"""Where CI dies before a job is cancelled: what was made for its machine is there, and the machine is not."""

pytestmark = [pytest.mark.needs("guests"), pytest.mark.needs("moto"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def aws() -> Iterator[Provider]:
    """One account; its first zone never has an instance."""
    with AwsEmulator() as cloud, environment(cloud.env):
        cloud.no_capacity("us-east-1a", times=10**6)
        yield Provider("aws", cloud.settings, lambda home: account(cloud, home), "backends.aws.client")
        assert not [each for what in ("security_groups", "volumes", "key_pairs") for each in cloud.left(what)]
        assert not cloud.running()
        assert not any(box.processes() for box in cloud.created)


def test_a_succeeding_job_on_an_ec2_instance(tmp_path: Path, aws: Provider, record_property: Told) -> None:
    aws.sweep(tmp_path, aws.succeed, STRIDE, record_property)


def test_a_job_on_ec2_that_is_cancelled_after_the_crash(tmp_path: Path, aws: Provider, record_property: Told) -> None:
    if STRIDE == 1:
        aws.sweep(tmp_path, aws.cancel, STRIDE, record_property)
    else:
        aws.die_at_each(tmp_path, aws.cancel, NOTHING_CAME)
        aws.tell(record_property, len(NOTHING_CAME))
