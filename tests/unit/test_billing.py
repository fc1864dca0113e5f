"""Prices as providers count them, to the micro-dollar."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backends.base import Billing, Offer
from backends.billing import Price, charge, compute_units, electricity, price_of, shared_by_others

USD = 1_000_000
GB = 10**9
PER_MINUTE = Billing(increment_seconds=60)
HOURLY = Billing(increment_seconds=3600)
RUNPOD = Billing(
    disk_micros_per_gb_month=100_000, stopped_disk_micros_per_gb_month=200_000, least_disk_bytes=20 * GB
)  # fmt: skip
OFFER = Offer("cloud", "m", 16 * GB, 100 * GB, 4, USD)


@pytest.mark.parametrize(
    ("rate", "billing", "seconds", "micros"),
    [
        (USD, Billing(), 3600, USD),
        (USD, Billing(), 1, 278),
        (USD, Billing(), 0, 0),
        (USD, Billing(), 0.0001, 1),
        (590_001, Billing(), 3600, 590_001),
        (USD, PER_MINUTE, 60, 16_667),
        (USD, PER_MINUTE, 60.001, 33_334),
        (USD, HOURLY, 1, USD),
        (USD, HOURLY, 3600, USD),
        (USD, HOURLY, 3601, 2 * USD),
        (USD, Billing(minimum_seconds=600), 5, 166_667),
        (USD, Billing(minimum_seconds=90, increment_seconds=60), 5, 33_334),
        (USD, Billing(free_seconds=1800), 3600, USD // 2),
        (USD, Billing(free_seconds=7200), 3600, 0),
        (0, Billing(subscription_micros=10 * USD), 3600, 10 * USD),
        (0, Billing(subscription_micros=10 * USD, subscribed=True), 3600, 0),
        (
            590_000,
            Billing(),
            4 * 3600,
            2_360_000,
        ),  # document 000: 3 to 4 h of an RTX 4090
    ],
)
def test_what_time_costs(rate: int, billing: Billing, seconds: float, micros: int) -> None:
    assert charge(rate, billing, seconds) == micros


def test_disk_is_charged_while_held_and_while_stopped() -> None:
    """50 GB at 10 cents a month are 6849.3 micro-dollars an hour; stopped, twice that."""
    assert charge(0, RUNPOD, 3600, disk_bytes=50 * GB) == math.ceil(Fraction(50 * 100_000, 730))
    assert charge(0, RUNPOD, 0, disk_bytes=50 * GB, stopped_seconds=3600) == math.ceil(Fraction(50 * 200_000, 730))
    assert charge(USD, RUNPOD, 730 * 3600, disk_bytes=50 * GB) == 730 * USD + 5 * USD


def test_a_disk_is_never_smaller_than_the_least_that_is_rented() -> None:
    assert charge(0, RUNPOD, 730 * 3600, disk_bytes=GB) == charge(0, RUNPOD, 730 * 3600, disk_bytes=20 * GB) == 2 * USD


def test_parts_are_added_before_they_are_rounded() -> None:
    tiny = Billing(disk_micros_per_gb_month=730)
    assert charge(1, tiny, 1800, disk_bytes=GB) == 1


def test_egress_is_charged_by_the_byte() -> None:
    billing = Billing(egress_micros_per_gb=90_000)
    assert charge(0, billing, 60, egress_bytes=2 * GB) == 180_000
    assert charge(0, billing, 60, egress_bytes=1) == 1


def test_the_price_of_an_offer() -> None:
    billing = Billing(disk_micros_per_gb_month=73_000, egress_micros_per_gb=90_000, subscription_micros=10 * USD)
    offer = replace(OFFER, billing=billing)
    price = price_of(offer, disk_bytes=100 * GB, egress_bytes=2 * GB)
    assert price.hourly_micros == USD + 10_000
    assert price.fixed_micros == 10 * USD + 180_000
    assert price_of(replace(offer, billing=replace(billing, subscribed=True))).fixed_micros == 0


def test_a_subscription_is_shared_by_the_jobs_that_use_it() -> None:
    assert shared_by_others(Billing(subscription_micros=10 * USD, uses=4)) == 7_500_000
    assert shared_by_others(Billing(subscription_micros=10 * USD)) == 0
    assert shared_by_others(Billing(subscription_micros=10 * USD, uses=4, subscribed=True)) == 0


def test_electricity() -> None:
    assert electricity(watts=350, micros_per_kwh=300_000) == 105_000


def test_compute_units() -> None:
    """A T4 takes 1.19 units an hour at 10 cents; five units are left from the month's hundred."""
    rate, billing = compute_units(Decimal("1.19"), 100_000, Decimal(5))
    assert rate == 119_000
    assert charge(rate, billing, 5 / 1.19 * 3600) <= 40
    assert charge(rate, billing, 6 / 1.19 * 3600) == pytest.approx(100_000, abs=40)


