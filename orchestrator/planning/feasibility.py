"""Whether a variant can run on an offer at all; every no comes with its number."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from backends.base import Offer
from backends.units import format_size
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.plan import Code, Rejection
from orchestrator.spec.model import JobSpec, ResolvedVariant


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that can run. ``ram_capacity_bytes`` is what the run may use there: its slice, or the whole machine."""

    offer: Offer
    variant: ResolvedVariant
    order: int
    ram_capacity_bytes: int


@dataclass(frozen=True, slots=True)
class Question:
    """All that feasibility depends on besides the pair itself."""

    spec: JobSpec
    knowledge: Knowledge
    backends: Collection[str]
    cpu_offers: Collection[str]


No = tuple[Code, str] | None


def examine(offer: Offer, variant: ResolvedVariant, order: int, question: Question) -> Candidate | Rejection:
    """The candidate, or the first reason against it."""
    for check in _CHECKS:
        if answer := check(offer, variant, question):
            code, reason = answer
            return Rejection(offer.backend, offer.name, variant.name, code, reason)
    return Candidate(offer, variant, order, ram_capacity(offer, variant))


def ram_capacity(offer: Offer, variant: ResolvedVariant) -> int:
    """Bytes of RAM that the run may use: the slice it asks for on a shared machine, else all there is."""
    if offer.shared and variant.need.ram_bytes is not None:
        return min(variant.need.ram_bytes, offer.ram_bytes)
    return offer.ram_bytes


def _asked_for(offer: Offer, _variant: ResolvedVariant, question: Question) -> No:
    if question.backends and offer.backend not in question.backends:
        return Code.BACKEND, f"only {', '.join(sorted(question.backends))} was asked for"
    return None


def _when(offer: Offer, variant: ResolvedVariant, _question: Question) -> No:
    reason = variant.allows(offer)
    return (Code.WHEN, reason) if reason else None


def _gpu(offer: Offer, variant: ResolvedVariant, question: Question) -> No:
    need = variant.need.gpu
    if need is None:
        if offer.gpu_count and offer.backend in question.cpu_offers:
            return Code.GPU_UNNEEDED, "the job asks for no GPU; the same backend offers a CPU"
        return None
    if offer.gpu_count < need.count:
        have = f"{offer.gpu_count} x {offer.gpu}" if offer.gpu_count else "no GPU"
        return Code.GPU, f"needs {need.count} GPU{'s' * (need.count > 1)}; it has {have}"
    if need.names and not any(name.lower() in (offer.gpu or "").lower() for name in need.names):
        return Code.GPU, f"needs one of {', '.join(need.names)}; it has {offer.gpu}"
    if need.compute_capability and (offer.compute_capability or 0) < need.compute_capability:
        has = offer.compute_capability or "an unknown one"
        return Code.GPU, f"needs compute capability {need.compute_capability}; {offer.gpu} has {has}"
    return None


def _vram(offer: Offer, variant: ResolvedVariant, _question: Question) -> No:
    wanted = variant.need.gpu.vram_bytes if variant.need.gpu else None
    if wanted is not None and offer.vram_bytes < wanted:
        return Code.VRAM, f"needs {format_size(wanted)} of VRAM; {offer.gpu} has {format_size(offer.vram_bytes)} usable"
    return None


def _ram(offer: Offer, variant: ResolvedVariant, _question: Question) -> No:
    wanted = variant.need.ram_bytes
    if wanted is not None and offer.ram_bytes < wanted:
        return Code.RAM, f"needs {format_size(wanted)} of RAM; it has {format_size(offer.ram_bytes)}"
    return None


def _disk(offer: Offer, variant: ResolvedVariant, _question: Question) -> No:
    wanted = variant.need.disk_bytes
    if wanted is not None and offer.disk_bytes < wanted:
        return Code.DISK, f"needs {format_size(wanted)} of disk; it has {format_size(offer.disk_bytes)} free"
    return None


def _memory_seen(offer: Offer, variant: ResolvedVariant, question: Question) -> No:
    capacity = ram_capacity(offer, variant)
    seen = question.knowledge.out_of_ram(variant.name)
    if seen and capacity <= (seen.ram_capacity_bytes or 0):
        return Code.OOM_SEEN, (
            f"ran out of RAM with {format_size(seen.ram_capacity_bytes or 0)}{seen.where}; "
            f"here it would have {format_size(capacity)}"
        )
    vram = question.knowledge.out_of_vram(variant.name)
    if vram and offer.gpu_count and offer.vram_bytes <= (vram.vram_capacity_bytes or 0):
        return Code.OOM_SEEN, (
            f"ran out of VRAM with {format_size(vram.vram_capacity_bytes or 0)}{vram.where}; "
            f"{offer.gpu} has {format_size(offer.vram_bytes)}"
        )
    return None


def _fallback_allowed(_offer: Offer, variant: ResolvedVariant, question: Question) -> No:
    ran_out = [name for name in (v.name for v in question.spec.variants) if question.knowledge.ran_out(name)]
    if not ran_out:
        return None
    allowed = question.spec.on_oom.allow
    if variant.name in ran_out and "bigger_machine" not in allowed:
        return Code.NOT_ALLOWED, f"{variant.name} ran out of memory, and on_oom does not allow a bigger machine"
    if variant.name not in ran_out and "smaller_variant" not in allowed:
        return Code.NOT_ALLOWED, f"{ran_out[-1]} ran out of memory, and on_oom does not allow another variant"
    return None


def _available(offer: Offer, _variant: ResolvedVariant, question: Question) -> No:
    reason = question.knowledge.unavailable(offer.backend, offer.name)
    return (Code.UNAVAILABLE, reason) if reason else None


_CHECKS: tuple[Callable[[Offer, ResolvedVariant, Question], No], ...] = (
    _asked_for,
    _when,
    _gpu,
    _vram,
    _ram,
    _disk,
    _memory_seen,
    _fallback_allowed,
    _available,
)
