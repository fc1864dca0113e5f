"""What more money, another priority or a changed setting would buy; and weights that the user sets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from planning_kit import GB, USD, gpu_machine, job

from backends.base import Offer
from backends.units import parse_usd
from orchestrator.config import Config, ConfigError
from orchestrator.lifecycle.planning import weights_for
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.ladder import make_plan
from orchestrator.planning.need import MemoryNeed, VariantNeed
from orchestrator.planning.outlook import NO_FACTS, Facts
from orchestrator.planning.plan import Plan, Priority
from orchestrator.planning.weights import WEIGHTS
from orchestrator.planning.whatif import Again, what_if

SPEC = job({"name": "full", "needs": {"gpu": 1, "ram": "8 GB"}}, duration={"on": "A100", "minutes": 60})
HOME = gpu_machine("gpu0", "RTX 4090 Laptop", "local", ram=32, vram=16.9)
BIG = gpu_machine("a100", "A100", usd="1.1", ram=80, vram=42)
FAST = gpu_machine("h100", "H100", usd="9", ram=80, vram=84)


def need(gb: float) -> Facts:
    return Facts({"full": VariantNeed(MemoryNeed(round(gb * GB), 0.1), None, "high")})


def planner(*offers: Offer, budget: int, facts: Facts, priority: Priority = Priority.BALANCED) -> Again:
    usual, wish = facts, priority

    def again(
        *, budget_micros: int | None = None, priority: Priority | None = None, facts: Facts | None = None
    ) -> Plan:
        money = budget if budget_micros is None else budget_micros
        return make_plan(SPEC, offers, Knowledge(), money, priority or wish, facts=facts or usual)

    return again


def test_the_money_that_it_names_is_enough() -> None:
    again = planner(HOME, BIG, budget=0, facts=need(16))
    plan = again()
    (said,) = [each for each in what_if(plan, again, {}) if "budget" in each]
    found = re.match(r"\+(\$[\d.]+) of budget makes it (\d+)%: full on ", said)
    assert found
    richer = again(budget_micros=parse_usd(found[1]))
    assert plan.p_success < 0.8 < richer.p_success
    assert f"{richer.p_success:.0%}" == f"{found[2]}%"


def test_without_a_plan_it_says_what_one_costs() -> None:
    again = planner(BIG, budget=USD // 2, facts=need(16))
    assert not again().ladder
    assert what_if(again(), again, {})[0].startswith("+$")


def test_the_least_money_that_buys_a_plan_is_said_before_what_makes_it_sure() -> None:
    again = planner(BIG, FAST, budget=0, facts=need(40))
    least, sure = what_if(again(), again, {})
    amounts = [parse_usd(said.split()[0].removeprefix("+")) for said in (least, sure)]
    assert amounts[0] < amounts[1]
    assert "is enough for full on" in least
    assert again(budget_micros=amounts[0]).ladder


def test_nothing_is_said_where_nothing_is_better() -> None:
    again = planner(HOME, budget=10 * USD, facts=need(4), priority=Priority.COST)
    assert what_if(again(), again, {}) == ()


def test_time_for_money() -> None:
    again = planner(BIG, FAST, budget=50 * USD, facts=need(16), priority=Priority.COST)
    (said,) = what_if(again(), again, {})
    assert re.match(r"--priority speed: .* instead of .*, with full on cloud h100 first$", said)


def test_money_for_time() -> None:
    again = planner(BIG, FAST, budget=50 * USD, facts=need(16), priority=Priority.SPEED)
    (said,) = what_if(again(), again, {})
    assert said.startswith("--priority cost: ")


def test_a_setting_that_makes_it_fit_at_home() -> None:
    again = planner(HOME, BIG, budget=10 * USD, facts=need(23), priority=Priority.COST)
    said = what_if(again(), again, {"gradient checkpointing": need(10), "a larger batch": need(40)})
    assert any(each.startswith("gradient checkpointing: full on local gpu0, ") for each in said), said
    assert not any("larger batch" in each for each in said)


class TestWeights:
    def test_priorities_are_the_default(self, tmp_path: Path) -> None:
        config = Config(tmp_path / "config.toml")
        assert [weights_for(config, priority) for priority in Priority] == [WEIGHTS[priority] for priority in Priority]

    def test_each_can_be_set(self, tmp_path: Path) -> None:
        config = Config(tmp_path / "config.toml")
        for name, text in (("hour", "20"), ("failure", "0"), ("quality", "7.5"), ("target", "99%")):
            config.set(f"plan.{name}", text)
        found = weights_for(Config(tmp_path / "config.toml"), Priority.COST)
        assert (found.hour, found.failure, found.quality, found.target) == (20, 0, 7.5, 0.99)

    @pytest.mark.parametrize(("name", "text"), [("target", "1"), ("target", "often"), ("hour", "-1")])
    def test_nonsense_is_refused(self, tmp_path: Path, name: str, text: str) -> None:
        with pytest.raises(ConfigError):
            Config(tmp_path / "config.toml").set(f"plan.{name}", text)

    def test_time_that_is_worth_more_buys_a_faster_machine(self) -> None:
        def first(hour: float) -> str:
            weights = WEIGHTS[Priority.COST].changed({"hour": hour})
            plan = make_plan(SPEC, [BIG, FAST], Knowledge(), 50 * USD, Priority.COST, weights=weights, facts=need(16))
            return plan.ladder[0].offer

        assert (first(0.05), first(200)) == ("a100", "h100")

    def test_the_chance_to_aim_at_lengthens_the_ladder(self) -> None:
        def chance(target: float) -> float:
            weights = WEIGHTS[Priority.COST].changed({"target": target})
            plan = make_plan(SPEC, [HOME, BIG], Knowledge(), 10 * USD, Priority.COST, weights=weights, facts=need(15.5))
            return plan.p_success

        assert chance(0.99) >= 0.99

    def test_no_facts_is_no_prediction(self) -> None:
        assert not NO_FACTS.needs
