"""What each variant needs of each memory, as far as it is known, and on which uncertain level it depends.

Predicted needs of all variants share one level per memory: if the prediction is too low for one, it is for the others.
A need that only the spec, or the history, or nobody tells is the variant's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from backends.units import format_chance, format_size
from orchestrator.planning.climb import Belief, unknown
from orchestrator.planning.feasibility import Candidate
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.need import Confidence, MemoryNeed, VariantNeed
from orchestrator.spec.model import JobSpec, ResolvedVariant

SHARED_VRAM, SHARED_RAM = 0, 1
"""The levels that predictions share; those of single variants come after."""

P_DECLARED = 0.85
P_SEEN = 0.99
"""Chance that a memory suffices which the user declared enough; which was enough, or left a tenth free, before."""

SIGMA_DECLARED, SIGMA_ENOUGH, SIGMA_PEAK = 0.15, 0.15, 0.04
ROOM_TO_SPARE = 1.1

_UNDECLARED = {
    "VRAM": MemoryNeed(8_000_000_000, 1.0),
    "RAM beside a GPU": MemoryNeed(4_000_000_000, 0.8),
    "RAM": MemoryNeed(1_000_000_000, 1.0),
}
"""What jobs need of which nothing is said: a wide guess, in which more memory is always a better chance."""


@dataclass(frozen=True, slots=True)
class Known:
    """A need on its level, before anything ran out; ``words`` say where it is from."""

    level: int
    need: MemoryNeed
    words: str

    def out(self, capacity: int) -> float:
        """The exceedance of ``capacity``: the chance, before anything was tried, that the need is higher."""
        return self.need.p_oom(capacity)


@dataclass(frozen=True, slots=True)
class Memories:
    """Both needs of a variant; no VRAM without a GPU."""

    vram: Known | None
    ram: Known


@dataclass(frozen=True, slots=True)
class MemoryOutlook:
    """The needs by variant, what attempts that ran out leave possible, and notes on predictions by variant."""

    of: Mapping[str, Memories]
    belief: Belief
    notes: Mapping[str, tuple[str, ...]]

    def out(self, known: Known | None, capacity: int) -> float:
        """The exceedance of ``capacity``; 0 without a need. Before anything ran out, no finer than is worth knowing."""
        if known is None:
            return 0.0
        out = known.out(capacity)
        return round(out, 5) if self.belief[2 * known.level] == 1.0 else out

    def said(self, candidate: Candidate) -> tuple[str, ...]:
        """In words: each need beside what the candidate has, with the chance to run out where it is predicted."""
        name = candidate.variant.name
        words = [self.memory_of(candidate, vram=False)]
        if self.of[name].vram:
            words.append(self.memory_of(candidate, vram=True))
        return (*words, *self.notes.get(name, ()))

    def memory_of(self, candidate: Candidate, *, vram: bool) -> str:
        """One of its memories in words: the need, what it has, and the chance to run out."""
        memories = self.of[candidate.variant.name]
        if vram and memories.vram:
            return self._said(memories.vram, candidate.offer.vram_bytes)
        return self._said(memories.ram, candidate.ram_capacity_bytes)

    def _said(self, known: Known, capacity: int) -> str:
        words = f"{known.words}; has {format_size(capacity)}"
        if known.level not in (SHARED_VRAM, SHARED_RAM):
            return words
        out = min(1.0, self.out(known, capacity) / self.belief[2 * known.level])
        return f"{words}: {format_chance(out, 1)} chance to run out"


def memory_outlook(spec: JobSpec, knowledge: Knowledge, predicted: Mapping[str, VariantNeed]) -> MemoryOutlook:
    """What to think of the memory of each variant."""
    found: dict[str, Memories] = {}
    for place, each in enumerate(spec.variants):
        variant, own = spec.resolved(each.name), 2 * place + 2
        told = predicted.get(each.name)
        vram = _vram(variant, own, knowledge, told) if variant.need.gpu else None
        found[each.name] = Memories(vram, _ram(variant, own + 1, knowledge, told))
    notes = {name: told.notes for name, told in predicted.items()}
    return MemoryOutlook(found, _belief(found, knowledge, predicted), notes)


def _vram(variant: ResolvedVariant, own: int, knowledge: Knowledge, told: VariantNeed | None) -> Known:
    if told and told.vram:
        return _predicted(SHARED_VRAM, told.vram, "VRAM", told.confidence)
    seen = knowledge.successes(variant.name)
    peaks = [s.peak_vram_bytes for s in seen if s.peak_vram_bytes]
    enough = [s.vram_capacity_bytes for s in seen if s.vram_capacity_bytes]
    declared = variant.need.gpu.vram_bytes if variant.need.gpu else None
    return _own(own, "VRAM", "VRAM", peaks, enough, declared)


def _ram(variant: ResolvedVariant, own: int, knowledge: Knowledge, told: VariantNeed | None) -> Known:
    if told and told.ram:
        return _predicted(SHARED_RAM, told.ram, "RAM", told.confidence)
    seen = knowledge.successes(variant.name)
    peaks = [s.peak_ram_bytes for s in seen if s.peak_ram_bytes]
    enough = [s.ram_capacity_bytes for s in seen if s.ram_capacity_bytes]
    guess = "RAM beside a GPU" if variant.need.gpu else "RAM"
    return _own(own, "RAM", guess, peaks, enough, variant.need.ram_bytes)


def _predicted(level: int, need: MemoryNeed, kind: str, confidence: Confidence) -> Known:
    middle, high = need.median_bytes, need.quantile(0.95)
    return Known(
        level,
        replace(need, floor_bytes=0),
        f"{kind} predicted: {format_size(middle)}, with 95 % chance below {format_size(high)} "
        f"({_SURENESS[confidence]})",
    )


_SURENESS: Mapping[Confidence, str] = {
    "measured": "measured before",
    "high": "high confidence",
    "medium": "medium confidence",
    "low": "low confidence",
}


def _own(level: int, kind: str, guess: str, peaks: list[int], enough: list[int], declared: int | None) -> Known:
    """The best source there is: a measured peak or a capacity that sufficed, declared, guessed."""
    by_peak = _with_quantile(round(max(peaks) * ROOM_TO_SPARE), P_SEEN, SIGMA_PEAK) if peaks else None
    by_capacity = _with_quantile(min(enough), P_SEEN, SIGMA_ENOUGH) if enough else None
    if by_peak and (by_capacity is None or max(peaks) * ROOM_TO_SPARE <= min(enough)):
        return Known(level, by_peak, f"used at most {format_size(max(peaks))} of {kind} before")
    if by_capacity:
        return Known(level, by_capacity, f"went through with {format_size(min(enough))} of {kind} before")
    if declared:
        need = _with_quantile(declared, P_DECLARED, SIGMA_DECLARED)
        return Known(level, need, f"the spec declares that {format_size(declared)} of {kind} is enough")
    return Known(level, _UNDECLARED[guess], f"{kind} need not declared")


def _with_quantile(bytes_: int, p: float, sigma: float) -> MemoryNeed:
    """The need that ``bytes_`` suffices for with chance ``p``."""
    return MemoryNeed(max(1, round(bytes_ * math.exp(-sigma * NormalDist().inv_cdf(p)))), sigma)


def _belief(found: Mapping[str, Memories], knowledge: Knowledge, predicted: Mapping[str, VariantNeed]) -> Belief:
    """Nothing known, but that each need is above what it ran out of."""
    belief = list(unknown(2 * len(found) + 2))
    for known, too_little in _ran_out(found, knowledge, predicted):
        if too_little:
            belief[2 * known.level] = min(belief[2 * known.level], known.out(too_little))
    return tuple(belief)


def _ran_out(
    found: Mapping[str, Memories], knowledge: Knowledge, predicted: Mapping[str, VariantNeed]
) -> Iterator[tuple[Known, int]]:
    for name, memories in found.items():
        told = predicted.get(name)
        if seen := knowledge.out_of_ram(name):
            yield memories.ram, seen.ram_capacity_bytes or 0
        if told and told.ram:
            yield memories.ram, told.ram.floor_bytes
        if memories.vram is None:
            continue
        if seen := knowledge.out_of_vram(name):
            yield memories.vram, seen.vram_capacity_bytes or 0
        if told and told.vram:
            yield memories.vram, told.vram.floor_bytes
