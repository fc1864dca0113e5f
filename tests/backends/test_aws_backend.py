"""The AWS backend before the emulated account: replies lost, instances that lists lack, twins, groups, fates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from backends.aws import open_backend
from backends.aws.backend import AwsBackend
from backends.base import (
    AuthError,
    Fate,
    Gone,
    GpuNeed,
    Lease,
    LeaseRequest,
    Lost,
    Need,
    NoCapacity,
    NotYetGone,
    NotYetReady,
    Offer,
    Rejected,
    Transient,
)  # fmt: skip
from tests.emulators.aws import AwsEmulator

pytestmark = pytest.mark.needs("moto")

T = TypeVar("T")
KEY, NAME = "job-abcde-a1", "g6.xlarge in us-east-1"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def account() -> Iterator[AwsEmulator]:
    with AwsEmulator(machines=False) as cloud:
        yield cloud


@pytest.fixture
def cloud(account: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    """One account for all tests here; each must leave nothing in it."""
    for name, value in account.env.items():
        monkeypatch.setenv(name, value)
    account.forget_faults()
    yield account
    account.forget_faults()
    assert not account.boxes()
    assert not account.left("security_groups")
    assert not account.left("volumes")
    assert not account.left("key_pairs")


@pytest.fixture
def opened(cloud: AwsEmulator, tmp_path: Path) -> Callable[..., AwsBackend]:
    def open_one(home: str = "home", **settings: Any) -> AwsBackend:
        return open_backend(tmp_path / home, {**cloud.settings, "regions": ("us-east-1",), **settings})

    return open_one


def offer_of(backend: AwsBackend, name: str = NAME) -> Offer:
    return next(each for each in backend.offers(Need(gpu=GpuNeed())) if each.name == name)


def rented(backend: AwsBackend, key: str = KEY, name: str = NAME) -> Lease:
    return backend.create(LeaseRequest(key, offer_of(backend, name), max_seconds=3600.0))


def given_back(backend: AwsBackend, lease: Lease) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return backend.delete(lease)
        except NotYetGone:
            assert time.monotonic() < end, "it never went"
        time.sleep(0.05)


def test_an_instance_is_born_with_all_it_has_to_know(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    backend = opened()
    lease = rented(backend)
    assert rented(backend) == lease == backend.find(KEY), "asking twice gives the same"
    form = cloud.orders[-1]
    assert form["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert form["MetadataOptions.HttpTokens"] == "required"
    assert form["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    kinds = {form[f"TagSpecification.{n}.ResourceType"] for n in (1, 2, 3)}
    assert kinds == {"instance", "volume", "network-interface"}
    assert "KeyName" not in form
    script = cloud.created[-1].user_data
    assert script.index("shutdown -P") < script.index("authorized_keys"), "the deadline comes first"
    (group,) = cloud.left("security_groups")
    (rule,) = group["IpPermissions"]
    assert (rule["FromPort"], [each["CidrIp"] for each in rule["IpRanges"]]) == (22022, ["203.0.113.7/32"])
    assert [each.id for each in backend.owned()] == [lease.id]
    assert not list(opened("another home").owned()), "it is not theirs"
    given_back(backend, lease)
    given_back(backend, lease)
    assert (backend.find(KEY), backend.fate(lease)) == (None, Fate.ENDED)


def test_a_lost_reply_and_a_lagging_list_make_no_twin(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    """The list lags behind for longer than anybody believes: asking again gives what is there by its token."""
    backend, before = opened(list_lag=0.0), len(cloud.created)
    request = LeaseRequest(KEY + "0", offer_of(backend), max_seconds=3600.0)
    cloud.no_capacity("us-east-1a", times=1)
    cloud.lose_reply()
    cloud.hide_new(looks=8)
    with pytest.raises(Lost):
        backend.create(request)
    assert len(cloud.created) == before + 1
    assert backend.find(request.key) is None, "the list does not show it"
    with pytest.raises(Lost):  # other words, since another second has begun: the token says that it is there
        backend.create(replace(request, max_seconds=3000.0))
    assert len(cloud.created) == before + 1
    lease = until(lambda: backend.find(request.key))
    assert lease.details["place"] == "us-east-1b", "where it was asked for, though the first zone would have one by now"
    given_back(backend, lease)


def test_what_was_made_unheard_and_is_over_is_not_waited_for(
    opened: Callable[..., AwsBackend], cloud: AwsEmulator
) -> None:
    cloud.spot_prices = {("g6.xlarge", "us-east-1b"): 0.3}
    backend = opened(spot=True, list_lag=0.0)
    request = LeaseRequest(KEY + "1", offer_of(backend, f"spot {NAME}"), max_seconds=3600.0)
    cloud.lose_reply()
    with pytest.raises(Lost):
        backend.create(request)
    cloud.take_back(cloud.created[-1])
    with pytest.raises(NoCapacity, match="over already"):
        backend.create(replace(request, max_seconds=3000.0))


def until(what: Callable[[], T | None]) -> T:
    end = time.monotonic() + PATIENCE
    while (found := what()) is None:
        assert time.monotonic() < end, "never"
    return found


def test_while_a_list_may_lag_nothing_else_is_rented(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    backend = opened()
    cloud.refuse("RunInstances", 500, "InternalError")
    with pytest.raises(Lost):
        rented(backend)
    with pytest.raises(Lost, match="it may be there"):
        opened().find(KEY)
    with pytest.raises(Lost):
        rented(opened())
    assert not list(opened(list_lag=0.0).owned())
    lease = rented(opened(list_lag=0.0))
    given_back(opened(list_lag=0.0), lease)


def test_what_was_asked_for_and_given_up_is_forgotten_at_last(
    opened: Callable[..., AwsBackend], cloud: AwsEmulator, tmp_path: Path
) -> None:
    cloud.refuse("RunInstances", 500, "InternalError")
    with pytest.raises(Lost):
        rented(opened())
    assert not list(opened().owned())
    (mark,) = tmp_path.glob("home/asked/*")
    told = json.loads(mark.read_bytes())
    mark.write_text(json.dumps({**told, "asked_at": told["asked_at"] - 3700}))
    assert not list(opened().owned())
    assert not mark.exists()


def test_just_launched_it_is_not_gone(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    backend = opened()
    cloud.hide_new(looks=10)
    lease = rented(backend)
    assert backend.fate(lease) is Fate.ALIVE
    with pytest.raises(NotYetReady, match="so new"):
        backend.connect(lease)
    with pytest.raises(NotYetGone, match="so new"):
        backend.delete(lease)
    given_back(backend, lease)


def test_no_zone_has_one(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    backend = opened()
    cloud.refuse("RunInstances", 500, "InsufficientInstanceCapacity", times=1000)
    with pytest.raises(NoCapacity, match=r"us-east-1a.*us-east-1f"):
        rented(backend)
    cloud.forget_faults()
    cloud.refuse("RunInstances", 400, "VcpuLimitExceeded", "your current vCPU limit of 0")
    asked = len(cloud.asked)
    with pytest.raises(NoCapacity, match=r"limit of 0.*quotas/L-DB2E81BA"):
        rented(backend)
    assert sum(each.startswith("RunInstances") for each in cloud.asked[asked:]) == 1, "a quota is the region's"


def test_busy_refused_and_not_signed_in(
    opened: Callable[..., AwsBackend], cloud: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened()
    cloud.refuse("RunInstances", 503, "RequestLimitExceeded")
    with pytest.raises(Transient):
        rented(backend)
    assert not list(backend.owned())
    cloud.refuse("GetCallerIdentity", 403, "InvalidClientTokenId", times=2)
    assert not backend.setup_state().ready
    assert all(each.missing for each in opened().offers(Need()))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    state = opened().setup_state()
    assert (state.ready, "aws configure" in state.how) == (False, True)
    with pytest.raises(AuthError):
        opened().create(LeaseRequest(KEY, next(iter(opened().offers(Need()))), max_seconds=60.0))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAGPUJOBEMULATOR01")
    unknown = replace(offer_of(backend), name="x")
    with pytest.raises(Rejected, match="nothing that AWS"):
        backend.create(LeaseRequest(KEY, unknown, max_seconds=60.0))


def test_a_spot_instance_that_is_taken_back(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    cloud.spot_prices = {("g6.xlarge", "us-east-1b"): 0.3}
    backend = opened(spot=True)
    lease = rented(backend, "job-spot-a1", f"spot {NAME}")
    form = cloud.orders[-1]
    assert float(form["InstanceMarketOptions.SpotOptions.MaxPrice"]) == 0.3, "never dearer than was reserved"
    cloud.take_back(cloud.created[-1])
    assert backend.fate(lease) is Fate.PREEMPTED
    with pytest.raises(Gone, match="taken back"):
        backend.connect(lease)
    given_back(backend, lease)


def test_this_machine_has_another_address(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    lease = rented(opened())
    moved = opened(ssh_from="198.51.100.9/32")
    with pytest.raises(NotYetReady):
        moved.connect(lease)
    (group,) = cloud.left("security_groups")
    (rule,) = group["IpPermissions"]
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["198.51.100.9/32"]
    given_back(moved, lease)


def test_held_time_is_by_the_end_that_aws_tells(opened: Callable[..., AwsBackend], cloud: AwsEmulator) -> None:
    backend = opened()
    lease = rented(backend, "job-held-a1")
    cloud.clock.advance(100.0)
    given_back(backend, lease)
    cloud.clock.advance(1000.0)
    assert 100 <= (backend.held_seconds(lease) or 0) < 1000
    backend.settled(lease)
