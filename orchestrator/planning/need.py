"""A need for memory as a random variable: what a job will take is known only up to a factor."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

SURPRISE = 0.02
"""Chance that a job is not what the formulas take it for; without it, an OOM far above the median teaches nonsense."""

SURPRISE_SIGMA = 0.4
"""Spread of such a job: half of them differ from the median by more than 30 %."""

PRIOR_WEIGHT = 20.0
"""How many measured ratios the log-normal counts for when both speak."""

Confidence = Literal["measured", "high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """A need for memory as a log-normal: ``median_bytes`` and ``sigma`` of the natural logarithm.

    ``floor_bytes`` is known to be too little: a run that had as much ran out. ``ratios``, ascending, are measured
    over predicted of earlier runs; with them the log-normal is a prior worth ``PRIOR_WEIGHT`` runs.
    """

    median_bytes: int
    sigma: float
    source: str = ""
    floor_bytes: int = 0
    ratios: tuple[float, ...] = ()

    def p_oom(self, capacity_bytes: int, given_above: int = 0) -> float:
        """P(need > capacity), given that the need is above the floor and above ``given_above`` bytes."""
        floor = max(self.floor_bytes, given_above)
        if capacity_bytes <= floor:
            return 1.0
        return self._beyond(capacity_bytes) / self._beyond(floor)

    def quantile(self, p: float) -> int:
        """Bytes that suffice with chance ``p``, 0 < p < 1."""
        low, high = 0.0, 40.0
        middle = math.log(max(self.floor_bytes, self.median_bytes)) - high / 2
        for _ in range(60):
            half = (low + high) / 2
            low, high = (half, high) if self.p_oom(round(math.exp(middle + half))) > 1 - p else (low, half)
        return round(math.exp(middle + high))

    def above(self, capacity_bytes: int) -> MemoryNeed:
        """The posterior after a run with ``capacity_bytes`` ran out: all below is ruled out, the rest scaled up."""
        return replace(self, floor_bytes=max(self.floor_bytes, capacity_bytes))

    def _beyond(self, bytes_: int) -> float:
        """P(need > bytes_) before any floor; never 0, so that it can be conditioned on."""
        if bytes_ <= 0:
            return 1.0
        distance = math.log(bytes_ / self.median_bytes)
        expected = (1 - SURPRISE) * _tail(distance, self.sigma) + SURPRISE * _tail(distance, SURPRISE_SIGMA)
        more = len(self.ratios) - bisect_right(self.ratios, bytes_ / self.median_bytes)
        return max((more + PRIOR_WEIGHT * expected) / (len(self.ratios) + PRIOR_WEIGHT), 1e-300)


@dataclass(frozen=True, slots=True)
class VariantNeed:
    """What a variant of a job takes. None: nothing is known of that kind of memory."""

    vram: MemoryNeed | None
    ram: MemoryNeed | None
    confidence: Confidence
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives the same need again."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> VariantNeed:
        """The need that ``to_json`` wrote."""
        vram, ram = (_from_json(data[kind]) for kind in ("vram", "ram"))
        return cls(vram, ram, data["confidence"], tuple(data["notes"]))


def _from_json(data: Mapping[str, Any] | None) -> MemoryNeed | None:
    return MemoryNeed(**{**data, "ratios": tuple(data["ratios"])}) if data else None


def _tail(distance: float, sigma: float) -> float:
    """P(Z > distance) for a normal Z around 0 with deviation ``sigma``; a step where sigma is 0."""
    if sigma <= 0:
        return 1.0 if distance < 0 else 0.0
    return 0.5 * math.erfc(distance / (sigma * math.sqrt(2)))
