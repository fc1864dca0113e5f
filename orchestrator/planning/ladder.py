"""From everything feasible to the ordered ladder, inside the budget.

Candidates are ordered by ``expected dollars + value of time x hours + chance of failing x penalty + lost quality x
its value``; a priority is a setting of those weights. Rungs are then taken in that order as long as their worst
cases together fit in the budget, so that even a ladder on which everything goes wrong is paid for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from backends.base import Offer
from backends.units import format_size, format_usd
from orchestrator.planning.advice import nearest_change
from orchestrator.planning.estimate import Estimate, estimate
from orchestrator.planning.feasibility import Candidate, No, Question, examine, gpu_unneeded
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.planning.plan import Code, Plan, Priority, Rejection, Rung
from orchestrator.planning.reservation import Reservation, spread, unaffordable
from orchestrator.spec.model import JobSpec


@dataclass(frozen=True, slots=True)
class Weights:
    """Dollars: for an hour of waiting, for a failed attempt, for losing all quality."""

    hour: float
    failure: float
    quality: float


WEIGHTS = {
    Priority.COST: Weights(hour=0.5, failure=1.0, quality=3.0),
    Priority.SPEED: Weights(hour=50.0, failure=10.0, quality=10.0),
    Priority.RELIABILITY: Weights(hour=2.0, failure=30.0, quality=10.0),
    Priority.BALANCED: Weights(hour=5.0, failure=5.0, quality=10.0),
}


@dataclass(frozen=True, slots=True)
class _Choice:
    candidate: Candidate
    estimate: Estimate
    score: float


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the ladder must keep to: money and number of rungs."""

    micros: int
    rungs: int


def make_plan(
    spec: JobSpec,
    offers: Iterable[Offer],
    knowledge: Knowledge,
    budget_micros: int,
    priority: Priority,
    *,
    backends: Collection[str] = (),
    attempts_left: int | None = None,
    first_rank: int = 1,
) -> Plan:
    """The plan for what is left: ``budget_micros`` and ``attempts_left`` exclude what earlier attempts used up."""
    candidates, rejected = _sort_out(list(offers), Question(spec, knowledge, frozenset(backends)))
    choices = _ordered(candidates, spec, knowledge, WEIGHTS[priority])
    limits = _Limits(max(0, budget_micros), spec.limits.attempts if attempts_left is None else attempts_left)
    taken, dropped = _climb(choices, spec, limits)
    spare = limits.micros - sum(reserved.micros for _, reserved in taken)
    final = spread([reserved for _, reserved in taken], spare)
    labelled = len({variant.quality for variant in spec.variants}) > 1
    first = _because(knowledge.last_of_this_job())
    ladder = [
        _rung(choice, reserved, first_rank + place, first if place == 0 else _NEXT, labelled=labelled)
        for place, ((choice, _), reserved) in enumerate(zip(taken, final, strict=True))
    ]
    return _plan(ladder, _in_order(rejected + dropped, spec), budget_micros)


def _sort_out(offers: Sequence[Offer], question: Question) -> tuple[list[Candidate], list[Rejection]]:
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for order, variant in enumerate(question.spec.resolved(each.name) for each in question.spec.variants):
        answers = [examine(offer, variant, order, question) for offer in offers]
        rejected += [answer for answer in answers if isinstance(answer, Rejection)]
        fitting = [answer for answer in answers if isinstance(answer, Candidate)]
        without_gpu = sorted((c for c in fitting if not c.offer.gpu_count), key=lambda c: c.offer.name)
        for candidate in fitting:
            if no := gpu_unneeded(candidate, without_gpu):
                rejected.append(candidate.refused(no))
            else:
                candidates.append(candidate)
    return candidates, rejected


def _ordered(candidates: Iterable[Candidate], spec: JobSpec, knowledge: Knowledge, weights: Weights) -> list[_Choice]:
    choices = []
    for candidate in candidates:
        expected = estimate(candidate, spec, knowledge)
        choices.append(_Choice(candidate, expected, _score(candidate, expected, weights)))
    return sorted(choices, key=_place)


def _place(choice: _Choice) -> tuple[float, int, int, int, str, str]:
    """By score; among equals the variant listed first, then the machine with more memory, then its name."""
    candidate = choice.candidate
    offer = candidate.offer
    memory = (-candidate.ram_capacity_bytes, -offer.vram_bytes)
    return (choice.score, candidate.order, *memory, offer.backend, offer.name)


def _score(candidate: Candidate, expected: Estimate, weights: Weights) -> float:
    return (
        expected.micros / 1e6
        + weights.hour * expected.seconds / 3600
        + weights.failure * (1 - expected.p_success)
        + weights.quality * (1 - candidate.variant.quality)
    )


_Taken = list[tuple[_Choice, Reservation]]


