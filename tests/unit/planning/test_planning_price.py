"""Prices as providers count them, to the micro-dollar."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_kit import USD, job, machine, only_rejection, plan, rungs

from backends.base import Billing
from orchestrator.planning.plan import Code, Priority
from orchestrator.planning.price import Price, compute_units, electricity, price_of, shared_by_others

HOURLY = Billing(increment_seconds=3600)
HOUR = {"on": "cpu", "minutes": 60}


@pytest.mark.parametrize(
    ("price", "seconds", "micros"),
    [
        (Price(USD), 3600, USD),
        (Price(USD), 1, 278),
        (Price(USD, billing=Billing(increment_seconds=60)), 61, 33_334),
        (Price(USD, billing=HOURLY), 1, USD),
        (Price(USD, billing=HOURLY), 3601, 2 * USD),
        (Price(USD, billing=Billing(minimum_seconds=600)), 5, 166_667),
        (Price(USD, billing=Billing(free_seconds=1800)), 3600, USD // 2),
        (Price(USD, billing=Billing(free_seconds=7200)), 3600, 0),
        (Price(0, 10 * USD), 3600, 10 * USD),
        (Price(590_000), 4 * 3600, 2_360_000),  # document 000: three to four hours of an RTX 4090 are 2 to 3 dollars
    ],
)
def test_what_time_costs(price: Price, seconds: float, micros: int) -> None:
    assert price.micros(seconds) == micros


def test_disk_egress_and_subscription() -> None:
    billing = Billing(disk_micros_per_gb_month=73_000, egress_micros_per_gb=90_000, subscription_micros=10 * USD)
    offer = replace(machine("m", usd="1"), billing=billing)
    price = price_of(offer, disk_bytes=100 * 10**9, egress_bytes=2 * 10**9)
    assert price.micros_per_hour == USD + 10_000
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
    assert Price(rate, billing=billing).micros(5 / 1.19 * 3600) <= 40
    assert Price(rate, billing=billing).micros(6 / 1.19 * 3600) == pytest.approx(100_000, abs=40)


billings = st.builds(
    Billing,
    increment_seconds=st.sampled_from([1, 60, 3600]),
    minimum_seconds=st.sampled_from([0, 60, 600]),
    free_seconds=st.sampled_from([0, 100, 7200]),
)
prices = st.builds(Price, st.integers(0, 20_000_000), st.integers(0, 1_000_000), billings)


@given(prices, st.integers(0, 50_000_000))
def test_money_buys_the_longest_time_that_it_pays_for(price: Price, micros: int) -> None:
    seconds = price.seconds_for(micros)
    if seconds == 0 or seconds == float("inf"):
        assert price.micros(0.0) > micros or price.micros_per_hour == 0 or price.micros(0.001) > micros
        return
    assert price.micros(seconds) <= micros < price.micros(seconds + 3600 + 1)


@given(prices, st.floats(0, 1e6), st.floats(0, 1e6))
def test_longer_is_never_cheaper_and_never_understated(price: Price, one: float, more: float) -> None:
    assert price.micros(one) <= price.micros(one + more)
    owed = Fraction(price.micros_per_hour) * (Fraction(one) - price.billing.free_seconds) / 3600
    assert price.micros(one) >= owed - Fraction(1, 100)


class TestInThePlan:
    def test_hours_begun_are_reserved_whole(self) -> None:
        offer = replace(machine("m", usd="1"), billing=HOURLY)
        (rung,) = plan(job("a", duration=HOUR, limits={"attempts": 1}), offer, budget="2.7").ladder
        assert (rung.worst_case_micros, rung.allowed_seconds) == (2 * USD, 7200)

    def test_a_quota_that_ends_too_early(self) -> None:
        short = replace(machine("free"), billing=Billing(free_seconds=1800, quota_ends=True))
        made = plan(job("a", duration=HOUR), short)
        assert not made.ladder
        assert only_rejection(made, Code.QUOTA).reason.endswith("; the quota ends after 30 min")

    def test_a_quota_that_suffices(self) -> None:
        enough = replace(machine("free"), billing=Billing(free_seconds=15 * 3600, quota_ends=True))
        assert rungs(plan(job("a", duration=HOUR), enough, budget="0")) == [("a", "free")]

    @pytest.mark.parametrize(("rate", "first"), [(0.05, "spot"), (2.0, "steady")])
    def test_spot_is_worth_it_while_it_is_seldom_taken_back(self, rate: float, first: str) -> None:
        spot = replace(machine("spot", usd="0.2"), billing=Billing(interruptions_per_hour=rate))
        made = plan(job("a", duration={"on": "cpu", "minutes": 180}), spot, machine("steady", usd="1"))
        assert rungs(made)[0] == ("a", first)

    def test_waiting_is_time(self) -> None:
        person = replace(machine("person", usd="0.1"), billing=Billing(wait_seconds=3600))
        offers = (person, machine("at-once", usd="1"))
        spec = job("a", duration=HOUR)
        assert rungs(plan(spec, *offers, priority=Priority.COST))[0] == ("a", "person")
        assert rungs(plan(spec, *offers, priority=Priority.SPEED))[0] == ("a", "at-once")
