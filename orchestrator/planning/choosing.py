"""From candidates to the rungs of the ladder: looked at as far as needed, searched for the best order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backends.units import format_usd
from orchestrator.planning.climb import Belief, Option, climb
from orchestrator.planning.feasibility import Candidate, No
from orchestrator.planning.outlook import Looking, Outlook
from orchestrator.planning.plan import Code, Rejection
from orchestrator.planning.search import Aim, best_order, dominators
from orchestrator.planning.weights import Weights


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
    useful = _useful(firsts, aim)
    more = [looking.at(each) for place, kind in enumerate(kinds) if place in useful for each in kind[1:]]
    looks = sorted([*firsts, *more], key=_place)
    payable = [each for each in looks if _payable(each, aim)]
    rungs = [payable[place] for place in best_order([each.option for each in payable], belief, aim)]
    taken = {id(each) for each in rungs}
    others = tuple(each for each in looks if id(each) not in taken)
    dearer = (_dearer(each, kind[0]) for place, kind in enumerate(kinds) if place not in useful for each in kind[1:])
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


def _useful(firsts: Sequence[Outlook], aim: Aim) -> set[int]:
    """The kinds of which more than the cheapest could be on the ladder: not if there are better kinds enough."""
    places = [place for place, each in enumerate(firsts) if _payable(each, aim)]
    better = dominators([firsts[place].option for place in places], aim)
    return {place for place, found in zip(places, better, strict=True) if len(found) < aim.rungs}


def _payable(each: Outlook, aim: Aim) -> bool:
    return each.lasts and each.reserved.micros <= aim.budget


def _place(each: Outlook) -> tuple[float, int, int, int, str, str]:
    """By what success weighs; among equals the variant listed first, then more memory, then the name."""
    candidate = each.candidate
    offer = candidate.offer
    memory = (-candidate.ram_capacity_bytes, -offer.vram_bytes)
    return (each.option.success, candidate.order, *memory, offer.backend, offer.name)


def _dearer(candidate: Candidate, than: Candidate) -> Rejection:
    price = format_usd(than.offer.micros_per_hour)
    return candidate.refused(No(Code.DEARER, f"no cheaper than {than.offer.name}, the same machine for {price}/h"))
