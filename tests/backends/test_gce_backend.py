"""The GCE backend before the emulated project: late errors, lost replies, lists that lag, disks, rules, fates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from backends.base import (
    AuthError,
    Fate,
    Gone,
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
)
from backends.gce import marks, open_backend
from backends.gce.backend import GceBackend
from backends.rented.own_address import own_address
from tests.emulators.gce import GceEmulator

pytestmark = pytest.mark.needs("googleapiclient")

T = TypeVar("T")
KEY, NAME = "job-abcde-a1", "g2-standard-4 in us-central1"
ZONES = [f"us-central1-{letter}" for letter in "abc"]
PATIENCE = 60.0


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[GceEmulator]:
    """A project that each test must leave nothing in."""
    with GceEmulator(machines=False) as project:
        for name, value in project.env.items():
            monkeypatch.setenv(name, value)
        yield project
        assert not project.left()


@pytest.fixture
def opened(cloud: GceEmulator, tmp_path: Path) -> Callable[..., GceBackend]:
    def open_one(home: str = "home", **settings: Any) -> GceBackend:
        return open_backend(tmp_path / home, {**cloud.settings, **settings})

    return open_one


def offer_of(backend: GceBackend, name: str = NAME) -> Offer:
    return next(each for each in backend.offers(Need()) if each.name == name)


def rented(backend: GceBackend, key: str = KEY, name: str = NAME) -> Lease:
    return backend.create(LeaseRequest(key, offer_of(backend, name), max_seconds=3600.0))


def given_back(backend: GceBackend, lease: Lease) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return backend.delete(lease)
        except NotYetGone:
            assert time.monotonic() < end, "it never went"


def asked_zones(cloud: GceEmulator) -> list[str]:
    return [each.removeprefix("instances.insert ") for each in cloud.asked if each.startswith("instances.insert")]


def test_an_instance_is_born_with_all_it_has_to_know(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    backend = opened()
    lease = rented(backend)
    assert rented(backend) == lease == backend.find(KEY), "asking twice gives the same"
    (box,) = cloud.boxes()
    scheduling = box.order["scheduling"]
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert 3600 - marks.LATE_SECONDS - 30 <= box.run_seconds <= 3600 - marks.LATE_SECONDS
    assert (scheduling["onHostMaintenance"], scheduling["automaticRestart"]) == ("TERMINATE", False)
    assert "serviceAccounts" not in box.order, "it is not trusted"
    metadata = box.metadata()
    assert (metadata["block-project-ssh-keys"], metadata["enable-oslogin"]) == ("TRUE", "FALSE")
    assert metadata["startup-script"].index("shutdown -P") < metadata["startup-script"].index("authorized_keys")
    assert box.order["disks"][0]["autoDelete"] is True
    assert box.order["disks"][0]["initializeParams"]["labels"] == box.order["labels"]
    assert "stop" not in lease.details, "a stopped instance would keep its disk for ever"
    shut, let_in = (cloud.project.rules[f"{box.order['tags']['items'][0]}-{what}"] for what in ("shut", "ssh"))
    assert (let_in["sourceRanges"], let_in["allowed"][0]["ports"]) == (["203.0.113.7/32"], ["22022"])
    assert (shut["sourceRanges"], shut["denied"]) == (["0.0.0.0/0"], [{"IPProtocol": "all"}])
    assert let_in["priority"] < shut["priority"] < 65534, "before the network's own rules"
    assert [each.id for each in backend.owned()] == [lease.id]
    assert not list(opened("another home").owned()), "it is not theirs"
    given_back(backend, lease)
    given_back(backend, lease)
    assert (backend.find(KEY), backend.fate(lease)) == (None, Fate.GONE)


def test_two_zones_have_none_and_the_third_has_one(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    backend = opened()
    for zone in ZONES[:2]:
        cloud.no_capacity(zone)
    lease = rented(backend)
    assert (asked_zones(cloud), lease.details["place"]) == (ZONES, ZONES[2])
    given_back(backend, lease)
    cloud.no_capacity(ZONES[2])
    with pytest.raises(NoCapacity, match=r"us-central1-a.*us-central1-b.*us-central1-c"):
        rented(backend, KEY + "0")
    assert not cloud.left(), "neither marks nor rules stay where nothing was rented"
    request = LeaseRequest(KEY + "1", offer_of(backend), max_seconds=3600.0, avoid=frozenset(ZONES))
    with pytest.raises(NoCapacity, match="places to avoid"):
        backend.create(request)


def test_a_lost_reply_and_lists_that_lag_make_no_twin(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    """Whoever asks again, with other words, asks the zone that was asked, with the same requestId."""
    backend, before = opened(), len(cloud.created)
    request = LeaseRequest(KEY, offer_of(backend), max_seconds=3600.0)
    cloud.no_capacity(ZONES[0], times=1)
    cloud.lose_reply(zone=ZONES[1])
    cloud.hide_new(looks=1000)
    with pytest.raises(Lost):
        backend.create(request)
    lease = opened().create(replace(request, max_seconds=3000.0))
    assert len(cloud.created) == before + 1
    assert lease.details["place"] == ZONES[1], "though the first zone would have one by now"
    assert opened().find(KEY) == lease, "in its own zone it is found, whatever lists show"
    assert [each.id for each in opened().owned()] == [lease.id]
    given_back(backend, lease)


def test_the_name_guards_where_a_request_id_is_forgotten(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    backend = opened()
    lease = rented(backend)
    cloud.project._heard.clear()
    backend._asked.forget(KEY, ZONES[0])
    cloud.created[-1].hidden_looks = 1000
    assert rented(opened()) == lease
    given_back(opened(), lease)


def test_while_a_request_may_be_on_its_way_nothing_else_is_rented(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    backend = opened()
    cloud.lose_reply(before=True)
    with pytest.raises(Lost):
        rented(backend)
    with pytest.raises(Lost, match="may still be on its way"):
        opened().find(KEY)
    with pytest.raises(Lost):
        rented(opened())
    cloud.forget_faults()
    assert not list(opened(list_lag=0.0).owned())
    given_back(backend, rented(opened(list_lag=0.0)))


def test_what_takes_long_is_looked_for_and_what_failed_late_is_not_there(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    backend = opened()
    cloud.dawdle(looks=4)
    with pytest.raises(Lost, match="not done"):
        rented(backend)
    with pytest.raises(Lost, match="still making"):
        backend.find(KEY)
    lease = until(lambda: found_or_none(backend, KEY))
    given_back(backend, lease)
    cloud.dawdle(looks=2)
    cloud.no_capacity(ZONES[0], times=1)
    with pytest.raises(Lost):
        rented(backend, KEY + "0")
    assert until(lambda: known_to_be_none(backend, KEY + "0"))
    lease = rented(backend, KEY + "0")
    assert lease.details["place"] == ZONES[1], "the first zone's answer is known"
    given_back(backend, lease)


def found_or_none(backend: GceBackend, key: str) -> Lease | None:
    try:
        return backend.find(key)
    except Lost:
        return None


def known_to_be_none(backend: GceBackend, key: str) -> bool:
    try:
        return backend.find(key) is None
    except Lost:
        return False


def until(what: Callable[[], T | None]) -> T:
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, "never"
    return found


def test_what_was_made_unheard_and_is_over_is_not_waited_for(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    backend = opened(spot=True)
    request = LeaseRequest(KEY, offer_of(backend, f"spot {NAME}"), max_seconds=3600.0)
    cloud.lose_reply()
    with pytest.raises(Lost):
        backend.create(request)
    cloud.take_back(cloud.created[-1])
    with pytest.raises(NoCapacity, match="over already"):
        backend.create(request)
    assert backend.find(KEY) is None


def test_quota_of_nothing(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    backend = opened()
    offer = offer_of(backend)
    cloud.quotas["GPUS_ALL_REGIONS"] = 0
    with pytest.raises(NoCapacity, match=r"Limit: 0.0 globally.*iam-admin/quotas"):
        backend.create(LeaseRequest(KEY, offer, max_seconds=3600.0))
    assert asked_zones(cloud) == ZONES[:1], "a quota is no zone's"
    assert "GPUS_ALL_REGIONS" in offer_of(opened()).missing


def test_busy_refused_and_not_signed_in(
    opened: Callable[..., GceBackend], cloud: GceEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = opened()
    offer = offer_of(backend)
    cloud.refuse("instances.insert", 429, "rateLimitExceeded")
    with pytest.raises(Transient):
        rented(backend)
    assert backend.find(KEY) is None
    assert not list(backend.owned())
    assert "signed in to project gpujob-emulated" in backend.setup_state().summary
    cloud.refuse("projects.get", 403, "accessNotConfigured", times=2)
    assert "Enable the Compute Engine API" in opened().setup_state().how
    assert all("Enable" in each.missing for each in opened().offers(Need()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    state = opened().setup_state()
    assert (state.ready, "gcloud auth application-default login" in state.how) == (False, True)
    with pytest.raises(AuthError, match=r"nothing\.json"):
        opened().create(LeaseRequest(KEY, offer, max_seconds=3600.0))
    nobody = tmp_path / "nobody.json"
    nobody.write_text(json.dumps({"type": "authorized_user"}))
    assert "gce.project" in opened(credentials=str(nobody)).setup_state().how
    assert not opened(credentials=str(nobody), project="mine").setup_state().ready


@pytest.mark.parametrize(
    ("change", "said"), [({"name": "x"}, "nothing that Google"), ({"name": f"spot {NAME}"}, "gce.spot yes")]
)
def test_what_is_not_to_be_had(opened: Callable[..., GceBackend], change: dict[str, str], said: str) -> None:
    backend = opened()
    offer = replace(offer_of(backend), **change)
    with pytest.raises(Rejected) as caught:
        backend.create(LeaseRequest(KEY, offer, max_seconds=3600.0))
    assert said in f"{caught.value} {caught.value.advice}"
    with pytest.raises(Rejected, match="too short"):
        backend.create(LeaseRequest(KEY, offer_of(backend), max_seconds=60.0))
    with pytest.raises(Rejected, match="needs a disk of 50 GiB"):
        rented(opened(disk=10 * 10**9))


def test_a_spot_instance_that_is_taken_back(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    backend = opened(spot=True)
    lease = rented(backend, KEY, f"spot {NAME}")
    cloud.take_back(cloud.created[-1])
    assert backend.fate(lease) is Fate.PREEMPTED
    with pytest.raises(Gone, match="taken back"):
        opened(spot=True).connect(lease)
    given_back(backend, lease)


def test_one_that_powered_itself_off_still_has_to_be_deleted(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    backend = opened()
    lease = rented(backend)
    cloud.end(cloud.created[-1], "powered off")
    cloud.advance(10_000.0)
    assert cloud.boxes(), "its time limit does not delete it"
    assert backend.fate(lease) is Fate.ENDED
    assert [each.id for each in backend.owned()] == [lease.id]
    given_back(backend, lease)


def test_disks_that_were_left_are_deleted_and_those_of_others_are_not(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    backend = opened()
    lease = rented(backend)
    name = lease.details["name"]
    ours = dict(cloud.project.disks[ZONES[0], name])
    given_back(backend, lease)
    theirs = {**ours, "labels": {marks.OWNER: "another"}}
    cloud.project.disks |= {(ZONES[0], name): ours, (ZONES[0], "theirs"): theirs}
    given_back(backend, lease)
    assert list(cloud.project.disks) == [(ZONES[0], "theirs")]
    cloud.project.disks[ZONES[0], "orphan"] = ours
    assert not list(backend.owned())
    assert list(cloud.project.disks) == [(ZONES[0], "theirs")]
    cloud.project.disks.clear()


def test_an_instance_of_that_name_that_is_not_ours_is_never_touched(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    theirs = rented(opened("another home"))
    backend = opened()
    assert backend.find(KEY) is None
    lease = rented(backend)
    assert (lease.details["place"], lease.details["name"]) == (ZONES[1], theirs.details["name"]), "the name is taken"
    given_back(backend, lease)
    backend.delete(theirs)
    assert [box.number for box in cloud.boxes()] == [theirs.id]
    given_back(opened("another home"), theirs)


def test_rules_that_another_worker_took_away_meanwhile_are_made_again(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    """It had looked when the instance was not asked for yet."""
    backend = opened()
    lease = rented(backend)
    rules = set(cloud.project.rules)
    cloud.project.rules.clear()
    with pytest.raises(NotYetReady):
        backend.connect(lease)
    assert set(cloud.project.rules) == rules
    given_back(backend, lease)


def test_this_machine_has_another_address(opened: Callable[..., GceBackend], cloud: GceEmulator) -> None:
    lease = rented(opened())
    moved = opened(ssh_from="198.51.100.9/32")
    with pytest.raises(NotYetReady):
        moved.connect(lease)
    rules = [rule["sourceRanges"] for name, rule in cloud.project.rules.items() if name.endswith("-ssh")]
    assert rules == [["198.51.100.9/32"]]
    given_back(moved, lease)
    with pytest.raises(Transient) as caught:
        own_address("gce.ssh_from", cloud.url)
    assert "gce.ssh_from" in caught.value.advice


def test_held_time_is_by_googles_clock_and_no_longer_than_google_lets_it_run(
    opened: Callable[..., GceBackend], cloud: GceEmulator
) -> None:
    backend = opened()
    lease = rented(backend)
    cloud.advance(100.0)
    given_back(backend, lease)
    cloud.advance(180.0)
    assert 100 <= (backend.held_seconds(lease) or 0) < 280
    backend.settled(lease)
    lease = rented(backend, KEY + "0")
    cloud.advance(100_000.0)
    assert cloud.created[-1].how == "maxRunDuration"
    assert backend.fate(lease) is Fate.GONE
    given_back(backend, lease)
    assert backend.held_seconds(lease) == 3600.0
