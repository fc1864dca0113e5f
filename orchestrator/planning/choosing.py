"""From candidates to the rungs of the ladder: looked at as far as needed, searched for the best order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from backends.units import format_usd
from orchestrator.planning.climb import Belief, Option, climb, fit
from orchestrator.planning.feasibility import Candidate, No
from orchestrator.planning.outlook import Looking, Outlook
from orchestrator.planning.plan import Code, Rejection
from orchestrator.planning.search import Aim, best_order, dominators
from orchestrator.planning.weights import Weights

LEAST_FIT = 0.05
"""An attempt whose memory suffices with less chance is not worth making, however little it costs."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The rungs in their order, the other candidates that were looked at, and those that need no look."""

    rungs: tuple[Outlook, ...]
    others: tuple[Outlook, ...]
    dearer: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the ladder must keep to, in micro-dollars and attempts, and what it is judged by."""

    budget: int
    rungs: int
    weights: Weights


def choose(candidates: Iterable[Candidate], looking: Looking, belief: Belief, limits: Limits) -> Choice:
    """The best ladder of these candidates, the cheapest of each kind listed first."""
    kinds = _kinds(candidates)
    firsts = [looking.at(kind[0]) for kind in kinds]
    aim = _aim(firsts, belief, limits)
    worth = _worth_looking_at(firsts, belief, aim)
    more = [looking.at(each) for count, kind in zip(worth, kinds, strict=True) for each in kind[1:count]]
    looks = sorted([*firsts, *more], key=_place)
    eligible = [each for each in looks if _eligible(each, belief, aim)]
    rungs = [eligible[place] for place in best_order([each.option for each in eligible], belief, aim)]
    taken = {id(each) for each in rungs}
    others = tuple(each for each in looks if id(each) not in taken)
    dearer = (_dearer(kind, count) for count, kind in zip(worth, kinds, strict=True) if count < len(kind))
    return Choice(tuple(rungs), others, tuple(dearer))


def _kinds(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    kinds: defaultdict[tuple[str, int], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        kinds[candidate.variant.name, candidate.kind].append(candidate)
    return list(kinds.values())


def _aim(looks: Sequence[Outlook], belief: Belief, limits: Limits) -> Aim:
    """A job that fails counts for its budget, and once more what its best attempt costs until it succeeds."""
    options = (each.option for each in looks if each.lasts and each.reserved.micros <= limits.budget)
    best = min((_cost_of_success(option, belief) for option in options), default=0.0)
    failure = limits.weights.failure + limits.budget / 1e6 + best
    return Aim(limits.budget, limits.rungs, failure, limits.weights.target)


def _cost_of_success(option: Option, belief: Belief) -> float:
    (end,) = climb([option], belief)
    return end.dollars(option) / end.succeeds if end.succeeds else math.inf


def _worth_looking_at(firsts: Sequence[Outlook], belief: Belief, aim: Aim) -> list[int]:
    """How many of each kind could be on the ladder: each is tried after the cheaper ones of its and of better kinds."""
    places = [place for place, each in enumerate(firsts) if _eligible(each, belief, aim)]
    better = dominators([firsts[place].option for place in places], aim)
    worth = [1] * len(firsts)
    for place, found in zip(places, better, strict=True):
        worth[place] = max(1, aim.rungs - len(found))
    return worth


def _eligible(each: Outlook, belief: Belief, aim: Aim) -> bool:
    return each.lasts and each.reserved.micros <= aim.budget and fit(each.option, belief) >= LEAST_FIT


def _place(each: Outlook) -> tuple[float, int, int, int, str, str]:
    """By what success weighs; among equals the variant listed first, then more memory, then the name."""
    candidate = each.candidate
    offer = candidate.offer
    memory = (-candidate.ram_capacity_bytes, -offer.vram_bytes)
    return (each.option.success, candidate.order, *memory, offer.backend, offer.name)


def _dearer(kind: Sequence[Candidate], count: int) -> Rejection:
    least, first, *others = kind[0].offer, *kind[count:]
    price = format_usd(least.micros_per_hour)
    no = first.refused(No(Code.DEARER, f"no cheaper than {least.name}, the same machine for {price}/h"))
    return replace(no, alike=tuple(each.offer.name for each in others))
