"""How prices decide what is planned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning_kit import USD, job, machine, only_rejection, plan, rungs

from backends.base import Billing
from orchestrator.planning.plan import Code, Priority

HOURLY = Billing(increment_seconds=3600)
HOUR = {"on": "cpu", "minutes": 60}


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
