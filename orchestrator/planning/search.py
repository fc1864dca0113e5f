"""The best order of attempts: branch and bound, exact to a micro-dollar.

The objective is the expected cost of the climb, plus ``failure`` if no rung succeeds, plus ``SHORTFALL`` for each
unit of chance that is missing to ``target``. Worst cases together never exceed the budget.

Dominance: an option is not tried before one with the same chances that costs no more however it ends. (Better chances
alone do not dominate: an attempt that fails for less can be worth making for what it shows.)

What an attempt shows depends on its memory alone, and few machines differ in that. So a node is looked at once for each
memory; the bound of every child is then a sum of a few numbers, and its states are worked out only if it is entered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from orchestrator.planning.bounds import Bound
from orchestrator.planning.climb import Belief, Memory, Option, State, Trial, step, trial

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
    search.run(belief)
    return list(search.best)


@dataclass(frozen=True, slots=True)
class _Node:
    """A ladder so far; ``next`` are the options that may come after it, as far as dominance goes."""

    order: tuple[int, ...]
    spent: float
    states: Sequence[State]
    left: int
    next: tuple[int, ...]

    @property
    def unfinished(self) -> float:
        """The chance that none of its rungs succeeds."""
        return sum(mass for mass, _ in self.states)


@dataclass(slots=True)
class _Rest:
    """The least that what follows can cost, by where it follows: passed over, run out, broken."""

    skipped: float = 0.0
    out: float = 0.0
    broken: float = 0.0

    def least(self, holds: float) -> float:
        """For a machine that ``holds`` with that chance."""
        return self.skipped + holds * self.out + (1 - holds) * self.broken


@dataclass(slots=True)
class _Look:
    """A node seen with one memory: the chances to attempt and to fit if the machine holds, and bounds of the rest."""

    attempted: float = 0.0
    fits: float = 0.0
    plain: _Rest = field(default_factory=_Rest)
    strict: _Rest = field(default_factory=_Rest)

    def rest(self, holds: float, spare: float) -> float:
        """The better of both bounds; the strict one counts ``spare`` too much."""
        return max(self.plain.least(holds), self.strict.least(holds) - spare)


class _Search:
    def __init__(self, options: Sequence[Option], belief: Belief, aim: Aim) -> None:
        self._options = options
        self._aim = aim
        self._better = dominators(options, aim)
        able = [place for place, better in enumerate(self._better) if len(better) < aim.rungs]
        self._first = tuple(place for place in able if not self._better[place])
        self._frees: defaultdict[int, list[int]] = defaultdict(list)
        for place in able:
            for better in self._better[place]:
                self._frees[better].append(place)
        self._useful = [options[place] for place in able]
        self._levels = len(belief) // 2
        self._spare = SHORTFALL * (1 - aim.target)
        self._bounds: dict[int, tuple[Bound, Bound]] = {}
        self._memory = [option.memory for option in options]
        self._trials: defaultdict[Belief, dict[Memory, Trial | None]] = defaultdict(dict)
        self.best: tuple[int, ...] = ()
        self._least = aim.loss(0.0, 1.0)

    def run(self, belief: Belief) -> None:
        """Find the best ladder from ``belief`` on."""
        self._descend(_Node((), 0.0, ((1.0, belief),), self._aim.budget, self._first), self._aim.rungs)

    def _descend(self, node: _Node, rungs: int) -> None:
        """Try every next rung, the most promising first, as long as one could still be better."""
        if rungs <= 0:
            return
        states = [(mass, belief, self._trials[belief]) for mass, belief in node.states]
        looks: dict[Memory, _Look] = {}
        promising = []
        for place in node.next:
            option = self._options[place]
            if option.reserve > node.left:
                continue
            memory = self._memory[place]
            look = looks.get(memory)
            if look is None:
                look = looks[memory] = self._look(option, memory, states, rungs - 1)
            if look.fits * option.reliability <= 0:
                continue
            spent = self._judged(node, place, option, look)
            bound = spent + look.rest(option.reliability, self._spare)
            if rungs > 1 and bound < self._least - TOLERANCE:
                promising.append((round(bound, 7), place))
        for bound, place in sorted(promising):
            if bound < self._least - TOLERANCE:
                self._descend(self._child(node, place), rungs - 1)

    def _judged(self, node: _Node, place: int, option: Option, look: _Look) -> float:
        """What is spent on the ladder that goes on with ``option``; if it may as well end there, it is judged so."""
        holds, attempted, fits = option.reliability, look.attempted, look.fits
        cost = fits * option.success + (attempted - fits) * option.out
        spent = node.spent + holds * cost + (1 - holds) * attempted * option.broken
        if spent < self._least:
            loss = self._aim.loss(spent, node.unfinished - holds * fits)
            if loss < self._least - TOLERANCE:
                self._least, self.best = loss, (*node.order, place)
        return spent

    def _child(self, node: _Node, place: int) -> _Node:
        option = self._options[place]
        chances, states = step(option, node.states)
        order = (*node.order, place)
        freed = (each for each in self._frees[place] if self._better[each] <= set(order))
        return _Node(
            order, node.spent + chances.dollars(option), states, node.left - option.reserve,
            tuple(sorted([*(each for each in node.next if each != place), *freed])),
        )  # fmt: skip

    def _look(self, option: Option, memory: Memory, states: Sequence[_Seen], below: int) -> _Look:
        """The node's ``states`` seen with one memory, and the least that so many rungs ``below`` it cost."""
        look = _Look()
        bounds = list(zip(self._bounds_of(below), (look.plain, look.strict), strict=True)) if below else []
        for mass, belief, trials in states:
            tried = trials[memory] if memory in trials else trials.setdefault(memory, trial(option, belief))
            if tried is not None:
                look.attempted += mass
                look.fits += mass * tried.fits
            for bound, rest in bounds:
                if tried is None:
                    rest.skipped += mass * bound.per_unit(belief)
                else:
                    rest.out += mass * bound.of(tried.out)
                    rest.broken += mass * bound.per_unit(belief)
        return look

    def _bounds_of(self, rungs: int) -> tuple[Bound, Bound]:
        """Without and with the shortfall counted in full."""
        if rungs not in self._bounds:
            plain, strict = (
                Bound(self._useful, self._levels, failure, rungs)
                for failure in (self._aim.failure, self._aim.failure + SHORTFALL)
            )
            self._bounds[rungs] = plain, strict
        return self._bounds[rungs]