def _climb(choices: Sequence[_Choice], spec: JobSpec, limits: _Limits) -> tuple[_Taken, list[Rejection]]:
    """The rungs that can be had, each with the least that it must reserve; and the rest, with the reason."""
    taken: _Taken = []
    dropped: list[Rejection] = []
    left = limits.micros
    for choice in choices:
        offer = choice.candidate.offer
        no = (
            _no_more_headroom(choice.candidate, taken)
            or _too_many(taken, spec, limits)
            or unaffordable(offer.micros_per_hour, choice.estimate.seconds, left, above=len(taken))
        )
        if no:
            dropped.append(choice.candidate.refused(no))
            continue
        reserved = Reservation.least(offer.micros_per_hour, choice.estimate.seconds, spec.limits.runtime, left)
        left -= reserved.micros
        taken.append((choice, reserved))
    return taken, dropped


def _no_more_headroom(candidate: Candidate, taken: _Taken) -> No | None:
    """A variant that ran out of memory will do so again on a machine that has no more of it."""
    for above, _ in taken:
        other = above.candidate
        if other.variant.name != candidate.variant.name:
            continue
        more_ram = candidate.ram_capacity_bytes > other.ram_capacity_bytes
        more_vram = candidate.variant.need.gpu is not None and candidate.offer.vram_bytes > other.offer.vram_bytes
        if not (more_ram or more_vram):
            return No(
                Code.SAME_HEADROOM,
                f"has no more memory ({_memory(candidate)}) than {other.offer.backend} {other.offer.name}, which is "
                "on the ladder; it is tried if that one cannot be had",
            )
    return None


def _memory(candidate: Candidate) -> str:
    ram = f"{format_size(candidate.ram_capacity_bytes)} of RAM"
    if candidate.variant.need.gpu is None:
        return ram
    return f"{ram}, {format_size(candidate.offer.vram_bytes)} of VRAM"


def _too_many(taken: _Taken, spec: JobSpec, limits: _Limits) -> No | None:
    if len(taken) < limits.rungs:
        return None
    made = spec.limits.attempts - max(0, limits.rungs)
    used = f", of which {made} {'is' if made == 1 else 'are'} used up" if made > 0 else ""
    better = ", and better rungs come first" if taken else ""
    return No(
        Code.ATTEMPTS,
        f"limits.attempts is {spec.limits.attempts}{used}{better}",
        f"raise limits.attempts above {spec.limits.attempts}",
    )


def _rung(choice: _Choice, reserved: Reservation, rank: int, place: str, *, labelled: bool) -> Rung:
    candidate, expected = choice.candidate, choice.estimate
    offer, variant = candidate.offer, candidate.variant
    return Rung(
        rank=rank,
        backend=offer.backend,
        offer=offer.name,
        gpu=offer.gpu,
        variant=variant.name,
        quality=variant.quality,
        micros_per_hour=offer.micros_per_hour,
        expected_seconds=expected.seconds,
        allowed_seconds=reserved.seconds,
        expected_micros=expected.micros,
        worst_case_micros=reserved.micros,
        p_success=expected.p_success,
        ram_capacity_bytes=candidate.ram_capacity_bytes,
        vram_capacity_bytes=offer.vram_bytes,
        ram_cap_bytes=variant.ram_cap_bytes if offer.shared else None,
        reasons=(f"{place}: {_merits(candidate, labelled=labelled)}", *expected.basis),
    )


def _merits(candidate: Candidate, *, labelled: bool) -> str:
    """Price, and quality where the spec says that its variants differ in it."""
    price, quality = candidate.offer.micros_per_hour, candidate.variant.quality
    cost = "free" if price == 0 else f"{format_usd(price)}/h"
    if not labelled:
        return cost
    return f"{'best quality' if quality >= 1 else f'quality {quality:g}'}, {cost}"


_NEXT = "if the rungs above run out of memory"


def _because(last: Seen | None) -> str:
    return f"{last.variant} {last.story}, so next" if last and last.story else "first choice"


def _in_order(rejected: Iterable[Rejection], spec: JobSpec) -> list[Rejection]:
    """By variant as the spec lists them, then by name: the same for every order of offers."""
    order = {variant.name: place for place, variant in enumerate(spec.variants)}
    return sorted(rejected, key=lambda r: (order[r.variant], r.backend, r.offer))


def _plan(ladder: Sequence[Rung], rejected: Sequence[Rejection], budget_micros: int) -> Plan:
    reach, expected = 1.0, 0.0
    for rung in ladder:
        expected += reach * rung.expected_micros
        reach *= 1 - rung.p_success
    return Plan(
        ladder=tuple(ladder),
        rejected=tuple(rejected),
        budget_micros=budget_micros,
        p_success=1 - reach,
        expected_micros=round(expected),
        worst_case_micros=sum(rung.worst_case_micros for rung in ladder),
        advice="" if ladder else nearest_change(rejected),
    )
