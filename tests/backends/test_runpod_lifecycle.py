"""Renting and giving back, against RunPod's API: one pod per key whatever gets lost, and nobody else's pod touched."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from runpod_kit import OFFER, RTX_4090, rented, sooner_or_later, the_offer, until

from backends.base import (
    AuthError,
    Fate,
    Gone,
    LeaseRequest,
    Lost,
    Need,
    NoCapacity,
    NotYetGone,
    NotYetReady,
    Rejected,
    Transient,
)
from tests.emulators.runpod import Pod
from tests.emulators.runpod_kit import Client


def test_a_pod_is_rented_found_again_and_given_back(cloud, opened):
    backend = opened(cloud)
    lease = rented(backend)
    assert backend.find("job-abcde-a1") == lease
    assert list(backend.owned()) == [lease]
    assert lease.details["place"] == "US-KS-2"
    assert backend.fate(lease) is Fate.ALIVE
    backend.delete(lease)
    assert not cloud.pods()
    assert backend.find("job-abcde-a1") is None
    assert backend.fate(lease) is Fate.GONE
    backend.delete(lease)


def test_the_pod_is_what_was_asked_for(cloud, opened):
    lease = rented(opened(cloud, min_ram_per_gpu=100 * 10**9), disk_bytes=70_500_000_000, image="me/own:cu126-3")
    pod = cloud.pod(lease.id)
    assert pod.order.name == "gpujob-job-abcde-a1"
    assert (pod.order.gpu, pod.order.gpu_count, pod.order.cloud) == (RTX_4090, 1, "SECURE")
    assert (pod.order.image, pod.order.min_cuda) == ("me/own:cu126-3", "12.6")
    assert pod.order.disk == 71
    assert pod.order.ports == ["22/tcp"]
    assert pod.place.ram_gb >= 100
    assert pod.order.env["PUBLIC_KEY"].startswith("ssh-ed25519 ")
    assert cloud.account_keys == []


def test_asking_twice_gives_one_pod(cloud, opened):
    backend = opened(cloud)
    assert rented(backend).id == rented(backend).id == rented(opened(cloud)).id
    assert len(cloud.created) == 1


def test_a_lost_reply_is_looked_for_and_the_pod_adopted(cloud, opened):
    backend = opened(cloud)
    offer = the_offer(backend)
    cloud.faults.lost_reply()
    with pytest.raises(Lost):
        backend.create(LeaseRequest("job-abcde-a1", offer, max_seconds=60))
    found = backend.find("job-abcde-a1")
    assert found
    assert [pod.id for pod in cloud.pods()] == [found.id]
    assert backend.create(LeaseRequest("job-abcde-a1", offer, max_seconds=60)) == found


def test_a_server_error_while_renting_says_that_nobody_knows(cloud, opened):
    backend = opened(cloud)
    offer = the_offer(backend)
    cloud.faults.server_errors(method="POST", path="/v2/pods")
    with pytest.raises(Lost, match="503"):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))


def twins(cloud, backend) -> tuple[Pod, Pod]:
    """Two pods of one key: the first was not listed yet when its reply was lost and it was asked for again; only where
    lists lag further behind than the settings say.
    """
    offer = the_offer(backend)
    cloud.faults.stale_list(seconds=3.0)
    cloud.faults.lost_reply()
    with pytest.raises(Lost):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    assert backend.find("k-a1") is None
    backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    until(lambda: len(Client(cloud)("GET", "/v2/pods").body["pods"]) == 2, "both listed")
    first, second = cloud.created
    return first, second


def test_of_twins_the_oldest_is_kept(cloud, opened):
    backend = opened(cloud, list_lag=0.0)
    first, _ = twins(cloud, backend)
    found = backend.find("k-a1")
    assert found
    assert found.id == first.id
    assert [pod.id for pod in cloud.pods()] == [first.id]


def test_the_time_of_a_twin_is_charged_as_well(cloud, opened):
    backend = opened(cloud, list_lag=0.0)
    twins(cloud, backend)
    cloud.advance(100.0)
    lease = backend.find("k-a1")
    assert lease
    backend.delete(lease)
    assert 200 <= (opened(cloud).held_seconds(lease) or 0) < 300
    assert cloud.spent() <= 300 * 0.74 / 3600
    backend.settled(lease)
    cloud.advance(1000.0)
    list(backend.owned())
    assert 1100 <= (backend.held_seconds(lease) or 0) < 1200, "accounted for: nothing of it is left"


def asked_in_vain(backend, offer) -> None:
    """Ask for a pod; the answer is not heard."""
    with pytest.raises(Lost):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=600))


def test_a_pod_that_nobody_heard_of_is_waited_for_and_no_other_rented(cloud, opened):
    """Whoever asks, in this program or the next; an answer that was not lost is no reason to wait."""
    offer = the_offer(opened(cloud))
    cloud.faults.no_capacity(times=1)
    with pytest.raises(NoCapacity):
        opened(cloud).create(LeaseRequest("k-a1", offer, max_seconds=600))
    assert opened(cloud).find("k-a1") is None
    cloud.faults.stale_list(seconds=2.0)
    cloud.faults.lost_reply()
    asked_in_vain(opened(cloud), offer)
    with pytest.raises(Lost, match="may be there, and cost money, though RunPod's list does not show it yet"):
        opened(cloud).find("k-a1")
    asked_in_vain(opened(cloud), offer)
    assert len(cloud.created) == 1
    until(lambda: Client(cloud)("GET", "/v2/pods").body["pods"], "it is listed")
    lease = opened(cloud).create(LeaseRequest("k-a1", offer, max_seconds=600))
    assert [pod.id for pod in cloud.created] == [lease.id]
    opened(cloud).delete(lease)
    assert opened(cloud).find("k-a1") is None


def test_where_nothing_was_rented_it_is_known_once_lists_must_show_it(cloud, opened):
    backend = opened(cloud)
    offer = the_offer(backend)
    cloud.faults.server_errors(method="POST", path="/v2/pods")
    asked_in_vain(backend, offer)
    asked_in_vain(backend, offer)
    cloud.advance(100.0)
    Client(cloud)("GET", "/v2/pods")
    until(lambda: list(backend.owned()) == [], "RunPod's clock is read")
    assert backend.find("k-a1") is None
    assert rented(backend, "k-a1")


def test_giving_a_pod_back_waits_for_one_that_may_have_been_rented_beside_it(cloud, opened):
    """Lists that lag further than the settings say, twice, and two lost replies: whatever comes late is ended."""
    hasty, backend = opened(cloud, list_lag=0.0), opened(cloud)
    offer = the_offer(backend)
    for lag in (2.0, 5.0):
        cloud.faults.stale_list(seconds=lag)
        cloud.faults.lost_reply()
        asked_in_vain(hasty, offer)
        time.sleep(1.1)  # a request is known by its second
    until(lambda: list(backend.owned()), "the first is listed")
    (lease,) = backend.owned()
    held = backend.held_seconds(lease)
    with pytest.raises(NotYetGone, match="is gone, but a pod was asked for"):
        backend.delete(lease)
    assert len(cloud.pods()) == 1
    sooner_or_later(lambda: backend.delete(lease))
    assert not cloud.pods()
    assert held is not None
    assert (backend.held_seconds(lease) or 0) >= held


def test_a_pod_that_costs_more_than_was_offered_says_so_however_it_is_found(cloud, opened):
    backend = opened(cloud)
    offer = the_offer(backend)
    kind = next(gpu for gpu in cloud.catalog.gpus if gpu.id == RTX_4090)
    cloud.catalog.gpus[cloud.catalog.gpus.index(kind)] = replace(kind, secure=0.99)
    cloud.faults.lost_reply()
    asked_in_vain(backend, offer)
    found = backend.find("k-a1")
    assert found
    assert "charges $0.99/h for secure RTX 4090, which was offered for $0.74" in found.details["too_dear"]
    assert found.details["micros_per_hour"] == 990_000
    assert backend.create(LeaseRequest("k-a1", offer, max_seconds=600)) == found


@pytest.mark.parametrize(("seconds", "word"), [(3600.0, "behind"), (-3600.0, "ahead of")])
def test_nothing_is_rented_while_the_clocks_disagree(cloud, opened, seconds, word):
    backend = opened(cloud)
    cloud.clock.skew = seconds
    with pytest.raises(Rejected, match=f"{word} RunPod's"):
        rented(backend)
    assert not cloud.created
    cloud.clock.skew = seconds / 30
    assert rented(backend)


def test_giving_a_pod_back_ends_its_twin_too(cloud, opened):
    backend = opened(cloud, list_lag=0.0)
    _, second = twins(cloud, backend)
    lease = next(lease for lease in backend.owned() if lease.id == second.id)
    sooner_or_later(lambda: backend.delete(lease))
    assert not cloud.pods()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "gpujob-job-abcde-a1"},
        {"name": "gpujob-job-abcde-a1", "env": {"GPUJOB_KEY": "job-abcde-a1"}},
        {"name": "gpujob-job-abcde-a1", "env": {"GPUJOB_KEY": "job-abcde-a1", "GPUJOB_OWNER": ""}},
        {"name": "gpujob-job-abcde-a1", "env": {"GPUJOB_KEY": "job-abcde-a1", "GPUJOB_OWNER": "0" * 32}},
    ],
    ids=["name", "key", "empty owner", "other owner"],
)
def test_a_pod_that_only_looks_like_ours_is_never_touched(cloud, opened, changes):
    foreign = Client(cloud).create(**changes)["id"]
    backend = opened(cloud)
    assert backend.find("job-abcde-a1") is None
    assert list(backend.owned()) == []
    lease = rented(backend)
    assert lease.id != foreign
    assert list(backend.owned()) == [lease]
    backend.delete(lease)
    assert [pod.id for pod in cloud.pods()] == [foreign]


def test_a_copy_of_our_pod_under_another_name_is_somebody_elses(cloud, opened):
    backend = opened(cloud)
    lease = rented(backend)
    copy = Client(cloud).create(name="my experiment", env=cloud.pod(lease.id).order.env)["id"]
    assert [each.id for each in backend.owned()] == [lease.id]
    backend.delete(lease)
    assert [pod.id for pod in cloud.pods()] == [copy]


def test_two_homes_of_one_account_leave_each_other_alone(cloud, opened):
    here, there = opened(cloud), opened(cloud, home="other")
    ours, theirs = rented(here, "same-a1"), rented(there, "same-a1")
    assert ours.id != theirs.id
    assert list(here.owned()) == [ours]
    assert list(there.owned()) == [theirs]


def test_what_is_kept_of_a_lease_holds_no_secret(cloud, opened):
    lease = rented(opened(cloud))
    text = repr(lease)
    assert cloud.key not in text
    assert cloud.pod(lease.id).key not in text
    assert cloud.pod(lease.id).order.env["GPUJOB_OWNER"] not in text


def test_the_end_is_the_earlier_of_the_two(cloud, opened):
    backend = opened(cloud)
    soon = datetime.now(UTC) + timedelta(seconds=100)
    near, far = rented(backend, "a-a1", ends_at=soon), rented(backend, "b-a1", ends_at=soon + timedelta(days=9))
    assert near.details["ends_at"] == int(soon.timestamp())
    assert far.details["ends_at"] < (soon + timedelta(hours=2)).timestamp()


def test_a_pod_without_an_end_is_never_rented(cloud, opened):
    with pytest.raises(Rejected):
        rented(opened(cloud), max_seconds=0.0)
    assert not cloud.created


def test_places_to_avoid_are_not_asked_for(cloud, opened):
    backend = opened(cloud)
    assert rented(backend, avoid=frozenset({"US-KS-2", "US-TX-3"})).details["place"] == "EU-RO-1"
    with pytest.raises(NoCapacity, match="never became reachable"):
        rented(backend, "other-a1", avoid=frozenset({"US-KS-2", "US-TX-3", "EU-RO-1"}))


def test_only_the_data_centres_that_are_set_are_used(cloud, opened):
    backend = opened(cloud, data_centers=("EU-RO-1",))
    assert rented(backend).details["place"] == "EU-RO-1"
    cloud.catalog.set_stock(RTX_4090, "NONE", "EU-RO-1")
    assert OFFER not in {offer.name for offer in opened(cloud, data_centers=("EU-RO-1",)).offers(Need())}


def test_none_free_is_told_from_a_wrong_request(cloud, opened):
    backend = opened(cloud)
    offer = the_offer(backend)
    cloud.faults.no_capacity(times=1)
    with pytest.raises(NoCapacity, match="no longer any instances"):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    cloud.faults.forbidden(times=1)
    with pytest.raises(NoCapacity, match="may not rent"):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    cloud.settings.balance = 0.0
    with pytest.raises(Rejected, match="balance") as refused:
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    assert "Add credit" in refused.value.advice


def test_without_a_key_nothing_is_rented_and_the_command_is_told(cloud, opened, monkeypatch):
    backend = opened(cloud)
    offer = the_offer(backend)
    monkeypatch.setattr(backend, "_settings", opened(cloud)._settings.read({"credential": lambda _: None}))
    with pytest.raises(AuthError) as refused:
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    assert "gpujob backends setup runpod" in refused.value.advice


def test_what_a_pod_waits_for_is_said(cloud, opened):
    backend = opened(cloud)
    cloud.faults.stuck()
    with pytest.raises(NotYetReady, match=r"STARTING|PROVISIONING"):
        backend.connect(rented(backend, "a-a1"))
    cloud.faults.never_ready()
    lease = rented(backend, "b-a1")
    until_running(cloud, lease.id)
    with pytest.raises(NotYetReady, match=r"container does not|image is loaded"):
        backend.connect(lease)


def until_running(cloud, pod_id):
    Client(cloud).when(pod_id, "RUNNING")


@pytest.mark.parametrize(("status", "spot", "fate"), [("EXITED", False, Fate.ENDED), ("ERROR", False, Fate.ENDED)])
def test_a_pod_that_is_over_is_not_waited_for(cloud, opened, status, spot, fate):
    backend = opened(cloud)
    if status == "ERROR":
        cloud.faults.error_status()
    lease = rented(backend)
    if status == "EXITED":
        until_running(cloud, lease.id)
        cloud.exit_pod(lease.id)
    Client(cloud).when(lease.id, status)
    with pytest.raises(Gone, match=status) as over:
        backend.connect(lease)
    assert over.value.fate is backend.fate(lease) is fate
    backend.delete(lease)
    assert not cloud.pods()


def test_a_pod_that_is_gone_is_said_to_be(cloud, opened):
    backend = opened(cloud)
    lease = rented(backend)
    Client(cloud).act(lease.id, "terminate")
    with pytest.raises(Gone) as over:
        backend.connect(lease)
    assert over.value.fate is Fate.GONE


def test_without_the_key_nobody_says_that_nothing_is_rented(cloud, opened):
    """Records of what is rented would be closed for want of a key."""
    assert list(opened(cloud, credential=lambda _: None).owned()) == [], "this home has never rented any"
    rented(opened(cloud))
    with pytest.raises(AuthError):
        list(opened(cloud, credential=lambda _: None).owned())


def test_passing_trouble_is_passed_on_with_the_wait(cloud, opened):
    backend = opened(cloud)
    rented(backend)
    cloud.faults.too_many_requests(retry_after=7)
    with pytest.raises(Transient) as busy:
        list(backend.owned())
    assert busy.value.retry_after == 7
    with pytest.raises(Transient) as busy:
        list(backend.owned())
    assert busy.value.retry_after is not None
    assert 0 < busy.value.retry_after <= 7
    assert [call.status for call in cloud.requests].count(429) == 1
