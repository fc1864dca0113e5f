"""First estimates of time, money and chance for one candidate; history replaces each where it speaks."""

from __future__ import annotations

from dataclasses import dataclass

from backends.units import cost_micros, format_duration, format_size
from orchestrator.planning.feasibility import Candidate
from orchestrator.planning.knowledge import Knowledge
from orchestrator.spec.model import JobSpec

OVERHEAD_SECONDS = 300.0
"""Allowed around the run itself for upload, fetch and giving the machine back."""

UNKNOWN_RUN_SECONDS = 1800.0
"""The guess for a job that says nothing of its duration and has never run."""

P_FITS_DECLARED = 0.85
P_FITS_UNDECLARED = 0.7
P_FITS_SEEN = 0.99
"""Chance that memory suffices: need declared by the user, not declared, seen to succeed with room to spare."""

ROOM_TO_SPARE = 1.1
"""A capacity this many times a measured peak counts as room to spare."""

P_BACKEND = {"local": 0.995}
P_BACKEND_UNKNOWN = 0.97
"""Chance that the backend itself does not fail the attempt."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds and micro-dollars that a candidate is expected to take, its chance, and where each came from."""

    seconds: float
    micros: int
    p_success: float
    basis: tuple[str, ...]


def estimate(candidate: Candidate, spec: JobSpec, knowledge: Knowledge) -> Estimate:
    """What to expect of ``candidate``."""
    seconds, time_basis = _seconds(candidate, spec, knowledge)
    p_fits, memory_basis = _p_fits(candidate, knowledge)
    p_backend = P_BACKEND.get(candidate.offer.backend, P_BACKEND_UNKNOWN)
    micros = cost_micros(candidate.offer.micros_per_hour, seconds)
    return Estimate(seconds, micros, p_fits * p_backend, (memory_basis, time_basis))


def _seconds(candidate: Candidate, spec: JobSpec, knowledge: Knowledge) -> tuple[float, str]:
    offer, variant = candidate.offer, candidate.variant
    seen = knowledge.run_seconds(variant.name, offer.backend, offer.name)
    if seen is not None:
        return min(seen, spec.limits.runtime), f"took {format_duration(seen)} here before"
    if spec.duration is not None:
        declared = spec.duration.minutes * 60
        return min(declared, spec.limits.runtime), f"the spec expects {format_duration(declared)}"
    guess = min(UNKNOWN_RUN_SECONDS, spec.limits.runtime)
    return guess, f"nothing says how long it takes: {format_duration(guess)} assumed"


def _p_fits(candidate: Candidate, knowledge: Knowledge) -> tuple[float, str]:
    capacity = candidate.ram_capacity_bytes
    peaks = [s.peak_ram_bytes for s in knowledge.successes(candidate.variant.name) if s.peak_ram_bytes]
    if peaks and capacity >= ROOM_TO_SPARE * max(peaks):
        return P_FITS_SEEN, f"used at most {format_size(max(peaks))} of RAM before; has {format_size(capacity)}"
    if candidate.variant.need.ram_bytes is not None:
        return (
            P_FITS_DECLARED,
            f"the spec declares that {format_size(candidate.variant.need.ram_bytes)} of RAM is enough",
        )
    return P_FITS_UNDECLARED, f"RAM need not declared; has {format_size(capacity)}"
