"""First estimates of time, money and chance for one candidate; history replaces each where it speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from backends.units import cost_micros, format_duration, format_size
from orchestrator.planning.feasibility import Candidate
from orchestrator.planning.knowledge import Knowledge
from orchestrator.spec.model import JobSpec

OVERHEAD_SECONDS = 300.0
"""Allowed around the run itself for upload, setup, fetch and giving the machine back."""

UNKNOWN_RUN_SECONDS = 1800.0
"""The guess for a job that says nothing of its duration and has never run."""

P_FITS_DECLARED = 0.85
P_FITS_UNDECLARED = 0.7
P_FITS_SEEN = 0.99
"""Chance that a memory suffices: need declared by the user, not declared, seen to succeed with as much."""

ROOM_TO_SPARE = 1.1
"""A capacity this many times a measured peak counts as room to spare."""

P_BACKEND = {"local": 0.995}
P_BACKEND_UNKNOWN = 0.97
"""Chance that the backend itself does not fail the attempt."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds and micro-dollars that a run is expected to take, its chance, and where each came from."""

    seconds: float
    micros: int
    p_success: float
    basis: tuple[str, ...]


def estimate(candidate: Candidate, spec: JobSpec, knowledge: Knowledge) -> Estimate:
    """What to expect of ``candidate``."""
    seconds, time_basis = _run_seconds(candidate, spec, knowledge)
    fits = [_p_fits(memory) for memory in _memories(candidate, knowledge)]
    # The weakest memory decides: each figure is a guess about the whole job, not a measured independent risk.
    p_fits = min(p for p, _ in fits)
    p_backend = P_BACKEND.get(candidate.offer.backend, P_BACKEND_UNKNOWN)
    micros = cost_micros(candidate.offer.micros_per_hour, seconds)
    return Estimate(seconds, micros, p_fits * p_backend, (*(basis for _, basis in fits), time_basis))


def _run_seconds(candidate: Candidate, spec: JobSpec, knowledge: Knowledge) -> tuple[float, str]:
    seconds, basis = _unlimited_seconds(candidate, spec, knowledge)
    if seconds <= spec.limits.runtime:
        return seconds, basis
    return spec.limits.runtime, f"{basis}, but limits.runtime ends it after {format_duration(spec.limits.runtime)}"


def _unlimited_seconds(candidate: Candidate, spec: JobSpec, knowledge: Knowledge) -> tuple[float, str]:
    """The best source there is: measured here, declared, measured elsewhere, guessed."""
    offer, variant = candidate.offer, candidate.variant
    seen = knowledge.run_seconds(variant.name, offer.backend, offer.name)
    if seen is not None:
        return seen, f"took {format_duration(seen)} here before"
    if spec.duration is not None:
        declared = spec.duration.minutes * 60
        return declared, f"the spec expects {format_duration(declared)} on {spec.duration.on}"
    elsewhere = knowledge.run_seconds_anywhere(variant.name)
    if elsewhere is not None:
        return elsewhere, f"took {format_duration(elsewhere)} elsewhere before"
    return UNKNOWN_RUN_SECONDS, f"nothing says how long it takes: {format_duration(UNKNOWN_RUN_SECONDS)} assumed"


@dataclass(frozen=True, slots=True)
class _Memory:
    """One kind of memory of a candidate. ``enough`` and ``peaks``: what successes of the variant had and used."""

    kind: str
    capacity: int
    declared: int | None
    enough: tuple[int, ...]
    peaks: tuple[int, ...]


def _memories(candidate: Candidate, knowledge: Knowledge) -> Iterator[_Memory]:
    need = candidate.variant.need
    seen = knowledge.successes(candidate.variant.name)
    yield _Memory(
        "RAM",
        candidate.ram_capacity_bytes,
        need.ram_bytes,
        tuple(s.ram_capacity_bytes for s in seen if s.ram_capacity_bytes),
        tuple(s.peak_ram_bytes for s in seen if s.peak_ram_bytes),
    )
    if need.gpu:
        yield _Memory(
            "VRAM",
            candidate.offer.vram_bytes,
            need.gpu.vram_bytes,
            tuple(s.vram_capacity_bytes for s in seen if s.vram_capacity_bytes),
            tuple(s.peak_vram_bytes for s in seen if s.peak_vram_bytes),
        )


def _p_fits(memory: _Memory) -> tuple[float, str]:
    kind, has = memory.kind, format_size(memory.capacity)
    if memory.peaks and memory.capacity >= ROOM_TO_SPARE * max(memory.peaks):
        return P_FITS_SEEN, f"used at most {format_size(max(memory.peaks))} of {kind} before; has {has}"
    if memory.enough and memory.capacity >= min(memory.enough):
        return P_FITS_SEEN, f"went through with {format_size(min(memory.enough))} of {kind} before; has {has}"
    if memory.declared is not None:
        return P_FITS_DECLARED, f"the spec declares that {format_size(memory.declared)} of {kind} is enough"
    return P_FITS_UNDECLARED, f"{kind} need not declared; has {has}"