_Seen = tuple[float, Belief, dict[Memory, Trial | None]]
"""A state, and the attempts from its belief on as far as they were worked out."""


def dominators(options: Sequence[Option], aim: Aim) -> list[set[int]]:
    """For each option the places of those that it is never tried before, as many as there are rungs at most."""
    alike: defaultdict[object, list[int]] = defaultdict(list)
    for place, option in enumerate(options):
        alike[_chances(option)].append(place)
    better: list[set[int]] = [set() for _ in options]
    for places in alike.values():
        able: list[int] = []
        for place in sorted(places, key=lambda each: (options[each].success, options[each].out, each)):
            found = (other for other in able if _costs_no_more(options[other], options[place]))
            better[place].update(islice(found, aim.rungs))
            if len(better[place]) < aim.rungs:
                able.append(place)
    return better


def _chances(option: Option) -> object:
    """All that decides how attempts end; a memory that always suffices is like any other that does."""
    vram = (option.vram, option.vram_out) if option.vram_out else None
    ram = (option.ram, option.ram_out) if option.ram_out else None
    return option.reliability, vram, ram


def _costs_no_more(one: Option, other: Option) -> bool:
    return (
        one.success <= other.success
        and one.out <= other.out
        and one.broken <= other.broken
        and one.reserve <= other.reserve
    )
