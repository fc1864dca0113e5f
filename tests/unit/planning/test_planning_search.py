"""The search finds the best ladder there is, and the climb on paper is the climb: both against plain enumeration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.planning.climb import Belief, Option, State, climb, step, unknown
from orchestrator.planning.search import Aim, best_order

VRAM, RAM, OTHER = 0, 1, 2
LEVELS = 3

exceedances = st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.3, 0.5, 0.8, 1.0])
dollars = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 3.5, 8.0])


@st.composite
def options(draw: st.DrawFn) -> Option:
    success, nuisance = draw(dollars), draw(st.sampled_from([0.0, 0.0, 2.0, 30.0]))
    return Option(
        vram=draw(st.sampled_from([VRAM, VRAM, OTHER])),
        vram_out=draw(exceedances),
        ram=RAM,
        ram_out=draw(exceedances),
        reliability=draw(st.sampled_from([1.0, 0.97, 0.9, 0.5])),
        success=success + draw(dollars),
        out=success * draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])) + nuisance,
        broken=success * draw(st.sampled_from([0.0, 0.2, 1.0])) + nuisance,
        reserve=draw(st.integers(0, 5)),
    )


aims = st.builds(
    Aim,
    budget=st.integers(0, 12),
    rungs=st.integers(1, 4),
    failure=st.sampled_from([0.5, 1.0, 5.0, 30.0, 1000.0]),
    target=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
)


def outcomes(ladder: list[Option]) -> list[tuple[float, float, bool]]:
    """Chance, dollars and success of every way that a climb can go: needs by the cell they lie in, coins one by one."""
    cells = [sorted({0.0, 1.0, *(o.vram_out for o in ladder), *(o.ram_out for o in ladder)}) for _ in range(LEVELS)]
    intervals = [list(pairwise(edges)) for edges in cells]
    found = []
    for needs in product(*intervals):
        mass = 1.0
        for low, high in needs:
            mass *= high - low
        levels = [(low + high) / 2 for low, high in needs]
        for coins in product([True, False], repeat=len(ladder)):
            found.append(one_climb(ladder, levels, coins, mass))
    return found


def one_climb(
    ladder: list[Option], levels: list[float], coins: tuple[bool, ...], mass: float
) -> tuple[float, float, bool]:
    """A rung is passed over if one above ran out of the same memory with no less of it."""
    chance, spent, too_little = mass, 0.0, [1.0] * LEVELS
    for option, holds in zip(ladder, coins, strict=True):
        chance *= option.reliability if holds else 1 - option.reliability
    for option, holds in zip(ladder, coins, strict=True):
        if option.ram_out >= too_little[option.ram] or option.vram_out >= too_little[option.vram]:
            continue
        if not holds:
            spent += option.broken
        elif levels[option.ram] < option.ram_out:
            spent, too_little[option.ram] = spent + option.out, option.ram_out
        elif levels[option.vram] < option.vram_out:
            spent, too_little[option.vram] = spent + option.out, option.vram_out
        else:
            return chance, spent + option.success, True
    return chance, spent, False


beliefs = st.builds(
    lambda vram, ram: (vram, 0.0, ram, 0.0, 1.0, 0.0),
    vram=st.sampled_from([1.0, 1.0, 0.3, 0.01]),
    ram=st.sampled_from([1.0, 1.0, 0.1]),
)
"""Nothing known, or that attempts ran out of either memory."""


@settings(max_examples=300)
@given(st.lists(options(), max_size=3))
def test_the_climb_on_paper_is_every_climb_weighted(ladder: list[Option]) -> None:
    ways = outcomes(ladder)
    ends = climb(ladder, unknown(LEVELS))
    spent = sum(end.dollars(option) for option, end in zip(ladder, ends, strict=True))
    assert sum(chance for chance, _, _ in ways) == pytest.approx(1)
    assert spent == pytest.approx(sum(chance * dollars for chance, dollars, _ in ways), abs=1e-9)
    assert sum(end.succeeds for end in ends) == pytest.approx(
        sum(chance for chance, _, succeeded in ways if succeeded), abs=1e-9
    )


def losses(listed: list[Option], belief: Belief, aim: Aim) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every ladder that can be paid for, and what it costs in expectation by the climb on paper."""
    whole: list[State] = [(1.0, belief)]
    todo = [((), 0.0, whole, aim.budget)]
    while todo:
        order, spent, states, left = todo.pop()
        yield order, aim.loss(spent, sum(mass for mass, _ in states))
        for place in range(len(listed)) if len(order) < aim.rungs else ():
            option = listed[place]
            if place not in order and option.reserve <= left:
                chances, after = step(option, states)
                todo.append(((*order, place), spent + chances.dollars(option), after, left - option.reserve))


@settings(max_examples=2500)
@given(st.lists(options(), max_size=5), beliefs, aims)
def test_the_search_is_as_good_as_trying_every_ladder(listed: list[Option], belief: Belief, aim: Aim) -> None:
    every = dict(losses(listed, belief, aim))
    found = tuple(best_order(listed, belief, aim))
    assert found in every, "it keeps to the budget and the number of rungs"
    assert every[found] == pytest.approx(min(every.values()), abs=1e-5, rel=1e-9)
