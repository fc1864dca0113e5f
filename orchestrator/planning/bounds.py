"""The least that finishing a climb can cost from a state on: what the search prunes by.

It can cost no less than it would for someone who knew the need from the start and went straight to the cheapest option
that fits, stated for each memory as if the others always sufficed. If its machine breaks, the same holds with one rung
less, and after the last the climb has failed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf

from orchestrator.planning.climb import Belief, Memory, Option, State


class Bound:
    """The least that finishing can cost from a state on with so many ``rungs``, per unit of its chance."""

    def __init__(self, options: Sequence[Option], levels: int, failure: float, rungs: int) -> None:
        rest = failure
        for _ in range(rungs - 1):
            rest = min((_price(option, rest) for option in options), default=failure)
            rest = min(failure, rest)
        cheapest: dict[Memory, float] = {}
        for option in options:
            price = _price(option, rest)
            if price < cheapest.get(option.memory, inf):
                cheapest[option.memory] = price
        out = {level: [_exceedance(memory, level) for memory in cheapest] for level in range(levels)}
        self._levels = [level for level in range(levels) if any(out[level])] or [0]
        self._steps = {
            level: _Staircase.down(failure, zip(out[level], cheapest.values(), strict=True)) for level in self._levels
        }
        self._known: dict[Belief, float] = {}

    def of(self, states: Iterable[State]) -> float:
        """That, for all of ``states``."""
        return sum(mass * self.per_unit(belief) for mass, belief in states)

    def per_unit(self, belief: Belief) -> float:
        """That, for one belief. A level on which nothing depends says no more than any other."""
        known = self._known.get(belief)
        if known is None:
            known = self._known[belief] = max(
                self._steps[level].mean(belief[2 * level + 1], belief[2 * level]) for level in self._levels
            )
        return known


def _price(option: Option, rest: float) -> float:
    """What it costs where it fits, and ``rest`` follows if its machine breaks."""
    return option.reliability * option.success + (1 - option.reliability) * (option.broken + rest)


def _exceedance(memory: Memory, level: int) -> float:
    vram, vram_out, ram, ram_out = memory
    return max(vram_out if vram == level else 0.0, ram_out if ram == level else 0.0)


@dataclass(frozen=True, slots=True)
class _Staircase:
    """A falling step function of the exceedance, its integral up to each step, and the means that were asked for."""

    starts: list[float]
    heights: list[float]
    areas: list[float]
    means: dict[tuple[float, float], float] = field(default_factory=dict)

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
        known = self.means.get((lower, upper))
        if known is None:
            known = self.means[lower, upper] = (self._area(upper) - self._area(lower)) / (upper - lower)
        return known

    def _area(self, end: float) -> float:
        place = bisect_right(self.starts, end) - 1
        return self.areas[place] + (end - self.starts[place]) * self.heights[place]