sizes = st.integers(0, 2000 * GB)
billings = st.builds(
    Billing,
    increment_seconds=st.sampled_from([1, 60, 3600]),
    minimum_seconds=st.sampled_from([0, 60, 600]),
    disk_micros_per_gb_month=st.sampled_from([0, 70_000, 100_000]),
    stopped_disk_micros_per_gb_month=st.sampled_from([0, 200_000]),
    least_disk_bytes=st.sampled_from([0, 20 * GB]),
    egress_micros_per_gb=st.sampled_from([0, 90_000]),
    free_seconds=st.sampled_from([0, 100, 7200]),
    quota_ends=st.booleans(),
    subscription_micros=st.sampled_from([0, 10 * USD]),
    subscribed=st.booleans(),
)
prices = st.builds(Price, st.integers(0, 20_000_000), billings, sizes, sizes)
times = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)


@given(prices, st.integers(0, 50_000_000))
def test_money_buys_the_longest_time_that_it_pays_for(price: Price, micros: int) -> None:
    seconds = price.seconds_for(micros)
    if micros < price.micros(0.0):
        assert seconds == 0
    elif math.isinf(seconds):
        assert price.micros(10**9) == price.micros(0.0)
    else:
        assert price.micros(seconds) <= micros < price.micros(seconds + 0.001)


@given(prices, times, times)
def test_longer_is_never_cheaper(price: Price, one: float, more: float) -> None:
    assert price.micros(one) <= price.micros(one + more)


@given(prices, times, times)
def test_a_charge_is_the_exact_sum_rounded_up(price: Price, seconds: float, stopped: float) -> None:
    """Written down once more, in fractions."""
    billing, disk = price.billing, max(price.disk_bytes, price.billing.least_disk_bytes)
    held = max(Fraction(round(seconds * 1000), 1000), Fraction(billing.minimum_seconds))
    if billing.increment_seconds > 1:
        held = Fraction(math.ceil(held / billing.increment_seconds) * billing.increment_seconds)
    hours = max(Fraction(0), held - billing.free_seconds) / 3600
    per_gb_hour = Fraction(disk, GB * 730)
    time = hours * (price.micros_per_hour + per_gb_hour * billing.disk_micros_per_gb_month)
    kept = Fraction(round(stopped * 1000), 3_600_000) * per_gb_hour * billing.stopped_disk_micros_per_gb_month
    egress = math.ceil(Fraction(price.egress_bytes * billing.egress_micros_per_gb, GB))
    subscription = 0 if billing.subscribed else billing.subscription_micros
    assert price.micros(seconds, stopped) == math.ceil(time + kept) + egress + subscription


@given(prices, times, times)
def test_a_reservation_covers_whatever_is_settled_within_it(price: Price, allowed: float, held: float) -> None:
    assume(held <= allowed)
    assert price.micros(held) <= price.micros(allowed)


@given(prices)
def test_a_price_is_kept_as_json(price: Price) -> None:
    assert Price.from_json(json.loads(json.dumps(price.to_json()))) == price
