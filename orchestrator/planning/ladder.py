"""From everything feasible to the ordered ladder, inside the budget.

Candidates are ordered by ``expected dollars + value of time x hours + chance of failing x penalty + lost quality x
its value``; a priority is a setting of those four weights. Rungs are then taken in that order as long as their
worst cases together fit in the budget, so that even a ladder on which everything goes wrong is paid for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from backends.base import Offer
from backends.units import cost_micros, format_duration, format_usd
from orchestrator.planning.estimate import OVERHEAD_SECONDS, Estimate, estimate
from orchestrator.planning.feasibility import Candidate, Question, examine
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.planning.plan import Code, Plan, Priority, Rejection, Rung
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

TIME_ALLOWANCE = 4.0
"""An attempt may take this many times its expected time before its reservation ends."""


@dataclass(frozen=True, slots=True)
class _Choice:
    candidate: Candidate
    estimate: Estimate
    score: float


@dataclass(frozen=True, slots=True)
class _Start:
    """Where the ladder begins: the first rung's rank, and why it is the first."""

    rank: int
    because: str


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
    candidates, rejected = _sort_out(spec, list(offers), knowledge, backends)
    choices = _ordered(candidates, spec, knowledge, WEIGHTS[priority])
    limit = spec.limits.attempts if attempts_left is None else attempts_left
    start = _Start(first_rank, _because(knowledge.last_of_this_job()))
    ladder, dropped = _climb(choices, spec, budget_micros, limit, start)
    rejected += dropped
    return _plan(ladder, rejected, budget_micros)


def _sort_out(
    spec: JobSpec, offers: Sequence[Offer], knowledge: Knowledge, backends: Collection[str]
) -> tuple[list[Candidate], list[Rejection]]:
    cpu_offers = {offer.backend for offer in offers if offer.gpu_count == 0}
    question = Question(spec, knowledge, frozenset(backends), cpu_offers)
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    for order, name in enumerate(v.name for v in spec.variants):
        variant = spec.resolved(name)
        for offer in offers:
            answer = examine(offer, variant, order, question)
            if isinstance(answer, Candidate):
                candidates.append(answer)
            else:
                rejected.append(answer)
    return candidates, rejected


def _ordered(candidates: Iterable[Candidate], spec: JobSpec, knowledge: Knowledge, weights: Weights) -> list[_Choice]:
    choices = []
    for candidate in candidates:
        expected = estimate(candidate, spec, knowledge)
        choices.append(_Choice(candidate, expected, _score(candidate, expected, weights)))
    return sorted(
        choices, key=lambda c: (c.score, c.candidate.order, c.candidate.offer.backend, c.candidate.offer.name)
    )


def _score(candidate: Candidate, expected: Estimate, weights: Weights) -> float:
    return (
        expected.micros / 1e6
        + weights.hour * expected.seconds / 3600
        + weights.failure * (1 - expected.p_success)
        + weights.quality * (1 - candidate.variant.quality)
    )


def _climb(
    choices: Sequence[_Choice], spec: JobSpec, budget_micros: int, attempts: int, start: _Start
) -> tuple[list[Rung], list[Rejection]]:
    ladder: list[Rung] = []
    dropped: list[Rejection] = []
    left = budget_micros
    for choice in choices:
        no = _no_more_headroom(choice, ladder) or _too_many(ladder, attempts)
        allowed = _allowed_seconds(choice, spec, left)
        no = no or _unaffordable(choice, allowed, left)
        if no:
            offer = choice.candidate.offer
            dropped.append(Rejection(offer.backend, offer.name, choice.candidate.variant.name, *no))
            continue
        place = "if the rungs above run out of memory" if ladder else start.because
        rung = _rung(choice, start.rank + len(ladder), allowed, place)
        left -= rung.worst_case_micros
        ladder.append(rung)
    return ladder, dropped


def _no_more_headroom(choice: _Choice, ladder: Sequence[Rung]) -> tuple[Code, str] | None:
    candidate = choice.candidate
    for rung in ladder:
        if rung.variant != candidate.variant.name:
            continue
        more_ram = candidate.ram_capacity_bytes > rung.ram_capacity_bytes
        more_vram = candidate.offer.vram_bytes > rung.vram_capacity_bytes
        if not (more_ram or more_vram):
            return Code.SAME_HEADROOM, f"has no more memory than rung {rung.rank}; tried only if that cannot be had"
    return None


def _too_many(ladder: Sequence[Rung], attempts: int) -> tuple[Code, str] | None:
    if len(ladder) >= attempts:
        return Code.ATTEMPTS, f"limits.attempts leaves {attempts} more"
    return None


