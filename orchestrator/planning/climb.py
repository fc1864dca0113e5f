"""Climbing a ladder on paper: which rung is reached, and how it ends there. Exact, no sampling.

The need of a job for a memory is one uncertain level, shared by all rungs that depend on it. A level is told by its
*exceedance*: the chance, before anything was tried, that the need is still higher. So it is uniform in (0, 1]; a rung
whose capacity has exceedance ``e`` runs out exactly if the level's exceedance is below ``e``, and after that only
those with less remain possible. A rung that what was seen rules out is passed over, free of charge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Belief = tuple[float, ...]
"""What remains possible: per memory the upper and lower end of the exceedance of its need."""

State = tuple[float, Belief]
"""The chance to be on the way with a belief."""

Memory = tuple[int, float, int, float]
"""What an option has of each memory: the number of the need, and the exceedance of its capacity; VRAM, then RAM."""


@dataclass(frozen=True, slots=True)
class Option:
    """An attempt that could be made. ``vram_out`` and ``ram_out`` are exceedances of its capacities.

    ``vram`` and ``ram`` number the uncertain needs they belong to. ``reliability`` is the chance that machine and
    backend hold. ``success``, ``out`` and ``broken`` are what each ending costs, in dollars of everything that counts;
    ``reserve`` is the micro-dollars that must be set aside before it starts.
    """

    vram: int
    vram_out: float
    ram: int
    ram_out: float
    reliability: float
    success: float
    out: float
    broken: float
    reserve: int

    @property
    def memory(self) -> Memory:
        """All that decides what an attempt shows."""
        return self.vram, self.vram_out, self.ram, self.ram_out


@dataclass(frozen=True, slots=True)
class Chances:
    """How one rung of a ladder ends, seen from the bottom. They sum to the chance that it is attempted."""

    succeeds: float = 0.0
    runs_out: float = 0.0
    breaks: float = 0.0

    @property
    def attempted(self) -> float:
        """The chance that it is attempted at all."""
        return self.succeeds + self.runs_out + self.breaks

    def dollars(self, option: Option) -> float:
        """What its endings cost, each as often as it happens."""
        return self.succeeds * option.success + self.runs_out * option.out + self.breaks * option.broken


def unknown(levels: int) -> Belief:
    """The belief in which nothing is known of any need."""
    return (1.0, 0.0) * levels


@dataclass(frozen=True, slots=True)
class Trial:
    """How an attempt ends whose machine holds, from one belief on: the chance that it fits, and the states if not."""

    fits: float
    out: tuple[State, ...]


def trial(option: Option, belief: Belief) -> Trial | None:
    """That; None where ``option`` is ruled out by what is known, and passed over. Its costs and coin do not matter."""
    ram, vram = 2 * option.ram, 2 * option.vram
    if option.ram_out >= belief[ram] or option.vram_out >= belief[vram]:
        return None
    ram_out = _share(option.ram_out, belief[ram], belief[ram + 1])
    vram_out = (1 - ram_out) * _share(option.vram_out, belief[vram], belief[vram + 1])
    out = []
    if ram_out > 0:
        out.append((ram_out, _with(belief, ram, option.ram_out)))
    if vram_out > 0:
        # A run that got as far as filling the GPU had enough RAM.
        enough = _with(belief, ram + 1, max(option.ram_out, belief[ram + 1]))
        out.append((vram_out, _with(enough, vram, option.vram_out)))
    return Trial(1 - ram_out - vram_out, tuple(out))


def fit(option: Option, belief: Belief) -> float:
    """The chance that its memory suffices."""
    tried = trial(option, belief)
    return tried.fits if tried else 0.0


def step(option: Option, states: Iterable[State]) -> tuple[Chances, list[State]]:
    """Attempt ``option``: how that ends, and the states in which the climb goes on."""
    succeeds = runs_out = breaks = 0.0
    after: defaultdict[Belief, float] = defaultdict(float)
    for mass, belief in states:
        tried = trial(option, belief)
        if tried is None:
            after[belief] += mass
            continue
        holds = mass * option.reliability
        succeeds += holds * tried.fits
        breaks += mass - holds
        if mass > holds:
            after[belief] += mass - holds
        for share, known in tried.out:
            runs_out += holds * share
            after[known] += holds * share
    return Chances(succeeds, runs_out, breaks), [(mass, belief) for belief, mass in after.items()]


def climb(options: Sequence[Option], belief: Belief) -> list[Chances]:
    """How each rung of the ladder ``options`` ends, tried in this order from ``belief`` on."""
    states: list[State] = [(1.0, belief)]
    ends = []
    for option in options:
        chances, states = step(option, states)
        ends.append(chances)
    return ends


def _share(exceedance: float, upper: float, lower: float) -> float:
    """The chance that a level between the two ends exceeds a capacity."""
    return max(0.0, exceedance - lower) / (upper - lower)


def _with(belief: Belief, place: int, value: float) -> Belief:
    return (*belief[:place], value, *belief[place + 1 :])
