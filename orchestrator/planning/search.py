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
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from orchestrator.planning.bounds import Bound
from orchestrator.planning.climb import Belief, Option, State, step, trial

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


class _Unit(NamedTuple):
    """An attempt with one memory from one belief on, if its machine holds: its chance, and what follows if it fails."""

    fits: float
    plain: float
    strict: float


class _Look(NamedTuple):
    """A node seen with one memory: chances to attempt and to fit, and bounds if passed over, run out, broken."""

    attempted: float
    fits: float
    skipped: float
    out: float
    broken: float
    strict_skipped: float
    strict_out: float
    strict_broken: float


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
        useful = [options[place] for place in able]
        self._plain = Bound(useful, len(belief) // 2, aim.failure)
        self._strict = Bound(useful, len(belief) // 2, aim.failure + SHORTFALL) if aim.target > 0 else self._plain
        self._spare = SHORTFALL * (1 - aim.target) if aim.target > 0 else 0.0
        self._memory = [_memory(option) for option in options]
        self._units: defaultdict[Belief, dict[_Memory, _Unit | None]] = defaultdict(dict)
        self.best: tuple[int, ...] = ()
        self._least = aim.loss(0.0, 1.0)

    def run(self, belief: Belief) -> None:
        """Find the best ladder from ``belief`` on."""
        self._descend(_Node((), 0.0, ((1.0, belief),), self._aim.budget, self._first), self._aim.rungs)

    def _descend(self, node: _Node, rungs: int) -> None:
        """Try every next rung, the most promising first, as long as one could still be better."""
        if rungs <= 0:
            return
        for bound, place in sorted(self._children(node)):
            if bound < self._least - TOLERANCE and rungs > 1:
                self._descend(self._child(node, place), rungs - 1)

    def _children(self, node: _Node) -> list[tuple[float, int]]:
        """The bound and place of each next rung that could be better; the ladders that end with it are judged too."""
        looks: dict[_Memory, _Look] = {}
        states = [self._seen(mass, belief) for mass, belief in node.states]
        unfinished = sum(mass for mass, _ in node.states)
        found = []
        for place in node.next:
            option = self._options[place]
            if option.reserve > node.left:
                continue
            memory = self._memory[place]
            look = looks.get(memory)
            if look is None:
                look = looks[memory] = self._look(option, memory, states)
            attempted, fits, skipped, out, broken, strict_skipped, strict_out, strict_broken = look
            holds, breaks = option.reliability, 1 - option.reliability
            if fits * holds <= 0:
                continue
            cost = fits * option.success + (attempted - fits) * option.out
            spent = node.spent + holds * cost + breaks * attempted * option.broken
            self._judge(node, place, spent, unfinished - holds * fits)
            plain = skipped + holds * out + breaks * broken
            strict = strict_skipped + holds * strict_out + breaks * strict_broken - self._spare
            found.append((round(spent + (plain if plain > strict else strict), 7), place))
        return found

    def _child(self, node: _Node, place: int) -> _Node:
        option = self._options[place]
        chances, states = step(option, node.states)
        order = (*node.order, place)
        freed = (each for each in self._frees[place] if self._better[each] <= set(order))
        return _Node(
            order, node.spent + chances.dollars(option), states, node.left - option.reserve,
            tuple(sorted([*(each for each in node.next if each != place), *freed])),
        )  # fmt: skip

    def _judge(self, node: _Node, place: int, spent: float, unfinished: float) -> None:
        loss = self._aim.loss(spent, unfinished)
        if loss < self._least - TOLERANCE:
            self._least, self.best = loss, (*node.order, place)

    def _seen(self, mass: float, belief: Belief) -> _Seen:
        return mass, belief, self._plain.per_unit(belief), self._strict.per_unit(belief), self._units[belief]

    def _look(self, option: Option, memory: _Memory, states: Sequence[_Seen]) -> _Look:
        attempted = fits = skipped = out = broken = strict_skipped = strict_out = strict_broken = 0.0
        for mass, belief, plain, strict, units in states:
            unit = units[memory] if memory in units else units.setdefault(memory, self._unit(option, belief))
            if unit is None:
                skipped += mass * plain
                strict_skipped += mass * strict
                continue
            attempted += mass
            fits += mass * unit.fits
            out += mass * unit.plain
            strict_out += mass * unit.strict
            broken += mass * plain
            strict_broken += mass * strict
        return _Look(attempted, fits, skipped, out, broken, strict_skipped, strict_out, strict_broken)

    def _unit(self, option: Option, belief: Belief) -> _Unit | None:
        tried = trial(option, belief)
        return _Unit(tried.fits, self._plain.of(tried.out), self._strict.of(tried.out)) if tried else None


_Memory = tuple[int, float, int, float]
_Seen = tuple[float, Belief, float, float, dict[_Memory, _Unit | None]]
"""A state with its bounds, and what is known of attempts from its belief on."""


def _memory(option: Option) -> _Memory:
    return option.vram, option.vram_out, option.ram, option.ram_out


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
