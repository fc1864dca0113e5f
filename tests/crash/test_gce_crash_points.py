"""The sweep of test_crash_points.py with Compute Engine: wherever the worker dies, nothing rented is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_kit import Provider, environment
from crash_kit import Told, stride

from tests.emulators.gce import GceEmulator
from tests.emulators.gce_account_kit import account

STRIDE = stride(30)
NOTHING_CAME = ["gce.create:marked"]
"""Where CI dies before a job is cancelled: what was made for its machine is there, and the machine is not."""

pytestmark = [pytest.mark.needs("guests"), pytest.mark.needs("googleapiclient"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def gce() -> Iterator[Provider]:
    """One project; its first zone never has an instance."""
    with GceEmulator() as cloud, environment(cloud.env):
        cloud.no_capacity("us-central1-a", times=10**6)
        yield Provider("gce", cloud.settings, lambda home: account(cloud, home), "backends.gce.client")
        assert not cloud.left()
        assert not any(box.processes() for box in cloud.created)


def test_a_succeeding_job_on_compute_engine(tmp_path: Path, gce: Provider, record_property: Told) -> None:
    gce.sweep(tmp_path, gce.succeed, STRIDE, record_property)


def test_a_job_on_compute_engine_that_is_cancelled_after_the_crash(
    tmp_path: Path, gce: Provider, record_property: Told
) -> None:
    if STRIDE == 1:
        gce.sweep(tmp_path, gce.cancel, STRIDE, record_property)
    else:
        gce.die_at_each(tmp_path, gce.cancel, NOTHING_CAME)
        gce.tell(record_property, len(NOTHING_CAME))
