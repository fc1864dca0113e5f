"""Whether a variant can run on an offer at all; every no comes with its number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from backends.base import Offer
from backends.units import format_size, format_usd
from orchestrator.catalog.gpus import bundled_gpus
from orchestrator.planning.gpu_names import is_called
from orchestrator.planning.knowledge import Knowledge
from orchestrator.planning.plan import Code, Rejection
from orchestrator.spec.model import JobSpec, ResolvedVariant


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that can run. ``ram_capacity_bytes`` is what the run may use there: its slice, or the whole machine.

    Candidates of one ``kind`` differ in nothing but name and price.
    """

    offer: Offer
    variant: ResolvedVariant
    order: int
    ram_capacity_bytes: int
    kind: int = 0

    def refused(self, no: No) -> Rejection:
        """The rejection that ``no`` is for this pair."""
        return _rejection(self.offer, self.variant, no)


@dataclass(frozen=True, slots=True)
class Question:
    """All that feasibility depends on besides the pair itself; no ``backends`` means that any will do."""

    spec: JobSpec
    knowledge: Knowledge
    backends: Collection[str]


@dataclass(frozen=True, slots=True)
class No:
    """A reason against a pair. ``change`` would lift it; ``gap`` is the share of the need that is lacking."""

    code: Code
    reason: str
    change: str = ""
    gap: float = 1.0


def examine(offer: Offer, variant: ResolvedVariant, order: int, question: Question) -> Candidate | Rejection:
    """The candidate, or the first reason against it."""
    for check in _CHECKS:
        if no := check(offer, variant, question):
            return _rejection(offer, variant, no)
    return Candidate(offer, variant, order, ram_capacity(offer, variant))


def ram_capacity(offer: Offer, variant: ResolvedVariant) -> int:
    """Bytes of RAM that the run may use: the slice it asks for on a shared machine, else all there is."""
    if offer.shared and variant.need.ram_bytes is not None:
        return min(variant.need.ram_bytes, offer.ram_bytes)
    return offer.ram_bytes


def gpu_unneeded(candidate: Candidate, others: Iterable[Candidate]) -> No | None:
    """The reason against a GPU for a variant that asks for none, if its backend has as good a machine without one."""
    if candidate.variant.need.gpu or not candidate.offer.gpu_count:
        return None
    for other in others:
        if _same_without_gpu(candidate, other):
            price = format_usd(other.offer.micros_per_hour)
            has = format_size(other.ram_capacity_bytes)
            return No(Code.GPU_UNNEEDED, f"asks for no GPU; {other.offer.name} gives {has} of RAM for {price}/h")
    return None


def _same_without_gpu(candidate: Candidate, other: Candidate) -> bool:
    return (
        not other.offer.gpu_count
        and (other.offer.backend, other.variant.name) == (candidate.offer.backend, candidate.variant.name)
        and other.ram_capacity_bytes >= candidate.ram_capacity_bytes
        and other.offer.micros_per_hour <= candidate.offer.micros_per_hour
    )


def _rejection(offer: Offer, variant: ResolvedVariant, no: No) -> Rejection:
    return Rejection(offer.backend, offer.name, variant.name, no.code, no.reason, no.change, no.gap)


def _asked_for(offer: Offer, _variant: ResolvedVariant, question: Question) -> No | None:
    if not question.backends or offer.backend in question.backends:
        return None
    asked = ", ".join(sorted(question.backends))
    return No(Code.BACKEND, f"only {asked} was asked for", f"add --backend {offer.backend}")


def _when(offer: Offer, variant: ResolvedVariant, _question: Question) -> No | None:
    reason = variant.allows(offer)
    return No(Code.WHEN, reason, "add a variant without `when`, which may run anywhere") if reason else None


@cache
def _correction(names: tuple[str, ...]) -> str:
    """What to correct in ``names``, where one is of no GPU that is known at all; else empty."""
    known = bundled_gpus().names
    strange = next((name for name in names if not any(is_called(gpu, name) for gpu in known)), None)
    if strange is None:
        return ""
    meant = {gpu.upper(): gpu for gpu in reversed(known)}
    near = get_close_matches(strange.upper(), meant, n=1, cutoff=0.6)
    hint = f" (did you mean '{meant[near[0]]}'?)" if near else ""
    return f"correct '{strange}', which no known GPU is called{hint}"


def _gpu(offer: Offer, variant: ResolvedVariant, _question: Question) -> No | None:
    need = variant.need.gpu
    if need is None:
        return None
    change = _correction(need.names) or "add a backend that has such a GPU, or a variant that needs none"
    if offer.gpu_count < need.count:
        have = f"{offer.gpu_count} x {offer.gpu}" if offer.gpu_count else "no GPU"
        return No(Code.GPU, f"needs {need.count} GPU{'s' * (need.count > 1)}; it has {have}", change)
    if need.names and not any(is_called(offer.gpu or "", name) for name in need.names):
        wanted = f"one of {', '.join(need.names)}" if len(need.names) > 1 else need.names[0]
        return No(Code.GPU, f"needs {wanted}; it has {offer.gpu}", change)
    if need.compute_capability and (offer.compute_capability or 0) < need.compute_capability:
        has = offer.compute_capability or "an unknown one"
        return No(Code.GPU, f"needs compute capability {need.compute_capability}; {offer.gpu} has {has}", change)
    return None


