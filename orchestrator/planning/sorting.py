"""Every pair of offer and variant sorted: those that can run, and those that cannot, with the reason.

Catalogues list the same machine many times, by region and day. Alike machines are examined once and only the cheapest
of them are candidates: a ladder has no use for more of a kind than it has rungs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter

from backends.base import Billing, Offer
from backends.units import format_usd
from orchestrator.planning.feasibility import Candidate, Question, examine, gpu_unneeded
from orchestrator.planning.plan import Code, Rejection
from orchestrator.spec.model import ResolvedVariant


def sort_out(offers: Iterable[Offer], question: Question, most: int) -> tuple[list[Candidate], list[Rejection]]:
    """The candidates, at most ``most`` of a kind, and why each other pair is none."""
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    kinds = _kinds(offers, question)
    for order, variant in enumerate(question.spec.resolved(each.name) for each in question.spec.variants):
        fitting: list[Candidate] = []
        for number, kind in enumerate(kinds):
            answer = examine(kind[0], variant, order, question)
            if isinstance(answer, Rejection):
                rejected.append(replace(answer, alike=tuple(map(_NAME, kind[1:]))))
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


_ALIKE = attrgetter(
    "backend", "gpu", "gpu_count", "vram_bytes", "ram_bytes", "disk_bytes", "compute_capability", "shared"
)  # fmt: skip
_PRICE_AND_NAME = attrgetter("micros_per_hour", "name")
_NAME = attrgetter("name")


def _kinds(offers: Iterable[Offer], question: Question) -> list[list[Offer]]:
    """Offers alike but for name and price, the cheapest first. What was seen of an offer makes it its own kind."""
    seen = {(each.backend, each.offer) for each in question.knowledge.seen}
    numbers = _Numbers()
    kinds: defaultdict[object, list[Offer]] = defaultdict(list)
    for offer in offers:
        name = offer.name if seen and (offer.backend, offer.name) in seen else ""
        kinds[_ALIKE(offer), numbers.of(offer.billing), name].append(offer)
    return [sorted(kind, key=_PRICE_AND_NAME) for kind in kinds.values()]


class _Numbers:
    """Numbers equal billings alike, each object looked into once: comparing them would take longer than the rest."""

    def __init__(self) -> None:
        self._by_id: dict[int, int] = {}
        self._by_value: dict[Billing, int] = {}

    def of(self, billing: Billing) -> int:
        """Its number; the object must live as long as this one."""
        number = self._by_id.get(id(billing))
        if number is None:
            number = self._by_id[id(billing)] = self._by_value.setdefault(billing, len(self._by_value))
        return number


def _dearer(kind: Sequence[Offer], variant: ResolvedVariant, most: int) -> Iterable[Rejection]:
    if len(kind) <= most:
        return []
    least, *others = kind[0], *kind[most:]
    return [
        Rejection(
            least.backend, others[0].name, variant.name, Code.DEARER,
            f"no cheaper than {least.name}, the same machine for {format_usd(least.micros_per_hour)}/h",
            alike=tuple(map(_NAME, others[1:])),
        )
    ]  # fmt: skip
