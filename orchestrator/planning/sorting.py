"""Every pair of offer and variant sorted: those that can run, and those that cannot, with the reason.

Catalogues list the same machine many times, by region and day. Alike machines are examined once and only the cheapest
of them are candidates: a ladder has no use for more of a kind than it has rungs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from backends.base import Billing, Offer
from backends.units import format_usd
from orchestrator.planning.feasibility import Candidate, Question, examine, gpu_unneeded
from orchestrator.planning.plan import Code, Rejection


def sort_out(offers: Iterable[Offer], question: Question, most: int) -> tuple[list[Candidate], list[Rejection]]:
    """The candidates, at most ``most`` of a kind, and why each other pair is none."""
    candidates: list[Candidate] = []
    rejected: list[Rejection] = []
    kinds = _kinds(offers, question)
    for order, variant in enumerate(question.spec.resolved(each.name) for each in question.spec.variants):
        fitting: list[Candidate] = []
        for number, kind in enumerate(kinds):
            answer = examine(kind.first, variant, order, question)
            if isinstance(answer, Rejection):
                rejected.append(replace(answer, alike=kind.names[1:]))
                continue
            capacity = answer.ram_capacity_bytes
            fitting += [Candidate(offer, variant, order, capacity, number) for offer in kind.offers[:most]]
            rejected += kind.dearer(variant.name, most)
        without_gpu = sorted((c for c in fitting if not c.offer.gpu_count), key=lambda c: c.offer.name)
        for candidate in fitting:
            if no := gpu_unneeded(candidate, without_gpu):
                rejected.append(candidate.refused(no))
            else:
                candidates.append(candidate)
    return candidates, _said_once(rejected)


def _said_once(rejected: Iterable[Rejection]) -> list[Rejection]:
    """A backend that is not set up is one reason, however many offers it has that would do; it is said last."""
    said: list[Rejection] = []
    not_set_up: dict[tuple[str, str], Rejection] = {}
    for each in rejected:
        if each.code is not Code.NOT_SET_UP:
            said.append(each)
        elif first := not_set_up.get(key := (each.backend, each.variant)):
            not_set_up[key] = replace(first, alike=(*first.alike, *each.offers))
        else:
            not_set_up[key] = each
    return [*said, *not_set_up.values()]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Offers alike but for name and price, the cheapest first."""

    offers: Sequence[Offer]
    names: tuple[str, ...]

    @property
    def first(self) -> Offer:
        """The cheapest."""
        return self.offers[0]

    def dearer(self, variant: str, most: int) -> list[Rejection]:
        """All but the ``most`` cheapest, rejected."""
        if len(self.offers) <= most:
            return []
        price = format_usd(self.first.micros_per_hour)
        reason = f"no cheaper than {self.first.name}, the same machine for {price}/h"
        others = self.names[most:]
        return [Rejection(self.first.backend, others[0], variant, Code.DEARER, reason, alike=others[1:])]


_ALIKE = attrgetter(
    "backend", "gpu", "gpu_count", "vram_bytes", "ram_bytes", "disk_bytes", "compute_capability", "shared", "missing",
)  # fmt: skip
_PRICE_AND_NAME = attrgetter("micros_per_hour", "name")
_NAME = attrgetter("name")


def _kinds(offers: Iterable[Offer], question: Question) -> list[_Kind]:
    """What was seen of an offer makes it its own kind. Equal billings are numbered alike, each object hashed once."""
    seen = {(each.backend, each.offer) for each in question.knowledge.seen}
    by_id: dict[int, int] = {}
    by_value: dict[Billing, int] = {}
    kinds: defaultdict[object, list[Offer]] = defaultdict(list)
    for offer in offers:
        number = by_id.get(id(offer.billing))
        if number is None:
            number = by_id[id(offer.billing)] = by_value.setdefault(offer.billing, len(by_value))
        name = offer.name if seen and (offer.backend, offer.name) in seen else ""
        kinds[_ALIKE(offer), number, name].append(offer)
    for kind in kinds.values():
        kind.sort(key=_PRICE_AND_NAME)
    return [_Kind(kind, tuple(map(_NAME, kind))) for kind in kinds.values()]
