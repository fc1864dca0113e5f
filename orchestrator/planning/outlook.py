"""What to expect of one candidate: how long, for how much, with which chance, and what all of it weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from backends.billing import Price, price_of, shared_by_others
from backends.units import format_size, format_usd
from orchestrator.catalog.providers import provider
from orchestrator.planning.climb import Option
from orchestrator.planning.duration import Course, Workload, course
from orchestrator.planning.feasibility import Candidate
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.memory_need import SHARED_VRAM, MemoryOutlook
from orchestrator.planning.need import VariantNeed
from orchestrator.planning.reservation import Allowance, Reservation
from orchestrator.planning.weights import Weights
from orchestrator.spec.model import JobSpec

OUT_SHARE = 0.15
"""Share of the run after which memory runs out, if it does: while loading, or in the first large batches."""

TALK_BYTES_PER_HOUR = 20_000_000
"""What looking at a run brings home beside its files, at most: 2.8 kB were measured each time, every two seconds."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the spec: needs predicted by variant, their work, chances of backends that were measured."""

    needs: Mapping[str, VariantNeed] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    reliability: Mapping[str, float] = field(default_factory=dict)


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Outlook:
    """One candidate with its expectations; seconds and micro-dollars by how the attempt ends."""

    candidate: Candidate
    course: Course
    price: Price
    reserved: Reservation
    reliability: float
    seconds: float
    out_seconds: float
    broken_seconds: float
    micros: int
    out_micros: int
    broken_micros: int
    option: Option
    basis: tuple[str, ...]

    @property
    def lasts(self) -> bool:
        """Whether the machine can be had for as long as the attempt takes."""
        return self.price.longest_seconds >= self.course.total.mean


@dataclass(frozen=True, slots=True)
class _Alike:
    """What machines that differ only in name and price have in common."""

    course: Course
    allowance: Allowance
    stays: float
    survives: float
    vram_out: float
    ram_out: float
    talk_bytes: int
    basis: tuple[str, ...]


class Looking:
    """Looks at candidates of one plan; what alike machines have in common is worked out once."""

    def __init__(
        self, spec: JobSpec, knowledge: Knowledge, memory: MemoryOutlook, facts: Facts, weights: Weights
    ) -> None:
        self._spec, self._knowledge, self._memory, self._facts, self._weights = spec, knowledge, memory, facts, weights
        self._alike: dict[tuple[str, int], _Alike] = {}

    def at(self, candidate: Candidate) -> Outlook:
        """What to expect of ``candidate``."""
        offer, variant = candidate.offer, candidate.variant
        alike = self._alike_of(candidate)
        price = price_of(offer, variant.need.disk_bytes or 0, self._spec.limits.download + alike.talk_bytes)
        reserved = Reservation.least(price, alike.allowance)
        times = _times(alike, reserved.seconds)
        costs = (price.micros(times[0]), price.micros(times[1]), price.micros(times[2]))
        return Outlook(
            candidate, alike.course, price, reserved, alike.stays * alike.survives, *times, *costs,
            self._option(candidate, alike, reserved.micros, times, costs), alike.basis,
        )  # fmt: skip

    def _option(
        self, candidate: Candidate, alike: _Alike, reserve: int, times: _Endings[float], costs: _Endings[int]
    ) -> Option:
        memories, weights, variant = self._memory.of[candidate.variant.name], self._weights, candidate.variant
        billing = candidate.offer.billing
        others, wait = shared_by_others(billing), billing.wait_seconds
        success, out, broken = (
            (micros - others) / 1e6 + weights.hour * (seconds + wait) / 3600
            for micros, seconds in zip(costs, times, strict=True)
        )
        return Option(
            vram=memories.vram.level if memories.vram else SHARED_VRAM,
            vram_out=alike.vram_out,
            ram=memories.ram.level,
            ram_out=alike.ram_out,
            reliability=alike.stays * alike.survives,
            success=success + weights.quality * (1 - variant.quality),
            out=out + weights.failure,
            broken=broken + weights.failure,
            reserve=reserve,
        )

    def _alike_of(self, candidate: Candidate) -> _Alike:
        key = (candidate.variant.name, candidate.kind)
        if key not in self._alike:
            self._alike[key] = self._work_out(candidate)
        return self._alike[key]

    def _work_out(self, candidate: Candidate) -> _Alike:
        offer, variant, spec = candidate.offer, candidate.variant, self._spec
        run = course(spec, variant, offer, self._knowledge, self._facts.workloads.get(variant.name, _NO_WORK))
        stays = self._facts.reliability.get(offer.backend, provider(offer.backend).holds)
        survives = math.exp(-offer.billing.interruptions_per_hour * run.total.mean / 3600)
        memories = self._memory.of[variant.name]
        allowance = Allowance.of(run, spec.limits.runtime)
        return _Alike(
            course=run,
            allowance=allowance,
            stays=stays,
            survives=survives,
            vram_out=self._memory.out(memories.vram, offer.vram_bytes),
            ram_out=self._memory.out(memories.ram, candidate.ram_capacity_bytes),
            talk_bytes=round(min(allowance.most, allowance.least) / 3600 * TALK_BYTES_PER_HOUR),
            basis=(*self._memory.said(candidate), *_basis(candidate, run, survives, spec.limits.download)),
        )


_NO_WORK = Workload()

_T = TypeVar("_T")
_Endings = tuple[_T, _T, _T]
"""Of an attempt that succeeds, that runs out of memory, that breaks."""


def _times(alike: _Alike, most: float) -> _Endings[float]:
    run = alike.course
    out = run.setup.mean + OUT_SHARE * run.run.mean
    broken = _broken_seconds(run, alike.stays, alike.survives)
    return min(run.total.mean, most), min(out, run.total.mean, most), min(broken, run.total.mean, most)


def _broken_seconds(run: Course, stays: float, survives: float) -> float:
    """How long an attempt takes whose machine does not hold: gone at its start, or taken back halfway on average."""
    never, taken = 1 - stays, stays * (1 - survives)
    if never + taken == 0:
        return 0.0
    return run.setup.mean + run.run.mean / 2 * taken / (never + taken)


def _basis(candidate: Candidate, run: Course, survives: float, download_bytes: int) -> tuple[str, ...]:
    words = []
    if rate := candidate.offer.billing.egress_micros_per_gb:
        words.append(f"{format_size(download_bytes)} brought home at {format_usd(rate)}/GB (limits.download)")
    if survives < 1:
        words.append(f"spot: {1 - survives:.0%} chance of being taken back")
    if candidate.offer.billing.wait_seconds:
        words.append(f"starts after {candidate.offer.billing.wait_seconds / 60:.0f} min of waiting")
    return (*words, run.basis + run.around)
