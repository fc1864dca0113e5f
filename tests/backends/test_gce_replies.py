"""Compute Engine without Google: what is asked, what a refusal means, what offers are made of."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backends.base import (
    AuthError,
    BackendError,
    Fate,
    LeaseRequest,
    Lost,
    NoCapacity,
    Rejected,
    Transient,
)
from backends.gce import catalog, marks, requests
from backends.gce.catalog import Quotas
from backends.gce.replies import (
    PREEMPTED,
    Absent,
    Instance,
    Malformed,
    NoneInZone,
    Operation,
    State,
    ThereAlready,
    failure,
    problem,
    read_scattered,
)
from backends.gce.settings import Settings
from backends.gce.tables import machine_types
from orchestrator.catalog.gpus import bundled_gpus
from orchestrator.catalog.offers import BUNDLED_OFFERS, load_offers

RENT = requests.Ask(
    "instances", "insert", "renting a g2-standard-4 in us-central1-a", {"project": "mine"}, rents=True
)  # fmt: skip
LOOK = requests.Ask("instances", "get", "looking at instance x", {"project": "mine"})
NOW = datetime(2026, 11, 28, tzinfo=UTC)
A2, L4 = ("a2-highgpu-1g", "us-central1"), ("g2-standard-4", "us-central1")


@pytest.mark.parametrize(
    ("ask", "status", "reason", "kind", "said"),
    [
        (RENT, 409, "alreadyExists", ThereAlready, "words of Google"),
        (RENT, 403, "quotaExceeded", NoCapacity, "iam-admin/quotas?project=mine"),
        (RENT, 403, "rateLimitExceeded", Transient, "403"),
        (RENT, 429, "rateLimitExceeded", Transient, "429"),
        (RENT, 503, "backendError", Lost, "503"),
        (RENT, 400, "invalid", Rejected, "400"),
        (RENT, 403, "forbidden", AuthError, "compute.instances.insert"),
        (RENT, 403, "accessNotConfigured", AuthError, "Enable the Compute Engine API"),
        (LOOK, 401, "authError", AuthError, "gcloud auth application-default login"),
        (LOOK, 404, "notFound", Absent, "404"),
        (LOOK, 500, "internalError", Transient, "500"),
    ],
)
def test_what_a_refusal_means(ask: requests.Ask, status: int, reason: str, kind: type[BackendError], said: str) -> None:
    body = {"error": {"message": "words of Google", "errors": [{"reason": reason}]}}
    refusal = problem(ask, status, json.dumps(body).encode())
    assert type(refusal) is kind
    assert said in f"{refusal} {refusal.advice}"
    assert "no reason given" in str(problem(ask, status, b"<html>"))


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", 503, NoneInZone),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", 503, NoneInZone),
        ("INTERNAL_ERROR", 500, NoneInZone),
        ("QUOTA_EXCEEDED", 403, NoCapacity),
        ("RESOURCE_ALREADY_EXISTS", 409, ThereAlready),
        ("INVALID_FIELD_VALUE", 400, Rejected),
    ],
)
def test_what_a_late_error_means(code: str, status: int, kind: type[BackendError]) -> None:
    operation = Operation("op", "insert", True, errors=((code, "Google's words."),), status=status)
    why = failure(RENT, "us-central1-a", operation)
    assert type(why) is kind
    assert "Google's words" in str(why)
    assert failure(RENT, "us-central1-a", Operation("op", "insert", True)) is None


def test_a_list_that_google_has_left_zones_out_of_is_no_list() -> None:
    assert read_scattered({"items": {"zones/a": {"instances": [{}]}, "zones/b": {"warning": {}}}}, "instances") == [{}]
    with pytest.raises(Malformed, match="zones/c"):
        read_scattered({"items": {}, "unreachables": ["zones/c"]}, "instances")


def test_the_request_id_is_the_same_for_whoever_asks_again_and_another_one_in_another_zone() -> None:
    ids = [requests.request_id_of("word", "job-a1", f"us-central1-{zone}") for zone in "aba"]
    assert (ids[0] == ids[2], len(set(ids))) == (True, 2)


def test_names_and_labels_are_what_google_takes_whatever_the_key_is() -> None:
    plain, odd = marks.labels_for("job-abcde-a1", "f" * 32), marks.labels_for("Jöb_ABC." + "x" * 80, "f" * 32)
    assert plain[marks.KEY] == "job-abcde-a1"
    assert marks.name_of("job-abcde-a1") == "gpujob-job-abcde-a1"
    for labels in (plain, odd):
        assert all(len(text) <= 63 and text == text.lower() and text.isascii() for text in labels.values())
    assert len(marks.name_of("x" * 200)) <= 63
    assert marks.name_of("Job") != marks.name_of("job")


def test_the_dated_prices_are_those_that_gpujob_offers_shows() -> None:
    rows = [row for row in load_offers(BUNDLED_OFFERS, bundled_gpus()) if row.provider == "gcp"]
    shown = {(row.instance, row.region): row for row in rows if not (row.old or row.partial or row.unverified)}
    both = shown.keys() & machine_types().keys()
    assert {A2, L4, ("a2-ultragpu-1g", "us-central1")} <= both
    for each in both:
        type_, row = machine_types()[each], shown[each]
        told = (type_.gpu, type_.gpu_count, type_.ram_bytes, type_.vcpus, type_.micros_per_hour, type_.as_of)
        assert told == (row.gpu, row.gpu_count, row.ram_bytes, row.cpus, row.micros_per_hour, row.dated)
        assert type_.spot_micros_per_hour == row.spot_micros_per_hour
        assert type_.vram_bytes <= row.vram_bytes


def test_host_and_gpu_are_priced_together() -> None:
    """The parts that the price table knows by themselves are never all that a machine costs."""
    rows = [row for row in load_offers(BUNDLED_OFFERS, bundled_gpus()) if row.provider == "gcp" and row.partial]
    parts = {row.gpu: row for row in rows}
    for type_ in machine_types().values():
        if (part := parts.get(type_.gpu)) and type_.spot_micros_per_hour and part.spot_micros_per_hour:
            assert type_.spot_micros_per_hour > part.spot_micros_per_hour * type_.gpu_count
            assert (type_.micros_per_hour or 10**9) > part.micros_per_hour * type_.gpu_count


def test_every_row_says_where_it_is_from() -> None:
    for name in ("machines.csv", "regions.csv"):
        with (Path(catalog.__file__).parent / name).open(encoding="utf-8", newline="") as file:
            assert all(row["source"] and row["as_of"] for row in csv.DictReader(file))


def test_offers_hold_the_address_the_local_ssd_the_minute_the_disk_and_what_leaves() -> None:
    found = {each.name: each for each in catalog.offers(Settings(spot=True), Quotas(), "x")}
    assert found["g2-standard-4 in us-central1"].micros_per_hour == 706_800 + 5_000
    ultra = found["a2-ultragpu-1g in us-central1"]
    assert ultra.micros_per_hour == pytest.approx(5_027_700 + 5_000 + 375 * 80_000 / 672, abs=1)
    assert (ultra.billing.minimum_seconds, ultra.billing.egress_micros_per_gb) == (60, 120_000)
    assert ultra.billing.disk_micros_per_gb_month == pytest.approx(100_000 * 730 / 672, abs=1)
    assert "a3-highgpu-1g in us-central1" not in found, "sold as spot only"
    spot = found["spot a3-highgpu-1g in us-central1"]
    assert (spot.billing.spot, "2026-06-15" in spot.caveat, spot.missing) == (True, True, "x")
    assert not [name for name in (each.name for each in catalog.offers(Settings(), Quotas())) if "spot" in name]


@pytest.mark.parametrize(
    ("everywhere", "here", "said"),
    [
        ({"GPUS_ALL_REGIONS": 8}, {"NVIDIA_L4_GPUS": 0, "PREEMPTIBLE_NVIDIA_L4_GPUS": 0}, "0 NVIDIA_L4_GPUS"),
        ({"GPUS_ALL_REGIONS": 0}, {"NVIDIA_L4_GPUS": 1}, "0 GPUS_ALL_REGIONS altogether"),
        ({"GPUS_ALL_REGIONS": 1}, {"NVIDIA_L4_GPUS": 0, "PREEMPTIBLE_NVIDIA_L4_GPUS": 1}, ""),
        ({}, {}, ""),
    ],
)
def test_a_quota_of_nothing_is_said(everywhere: dict[str, int], here: dict[str, int], said: str) -> None:
    why = catalog.over_quota(machine_types()[L4], Quotas("mine", everywhere, {"us-central1": here}))
    assert (said in why, bool(why)) == (True, bool(said))


def test_every_name_stands_for_what_it_was_made_from() -> None:
    for offer in catalog.offers(Settings(spot=True), Quotas()):
        target = catalog.target_of(offer.name)
        assert target
        assert (target.type.gpu, target.type.gpu_count, target.spot) == (offer.gpu, offer.gpu_count, offer.billing.spot)
    assert catalog.target_of("n1-standard-4 in us-central1") is None


def test_only_zones_of_the_region_are_asked_and_none_to_avoid() -> None:
    having = ["us-central1-c", "us-central1-a", "europe-west4-a", "us-central1-b"]
    found = catalog.zones_to_ask(having, "us-central1", frozenset({"us-central1-a"}))
    assert found == ["us-central1-b", "us-central1-c"]


def test_google_deletes_before_the_reservation_is_used_up_and_before_the_machine_ends_itself() -> None:
    """A power-off from inside clears the time limit at Google, and leaves a disk that costs money."""
    offer = next(iter(catalog.offers(Settings(), Quotas())))
    request = LeaseRequest("job-a1", offer, max_seconds=3600.0, ends_at=NOW + timedelta(seconds=3000))
    ends_at = marks.ends_at(request, NOW)
    assert marks.run_seconds(ends_at, NOW) == 3000 - marks.LATE_SECONDS
    script = marks.metadata_for(request, ends_at, "ssh-ed25519 AAAA", "")["startup-script"]
    assert f"GPUJOB_ENDS_AT={ends_at + marks.BACKUP_SECONDS}\n" in script
    assert f"GPUJOB_MAX_SECONDS={3600 + marks.LATE_SECONDS}\n" in script


def test_what_became_of_an_instance() -> None:
    taken = [Operation("op", PREEMPTED, True)]
    running = Instance("gpujob-x", "1", "us-central1-a", State.RUNNING, "g2-standard-4", NOW)
    off = Instance("gpujob-x", "1", "us-central1-a", State.TERMINATED, "g2-standard-4", NOW)
    assert marks.fate_of(running, taken) is Fate.ALIVE
    assert [marks.fate_of(each, taken) for each in (off, None)] == [Fate.PREEMPTED] * 2
    assert [marks.fate_of(each, ()) for each in (off, None)] == [Fate.ENDED, Fate.GONE]
