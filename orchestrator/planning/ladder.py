"""From everything feasible to the ladder that costs least in expectation, inside the budget.

The order minimises expected dollars + value of time x hours + what failed attempts and lost quality weigh; a priority
is a setting of those weights. Rungs' worst cases together fit in the budget, so that even a ladder on which
everything goes wrong is paid for. A job that fails counts for as much as its budget and its best attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from backends.base import Offer
from backends.units import format_duration, format_size, format_usd
from orchestrator.planning.advice import distance, nearest_change, once_set_up
from orchestrator.planning.choosing import LEAST_FIT, Limits, choose
from orchestrator.planning.climb import Chances, climb, fit
from orchestrator.planning.feasibility import Candidate, No, Question
from orchestrator.planning.knowledge import Knowledge, Seen
from orchestrator.planning.memory_need import MemoryOutlook, memory_outlook
from orchestrator.planning.outlook import NO_FACTS, Facts, Looking, Outlook
from orchestrator.planning.plan import Code, Plan, Priority, Rejection, Rung
from orchestrator.planning.reservation import Reservation, spread, unaffordable
from orchestrator.planning.sorting import sort_out
from orchestrator.planning.weights import WEIGHTS, Weights
from orchestrator.spec.model import JobSpec


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
    weights: Weights | None = None,
    facts: Facts = NO_FACTS,
) -> Plan:
    """The plan for what is left: ``budget_micros`` and ``attempts_left`` exclude what earlier attempts used up.

    ``weights`` replace those of the priority; ``facts`` are what is known beside the spec. Where nothing is feasible,
    but some offers lack only a set-up, the advice says what setting them up would give.
    """

    def among(these: Sequence[Offer]) -> Plan:
        return _plan_among(
            these, spec, knowledge, budget_micros, priority,
            backends=backends, attempts_left=attempts_left, first_rank=first_rank, weights=weights, facts=facts,
        )  # fmt: skip

    all_offers = list(offers)
    knowledge = knowledge.as_offered(all_offers)
    plan = among(all_offers)
    lacking = {offer.backend: offer.missing for offer in all_offers if offer.missing}
    if plan.ladder or not lacking:
        return plan
    set_up = among([replace(offer, missing="") for offer in all_offers])
    return replace(plan, advice=once_set_up(plan.advice, set_up, lacking))


def _plan_among(
    offers: Sequence[Offer],
    spec: JobSpec,
    knowledge: Knowledge,
    budget_micros: int,
    priority: Priority,
    *,
    backends: Collection[str],
    attempts_left: int | None,
    first_rank: int,
    weights: Weights | None,
    facts: Facts,
) -> Plan:
    rungs = max(0, spec.limits.attempts if attempts_left is None else attempts_left)
    limits = Limits(max(0, budget_micros), rungs, weights or WEIGHTS[priority])
    memory = memory_outlook(spec, knowledge, facts.needs)
    candidates, rejected = sort_out(offers, Question(spec, knowledge, frozenset(backends)), max(1, rungs))
    choice = choose(candidates, Looking(spec, knowledge, memory, facts, limits.weights), memory.belief, limits)
    reserved = spread(
        [each.reserved for each in choice.rungs], limits.budget - sum(each.reserved.micros for each in choice.rungs)
    )
    ends = climb([each.option for each in choice.rungs], memory.belief)
    labelled = len({variant.quality for variant in spec.variants}) > 1
    first = _because(knowledge.last_of_this_job())
    ladder = [
        _rung(each, kept, end, first_rank + place, first if place == 0 else _NEXT, labelled=labelled)
        for place, (each, kept, end) in enumerate(zip(choice.rungs, reserved, ends, strict=True))
    ]
    refusal = _Refusal(spec, memory, choice.rungs, limits)
    rejected += [*choice.dearer, *(each.candidate.refused(refusal.of(each)) for each in choice.others)]
    return _plan(ladder, choice.rungs, ends, _in_order(rejected, spec), budget_micros)


class _Refusal:
    """Why a candidate is not on the ladder that was chosen."""

    def __init__(self, spec: JobSpec, memory: MemoryOutlook, chosen: Sequence[Outlook], limits: Limits) -> None:
        self._spec, self._memory, self._chosen = spec, memory, chosen
        self._budget, self._rungs = limits.budget, limits.rungs
        self._left = limits.budget - sum(each.reserved.micros for each in chosen)

    def of(self, each: Outlook) -> No:
        """The reason that comes first."""
        return (
            self._ruled_out(each)
            or self._hopeless(each)
            or self._quota(each)
            or unaffordable(each.reserved, self._budget, above=0)
            or self._no_more_headroom(each)
            or self._too_many()
            or unaffordable(each.reserved, self._left, above=len(self._chosen))
            or self._not_worth_it(each)
        )

    def _ruled_out(self, each: Outlook) -> No | None:
        option, belief = each.option, self._memory.belief
        for kind, level, out in (("RAM", option.ram, option.ram_out), ("VRAM", option.vram, option.vram_out)):
            if out >= belief[2 * level]:
                return No(
                    Code.OOM_SEEN,
                    f"an attempt that ran out of {kind} shows that {_memory(each.candidate)} is too little here",
                    "add a smaller variant, or a backend with more memory",
                )
        return None

    def _hopeless(self, each: Outlook) -> No | None:
        """The spec declares nothing that would rule it out, but it is as good as certain that memory runs out."""
        chance = fit(each.option, self._memory.belief)
        if chance >= LEAST_FIT:
            return None
        by_vram = each.option.vram_out > each.option.ram_out
        return No(
            Code.VRAM if by_vram else Code.RAM,
            "; ".join([self._memory.memory_of(each.candidate, vram=by_vram), *_note(each)]),
            "change the setting that `gpujob estimate` names first, or add a backend with more memory",
            1 - chance,
        )

    def _quota(self, each: Outlook) -> No | None:
        if each.lasts:
            return None
        lasts = each.price.longest_seconds
        return No(
            Code.QUOTA,
            f"takes {format_duration(each.course.total.mean)}; the quota ends after {format_duration(lasts)}",
            "wait until the quota is renewed, or add a variant that takes less time",
            1 - lasts / each.course.total.mean,
        )

    def _no_more_headroom(self, each: Outlook) -> No | None:
        """A variant that ran out of memory will do so again on a machine that has no more of it."""
        option = each.option
        for above in self._chosen:
            same = above.candidate.variant.name == each.candidate.variant.name
            if same and option.ram_out >= above.option.ram_out and option.vram_out >= above.option.vram_out:
                other = above.candidate.offer
                more = each.candidate.ram_capacity_bytes > above.candidate.ram_capacity_bytes
                more = more or each.candidate.offer.vram_bytes > other.vram_bytes
                has = "has more memory, but no better chance with it" if more else "has no more memory"
                return No(
                    Code.SAME_HEADROOM,
                    f"{has} ({_memory(each.candidate)}) than {other.backend} {other.name}, which is on the ladder; "
                    "it is tried if that one cannot be had",
                )
        return None

    def _too_many(self) -> No | None:
        if len(self._chosen) < self._rungs:
            return None
        limit = self._spec.limits.attempts
        made = limit - self._rungs
        used = f", of which {made} {'is' if made == 1 else 'are'} used up" if made > 0 else ""
        better = ", and better rungs come first" if self._chosen else ""
        return No(Code.ATTEMPTS, f"limits.attempts is {limit}{used}{better}", f"raise limits.attempts above {limit}")

    def _not_worth_it(self, each: Outlook) -> No:
        """As a last rung it adds so much chance, at such a price where it is reached."""
        *before, last = climb([*(one.option for one in self._chosen), each.option], self._memory.belief)
        reached = 1 - sum(end.succeeds for end in before)
        return No(
            Code.NOT_WORTH_IT,
            f"as a further rung it would add {last.succeeds:.2%} to a chance of {1 - reached:.1%}, for "
            f"{format_usd(each.micros)} and {format_duration(each.seconds)}",
            "add a smaller variant, or a backend with more memory",
        )


def _memory(candidate: Candidate) -> str:
    ram = f"{format_size(candidate.ram_capacity_bytes)} of RAM"
    if candidate.variant.need.gpu is None:
        return ram
    return f"{ram}, {format_size(candidate.offer.vram_bytes)} of VRAM"


def _rung(each: Outlook, reserved: Reservation, end: Chances, rank: int, place: str, *, labelled: bool) -> Rung:
    offer, variant = each.candidate.offer, each.candidate.variant
    return Rung(
        rank=rank,
        backend=offer.backend,
        offer=offer.name,
        gpu=offer.gpu,
        variant=variant.name,
        quality=variant.quality,
        price=each.price,
        expected_seconds=each.seconds,
        wait_seconds=offer.billing.wait_seconds,
        allowed_seconds=reserved.seconds,
        expected_micros=each.micros,
        worst_case_micros=reserved.micros,
        needed_micros=each.reserved.micros,
        p_reached=end.attempted,
        p_success=end.succeeds / end.attempted if end.attempted else 0.0,
        p_oom=end.runs_out / end.attempted if end.attempted else 0.0,
        ram_capacity_bytes=each.candidate.ram_capacity_bytes,
        vram_capacity_bytes=offer.vram_bytes,
        ram_cap_bytes=variant.ram_cap_bytes if offer.shared else None,
        reasons=(
            f"{place}: {_merits(each, labelled=labelled)}",
            *each.basis,
            *_note(each),
            *filter(None, [offer.caveat]),
        ),
    )


def _note(each: Outlook) -> list[str]:
    """The word of the spec's author to who reads the plan, if there is one."""
    note = each.candidate.variant.note
    return [f"note: {note}"] if note else []


