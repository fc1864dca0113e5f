"""AWS without AWS: what is asked, what a refusal means, what offers are made of."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backends.aws import catalog, requests
from backends.aws.replies import Mismatch, NoneInZone, micros, newest, problem, read_on_demand
from backends.aws.settings import Settings
from backends.aws.tables import regions, types
from backends.base import AuthError, BackendError, Lost, NoCapacity, Rejected, Transient
from orchestrator.catalog.gpus import bundled_gpus
from orchestrator.catalog.offers import BUNDLED_OFFERS, load_offers
from tests.emulators.aws.replies import price_list

RENT = requests.Ask(
    "ec2", "run_instances", "us-east-1", "renting a p4d.24xlarge in us-east-1d",
    {"InstanceType": "p4d.24xlarge"}, rents=True,
)  # fmt: skip
LOOK = requests.Ask("ec2", "describe_instances", "us-east-1", "listing instances")


@pytest.mark.parametrize(
    ("ask", "status", "code", "kind", "said"),
    [
        (RENT, 500, "InsufficientInstanceCapacity", NoneInZone, "us-east-1d"),
        (RENT, 400, "SpotMaxPriceTooLow", NoneInZone, "us-east-1d"),
        (RENT, 400, "VcpuLimitExceeded", NoCapacity, "quotas/L-417A185B"),
        (RENT, 400, "IdempotentParameterMismatch", Mismatch, "heard this request before"),
        (RENT, 503, "RequestLimitExceeded", Transient, "less often"),
        (RENT, 500, "InternalError", Lost, "500"),
        (RENT, 400, "InvalidParameterValue", Rejected, "wrong"),
        (RENT, 403, "UnauthorizedOperation", AuthError, "ec2:RunInstances"),
        (LOOK, 500, "InternalError", Transient, "500"),
        (LOOK, 401, "AuthFailure", AuthError, "aws configure"),
        (LOOK, 400, "ExpiredToken", AuthError, "aws configure"),
    ],
)
def test_what_a_refusal_means(ask: requests.Ask, status: int, code: str, kind: type[BackendError], said: str) -> None:
    refusal = problem(ask, status, code, "AWS's own words. Encoded authorization failure message: s3cr3t")
    assert type(refusal) is kind
    assert said in f"{refusal} {refusal.advice}"
    assert "s3cr3t" not in str(refusal)


def test_the_token_is_the_same_for_whoever_asks_again_and_another_one_in_another_zone() -> None:
    tokens = {requests.token_of("word", "job-a1", zone) for zone in ("us-east-1a", "us-east-1b", "us-east-1a")}
    assert len(tokens) == 2
    assert all(len(token) == 64 and token.isascii() for token in tokens)


def test_the_dated_prices_are_those_that_gpujob_offers_shows() -> None:
    shown = {offer.instance: offer for offer in load_offers(BUNDLED_OFFERS, bundled_gpus()) if offer.provider == "aws"}
    for type_ in types().values():
        row = shown[type_.name]
        told = (type_.gpu, type_.gpu_count, type_.ram_bytes, type_.vcpus, type_.micros_per_hour, type_.as_of)
        assert told == (row.gpu, row.gpu_count, row.ram_bytes, row.cpus, row.micros_per_hour, row.dated)
        assert type_.vram_bytes <= row.vram_bytes


def test_every_row_says_where_it_is_from() -> None:
    for name in ("types.csv", "regions.csv"):
        with (Path(catalog.__file__).parent / name).open(encoding="utf-8", newline="") as file:
            assert all(row["source"] and row["as_of"] for row in csv.DictReader(file))


def test_offers_hold_the_address_the_minute_the_disk_and_what_leaves() -> None:
    (offer,) = (each for each in catalog.dated_offers(Settings(), "x") if each.name == "g6.xlarge in us-east-1")
    assert offer.micros_per_hour == types()["g6.xlarge"].micros_per_hour + 5_000
    assert (offer.billing.minimum_seconds, offer.billing.egress_micros_per_gb) == (60, 90_000)
    assert offer.billing.disk_micros_per_gb_month == pytest.approx(80_000 * 730 / 672, abs=1)
    assert offer.missing == "x"


def test_live_prices_go_before_dated_ones_and_a_region_without_any_is_not_offered() -> None:
    reading = catalog.Reading(on_demand=read_on_demand(price_list({"g6.xlarge": 0.9})), quotas={"L-DB2E81BA": 2})
    (offer,) = catalog.live_offers("us-east-1", reading, Settings(), "2026-11-28")
    assert (offer.micros_per_hour, offer.as_of) == (905_000, "2026-11-28")
    assert "2 vCPUs" in offer.missing
    assert "L-DB2E81BA" in offer.missing
    assert not offer.caveat
    assert all(
        "GetProducts" in each.caveat for each in catalog.live_offers("us-east-1", catalog.Reading(), Settings(), "")
    )
    assert not list(catalog.live_offers("eu-west-1", catalog.Reading(), Settings(), "2026-11-28"))


def test_spot_asks_the_cheapest_zone_first_and_none_above_the_offer() -> None:
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    pages = [
        {("g6.xlarge", "a"): (old, 100), ("g6.xlarge", "b"): (new, 300)},
        {("g6.xlarge", "a"): (new, 400), ("g6.xlarge", "c"): (new, 900), ("g6.xlarge", "d"): (new, 200)},
    ]
    spot = newest(pages)
    target = catalog.Target(types()["g6.xlarge"], "us-east-1", spot=True)
    assert catalog.zones_to_ask("abcd", spot, target, 500, frozenset({"d"})) == ["b", "a"]


def test_every_name_stands_for_what_it_was_made_from() -> None:
    for offer in catalog.dated_offers(Settings(regions=tuple(regions())), ""):
        target = catalog.target_of(offer.name)
        assert target
        assert f"{target.type.name} in {target.region}" == offer.name
    assert catalog.target_of("spot g6.xlarge in us-east-1") == catalog.Target(types()["g6.xlarge"], "us-east-1", True)
    assert catalog.target_of("t2.micro in us-east-1") is None


@pytest.mark.parametrize("price", ["NaN", "-1", "", None])
def test_what_is_no_price_is_none(price: object) -> None:
    with pytest.raises(Exception, match="no price"):
        micros(price)
