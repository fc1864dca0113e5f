"""Every pair of offer and variant sorted: those that can run, and those that cannot, with the reason.

Catalogues list the same machine many times, by region and day. Alike machines are examined once and only the cheapest
of them are candidates: a ladder has no use for more of a kind than it has rungs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from backends.base import Offer
from backends.units import format_usd
from orchestrator.planning.feasibility import Candidate, Question, examine, gpu_unneeded
from orchestrator.planning.plan import Code, Rejection
from orchestrator.spec.model import ResolvedVariant

_NAMES_THE_OFFER = frozenset({Code.WHEN, Code.OOM_SEEN, Code.UNAVAILABLE})
"""Reasons in whose words the offer's own name stands."""


def sort_out(offers: Sequence[Offer], question: Question, most: int) -> tuple[list[Candidate], list[Rejection]]:
    """The candidates, at most ``most`` of a kind, and why each other pair is none."""
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    kinds = _kinds(offers, question)
    for order, variant in enumerate(question.spec.resolved(each.name) for each in question.spec.variants):
        fitting: list[Candidate] = []
        for number, kind in enumerate(kinds):
            answer = examine(kind[0], variant, order, question)
            if isinstance(answer, Rejection):
                rejected += _refused(kind, variant, order, answer, question)
                continue
            fitting += [Candidate(offer, variant, order, answer.ram_capacity_bytes, number) for offer in kind[:most]]
            rejected += _dearer(kind, variant, most)
        without_gpu = sorted((c for c in fitting if not c.offer.gpu_count), key=lambda c: c.offer.name)
        for candidate in fitting:
            if no := gpu_unneeded(candidate, without_gpu):
                rejected.append(candidate.refused(no))
            else:
                candidates.append(candidate)
    return candidates, rejected


def _kinds(offers: Iterable[Offer], question: Question) -> list[list[Offer]]:
    """Offers alike but for name and price, the cheapest first. What was seen of an offer makes it its own kind."""
    seen = {(each.backend, each.offer) for each in question.knowledge.seen}
    kinds: defaultdict[object, list[Offer]] = defaultdict(list)
    for o in offers:
        name = o.name if (o.backend, o.name) in seen else ""
        kinds[
            o.backend, o.gpu, o.gpu_count, o.vram_bytes, o.ram_bytes, o.disk_bytes, o.compute_capability, o.shared,
            id(o.billing), name,
        ].append(o)  # fmt: skip
    return [sorted(kind, key=lambda o: (o.micros_per_hour, o.name)) for kind in kinds.values()]


def _refused(
    kind: Sequence[Offer], variant: ResolvedVariant, order: int, answer: Rejection, question: Question
) -> Iterable[Rejection]:
    if answer.code not in _NAMES_THE_OFFER:
        code, reason, change, gap = answer.code, answer.reason, answer.change, answer.gap
        return [Rejection(o.backend, o.name, variant.name, code, reason, change, gap) for o in kind]
    answers = (examine(offer, variant, order, question) for offer in kind)
    return [each for each in answers if isinstance(each, Rejection)]


def _dearer(kind: Sequence[Offer], variant: ResolvedVariant, most: int) -> Iterable[Rejection]:
    least = kind[0]
    reason = f"no cheaper than {least.name}, the same machine for {format_usd(least.micros_per_hour)}/h"
    return [Rejection(o.backend, o.name, variant.name, Code.DEARER, reason) for o in kind[most:]]
