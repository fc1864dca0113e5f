"""The best order of attempts: branch and bound, exact to a micro-dollar.

The objective is the expected cost of the climb, plus ``failure`` if no rung succeeds, plus ``SHORTFALL`` for each
unit of chance that is missing to ``target``. Worst cases together never exceed the budget.

Bound: what is left can cost no less than it would for someone who knew the need from the start and went straight to
the cheapest option that fits, stated for each memory as if the others always sufficed. Dominance: an option is not
tried before one with the same chances that costs no more however it ends. (Better chances alone do not dominate: an
attempt that fails for less can be worth making for what it shows.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from orchestrator.planning.climb import Belief, Option, State, step

SHORTFALL = 100_000.0
"""Dollars for missing the target chance altogether: a hundredth of a percent short costs as much as ten dollars."""

TOLERANCE = 1e-6
"""Differences below a micro-dollar do not count; among equals the option listed first comes first."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a ladder must keep to and is judged by. Dollars for ``failure``, micro-dollars for ``budget``."""

    budget: int
    rungs: int
    failure: float
    target: float = 0.0

    def loss(self, spent: float, unfinished: float) -> float:
        """What a ladder costs that spends ``spent`` and fails with chance ``unfinished``."""
        short = max(0.0, unfinished - (1 - self.target))
        return spent + self.failure * unfinished + SHORTFALL * short


def best_order(options: Sequence[Option], belief: Belief, aim: Aim) -> list[int]:
    """The places in ``options`` of the ladder that costs least in expectation; empty if trying nothing is best."""
    search = _Search(options, belief, aim)
    search.descend(_Node((), 0.0, ((1.0, belief),), aim.budget), aim.rungs)
    return list(search.best)


@dataclass(frozen=True, slots=True)
class _Node:
    order: tuple[int, ...]
    spent: float
    states: Sequence[State]
    left: int


class _Search:
    def __init__(self, options: Sequence[Option], belief: Belief, aim: Aim) -> None:
        self._options = options
        self._aim = aim
        self._better = dominators(options, aim)
        self._able = [place for place, better in enumerate(self._better) if len(better) < aim.rungs]
        useful = [options[place] for place in self._able]
        self._plain = _Bound(useful, len(belief) // 2, aim.failure)
        self._strict = _Bound(useful, len(belief) // 2, aim.failure + SHORTFALL) if aim.target > 0 else None
        self.best: tuple[int, ...] = ()
        self._least = aim.loss(0.0, 1.0)

    def descend(self, node: _Node, rungs: int) -> None:
        """Try every next rung, the most promising first, as long as one could still be better."""
        if rungs <= 0:
            return
        children = sorted(self._children(node), key=lambda found: found[0])
        for bound, child in children:
            if bound < self._least - TOLERANCE:
                self.descend(child, rungs - 1)

    def _children(self, node: _Node) -> list[tuple[float, _Node]]:
        found = []
        for place in self._able:
            option = self._options[place]
            if place in node.order or option.reserve > node.left or not self._better[place] <= set(node.order):
                continue
            chances, states = step(option, node.states)
            if chances.succeeds <= 0:
                continue
            child = _Node(
                (*node.order, place), node.spent + chances.dollars(option), states, node.left - option.reserve
            )
            self._offer(child)
            found.append((round(self._bound(child), 7), child))
        return found

    def _offer(self, node: _Node) -> None:
        loss = self._aim.loss(node.spent, sum(mass for mass, _ in node.states))
        if loss < self._least - TOLERANCE:
            self._least, self.best = loss, node.order

    def _bound(self, node: _Node) -> float:
        least = node.spent + self._plain.of(node.states)
        if self._strict is None:
            return least
        return max(least, node.spent + self._strict.of(node.states) - SHORTFALL * (1 - self._aim.target))


def dominators(options: Sequence[Option], aim: Aim) -> list[set[int]]:
    """For each option the places of those that it is never tried before, as many as there are rungs at most."""
    order = sorted(range(len(options)), key=lambda place: (options[place].success, options[place].out, place))
    better: list[set[int]] = [set() for _ in options]
    able: list[int] = []
    for place in order:
        for other in able:
            one, two = options[other], options[place]
            if _dominates(one, two):
                better[place].add(other)
                if len(better[place]) >= aim.rungs:
                    break
        else:
            able.append(place)
    return better


def _dominates(one: Option, other: Option) -> bool:
    return (
        one.success <= other.success
        and one.out <= other.out
        and one.broken <= other.broken
        and one.reserve <= other.reserve
        and (one.vram_out, one.ram_out, one.reliability) == (other.vram_out, other.ram_out, other.reliability)
        and (one.vram == other.vram or one.vram_out == 0)
        and (one.ram == other.ram or one.ram_out == 0)
    )


@dataclass(slots=True)
class _Bound:
    """The least that finishing can cost from a state on, per unit of its chance."""

    options: Sequence[Option]
    levels: int
    failure: float
    _steps: list[_Staircase] = field(init=False)
    _known: dict[Belief, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        least = min((option.success for option in self.options), default=self.failure)
        rest = min(self.failure, least)
        price = [o.reliability * o.success + (1 - o.reliability) * (o.broken + rest) for o in self.options]
        self._steps = [
            _Staircase.down(self.failure, zip(self._exceedances(level), price, strict=True))
            for level in range(self.levels)
        ]

    def of(self, states: Sequence[State]) -> float:
        """That, for all of ``states``."""
        return sum(mass * self._per_unit(belief) for mass, belief in states)

    def _per_unit(self, belief: Belief) -> float:
        if belief not in self._known:
            self._known[belief] = max(
                self._steps[level].mean(belief[2 * level + 1], belief[2 * level]) for level in range(self.levels)
            )
        return self._known[belief]

    def _exceedances(self, level: int) -> list[float]:
        return [max(o.vram_out if o.vram == level else 0.0, o.ram_out if o.ram == level else 0.0) for o in self.options]


@dataclass(frozen=True, slots=True)
class _Staircase:
    """A falling step function of the exceedance, and its integral up to each step."""

    starts: list[float]
    heights: list[float]
    areas: list[float]

    @classmethod
    def down(cls, top: float, steps: Iterable[tuple[float, float]]) -> _Staircase:
        """From ``top``, down to the least of the heights that have started."""
        listed = sorted(steps)
        starts = [0.0, *(start for start, _ in listed)]
        heights = list(accumulate((top, *(height for _, height in listed)), min))
        widths = (after - before for before, after in pairwise(starts))
        areas = [0.0, *accumulate(width * height for width, height in zip(widths, heights, strict=False))]
        return cls(starts, heights, areas)

    def mean(self, lower: float, upper: float) -> float:
        """The mean height between two exceedances."""
        return (self._area(upper) - self._area(lower)) / (upper - lower)

    def _area(self, end: float) -> float:
        place = bisect_right(self.starts, end) - 1
        return self.areas[place] + (end - self.starts[place]) * self.heights[place]