def _allowed_seconds(choice: _Choice, spec: JobSpec, left: int) -> float:
    """How long the attempt may hold its machine: what the job may take, but never more than the money buys."""
    rate = choice.candidate.offer.micros_per_hour
    if rate == 0:
        return spec.limits.runtime + OVERHEAD_SECONDS
    wanted = min(spec.limits.runtime, TIME_ALLOWANCE * choice.estimate.seconds) + OVERHEAD_SECONDS
    # Whole milliseconds, rounded down: the price of the allowed time, rounded up, then never exceeds what is left.
    return min(wanted, math.floor(left * 3_600_000 / rate) / 1000)


def _unaffordable(choice: _Choice, allowed: float, left: int) -> tuple[Code, str] | None:
    rate = choice.candidate.offer.micros_per_hour
    if rate == 0 or allowed >= choice.estimate.seconds:
        return None
    return Code.BUDGET, (
        f"needs about {format_duration(choice.estimate.seconds)} at {format_usd(rate)}/h "
        f"= {format_usd(choice.estimate.micros)}; {format_usd(left)} is left, which buys {format_duration(allowed)}"
    )


def _rung(choice: _Choice, rank: int, allowed: float, place: str) -> Rung:
    candidate, expected = choice.candidate, choice.estimate
    offer, variant = candidate.offer, candidate.variant
    worst = cost_micros(offer.micros_per_hour, allowed)
    return Rung(
        rank=rank,
        backend=offer.backend,
        offer=offer.name,
        gpu=offer.gpu,
        variant=variant.name,
        quality=variant.quality,
        micros_per_hour=offer.micros_per_hour,
        expected_seconds=expected.seconds,
        allowed_seconds=allowed,
        expected_micros=expected.micros,
        worst_case_micros=worst,
        p_success=expected.p_success,
        ram_capacity_bytes=candidate.ram_capacity_bytes,
        vram_capacity_bytes=offer.vram_bytes,
        ram_cap_bytes=variant.ram_cap_bytes if offer.shared else None,
        reasons=(f"{place}: {_merits(candidate)}", *expected.basis),
    )


def _merits(candidate: Candidate) -> str:
    price = candidate.offer.micros_per_hour
    cost = "free" if price == 0 else f"{format_usd(price)}/h"
    quality = candidate.variant.quality
    return f"{'best quality' if quality >= 1 else f'quality {quality:g}'}, {cost}"


_ENDED = {
    "oom_host": "ran out of RAM",
    "oom_gpu": "ran out of GPU memory",
    "killed": "was killed without a sign of why",
    "preempted": "lost its machine to the provider",
    "lost": "was lost with its machine",
    "unreachable": "could not reach its machine",
    "no_capacity": "found no capacity",
}


def _because(last: Seen | None) -> str:
    if last is None or last.outcome not in _ENDED:
        return "first choice"
    size = (
        f" with {format_size(last.ram_capacity_bytes)}"
        if last.outcome == "oom_host" and last.ram_capacity_bytes
        else ""
    )
    return f"{last.variant} {_ENDED[last.outcome]}{size}{last.where}, so next"


def _plan(ladder: list[Rung], rejected: list[Rejection], budget_micros: int) -> Plan:
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
        advice="" if ladder else _advice(rejected),
    )


_NEAREST = (Code.BUDGET, Code.OOM_SEEN, Code.RAM, Code.VRAM, Code.DISK, Code.GPU, Code.WHEN, Code.NOT_ALLOWED)
_CHANGE = {
    Code.BUDGET: "Raise --budget, or shorten the job.",
    Code.OOM_SEEN: "Raise needs.ram (or vram) if a machine has more, or add a smaller variant.",
    Code.RAM: "Lower needs.ram, or add a backend with more.",
    Code.VRAM: "Lower needs.gpu.vram, add a variant that needs less, or add a backend with a bigger GPU.",
    Code.DISK: "Free some disk space or lower needs.disk.",
    Code.GPU: "Add a backend that has such a GPU, or a variant that needs none.",
    Code.WHEN: "Add a variant without `when` that runs everywhere.",
    Code.NOT_ALLOWED: "Allow it under on_oom.allow.",
}


def _advice(rejected: Sequence[Rejection]) -> str:
    """The nearest change that would make something feasible, in one line."""
    for code in _NEAREST:
        for rejection in rejected:
            if rejection.code == code:
                where = f"{rejection.variant} on {rejection.backend} {rejection.offer}"
                return f"Nearest: {where}: {rejection.reason}. {_CHANGE[code]}"
    return "No backend offers anything: `gpujob backends` says what is set up."