def _merits(each: Outlook, *, labelled: bool) -> str:
    """Price, and quality where the spec says that its variants differ in it."""
    price, quality = each.price, each.candidate.variant.quality
    cost = "free" if price.free else f"{format_usd(price.hourly_micros)}/h"
    if not labelled:
        return cost
    return f"{'best quality' if quality >= 1 else f'quality {quality:g}'}, {cost}"


_NEXT = "if the rungs above fail"


def _because(last: Seen | None) -> str:
    return f"{last.variant} {last.story}, so next" if last and last.story else "first choice"


def _in_order(rejected: Iterable[Rejection], spec: JobSpec) -> list[Rejection]:
    """By variant as the spec lists them, by backend, and the nearest to running first, whatever the order of offers.

    What is not set up comes last of all: it says more of the backend than of the job.
    """
    order = {variant.name: place for place, variant in enumerate(spec.variants)}
    return sorted(
        rejected, key=lambda r: (r.code is Code.NOT_SET_UP, order[r.variant], r.backend, *distance(r), r.offer)
    )


def _plan(
    ladder: Sequence[Rung], chosen: Sequence[Outlook], ends: Sequence[Chances], rejected: Sequence[Rejection],
    budget_micros: int,
) -> Plan:  # fmt: skip
    both = list(zip(chosen, ends, strict=True))
    micros = sum(
        end.succeeds * each.micros + end.runs_out * each.out_micros + end.breaks * each.broken_micros
        for each, end in both
    )
    seconds = sum(
        end.attempted * each.candidate.offer.billing.wait_seconds
        + end.succeeds * each.seconds + end.runs_out * each.out_seconds + end.breaks * each.broken_seconds
        for each, end in both
    )  # fmt: skip
    return Plan(
        ladder=tuple(ladder),
        rejected=tuple(rejected),
        budget_micros=budget_micros,
        p_success=min(1.0, sum(end.succeeds for end in ends)),
        expected_micros=round(micros),
        expected_seconds=seconds,
        worst_case_micros=sum(rung.worst_case_micros for rung in ladder),
        advice="" if ladder else nearest_change(rejected),
    )
