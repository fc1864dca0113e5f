"""What the planner answers: a ladder of rungs to try in order, what was rejected and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backends.billing import Price
from backends.units import decimal_usd


class Priority(StrEnum):
    """What the user would rather have. Each is a setting of the weights in :mod:`orchestrator.planning.weights`."""

    COST = "cost"
    SPEED = "speed"
    RELIABILITY = "reliability"
    BALANCED = "balanced"


class Code(StrEnum):
    """Why a pair of offer and variant is not on the ladder; stable, for programs."""

    BACKEND = "backend_not_asked_for"
    WHEN = "variant_excluded"
    GPU = "gpu"
    GPU_UNNEEDED = "gpu_unneeded"
    VRAM = "vram"
    RAM = "ram"
    DISK = "disk"
    OOM_SEEN = "oom_seen"
    NOT_ALLOWED = "fallback_not_allowed"
    UNAVAILABLE = "unavailable"
    NOT_SET_UP = "not_set_up"
    DEARER = "dearer"
    QUOTA = "quota"
    SAME_HEADROOM = "same_headroom"
    BUDGET = "budget"
    ATTEMPTS = "attempts"
    NOT_WORTH_IT = "not_worth_it"


@dataclass(frozen=True, slots=True)
class Rung:
    """One attempt that may be made. Its worst case is reserved before it starts, ``needed_micros`` at the least.

    ``price`` is what it is reserved and settled with: ``worst_case_micros`` is that of ``allowed_seconds``.
    ``expected_*`` are of an attempt that succeeds; ``p_success`` and ``p_oom`` hold if it is tried, which it
    is with ``p_reached``.
    """

    rank: int
    backend: str
    offer: str
    gpu: str | None
    variant: str
    quality: float
    price: Price
    expected_seconds: float
    wait_seconds: float
    allowed_seconds: float
    expected_micros: int
    worst_case_micros: int
    needed_micros: int
    p_reached: float
    p_success: float
    p_oom: float
    ram_capacity_bytes: int
    vram_capacity_bytes: int
    ram_cap_bytes: int | None
    reasons: tuple[str, ...]

    @property
    def micros_per_hour(self) -> int:
        """The rate of the machine, without its disk."""
        return self.price.micros_per_hour

    def to_json(self) -> dict[str, Any]:
        """The stable form for ``--json`` (docs/json.md)."""
        return {
            "rank": self.rank,
            "backend": self.backend,
            "offer": self.offer,
            "gpu": self.gpu,
            "variant": self.variant,
            "quality": self.quality,
            "usd_per_hour": decimal_usd(self.micros_per_hour),
            "expected_minutes": round(self.expected_seconds / 60, 4),
            "wait_minutes": round(self.wait_seconds / 60, 4),
            "allowed_minutes": round(self.allowed_seconds / 60, 4),
            "expected_usd": decimal_usd(self.expected_micros),
            "worst_case_usd": decimal_usd(self.worst_case_micros),
            "needed_usd": decimal_usd(self.needed_micros),
            "p_reached": round(self.p_reached, 4),
            "p_success": round(self.p_success, 4),
            "p_oom": round(self.p_oom, 4),
            "ram_capacity_bytes": self.ram_capacity_bytes,
            "vram_capacity_bytes": self.vram_capacity_bytes,
            "ram_cap_bytes": self.ram_cap_bytes,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True, slots=True)
class Rejection:
    """An offer and variant that will not be tried, with the number that decides it in ``reason``.

    ``alike`` names the offers of the same backend for which this holds word for word. ``change`` says what would lift
    it; ``gap`` is the share of the need that is lacking, 1 where nothing measures it.
    """

    backend: str
    offer: str
    variant: str
    code: Code
    reason: str
    change: str = ""
    gap: float = 1.0
    alike: tuple[str, ...] = ()

    @property
    def offers(self) -> tuple[str, ...]:
        """The names of all offers that are rejected so."""
        return (self.offer, *self.alike)

    def to_json(self) -> dict[str, Any]:
        """The stable form for ``--json``; of the offers that are alike the first few are named, all are counted."""
        return {
            "backend": self.backend,
            "offer": self.offer,
            "variant": self.variant,
            "code": self.code.value,
            "reason": self.reason,
            "alike": list(self.alike[:MOST_NAMED]),
            "count": 1 + len(self.alike),
        }


MOST_NAMED = 20
"""Names of alike offers in ``--json``: plans are kept with their job, and catalogues have tens of thousands."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The ladder, best first. An empty ladder means that nothing feasible is left; ``advice`` says what would be.

    ``worst_case_micros`` is the sum of what the rungs reserve, never more than ``budget_micros``. ``expected_micros``,
    ``expected_seconds`` and ``p_success`` are those of climbing the ladder as it stands. ``what_if`` says what more
    money, time or another setting would buy; ``notes`` say what could not be looked at.
    """

    ladder: tuple[Rung, ...]
    rejected: tuple[Rejection, ...]
    budget_micros: int
    p_success: float
    expected_micros: int
    expected_seconds: float
    worst_case_micros: int
    advice: str = ""
    what_if: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The stable form for ``--json``."""
        return {
            "budget_usd": decimal_usd(self.budget_micros),
            "ladder": [rung.to_json() for rung in self.ladder],
            "p_success": round(self.p_success, 4),
            "expected_usd": decimal_usd(self.expected_micros),
            "expected_minutes": round(self.expected_seconds / 60, 4),
            "worst_case_usd": decimal_usd(self.worst_case_micros),
            "rejected": [rejection.to_json() for rejection in self.rejected],
            "advice": self.advice,
            "what_if": list(self.what_if),
            "notes": list(self.notes),
        }