def _vram(offer: Offer, variant: ResolvedVariant, _question: Question) -> No | None:
    wanted = variant.need.gpu.vram_bytes if variant.need.gpu else None
    if wanted is None or wanted <= offer.vram_bytes:
        return None
    has = format_size(offer.vram_bytes)
    return No(
        Code.VRAM,
        f"needs {_apart(wanted, offer.vram_bytes)} of VRAM; {offer.gpu} has {has} usable",
        f"lower needs.gpu.vram to {has}, add a variant that needs less, or add a backend with a bigger GPU",
        (wanted - offer.vram_bytes) / wanted,
    )


def _ram(offer: Offer, variant: ResolvedVariant, _question: Question) -> No | None:
    wanted = variant.need.ram_bytes
    if wanted is None or wanted <= offer.ram_bytes:
        return None
    has = format_size(offer.ram_bytes)
    return No(
        Code.RAM,
        f"needs {_apart(wanted, offer.ram_bytes)} of RAM; it has {has}",
        f"lower needs.ram to {has}, add a variant that needs less, or add a backend with more",
        (wanted - offer.ram_bytes) / wanted,
    )


def _disk(offer: Offer, variant: ResolvedVariant, _question: Question) -> No | None:
    wanted = variant.need.disk_bytes
    if wanted is None or wanted <= offer.disk_bytes:
        return None
    lacking = wanted - offer.disk_bytes
    return No(
        Code.DISK,
        f"needs {_apart(wanted, offer.disk_bytes)} of disk; it has {format_size(offer.disk_bytes)} free",
        f"free {format_size(lacking)} of disk, or lower needs.disk",
        lacking / wanted,
    )


def _apart(wanted: int, has: int) -> str:
    """``wanted`` in words, to the byte where rounding would make it look like ``has``."""
    return (
        format_size(wanted) if format_size(wanted) != format_size(has) else f"{wanted:,} B (it lacks {wanted - has:,})"
    )


def _out_of_ram_before(offer: Offer, variant: ResolvedVariant, question: Question) -> No | None:
    seen = question.knowledge.out_of_ram(variant.name)
    capacity = ram_capacity(offer, variant)
    if seen is None or capacity > (tried := seen.ram_capacity_bytes or 0):
        return None
    change = "add a smaller variant, or a backend with more RAM"
    if offer.ram_bytes > tried:
        change = f"raise needs.ram above {format_size(tried)} (it has {format_size(offer.ram_bytes)})"
    reason = f"{seen.story}; here it would have {format_size(capacity)} of RAM"
    return No(Code.OOM_SEEN, reason, change, (tried - capacity) / tried)


def _out_of_vram_before(offer: Offer, variant: ResolvedVariant, question: Question) -> No | None:
    seen = question.knowledge.out_of_vram(variant.name)
    if seen is None or not offer.gpu_count or offer.vram_bytes > (tried := seen.vram_capacity_bytes or 0):
        return None
    reason = f"{seen.story}; {offer.gpu} has {format_size(offer.vram_bytes)}"
    change = "add a smaller variant, or a backend with a bigger GPU"
    return No(Code.OOM_SEEN, reason, change, (tried - offer.vram_bytes) / tried)


def _out_of_memory_here(offer: Offer, variant: ResolvedVariant, question: Question) -> No | None:
    seen = question.knowledge.out_of_memory_at(variant.name, offer)
    return No(Code.OOM_SEEN, f"{seen.story}, on this very offer", "add a smaller variant") if seen else None


def _fallback_allowed(_offer: Offer, variant: ResolvedVariant, question: Question) -> No | None:
    ran_out = [each.name for each in question.spec.variants if question.knowledge.ran_out(each.name)]
    if not ran_out:
        return None
    again = variant.name in ran_out
    wanted, words = ("bigger_machine", "a bigger machine") if again else ("smaller_variant", "another variant")
    if wanted in question.spec.on_oom.allow:
        return None
    who = variant.name if again else ran_out[-1]
    return No(
        Code.NOT_ALLOWED,
        f"{who} ran out of memory, and on_oom does not allow {words}",
        f"add {wanted} to on_oom.allow",
    )


def _available(offer: Offer, _variant: ResolvedVariant, question: Question) -> No | None:
    reason = question.knowledge.unavailable(offer.backend, offer.name)
    return No(Code.UNAVAILABLE, reason, "try again later, or add a backend") if reason else None


def _set_up(offer: Offer, _variant: ResolvedVariant, _question: Question) -> No | None:
    """Last of all: whoever is told to set a backend up should find there what the job needs."""
    return No(Code.NOT_SET_UP, offer.missing) if offer.missing else None


_CHECKS: tuple[Callable[[Offer, ResolvedVariant, Question], No | None], ...] = (
    _asked_for,
    _when,
    _gpu,
    _vram,
    _ram,
    _disk,
    _out_of_ram_before,
    _out_of_vram_before,
    _out_of_memory_here,
    _fallback_allowed,
    _available,
    _set_up,
)
