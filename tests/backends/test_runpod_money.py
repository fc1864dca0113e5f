"""What pods cost: prices that are believed, time by RunPod's clock, its own account, spot pods and their end."""

from __future__ import annotations

from decimal import Decimal

import pytest
from runpod_kit import OFFER, RTX_4090, rented, sooner_or_later, the_offer

from backends.base import Fate, Gone, GpuNeed, LeaseRequest, Lost, Need, NoCapacity, Rejected
from backends.billing import price_of
from backends.runpod.catalog import Target, read_stock, target_of
from backends.runpod.settings import Settings
from backends.runpod.wishes import cuda_of
from tests.emulators.runpod_kit import Client

SPOT = f"spot {OFFER}"


def offers_of(backend, count: int = 1):
    return {offer.name: offer for offer in backend.offers(Need(gpu=GpuNeed(count=count)))}


def test_the_live_catalogue_becomes_offers(cloud, opened):
    offers = offers_of(opened(cloud), count=2)
    one, two = offers["secure RTX 4090"], offers["2 x secure RTX 4090"]
    assert (one.micros_per_hour, two.micros_per_hour) == (740_000, 1_480_000)
    assert offers["community RTX 4090"].micros_per_hour == 340_000
    assert (one.gpu, one.gpu_count, two.gpu_count) == ("RTX 4090", 1, 2)
    assert two.ram_bytes == 2 * one.ram_bytes
    assert one.compute_capability == 8.9
    assert 24 * 10**9 < one.vram_bytes < 25.8 * 10**9
    assert "stock high" in one.source
    assert not one.missing
    assert offers["cpu cpu3c with 4 vCPU"].ram_bytes == 8 * 10**9
    assert offers["cpu cpu3c with 4 vCPU"].micros_per_hour == 120_000


def test_placeholder_prices_are_never_believed(cloud, opened):
    """The catalogue lists 0.50 for an H200 in a cloud that has none."""
    offers = offers_of(opened(cloud))
    assert "secure H200" in offers
    assert "community H200" not in offers
    assert not [offer for offer in offers.values() if offer.micros_per_hour == 500_000]


def test_what_is_out_of_stock_or_not_nvidia_is_not_offered(cloud, opened):
    cloud.catalog.set_stock(RTX_4090, "NONE")
    names = offers_of(opened(cloud))
    assert not [name for name in names if "4090" in name or "MI300X" in name]


def test_clouds_can_be_chosen(cloud, opened):
    assert not [name for name in offers_of(opened(cloud, cloud="secure")) if "community" in name]
    assert {name.split()[0] for name in offers_of(opened(cloud, cloud="community"))} == {"community"}


def test_several_jobs_share_one_reading_of_the_catalogue(cloud, opened):
    backend = opened(cloud)
    for _ in range(5):
        offers_of(backend)
    assert len([call for call in cloud.requests if "/catalog/gpus" in call.path]) == 2


def test_without_a_key_the_dated_table_is_shown_and_nothing_of_it_can_be_rented(cloud, opened, monkeypatch):
    backend = opened(cloud)
    monkeypatch.setattr(backend, "_settings", Settings.read({"credential": lambda _: None}))
    offers = offers_of(backend)
    assert offers["secure RTX 4090"].micros_per_hour == 740_000
    assert all("gpujob backends setup runpod" in offer.missing for offer in offers.values())
    assert all("price table of gpujob" in offer.source and offer.as_of < "2026-11" for offer in offers.values())
    assert not cloud.requests
    state = backend.setup_state()
    assert (state.ready, state.how) == (False, "gpujob backends setup runpod")


def test_every_offer_is_known_again_by_its_name(cloud, opened):
    for name, offer in offers_of(opened(cloud, spot=True), count=4).items():
        target = target_of(name)
        assert target
        assert (target.count or 0, target.spot) == (offer.gpu_count, offer.billing.spot)
    assert target_of("8 x spot community A100 80GB PCIe") == Target("A100 80GB PCIe", "community", 8, spot=True)
    assert target_of("cpu") is None


def test_a_gpu_that_nobody_knows_yet_is_offered_carefully():
    listed = {
        "id": "NVIDIA RTX 9090", "name": "RTX 9090", "manufacturer": "NVIDIA", "memory": 48, "secure": True,
        "community": False, "price": {"secure": Decimal("1.25"), "community": Decimal("0.5")},
        "maxCount": {"secure": 8, "community": 0},
    }  # fmt: skip
    (stock,) = read_stock({"gpus": [listed]}, "secure")
    assert stock.model.vram_bytes < 48 * 10**9 * 0.97
    assert (stock.model.compute_capability, stock.micros_per_gpu_hour) == (None, 1_250_000)
    assert read_stock({"gpus": [listed]}, "community") == []


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404", "12.8"),
        ("runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel-ubuntu22.04", "12.4"),
        ("pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime", "12.8"),
        ("nvidia/cuda:13.0.1-base-ubuntu24.04", "13.0"),
        ("runpod/base:1.0.2-ubuntu2404", ""),
        ("vllm/vllm-openai:v0.11.0", ""),
    ],
)
def test_the_driver_that_an_image_needs_is_read_from_its_name(image, version):
    assert cuda_of(image) == version


