"""What a bit more money, another priority or a changed setting would buy: each found by planning again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from backends.units import format_about, format_chance, format_usd
from orchestrator.planning.outlook import Facts
from orchestrator.planning.plan import Plan, Priority, Rung

NEARLY_SURE = 0.99
_WORTH_SAYING = 0.01
_A_REAL_CHANCE = 0.5
_MUCH_LESS = 0.7
_PLENTY = 1_000_000_000
"""Micro-dollars more than any wish: a thousand dollars."""

_CENT = 10_000


class Again(Protocol):
    """Makes the same plan with something changed; what is None stays as it is."""

    def __call__(
        self, *, budget_micros: int | None = None, priority: Priority | None = None, facts: Facts | None = None
    ) -> Plan:
        """The plan for the change."""


def what_if(plan: Plan, again: Again, levers: Mapping[str, Facts]) -> tuple[str, ...]:
    """What would change ``plan`` for the better, in sentences; ``levers`` are settings with the facts they lead to."""
    return (*_more_money(plan, again), *_other_priorities(plan, again), *_settings(plan, again, levers))


def _more_money(plan: Plan, again: Again) -> Iterator[str]:
    """What is lacking for any plan, where there is none, and for one that is nearly sure."""
    if plan.p_success >= NEARLY_SURE:
        return
    plenty = plan.budget_micros + _PLENTY
    sure = _lacking(plan, _nearly_sure(again(budget_micros=plenty)))
    least = 0 if plan.ladder else _lacking(plan, _cheapest(again(budget_micros=plenty, priority=Priority.COST)))
    if 0 < least < sure and (first := again(budget_micros=plan.budget_micros + least)).ladder:
        chance = format_chance(first.p_success)
        yield f"+{format_usd(least)} of budget is enough for {_where(first.ladder[0])}, {chance} chance"
    if sure > 0:
        better = again(budget_micros=plan.budget_micros + sure)
        if better.p_success > plan.p_success + _WORTH_SAYING:
            chance = format_chance(better.p_success)
            yield f"+{format_usd(sure)} of budget makes it {chance}: {_where(better.ladder[0])} first"


def _nearly_sure(rich: Plan) -> int:
    """Micro-dollars that the shortest ladder must reserve which is as good as sure."""
    chance, needed = 0.0, 0
    for rung in rich.ladder:
        chance += rung.p_reached * rung.p_success
        needed += rung.needed_micros
        if chance >= min(NEARLY_SURE, rich.p_success):
            break
    return needed


def _cheapest(rich: Plan) -> int:
    """Micro-dollars that the rung must reserve which needs the least."""
    return min((rung.needed_micros for rung in rich.ladder), default=0)


def _lacking(plan: Plan, needed: int) -> int:
    """What is missing to reserve ``needed``, rounded up to a cent; nothing or less if it is there."""
    return -(-(needed - plan.budget_micros) // _CENT) * _CENT


def _other_priorities(plan: Plan, again: Again) -> Iterator[str]:
    if not plan.ladder:
        return
    quick, cheap = again(priority=Priority.SPEED), again(priority=Priority.COST)
    if quick.ladder and quick.expected_seconds < _MUCH_LESS * plan.expected_seconds:
        yield f"--priority speed: {_comparison(quick, plan)}"
    if cheap.ladder and cheap.expected_micros < _MUCH_LESS * plan.expected_micros:
        yield f"--priority cost: {_comparison(cheap, plan)}"


def _settings(plan: Plan, again: Again, levers: Mapping[str, Facts]) -> Iterator[str]:
    for words, facts in levers.items():
        other = again(facts=facts)
        surer = other.p_success > plan.p_success + _WORTH_SAYING and other.p_success >= _A_REAL_CHANCE
        cheaper = other.expected_micros < _MUCH_LESS * plan.expected_micros and other.p_success >= plan.p_success
        if other.ladder and (surer or cheaper):
            cost = format_usd(other.expected_micros) if other.expected_micros else "free"
            yield f"{words}: {_where(other.ladder[0])}, {cost}, {format_chance(other.p_success)} chance"


def _comparison(other: Plan, plan: Plan) -> str:
    return (
        f"{format_about(other.expected_seconds)} instead of {format_about(plan.expected_seconds)}, "
        f"{format_usd(other.expected_micros)} instead of {format_usd(plan.expected_micros)}, "
        f"{format_chance(other.p_success)} chance, with {_where(other.ladder[0])} first"
    )


def _where(rung: Rung) -> str:
    return f"{rung.variant} on {rung.backend} {rung.offer}"