def test_time_is_measured_by_runpods_clock_and_kept_when_the_pod_is_gone(cloud, opened):
    backend = opened(cloud)
    lease = rented(backend)
    cloud.advance(600.0)
    list(backend.owned())
    held = backend.held_seconds(lease)
    assert held is not None
    assert 599 <= held <= 660
    backend.delete(lease)
    kept = opened(cloud).held_seconds(lease)
    assert kept is not None
    assert held - 1 <= kept <= 660
    cloud.advance(3600.0)
    assert opened(cloud).held_seconds(lease) == kept
    opened(cloud).settled(lease)
    list(backend.owned())
    assert (backend.held_seconds(lease) or 0) > 4000


def test_a_pod_that_ended_by_itself_is_not_charged_until_we_woke_up(cloud, opened):
    backend = opened(cloud)
    lease = rented(backend, max_seconds=1200.0)
    Client(cloud).act(lease.id, "terminate")
    cloud.advance(40_000.0)
    backend.delete(lease)
    assert backend.held_seconds(lease) == 1200.0


def test_what_is_charged_is_never_less_than_what_runpod_bills(cloud, opened):
    backend = opened(cloud)
    offer = the_offer(backend)
    lease = backend.create(LeaseRequest("k-a1", offer, max_seconds=7200, disk_bytes=100 * 10**9))
    cloud.advance(1800.0)
    list(backend.owned())
    backend.delete(lease)
    held, billed = backend.held_seconds(lease), backend.billed_micros(lease)
    assert held is not None
    assert billed is not None
    ours = price_of(offer, 100 * 10**9).micros(held)
    assert abs(billed - cloud.spent() * 1e6) <= 2
    assert billed <= ours <= billed * 1.01


def test_an_account_that_shows_nothing_yet_is_told_from_one_that_charged_nothing(cloud, opened):
    backend = opened(cloud)
    lease = rented(backend)
    assert backend.billed_micros(type(lease)(**{**fields(lease), "id": "unknown"})) is None


def fields(lease):
    return {name: getattr(lease, name) for name in lease.__dataclass_fields__}


def test_spot_pods_are_offered_only_where_they_are_allowed(cloud, opened):
    assert SPOT not in offers_of(opened(cloud))
    offer = offers_of(opened(cloud, spot=True))[SPOT]
    assert offer.micros_per_hour == 200_000
    assert offer.billing.spot
    assert offer.billing.interruptions_per_hour > 0
    with pytest.raises(Rejected, match="not allowed"):
        opened(cloud).create(LeaseRequest("k-a1", offer, max_seconds=60))


def test_a_spot_pod_is_rented_at_its_bid_and_its_taking_back_is_told_as_such(cloud, opened):
    backend = opened(cloud, spot=True)
    lease = rented(backend, name=SPOT)
    assert lease.details["spot"] is True
    assert lease.details["place"] == "US-KS-2"
    pod = cloud.pod(lease.id)
    assert (pod.order.bid, pod.usd_h) == (0.2, 0.2)
    assert backend.find("job-abcde-a1") == lease
    Client(cloud).when(lease.id, "RUNNING")
    cloud.preempt(lease.id)
    with pytest.raises(Gone, match="taken back") as over:
        sooner_or_later(lambda: backend.connect(lease))  # the listing that jobs share may be 2 s old
    assert over.value.fate is backend.fate(lease) is Fate.PREEMPTED
    backend.delete(lease)
    assert not cloud.pods()


def test_a_spot_pod_whose_reply_is_lost_is_found(cloud, opened):
    backend = opened(cloud, spot=True)
    offer = the_offer(backend, SPOT)
    cloud.faults.lost_reply(path="/graphql")
    with pytest.raises(Lost):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    found = backend.find("k-a1")
    assert found
    assert found.details["spot"] is True


def test_no_spot_pod_for_the_bid_is_no_capacity(cloud, opened):
    backend = opened(cloud, spot=True)
    offer = the_offer(backend, SPOT)
    cloud.faults.no_capacity(times=1)
    with pytest.raises(NoCapacity):
        backend.create(LeaseRequest("k-a1", offer, max_seconds=60))
    assert not cloud.pods()
